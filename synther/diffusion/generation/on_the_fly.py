"""A saved diffusion model can be a source of rows that training generates when it needs them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from synther.diffusion.conditioning.policy import STRENGTH, Policy
from synther.diffusion.generation.consistency import Consistency
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.generation.presets import network_calls
from synther.diffusion.model_io import load_model
from synther.diffusion.provenance import Provenance
from synther.diffusion.successors import stored
from synther.runs.bars import duration
from synther.runs.runtime import cpu_threads
from synther.runs.settings import ConfigError
from synther.transitions import TransitionError, TransitionLayout

_SILENT = contextlib.nullcontext()
DEAR = 0.5
"""Seconds for a thousand rows, from which on a file of samples is advised."""
FEW = 4
"""Network calls after which it is known what the rows will cost; the first of them, which may have
to wait for memory, does not count."""


class _FirstRows:
    """Shows the making of the first rows on a CPU, which may take minutes, and says its cost."""

    def __init__(self, path: str | os.PathLike[str], instead: str = "") -> None:
        self.path, self.instead = Path(path), instead

    @contextlib.contextmanager
    def making(self, count: int, calls: int, network: torch.nn.Module) -> Iterator[None]:
        """A bar of the network's calls, ``calls`` of them for ``count`` rows."""
        began = time.perf_counter()
        first = 0.0

        def count_call(done: int) -> None:
            nonlocal first
            now = time.perf_counter()
            if done == 1:
                first = now
            if done == min(FEW, calls):
                seconds = (now - began) if calls == 1 else (now - first) / (done - 1) * calls
                self._advise(count, seconds)

        with _calls_shown(f"{count} rows of {self.path.name}", calls, network, count_call):
            yield

    def probing(
        self, calls: int, network: torch.nn.Module
    ) -> contextlib.AbstractContextManager[None]:
        """A bar of the calls for the rows by which their last stage is made."""
        return _calls_shown(f"a look at rows of {self.path.name}", calls, network, lambda _: None)

    def _advise(self, count: int, seconds: float) -> None:
        thousand = 1000 * seconds / count
        if self.instead and thousand > DEAR:
            tqdm.write(
                f"{self.path}: these {count} rows take about {duration(seconds)} on this CPU, a "
                f"thousand {thousand:.2g} s, and each of them is used once. {self.instead}",
                file=sys.stderr,
            )


def _cheaper(path: Path, refreshed: bool) -> str:
    """What costs less than rows that are used once."""
    if refreshed:
        return (
            "With --diffusion.sample_limit N, N rows are used again and again until they are made "
            "anew."
        )
    return (
        "Samples in a file are made once and used as often as you like: "
        f"synther train --load_checkpoint --results_folder {path.parent} --save_num_samples "
        "1000000 (with the --dataset of the model), then --diffusion.path with that file."
    )


@contextlib.contextmanager
def _calls_shown(
    title: str, calls: int, network: torch.nn.Module, then: Callable[[int], None]
) -> Iterator[None]:
    """A bar of ``calls`` calls of the network; ``then`` is told the number of each."""
    bar = tqdm(desc=title, total=calls, unit="call", file=sys.stderr)

    def count_call(*_: object) -> None:  # what a hook returns takes the output's place
        if bar.n < calls:  # more of them are of the few rows that are drawn again
            bar.update()
            then(bar.n)

    hook = network.register_forward_hook(count_call)
    try:
        with bar:
            yield
    finally:
        hook.remove()


@dataclass(eq=False)
class ModelRows:
    """Generates rows of a model when called: (n, generator) -> rows ``[n, 2 O + A + 2]``, guided to
    a policy where one is given.

    Args:
        generator: of rows of the model.
        path: the model's file, for messages.
        threads: CPU threads while it generates.
        said: shows the making of the first rows, where they may take long.
    """

    generator: SimpleDiffusionGenerator
    path: str
    threads: int
    said: _FirstRows | None = None

    @property
    def trained_on(self) -> Provenance | None:
        """What the model's file says of its data."""
        found: Provenance | None = self.generator.model.trained_on
        return found

    def __call__(
        self,
        count: int,
        noise: torch.Generator,
        policy: Policy | None = None,
        strength: float = STRENGTH,
    ) -> Tensor:
        try:
            with cpu_threads(self.threads), self._showing(count):
                rows = self.generator.sample_rows(
                    count, noise, policy=policy, policy_strength=strength
                )
            self.said = None
            return rows
        except SamplingError as error:
            raise TransitionError(f"{self.path}: {error}") from error

    def _showing(self, count: int) -> contextlib.AbstractContextManager[None]:
        if self.said is None:
            return _SILENT
        model = self.generator.model
        calls = network_calls(model, self.generator.num_sample_steps)
        if self.generator.consistency != "off":  # the price is of the rows alone
            with self.said.probing(calls, model.net):
                self.generator.last_stage()
        return self.said.making(count, calls, model.net)


def rows_of_model(
    path: str | os.PathLike[str],
    layout: TransitionLayout,
    device: torch.device | str,
    *,
    num_steps: int,
    sampler: str | None = None,
    consistency: Consistency | None = None,
    threads: int = 0,
    kept: bool = False,
    refreshed: bool = False,
) -> ModelRows:
    """A function that generates rows of ``layout`` with the model in ``path``.

    Args:
        path: ``model-{step}.pt``; its rows may lack the terminal column, which is then 0.
        layout: the layout of the rows that the agent learns from.
        device: the device that the model runs and the rows appear on.
        num_steps: the number of sampler steps, where ``sampler`` is not a preset with its own.
        sampler: the name of a preset or a sampler, see ``synther.diffusion.generation.presets``.
        consistency: whether rows are made consistent by the ensemble in the file, see
            ``consistency.py``; None: where there is one.
        threads: CPU threads while it generates; 0, every core, suits the denoiser's large products.
        kept: whether rows are used again and again, so that a file of them would be no cheaper.
        refreshed: whether they follow the agent, which those of a file cannot.

    Raises:
        CheckpointError: no such file, not a diffusion model, or one of rows of other columns.
        TransitionError: from the returned function, rows that are not finite.
        ConfigError: no such sampler, or no ensemble in the file that rows could be made consistent
            with.
    """
    loaded = load_model(path, device)
    own = loaded.layout_for(layout.observation_dim, layout.action_dim)
    ensemble = stored.load(path, device)
    wanted: Consistency = consistency or ("ensemble" if ensemble else "off")
    if wanted == "ensemble" and ensemble is None:
        raise ConfigError(
            f"diffusion.consistency is 'ensemble', and there is no ensemble in {path}: sample from "
            "it once with train_diffuser.py --load_checkpoint --consistency ensemble, or say 'off'"
        )
    try:
        generator = SimpleDiffusionGenerator(
            own, loaded.model, num_steps, sampler=sampler, consistency=wanted, ensemble=ensemble
        )
    except ValueError as error:
        raise ConfigError(f"diffusion.sampler: {error}") from None
    said = None
    if torch.device(device).type == "cpu":
        said = _FirstRows(path, "" if kept else _cheaper(Path(path), refreshed))
    return ModelRows(generator, os.fspath(path), threads, said)
