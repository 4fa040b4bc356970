"""Some DeepMind Control tasks can be put into the state that an observation stands for.

Left out, because what they hide moves the next observation or the reward: quadruped and dog (height
and pose of the torso), humanoid, swimmer and fish (heading), manipulator and stacker (props),
point_mass-hard (which way its actuators pull), lqr (stiffness of its springs). Of the others only
the horizontal position of cheetah, hopper and walker is hidden, and nothing depends on it. Readings
of contact sensors (hopper, finger) are of the step before, and no part of the state.

Measured on every task that is not left out: 300 steps of random actions, each repeated from its
float32 observation in a second simulator. Mean squared error of the next observation, in units of
its standard deviation: from 1e-15 (pendulum) to 7e-13 (hopper), columns that do not move left out
(dm_control 1.0.50, mujoco 3.17; ``tests/envs/test_states.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.envs.dmc import domain_and_task
from synther.envs.simulators import require

Parts = Mapping[str, NDArray[np.float64]]


def determines_state(env_id: str) -> bool:
    """Whether an observation of the task ``<domain>-<task>-v0`` holds its state."""
    domain, task = domain_and_task(env_id)
    return domain in _SETTERS and (domain, task) != ("point_mass", "hard")


def set_dmc_state(control: Any, env_id: str, observation: NDArray[np.float64]) -> None:
    """Put a task into the state of an observation.

    Args:
        control: ``dm_control.rl.control.Environment``, after a ``reset()``.
        env_id: for which :func:`determines_state`.
        observation: ``[O]``, in dm_control's order.
    """
    parts, start = {}, 0
    for name, spec in control.observation_spec().items():
        stop = start + int(np.prod(spec.shape))
        parts[name] = observation[start:stop]
        start = stop
    with control.physics.reset_context():  # no trace of what came before
        _SETTERS[domain_and_task(env_id)[0]](control.physics, parts)


def _positions(physics: Any, parts: Parts) -> None:
    """All positions, or all but the first, which is the horizontal one."""
    shown = parts["position"]
    physics.data.qpos[:] = 0
    physics.data.qpos[len(physics.data.qpos) - len(shown) :] = shown
    physics.data.qvel[:] = parts["velocity"]


def _reacher(physics: Any, parts: Parts) -> None:
    _positions(physics, parts)
    physics.forward()
    finger = physics.named.data.geom_xpos["finger", :2]
    physics.named.model.geom_pos["target", :2] = finger + parts["to_target"]


def _cartpole(physics: Any, parts: Parts) -> None:
    cart, orientations = parts["position"][0], parts["position"][1:].reshape(-1, 2)
    physics.data.qpos[0] = cart
    _turn_bodies(physics, first_body=2, cosines=orientations[:, 0], sines=orientations[:, 1])
    physics.data.qvel[:] = parts["velocity"]


def _pendulum(physics: Any, parts: Parts) -> None:
    cosine, sine = parts["orientation"]
    _turn_bodies(physics, first_body=1, cosines=[cosine], sines=[sine])
    physics.data.qvel[:] = parts["velocity"]


def _acrobot(physics: Any, parts: Parts) -> None:
    sines, cosines = parts["orientations"].reshape(2, -1)
    _turn_bodies(physics, first_body=1, cosines=cosines, sines=sines)
    physics.data.qvel[:] = parts["velocity"]


def _walker(physics: Any, parts: Parts) -> None:
    physics.named.data.qpos["rootx"] = 0
    height = parts["height"][0] - physics.named.model.body_pos["torso", "z"]
    physics.named.data.qpos["rootz"] = height
    cosines, sines = parts["orientations"].reshape(-1, 2).T
    _turn_bodies(physics, first_body=1, cosines=cosines, sines=sines)
    physics.data.qvel[:] = parts["velocity"]


def _turn_bodies(physics: Any, *, first_body: int, cosines: Any, sines: Any) -> None:
    """Set the hinges about y so that the bodies from ``first_body`` on have these angles in the
    world; a hinge's own angle is taken in (-pi, pi], which holds the range of those with limits."""
    model, hinge = physics.model, require("mujoco").mjtJoint.mjJNT_HINGE
    angles = dict(enumerate(np.arctan2(sines, cosines), start=first_body))
    for body, angle in angles.items():
        joints = model.body_jntadr[body] + np.arange(model.body_jntnum[body])
        (joint,) = joints[model.jnt_type[joints] == hinge]
        turn = angle - angles.get(int(model.body_parentid[body]), 0.0)
        turn = np.arctan2(np.sin(turn), np.cos(turn))
        physics.data.qpos[model.jnt_qposadr[joint]] = model.jnt_axis[joint, 1] * turn


def _finger(physics: Any, parts: Parts) -> None:
    proximal, distal, *tip = parts["position"]
    data = physics.named.data
    data.qpos[["proximal", "distal", "hinge"]] = 0
    physics.forward()
    upright = physics.tip_position()
    # A turn about y takes z to x.
    turn = np.arctan2(*tip) - np.arctan2(*upright)
    axis = physics.named.model.jnt_axis["hinge", "y"]
    data.qpos[["proximal", "distal", "hinge"]] = proximal, distal, axis * turn
    data.qvel[["proximal", "distal", "hinge"]] = parts["velocity"]
    if "target_position" in parts:
        spinner = data.sensordata["spinner"][[0, 2]]
        physics.named.model.site_pos["target", ["x", "z"]] = spinner + parts["target_position"]


_SETTERS: dict[str, Callable[[Any, Parts], None]] = {
    "acrobot": _acrobot,
    "ball_in_cup": _positions,
    "cartpole": _cartpole,
    "cheetah": _positions,
    "finger": _finger,
    "hopper": _positions,
    "pendulum": _pendulum,
    "point_mass": _positions,
    "reacher": _reacher,
    "walker": _walker,
}
