"""A Minari data set in, a synthetic one out, with its provenance.

pip install -e '.[minari]'
"""

import argparse
import json
import os
import tempfile

# Leave this line out to write where Minari keeps its data sets.
os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()

import minari
from rich.console import Console

import synther
from synther.datasets import load_dataset
from synther.datasets.minari_writer import write_minari

argparse.ArgumentParser(description=__doc__).parse_args()  # --help says what this does

# Stands in for a data set of yours: the shipped transitions, written as the episodes they are.
write_minari(load_dataset("hopper-demo-v0"), "example/hopper/real-v0")

real = minari.load_dataset("example/hopper/real-v0")
samples = synther.upsample(real, 2_000, config={"steps": 2_000})
write_minari(samples, "example/hopper/synthetic-v0")

console = Console()
for dataset_id in ("example/hopper/real-v0", "example/hopper/synthetic-v0"):
    dataset = minari.load_dataset(dataset_id)
    console.print(f"{dataset_id}: {dataset.total_steps} steps, {dataset.total_episodes} episodes")
console.print(dataset.storage.metadata["description"])
console.print(json.loads(dataset.storage.metadata["synther_metadata"]))
