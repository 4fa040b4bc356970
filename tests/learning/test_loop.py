"""The training loop on an agent of one number: when it does what, and that it continues exactly."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.learning.evaluation import Pending
from synther.learning.journal import Evaluation
from synther.learning.learner import Agent, Metrics
from synther.learning.loop import Training
from synther.learning.timetable import Timetable
from synther.runs.loggers import read_metrics

NO_SERVICES = SimpleNamespace(
    tensorboard=False, wandb_mode=None, entity=None, project=None, group=None
)


class Walk(Agent):
    """Two members, each a number to which batch and noise are added."""

    def __init__(self) -> None:
        super().__init__("off")
        self.place = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
        self.rate = 0.0
        self.calls: list[tuple[int, Hashable]] = []

    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        return (torch.randn(updates, generator=generator),)

    def variant(self, step: int) -> Hashable:
        return step % 4 == 0

    def schedule(self, step: int) -> None:
        self.rate = 1.0 / step

    def update(self, batch: Any, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        self.calls.append((round(1 / self.rate), variant))
        self.place += self.rate * (batch + noise[0])
        return {"place": self.place.clone()}


class Counting:
    """A source of the numbers 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.count = 0

    def sample(self) -> int:
        self.count += 1
        return self.count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]

    def metrics(self, updates_per_second: float) -> dict[str, float]:
        return {"handed_out": float(self.count)}


def training(
    folder: Path | None, timetable: Timetable, *, late: int | None = None, **options: Any
) -> Training:
    """A run; its evaluations are finished when they were asked ``late`` times whether they are."""
    agent = Walk()

    def evaluate() -> Evaluation | Pending[Evaluation]:
        places = agent.place.tolist()
        found = Evaluation({"places": places}, {"eval_place": np.array(places)}, "walked")
        asked = iter(range(late or 0))
        return found if late is None else Pending(lambda: next(asked, late) == late, lambda: found)

    return Training(
        agent,
        Counting(),
        evaluate,
        timetable,
        seeds=[3, 7],
        device=torch.device("cpu"),
        config={"key": 1},
        logs=NO_SERVICES,  # type: ignore[arg-type]
        name="walk",
        folder=folder,
        **options,
    )


def test_what_is_due_happens_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    run = training(tmp_path, Timetable(11, 4, 5, 3), keep_all=True)
    run.run()
    assert [each["step"] for each in run.evaluations] == [5, 10, 11]
    assert list(checkpoint.steps(tmp_path, "checkpoint")) == [3, 6, 9, 11]
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [each["step"] for each in records if "place/s3" in each] == [4, 8, 11]
    assert [each["handed_out"] for each in records if "place/s3" in each] == [4, 8, 11]
    assert [each["step"] for each in records if "eval_place/s7" in each] == [5, 10, 11]


def test_no_evaluation_but_the_last_and_no_checkpoint_but_the_newest(tmp_path: Path) -> None:
    run = training(tmp_path, Timetable(10, 100, 0, 4))
    run.run()
    assert [each["step"] for each in run.evaluations] == [10]
    assert list(checkpoint.steps(tmp_path, "checkpoint")) == [10]


@given(
    total=st.integers(1, 60),
    every=st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(1, 20)),
    data=st.data(),
)
def test_the_next_step_at_which_something_is_due(
    total: int, every: tuple[int, int, int], data: st.DataObject
) -> None:
    table = Timetable(total, *every)
    step = data.draw(st.integers(0, total - 1))
    later = range(step + 1, total + 1)
    assert table.next_due(step) == next(
        each for each in later if any(table.is_due(one, each) for one in every)
    )


def test_an_update_takes_the_schedule_and_the_variant_of_its_step() -> None:
    run = training(None, Timetable(8, 100, 0, 100, update_every=2))
    run.run()
    assert run.agent.calls == [(2, False), (4, True), (6, False), (8, True)]


class Interrupted(Exception):
    pass


def interrupt_at(run: Training, step: int) -> None:
    sample = run.source.sample

    def failing() -> Any:
        if run.step == step:
            raise Interrupted
        return sample()

    run.source.sample = failing  # type: ignore[method-assign]


def records_of(folder: Path) -> list[dict[str, Any]]:
    left_out = ("time", "updates_per_second")
    records = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in left_out} for record in records]


def final_state(folder: Path) -> dict[str, Any]:
    path = checkpoint.latest(folder, "checkpoint")
    assert path is not None
    state = checkpoint.load(path)
    return {key: value for key, value in state.items() if key != "seconds"}


@pytest.mark.parametrize("cut_at", [7, 5, 9])
@pytest.mark.parametrize(("late", "later"), [(None, None), (1, 1), (100, 100), (100, None), (0, 2)])
def test_a_run_continues_from_its_newest_checkpoint_bit_for_bit(
    cut_at: int, late: int | None, later: int | None, tmp_path: Path
) -> None:
    """Also one whose checkpoint was written while its step was evaluated; whether that evaluation
    was in the log already (as at 7 with late 1) or not, and wherever the rest is evaluated."""
    table = Timetable(9, 1, 4, 4)
    whole = training(tmp_path / "whole", table)
    whole.run()
    first = training(tmp_path / "cut", table, late=late)
    interrupt_at(first, cut_at)
    with pytest.raises(Interrupted):
        first.run()
    again = training(tmp_path / "cut", table, late=later)
    assert again.resume()
    assert again.step == 4 * ((cut_at - 1) // 4)
    again.run()
    assert torch.equal(again.agent.place, whole.agent.place)  # type: ignore[arg-type]
    assert again.evaluations == whole.evaluations
    assert records_of(tmp_path / "cut") == records_of(tmp_path / "whole")
    assert str(final_state(tmp_path / "cut")) == str(final_state(tmp_path / "whole"))


def test_training_goes_on_while_an_evaluation_is_under_way(tmp_path: Path) -> None:
    """Its record, and those of later steps behind it, are written as soon as it is finished; the
    next evaluation and a checkpoint wait for it."""
    written: dict[int, list[int]] = {}
    for late in (1, 3, 100):
        run = training(tmp_path / str(late), Timetable(12, 1, 8, 5), late=late)
        update = run.update

        def watched(*given: Any, run: Training = run, update: Any = update) -> Metrics:
            if run.step == 10:
                steps = [each["step"] for each in records_of(run.folder)]  # type: ignore[arg-type]
                written[late] = steps  # noqa: B023
            return update(*given)

        run.update = watched
        run.run()
    assert written == {1: [*range(1, 9), 8, 9], 3: [*range(1, 9)], 100: [*range(1, 9)]}
    plain = training(tmp_path / "plain", Timetable(12, 1, 8, 5))
    plain.run()
    for late in (1, 3, 100):
        assert records_of(tmp_path / str(late)) == records_of(tmp_path / "plain")


def test_an_evaluation_that_fails_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    run = training(tmp_path, Timetable(9, 1, 4, 4))

    def failing() -> Evaluation:
        raise ValueError("the environment broke")

    run.evaluate = lambda: Pending(lambda: run.step > 5, failing)
    with pytest.raises(ValueError, match=r"^the environment broke$"):
        run.run()
    assert run.step == 6
    assert list(checkpoint.steps(tmp_path, "checkpoint")) == [4]


def test_there_is_nothing_to_continue_in_an_empty_folder(tmp_path: Path) -> None:
    assert not training(tmp_path, Timetable(9, 1, 4, 4)).resume()
    assert not training(None, Timetable(9, 1, 4, 4)).resume()


def test_a_checkpoint_of_something_else_is_refused_by_its_name(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint-5.pt", {"step": 5, "seconds": 1.0, "evaluations": []})
    with pytest.raises(CheckpointError, match=r"checkpoint-5\.pt: not a checkpoint of this run"):
        training(tmp_path, Timetable(9, 1, 4, 4)).resume()


def test_a_number_that_is_not_finite_names_the_metric_and_the_seed(tmp_path: Path) -> None:
    run = training(tmp_path, Timetable(9, 3, 0, 9))
    update = run.update

    def spoiled(*given: Any) -> Metrics:
        metrics = update(*given)
        metrics["place"][1] = float("nan")
        return metrics

    run.update = spoiled
    with pytest.raises(DivergedError, match="place of seed 7 is not finite, seen at step 3"):
        run.run()
    assert not checkpoint.steps(tmp_path, "checkpoint")
