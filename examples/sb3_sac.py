"""Stable-Baselines3's SAC on Pendulum with half of every batch synthetic, saved and loaded.

pip install -e '.[sb3]'
"""

import argparse

from rich.console import Console
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy

from synther.integrations.sb3 import SynthERCallback, SynthERReplayBuffer

argparse.ArgumentParser(description=__doc__).parse_args()  # --help says what this does

synther = SynthERCallback(
    retrain_every=1_000,
    num_samples=10_000,
    config={"steps": 1_000, "width": 128},  # small, for two cores; leave it out on a GPU
)
model = SAC(
    "MlpPolicy",
    "Pendulum-v1",
    replay_buffer_class=SynthERReplayBuffer,
    replay_buffer_kwargs={"synthetic_ratio": 0.5},
    policy_kwargs={"net_arch": [64, 64]},
    learning_rate=1e-3,
    device="cpu",
    seed=0,
)
model.learn(2_500, callback=synther)
# The buffer holds real and synthetic rows, and the diffusion model.
model.save("sac.zip")
model.save_replay_buffer("sac_replay.pkl")
model = SAC.load("sac.zip", env=model.get_env(), device="cpu")
model.load_replay_buffer("sac_replay.pkl")
model.learn(1_400, callback=synther, reset_num_timesteps=False)

mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
Console().print(f"return after {model.num_timesteps} steps: {mean:.0f} +- {std:.0f}")
