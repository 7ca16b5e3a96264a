#!/usr/bin/env bash
# Asks for a TPU VM or a slice by a queued resource, waits for it, and runs a config on it as
# launch/tpu_vm.sh does. The same command goes on where it was: it waits, or runs, again.
# usage: TPU_NAME=... ZONE=... launch/tpu_queue.sh CONFIG WORKDIR_ON_VM [flags of kdtw_jax.main]
#   launch/tpu_queue.sh configs/wmt.py runs/wmt
# usage: TPU_NAME=... ZONE=... launch/tpu_queue.sh delete
#   launch/tpu_queue.sh delete
# ACCELERATOR is what to ask for, such as v5litepod-8, and RUNTIME its software, such as
# v2-alpha-tpuv5-lite. SPOT=yes asks for a spot VM, which may be taken back: delete it then, and
# give the command again. QUEUE_OPTIONS has further options of `gcloud compute tpus
# queued-resources create`, quoted as in a shell. Nothing is deleted when a run ends, and a TPU
# costs until it is deleted.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
: "${TPU_NAME:?name of the TPU VM}" "${ZONE:?its zone}"
queue=(gcloud compute tpus queued-resources)
if [ "$*" = delete ]; then
  run exec "${queue[@]}" delete "$TPU_NAME" --zone="$ZONE" --force --quiet  # its VMs too
  exit
fi
usage="usage: launch/tpu_queue.sh CONFIG WORKDIR_ON_VM [flags], or: launch/tpu_queue.sh delete"
: "${1:?$usage}" "${2:?$usage}"
describe=("${queue[@]}" describe "$TPU_NAME" --zone="$ZONE" --format="value(state.state)")
if [ -n "$dry_run" ] || ! "${describe[@]}" >/dev/null 2>&1; then  # not in the queue yet
  : "${ACCELERATOR:?type of the TPU}" "${RUNTIME:?version of its software}"
  read_words "${QUEUE_OPTIONS:-}"
  if [ "${SPOT:-}" = yes ]; then words+=(--spot); fi
  run "${queue[@]}" create "$TPU_NAME" --node-id="$TPU_NAME" --zone="$ZONE" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" ${words[@]+"${words[@]}"}
fi
state=""
until [ "$state" = ACTIVE ]; do
  if [ -n "$dry_run" ]; then run "${describe[@]}"; break; fi
  if [ -n "$state" ]; then sleep 30; fi
  state=$("${describe[@]}")
  echo "$TPU_NAME: $state"
  case "$state" in
    FAILED | SUSPENDING | SUSPENDED | DELETING)
      echo "delete it, and ask again: launch/tpu_queue.sh delete" >&2; exit 1 ;;
  esac
done
exec launch/tpu_vm.sh ${dry_run:+--dry-run} -- "$@"
