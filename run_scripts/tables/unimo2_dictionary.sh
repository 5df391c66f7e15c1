#!/usr/bin/env bash
# What the grounded dictionary and its mask change (the paper: +7.59 and +9.66 of zero-shot R@1 against a baseline without a
# dictionary, one run each): UNIMO-2 from a random start on 60,000 visits of composed pairs, zero-shot retrieval among 1,000
# pictures. Arms differ in one key of the model; seeds, data, order and updates are the same. Ours; docs/unimo2.md has what
# it gave.
#   bash run_scripts/tables/unimo2_dictionary.sh [KEY=VALUE]...                (of the pre-training recipe, for all arms)
# Arms: topk (the recipe); none (no dictionary, image and text see each other: the paper's baseline); normal (each token its
# nearest code); open (topk, and image and text see each other beside the codes). A ridge regression from thumbnails is what
# all of them must beat.
# Two studies are printed: of the release's score, match and contrast, on a shortlist, and of the contrast alone.
# Run again after an interruption: what is evaluated is not run again. Several may run at once on other seeds.
# Variables: OUTPUT (default runs/unimo2_dictionary), DATA (default data/unimo2), PICTURES (to train on; for a try), HELD_OUT
# (test pictures; for a try), ARMS, SEEDS (1 2 3 4 5), STEPS, SHORTLIST (8), BASELINE (none: what arms are compared with),
# NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$repo/run_scripts/tables/unimo2_study.sh"
OUTPUT=${OUTPUT:-runs/unimo2_dictionary} ARMS=${ARMS:-topk none normal open} SEEDS=${SEEDS:-1 2 3 4 5}
BASELINE=${BASELINE:-none}

settings() {
  case $1 in
    topk) echo ;;
    none | normal) echo "model.grounding_method=$1" ;;
    open) echo model.open_bridge=true ;;
    *) echo "error: ARMS: no arm $1; there are topk, none, normal, open" >&2 && return 2 ;;
  esac
}

study "$@"
