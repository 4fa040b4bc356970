"""The recipe takes pixels from data to a comparison of fine-tuned heads, in one command.

    python3 synther/pixels/drq_bc.py --recipe --config config/pixels/cartpole_swingup.yaml \
        --root runs/vd4rl --folder runs/cartpole_pixels \
        --recipe.collect_agent online_logs/SAC_cartpole-swingup-v0/SAC_cartpole-swingup-v0_s0

For each of ``recipe.seeds`` the folder then holds ``seed-{n}/`` with ``agent``, ``latents.npz``,
``diffusion`` (with ``samples.npz`` and ``fidelity.json``) and the fine-tuned heads ``real``,
``synthetic`` and ``mixed``; ``results.json`` and ``results.md``, renewed after every step, compare
their returns. The same command again goes on where an interrupted one stood.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synther.diffusion import train_diffuser
from synther.envs.pixels import PixelSettings
from synther.files import atomic, checkpoint
from synther.pixels.collect import Behaviour, collect, data_folder, load_state_policy
from synther.pixels.config import PixelConfig
from synther.pixels.encode import encode
from synther.pixels.stages import train
from synther.runs.folder import RunFolder, RunFolderError
from synther.runs.lock import FolderLock
from synther.runs.settings import as_dict

STAGES = ("before", "real", "synthetic", "mixed")


def run_recipe(config: PixelConfig) -> dict[str, Any]:
    """All steps that are not done yet; what ``results.json`` holds: a list ``seeds`` of returns by
    stage and fidelity of the latents, and ``mean`` and ``standard_error`` of each stage.

    Raises:
        ValueError: no folder.
        RunFolderError: the recipe in it has other settings, and may have used them.
    """
    if config.path is None:
        raise ValueError("--recipe needs --folder, for its runs")
    rows: list[dict[str, Any]] = []
    results: dict[str, Any] = {}
    with FolderLock(config.path) as lock:
        lock.acquire()
        _remember(config, config.path)
        if config.recipe.collect_agent is not None:
            _collect(config, Path(config.recipe.collect_agent))
        for seed in config.recipe.seeds:
            rows.append({"seed": seed})
            for found in _Seed(config, seed).steps():
                rows[-1] |= found
                results = write_results(config.path, rows)
    sys.stdout.write((config.path / "results.md").read_text(encoding="utf-8"))
    return results


def _remember(config: PixelConfig, path: Path) -> None:
    """Keep the recipe's settings, or compare them with those that the folder has: a step that is
    done is not done again, and its result would be taken for one of the new settings."""
    given = {key: each for key, each in as_dict(config).items() if key.startswith("recipe.")}
    del given["recipe.seeds"]  # more of them are more runs
    folder = RunFolder(path, "recipe.json", given)
    if not folder.file.exists():
        folder.write_settings()
    elif differing := folder.differences():
        said = "; ".join(f"{key}: then {then}, now {now}" for key, (then, now) in differing.items())
        raise RunFolderError(
            f"{folder.file}: this folder's recipe was begun with other settings ({said}); give it "
            "these, or choose another --folder"
        )


def _collect(config: PixelConfig, agent: Path) -> None:
    env_id = config.seen({}).env_id
    folder = data_folder(Path(config.root), env_id, config.level, config.image_size)
    settings = PixelSettings(
        env_id, config.image_size, config.frame_stack, config.action_repeat,
        rendering=config.rendering,
    )  # fmt: skip
    recipe = config.recipe
    behaviour = Behaviour(load_state_policy(agent), recipe.collect_noise, recipe.collect_random)
    collect(folder, settings, behaviour, frames=recipe.collect_frames, seed=0)


class _Seed:
    """The steps of one seed."""

    def __init__(self, config: PixelConfig, seed: int) -> None:
        assert config.path is not None
        self.folder = config.path / f"seed-{seed}"
        self.config = replace(config, seed=seed, resume=True)

    def steps(self) -> Any:
        """Each finding as soon as it is there."""
        agent, latents = self.folder / "agent", self.folder / "latents.npz"
        diffusion, samples = self.folder / "diffusion", self.folder / "diffusion" / "samples.npz"
        # A longer agent would have other latents than those that are there.
        result = train(replace(self.config, folder=str(agent)), lengthen=False)
        yield {"before": result["return_mean"]}
        if not latents.is_file():
            encode(str(agent), latents, root=self.config.root, threads=self.config.threads)
        yield {"real": self._finetune("real", latents)}
        if not (diffusion / "fidelity.json").is_file():
            self._diffuse(latents, diffusion)
        yield {"fidelity": _fidelity(diffusion / "fidelity.json")}
        yield {"synthetic": self._finetune("synthetic", samples)}
        if self.config.recipe.mix:
            mixed = {"mix": self.config.recipe.mix, "latents": str(latents)}
            yield {"mixed": self._finetune("mixed", samples, **mixed)}

    def _finetune(self, name: str, path: Path, **given: Any) -> float:
        config = replace(
            self.config,
            folder=str(self.folder / name),
            load_agent=str(self.folder / "agent"),
            diffusion=replace(self.config.diffusion, path=str(path)),
            max_timesteps=self.config.recipe.finetune_timesteps,
            **given,
        )
        return float(train(config, lengthen=False)["return_mean"])

    def _diffuse(self, latents: Path, folder: Path) -> None:
        recipe, begun = self.config.recipe, checkpoint.latest(folder, "model") is not None
        train_diffuser.main([
            *("--dataset", str(latents), "--results_folder", str(folder)),
            *("--gin_config_files", *recipe.gin_config_files),
            *("--gin_params", *recipe.gin_params),
            *("--save_num_samples", str(recipe.num_samples), "--save_file_name", "samples.npz"),
            *("--seed", str(self.config.seed), "--device", self.config.device),
            *("--threads", str(self.config.threads)),
            *(["--resume"] if begun else []),
        ])  # fmt: skip


def _fidelity(path: Path) -> dict[str, float]:
    """Similarities of the samples to held-out latents, and of training latents: the ceiling."""
    report = json.loads(path.read_text(encoding="utf-8"))
    found = {}
    for name in ("synthetic", "training"):
        for key in ("marginal", "correlation"):
            found[f"{name}_{key}"] = float(report[name][key])
    return found


def write_results(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """``results.json`` and ``results.md`` of what the seeds have found so far."""
    results: dict[str, Any] = {"seeds": rows, "mean": {}, "standard_error": {}}
    for stage in STAGES:
        values = np.array([row[stage] for row in rows if stage in row])
        if len(values):
            results["mean"][stage] = float(values.mean())
        if len(values) > 1:
            error = values.std(ddof=1) / np.sqrt(len(values))
            results["standard_error"][stage] = float(error)
    atomic.write_json(folder / "results.json", results)
    atomic.write_text(folder / "results.md", _table(results))
    return results


def _table(results: dict[str, Any]) -> str:
    """Markdown: a row a seed, then mean and standard error."""
    lines = [
        "| seed | agent | heads on real latents | on synthetic | on both | marginal (ceiling) | "
        "correlation (ceiling) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["seeds"]:
        returns = [f"{row[stage]:.1f}" if stage in row else "" for stage in STAGES]
        scores = row.get("fidelity", {})
        pairs = [
            f"{scores[f'synthetic_{key}']:.3f} ({scores[f'training_{key}']:.3f})" if scores else ""
            for key in ("marginal", "correlation")
        ]
        lines.append(f"| {row['seed']} | {' | '.join([*returns, *pairs])} |")
    means, errors = results["mean"], results["standard_error"]
    summary = [
        f"{means[stage]:.1f}" + (f" +- {errors[stage]:.1f}" if stage in errors else "")
        if stage in means
        else ""
        for stage in STAGES
    ]
    return "\n".join([*lines, f"| mean | {' | '.join(summary)} | | |"]) + "\n"
