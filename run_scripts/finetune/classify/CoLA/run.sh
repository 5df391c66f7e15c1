#!/usr/bin/env bash
# CoLA: acceptable sentences, measured on dev by Matthews' coefficient (UNIMO Table 2, UNIMO-2 Table 3).
#   NPROC=8 bash run_scripts/finetune/classify/CoLA/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks cola glue_data/CoLA data/cola
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev
task cola "$@"
