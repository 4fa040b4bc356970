"""Rows that follow the agent that learns from them: which agent, whose rows, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synther.action_bounds import ActionBounds
from synther.corl.shared.config import DiffusionConfig, RunConfig
from synther.corl.shared.normalizers import ActionNormalizer, StateNormalizer, row_function
from synther.corl.shared.refreshed import MemberPolicy, RefreshedRows
from synther.corl.shared.runner import run
from synther.runs.loggers import read_metrics
from synther.runs.settings import ConfigError
from synther.transitions import TransitionLayout
from tests.corl.helpers import ALGORITHMS, DIMS, follow, make_agent, write_model
from tests.corl.test_runner import curve, final_state, make, same, whole_and_cut
from tests.data import random_transitions
from tests.devices import DEVICE

__all__ = ["make"]

LAYOUT = TransitionLayout(3, 2)
STATES = StateNormalizer.of(random_transitions(rows=120))
BOUNDS = ActionBounds(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))


class Recorded:
    """In place of a model: rows are the number of the call; notes who they were guided to."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int | None, float]] = []

    def __call__(
        self, count: int, noise: torch.Generator, policy: MemberPolicy | None, strength: float
    ) -> torch.Tensor:
        self.calls.append((count, policy.member if policy else None, strength))
        own = torch.randn(count, LAYOUT.row_dim, generator=noise)
        own[:, 0] = len(self.calls)
        return own


def source_of(generate: Recorded, seeds: list[int], **keys: Any) -> RefreshedRows:
    config_class, build, small = ALGORITHMS["td3_bc"]
    agent = make_agent(build, config_class(**small), seeds)
    return RefreshedRows(
        generate,
        row_function(LAYOUT, None, None),
        LAYOUT,
        10,
        DiffusionConfig("model.pt", **keys),
        seeds=seeds,
        policies=[MemberPolicy(agent, member, len(seeds)) for member in range(len(seeds))],
        device="cpu",
    )


def test_rows_live_as_long_as_said_and_only_the_first_are_unguided() -> None:
    generate = Recorded()
    source = source_of(generate, [0, 1], refresh=4, sample_limit=25, batch_parallelism=2)
    calls = [source.sample().states[:, :, 0] for _ in range(10)]
    assert [count for count, *_ in generate.calls] == [20, 5] * 6  # 25 rows, 20 at a time
    members = [member for _, member, _ in generate.calls]
    assert members == [None] * 4 + [0, 0, 1, 1] * 2
    for update, batch in enumerate(calls):
        first = 4 * (update // 4)
        assert set(batch[0].tolist()) <= {first + 1, first + 2}
        assert set(batch[1].tolist()) <= {first + 3, first + 4}


@pytest.mark.parametrize(("refresh", "life"), [(2, 2), (9, 3)])
def test_without_a_limit_each_row_is_used_once(refresh: int, life: int) -> None:
    """And rows are guided as soon as the first ``refresh`` updates are over."""
    generate = Recorded()
    source = source_of(generate, [5], refresh=refresh, policy_guidance=0.5, batch_parallelism=3)
    seen = torch.stack([source.sample().rewards[0, :, 0] for _ in range(12)])
    assert len(seen.unique()) == 120
    assert generate.calls == [
        (10 * life, None if update < refresh else 0, 0.5) for update in range(0, 12, life)
    ]


@pytest.mark.parametrize("refresh", [4, 5, 7])
def test_rows_follow_the_agent_from_the_first_refresh_on(refresh: int) -> None:
    """Also where rows for three updates at a time are not done by then."""
    generate = Recorded()
    source = source_of(generate, [5], refresh=refresh, batch_parallelism=3)
    drawn = 0
    while generate.calls[-1:] != [(30, 0, 1.0)]:
        assert source.ready() <= 3
        source.sample()
        drawn += 1
    assert drawn == refresh + 1
    unguided = [count for count, member, _ in generate.calls if member is None]
    assert sum(unguided) == 10 * refresh


@pytest.mark.parametrize("limit", [25, None])
def test_a_saved_source_goes_on_and_no_seed_minds_the_others(limit: int | None) -> None:
    keys = {"refresh": 4, "sample_limit": limit, "batch_parallelism": 3}
    together, alone = (source_of(Recorded(), seeds, **keys) for seeds in ([3, 8], [8]))
    for _ in range(5):
        mine, theirs = together.sample().rewards[1], alone.sample().rewards[0]
        assert torch.equal(mine, theirs)
    resumed = source_of(Recorded(), [3, 8], **keys)
    resumed.load_state_dict(together.state_dict())
    for _ in range(7):
        assert torch.equal(resumed.sample().rewards, together.sample().rewards)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "iql deterministic"])
def test_a_members_policy_is_its_actor_in_the_datas_units(algorithm: str) -> None:
    """Against numpy, in float64, from the weights: mean and log-likelihood of each agent, acting in
    [-3, 3] on actions whose own bounds are [-2, 2] and [0, 10]."""
    name, *deterministic = algorithm.split()
    config_class, build, small = ALGORITHMS[name]
    keys = {"iql_deterministic": True} if deterministic else {}
    config = config_class(**{**small, **keys, "max_action": 3.0, "batch_size": 8})
    agent: Any = follow(build, config, [0, 1], 3)[0].cpu()
    actions = ActionNormalizer.of(BOUNDS, 3.0)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(20, DIMS.state)).astype(np.float32)
    unit = rng.uniform(-0.9, 0.9, (20, DIMS.action))
    low, high = BOUNDS.low.astype(float), BOUNDS.high.astype(float)
    raw = (unit + 1) / 2 * (high - low) + low
    for member in range(2):
        acts = MemberPolicy(agent, member, 2, STATES, actions)(torch.from_numpy(observations))
        seen = (observations.astype(float) - STATES.mean.numpy()) / STATES.std.numpy()
        network = agent.actor.mlp if name == "cql" else agent.actor
        weights = [each[member].detach().double().numpy() for each in network.weights()]
        hidden = seen
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0)
        output = hidden @ weights[-2] + weights[-1]
        if name == "td3_bc" or deterministic:
            expected = (np.tanh(output) + 1) / 2 * (high - low) + low
            np.testing.assert_allclose(acts.numpy(), expected, rtol=1e-4, atol=1e-4)
            continue
        mean, log_std = output[:, :2], output[:, 2:]
        if name == "iql":
            log_std = agent.log_std[member].detach().double().numpy().clip(-5, 2)
            mean = np.tanh(mean)
            expected = -(((unit - mean) / np.exp(log_std)) ** 2) / 2 - log_std
        else:
            if name == "cql":
                log_std = log_std * agent.actor.log_std_multiplier[member].item()
                log_std = log_std + agent.actor.log_std_offset[member].item()
            log_std = log_std.clip(-20 if name == "cql" else -5, 2)
            inside = np.arctanh(unit)
            expected = -(((inside - mean) / np.exp(log_std)) ** 2) / 2 - log_std
            expected = expected - np.log(1 - unit**2)
        found = acts.log_prob(torch.from_numpy(raw).float()).detach().double().numpy()
        constant = -np.log(2 * np.pi) / 2 - np.log(3.0)
        np.testing.assert_allclose(found, expected + constant, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("limit", [20, None])
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    algorithm: str,
    limit: int | None,
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With a stack of two and real rows in each batch; killed at step 7, to go on from the
    checkpoint of step 5. Rows are made anew before and after that."""
    model = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
    diffusion = DiffusionConfig(
        str(model), 2, limit, batch_parallelism=3, mix=0.25, refresh=4, policy_guidance=2.0
    )
    (whole, cut), folders = whole_and_cut(make, monkeypatch, algorithm, 7, diffusion=diffusion)
    assert same(*map(final_state, folders))
    assert curve(folders[0]) == curve(folders[1])
    assert whole["last_return"] == cut["last_return"]
    assert any("generation_share" in each for each in read_metrics(folders[0] / "metrics.jsonl"))


def test_guided_rows_are_nearer_to_the_agent(make: Callable[..., Any], tmp_path: Path) -> None:
    """The last rows of a run under its own policy, beside those of the same run without guidance:
    the same noise, and an agent that hardly moves in the meantime."""
    model = write_model(tmp_path / "model.pt", TransitionLayout(3, 1))
    distances = []
    for strength in (0.0, 6.0):
        diffusion = DiffusionConfig(
            str(model), 16, 200, refresh=4, policy_guidance=strength, sampler="dpmpp_2m"
        )
        name = f"at-{strength:g}"
        run(make(diffusion=diffusion, name=name, learning_rate=1e-6), ALGORITHMS["td3_bc"][1])
        state = final_state(tmp_path / "runs" / f"{name}-data-s0")
        agent = make_agent(
            ALGORITHMS["td3_bc"][1], make(), [0], dims=type(DIMS)(3, 1), device=DEVICE
        )
        agent.load_state_dict(state["agent"]["networks"])
        rows = TransitionLayout(3, 1).split(state["source"]["pool"])
        with torch.no_grad():
            acts = agent.act(rows["observations"].to(DEVICE))
        distances.append(float((acts - rows["actions"].to(DEVICE)).square().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_what_cannot_be_refreshed_is_refused_before_anything_starts() -> None:
    with pytest.raises(
        ConfigError, match=r"refresh is 500, and diffusion\.path is 's\.npz', rows that are"
    ):
        DiffusionConfig("s.npz", refresh=500)
    with pytest.raises(ConfigError, match=r"diffusion\.path is not given: rows are"):
        DiffusionConfig(refresh=500)
    with pytest.raises(ConfigError, match=r"policy_guidance is -1\.0, expected 0 or more"):
        DiffusionConfig("model.pt", refresh=5, policy_guidance=-1.0)
    with pytest.raises(ConfigError, match=r"policy_guidance is 2\.0, and no rows are guided"):
        DiffusionConfig("model.pt", policy_guidance=2.0)
    with pytest.raises(
        ConfigError, match=r"refresh is 5, and diffusion\.mix is 1\.0, which leaves no"
    ):
        DiffusionConfig("model.pt", refresh=5, mix=1.0)


def test_a_refresh_that_a_run_never_comes_to_is_refused() -> None:
    rows = DiffusionConfig("model.pt", refresh=500)
    for updates in (500, 400):
        message = f"refresh is 500, and max_timesteps is {updates}, so that no row is ever guided"
        with pytest.raises(ConfigError, match=message):
            RunConfig(max_timesteps=updates, diffusion=rows)
    assert RunConfig(max_timesteps=501, diffusion=rows).diffusion == rows
    control = DiffusionConfig("model.pt", refresh=500, policy_guidance=0.0)
    assert RunConfig(max_timesteps=500, diffusion=control).diffusion == control
