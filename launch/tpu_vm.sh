#!/usr/bin/env bash
# A TPU VM of one host: copies this checkout there, installs the TPU build, trains.
# usage: TPU_NAME=... ZONE=... launch/tpu_vm.sh DATA_DIR_ON_VM WORKDIR_ON_VM [flags of kdtw_jax.main]
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TPU_NAME:?name of the TPU VM}" "${ZONE:?its zone}"
data=${1:?data folder on the VM}; workdir=${2:?workdir on the VM}; shift 2
git archive --format=tar.gz -o /tmp/kdtw_jax.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/kdtw_jax.tar.gz "$TPU_NAME": --zone "$ZONE"
gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone "$ZONE" --command "
  set -e; mkdir -p kdtw_jax && tar xzf kdtw_jax.tar.gz -C kdtw_jax && cd kdtw_jax
  source launch/environment.sh && KDTW_EXTRAS=tpu install_project .
  python -m kdtw_jax.main --config=configs/multi30k.py:gpu --config.data.path='$data' --workdir='$workdir' $*"
