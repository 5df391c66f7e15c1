#!/usr/bin/env bash
# Flickr30k retrieval, UNIMO-base, Table 1: image R@1 74.66, text R@1 89.70.
#   MODEL=FOLDER NPROC=8 bash run_scripts/finetune/retrieval/Flickr30k/run.sh [KEY=VALUE]...
# MODEL is a model folder of this toolkit (a run, or what `unimo init` writes); the release's own folders cannot be
# converted into one yet.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" finetune retrieval "$repo/model_configs/finetune/flickr30k_base.yaml" \
  --model "${MODEL:?set MODEL to the model folder to start from}" --output "${OUTPUT:-$repo/runs/flickr30k_base}" "$@"
