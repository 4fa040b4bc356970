"""Do agents learn the same from ``fast`` samples as from ``paper`` samples of one model?

    python3 benchmarks/sampler_learning.py [--folder sampler_learning] [--workers 2]

Trains the demo's diffusion model on the shipped data set, samples from it both ways, and trains
TD3+BC and IQL on either, four seeds each. Makes what is missing in ``--folder``; results are copied
to ``benchmarks/results/sampler_learning``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from pathlib import Path

from offline_learning import SAMPLES, SEEDS, SHIPPED, UPDATES, is_trained, start, trained
from rich.console import Console
from rich.table import Table
from studies import add_workers, do_all

from synther.files import atomic
from synther.runs.commands import command_errors

RESULTS = Path(__file__).parent / "results/sampler_learning"
ALGORITHMS, SAMPLERS = ("td3_bc", "iql"), ("paper", "fast")
STEPS = 8_000
"""Of the model's training."""


def diffuser(folder: Path, log: str, *arguments: object) -> None:
    start(
        folder / f"{log}.log",
        "synther/diffusion/train_diffuser.py",
        *("--dataset", SHIPPED, "--gin_config_files", "config/resmlp_demo_denoiser.gin"),
        *("--gin_params", f"Trainer.train_num_steps={STEPS}"),
        *("--results_folder", folder / "diffusion", "--threads", 1, *arguments),
    )


def train_model(folder: Path) -> None:
    """Train the model, or go on with it, where it is not finished."""
    home = folder / "diffusion"
    if not is_trained(home, STEPS):
        resume = ["--resume"] if (home / "run.json").exists() else []
        diffuser(folder, "diffusion", "--no_save_samples", *resume)


def sample(folder: Path, sampler: str) -> Path:
    """Rows of the model, made where they are missing."""
    path = folder / "diffusion" / f"{sampler}.npz"
    if not path.exists():
        chosen = ("--load_checkpoint", "--sampler", sampler)
        rows = ("--save_num_samples", SAMPLES, "--save_file_name", path.name)
        diffuser(folder, sampler, *chosen, *rows)
    return path


def train(folder: Path, algorithm: str, sampler: str) -> None:
    """Four stacked seeds on the samples, or what is left of the run; then copy its result."""
    runs, updates = folder / "runs" / f"{algorithm}-{sampler}", UPDATES[algorithm]
    command = (
        f"synther/corl/algorithms/{algorithm}.py",
        *("--env", SHIPPED, "--name", algorithm, "--num_seeds", SEEDS),
        *("--max_timesteps", updates, "--eval_freq", updates // 5, "--n_episodes", 10),
        *("--log_every", updates // 20, "--save_checkpoints", "False"),
        *("--checkpoints_path", runs, "--precision", "bf16", "--compile", "default"),
        *("--diffusion.path", folder / "diffusion" / f"{sampler}.npz"),
    )
    finished = trained(runs, folder / "runs" / f"{algorithm}-{sampler}.log", command)
    # Where the folder was on this machine is nobody else's business.
    text = (finished / "result.json").read_text(encoding="utf-8")
    text = text.replace(str(folder), "sampler_learning")
    atomic.write_text(RESULTS / f"{algorithm}-{sampler}.json", text)


def table() -> Table:
    rows = Table("algorithm", *SAMPLERS, title="Normalised score, 4 seeds, mean +- s.e.")
    for algorithm in ALGORITHMS:
        results = [
            json.loads((RESULTS / f"{algorithm}-{sampler}.json").read_text())
            for sampler in SAMPLERS
        ]
        cells = (f"{each['mean']:.1f} +- {each['standard_error']:.1f}" for each in results)
        rows.add_row(algorithm, *cells)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("sampler_learning"))
    add_workers(parser)
    options = parser.parse_args()
    folder = options.folder.resolve()
    train_model(folder)
    do_all([functools.partial(sample, folder, sampler) for sampler in SAMPLERS], options.workers)
    pairs = itertools.product(ALGORITHMS, SAMPLERS)
    do_all([functools.partial(train, folder, *pair) for pair in pairs], options.workers)
    Console().print(table())


if __name__ == "__main__":
    with command_errors(resume=False):
        main()
