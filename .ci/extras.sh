#!/usr/bin/env bash
# Each extra of setup.py in a fresh environment, and what it is for, run there: extras.sh [EXTRA...].
# `dev` is what make test installs; `legacy` needs Debian packages, docs/legacy.md has its commands.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_NO_COMPILE=1 # of ten thousand files of torch few are imported
# As on a machine without a GPU: the newest torch brings gigabytes of CUDA along.
torch=$(grep --only-matching '^torch==[0-9.]*' requirements.txt)

run() { "$work/venv/bin/python" "$@"; }

install() {
    rm -rf "$work"/*
    "${PYTHON:-python3}" -m venv "$work/venv" &&
        run -m pip install --quiet "$torch" &&
        run -m pip install --quiet -e ".$1" &&
        run -m pip check
}

train() {
    # A thousand rows: the baselines' 300 epochs would take hours on all.
    run -c "from synther.datasets import load_dataset
load_dataset('hopper-demo-v0').subset(slice(1000)).save('$work/real.npz')" &&
        run synther/diffusion/train_diffuser.py --dataset "$work/real.npz" "$@" \
            --gin_config_files config/resmlp_demo_denoiser.gin \
            --gin_params Trainer.train_num_steps=300 \
            --results_folder "$work/model" --save_num_samples 2000 --save_file_name samples.npz
}

try() {
    printf '\n== %s ==\n' "$1"
    case $1 in
    core) install "" && run examples/upsample_your_data.py && run examples/cleanrl_style_sac.py ;;
    envs) install "[envs]" && run synther/corl/algorithms/td3_bc.py --env hopper-demo-v0 \
        --max_timesteps 300 --eval_freq 100 --checkpoints_path "$work/runs" ;;
    minari) install "[minari]" && run examples/minari_dataset.py ;;
    ogbench) install "[ogbench]" && run -c "from synther.envs import evaluate
import numpy as np
evaluate(lambda seen: np.zeros((1, 5)), 'cube-single-singletask-v0', 1, 0)" ;;
    sb3) install "[sb3]" && run examples/sb3_sac.py ;;
    d3rlpy) install "[d3rlpy,envs]" && run examples/d3rlpy_td3_bc.py ;;
    baselines) install "[baselines]" && train &&
        run synther/diffusion/evaluate_samples.py --baselines gmm,vae,ctgan --max_rows 500 \
            --real "$work/real.npz" --synthetic "$work/model/samples.npz" ;;
    wandb) install "[wandb]" && train --wandb-mode offline && ls "$work"/model/wandb ;;
    tensorboard) install "[tensorboard]" && train --tensorboard &&
        ls "$work"/model/events.out.tfevents.* ;;
    ray) install "[ray,envs]" &&
        run synther/sweep.py --study config/sweeps/tiny.yaml --folder "$work/tiny" ;;
    slurm) install "[slurm]" &&
        run synther/sweep.py --study config/sweeps/tiny.yaml --folder "$work/tiny" --slurm ;;
    docs) install "[docs]" && run -m mkdocs build --strict --site-dir "$work/site" ;;
    *) printf "no extra '%s' here\n" "$1" >&2 && return 2 ;;
    esac
}

all=(core envs minari ogbench sb3 d3rlpy baselines wandb tensorboard ray slurm docs)
for extra in "${@:-${all[@]}}"; do
    try "$extra"
done
