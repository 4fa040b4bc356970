"""Draw ``figs/overview.png`` and ``.pdf`` from the demo's model: ``make demo figures``.

Five panels are drawn from numbers: two columns of the shipped transitions, three states of a
sampler on its way from noise to data, and the samples that it arrives at. Words at the end name who
learns from them.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from synther.datasets import load_dataset
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.model_io import load_model
from synther.diffusion.samplers import heun_deterministic
from synther.files.figures import TEXT_WIDTH, Axes, Figure, in_style, save_figure
from synther.transitions import TransitionLayout

OUTPUT = Path(__file__).with_name("overview.png")
MODEL = Path("demo_results/diffusion/model-8000.pt")
COLUMNS = {"torso height": 0, "forward velocity": 5}
SHOWN_SIGMAS = (3.0, 0.6, 0.15)
ROWS = 8_000
REAL, NOISE, SYNTHETIC, INK = "#566573", "#af7ac5", "#d35400", "#2c3e50"
CONSUMERS = "TD3+BC, IQL,\nEDAC, CQL,\nor your agent"


def sampler_states(model: ElucidatedDiffusion, rows: int) -> dict[float, Tensor]:
    """Noise level -> rows ``[rows, D]`` in model space on the sampler's way down to 0, where they
    are the samples."""
    states: dict[float, Tensor] = {}

    def denoise(x: Tensor, sigma: float) -> Tensor:
        states.setdefault(sigma, x)
        return model.preconditioned_network_forward(x, sigma)

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(rows, *model.event_shape, generator=generator) * model.sigma_max
    final = heun_deterministic(
        denoise, start, model.sample_schedule(64), noise=lambda _: torch.zeros_like(start)
    )
    return states | {0.0: final}


def scatter(axis: Axes, rows: Tensor, title: str, colour: str) -> None:
    """Draw the two shown columns of ``rows [N, D]``, in model space, as a cloud without ticks."""
    points = rows[:, list(COLUMNS.values())].numpy()
    axis.scatter(*points.T, s=0.4, c=colour, alpha=0.35, linewidths=0, rasterized=True)
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, color=INK, pad=4)
    for spine in axis.spines.values():
        spine.set_color("#bfc9ca")


def draw(model: ElucidatedDiffusion, real: Tensor) -> Figure:
    """The picture: ``real [N, D]`` in the data's units, three noise levels, samples, consumers."""
    states = sampler_states(model, ROWS)
    figure = Figure(figsize=(TEXT_WIDTH, 1.3))
    axes = figure.subplots(1, 6, gridspec_kw={"wspace": 0.5, "width_ratios": [1] * 5 + [0.9]})
    figure.subplots_adjust(left=0.025, right=1.0, bottom=0.13, top=0.87)
    scatter(axes[0], model.normalizer.normalize(real), "real transitions", REAL)
    for axis, shown in zip(axes[1:4], SHOWN_SIGMAS, strict=True):
        sigma = min(states, key=lambda level: abs(level - shown))
        scatter(axis, states[sigma], f"noise level {sigma:.2g}", NOISE)
    scatter(axes[4], states[0.0], "new transitions", SYNTHETIC)
    limits = [(-3.2, 3.2)] * 5
    for axis, limit in zip(axes[:5], limits, strict=True):
        axis.set(xlim=limit, ylim=limit)
    axes[5].set_axis_off()
    axes[5].text(-0.05, 0.5, CONSUMERS, fontsize=7, color=INK, va="center")
    captions = ("train", "", "", "sample", "learn")
    for left, right, caption in zip(axes[:-1], axes[1:], captions, strict=True):
        arrow = ConnectionPatch(
            (1.08, 0.5), (-0.08, 0.5), "axes fraction", "axes fraction",
            axesA=left, axesB=right, arrowstyle="-|>", color=INK, mutation_scale=6,
        )  # fmt: skip
        figure.add_artist(arrow)
        left.text(
            1.25, 0.56, caption, transform=left.transAxes, ha="center", fontsize=6.5, color=INK
        )
    names = list(COLUMNS)
    axes[0].set_xlabel(names[0], fontsize=7, color=INK, labelpad=2)
    axes[0].set_ylabel(names[1], fontsize=7, color=INK, labelpad=2)
    return figure


def main() -> None:
    """The command; see ``--help``."""
    parser = argparse.ArgumentParser(description="Draw the picture of the idea.")
    text = "the demo's model (default: %(default)s)"
    parser.add_argument("--model", type=Path, default=MODEL, help=text)
    loaded = load_model(parser.parse_args().model)
    data = load_dataset("hopper-demo-v0")
    rows = torch.from_numpy(TransitionLayout.of(data).pack(data))
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]
    with in_style():
        picture = draw(loaded.model, rows[chosen])
    save_figure(picture, OUTPUT)


if __name__ == "__main__":
    main()
