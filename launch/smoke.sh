#!/usr/bin/env bash
# All steps of a task in a minute or two, on synthetic data and tiny models in published format:
# T5s, with --causal two decoder-only models, or with --nllb two that are told their languages.
# usage: launch/smoke.sh wmt|xsum|cnn_dailymail|aeslc|samsum|gsm8k [--causal] [--nllb] [flags]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
task=${1:?usage: launch/smoke.sh wmt|xsum|cnn_dailymail|aeslc|samsum|gsm8k [flags]}; shift
install_project
run exec python launch/smoke.py "$task" --workdir="runs/smoke-$task" "$@"
