#!/usr/bin/env bash
# From a fresh clone to the documentation: virtual environment, installation, site.
# Further arguments go to Sphinx, e.g. --fresh-env
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
read_options "$@"
set -- ${arguments[@]+"${arguments[@]}"}
install_project docs
run python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html "$@"
run echo "docs/_build/html/index.html"
