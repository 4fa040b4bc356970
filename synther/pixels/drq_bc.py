"""The command of the pixel agents: DrQ+BC and BC from pictures, and their heads on latents.

    python3 synther/pixels/drq_bc.py --config config/pixels/walker_walk_medium.yaml --root vd4rl \
        --folder runs/walker

    python3 synther/pixels/drq_bc.py --config config/pixels/walker_walk_medium.yaml \
        --load_agent runs/walker --diffusion.path runs/latents_5m.npz --folder runs/walker_synther

The second command goes on training policy and Q heads on latents, its encoder frozen; ``--recipe``
runs all steps from the data to the comparison, see :mod:`synther.pixels.recipe`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synther.diffusion.generation.generator import SamplingError
from synther.pixels.config import PixelConfig
from synther.pixels.recipe import run_recipe
from synther.pixels.stages import train
from synther.runs.command_line import WITHOUT_DATA, CommandParser
from synther.runs.commands import UsageError, command_errors
from synther.runs.flags import flags_of
from synther.runs.settings import ConfigError, configured


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = flags_of(
        PixelConfig,
        "DrQ+BC and BC from pixels, and their heads on (synthetic) latents.",
        "synther pixels --config config/pixels/walker_walk_medium.yaml --folder runs/w",
        WITHOUT_DATA,
    )
    parser.add_argument(
        "--recipe", action="store_true", help="do all steps from the data to the comparison"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    given = vars(build_parser().parse_args(argv))
    recipe = given.pop("recipe", False)
    with command_errors(SamplingError):
        try:
            config = configured(PixelConfig, given)
        except ConfigError as error:
            raise UsageError(str(error)) from error
        if recipe:
            run_recipe(config)
            return
        result = train(config)
        sys.stdout.write(
            f"{config.algo} on {config.task} {config.level}: return {result['return_mean']:.1f} "
            f"({len(result['returns'])} episodes, {result['steps']} steps, "
            f"{result['seconds']:.0f} s)\n"
        )


if __name__ == "__main__":
    main()
