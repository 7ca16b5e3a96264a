#!/usr/bin/env bash
# The job that launch/slurm.sh submits: installs once, and runs a config on all tasks. With options
# of your own, submit it from the root of this checkout: sbatch OPTIONS launch/slurm_job.sh ...
# usage: launch/slurm_job.sh CONFIG WORKDIR [flags of kdtw_jax.main]
set -euo pipefail
# Told that its time is almost over, this shell tells all tasks: they save, and exit with status 0.
# `scancel` signals the tasks, and not the shell.
ends=""
trap 'ends=yes; scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1
# Slurm runs a copy of this file, in the folder from which the job was submitted.
if [ ! -f launch/environment.sh ]; then cd "$(dirname "$0")/.."; fi
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
usage="usage: launch/slurm_job.sh CONFIG WORKDIR [flags]"
config=${1:?$usage}; workdir=${2:?$usage}; shift 2
if [ "${INSTALL:-}" = here ]; then
  # shellcheck disable=SC1091
  run source "${KDTW_VENV:-.venv}/bin/activate"
else
  # Of the jobs that begin together, one installs while the others wait, if the file system can.
  if [ -z "$dry_run" ]; then exec 9<> launch/environment.sh; flock 9 || true; fi
  install_project cuda
  exec 9>&-
fi
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then  # since Slurm 22.05, srun does not take it from sbatch
  run export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi
tasks=(srun python -m kdtw_jax.main --config="$config" --workdir="$workdir" "$@")
if [ -n "$dry_run" ]; then run "${tasks[@]}"; exit; fi
status=0
if [ -z "$ends" ]; then
  "${tasks[@]}" & running=$!  # while a shell waits, and only then, it hears a signal at once
  wait "$running" || status=$?
  while [ -n "$ends" ] && kill -0 "$running" 2>/dev/null; do wait "$running" || true; done
fi
# The same job is queued again, begins anew, and the run goes on from the step that it saved.
if [ -n "$ends" ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
