#!/usr/bin/env bash
# On a TPU VM with one host: copies this checkout there, installs the TPU build, runs a config.
# usage: TPU_NAME=... ZONE=... launch/tpu_vm.sh CONFIG WORKDIR_ON_VM [flags of kdtw_jax.main]
#   launch/tpu_vm.sh configs/wmt.py runs/wmt --config.mesh.model=4
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TPU_NAME:?name of the TPU VM}" "${ZONE:?its zone}"
usage="usage: launch/tpu_vm.sh CONFIG WORKDIR_ON_VM [flags]"
config=${1:?$usage}; workdir=${2:?$usage}; shift 2
git archive --format=tar.gz -o /tmp/kdtw_jax.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/kdtw_jax.tar.gz "$TPU_NAME": --zone "$ZONE"
gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone "$ZONE" --command "
  set -e; mkdir -p kdtw_jax && tar xzf kdtw_jax.tar.gz -C kdtw_jax && cd kdtw_jax
  source launch/environment.sh && KDTW_EXTRAS=tpu install_project .
  python -m kdtw_jax.main --config='$config' --workdir='$workdir' $*"
