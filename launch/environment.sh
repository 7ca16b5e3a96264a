# The other scripts source this file. It makes .venv once and installs the project into it.
# KDTW_VENV names another folder; KDTW_EXTRAS adds extras, e.g. KDTW_EXTRAS=cuda or tpu.

find_python() {
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
       "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"; return
    fi
  done
  echo "no Python >= 3.11 found: install one first" >&2; return 1
}

make_venv() {  # make_venv DIR: makes a virtual environment, unless a complete one is there
  local venv="$1" python clear=""
  # `venv` writes bin/activate last, after pip: if it is missing, an earlier try was interrupted.
  if [ -x "$venv/bin/python" ] && [ -s "$venv/bin/activate" ]; then return; fi
  python=$(find_python) || return
  if [ -f "$venv/pyvenv.cfg" ]; then clear=--clear; fi  # never clears a folder that is not an environment
  "$python" -m venv $clear "$venv"
}

install_project() {  # install_project ".[extras]"
  local venv="${KDTW_VENV:-.venv}"
  make_venv "$venv"
  # shellcheck disable=SC1091
  source "$venv/bin/activate"
  python -m pip install --quiet --disable-pip-version-check --editable "$1"
  if [ -n "${KDTW_EXTRAS:-}" ]; then
    python -m pip install --quiet --disable-pip-version-check --editable ".[${KDTW_EXTRAS}]"
  fi
}
