#!/usr/bin/env bash
# Flickr30k retrieval, UNIMO-base, Table 1; the run prints the paper's numbers.
#   NPROC=8 bash run_scripts/finetune/retrieval/Flickr30k/run.sh [KEY=VALUE]...
# MODEL is what to start from, a name of `unimo zoo list` or a model folder of this toolkit; default unimo-base-en.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../.." && pwd)
exec bash "$repo/run_scripts/launch.sh" finetune retrieval "$repo/model_configs/finetune/flickr30k_base.yaml" \
  --model "${MODEL:-unimo-base-en}" --output "${OUTPUT:-$repo/runs/flickr30k_base}" "$@"
