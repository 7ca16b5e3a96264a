#!/usr/bin/env bash
# One machine with NVIDIA GPUs: installs the CUDA build and trains on Multi30k-like text files.
# usage: launch/gpu.sh DATA_DIR WORKDIR [flags of kdtw_jax.main]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: launch/gpu.sh DATA_DIR WORKDIR [flags]}; workdir=${2:?usage: launch/gpu.sh DATA_DIR WORKDIR [flags]}; shift 2
source launch/environment.sh
KDTW_EXTRAS=cuda install_project "."
python -m kdtw_jax.main --config=configs/multi30k.py:gpu --config.data.path="$data" --workdir="$workdir" "$@"
