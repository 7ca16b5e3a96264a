#!/usr/bin/env bash
# On one machine with NVIDIA GPUs: installs the CUDA build and runs a config.
# usage: launch/gpu.sh CONFIG WORKDIR [flags of kdtw_jax.main]
#   launch/gpu.sh configs/wmt.py runs/wmt
#   launch/gpu.sh configs/multi30k.py:gpu runs/m30k --config.data.path=DIR
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
usage="usage: launch/gpu.sh CONFIG WORKDIR [flags]"
config=${1:?$usage}; workdir=$(cd "$from"; realpath -m -- "${2:?$usage}"); shift 2
install_project cuda
run exec python -m kdtw_jax.main --config="$config" --workdir="$workdir" "$@"  # `exec`: gets signals
