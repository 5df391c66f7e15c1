#!/usr/bin/env bash
# SST-2: sentiment of sentences, measured on dev (UNIMO Table 2, UNIMO-2 Table 3).
#   NPROC=8 bash run_scripts/finetune/classify/SST-2/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks sst-2 glue_data/SST-2 data/sst-2
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev
task sst2 "$@"
