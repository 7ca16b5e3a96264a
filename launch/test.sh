#!/usr/bin/env bash
# From a fresh clone to a green test run: virtual environment, test extras, linter, types, tests.
# KDTW_EXTRAS=parity also compares with torch + transformers;
# KDTW_DATA=DIR (with multi30k/ and aeslc/ in it) also runs the tests on real text.
# Further arguments go to pytest, e.g. launch/test.sh tests/losses
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
install_project test
run pyink --check --quiet .
run ruff check .
run pyright
run python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
