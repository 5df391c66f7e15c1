#!/usr/bin/env bash
# UNIMO-2 from pixels on two CPU cores: composed pictures of which everything is known, pre-training from a random start,
# zero-shot retrieval among 1,000 pictures with things in combinations that training never shows, beside a ridge regression
# from thumbnails, and a page.
#   bash run_scripts/quickstart.sh unimo-2
# Run again after an interruption: every stage goes on where it was.
# Variables: OUTPUT (default runs/quickstart-unimo-2), DATA (default data/quickstart-unimo-2), PICTURES (to train on; for a
# try), HELD_OUT (test pictures; for a try), STEPS, NPROC (processes), and those of setup.sh.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repo/run_scripts/setup.sh" data,report
cd "$repo"
OUTPUT=${OUTPUT:-runs/quickstart-unimo-2} DATA=${DATA:-data/quickstart-unimo-2}
PICTURES=${PICTURES:-10000} HELD_OUT=${HELD_OUT:-1000}
processes=${NPROC:-2}
unset NPROC # env.sh gives the stages of one process all cores
source "$repo/run_scripts/env.sh"
source "$repo/run_scripts/thumbnail_ridge.sh"

recipe=model_configs/pretrain/unimo2_micro.yaml
data=(data.pairs="$DATA/scenes/pairs.jsonl" tokenizer="$DATA/minilm")
step python -m data_prep minilm "$DATA/minilm"
[[ -f $DATA/scenes/manifest.json ]] ||
  step python -m data_prep scenes "$DATA/scenes" --train "$PICTURES" --dev 200 --test "$HELD_OUT"
launch pretrain "$recipe" "${data[@]}" engine.steps="${STEPS:-480}" --output "$OUTPUT/pretrain"

thumbnail_ridge "$DATA" "$OUTPUT/ridge"
step unimo evaluate retrieval "$OUTPUT/pretrain" --shortlist 8 --pairs "$DATA/scenes/pairs.jsonl" --max-tokens 32 \
  --label zero-shot --output "$OUTPUT/zero_shot"

# what its codes have come to stand for, on a few pictures
step unimo evaluate codes "$OUTPUT/pretrain" --pairs "$DATA/scenes/pairs.jsonl" --split dev --max-tokens 32 \
  --label codes --output "$OUTPUT/codes"

runs=("$OUTPUT/pretrain" "$OUTPUT/ridge" "$OUTPUT/zero_shot")
step unimo report run "${runs[@]}" "$OUTPUT/codes" --baseline ridge --output "$OUTPUT/report.html"
printf '\n'
unimo report table "${runs[@]}" --baseline ridge
printf '\n%s\n' "$(realpath "$OUTPUT/report.html")"
