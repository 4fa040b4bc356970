"""Draw ``figs/fidelity_novelty.png`` and ``.pdf`` from the demo's samples: ``make demo figures``.

It is the picture ``novelty.png`` of synther evaluate, with the names of the table beside it.
"""

import argparse
import shutil
from pathlib import Path

from synther.diffusion import evaluate_samples

OUTPUT = Path(__file__).with_name("fidelity_novelty.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--demo", type=Path, default=Path("demo_results/diffusion"), metavar="FOLDER",
        help="what make demo wrote (default: %(default)s)",
    )  # fmt: skip
    folder = parser.parse_args().demo
    report = folder / "fidelity"
    evaluate_samples.main([
        "--real", "hopper-demo-v0", "--synthetic", str(folder / "samples.npz"),
        "--names", "SynthER", "--baselines", "noise,multiplicative", "--output", str(report),
    ])  # fmt: skip
    for suffix in (".png", ".pdf"):
        shutil.copyfile(report / f"novelty{suffix}", OUTPUT.with_suffix(suffix))


if __name__ == "__main__":
    main()
