# shellcheck shell=bash
# The other scripts source this file. It makes .venv once and installs the project into it.
# KDTW_VENV names another folder; KDTW_EXTRAS adds extras, e.g. KDTW_EXTRAS=cuda or tpu.
# Every script knows --help, which prints its first lines, and --dry-run, which prints its commands;
# what stands after -- is passed on as it is.

dry_run=""

read_options() {  # read_options "$@": sets dry_run, and `arguments` to what is left; serves --help
  arguments=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --help) awk 'NR > 1 && !/^#/ {exit} NR > 1 {sub(/^# ?/, ""); print}' "launch/${0##*/}"; exit ;;
      --dry-run) dry_run=yes ;;
      --) shift; arguments+=("$@"); break ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
}

run() {  # run COMMAND...: runs a command, or prints it as a shell would read it
  if [ -z "$dry_run" ]; then "$@"; return; fi
  local line
  printf -v line '%q ' "$@"
  echo "${line% }"
}

read_words() {  # read_words TEXT: sets `words` to its words, with a shell's quotes; expands nothing
  local text word
  words=()
  text=$(xargs -r -n1 printf '%s\n' <<< "$1")
  while IFS= read -r word; do
    if [ -n "$word" ]; then words+=("$word"); fi
  done <<< "$text"
}

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
  local venv="$1" python
  # `venv` writes bin/activate last, after pip: if it is missing, an earlier try was interrupted.
  if [ -x "$venv/bin/python" ] && [ -s "$venv/bin/activate" ]; then return; fi
  python=$(find_python) || return
  # Never clears a folder that is not an environment.
  if [ -f "$venv/pyvenv.cfg" ]; then run "$python" -m venv --clear "$venv"; return; fi
  run "$python" -m venv "$venv"
}

install_project() {  # install_project [EXTRAS]: with these extras and those of KDTW_EXTRAS
  local venv="${KDTW_VENV:-.venv}" extras="${1:-},${KDTW_EXTRAS:-}"
  extras="${extras#,}" extras="${extras%,}"
  make_venv "$venv"
  # shellcheck disable=SC1091
  run source "$venv/bin/activate"
  # Modules are compiled when they are first imported: most of the large packages never are.
  run python -m pip install --quiet --disable-pip-version-check --no-compile \
    --editable ".${extras:+[$extras]}"
}
