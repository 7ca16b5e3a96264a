#!/usr/bin/env bash
# On a TPU VM, or on all hosts of a slice: copies this checkout there, installs the TPU build, and
# runs a config, as one run. Hosts of a slice need WORKDIR_ON_VM on a file system that they share.
# usage: TPU_NAME=... ZONE=... launch/tpu_vm.sh CONFIG WORKDIR_ON_VM [flags of kdtw_jax.main]
#   launch/tpu_vm.sh configs/wmt.py runs/wmt --config.mesh.fsdp=4
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
: "${TPU_NAME:?name of the TPU VM}" "${ZONE:?its zone}"
usage="usage: launch/tpu_vm.sh CONFIG WORKDIR_ON_VM [flags]"
config=${1:?$usage}; workdir=${2:?$usage}; shift 2
# The VM's shell reads one string: every argument is quoted for it.
printf -v flags ' %q' --config="$config" --workdir="$workdir" "$@"
archive="${TMPDIR:-/tmp}/kdtw_jax.XXXXXXXXXX"
if [ -z "$dry_run" ]; then archive=$(mktemp "$archive"); trap 'rm -f "$archive"' EXIT; fi
run git archive --format=tar.gz -o "$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:kdtw_jax.tar.gz" --zone="$ZONE" \
  --worker=all
run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="set -e; \
mkdir -p kdtw_jax; tar xzf kdtw_jax.tar.gz -C kdtw_jax; rm kdtw_jax.tar.gz; cd kdtw_jax; source launch/environment.sh; \
install_project tpu; exec python -m kdtw_jax.main$flags"
