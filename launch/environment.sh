# Sourced by the other scripts: makes .venv once and installs the project into it.
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

install_project() {  # install_project ".[extras]"
  local venv="${KDTW_VENV:-.venv}"
  [ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv"
  # shellcheck disable=SC1091
  source "$venv/bin/activate"
  python -m pip install --quiet --disable-pip-version-check --editable "$1"
  if [ -n "${KDTW_EXTRAS:-}" ]; then
    python -m pip install --quiet --disable-pip-version-check --editable ".[${KDTW_EXTRAS}]"
  fi
}
