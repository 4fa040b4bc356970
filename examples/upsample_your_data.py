"""Your own transitions in, new ones out.

pip install -e .
"""

import argparse

import numpy as np
from rich.console import Console

import synther

argparse.ArgumentParser(description=__doc__).parse_args()  # --help says what this does

# Any of these: a dict of five arrays, an .npz or .hdf5, a data set's name, a Minari data set, a
# Stable-Baselines3 replay buffer, a d3rlpy data set. Here a point that is pushed about on a line.
rng = np.random.default_rng(0)
position, velocity = rng.normal(size=(2, 5_000, 1))
push = rng.uniform(-1, 1, size=(5_000, 1))
faster = velocity + 0.5 * push
mine = {
    "observations": np.hstack([position, velocity]),
    "actions": push,
    "rewards": -np.abs(position[:, 0]),
    "next_observations": np.hstack([position + 0.5 * faster, faster]),
    "terminals": np.zeros(5_000),
}

upsampler = synther.Upsampler({"steps": 3_000}).fit(mine)  # says whether to trust the samples
samples = upsampler.sample(20_000)
samples.save("upsampled.npz")
upsampler.save("upsampler.pt")  # for later: synther.Upsampler.load("upsampler.pt").sample(...)

# Do the new rows obey the law that nobody told the model?
error = samples.next_observations[:, 1:] - (samples.observations[:, 1:] + 0.5 * samples.actions)
console = Console()
console.print(f"{len(samples)} rows in upsampled.npz; {upsampler.verdict}")
console.print(f"they miss the law of motion by {np.abs(error).mean():.3f} on average")
