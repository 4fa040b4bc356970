"""The command that encodes pictures as latent transitions, with a trained agent's encoder.

    python3 synther/pixels/encode.py --load_agent runs/walker --out runs/latents.npz
    python3 synther/diffusion/train_diffuser.py --dataset runs/latents.npz --results_folder runs/dm

The data are those that the agent was trained on, unless ``--root``, ``--task``, ``--level`` say
otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synther.datasets.outputs import require_replaceable
from synther.files.checkpoint import fingerprint
from synther.pixels.latents import encode_replay
from synther.pixels.stages import load_agent, open_replay
from synther.runs.command_line import CommandParser
from synther.runs.commands import COUNT, THREADS, command_errors
from synther.runs.runtime import cpu_threads, resolve_device


def encode(
    agent_path: str,
    out: Path,
    *,
    root: str | None = None,
    task: str | None = None,
    level: str | None = None,
    device: str = "auto",
    threads: int = 1,
    batch_size: int = 256,
) -> Path:
    """Write the latent transitions of a data set; ``out``, an ``.npz`` of five arrays."""
    place = resolve_device(device)
    agent, config, about = load_agent(agent_path, place)
    config = replace(
        config,
        root=root or config.root,
        task=task or config.task,
        level=level or config.level,
    )
    with cpu_threads(threads):
        replay = open_replay(config, place)
        require_replaceable(out, "--out", "latents", len(replay))
        latents = encode_replay(agent, replay, config.n_step_discount, batch_size)
    described = {
        **latents.metadata,
        "dataset": f"{config.task}_{config.level}_latents",
        "source": "pixels",
        "pixel_env_id": about["seen"]["env_id"],
        "actor_columns": [agent.actor_columns.start, agent.actor_columns.stop],
        "critic_columns": [agent.critic_columns.start, agent.critic_columns.stop],
        "encoder": fingerprint(agent),
    }
    return replace(latents, metadata=described).save(out)


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Encode pictures as latent transitions, with the encoder of a trained agent.",
        "synther encode --load_agent runs/walker --out runs/latents.npz",
    )
    add = parser.add_argument
    add("--load_agent", required=True, help="folder or checkpoint of drq_bc.py")
    add("--out", type=Path, default=Path("latents.npz"), help="default: ./latents.npz")
    for key in ("root", "task", "level"):
        add(f"--{key}", help="by default the agent's own")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n>")
    add("--threads", type=THREADS, default=1, help="CPU threads; 0: all cores (default: 1)")
    add("--batch_size", type=COUNT, default=256, help="pictures at a time (default: 256)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(resume=False):
        path = encode(
            args.load_agent,
            args.out,
            root=args.root,
            task=args.task,
            level=args.level,
            device=args.device,
            threads=args.threads,
            batch_size=args.batch_size,
        )
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
