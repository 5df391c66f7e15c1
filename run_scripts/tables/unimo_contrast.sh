#!/usr/bin/env bash
# What each part of CMCL changes (the paper has no such table): a dual encoder is trained once without rewritings, then by
# CMCL alone in arms that differ in their candidates, with equal updates, equal pairs and the same seeds.
#   bash run_scripts/quickstart.sh                    # first: it prepares the data
#   bash run_scripts/tables/unimo_contrast.sh [KEY=VALUE]...                   (of the pre-training recipe, for all arms)
# Arms: none (no CMCL: what the others start from), plain (the pair against other pairs), then plain with X- (rewritten),
# tfidf (similar captions), X+ (paraphrases), XI (similar images), XT (similar sentences), and full (all of them).
# Run again after an interruption: what is evaluated is not run again. Several may run at once on other seeds, after the
# first has made its start.
# Variables: OUTPUT (default runs/contrast), DATA (default data/quickstart), REWRITES (default DATA/augmented.jsonl, which
# the quickstart makes), START (a dual encoder that is there already), ARMS, SEEDS (1 2 3 4 5), FINETUNE_STEPS (of the
# start), PRETRAIN_STEPS, BASELINE (plain: the arm that others are compared with), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/contrast} DATA=${DATA:-data/quickstart} SEEDS=${SEEDS:-1 2 3 4 5}
REWRITES=${REWRITES:-$DATA/augmented.jsonl} ARMS=${ARMS:-none plain X- tfidf X+ XI XT full} BASELINE=${BASELINE:-plain}
processes=${NPROC:-2}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"

# Candidates of one pair: paraphrases, swaps, TF-IDF negatives, images, sentences; a budget of 140 positions for each
# pass of a pair (the 4 x 4 of its group, one a candidate, one more) makes batches of the same pairs in every arm.
candidates() {
  printf 'contrast.paraphrases=%d contrast.rewritten=%d contrast.tfidf=%d contrast.images=%d contrast.texts=%d ' "$@"
  printf 'batch_positions.pair=%d\n' $((140 * (17 + $1 + $2 + $3)))
}
settings() {
  case $1 in
    none) ;;
    plain) candidates 0 0 0 0 0 ;;
    X-) candidates 0 1 0 0 0 ;;
    tfidf) candidates 0 0 1 0 0 ;;
    X+) candidates 1 0 0 0 0 ;;
    XI) candidates 0 0 0 1 0 ;;
    XT) candidates 0 0 0 0 1 ;;
    full) candidates 1 1 1 1 1 ;;
    *) echo "error: ARMS: no arm $1; there are none, plain, X-, tfidf, X+, XI, XT, full" >&2 && return 2 ;;
  esac
}
evaluate() { # MODEL ARM SEED
  step unimo evaluate retrieval "$1" --pairs "$DATA/pairs.jsonl" --regions "$DATA/regions" --rewrites "$REWRITES" \
    --label "$2" --output "$OUTPUT/runs/$2/$3"
}

for arm in $ARMS; do settings "$arm" >/dev/null; done
start=${START:-$OUTPUT/start}
if [[ -z ${START:-} && ! -f $start/metrics.json ]]; then
  [[ -d $OUTPUT/text ]] || step unimo init model_configs/pretrain/unimo_quickstart.yaml tokenizer="$DATA/minilm" \
    initialise_from="$DATA/minilm/model.safetensors" --output "$OUTPUT/text"
  launch finetune model_configs/finetune/dual_encoder_quickstart.yaml pairs="$DATA/pairs.jsonl" rewrites=null \
    images="$DATA/images.jsonl" texts="$DATA/texts.jsonl" regions="$DATA/regions" \
    ${FINETUNE_STEPS:+engine.steps="$FINETUNE_STEPS"} --model "$OUTPUT/text" --split dev --output "$start"
fi

for seed in $SEEDS; do # seed by seed: an interrupted study compares all arms on the seeds that are done
  for arm in $ARMS; do
    [[ -f $OUTPUT/runs/$arm/$seed/metrics.json ]] && continue
    model=$start
    if [[ $arm != none ]]; then
      model=$OUTPUT/training/$arm/$seed
      read -ra changed < <(settings "$arm")
      launch pretrain model_configs/pretrain/unimo_contrast.yaml data.pairs="$DATA/pairs.jsonl" \
        data.rewrites="$REWRITES" data.regions="$DATA/regions" tokenizer="$DATA/minilm" initialise_from="$start" \
        "${changed[@]}" engine.seed="$seed" ${PRETRAIN_STEPS:+engine.steps="$PRETRAIN_STEPS"} "$@" --output "$model"
    fi
    evaluate "$model" "$arm" "$seed"
  done
done

printf '\n'
unimo report study "$OUTPUT/runs" --baseline "$BASELINE"
