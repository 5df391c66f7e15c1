#!/usr/bin/env bash
# Set up what the tests need, run the fences, then every test that needs no large download and no long training.
# Fences, half a minute: ruff check, ruff format, mypy, shellcheck; and, among the tests, tests/test_house.py (who may
# import whom, names of files) and tests/test_docstrings.py.
#   bash run_scripts/test.sh [PYTEST ARGUMENTS]      e.g. -m heavy for the rest, -k name for some
# Variables: WORKERS (parallel test processes, default: cores), and those of setup.sh.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repo/run_scripts/setup.sh" data,report,export,dev
source "$repo/run_scripts/env.sh"
cd "$repo"
mapfile -t scripts < <(find run_scripts .ci -type f -name '*.sh' -o -path .ci/run | sort)
set -x
ruff check .
ruff format --check .
python -m mypy
shellcheck "${scripts[@]}"
exec python -m pytest -n "${WORKERS:-$(nproc)}" --dist loadgroup "$@"
