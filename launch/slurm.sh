#!/usr/bin/env bash
# On a Slurm cluster: submits one job, which installs the CUDA build and runs a config, with one
# task for each GPU. Before its time is over, the run saves its step and the job is queued again.
# usage: launch/slurm.sh CONFIG WORKDIR [flags of kdtw_jax.main]
#   launch/slurm.sh configs/wmt.py runs/wmt
#   NODES=2 GPUS=4 TIME=12:00:00 PARTITION=gpu launch/slurm.sh configs/wmt.py runs/wmt
# Asks for NODES (1), GPUS of each node (1), CPUS for each GPU (8), TIME and PARTITION (if given).
# SAVE (300) is how many seconds before its end the run is to save: more than a checkpoint takes.
# SBATCH_OPTIONS has further options, quoted as in a shell: SBATCH_OPTIONS='--account=us --mem=0'.
# INSTALL=here installs before it submits, if the nodes of the jobs reach no package index.
# This checkout and WORKDIR must lie on a file system that all nodes share, as homes mostly do.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
usage="usage: launch/slurm.sh CONFIG WORKDIR [flags]"
config=${1:?$usage}; workdir=$(cd "$from"; realpath -m -- "${2:?$usage}"); shift 2
read_words "${SBATCH_OPTIONS:-}"
if [ "${INSTALL:-}" = here ]; then install_project cuda; fi
# JAX drives in each task the GPU that has the task's number on its node. So there is one task for
# each GPU, and all tasks see all GPUs of their node: --gpus-per-task would hide the others.
# B: is for the shell of the job, which tells the tasks, and knows then why the run has ended.
options=(
  --job-name=kdtw --output="${workdir//%/%%}/slurm-%j.out" --open-mode=append
  --nodes="${NODES:-1}" --ntasks-per-node="${GPUS:-1}" --gpus-per-node="${GPUS:-1}"
  --cpus-per-task="${CPUS:-8}" ${TIME:+--time="$TIME"} ${PARTITION:+--partition="$PARTITION"}
  --requeue --signal="B:USR1@${SAVE:-300}"
)
run mkdir -p -- "$workdir"  # Slurm makes no folder for the output
run sbatch "${options[@]}" ${words[@]+"${words[@]}"} \
  launch/slurm_job.sh -- "$config" "$workdir" "$@"
if [ -n "$dry_run" ]; then
  echo "# in the job:"
  SLURM_CPUS_PER_TASK="${CPUS:-8}" launch/slurm_job.sh --dry-run -- "$config" "$workdir" "$@"
fi
