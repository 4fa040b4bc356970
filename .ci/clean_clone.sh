#!/usr/bin/env bash
# The README's two commands as a stranger runs them: in a clone of what is committed, with a .venv
# of its own. Afterwards the clone has to be as clean as before.
set -euo pipefail
cd "$(dirname "$0")/.."
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet --no-hardlinks . "$clone"
cd "$clone"
make demo
make test
changes=$(git status --porcelain)
if [ -n "$changes" ]; then
    printf 'make demo and make test left behind:\n%s\n' "$changes" >&2
    exit 1
fi
