"""Stable-Baselines3 itself, trained on real rows, on the mix, and on after loading."""

import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3", reason="needs the extra sb3")

from gymnasium import Env, spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from synther.datasets import as_transitions
from synther.diffusion.conditioning.values import return_to_go
from synther.integrations.sb3 import SynthERCallback, SynthERReplayBuffer
from synther.integrations.sb3_buffer import by_environment
from synther.transitions import TransitionError
from synther.upsampling import Upsampler
from tests.data import random_transitions

TINY = {"width": 16, "num_layers": 1, "dim_t": 8, "steps": 10, "batch_size": 32}
NETS = {"net_arch": [16, 16]}
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-2, 2, (2,), np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::synther.upsampling.verdict.FidelityWarning")


class Drift(Env[Any, Any]):
    """Adds the action to the observation; ends where that is far from 0."""

    observation_space, action_space = OBSERVATIONS, ACTIONS

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.state = self.np_random.normal(size=3).astype(np.float32)
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state = self.state + np.float32([*action, 0.1])
        return self.state, -float(np.abs(self.state).sum()), bool(abs(self.state[0]) > 6), False, {}


def environment(count: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: TimeLimit(Drift(), 20)] * count)


def buffer(**options: Any) -> SynthERReplayBuffer:
    return SynthERReplayBuffer(50, OBSERVATIONS, ACTIONS, "cpu", **options)


def add_steps(target: ReplayBuffer, count: int) -> None:
    rng = np.random.default_rng(0)
    for step in range(count):
        done = np.full(target.n_envs, step % 5 == 4)
        target.add(
            rng.normal(size=(target.n_envs, 3)),
            np.full((target.n_envs, 3), step),
            rng.uniform(-1, 1, (target.n_envs, 2)),
            np.full(target.n_envs, step),
            done,
            [{"TimeLimit.truncated": bool(step % 2)}] * target.n_envs,
        )


def agent(kind: Any = SAC, ratio: float = 0.5, env: Any = None, **options: Any) -> Any:
    return kind(
        "MlpPolicy",
        env or environment(),
        buffer_size=2000,
        batch_size=32,
        policy_kwargs=dict(NETS),
        device="cpu",
        seed=0,
        **{
            "learning_starts": 50,
            "replay_buffer_class": SynthERReplayBuffer,
            "replay_buffer_kwargs": {"synthetic_ratio": ratio},
            **options,
        },
    )


def refills(every: int = 210, **options: Any) -> SynthERCallback:
    return SynthERCallback(every, 400, config=TINY, device="cpu", **options)


def parameters(model: Any) -> list[torch.Tensor]:
    return list(model.policy.state_dict().values())


def assert_same(a: Any, b: Any) -> None:
    for one, other in zip(parameters(a), parameters(b), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [SAC, TD3, DDPG])
def test_with_a_ratio_of_0_the_numbers_are_those_of_the_plain_library(kind: Any) -> None:
    plain = agent(kind, replay_buffer_class=None, replay_buffer_kwargs=None).learn(110)
    ours = agent(kind, ratio=0).learn(110, callback=refills(60))
    assert_same(plain, ours)
    assert ours.replay_buffer.synthetic_rows == 0


def test_making_synthetic_rows_disturbs_nothing_random() -> None:
    def trained(with_rows: bool) -> Any:
        model = agent(ratio=0, learning_starts=190).learn(210)
        if with_rows:
            upsampler = Upsampler(TINY, device="cpu").fit(model.replay_buffer)
            model.replay_buffer.fill(upsampler.sample(100))
        return model.learn(20, reset_num_timesteps=False)

    assert_same(trained(with_rows=False), trained(with_rows=True))


@pytest.mark.parametrize("kind", [SAC, TD3, DDPG])
def test_it_trains_past_a_refill_saves_loads_and_goes_on(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}
    record = Logger.record

    def remember(self: Logger, key: str, value: Any, *rest: Any, **options: Any) -> None:
        logged[key] = value
        record(self, key, value, *rest, **options)

    monkeypatch.setattr(Logger, "record", remember)
    model = agent(kind, learning_starts=190).learn(215, callback=refills())
    assert model.replay_buffer.synthetic_rows == 400
    assert logged["synther/real_rows"] == 210
    assert logged["synther/synthetic_rows"] == 400
    assert {"synther/marginal", "synther/real_marginal", "synther/trusted"} <= set(logged)
    mixed = parameters(model)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "replay.pkl")

    loaded = kind.load(tmp_path / "model.zip", env=environment(), device="cpu")
    assert isinstance(loaded.replay_buffer, SynthERReplayBuffer)
    loaded.load_replay_buffer(tmp_path / "replay.pkl")
    for one, other in zip(mixed, parameters(loaded), strict=True):
        assert torch.equal(one, other)
    before = loaded.replay_buffer._synthetic["observations"]
    np.testing.assert_array_equal(before, model.replay_buffer._synthetic["observations"])
    loaded.learn(203, callback=refills(), reset_num_timesteps=False)
    assert loaded.num_timesteps == 418
    np.testing.assert_array_equal(before, loaded.replay_buffer._synthetic["observations"])
    loaded.learn(5, callback=refills(warm_start=True), reset_num_timesteps=False)
    assert logged["synther/real_rows"] == 420
    assert loaded.replay_buffer.upsampler._rounds == 2
    assert not np.array_equal(before, loaded.replay_buffer._synthetic["observations"])


def test_a_batch_has_the_ratio_of_synthetic_rows() -> None:
    filled = buffer(synthetic_ratio=0.25)
    add_steps(filled, 20)
    assert (filled.sample(8).rewards >= 0).all()
    synthetic = random_transitions(30)
    synthetic.rewards[:] = -1
    filled.fill(synthetic)
    batch = filled.sample(8)
    assert (batch.rewards[:6] >= 0).all()
    assert (batch.rewards[6:] == -1).all()
    rows = {tuple(row) for row in synthetic.observations.tolist()}
    assert all(tuple(row) in rows for row in batch.observations[6:].tolist())
    assert [each.shape for each in batch[:5]] == [(8, 3), (8, 2), (8, 3), (8, 1), (8, 1)]
    assert {each.dtype for each in batch[:5]} == {torch.float32}
    filled.synthetic_ratio = 1
    assert (filled.sample(8).rewards == -1).all()
    filled.reset()
    assert filled.synthetic_rows == 0


def test_vec_normalize_works_on_both_kinds() -> None:
    normalized = VecNormalize(environment(), training=False)
    normalized.obs_rms.mean[:], normalized.obs_rms.var[:] = 5.0, 4.0
    normalized.ret_rms.var = np.float64(9.0)
    filled = buffer(synthetic_ratio=1)
    synthetic = random_transitions(30)
    filled.fill(synthetic)
    state = pickle.dumps(filled)
    batch, raw = filled.sample(16, normalized), pickle.loads(state).sample(16)
    torch.testing.assert_close(batch.observations, (raw.observations - 5) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.rewards, raw.rewards / 3, rtol=1e-4, atol=1e-4)
    model = agent(env=VecNormalize(environment(2)), learning_starts=190)
    model.learn(220, callback=refills(210))
    assert model.replay_buffer.synthetic_rows == 400


@pytest.mark.parametrize("count", [30, 70])
@pytest.mark.parametrize("envs", [1, 2])
def test_a_buffer_becomes_transitions_oldest_first(count: int, envs: int) -> None:
    real = ReplayBuffer(50 * envs, OBSERVATIONS, ACTIONS, "cpu", n_envs=envs)
    add_steps(real, count)
    data = as_transitions(real)
    kept = np.repeat(np.arange(max(0, count - 50), count), envs)
    np.testing.assert_array_equal(data.rewards, kept)
    np.testing.assert_array_equal(data.next_observations, np.repeat(kept[:, None], 3, axis=1))
    np.testing.assert_array_equal(data.terminals, (kept % 5 == 4) & (kept % 2 == 0))
    if envs == 1:  # the rows of two take turns
        np.testing.assert_array_equal(data.timeouts, (kept % 5 == 4) & (kept % 2 == 1))
    else:
        assert data.timeouts is None


@pytest.mark.parametrize("count", [30, 70])
def test_a_buffer_that_saves_memory_loses_no_transition_but_the_overwritten(count: int) -> None:
    real = ReplayBuffer(
        50, OBSERVATIONS, ACTIONS, "cpu", optimize_memory_usage=True,
        handle_timeout_termination=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(count + 1, 3)).astype(np.float32)
    for step in range(count):
        done = np.array([step % 5 == 4])
        real.add(walk[None, step], walk[None, step + 1], np.zeros((1, 2)), step, done, [{}])
    data = as_transitions(real)
    kept = np.arange(max(0, count - 49), count)
    np.testing.assert_array_equal(data.rewards, kept)
    np.testing.assert_array_equal(data.observations, walk[kept])
    ended = kept % 5 == 4
    np.testing.assert_array_equal(data.terminals, ended)
    np.testing.assert_array_equal(data.next_observations[~ended], walk[kept + 1][~ended])
    np.testing.assert_array_equal(data.next_observations[ended], walk[kept][ended])


@pytest.mark.parametrize("name", ["observation", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_nan_from_the_environment_is_not_stored(name: str, value: float) -> None:
    real = buffer()
    add_steps(real, 4)
    observation, reward = np.zeros((1, 3)), np.zeros(1)
    (observation if name == "observation" else reward)[..., 0] = value
    with pytest.raises(ValueError, match=f"step 5: an environment gave an? {name} that is not fin"):
        real.add(np.zeros((1, 3)), observation, np.zeros((1, 2)), reward, np.zeros(1), [{}])
    assert real.size() == 4


class Goal(Drift):
    """Has its first true terminal at the 300th step of its life, and then often one."""

    life = 0

    def step(self, action: Any) -> Any:
        Goal.life += 1
        self.state = np.float32(0.9 * self.state + 0.1 * action[0])
        return self.state, -1.0, Goal.life > 300 and Goal.life % 20 == 0, False, {}


def test_a_first_terminal_after_the_first_refill_gets_a_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a fit from scratch; the refills before and after it are warm starts."""
    monkeypatch.setattr(Goal, "life", 0)
    rounds = []
    fill = SynthERReplayBuffer.fill

    def counting(self: SynthERReplayBuffer, rows: Any) -> None:
        assert self.upsampler is not None
        rounds.append((self.upsampler._rounds, bool(rows.terminals.any())))
        fill(self, rows)

    monkeypatch.setattr(SynthERReplayBuffer, "fill", counting)
    model = agent(env=DummyVecEnv([lambda: TimeLimit(Goal(), 50)]), learning_starts=590)
    config = {**TINY, "steps": 200}
    callback = SynthERCallback(200, 400, config=config, device="cpu", warm_start=True)
    model.learn(850, callback=callback)
    assert [each for each, _ in rounds] == [1, 1, 2, 3]
    assert not rounds[0][1]
    assert rounds[-1][1]


def test_a_buffer_of_another_device_opens_where_that_is_missing(tmp_path: Path) -> None:
    model = agent().learn(215, callback=refills())
    model.replay_buffer.upsampler.device = "cuda:7"  # as SynthERCallback(device=...) leaves it
    expected = model.replay_buffer.upsampler.sample(5, seed=1)
    model.save_replay_buffer(tmp_path / "replay.pkl")
    model.replay_buffer.upsampler.save(tmp_path / "model.pt")
    model.load_replay_buffer(tmp_path / "replay.pkl")
    upsampler = model.replay_buffer.upsampler
    assert upsampler.device == "auto"
    np.testing.assert_allclose(
        upsampler.sample(5, seed=1).observations, expected.observations, rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="device 'cuda:7'"):  # asked for, and not here
        Upsampler.load(tmp_path / "model.pt", device="cuda:7")


def warned(model: Any, steps: int, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(steps, **options)
    found = [str(each.message) for each in caught]
    return [each for each in found if each.startswith("SynthER") and "verdict" not in each]


def test_what_would_pass_in_silence_is_said(tmp_path: Path) -> None:
    (alone,) = warned(agent(learning_starts=10), 20)
    assert "nothing fills it with synthetic rows, so that all rows are real" in alone
    (early,) = warned(agent(), 40, callback=refills())
    assert "does not learn in these 40 steps: learning_starts is 50" in early
    (short,) = warned(agent(learning_starts=30), 40, callback=refills())
    assert "no refill comes up to step 40, the last: the next one is due at step 210" in short
    (few,) = warned(agent(learning_starts=30), 40, callback=refills(20))
    assert "no refill came: the buffer holds 40 rows, a refill needs 200" in few
    for model in (agent(ratio=0, learning_starts=30), agent(learning_starts=190)):
        steps = 40 if model.learning_starts == 30 else 215
        assert not warned(model, steps, callback=refills())
    filled = agent(learning_starts=10)
    filled.replay_buffer.fill(random_transitions(observation_dim=3))
    assert not warned(filled, 20)
    # Neither is the silence of one session the next one's.
    model = agent(learning_starts=10)
    warned(model, 15, callback=refills())
    model.save_replay_buffer(tmp_path / "replay.pkl")
    model.load_replay_buffer(tmp_path / "replay.pkl")
    assert any("nothing fills it" in each for each in warned(model, 20))


def test_returns_of_several_steps_have_no_effect_and_that_is_said() -> None:
    try:
        model = agent(n_steps=3, learning_starts=190)
    except TypeError:
        pytest.skip("this version has no n_steps")
    (said,) = warned(model, 215, callback=refills())
    assert "n_steps is 3 and has no effect with a SynthERReplayBuffer" in said


def test_what_is_not_vectors_is_refused_at_the_door() -> None:
    for observations, actions, kind in (
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), ACTIONS, "observation"),
        (spaces.Dict({"a": OBSERVATIONS}), ACTIONS, "observation"),
        (OBSERVATIONS, spaces.Discrete(3), "action"),
    ):
        with pytest.raises(ValueError, match=f"the {kind} space is .*flat Box of floats"):
            SynthERReplayBuffer(10, observations, actions, "cpu")
    with pytest.raises(ValueError, match="synthetic_ratio is 2"):
        buffer(synthetic_ratio=2)
    with pytest.raises(TransitionError, match="4 observation and 2 action columns, the buffer"):
        buffer().fill(random_transitions(observation_dim=4))
    with pytest.raises(TransitionError, match="holds no rows"):
        as_transitions(buffer())
    with pytest.raises(ValueError, match="retrain_every is 0"):
        SynthERCallback(0)
    with pytest.raises(ValueError, match="no setting 'stepz'"):
        SynthERCallback(config={"stepz": 1})
    with pytest.raises(ValueError, match="replay_buffer_class=SynthERReplayBuffer"):
        agent(replay_buffer_class=None, replay_buffer_kwargs=None).learn(10, callback=refills())


def test_without_the_library_the_error_says_how_to_install_it() -> None:
    script = """
import sys
sys.modules["stable_baselines3"] = None
from synther.integrations.sb3 import SynthERCallback, SynthERReplayBuffer
try:
    SynthERCallback()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    expected = "SynthERCallback needs Stable-Baselines3; run pip install -e '.[sb3]'"
    assert done.stdout.strip() == expected, done.stderr


def test_rows_are_asked_for_a_condition() -> None:
    config = {**TINY, "condition": "reward"}
    asked = SynthERCallback(210, 300, config=config, device="cpu", target="top 10%", guidance=2.0)
    buffer = agent(SAC).learn(215, callback=asked).replay_buffer
    assert buffer.synthetic_rows == 300
    assert buffer.upsampler._fitted.model.condition.name == "reward"
    with pytest.raises(ValueError, match="condition 'reward' has no target"):
        SynthERCallback(config=config)


def test_rows_in_other_units_are_brought_into_those_of_the_buffer() -> None:
    rows = random_transitions(30)
    own = replace(rows, actions=2 * rows.actions, metadata={"action_low": -2, "action_high": 2})
    target = buffer()
    target.fill(own)
    np.testing.assert_allclose(target._synthetic["actions"], rows.actions, rtol=1e-6, atol=1e-7)
    with pytest.raises(TransitionError, match=r"leave the buffer's \[-1, 1\]; say their units"):
        target.fill(replace(own, metadata={}))
    add_steps(target, 10)
    assert as_transitions(target).metadata["action_low"] == [-1, -1]


def test_returns_of_several_environments_are_those_of_each() -> None:
    """Their rows take turns in the buffer, past its end as well."""
    real = ReplayBuffer(100, OBSERVATIONS, ACTIONS, "cpu", n_envs=2)
    walks = np.random.default_rng(0).normal(size=(71, 2, 3)).astype(np.float32)
    for step in range(70):
        done = np.array([step % 5 == 4, step % 7 == 6])
        infos = [{"TimeLimit.truncated": bool(step % 2)}] * 2
        after = np.where(done[:, None], 9, walks[step + 1])
        real.add(walks[step], after, np.zeros((2, 2)), np.full(2, 1.0), done, infos)
    rows = by_environment(real, as_transitions(real))
    np.testing.assert_array_equal(rows.observations[:50], walks[20:70, 0])
    np.testing.assert_array_equal(rows.observations[50:], walks[20:70, 1])
    expected = [5 - step % 5 for step in range(20, 70)]
    expected += [min(7 - step % 7, 70 - step) for step in range(20, 70)]
    np.testing.assert_array_equal(return_to_go(rows, 1.0), expected)


def test_a_return_is_asked_of_several_environments() -> None:
    config = {**TINY, "condition": "return"}
    asked = SynthERCallback(220, 50, config=config, device="cpu", target="top 10%")
    model = agent(env=environment(2), learning_starts=190)
    assert not warned(model, 220, callback=asked)
    assert model.replay_buffer.upsampler._fitted.model.condition.name == "return"


class Barren(Drift):
    """Gives its first reward at the 300th step of its life."""

    life = 0

    def step(self, action: Any) -> Any:
        Barren.life += 1
        after, _, *rest = super().step(action)
        return after, float(Barren.life > 300), *rest


def test_what_the_buffer_has_not_seen_yet_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """First no reward at all, then none like that: learn goes on, with rows as they come."""
    monkeypatch.setattr(Barren, "life", 0)
    config = {**TINY, "condition": "reward"}
    options = {"config": config, "device": "cpu", "warm_start": True, "guidance": 2.0}
    model = agent(env=DummyVecEnv([lambda: TimeLimit(Barren(), 20)]), learning_starts=190)
    (none,) = warned(model, 220, callback=SynthERCallback(210, 50, target=1.0, **options))
    assert "step 210: condition 'reward' is 0.0 in every row" in none
    assert "the rows of this refill are as they come" in none
    assert model.replay_buffer.synthetic_rows == 50
    more = {"reset_num_timesteps": False}
    (far,) = warned(model, 210, callback=SynthERCallback(210, 60, target=5.0, **options), **more)
    assert "step 420: target 5 of condition 'reward' is 4 above the trained range" in far
    assert model.replay_buffer.synthetic_rows == 60
    known = SynthERCallback(210, 70, target=1.0, **options)
    assert not warned(model, 210, callback=known, **more)
    assert model.replay_buffer.synthetic_rows == 70


def test_a_condition_that_no_buffer_has_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="target 'best' of condition 'reward': expected a number"):
        SynthERCallback(config={**TINY, "condition": "reward"}, target="best")
    config = {**TINY, "condition": "rewrad"}
    with pytest.raises(ValueError, match="no condition 'rewrad'; did you mean reward"):
        agent().learn(10, callback=SynthERCallback(config=config, target=1.0, device="cpu"))
