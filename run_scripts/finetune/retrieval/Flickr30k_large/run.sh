#!/usr/bin/env bash
# Flickr30k retrieval, UNIMO-large, Table 1: image R@1 78.04, text R@1 89.40.
#   MODEL=FOLDER NPROC=8 bash run_scripts/finetune/retrieval/Flickr30k_large/run.sh [KEY=VALUE]...
# MODEL is a model folder of this toolkit (a run, or what `unimo init` writes); the release's own folders cannot be
# converted into one yet.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" finetune retrieval "$repo/model_configs/finetune/flickr30k_large.yaml" \
  --model "${MODEL:?set MODEL to the model folder to start from}" --output "${OUTPUT:-$repo/runs/flickr30k_large}" "$@"
