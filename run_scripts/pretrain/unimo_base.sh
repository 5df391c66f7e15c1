#!/usr/bin/env bash
# UNIMO-base pre-training on texts, images and pairs; the paper: 32 V100, a week.
#   NPROC=8 bash run_scripts/pretrain/unimo_base.sh [KEY=VALUE]...
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" pretrain "$repo/model_configs/pretrain/unimo_base.yaml" \
  --output "${OUTPUT:-$repo/runs/pretrain_base}" "$@"
