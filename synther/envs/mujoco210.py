"""Models are put back to what MuJoCo 2.1.0 compiled, on today's mujoco.

Four things have changed since, and are undone here:

* Before MuJoCo 2.1.2 mass and inertia of a capsule were those of a cylinder, longer than the
  capsule's middle by half a radius at each end (MuJoCo changelog, 2.1.2).
* From mujoco 3.5 on two geoms touch within the *sum* of their margins; it was the larger one. (Seen
  on 3.3.0 to 3.17; which of the two holds is asked of the mujoco at hand.)
* The weight of a body in contacts is the mean over all three axes, even where it moves along two of
  them only (a sphere on two slide joints).
* The solver may stop earlier: a tolerance of 1e-10 brings the last rows from 1e-6 to 1e-14.

Measured: masses, inertias and their frames equal those recorded from MuJoCo 2.1.0 for HalfCheetah,
Hopper, Walker2d and Ant, to 1e-15 (``tests/envs/test_mujoco210.py``).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from synther.envs.simulators import require

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv as _Base
else:
    _Base = object  # the real base joins in ``on_base``, where gymnasium is imported


class MuJoCo210(_Base):
    """A function that turns a ``MujocoEnv`` of gymnasium into one with MuJoCo 2.1 physics."""

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = mujoco210_model(self._model_spec())
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, require("mujoco").MjData(model)

    def _model_spec(self) -> Any:
        """The ``mujoco.MjSpec`` of the model; subclasses add to it."""
        return require("mujoco").MjSpec.from_file(self.fullpath)


@functools.cache
def on_base(methods: type, base: type) -> type:
    """A class with the methods of the first and the rest from the second."""
    name = methods.__name__ + base.__name__
    return type(name, (methods, base), {"__doc__": methods.__doc__})


def mujoco210_model(spec: Any) -> Any:
    """Compile an ``MjSpec`` to the ``MjModel`` that MuJoCo 2.1.0 would have made of it.

    Only models whose masses come from primitive geoms are handled (no meshes), as those here do.
    """
    mujoco = require("mujoco")
    model = _compile(mujoco, spec.copy())
    cylinders = spec.copy()
    for geom in cylinders.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
            _lengthened_cylinder(mujoco, geom)
    inertial = _compile(mujoco, cylinders)
    for name in ("body_mass", "body_inertia", "body_ipos", "body_iquat"):
        getattr(model, name)[:] = getattr(inertial, name)
    if _margins_add_up():
        model.geom_margin[:] /= 2
        model.geom_gap[:] /= 2
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what the compiler derived from the masses
    _average_weights(mujoco, model)
    model.opt.tolerance = min(model.opt.tolerance, 1e-10)
    return model


def _average_weights(mujoco: Any, model: Any) -> None:
    """The weight of a body in contacts: inverse mass at its centre, the mean over three axes."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for body in range(1, model.nbody):
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacBodyCom(model, data, jacobian, None, body)
        solved = np.zeros_like(jacobian)
        mujoco.mj_solveM(model, data, solved, jacobian)
        weight = (jacobian * solved).sum() / 3
        if weight > mujoco.mjMINVAL:  # else MuJoCo has its own rule
            model.body_invweight0[body, 0] = weight


def _compile(mujoco: Any, spec: Any) -> Any:
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
