"""DeepMind Control is seen in pixels, as V-D4RL and DrQ-v2 have it.

An action is repeated twice, a picture is 84 x 84, seen by camera 0 (2 for quadruped), drawn without
a display (``MUJOCO_GL=egl`` on a GPU's driver or on Mesa's software renderer, or ``osmesa``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synther.envs.dmc import domain_and_task, suite_environment
from synther.envs.evaluation import episode_seed
from synther.envs.faults import checked_step
from synther.envs.registry import make_env
from synther.envs.simulators import MissingSimulatorError

Rendering = Literal["full", "plain"]
ImagePolicy = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Stacks of pictures ``[N, 3 * frames, H, W]`` -> actions ``[N, A]``."""


class RenderingError(MissingSimulatorError):
    """Nothing here can draw without a display; the message says what to install."""


@dataclass(frozen=True)
class PixelSettings:
    """How an environment is seen.

    Args:
        env_id: of DeepMind Control, such as ``walker-walk-v0``.
        image_size: H and W of a picture.
        frame_stack: pictures in an observation, the newest last.
        action_repeat: steps of the simulator for each action; their rewards are summed.
        camera: None: 0, or 2 for quadruped.
        rendering: ``full`` is what V-D4RL shows; ``plain`` leaves out shadows, reflections and
            antialiasing, which a software renderer spends most of its time on.
    """

    env_id: str
    image_size: int = 84
    frame_stack: int = 3
    action_repeat: int = 2
    camera: int | None = None
    rendering: Rendering = "full"

    @property
    def camera_id(self) -> int:
        if self.camera is not None:
            return self.camera
        return 2 if domain_and_task(self.env_id)[0] == "quadruped" else 0


class PixelEnv:
    """One environment, with gymnasium's ``reset`` and ``step``.

    Observations are uint8 ``[3 * frame_stack, H, W]``, actions ``[A]`` in [-1, 1]. ``frame`` is the
    newest picture ``[3, H, W]``, ``state`` the flat state ``[O]`` behind it, for a policy that was
    trained on states.

    Raises:
        ValueError: not an environment of DeepMind Control.
        RenderingError: at the first picture, where nothing can draw it.
    """

    def __init__(self, settings: PixelSettings) -> None:
        self.settings = settings
        self._env = make_env(settings.env_id)
        inner = suite_environment(self._env.unwrapped)
        if inner is None:
            raise ValueError(
                f"{settings.env_id}: pictures are drawn of DeepMind Control's tasks only, such as "
                "walker-walk-v0"
            )
        self._physics = inner.physics
        if settings.rendering == "plain":
            self._physics.model.vis.quality.offsamples = 0  # read at the first picture
        self.action_dim = int(np.prod(self._env.action_space.shape or ()))
        self._frames: list[NDArray[np.uint8]] = []

    @property
    def frame(self) -> NDArray[np.uint8]:
        return self._frames[-1]

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode; its first picture fills the stack."""
        self.state = self._env.reset(seed=seed)[0]
        self._frames = [self._draw()] * self.settings.frame_stack
        return np.concatenate(self._frames), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Repeat ``action``, stopping at the episode's end; rewards are summed."""
        total = 0.0
        for _ in range(self.settings.action_repeat):
            given = self._env.step(action)
            self.state, reward, terminated, truncated = checked_step(
                self._env, given, "a step of an episode"
            )
            total, info = total + reward, given[4]
            if terminated or truncated:
                break
        self._frames = [*self._frames[1:], self._draw()]
        return np.concatenate(self._frames), total, terminated, truncated, info

    def _draw(self) -> NDArray[np.uint8]:
        size, plain = self.settings.image_size, self.settings.rendering == "plain"
        off = {"shadow": False, "reflection": False} if plain else {}
        try:
            picture = self._physics.render(
                size, size, camera_id=self.settings.camera_id, render_flag_overrides=off
            )
        except Exception as error:  # EGL, OSMesa and dm_control each raise errors of their own
            raise RenderingError(
                f"cannot draw pictures with MUJOCO_GL={os.environ.get('MUJOCO_GL', 'unset')} "
                f"({error}); install a renderer that needs no display: apt install libegl1 "
                "libgl1-mesa-dri (then MUJOCO_GL=egl), or libosmesa6 (then MUJOCO_GL=osmesa)"
            ) from error
        return np.ascontiguousarray(picture.transpose(2, 0, 1))

    def close(self) -> None:
        self._env.close()


class PixelEvaluator:
    """Plays whole episodes side by side, so that the policy sees one batch of pictures.

    Args:
        settings: of the environment.
        episodes: of an evaluation.
        max_envs: how many are open at once; each plays several episodes in turn where fewer.

    An episode's start depends on the seed and its own number alone.
    """

    def __init__(self, settings: PixelSettings, episodes: int, *, max_envs: int = 10) -> None:
        if episodes < 1 or max_envs < 1:
            raise ValueError(f"episodes and max_envs must be positive, not {episodes}, {max_envs}")
        self.episodes = episodes
        self._envs = [PixelEnv(settings) for _ in range(min(episodes, max_envs))]

    def run(self, policy: ImagePolicy, seed: int) -> NDArray[np.float64]:
        """Undiscounted returns ``[episodes]`` of the environment's own rewards."""
        returns = np.zeros(self.episodes)
        slots = len(self._envs)
        for first in range(0, self.episodes, slots):
            playing = list(range(first, min(first + slots, self.episodes)))
            seen = {
                each: self._envs[each - first].reset(seed=episode_seed(seed, each))[0]
                for each in playing
            }
            while playing:
                actions = policy(np.stack([seen[each] for each in playing]))
                for each, action in zip(list(playing), actions, strict=True):
                    env = self._envs[each - first]
                    seen[each], reward, terminated, truncated, _ = env.step(action)
                    returns[each] += reward
                    if terminated or truncated:
                        playing.remove(each)
        return returns

    def close(self) -> None:
        for env in self._envs:
            env.close()
