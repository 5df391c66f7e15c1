#!/usr/bin/env bash
# Make a virtual environment and install this project with the extras named, once; source it, or run it by itself.
#   bash run_scripts/setup.sh [EXTRAS]          e.g. data,report,dev (default: data,report)
# Variables: PYTHON (interpreter, default python3), VENV (folder, default .venv in the repository).
# With a virtual environment active, that one is used and nothing is made.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=${1:-data,report}
PYTHON=${PYTHON:-python3}
VENV=${VENV:-$repo/.venv}

missing() { # what is missing, Debian package that holds it
  echo "error: $1 is missing. On Debian or Ubuntu: sudo apt-get install $2" >&2
  exit 2
}

command -v "$PYTHON" >/dev/null || missing "$PYTHON" python3
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || {
  echo "error: Python 3.10, 3.11 or 3.12 is needed, $PYTHON is $("$PYTHON" -V). Set PYTHON=/path/to/python3.11" >&2
  exit 2
}
libraries=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p)
grep -q 'libGL\.so\.1' <<<"$libraries" || missing "libGL (OpenCV needs it)" libgl1
grep -q 'libgthread-2\.0\.so\.0' <<<"$libraries" || missing "libgthread (OpenCV needs it)" libglib2.0-0
grep -q 'libgomp\.so\.1' <<<"$libraries" || missing "libgomp (Paddle needs it)" libgomp1

if [[ -z ${VIRTUAL_ENV:-} ]]; then
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv module" python3-venv
  [[ -x $VENV/bin/python ]] || { echo "making $VENV"; "$PYTHON" -m venv "$VENV"; }
  # shellcheck disable=SC1091
  source "$VENV/bin/activate"
fi

stamp="$VIRTUAL_ENV/.unimo-installed" # lines: extras, repository, hash of pyproject.toml
identity="$repo $(sha256sum "$repo/pyproject.toml" | cut -d' ' -f1)"
is_installed() { # do the extras of one line cover those wanted?
  local there rest extra
  while read -r there rest; do
    [[ $rest == "$identity" ]] || continue
    for extra in ${extras//,/ }; do
      [[ ,$there, == *",$extra,"* ]] || continue 2
    done
    return 0
  done <"$stamp"
  return 1
}
if ! { [[ -f $stamp ]] && is_installed; }; then
  echo "installing unimo[$extras] into $VIRTUAL_ENV"
  python -m pip install --quiet --disable-pip-version-check -e "${repo}[$extras]"
  echo "$extras $identity" >>"$stamp"
fi
