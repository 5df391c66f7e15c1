#!/usr/bin/env bash
# STS-B: similarity of two sentences, measured on dev (UNIMO Table 2, UNIMO-2 Table 3). UNIMO starts from its MNLI model.
#   NPROC=8 bash run_scripts/finetune/classify/STS-B/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks sts-b glue_data/STS-B data/sts-b
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev base_model=unimo-mnli-base-en large_model=unimo-mnli-large-en
task stsb "$@"
