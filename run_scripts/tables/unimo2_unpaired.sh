#!/usr/bin/env bash
# What pictures without texts and texts without pictures add where pairs are few (no such table is known of the paper):
# UNIMO-2 from a random start on 5,000 captioned scenes, with or without 15,000 pictures and the captions of 15,000 other
# scenes. Ours; docs/unimo2.md has what it gave.
#   bash run_scripts/tables/unimo2_unpaired.sh [KEY=VALUE]...                  (of the pre-training recipe, for all arms)
# Arms: pairs (400 updates of pairs); both (those, and 200 updates of each other stream); longer (800 updates of pairs, as
# many as of both).
# Two studies are printed: of the release's score, match and contrast, on a shortlist, and of the contrast alone.
# Run again after an interruption: what is evaluated is not run again. Several may run at once on other seeds.
# Variables: OUTPUT (default runs/unimo2_unpaired), DATA (default data/unimo2_unpaired), PICTURES (captioned), UNPAIRED,
# HELD_OUT (for a try), ARMS, SEEDS (1 2 3), STEPS (of the arm pairs; the others have twice as many), SHORTLIST (8),
# BASELINE (pairs: what arms are compared with), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PICTURES=${PICTURES:-5000} UNPAIRED=${UNPAIRED:-15000} DATA=${DATA:-data/unimo2_unpaired}
source "$repo/run_scripts/tables/unimo2_study.sh"
OUTPUT=${OUTPUT:-runs/unimo2_unpaired} ARMS=${ARMS:-pairs both longer} SEEDS=${SEEDS:-1 2 3} BASELINE=${BASELINE:-pairs}
pair_steps=${STEPS:-400}
unset STEPS

settings() {
  case $1 in
    pairs) echo "engine.steps=$pair_steps" ;;
    longer) echo "engine.steps=$((2 * pair_steps))" ;;
    both) # 32 pictures, and as many captions as there are pairs in a batch
      echo "engine.steps=$((2 * pair_steps)) data.images=$DATA/scenes/images.jsonl data.texts=$DATA/scenes/texts.jsonl" \
        "streams.pair=2 streams.image=1 streams.text=1 batch_positions.image=4200 batch_positions.text=1400" \
        "weights.view=1"
      ;;
    *) echo "error: ARMS: no arm $1; there are pairs, both, longer" >&2 && return 2 ;;
  esac
}

study "$@"
