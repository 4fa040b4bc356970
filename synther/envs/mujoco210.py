"""Models as MuJoCo 2.1.0 compiled them, on today's mujoco.

Two things have changed since, and are undone here:

* Before MuJoCo 2.1.2 mass and inertia of a capsule were those of a cylinder, longer than the
  capsule's middle by half a radius at each end (MuJoCo changelog, 2.1.2).
* From mujoco 3.5 on two geoms touch within the *sum* of their margins; it was the larger one. (Seen
  on 3.3.0 to 3.17; which of the two holds is asked of the mujoco at hand.)

Measured: masses, inertias and their frames equal those recorded from MuJoCo 2.1.0 for HalfCheetah,
Hopper, Walker2d and Ant, to 1e-15 (``tests/envs/test_mujoco210.py``).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from synther.envs.simulators import require


def mujoco210_model(xml_path: str) -> Any:
    """Compile a model file to the ``mujoco.MjModel`` that MuJoCo 2.1.0 would have made of it.

    Only models whose masses come from primitive geoms are handled (no meshes), as those here do.
    """
    mujoco = require("mujoco")
    model, old_inertia = (_compile(mujoco, xml_path, capsules_as_cylinders=flag) for flag in (0, 1))
    for name in ("body_mass", "body_inertia", "body_ipos", "body_iquat"):
        getattr(model, name)[:] = getattr(old_inertia, name)
    if _margins_add_up():
        model.geom_margin[:] /= 2
        model.geom_gap[:] /= 2
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what the compiler derived from the masses
    return model


def _compile(mujoco: Any, xml_path: str, *, capsules_as_cylinders: int) -> Any:
    spec = mujoco.MjSpec.from_file(xml_path)
    if capsules_as_cylinders:
        for geom in spec.geoms:
            if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
                _lengthened_cylinder(mujoco, geom)
    # A fixed total mass (HalfCheetah's 14) is applied here: the compiler's own option is
    # deprecated, and warns into a file in the working directory.
    total_mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1
    model = spec.compile()
    if total_mass > 0:
        mujoco.mj_setTotalmass(model, total_mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _lengthened_cylinder(mujoco: Any, geom: Any) -> None:
    radius = geom.size[0]
    geom.type = mujoco.mjtGeom.mjGEOM_CYLINDER
    if np.isnan(geom.fromto[0]):
        geom.size = [radius, geom.size[1] + radius / 2, 0]
    else:
        start, end = np.array(geom.fromto[:3]), np.array(geom.fromto[3:])
        step = (end - start) / np.linalg.norm(end - start) * radius / 2
        geom.fromto = np.concatenate([start - step, end + step])


@functools.cache
def _margins_add_up() -> bool:
    """Ask this mujoco: do spheres touch at a distance between the larger margin and the sum?"""
    mujoco = require("mujoco")
    sphere = '<body pos="{x} 0 0"><freejoint/><geom size="1" margin="0.1"/></body>'
    bodies = sphere.format(x=0) + sphere.format(x=2.15)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return bool(data.ncon)
