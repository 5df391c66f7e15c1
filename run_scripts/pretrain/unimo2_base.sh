#!/usr/bin/env bash
# UNIMO-2-base pre-training from pixels on texts, images and pairs, as far as the paper is known (docs/unimo2.md).
#   NPROC=8 bash run_scripts/pretrain/unimo2_base.sh [KEY=VALUE]...
# Variables: OUTPUT (default runs/pretrain_unimo2), and those of launch.sh.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" pretrain "$repo/model_configs/pretrain/unimo2_base.yaml" \
  --output "${OUTPUT:-$repo/runs/pretrain_unimo2}" "$@"
