#!/usr/bin/env bash
# Several processes on this machine, as one run, each with its share of the NVIDIA GPUs if there are
# some. Process 0 writes to the terminal, the others to WORKDIR/processes/1.txt and so on. A signal
# reaches all of them; the status is 0, or the first that is not in the order of the processes.
# usage: launch/local.sh NUMBER CONFIG WORKDIR [flags of kdtw_jax.main]
#   launch/local.sh 2 configs/demo.py runs/demo
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
usage="usage: launch/local.sh NUMBER CONFIG WORKDIR [flags]"
number=${1:?$usage}; config=${2:?$usage}
workdir=$(cd "$from"; realpath -m -- "${3:?$usage}"); shift 3
if [[ ! $number =~ ^[1-9][0-9]*$ ]]; then echo "NUMBER=$number: must be >= 1" >&2; exit 2; fi

gpus=()  # those that CUDA_VISIBLE_DEVICES names, or else all
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then IFS=, read -ra gpus <<< "$CUDA_VISIBLE_DEVICES"
elif found=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null); then
  read -ra gpus <<< "${found//$'\n'/ }"
fi
share=$((${#gpus[@]} / number))
if [ $((share * number)) -ne ${#gpus[@]} ]; then
  echo "NUMBER=$number: must divide the number of GPUs, which is ${#gpus[@]}" >&2; exit 2
fi
install_project ${gpus:+cuda}

port=""  # one that is free, above those that systems lend
until [ -n "$port" ]; do
  port=$((61000 + RANDOM % 4500))
  if (: <> "/dev/tcp/localhost/$port") 2>/dev/null; then port=""; fi
done

pids=() signalled=""
# shellcheck disable=SC2329  # the traps call it
forward() { signalled=yes; kill -s "$1" ${pids[@]+"${pids[@]}"} 2>/dev/null || true; }
trap 'forward HUP' HUP
trap 'forward INT' INT
trap 'forward TERM' TERM
# Jobs of their own groups: a terminal's Ctrl-C comes to the script alone, and none ignores it.
set -m
if [ "$number" -gt 1 ]; then run mkdir -p -- "$workdir/processes"; fi
for ((process = 0; process < number; process++)); do
  words=(python -m kdtw_jax.main --coordinator="localhost:$port" --processes="$number"
    --process="$process" --config="$config" --workdir="$workdir" "$@")
  if [ "$share" -gt 0 ]; then
    part=$(IFS=,; echo "${gpus[*]:process * share:share}")
    words=(env CUDA_VISIBLE_DEVICES="$part" "${words[@]}")
  fi
  if [ -n "$dry_run" ]; then run "${words[@]}"
  elif [ "$process" -eq 0 ]; then "${words[@]}" < /dev/null & pids+=("$!")
  else "${words[@]}" < /dev/null > "$workdir/processes/$process.txt" 2>&1 & pids+=("$!"); fi
done

status=0
for pid in ${pids[@]+"${pids[@]}"}; do
  signalled=yes
  while [ -n "$signalled" ]; do  # a signal ends `wait`, not the process
    signalled="" ended=0
    wait "$pid" || ended=$?
  done
  if [ "$status" -eq 0 ]; then status=$ended; fi
done
exit "$status"
