"""The settings: what follows from them, and which are refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gin
import pytest

from synther.learning.learner import Dims
from synther.online.config import OnlineConfig, OnlineConfigError
from synther.runs import gin_config
from synther.runs.gin_config import GinError

# SPEC section 8, the gin names that users bind, and a value for each that is not the default.
SPEC_NAMES: dict[str, Any] = {
    "env_name": "Walker2d-v2", "seed": 3, "epochs": 7, "steps_per_epoch": 50, "max_ep_len": 60,
    "n_evals_per_epoch": 3, "hidden_sizes": (32, 16), "replay_size": 9000, "batch_size": 64,
    "lr": 1e-3, "gamma": 0.9, "polyak": 0.9, "alpha": 0.1, "auto_alpha": False,
    "target_entropy": -1.5, "start_steps": 77, "delay_update_steps": 88, "utd_ratio": 5,
    "num_Q": 4, "num_min": 3, "q_target_mode": "ave", "policy_update_delay": 2,
    "diffusion_buffer_size": 999, "diffusion_sample_ratio": 0.25, "retrain_diffusion_every": 11,
    "num_samples": 12, "diffusion_start": 13, "disable_diffusion": False,
    "print_buffer_stats": False, "skip_reward_norm": False, "model_terminals": True,
    "evaluate_bias": True, "n_mc_eval": 14, "n_mc_cutoff": 15, "reseed_each_epoch": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_gin() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


def config(**keys: Any) -> OnlineConfig:
    return OnlineConfig(**{"env_name": "Hopper-v2", "target_entropy": "auto", **keys})


def test_every_name_of_the_specification_can_be_bound() -> None:
    gin_config.parse(bindings=[f"redq_sac.{name} = {each!r}" for name, each in SPEC_NAMES.items()])
    bound = OnlineConfig()
    for name, value in SPEC_NAMES.items():
        assert getattr(bound, name) == value, name
    agent = bound.agent(Dims(17, 6))
    for name in vars(agent).keys() & SPEC_NAMES.keys():
        assert getattr(agent, name) == SPEC_NAMES[name], name


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(GinError, match=r"no parameter 'utd_ration'.*utd_ratio"):
        gin_config.parse(bindings=["redq_sac.utd_ration = 3"])


# SPEC section 8: Hopper 125, HalfCheetah 400, Walker2d, Ant and Humanoid 300, all else 300; and
# the target entropies of MBPO (arXiv 1906.08253).
LENGTHS = {
    "Hopper-v2": 125, "HalfCheetah-v2": 400, "Walker2d-v2": 300, "Ant-v2": 300,
    "Humanoid-v2": 300, "cheetah-run-v0": 300, "hopper-hop-v0": 300,
}  # fmt: skip


@pytest.mark.parametrize(("env", "epochs"), LENGTHS.items())
def test_lengths_of_mbpo(env: str, epochs: int) -> None:
    assert config(env_name=env).total_steps == 1000 * epochs
    assert config(env_name=env, epochs=3, steps_per_epoch=50).total_steps == 150


def test_target_entropies() -> None:
    dims = Dims(11, 3)
    assert config().agent(dims).target_entropy == -3
    assert config(target_entropy=-0.5).agent(dims).target_entropy == -0.5
    for env, expected in {
        "Hopper-v2": -1, "HalfCheetah-v2": -3, "Walker2d-v2": -3, "Ant-v2": -4, "Humanoid-v2": -2,
    }.items():  # fmt: skip
        found = config(env_name=env, target_entropy="mbpo").agent(dims).target_entropy
        assert found == expected
    with pytest.raises(OnlineConfigError, match=r"target_entropy is 'mbpo'.*cheetah-run-v0"):
        config(env_name="cheetah-run-v0", target_entropy="mbpo")


def test_updates_start_with_start_steps_unless_told_otherwise() -> None:
    assert config().agent(Dims(3, 1)).delay_update_steps == 5000
    assert config(start_steps=7).agent(Dims(3, 1)).delay_update_steps == 7
    assert config(delay_update_steps=9).agent(Dims(3, 1)).delay_update_steps == 9


@pytest.mark.parametrize(
    ("start", "every", "steps"),
    [
        (0, 10, [10, 20, 30, 40]),
        (1, 10, [10, 20, 30, 40]),
        (10, 10, [10, 20, 30, 40]),
        (11, 10, [20, 30, 40]),
        (25, 10, [30, 40]),
        (41, 10, []),
        (0, 15, [15, 30, 45]),
    ],
)
def test_refills_are_due_at_multiples_from_the_start_on(
    start: int, every: int, steps: list[int]
) -> None:
    settings = config(disable_diffusion=False, diffusion_start=start, retrain_diffusion_every=every)
    for step in range(46):
        assert settings.refills_until(step) == sum(each <= step for each in steps if each < 46)
    assert config().refills_until(100_000) == 0


BAD: dict[str, list[Any]] = {
    "utd_ratio": [0, -1, 1.5, "20", None, True],
    "batch_size": [0, 256.0],
    "num_Q": [0, 2.5],
    "num_min": [0, 11, "2"],
    "steps_per_epoch": [0], "epochs": [0, 2.5, "all"], "max_ep_len": [0], "n_evals_per_epoch": [0],
    "n_mc_eval": [0], "n_mc_cutoff": [0], "policy_update_delay": [0],
    "replay_size": [0, 5000, 1e6],
    "start_steps": [-1, 5.5], "delay_update_steps": [-1, "later"], "diffusion_start": [-1],
    "lr": [0, -1e-3, float("nan"), "3e-4"], "alpha": [0, float("inf")],
    "gamma": [-0.1, 1.1, float("nan")], "polyak": [2], "diffusion_sample_ratio": [-0.5, 1.5],
    "hidden_sizes": [(0,), (256.0,), 256], "seed": [-1, 0.5],
    "q_target_mode": ["max"], "precision": ["fp16"], "compile": ["on", True],
    "target_entropy": ["mbp0", None],
    "retrain_diffusion_every": [0], "diffusion_buffer_size": [0], "checkpoint_every": [-1],
    "relevance": ["novelty", None], "prompt_fraction": [0, 1.5], "guidance": [float("nan"), "2"],
    "curiosity_hidden": [0], "critic_layer_norm": [1],
    "auto_alpha": ["False"], "disable_diffusion": ["no", None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(OnlineConfigError, match=rf"redq_sac\.{name} is .*expected"):
        config(**{name: value})


def test_combinations_that_cannot_be() -> None:
    with pytest.raises(OnlineConfigError, match=r"num_samples is 30, .*diffusion_buffer_size 20"):
        config(disable_diffusion=False, num_samples=30, diffusion_buffer_size=20)
    with pytest.raises(OnlineConfigError, match="diffusion_warm_start_steps is None"):
        config(disable_diffusion=False, diffusion_warm_start=True)
    with pytest.raises(OnlineConfigError, match="relevance is 'curiosity', expected none with"):
        config(relevance="curiosity")
    assert config(disable_diffusion=False, relevance="curiosity").guidance == 2
    config(num_samples=30, diffusion_buffer_size=20)  # no matter without diffusion


def test_whole_numbers_do_for_real_ones() -> None:
    assert config(gamma=1, num_min=1, lr=1, hidden_sizes=[8]).agent(Dims(3, 1)).hidden_sizes == (8,)


def test_what_samples_are_not_asked_for_is_said() -> None:
    keys = {"epochs": 20, "disable_diffusion": False}
    guided, share = config(**keys, guidance=3.0, prompt_fraction=0.25).without_effect()
    assert "redq_sac.prompt_fraction has no effect: samples are asked for nothing" in guided
    assert "redq_sac.guidance has no effect" in share
    assert config(**keys, guidance=3.0, relevance="reward").without_effect() == []


def test_what_does_not_happen_in_a_short_run_is_said() -> None:
    short = {"epochs": 2, "steps_per_epoch": 200, "start_steps": 400, "disable_diffusion": False}
    learns, refills = config(**short, retrain_diffusion_every=400).without_effect()
    assert "does not learn in these 400 steps: its updates begin after 400" in learns
    assert (
        "no diffusion model is trained in these 400 steps: the first is due at step 400" in refills
    )
    (late,) = config(
        **{**short, "start_steps": 399}, retrain_diffusion_every=100, diffusion_start=350
    ).without_effect()
    assert "the first is due at step 400" in late
    enough = {**short, "start_steps": 399, "retrain_diffusion_every": 399}
    assert config(**enough).without_effect() == []
    assert (
        config(
            **{**enough, "disable_diffusion": True, "retrain_diffusion_every": 999}
        ).without_effect()
        == []
    )
