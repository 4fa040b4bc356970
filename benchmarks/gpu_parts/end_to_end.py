"""From a data set to an agent, by the commands that people type."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from gpu_parts.check import Check
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.command import command
from synther.diffusion import train_diffuser
from synther.runs.loggers import read_metrics
from synther.transitions import Transitions

DATA = "hopper-demo-v0"  # ships with the project


def run(check: Check) -> None:
    """A model and its samples; TD3+BC on these, and on rows that the model generates on the fly."""
    steps = 10 if check.is_emulated else 1000 if check.mode == "quick" else 4000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _diffuser(check, folder / "model", steps)
        samples = Transitions.load(folder / "model" / "samples.npz")
        finite = all(np.isfinite(each).all() for each in samples.arrays().values())
        check.expect(finite, "a sample is not finite")
        losses = [each.get("loss") for each in read_metrics(folder / "model" / "metrics.jsonl")]
        kept = [float(each) for each in losses if each is not None]
        check.note("denoiser's loss, first and last", f"{kept[0]:.3f}, {kept[-1]:.3f}")
        if not check.is_emulated:  # there the steps are too few to learn anything
            check.expect(kept[-1] < 0.9 * kept[0], "the denoiser's loss did not fall")
        if importlib.util.find_spec("mujoco") is None:
            check.note("TD3+BC", "left out: its evaluation needs mujoco")
            return
        for what, source in (("samples", "samples.npz"), ("on the fly", f"model-{steps}.pt")):
            result = _agent(check, folder, what, str(folder / "model" / source))
            check.expect(result, f"TD3+BC on {what} did not end with finite weights")


def _diffuser(check: Check, folder: Path, steps: int) -> None:
    tiny = check.is_emulated
    train_diffuser.main([
        *("--dataset", DATA, "--results_folder", str(folder), "--device", str(check.device)),
        *("--gin_config_files", "config/resmlp_demo_denoiser.gin"),
        *("--gin_params", f"Trainer.train_num_steps = {steps}"),
        f"ResidualMLPDenoiser.mlp_width = {16 if tiny else 512}",
        f"Trainer.log_every = {max(steps // 20, 1)}",
        f"SimpleDiffusionGenerator.num_sample_steps = {3 if tiny else 64}",
        *("--save_num_samples", "300" if tiny else "100000", "--save_file_name", "samples.npz"),
    ])  # fmt: skip


def _agent(check: Check, folder: Path, what: str, source: str) -> bool:
    """Whether the run ended, which it does with finite weights alone."""
    updates = "6" if check.is_emulated else "3000"
    command(TD3BCConfig, TD3BC, [
        *("--env", DATA, "--device", str(check.device), "--name", what.replace(" ", "_")),
        *("--diffusion.path", source, "--diffusion.num_steps", "3" if check.is_emulated else "32"),
        *("--diffusion.batch_parallelism", "2" if check.is_emulated else "100"),
        *("--max_timesteps", updates, "--eval_freq", updates, "--n_episodes", "1"),
        *("--network_width", "8" if check.is_emulated else "256"),
        *("--compile", "off" if check.is_emulated else "cudagraph"),
        *("--checkpoints_path", str(folder / "runs")),
    ])  # fmt: skip
    return any((folder / "runs").glob(f"{what.replace(' ', '_')}-*/result.json"))
