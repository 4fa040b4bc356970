"""Graphs that hold more than an update: of an agent, of a block online, of the diffusion model."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synther.corl.shared.config import DiffusionConfig
from synther.corl.shared.normalizers import row_function
from synther.corl.shared.refreshed import MemberPolicy, RefreshedRows
from synther.learning import graphs
from synther.learning.graphs import MOST_GRAPHS, WARM_UP, Replayed
from synther.learning.journal import Evaluation
from synther.learning.learner import Agent
from synther.learning.loop import Training
from synther.learning.replay import RowBuffer
from synther.learning.sources import DiffusionGenerator, MixedSource, ReplayBuffer, RowSource
from synther.learning.streams import generators_for
from synther.learning.timetable import Timetable
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.redq_sac import AgentConfig
from synther.runs.loggers import read_metrics
from synther.runs.runtime import CompileMode
from tests.corl.helpers import ALGORITHMS, make_agent
from tests.data import random_transitions
from tests.diffusion.models import LAYOUT, random_rows, tiny_model, tiny_trainer
from tests.fake_cuda.helpers import largest_difference, weights_of
from tests.learning.test_loop import NO_SERVICES
from tests.online.helpers import DIMS, TINY_AGENT

pytestmark = pytest.mark.gpu
SEEDS = (0, 4)
STEPS, SHORT = 60, 4


@pytest.fixture(autouse=True)
def short_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "STRIDE", SHORT)


def agent_of(algorithm: str, **keys: Any) -> Agent:
    config_class, build, small = ALGORITHMS[algorithm]
    config = config_class(**{"batch_size": 8, "max_timesteps": STEPS, **small, **keys})
    return make_agent(build, config, list(SEEDS), device="cuda")


def stored_rows() -> ReplayBuffer:
    rows = torch.from_numpy(LAYOUT.pack(random_transitions(rows=120))).cuda()
    generators = generators_for(SEEDS, "data", "cuda")
    return ReplayBuffer(RowBuffer.holding(LAYOUT, rows), 8, generators)


def training(
    agent: Agent,
    source: RowSource,
    compile: CompileMode,
    folder: Path | None = None,
    timetable: Timetable | None = None,
) -> Training:
    return Training(
        agent,
        source,
        lambda: Evaluation({}, {}, ""),
        timetable or Timetable(STEPS, STEPS, STEPS, STEPS),
        seeds=SEEDS,
        device=torch.device("cuda"),
        config={},
        logs=NO_SERVICES,  # type: ignore[arg-type]
        name="stride",
        folder=folder,
        compile=compile,
    )


def counted(agent: Agent) -> Counter[Any]:
    """How often each variant of its update ran as Python code."""
    calls: Counter[Any] = Counter()
    update = agent.update

    def counting(batch: Any, noise: Any, variant: Any) -> Any:
        calls[variant] += 1
        return update(batch, noise, variant)

    agent.update = counting  # type: ignore[method-assign]
    return calls


def check_same(plain: nn.Module, strided: nn.Module, start: Sequence[torch.Tensor]) -> None:
    moved = largest_difference(plain.parameters(), start)
    assert moved > 1e-3
    assert largest_difference(plain.parameters(), strided.parameters()) < 2e-3 * moved


@pytest.mark.parametrize(
    ("algorithm", "keys"),
    [
        ("td3_bc", {}),
        ("td3_bc", {"policy_freq": 3}),
        ("iql", {}),
        ("edac", {}),
        ("cql", {"bc_steps": 10, "cql_lagrange": True}),
    ],
)
def test_a_stride_of_updates_is_the_updates_one_by_one(
    algorithm: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    agents = [agent_of(algorithm, **keys) for _ in range(2)]
    start, calls = weights_of(agents[0]), counted(agents[1])
    modes: tuple[CompileMode, ...] = ("off", "max")
    for agent, mode in zip(agents, modes, strict=True):
        training(agent, stored_rows(), mode, tmp_path / mode).run()
    assert SHORT * (WARM_UP + 1) <= calls.total() < STEPS  # the others were replayed
    check_same(*agents, start)
    plain, strided = (read_metrics(tmp_path / mode / "metrics.jsonl") for mode in modes)
    assert [each["step"] for each in strided] == [each["step"] for each in plain]
    found, expected = (
        {key: value for each in records for key, value in each.items() if key.endswith("/s4")}
        for records in (strided, plain)
    )
    assert expected
    assert found == pytest.approx(expected, rel=2e-2, abs=1e-3)


def test_a_stride_ends_where_something_is_due_and_a_run_may_change_its_mode(
    tmp_path: Path,
) -> None:
    """Odd distances; cut at 35, and finished update by update."""
    agents = [agent_of("iql") for _ in range(3)]
    start = weights_of(agents[0])
    table = Timetable(STEPS, 9, 25, 13)
    whole = training(agents[0], stored_rows(), "off", tmp_path / "off", table)
    whole.run()
    first = training(agents[1], stored_rows(), "max", tmp_path / "max", table)
    first.timetable = Timetable(35, 9, 25, 13)
    first.run()
    rest = training(agents[2], stored_rows(), "off", tmp_path / "max", table)
    assert rest.resume()
    assert rest.step == 35
    rest.run()
    check_same(agents[0], agents[2], start)
    assert [each["step"] for each in rest.evaluations] == [25, 35, 50, 60]
    kept = [read_metrics(tmp_path / each / "metrics.jsonl") for each in ("off", "max")]
    steps = [{each["step"] for each in records} for records in kept]
    assert steps[1] == steps[0] | {35}


class Follower:
    """Rows that a policy has a part in, as a guided model's: their actions are the policy's."""

    def __call__(
        self, count: int, noise: torch.Generator, policy: MemberPolicy | None, strength: float
    ) -> torch.Tensor:
        rows = torch.randn(count, LAYOUT.row_dim, generator=noise, device=noise.device)
        if policy is not None:
            rows[:, 3:5] = policy(rows[:, :3])
        return rows


def refreshed_rows(agent: Agent, limit: int | None) -> RefreshedRows:
    diffusion = DiffusionConfig("model.pt", refresh=17, sample_limit=limit, batch_parallelism=9)
    return RefreshedRows(
        Follower(),
        row_function(LAYOUT, None, None),
        LAYOUT,
        8,
        diffusion,
        seeds=SEEDS,
        policies=[MemberPolicy(agent, member, len(SEEDS)) for member in range(len(SEEDS))],
        device="cuda",
    )


def generated_rows() -> DiffusionGenerator:
    def generate(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, LAYOUT.row_dim, generator=generator, device="cuda")

    noise = generators_for(SEEDS, "synthetic", "cuda")
    return DiffusionGenerator(generate, lambda rows: rows, LAYOUT, 8, noise, 30)


@pytest.mark.parametrize("source", ["generated", "mixed", "refreshed", "refreshed, limited"])
def test_a_stride_takes_rows_from_every_kind_of_source(source: str) -> None:
    """Rows that follow the agent are those of the agent as it is at the very update."""

    def source_of(agent: Agent) -> RowSource:
        if source.startswith("refreshed"):
            return refreshed_rows(agent, 40 if "limited" in source else None)
        if source == "mixed":
            return MixedSource([stored_rows(), refreshed_rows(agent, None)])
        return generated_rows()

    agents = [agent_of("td3_bc", batch_size=16 if source == "mixed" else 8) for _ in range(2)]
    start = weights_of(agents[0])
    modes: tuple[CompileMode, ...] = ("off", "max")
    for agent, mode in zip(agents, modes, strict=True):
        training(agent, source_of(agent), mode).run()
    check_same(*agents, start)


def test_rows_say_how_many_of_them_depend_on_no_later_agent() -> None:
    agent = agent_of("td3_bc")
    refreshed = refreshed_rows(agent, None)
    mixed = MixedSource([generated_rows(), refreshed])
    seen = []
    for _ in range(19):
        seen.append(mixed.ready())
        mixed.sample()
    assert seen == [*range(9, 0, -1), *range(8, 0, -1), 9, 8]  # the first refresh is at 17


def test_kinds_of_calls_beyond_the_most_run_eagerly() -> None:
    calls: Counter[int] = Counter()

    def work(inputs: tuple[torch.Tensor], kind: int) -> torch.Tensor:
        calls[kind] += 1
        return inputs[0] * kind

    replayed = Replayed(work, torch.device("cuda"))
    for number in range(WARM_UP + 3):
        for kind in range(MOST_GRAPHS + 2):
            found = replayed((torch.full((2,), float(number), device="cuda"),), kind)
            assert found.tolist() == [number * kind] * 2
    assert {calls[kind] for kind in range(MOST_GRAPHS)} == {WARM_UP + 1}
    assert {calls[kind] for kind in (MOST_GRAPHS, MOST_GRAPHS + 1)} == {WARM_UP + 3}


def test_a_capture_sees_tensors_laid_out_as_the_calls_before_it_did() -> None:
    """Others would be compiled anew inside the capture, which CUDA forbids."""
    seen = []

    def work(inputs: torch.Tensor, kind: object) -> torch.Tensor:
        seen.append((inputs.stride(), inputs.storage_offset(), inputs._is_view()))
        return inputs + 1

    replayed = Replayed(work, torch.device("cuda"))
    block = torch.zeros(WARM_UP + 1, 3, 2, device="cuda")
    for part in block:
        replayed(part.T)
    assert seen == [((3, 1), 0, False)] * (WARM_UP + 1)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"num_min": 1.5, "critic_layer_norm": True},
        {"q_target_mode": "rem", "auto_alpha": False},
        {"q_target_mode": "ave"},
    ],
)
def test_the_updates_of_an_environment_step_are_one_graph(keys: dict[str, Any]) -> None:
    """Real rows come in between, and synthetic ones beside them."""
    settings = {**TINY_AGENT, "num_Q": 4, "utd_ratio": 5, "policy_update_delay": 2, **keys}
    agents, weights = [], []
    modes: tuple[CompileMode, ...] = ("off", "cudagraph")
    for mode in modes:
        config = AgentConfig(**{**settings, "compile": mode})
        agent = REDQRLPDAgent(
            config, DIMS, 0, "cuda", diffusion_buffer_size=40, diffusion_sample_ratio=0.5
        )
        rows = torch.from_numpy(random_rows(40, agent.replay.layout)).cuda()
        agent.synthetic.insert(rows)
        weights = weights_of(agent)
        for step in range(12):
            agent.replay.insert(rows[step : step + 1])
            metrics = agent.train_block()
        assert all(bool(each.isfinite().all()) for each in metrics.values())
        agents.append(agent)
    check_same(agents[0], agents[1], weights)


@pytest.mark.parametrize(("normalizer", "batches"), [("standard", 2), ("transitions", 1)])
def test_a_step_of_the_diffusion_model_is_a_graph(
    normalizer: str, batches: int, tmp_path: Path
) -> None:
    """Losses, weights and their average; and a run may go on without it."""
    options: dict[str, Any] = {"gradient_accumulate_every": batches, "ema_update_every": 3}
    modes: tuple[CompileMode, ...] = ("off", "cudagraph")
    trainers = [
        tiny_trainer(tmp_path / mode, 120, model=tiny_model(normalizer), compile=mode, **options)
        for mode in modes
    ]
    start = weights_of(trainers[0].diffusion_model)
    for each in trainers:
        each.train(110)
    plain, graphed = trainers
    moved = largest_difference(plain.diffusion_model.parameters(), start)
    for one, other in zip(
        (plain.diffusion_model, plain.ema.ema_model),
        (graphed.diffusion_model, graphed.ema.ema_model),
        strict=True,
    ):
        assert largest_difference(one.parameters(), other.parameters()) < 2e-3 * moved
    losses = [each.training_step.metrics() for each in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    graphed.save()
    for mode in modes:
        rest = tiny_trainer(
            tmp_path / "cudagraph", 120, model=tiny_model(normalizer), compile=mode, **options
        )
        assert rest.load_latest() is not None
        rest.train_on_batch(torch.from_numpy(random_rows(16)))  # another size
        assert rest.step == 111
        assert np.isfinite(rest.training_step.metrics()["loss"])


def test_a_state_that_is_loaded_into_a_trainer_with_a_graph_goes_on_as_it_does_without() -> None:
    """The graph read the tables and moments of before, which were no longer anybody's."""
    batches = [torch.from_numpy(random_rows(16, seed=seed)) for seed in range(30)]
    modes: tuple[CompileMode, ...] = ("off", "cudagraph")
    trainers = [tiny_trainer(None, 120, model=tiny_model("transitions"), compile=m) for m in modes]
    for each in trainers:
        for batch in batches[:10]:
            each.train_on_batch(batch)
        state = copy.deepcopy(each.state_dict())
        for batch in batches[10:20]:
            each.train_on_batch(batch)
        each.load_state_dict(state)
        start = weights_of(each.diffusion_model)
        for batch in batches[20:]:
            each.train_on_batch(batch)
    plain, graphed = (each.diffusion_model for each in trainers)
    moved = largest_difference(plain.parameters(), start)
    assert largest_difference(plain.parameters(), graphed.parameters()) < 1e-4 * moved
