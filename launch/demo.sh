#!/usr/bin/env bash
# From a fresh clone to the demo's report: virtual environment, installation, run.
# Further arguments go to the run, e.g. --config=configs/demo.py:smoke --workdir=runs/smoke
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
install_project
run echo "The command at the end needs the environment: source ${KDTW_VENV:-.venv}/bin/activate"
run exec python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo "$@"
