"""The main job in a few minutes on two CPU cores; ``make demo`` runs this file.

It starts the commands that the README names, on the data set that ships inside: train a diffusion
model, sample from it, measure the samples, then train TD3+BC once on the real transitions and once
on the synthetic ones.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from synther.datasets import load_dataset

REPOSITORY = Path(os.path.relpath(Path(__file__).resolve().parents[1]))
DATASET = "hopper-demo-v0"
DIFFUSER = REPOSITORY / "synther/diffusion/train_diffuser.py"
TD3_BC = REPOSITORY / "synther/corl/algorithms/td3_bc.py"
YAML = REPOSITORY / "synther/corl/yaml/td3_bc/hopper/medium_replay_v2.yaml"
console = Console(highlight=False)


def command(script: Path, *arguments: object) -> None:
    """Show a command as a person would type it, and run it."""
    words = [str(word) for word in (script, *arguments)]
    console.print(f"\n[bold]$ {shlex.join(['python3', *words])}[/bold]", soft_wrap=True)
    done = subprocess.run([sys.executable, *words])
    if done.returncode:
        raise SystemExit(done.returncode)


def train_agent(folder: Path, name: str, updates: int, *source: object) -> Path:
    """TD3+BC on one source of transitions; the folder of its run."""
    before = set(folder.glob(f"{name}-*"))
    command(
        TD3_BC,
        *("--config", YAML),
        *("--env", DATASET),
        *("--name", name),
        *("--checkpoints_path", folder),
        *("--max_timesteps", updates),
        *("--eval_freq", updates // 2),
        *source,
    )
    (run,) = set(folder.glob(f"{name}-*")) - before
    return run


def summarise(diffusion: Path, runs: dict[str, Path]) -> Table:
    """What came out, real beside synthetic."""
    fidelity = json.loads((diffusion / "fidelity.json").read_text())
    results = {name: json.loads((run / "result.json").read_text()) for name, run in runs.items()}
    episodes = load_dataset(DATASET).metadata["episode_return"]
    table = Table(title=f"SynthER on {DATASET}", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("real", justify="right")
    table.add_column("synthetic", justify="right")
    for score in ("marginal", "correlation"):
        real, synthetic = (fidelity[rows][score] for rows in ("training", "synthetic"))
        table.add_row(f"{score} fidelity to held-out rows", f"{real:.4f}", f"{synthetic:.4f}")
    number = results["Real"]["config"]["n_episodes"]
    for key, what in (("return", "return"), ("score", "normalised score")):
        values = [results[name][f"last_{key}"][0] for name in ("Real", "SynthER")]
        table.add_row(f"TD3+BC {what}, {number} episodes", *(f"{value:.1f}" for value in values))
    table.caption = (
        f"returns in the data: mean {episodes['mean']}, best {episodes['max']}; one seed of a "
        "short run, no comparison of methods"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, sample, measure, learn.")
    parser.add_argument("--folder", type=Path, default=Path("demo_results"))
    parser.add_argument("--num_samples", type=int, default=50_000)
    parser.add_argument("--updates", type=int, default=4_000, help="of TD3+BC")
    options = parser.parse_args()
    diffusion = options.folder / "diffusion"
    samples = diffusion / "samples.npz"
    command(
        DIFFUSER,
        *("--dataset", DATASET),
        *("--gin_config_files", "config/resmlp_demo_denoiser.gin"),
        *("--results_folder", diffusion),
        *("--save_num_samples", options.num_samples),
        *("--save_file_name", samples.name),
    )
    agents = options.folder / "td3_bc"
    runs = {
        "Real": train_agent(agents, "Real", options.updates),
        "SynthER": train_agent(agents, "SynthER", options.updates, "--diffusion.path", samples),
    }
    console.print()
    console.print(summarise(diffusion, runs))
    console.print("Files and pictures:")
    for path in (
        *sorted(diffusion.glob("model-*.pt")),
        samples,
        diffusion / "fidelity.json",
        diffusion / "marginals.png",
        *(run / "result.json" for run in runs.values()),
    ):
        console.print(f"  {path}")


if __name__ == "__main__":
    main()
