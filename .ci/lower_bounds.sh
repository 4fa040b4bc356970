#!/usr/bin/env bash
# The tests on the oldest versions that setup.py admits: lower_bounds.sh PYTHON VENV [pytest's words].
# On Python 3.10 PyPI's torch brings CUDA along, about 3 GB to fetch and 6 on the disk.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2
shift 2
test -x "$venv/bin/python" || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --constraint .ci/lower-bounds.txt \
    -e '.[envs,minari,tensorboard]' pytest hypothesis pytest-xdist pytest-randomly
# The linters are of one version and one Python, and lint sees to them.
"$venv/bin/python" -m pytest --ignore=tests/test_house.py "$@"
