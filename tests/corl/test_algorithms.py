"""What all four algorithms have in common: sources, stacks, and fast paths with their plain twins.

What is an algorithm's own is tested in its file, and the loop around it in ``test_runner.py``.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from synther.corl.shared.buffer import prepare_replay_buffer
from synther.corl.shared.config import DiffusionConfig
from synther.learning.graphs import graphed
from synther.learning.learner import Agent
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from synther.transitions import TransitionLayout
from tests.corl.helpers import ALGORITHMS, DIMS, follow, make_agent, random_batch
from tests.data import random_transitions
from tests.devices import DEVICE

pytestmark = pytest.mark.arithmetic

OWN_KEYS: dict[str, dict[str, Any]] = {
    "td3_bc": {},
    "iql": {"max_timesteps": 200},  # the whole schedule of the actor's rate
    "edac": {},
    "cql": {"cql_lagrange": True, "bc_steps": 50, "target_update_period": 2},
}
"""What an algorithm's update may do beyond its defaults, so that every part of it runs."""

METRICS = {
    "td3_bc": {"critic_loss", "q", "actor_loss", "cloning_loss", "lambda"},
    "iql": {"value_loss", "critic_loss", "actor_loss", "q", "advantage"},
    "edac": {"alpha_loss", "alpha", "entropy", "actor_loss", "q_spread", "critic_loss",
             "similarity", "q"},
    "cql": {"critic_loss", "td_loss", "conservative_term", "q", "alpha_prime", "actor_loss",
            "log_prob", "alpha"},
}  # fmt: skip


def configuration(algorithm: str, **keys: Any) -> Any:
    config_class, _, small = ALGORITHMS[algorithm]
    return config_class(**(small | OWN_KEYS[algorithm] | keys))


@pytest.mark.any_device
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("limited", [False, True])
def test_the_same_rows_give_the_same_updates_from_all_three_sources(
    algorithm: str, limited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 1 of the 2023 release: rewards and dones of another shape on the fly."""
    data = random_transitions(8, *DIMS)
    rows = torch.from_numpy(TransitionLayout.of(data).pack(data))
    monkeypatch.setattr(
        "synther.diffusion.generation.on_the_fly.rows_of_model",
        lambda *_, **__: lambda *_: rows.to(DEVICE, copy=True),
    )
    config = configuration(algorithm, batch_size=8)
    results = []
    for path in (None, str(data.save(tmp_path / "samples.npz")), "model.pt"):
        limit = len(data) if path and limited else None
        diffusion = DiffusionConfig(path, sample_limit=limit, batch_parallelism=1)
        source = prepare_replay_buffer(data, diffusion, batch_size=8, seeds=[4], device=DEVICE)
        agent = make_agent(ALGORITHMS[algorithm][1], config, [4], device=DEVICE)
        noise = BlockStream(agent.noise, generators_for([4], "noise", DEVICE))
        for step in range(1, 4):
            # On the fly every row comes once; stored rows are drawn at random.
            fresh = path == "model.pt" and not limited
            batch = source.sample() if fresh or limited else in_order(source)
            assert batch.rewards.shape == batch.dones.shape == (1, 8, 1)
            agent.schedule(step)
            agent.update(batch, noise.next(), agent.variant(step))
        results.append(agent.state_dict())
    for other in results[1:]:
        for name, value in results[0].items():
            assert value.equal(other[name]), name


def in_order(source: Any) -> Batch:
    rows: Batch = source.rows.gather(torch.arange(8, device=DEVICE)[None])
    return rows


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_seed_of_a_stack_follows_its_own_run(algorithm: str) -> None:
    """In batches of 32: in tiny ones a unit that switches a step earlier moves all that follows."""
    build, config = ALGORITHMS[algorithm][1], configuration(algorithm, batch_size=32)
    together, metrics = follow(build, config, [7, 8, 9], 200)
    for index, seed in enumerate((7, 8, 9)):
        alone, own_metrics = follow(build, config, [seed], 200)
        for name, value in alone.state_dict().items():
            ours = together.state_dict()[name][index]
            torch.testing.assert_close(ours, value[0], rtol=1e-3, atol=1e-4, msg=name)
        for key, value in own_metrics[-1].items():
            torch.testing.assert_close(metrics[-1][key][index], value[0], rtol=1e-3, atol=1e-4)
    spread = torch.stack([each.detach().std(dim=0).mean() for each in together.parameters()])
    assert spread.mean() > 1e-3  # three different runs, not three times the same one
    assert set(metrics[-1]) == METRICS[algorithm]
    for value in metrics[-1].values():
        assert value.shape == (3,)
        assert not value.requires_grad


@pytest.mark.any_device
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bf16_stays_near_float32(algorithm: str) -> None:
    """Over a few updates at a width at which a network has products between hidden layers."""
    wide = "hidden_dim" if algorithm == "edac" else "network_width"
    found = []
    for precision in ("fp32", "bf16"):
        keys = {wide: 64, "batch_size": 32, "precision": precision}
        config = configuration(algorithm, **keys)
        agent, metrics = follow(ALGORITHMS[algorithm][1], config, [0, 1], 4)
        assert {each.dtype for each in agent.state_dict().values()} == {torch.float32}
        found.append((agent.act(random_batch(2, 32).states.to(DEVICE)), metrics))
    (exact_actions, exact), (actions, rounded) = found
    assert not actions.equal(exact_actions)  # bf16 is really used
    torch.testing.assert_close(actions, exact_actions, rtol=0, atol=0.02)
    for ours, expected in zip(rounded, exact, strict=True):
        for key in {"critic_loss", "actor_loss", "q"} & set(expected):
            torch.testing.assert_close(ours[key], expected[key], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("mode", "device"),
    [
        pytest.param("default", "cpu", marks=pytest.mark.slow),
        pytest.param("default", "cuda", marks=[pytest.mark.gpu, pytest.mark.compiles]),
        pytest.param("cudagraph", "cuda", marks=pytest.mark.gpu),
        pytest.param("max", "cuda", marks=[pytest.mark.gpu, pytest.mark.compiles]),
    ],
)
def test_compiled_and_graphed_updates_agree_with_the_plain_one(
    algorithm: str, mode: Any, device: str
) -> None:
    """Through every form of the update, without compiling any twice."""
    own = {"cql": {"bc_steps": 8}, "iql": {"max_timesteps": 24}}.get(algorithm, {})
    keys = {"batch_size": 8, "num_seeds": 2, **own}
    agents: list[Agent] = [
        ALGORITHMS[algorithm][1](
            configuration(algorithm, **keys, compile=each), DIMS, generators_for([0, 1], "init"),
            device,
        )
        for each in ("off", mode)
    ]  # fmt: skip
    updates = [agents[0].update, agents[1].update if mode == "default" else graphed(agents[1])]
    streams = [BlockStream(each.noise, generators_for([0, 1], "noise", device)) for each in agents]
    for step in range(1, 25):
        batch = Batch(*(each.to(device) for each in random_batch(2, 8, seed=step)))
        for agent, update, stream in zip(agents, updates, streams, strict=True):
            agent.schedule(step)
            update(batch, stream.next(), agent.variant(step))
    torch.testing.assert_close(agents[1].state_dict(), agents[0].state_dict(), rtol=1e-3, atol=1e-4)
