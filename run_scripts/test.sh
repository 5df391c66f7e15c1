#!/usr/bin/env bash
# Set up what the tests need and run every test that needs no large download and no long training.
#   bash run_scripts/test.sh [PYTEST ARGUMENTS]      e.g. -m heavy for the rest, -k name for some
# Variables: WORKERS (parallel test processes, default: cores), and those of setup.sh.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repo/run_scripts/setup.sh" data,report,export,dev
source "$repo/run_scripts/env.sh"
cd "$repo"
set -x
exec python -m pytest -n "${WORKERS:-$(nproc)}" --dist loadgroup "$@"
