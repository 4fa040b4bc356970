#!/usr/bin/env bash
# Runs a command as other machines would: elsewhere.sh COMMAND... With the instructions that every
# x86-64 processor has, with those of one that stops at AVX2, and beside two busy loops.
# numpy, OpenBLAS and MuJoCo choose their own instructions, and are left to.
set -euo pipefail
cd "$(dirname "$0")/.."

try() {
    printf '\n== %s ==\n' "$1"
    shift
    env "$@"
}

try "baseline instructions" ATEN_CPU_CAPABILITY=default "$@"
try "AVX2" ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 "$@"

loops=()
trap 'kill "${loops[@]}"' EXIT
for _ in 1 2; do
    while kill -0 $$ 2>/dev/null; do :; done & # it ends with this script, however that ends
    loops+=($!)
done
try "two busy loops beside it" "$@"
