#!/usr/bin/env bash
# ImageNet-1k: classes of pictures, measured on val (UNIMO-2 Table 2).
#   NPROC=8 bash run_scripts/finetune/classify/ImageNet/run.sh [unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: python -m data_prep benchmarks imagenet ILSVRC2012/ data/imagenet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
split=dev default_size=unimo2_base
task imagenet "$@"
