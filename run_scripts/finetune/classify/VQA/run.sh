#!/usr/bin/env bash
# VQA v2: questions about pictures, measured on dev (UNIMO and UNIMO-2, Table 1, print the server's sets).
#   NPROC=8 bash run_scripts/finetune/classify/VQA/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks vqa vqa_v2/ data/vqa --images coco/; docs/regions.md for features
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev
task vqa "$@"
