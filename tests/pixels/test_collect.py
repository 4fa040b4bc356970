"""Environments seen in pictures, and data rendered from a state agent; skipped where none draws."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from synther.datasets.vd4rl import find_vd4rl, read_vd4rl
from synther.envs import make_env, pixels
from synther.envs.pixels import PixelEnv, PixelEvaluator, PixelSettings, RenderingError
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.nets import StackedMLP
from synther.pixels import collect as collecting
from synther.pixels.collect import Behaviour, collect, collect_episode, load_state_policy
from tests.pixels.helpers import config


def why_not() -> str | None:
    """None where pictures can be drawn here."""
    try:
        PixelEnv(PixelSettings("cartpole-swingup-v0", image_size=8)).reset(seed=0)
    except ImportError as error:
        return str(error)
    return None


WHY_NOT = why_not()
rendered = pytest.mark.skipif(WHY_NOT is not None, reason=f"no renderer: {WHY_NOT}")
SETTINGS = PixelSettings("cartpole-swingup-v0", image_size=16, rendering="plain")


class Drawn(PixelEnv):
    """An environment whose pictures say the time and cost nothing."""

    def _draw(self) -> Any:
        self.drawn = getattr(self, "drawn", -1) + 1
        size = self.settings.image_size
        return np.full((3, size, size), self.drawn % 256, np.uint8)


@rendered
def test_pictures_of_the_task() -> None:
    env = PixelEnv(PixelSettings("cartpole-swingup-v0"))
    stack, _ = env.reset(seed=0)
    assert stack.shape == (9, 84, 84)
    assert stack.dtype == np.uint8
    assert stack.std() > 10  # something is there to be seen
    assert np.array_equal(stack[:3], stack[6:])
    for _ in range(20):
        after, *_ = env.step(np.ones(1, np.float32))
    assert not np.array_equal(after[6:], stack[6:])
    plain = PixelEnv(PixelSettings("cartpole-swingup-v0", rendering="plain"))
    other, _ = plain.reset(seed=0)
    assert 0 < np.abs(other.astype(int) - stack).mean() < 10
    for each in (env, plain):
        each.close()


def test_the_camera_of_quadruped_is_another() -> None:
    assert PixelSettings("quadruped-walk-v0").camera_id == 2
    assert PixelSettings("walker-walk-v0").camera_id == 0
    assert PixelSettings("walker-walk-v0", camera=1).camera_id == 1


def test_actions_are_repeated_and_stacks_begin_with_the_first_picture() -> None:
    env, plain = Drawn(SETTINGS), make_env("cartpole-swingup-v0")
    stack, _ = env.reset(seed=3)
    assert stack[::3, 0, 0].tolist() == [0, 0, 0]
    plain.reset(seed=3)
    action = np.array([0.4], np.float32)
    for step in range(1, 4):
        stack, reward, *_ = env.step(action)
        rewards = [plain.step(action)[1] for _ in range(2)]
        assert reward == pytest.approx(sum(map(float, rewards)))
        assert stack[::3, 0, 0].tolist() == [max(0, step - 2), step - 1, step]
    length, truncated = 3, False
    while not truncated:
        _, _, terminated, truncated, _ = env.step(action)
        length += 1
    assert (length, terminated) == (500, False)


def test_an_evaluation_depends_on_the_seed_and_the_episodes_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixels, "PixelEnv", Drawn)

    def policy(images: Any) -> Any:
        return np.full((len(images), 1), 0.3, np.float32)

    found = []
    for episodes, slots in ((3, 2), (1, 1)):
        with contextlib.closing(PixelEvaluator(SETTINGS, episodes, max_envs=slots)) as evaluator:
            found.append(evaluator.run(policy, seed=5))
    assert np.array_equal(found[0][:1], found[1])
    assert len(set(found[0])) == 3


def test_no_renderer_says_what_to_install() -> None:
    env = PixelEnv(SETTINGS)

    def render(*_: object, **__: object) -> None:
        raise RuntimeError("no display")

    env._physics = SimpleNamespace(render=render)
    with pytest.raises(RenderingError, match=r"no display.*apt install libegl1.*libosmesa6"):
        env.reset(seed=0)


def test_a_run_that_could_not_be_evaluated_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    from synther.pixels import stages

    monkeypatch.setattr(stages, "PixelEnv", Drawn)
    with pytest.raises(ValueError, match="has 1 action columns, the data 6"):
        stages.evaluation(config(), SETTINGS, 6)

    def broken(self: PixelEnv) -> None:
        raise RenderingError("install something")

    monkeypatch.setattr(Drawn, "_draw", broken)
    with pytest.raises(RenderingError):
        stages.evaluation(config(), SETTINGS, 1)


def test_only_dm_control_is_drawn() -> None:
    with pytest.raises(ValueError, match="DeepMind Control"):
        PixelEnv(PixelSettings("Pendulum-v1"))


def state_agent(folder: Path) -> StackedMLP:
    """A checkpoint with what an online run keeps of its policy."""
    actor = StackedMLP([1], [5, 8, 8, 2], [torch.Generator().manual_seed(0)])
    networks = {f"actor.{name}": value for name, value in actor.state_dict().items()}
    checkpoint.save(folder / "checkpoint-7.pt", {"agent": {"networks": networks}})
    return actor


def test_a_state_agents_policy_is_its_squashed_mean(tmp_path: Path) -> None:
    actor = state_agent(tmp_path)
    state = np.linspace(-1, 1, 5).astype(np.float32)
    with torch.no_grad():
        expected = actor(torch.from_numpy(state)[None, None])[0, 0, :1].tanh()
    for path in (tmp_path, tmp_path / "checkpoint-7.pt"):
        assert load_state_policy(path)(state) == pytest.approx(expected.numpy())


def test_what_is_not_a_state_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_state_policy(tmp_path)
    checkpoint.save(tmp_path / "checkpoint-1.pt", {"agent": {"networks": {}}})
    with pytest.raises(CheckpointError, match="holds no policy"):
        load_state_policy(tmp_path)


def test_a_rendered_set_is_v_d4rls_and_goes_on_with_missing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "PixelEnv", Drawn)
    monkeypatch.setattr(collecting, "EPISODES_A_FILE", 1)
    folder = collecting.data_folder(tmp_path, "cartpole-swingup-v0", "mixed", 84)
    behaviour = Behaviour(None)
    files = collect(folder, SETTINGS, behaviour, frames=700, seed=1)
    assert files == find_vd4rl(tmp_path, "cartpole_swingup", "mixed")
    data = read_vd4rl(files)
    assert (len(data), data.episodes) == (1002, 2)
    assert not data.actions[[0, 501]].any()
    assert (data.discounts == 1).all()
    assert data.metadata["env_id"] == "cartpole-swingup-v0"
    assert data.rewards[:501].sum() == pytest.approx(data.metadata["returns"][0], abs=0.01)
    content = files[1].read_bytes()
    files[1].unlink()
    assert collect(folder, SETTINGS, behaviour, frames=700, seed=1) == files
    again = read_vd4rl(files)
    assert np.array_equal(again.rewards, data.rewards)
    assert np.array_equal(again.actions, data.actions)
    assert len(files[1].read_bytes()) == len(content)
    with pytest.raises(ValueError, match="another seed"):
        collect(folder, SETTINGS, behaviour, frames=700, seed=2)


def test_behaviour_is_the_policy_with_noise_or_random() -> None:
    env = Drawn(SETTINGS)

    def policy(state: Any) -> Any:
        return np.array([0.25], np.float32)

    still = collect_episode(env, Behaviour(policy), 0, seed=0)
    assert (still["action"][1:] == 0.25).all()
    noisy = collect_episode(env, Behaviour(policy, noise=0.2), 0, seed=0)
    assert 0 < noisy["action"][1:].std() < 0.25
    at_random = collect_episode(env, Behaviour(policy, random=1.0), 0, seed=0)
    assert at_random["action"][1:].std() == pytest.approx(1 / np.sqrt(3), abs=0.05)
