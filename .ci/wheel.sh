#!/usr/bin/env bash
# A wheel, as somebody gets it who has nothing else: wheel.sh PYTHON. It is built, installed into an
# empty environment, and used from an empty folder. The environment borrows the packages of PYTHON's,
# so that torch is not fetched again; with WHEEL_DEPENDENCIES=fetch it gets its own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath --no-symlinks "$(command -v "$1")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/source" "$work/empty"
cp -r synther config setup.py pyproject.toml README.md LICENSE "$work/source"
"$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$work/dist" "$work/source"
wheel=$(echo "$work"/dist/synther-*.whl)
du --apparent-size --block-size=1 "$wheel"

"$python" -m venv "$work/env"
run() { (cd "$work/empty" && printf '\n$ %s\n' "$*" && "$work/env/bin/$1" "${@:2}"); }
if [ "${WHEEL_DEPENDENCIES:-borrow}" = fetch ]; then
    run python -m pip install --quiet "$wheel[envs,ray]"
    run python -m pip check
else
    there=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    here=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$there" > "$here/borrowed.pth" # its own .pth files, editable installations, are not read
    run python -m pip install --quiet --no-deps "$wheel"
fi
unset PYTHONPATH

run python -c "import synther, sys; assert synther.__file__.startswith(sys.prefix), synther.__file__"
run synther --help
run synther --version
run synther demo --steps 300 --num_samples 2000 --updates 200
run synther upsample hopper-demo-v0 --num 1000 --steps 200 --output samples.npz
run synther online --env Hopper-v2 --debug --exp_name SynthER \
    --gin_config_files config/online/sac_synther_openai.gin
run synther sweep --study config/sweeps/tiny.yaml --dry_run
run synther report demo_results/td3_bc --output report
test -s "$work/empty/report/report.md"
run python -m synther offline td3_bc --help > /dev/null
printf '\nThe wheel works.\n'
