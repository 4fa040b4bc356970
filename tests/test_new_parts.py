"""Each row of the table in docs/house.md, done once: a new part is one file, or one function.

They are put into a copy of the package and used from the command line there; no other file of the
copy is touched.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
SOURCE = '''
"""A data source: points that are pushed about on a ramp, as many as the name says."""
import numpy as np
from synther.transitions import Transitions

def load_ramp(name):
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(int(name), 3)), rng.uniform(-1, 1, size=(int(name), 1))
    return Transitions.from_arrays(
        {
            "observations": states, "actions": actions, "rewards": -actions[:, 0] ** 2,
            "next_observations": states + 0.1 * actions, "terminals": np.zeros(int(name)),
        },
        metadata={"env_id": "Pendulum-v1"},
        source=f"ramp:{name}",
    )
'''
NETWORK = '''
"""A network: one linear layer."""
import gin
import torch
from torch import nn
from synther.diffusion.denoiser_network import register_network

@gin.configurable
@register_network
class LinearDenoiser(nn.Module):
    def __init__(self, d_in: int, cond_dim: int | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.config = {"d_in": d_in, "cond_dim": cond_dim, "scale": scale}
        self.scale, self.linear = scale, nn.Linear(d_in + 1, d_in)

    def forward(self, x, timesteps, cond=None):
        levels = timesteps[:, None].expand(len(x), 1)
        return self.scale * self.linear(torch.cat([x, levels], dim=-1))
'''
SAMPLER = '''

@register_sampler
def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: Noise, **_: Any) -> Tensor:
    """First order."""
    for sigma, sigma_next in itertools.pairwise(sigmas.tolist()):
        x = x + (x - denoise(x, sigma)) * (sigma_next / sigma - 1)
    return x
'''
INTEGRATION = '''
"""A library: its log of transitions is a list of tuples."""
import numpy as np
from synther.datasets.convert import converts
from synther.transitions import FIELDS, Transitions

class Log(list):
    pass

@converts(lambda data: isinstance(data, Log))
def from_log(log):
    columns = (np.array(column) for column in zip(*log, strict=True))
    return Transitions.from_arrays(dict(zip(FIELDS, columns, strict=True)), source="a log")
'''


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a new part of each kind."""
    house = tmp_path_factory.mktemp("house")
    for folder in ("synther", "config"):
        no_cache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / folder, house / folder, ignore=no_cache)
    package = house / "synther"
    shutil.copy(REPOSITORY / "examples/new_algorithm.py", package / "corl/algorithms/cloning.py")
    (package / "datasets/ramp.py").write_text(SOURCE)
    (package / "diffusion/linear_network.py").write_text(NETWORK)
    with open(package / "diffusion/samplers.py", "a") as file:
        file.write(SAMPLER)
    (package / "integrations/logs.py").write_text(INTEGRATION)
    return house


def python(house: Path, *words: str) -> str:
    """What a command of the copy says."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house), "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_an_algorithm_is_a_file_and_so_is_a_data_source(house: Path) -> None:
    """A study of both is planned, run by the command of the algorithm, and reported."""
    grid = {
        "data_sets": ["ramp:300"],
        "algorithms": ["cloning"],
        "seeds": [0],
        "synther": [False],
        "arguments": {"max_timesteps": 4, "eval_freq": 2, "n_episodes": 1, "batch_size": 8},
    }
    (house / "study.yaml").write_text(yaml.safe_dump({"name": "new", "offline": [grid]}))
    script = """
from synther import report, sweep
study = ["--study", "study.yaml", "--folder", "new"]
sweep.main([*study, "--dry_run"])
sweep.main([*study, "--job", "offline/bc-ramp-300-real-s0"])
report.main(["new", "--output", "report"])
"""
    said = python(house, "-c", script)
    assert "synther/corl/algorithms/cloning.py --env ramp:300 --name bc" in said
    (group,) = json.loads((house / "report/summary.json").read_text())["groups"]
    (cell,) = group["cells"]
    assert (cell["task"], cell["method"], cell["seeds"]) == ("ramp:300", "BC", [0])


def test_a_network_is_a_file_and_a_sampler_a_function(house: Path) -> None:
    """A model of both is trained, sampled, and read by a command that never heard of them."""
    python(house, "synther/diffusion/train_diffuser.py", *shlex.split("""
        --dataset ramp:300 --results_folder model --device cpu --threads 1 --sampler euler
        --save_num_samples 60 --save_file_name samples.npz --gin_params
        construct_diffusion_model.denoising_network=@LinearDenoiser LinearDenoiser.scale=0.5
        SimpleDiffusionGenerator.num_sample_steps=4 Trainer.small_batch_size=32
        Trainer.save_and_sample_every=10 Trainer.train_num_steps=10
    """))  # fmt: skip
    done = python(house, "synther/corl/algorithms/td3_bc.py", *shlex.split("""
        --env ramp:300 --device cpu --max_timesteps 2 --n_episodes 1 --batch_size 8
        --network_width 8 --diffusion.path model/model-10.pt --diffusion.sampler euler
        --diffusion.num_steps 3 --diffusion.batch_parallelism 2
    """))  # fmt: skip
    assert "trained on model/model-10.pt (ramp:300)" in done


def test_a_library_is_a_file(house: Path) -> None:
    script = """
import numpy as np, synther
from synther.integrations.logs import Log
rng = np.random.default_rng(0)
log = Log((rng.normal(size=2), rng.normal(size=1), 0.0, rng.normal(size=2), 0) for _ in range(300))
samples = synther.upsample(log, 7, config={"steps": 2, "width": 8, "sampler": "euler"})
print(samples.observations.shape)
"""
    assert python(house, "-W", "ignore", "-c", script) == "(7, 2)\n"
