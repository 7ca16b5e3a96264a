#!/usr/bin/env bash
# One machine with NVIDIA GPUs: installs the CUDA build and trains on Multi30k-like text files.
# usage: launch/gpu.sh DATA_DIR WORKDIR [flags of kdtw_jax.main]
set -euo pipefail
usage="usage: launch/gpu.sh DATA_DIR WORKDIR [flags]"
data=$(realpath "${1:?$usage}"); workdir=$(realpath -m "${2:?$usage}"); shift 2
cd "$(dirname "$0")/.."
source launch/environment.sh
KDTW_EXTRAS=cuda install_project "."
python -m kdtw_jax.main --config=configs/multi30k.py:gpu --config.data.path="$data" --workdir="$workdir" "$@"
