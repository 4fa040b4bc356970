"""What is said about a data set: the answers, how often such are right, and what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from synther.advise.calibration import AGENT_UPDATES, Times
from synther.advise.features import Features
from synther.advise.study import Answer, Score
from synther.advise.table import Cell
from synther.upsampling.config import UpsampleConfig

SYNTHETIC_SHARE = {"new": 1.0, "2023": 1.0, "mixed": 0.5}
"""Of every batch, by the kind of rows."""
ROWS = {
    "new": "samples alone",
    "2023": "samples of a 2023 model alone",
    "mixed": "half real rows, half samples",
}


@dataclass(frozen=True)
class Advice:
    """Everything that is said about a data set.

    Args:
        features: of the data.
        answers: of the study's near cells, one at least.
        score: of such answers on the study's own cells.
        config: the suggested settings of the model.
        times: what that takes here.
    """

    features: Features
    answers: Sequence[Answer]
    score: Score
    config: UpsampleConfig
    times: Times

    @property
    def best(self) -> Answer | None:
        """The answer that says help with the largest mean gain; None where none does."""
        helping = [answer for answer in self.answers if answer.word == "help"]
        return max(helping, key=lambda answer: answer.gain, default=None)

    def table(self) -> Table:
        """An answer a row, with the cells that it comes from."""
        shown = Table(title="What the study saw for the nearest cells", box=SIMPLE_HEAD)
        for heading in ("algorithm", "rows", "answer", "nearest cells: distance, gain (95 %)"):
            shown.add_column(heading, overflow="fold")
        for answer in self.answers:
            cells = [_line(far, cell) for far, cell in answer.cells]
            word: str = "no difference seen" if answer.word == "neither" else answer.word
            if len(answer.cells) == 1:
                word += " (one cell)"
            shown.add_row(answer.algorithm, ROWS[answer.kind], word, "\n".join(cells))
        return shown

    def description(self) -> str:
        """The features in a sentence."""
        known = self.features
        parts = [
            f"{known.rows} rows of {known.columns} columns",
            "episodes unknown" if known.episodes is None
            else f"{known.episodes or 'no'} whole episodes",
        ]  # fmt: skip
        if known.return_spread is not None:
            parts.append(f"return spread {known.return_spread:.2f}")
        parts.append(f"terminal in {known.terminal_rate:.2%} of the rows")
        parts.append(f"the most frequent reward in {known.sparsity:.0%}")
        if known.pilot_error is not None:
            parts.append(f"pilot's error {known.pilot_error:.2f} times a regression's")
        if known.pilot_difference is not None:
            parts.append(f"its samples told from real ones with an area of "
                         f"{known.pilot_difference:.2f}")  # fmt: skip
        return ", ".join(parts)

    def suggestion(self) -> str:
        """What to do, in a sentence or two, as far as the table goes."""
        best = self.best
        if best is None:
            harmful = [answer for answer in self.answers if answer.word == "harm"]
            warned = "; the study saw harm from " + ", ".join(
                sorted({ROWS[answer.kind] for answer in harmful})
            ) if harmful else ""  # fmt: skip
            text = f"learn from the real rows; {self._seen()}{warned}"
        else:
            config = self.config
            text = (
                f"a synthetic share of {SYNTHETIC_SHARE[best.kind]:g} ({ROWS[best.kind]}) for "
                f"{best.algorithm}, from a model of width {config.width}, {config.num_layers} "
                f"layers, {config.steps} steps and batches of {config.batch_size}"
            )
            width, steps = best.model
            if (config.width, config.steps) != best.model:  # as with many rows, or on a GPU
                text += f"; the study's models had width {width} and {steps} steps"
        if self.score.right <= self.score.constant:
            text += (
                ". On the study's own cells such answers do no better than one word for all: "
                "read them as what was seen nearby, not as a forecast"
            )
        return text

    def _seen(self) -> str:
        """What the near cells saw that no answer says."""
        cells = [cell for each in self.answers if each.word == "neither" for _, cell in each.cells]
        counts = {word: sum(cell.verdict == word for cell in cells) for word in ("help", "harm")}
        seen = " and ".join(f"{count} saw {word}" for word, count in counts.items() if count)
        if not seen:
            return "near cells show no help from synthetic ones"
        return f"of {len(cells)} near cells {seen}, too few or too far for an answer"

    def duration(self) -> str:
        """The time that it all takes here."""
        times = self.times
        return (
            f"model {_duration(times.model)}, what makes its samples consistent "
            f"{_duration(times.last_stage)}, {self.features.rows} samples "
            f"{_duration(times.samples)}, {AGENT_UPDATES} updates of TD3+BC "
            f"{_duration(times.agent)} without evaluations"
        )

    def unknown(self) -> str:
        """What the advice cannot know."""
        known = self.features.place()
        missing = [name.replace("_", " ") for name in
                   ("episodes", "return_spread", "pilot_error", "pilot_difference")
                   if name not in known]  # fmt: skip
        near = [cell for answer in self.answers for _, cell in answer.cells]
        seeds = sorted({cell.seeds for cell in near})
        models = sorted({cell.replicates for cell in near})
        text = (
            "whether your task is like those of the study in anything but these numbers; agents, "
            "sizes and lengths of training other than the study's; rows that are not, as the "
            "study's are, drawn at random from many episodes; whether you can keep the best of an "
            "agent's evaluations, which leaves less to gain with few rows than the study's last "
            "ones show; and chance, since each cell is "
            f"{' or '.join(map(str, seeds))} agents on the samples of "
            f"{'one model' if models == [1] else ' or '.join(map(str, models)) + ' models'}"
        )
        return f"{', '.join(missing)} of these data; {text}" if missing else text


def _line(far: float, cell: Cell) -> str:
    """What a cell at this distance saw; the ends of its models' gains, where it has several."""
    text = f"{cell.data} {cell.share} %: {far:.2f}, {cell.gain:+.1f} "
    text += f"({cell.low:+.1f} to {cell.high:+.1f})"
    if cell.replicates > 1:
        ends = f"{min(cell.gains):+.1f} to {max(cell.gains):+.1f}"
        text += f"; its {cell.replicates} models {ends}"
    return text


def _duration(seconds: float) -> str:
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
