#!/usr/bin/env bash
# Flickr30k: retrieval of pictures by captions and back, measured on test (UNIMO and UNIMO-2, Table 1).
#   NPROC=8 bash run_scripts/finetune/retrieval/Flickr30k/run.sh [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# Data: docs/corpora.md for pairs, docs/regions.md for features
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../task.sh"
task flickr30k "$@"
