#!/usr/bin/env bash
# What each part of CMCL changes (the paper has no such table): arms that differ in their candidates alone, two layers
# that score joint passes on the quickstart's data, with equal steps, equal pairs and the same seeds.
#   bash run_scripts/quickstart.sh                    # first: it prepares the data
#   bash run_scripts/tables/unimo_contrast.sh [KEY=VALUE]...                   (of the pre-training recipe, for all arms)
# Arms: none (no CMCL), plain (the pair against other pairs), then plain with X- (swaps and similar captions), X+
# (paraphrases), XI (similar images), XT (similar sentences), and full (all of them).
# Run again after an interruption: what is evaluated is not run again.
# Variables: OUTPUT (default runs/contrast), DATA (default data/quickstart), REWRITES (default DATA/augmented.jsonl, which
# the quickstart makes), ARMS, SEEDS, PRETRAIN_STEPS (200), FINETUNE_ARMS and FINETUNE_STEPS (fine-tuned retrieval besides;
# default: none plain full), BASELINE (plain: the arm that others are compared with), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/contrast} DATA=${DATA:-data/quickstart} SEEDS=${SEEDS:-1 2 3}
REWRITES=${REWRITES:-$DATA/augmented.jsonl} ARMS=${ARMS:-none plain X- X+ XI XT full}
PRETRAIN_STEPS=${PRETRAIN_STEPS:-200} FINETUNE_ARMS=${FINETUNE_ARMS-none plain full} BASELINE=${BASELINE:-plain}
processes=${NPROC:-2}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"

# Candidates of one pair: paraphrases, swaps, TF-IDF negatives, images, sentences; a budget of 100 positions for each
# pass of a pair (the masked one, 4 x 4 of its group, one a candidate) makes batches of the same pairs in every arm.
candidates() {
  printf 'contrast.paraphrases=%d contrast.rewritten=%d contrast.tfidf=%d contrast.images=%d contrast.texts=%d ' "$@"
  printf 'batch_positions.pair=%d\n' $((100 * (1 + 16 + $1 + $2 + $3)))
}
settings() {
  case $1 in
    none) echo weights.cmcl=0 batch_positions.pair=100 ;;
    plain) candidates 0 0 0 0 0 ;;
    X-) candidates 0 1 1 0 0 ;;
    X+) candidates 1 0 0 0 0 ;;
    XI) candidates 0 0 0 1 0 ;;
    XT) candidates 0 0 0 0 1 ;;
    full) candidates 1 1 1 1 1 ;;
    *) echo "error: ARMS: no arm $1; there are none, plain, X-, X+, XI, XT, full" >&2 && return 2 ;;
  esac
}
step() {
  printf '\n== %s\n' "$*"
  "$@"
}
launch() { step env -u OMP_NUM_THREADS NPROC="$processes" bash "$repo/run_scripts/launch.sh" "$@"; }

recipe=model_configs/pretrain/unimo_quickstart.yaml
joint=(model.num_hidden_layers=2 model.match_on=joint model.image_whitening_size=0 streams.pair=10
  engine.learning_rate=3e-4)
data=(data.pairs="$DATA/pairs.jsonl" data.rewrites="$REWRITES" data.images="$DATA/images.jsonl"
  data.texts="$DATA/texts.jsonl" data.regions="$DATA/regions"
  tokenizer="$DATA/minilm" initialise_from="$DATA/minilm/model.safetensors")

for arm in $ARMS; do settings "$arm" >/dev/null; done
for seed in $SEEDS; do # seed by seed: an interrupted study compares all arms on the seeds that are done
  for arm in $ARMS; do
    read -ra changed < <(settings "$arm")
    model=$OUTPUT/pretrain/$arm/$seed
    if [[ ! -f $OUTPUT/zero_shot/$arm/$seed/metrics.json ]]; then
      launch pretrain "$recipe" "${joint[@]}" "${data[@]}" "${changed[@]}" engine.seed="$seed" "$@" \
        engine.steps="$PRETRAIN_STEPS" --output "$model"
      step unimo evaluate retrieval "$model" --pairs "$DATA/pairs.jsonl" --regions "$DATA/regions" \
        --rewrites "$REWRITES" --max-tokens 32 --max-regions 6 --label "$arm" --output "$OUTPUT/zero_shot/$arm/$seed"
    fi
    if [[ " $FINETUNE_ARMS " == *" $arm "* && ! -f $OUTPUT/finetuned/$arm/$seed/metrics.json ]]; then
      launch finetune retrieval model_configs/finetune/retrieval_quickstart.yaml pairs="$DATA/pairs.jsonl" \
        regions="$DATA/regions" engine.seed="$seed" ${FINETUNE_STEPS:+engine.steps="$FINETUNE_STEPS"} \
        --model "$model" --label "$arm" --output "$OUTPUT/finetuned/$arm/$seed"
    fi
  done
done

printf '\nzero-shot\n'
unimo report study "$OUTPUT/zero_shot" --baseline "$BASELINE"
if [[ -n $FINETUNE_ARMS ]]; then
  printf '\nfine-tuned\n'
  unimo report study "$OUTPUT/finetuned" --baseline "$BASELINE"
fi
