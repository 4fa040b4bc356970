import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
mujoco = pytest.importorskip("mujoco")

from synther.envs import mujoco210  # noqa: E402

pytestmark = pytest.mark.arithmetic

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
RECORDED = json.loads(
    (Path(__file__).parents[1] / "golden" / "mujoco210_inertials.json").read_text()
)
FILES = {
    "HalfCheetah": "half_cheetah.xml",
    "Hopper": "hopper.xml",
    "Walker2d": "walker2d.xml",
    "Ant": "ant.xml",
}


def compiled(path: str) -> Any:
    return mujoco210.mujoco210_model(mujoco.MjSpec.from_file(path))


@pytest.mark.parametrize("name", FILES)
def test_masses_and_inertias_are_those_that_mujoco_2_1_0_compiled(name: str) -> None:
    model = compiled(str(ASSETS / FILES[name]))
    for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat"):
        np.testing.assert_allclose(
            getattr(model, field), RECORDED[name][field], rtol=1e-12, atol=1e-14, err_msg=field
        )


def test_humanoid_masses_follow_the_old_capsule_volume() -> None:
    model = compiled(str(ASSETS / "humanoid.xml"))
    mass = np.zeros(model.nbody)
    for geom in range(1, model.ngeom):  # geom 0 is the floor
        radius, half_length = model.geom_size[geom, :2]
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_CAPSULE:
            volume = np.pi * radius**2 * (2 * half_length + radius)
        else:
            volume = 4 / 3 * np.pi * radius**3
        mass[model.geom_bodyid[geom]] += 1000 * volume
    np.testing.assert_allclose(model.body_mass, mass, rtol=1e-12)


def test_capsules_still_collide_as_capsules() -> None:
    path = str(ASSETS / "hopper.xml")
    old, today = compiled(path), mujoco.MjModel.from_xml_path(path)
    np.testing.assert_array_equal(old.geom_type, today.geom_type)
    np.testing.assert_array_equal(old.geom_size, today.geom_size)


def test_contacts_start_at_the_larger_margin(tmp_path: Path) -> None:
    """Hopper's geoms have a margin of 1e-3: MuJoCo 2.1 saw contacts below that, not below 2e-3."""
    model = compiled(str(ASSETS / "hopper.xml"))
    data = mujoco.MjData(model)

    def contacts(gap: float) -> int:
        data.qpos[:] = model.qpos0
        mujoco.mj_forward(model, data)
        foot = int(np.argmin([g[2] if i else np.inf for i, g in enumerate(data.geom_xpos)]))
        height = data.geom_xpos[foot, 2] - model.geom_size[foot, 0]
        data.qpos[1] += gap - height
        mujoco.mj_forward(model, data)
        return int(data.ncon)

    assert contacts(0.9e-3) > 0
    assert contacts(1.1e-3) == 0


def test_loading_leaves_no_log_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compiled(str(ASSETS / "half_cheetah.xml"))
    assert list(tmp_path.iterdir()) == []
