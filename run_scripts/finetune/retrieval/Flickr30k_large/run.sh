#!/usr/bin/env bash
# Flickr30k retrieval, UNIMO-large, Table 1: image R@1 78.04, text R@1 89.40.
#   MODEL=FOLDER NPROC=8 bash run_scripts/finetune/retrieval/Flickr30k_large/run.sh [KEY=VALUE]...
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" finetune retrieval "$repo/model_configs/finetune/flickr30k_large.yaml" \
  --model "${MODEL:-$repo/model_files/unimo_large_en}" --output "${OUTPUT:-$repo/runs/flickr30k_large}" "$@"
