"""Quality of samples against network calls: samplers x steps x schedule x precision.

    python3 benchmarks/sampler_study.py --model NAME model.pt DATA_SET [--model ...] --seeds 0
    python3 benchmarks/sampler_study.py --model ... --seeds 0 1 2 3 4 --settings paper restart-8-2x3

Each setting draws ``--rows`` rows from each model, and one JSON line goes to ``--output``: the
similarity of marginals and correlations to held-out real rows, the sliced Wasserstein distance to
them, and the error of the dynamics in the simulator; of a data set of ``known_law.py``, whose rows
are noisy, how far the noise of next observations and rewards is from the law's. What the file
already holds is not measured again, so that an interrupted study continues. ``sampler_verdict.py``
judges.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import known_law
import numpy as np
from sampler_verdict import read

from synther.datasets import load_dataset
from synther.diffusion.fidelity.dynamics import dynamics_error
from synther.diffusion.fidelity.held_out import split_like_training
from synther.diffusion.fidelity.report import compare
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.generation.presets import Preset
from synther.diffusion.model_io import load_model
from synther.runs.commands import command_errors
from synther.runs.runtime import cpu_threads
from synther.transitions import FIELDS, Transitions

Record = dict[str, Any]


def restart(
    steps: int, count: int, inner: int, low: float = 0.1, high: float = 0.5, **changes: Any
) -> Preset:
    """``steps`` of the ODE down to ``low``, ``count`` restarts from ``high`` of ``inner`` steps,
    one last denoising; with ``end``, ``steps`` in all, the last of them at that level."""
    params = {
        "restart_low": low,
        "restart_high": high,
        "restart_count": count,
        "restart_steps": inner,
        "S_noise": changes.pop("S_noise", 1.0),
    }
    if "end" in changes:
        return Preset("restart", steps, sigma_min=changes.pop("end"), params=params, **changes)
    return Preset("restart", steps + 1, sigma_min=low, params=params, **changes)


def settings() -> dict[str, Preset]:
    """Everything that is tried, by name."""
    churn = {"S_churn": 80.0, "S_tmin": 0.05, "S_tmax": 50.0, "S_noise": 1.003}
    found = {"paper": Preset("heun_stochastic", 128, params=churn)}
    found["paper-bf16"] = Preset("heun_stochastic", 128, params=churn, precision="bf16")
    for steps in (16, 32, 64):
        found[f"heun_stochastic-{steps}"] = Preset("heun_stochastic", steps, params=churn)
    for steps in (8, 16, 32, 64):
        found[f"heun_deterministic-{steps}"] = Preset("heun_deterministic", steps)
    for steps in (8, 12, 16, 25, 50):
        found[f"dpmpp_2m-{steps}"] = Preset("dpmpp_2m", steps)
    for steps in (8, 12, 16, 25, 50):
        found[f"dpmpp_3m-{steps}"] = Preset("dpmpp_3m", steps)
    for steps in (16, 25, 50, 100):
        found[f"dpmpp_2m_sde-{steps}"] = Preset("dpmpp_2m_sde", steps, params={"S_noise": 1.0})
    # The schedule of the ODE: its spacing and its range.
    for rho in (3.0, 5.0):
        found[f"dpmpp_2m-16-rho{rho:g}"] = Preset("dpmpp_2m", 16, rho=rho)
    for sigma_max in (20.0, 40.0):
        found[f"dpmpp_2m-16-max{sigma_max:g}"] = Preset("dpmpp_2m", 16, sigma_max=sigma_max)
    for sigma_min in (0.02, 0.05):
        found[f"dpmpp_2m-16-min{sigma_min:g}"] = Preset("dpmpp_2m", 16, sigma_min=sigma_min)
    # Restarts: steps before them, how many of how many steps, and where.
    for steps, count, inner in (
        *((14, 4, 3), (14, 3, 3), (12, 4, 3), (12, 4, 2), (10, 4, 3), (10, 2, 3)),
        *((10, 1, 4), (8, 4, 2), (8, 2, 3), (8, 3, 2), (7, 3, 2), (6, 4, 2), (6, 2, 3), (6, 8, 2)),
        *((7, 4, 2), (10, 4, 2), (8, 5, 2), (8, 3, 3), (9, 3, 2)),
    ):
        found[f"restart-{steps}-{count}x{inner}"] = restart(steps, count, inner)
    for low, high in ((0.05, 0.3), (0.05, 0.5), (0.1, 0.3), (0.1, 1.0), (0.2, 0.5), (0.2, 1.0)):
        found[f"restart-10-4x3-{low:g}to{high:g}"] = restart(10, 4, 3, low, high)
        found[f"restart-8-3x2-{low:g}to{high:g}"] = restart(8, 3, 2, low, high)
    for high in (0.4, 0.6, 0.8):
        found[f"restart-8-4x2-0.1to{high:g}"] = restart(8, 4, 2, 0.1, high)
    found["restart-8-4x2-S1.003"] = restart(8, 4, 2, S_noise=1.003)
    found["restart-8-4x2-bf16"] = restart(8, 4, 2, precision="bf16")
    found["restart-8-3x2-S1.003"] = restart(8, 3, 2, S_noise=1.003)
    found["restart-8-3x2-max40"] = restart(8, 3, 2, sigma_max=40.0)
    for steps in (8, 9):
        name = f"restart-{steps}-3x2-max40-bf16"
        found[name] = restart(steps, 3, 2, sigma_max=40.0, precision="bf16")
    for steps, count, inner in ((8, 3, 2), (9, 3, 2), (10, 3, 2), (12, 3, 2), (10, 4, 3)):
        name = f"restart-{steps}-{count}x{inner}"
        found[name] = restart(steps, count, inner)
        found[f"{name}-bf16"] = restart(steps, count, inner, precision="bf16")
    for high in (0.6, 0.7):
        name = f"restart-9-3x2-0.1to{high:g}-bf16"
        found[name] = restart(9, 3, 2, 0.1, high, precision="bf16")
    # That end where a small spread of the data is kept.
    for steps, count, inner, low, high in (
        *((22, 3, 3, 0.1, 0.5), (22, 2, 4, 0.1, 0.5), (22, 1, 4, 0.1, 0.5)),
        *((20, 1, 4, 0.2, 0.7), (20, 2, 4, 0.2, 0.7)),
    ):
        name = f"restart-{steps}-{count}x{inner}-{low:g}to{high:g}-end0.005"
        found[name] = restart(steps, count, inner, low, high, end=0.005)
    found["dpmpp_2m-20-min0.005"] = Preset("dpmpp_2m", 20, sigma_min=0.005)
    return found


class Subject:
    """A trained model and the real rows to measure it against."""

    def __init__(self, name: str, checkpoint: str, data_set: str) -> None:
        self.name = name
        self.model = load_model(checkpoint)
        data = load_dataset(data_set)
        self.env_id = data.metadata.get("env_id")
        self.real = data
        self.held_out = split_like_training(data, [checkpoint]).held_out

    def measure(self, preset: Preset, seed: int, rows: int, simulated: int) -> Record:
        """The metrics of ``rows`` rows of the model, sampled as the preset says."""
        layout = self.model.layout
        assert layout is not None
        model = preset.applied_to(self.model.model)
        generator = SimpleDiffusionGenerator(
            layout, model, preset.num_sample_steps, precision=preset.precision
        )
        start = time.perf_counter()
        arrays = generator.sample(rows, seed)
        seconds = time.perf_counter() - start
        synthetic = Transitions(**dict(zip(FIELDS, arrays, strict=True)))
        noise = {}
        if self.real.metadata.get("source") == known_law.SOURCE:
            noise = noise_errors(synthetic)
        similar = compare(self.held_out, synthetic, terminals=layout.terminals)
        dynamics = dynamics_error(
            synthetic, self.env_id, units=self.real, rows=simulated, seed=seed
        )
        return {
            "seconds": round(seconds, 2),
            "marginal": similar.marginal,
            "correlation": similar.correlation,
            "rank_correlation": similar.rank_correlation,
            "wasserstein": similar.sliced_wasserstein,
            "dynamics_mse": dynamics.next_observation,
            "dynamics_median": dynamics.median,
            "reward_mse": dynamics.reward,
            **noise,
        }


def noise_errors(synthetic: Transitions) -> Record:
    """How far the root mean square of what the rows differ from the law by, in its own standard
    deviations, is from 1: lost noise and wrong means alike show."""
    found = known_law.residuals(synthetic)
    spread = {name: float(np.sqrt(np.mean(np.square(each)))) for name, each in found.items()}
    return {f"noise_{name}": abs(value - 1) for name, value in spread.items()}


def missing(
    records: Sequence[Record], names: Sequence[str], models: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[str, str, int]]:
    """(setting, model, seed) that are still to be measured."""
    done = {(each["setting"], each["model"], each["seed"]) for each in records}
    for seed in seeds:
        for name in names:
            for model in models:
                if (name, model, seed) not in done:
                    yield name, model, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--model",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "CHECKPOINT", "DATA_SET"),
        help="a model.pt and the data set that it was trained on; may be repeated",
    )
    parser.add_argument("--settings", nargs="*", help="names; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--simulated", type=int, default=2_000, help="rows taken in the simulator")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results/sampler_study.jsonl"
    )
    arguments = parser.parse_args()
    presets = settings()
    names = arguments.settings or list(presets)
    if unknown := set(names) - set(presets):
        parser.error(f"--settings {' '.join(sorted(unknown))}: there are {', '.join(presets)}")
    subjects = {name: Subject(name, *paths) for name, *paths in arguments.model}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    todo = list(missing(read(arguments.output), names, list(subjects), arguments.seeds))
    with cpu_threads(arguments.threads), open(arguments.output, "a", buffering=1) as file:
        for name, model, seed in todo:
            preset = presets[name]
            measured = subjects[model].measure(preset, seed, arguments.rows, arguments.simulated)
            record = {
                "setting": name,
                "model": model,
                "seed": seed,
                "rows": arguments.rows,
                "calls": preset.network_calls,
                **{k: round(v, 6) if isinstance(v, float) else v for k, v in measured.items()},
                "preset": {**asdict(preset), "params": dict(preset.params)},
            }
            file.write(json.dumps(record) + "\n")
            print(name, model, seed, record["calls"], record["seconds"], flush=True)


if __name__ == "__main__":
    with command_errors(resume=False):
        main()
