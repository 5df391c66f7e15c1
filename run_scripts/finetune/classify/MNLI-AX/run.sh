#!/usr/bin/env bash
# MNLI: inference between two sentences, measured on dev, matched and mismatched (UNIMO Table 2, UNIMO-2 Table 3).
#   NPROC=8 bash run_scripts/finetune/classify/MNLI-AX/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks mnli glue_data/MNLI data/mnli
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev
task mnli "$@"
