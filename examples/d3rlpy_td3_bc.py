"""d3rlpy's TD3+BC on synthetic transitions alone, evaluated in the environment.

pip install -e '.[d3rlpy,envs]'
"""

import argparse

import d3rlpy
from rich.console import Console

import synther
from synther.envs import make_env
from synther.integrations.d3rlpy import to_mdp_dataset

argparse.ArgumentParser(description=__doc__).parse_args()  # --help says what this does

samples = synther.upsample("hopper-demo-v0", 20_000, config={"steps": 6_000})
dataset = to_mdp_dataset(samples)

agent = d3rlpy.algos.TD3PlusBCConfig(
    batch_size=128,
    observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
).create(device=False)
agent.fit(
    dataset,
    n_steps=1_000,
    n_steps_per_epoch=1_000,
    logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
)

returns = d3rlpy.metrics.EnvironmentEvaluator(make_env("Hopper-v2"), n_trials=5)(agent, dataset)
Console().print(f"mean return of TD3+BC in Hopper-v2: {returns:.0f}")
