#!/usr/bin/env bash
# SNLI-VE: inference from a picture, measured on test (UNIMO and UNIMO-2, Table 1).
#   NPROC=8 bash run_scripts/finetune/classify/SNLI-VE/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks snli-ve SNLI-VE/ data/snli-ve --images flickr30k-images/; docs/regions.md for features
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
task snli_ve "$@"
