"""``synther VERB ...`` is one command for all that the project does; so is ``python3 -m synther``.

Each verb is a command of its own, with its file, which the 2023 release named; this one hands the
words on. It imports nothing of them before it knows the verb, so that ``synther --help`` is there
at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from synther.suggestions import did_you_mean


@dataclass(frozen=True)
class Verb:
    """A verb, the module whose ``main`` it runs, and what a person is told about it."""

    module: str
    about: str


ALGORITHMS = ("td3_bc", "iql", "edac", "cql")
VERBS = {
    "upsample": Verb(
        "synther.upsampling.command", "a file of transitions becomes a file of new ones"
    ),
    "advise": Verb("synther.advise.command", "whether new rows will help, by what a study saw"),
    "train": Verb(
        "synther.diffusion.train_diffuser",
        "train a diffusion model, sample it, measure the samples",
    ),
    "evaluate": Verb("synther.diffusion.evaluate_samples", "how good samples are"),
    "offline": Verb("synther.corl.algorithms", f"learn offline: offline {'|'.join(ALGORITHMS)}"),
    "online": Verb("synther.online.online_exp", "learn online: SAC, REDQ or SynthER"),
    "pixels": Verb("synther.pixels.drq_bc", "learn from pictures: DrQ+BC, BC, heads on latents"),
    "encode": Verb("synther.pixels.encode", "pictures become latent transitions"),
    "sweep": Verb("synther.sweep", "all runs of a study, or what is left of them"),
    "report": Verb("synther.report", "tables and curves of finished runs"),
    "demo": Verb("synther.demo", "the main job in a few minutes, on the data set inside"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the verb to its command; ``synther VERB --help`` explains them."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
    elif words[0] == "--version":
        from synther import __version__

        sys.stdout.write(f"synther {__version__}\n")
    else:
        _run(words)


def usage() -> str:
    """The text of ``synther --help``."""
    verbs = "".join(f"  {name:<10}{verb.about}\n" for name, verb in VERBS.items())
    return (
        "usage: synther VERB [ARGUMENT ...]\n\n"
        "Synthetic Experience Replay: diffusion-upsampled transitions for RL agents.\n\n"
        f"{verbs}\n"
        "synther VERB --help explains one of them; synther --version says which this is.\n\n"
        "example:\n  synther upsample data.npz --num 100000 --output samples.npz\n"
    )


def _run(words: list[str]) -> None:
    verb = _known(words.pop(0), VERBS, "synther")
    module, name = VERBS[verb].module, f"synther {verb}"
    if verb == "offline":
        if not words or words[0] in ("-h", "--help"):
            sys.stdout.write(
                f"usage: synther offline {{{','.join(ALGORITHMS)}}} [--KEY VALUE ...]\n\n"
                "synther offline td3_bc --help lists the keys.\n"
            )
            return
        algorithm = _known(words.pop(0).replace("-", "_"), ALGORITHMS, name)
        module, name = f"{module}.{algorithm}", f"{name} {algorithm}"
    sys.argv = [name, *words]  # what the command is called in its messages, and what it reads
    importlib.import_module(module).main()


def _known(word: str, names: Sequence[str] | dict[str, Verb], command: str) -> str:
    if word in names:
        return word
    sys.stderr.write(f"error: {command}: '{word}' is unknown{did_you_mean(word, names)}\n")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
