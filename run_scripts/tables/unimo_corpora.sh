#!/usr/bin/env bash
# What texts, and pictures without captions, add to pairs, at the quickstart's size (claims of UNIMO's tables 3 and 4): a
# UNIMO from MiniLM is pre-trained on some of the three with equal updates and seeds, then fine-tuned for retrieval and
# for the sentiment of movie reviews. docs/understanding.md has what it gave.
#   bash run_scripts/quickstart.sh                    # first: it prepares the data
#   bash run_scripts/tables/unimo_corpora.sh [KEY=VALUE]...                    (of the pre-training recipe, for all arms)
# Arms: full (pairs, pictures and texts), pictures (without texts), pairs (pairs alone), none (MiniLM as it is).
# No text is near a sentence of dev or test. Run again after an interruption: what is evaluated is not run again.
# Variables: OUTPUT (default runs/corpora), DATA (default data/quickstart), REVIEWS (default data/samples/movie-reviews,
# made where it is not there), ARMS, SEEDS (1 2 3), PRETRAIN_STEPS (1000), FINETUNE_STEPS (of retrieval), REVIEW_STEPS,
# BASELINE (full: the arm that others are compared with), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/corpora} DATA=${DATA:-data/quickstart} REVIEWS=${REVIEWS:-data/samples/movie-reviews}
ARMS=${ARMS:-full pictures pairs none} SEEDS=${SEEDS:-1 2 3} BASELINE=${BASELINE:-full}
processes=${NPROC:-2}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"

settings() {
  case $1 in
    full) echo "streams.pair=1 streams.image=1 streams.text=1" ;;
    pictures) echo "streams.pair=1 streams.image=1 streams.text=0" ;;
    pairs) echo "streams.pair=1 streams.image=0 streams.text=0" ;;
    none) ;;
    *) echo "error: ARMS: no arm $1; there are full, pictures, pairs, none" >&2 && return 2 ;;
  esac
}

for arm in $ARMS; do settings "$arm" >/dev/null; done
[[ -f $REVIEWS/texts.jsonl ]] || step python -m data_prep samples movie-reviews "$REVIEWS" --texts "$DATA/texts.jsonl"
pretrain=(model_configs/pretrain/unimo_quickstart.yaml data.pairs="$DATA/pairs.jsonl" data.rewrites="$DATA/augmented.jsonl"
  data.images="$DATA/images.jsonl" data.texts="$REVIEWS/texts.jsonl" data.regions="$DATA/regions"
  tokenizer="$DATA/minilm" initialise_from="$DATA/minilm/model.safetensors")
[[ -d $OUTPUT/start ]] || step unimo init "${pretrain[@]}" --output "$OUTPUT/start"

for seed in $SEEDS; do # seed by seed: an interrupted study compares all arms on the seeds that are done
  for arm in $ARMS; do
    model=$OUTPUT/start
    if [[ $arm != none ]]; then
      model=$OUTPUT/training/$arm/$seed
      read -ra changed < <(settings "$arm")
      [[ -f $OUTPUT/reviews/$arm/$seed/metrics.json ]] || launch pretrain "${pretrain[@]}" "${changed[@]}" \
        engine.steps="${PRETRAIN_STEPS:-1000}" engine.seed="$seed" "$@" --output "$model"
    fi
    [[ -f $OUTPUT/retrieval/$arm/$seed/metrics.json ]] || launch finetune \
      model_configs/finetune/retrieval_quickstart.yaml pairs="$DATA/pairs.jsonl" regions="$DATA/regions" \
      engine.seed="$seed" ${FINETUNE_STEPS:+engine.steps="$FINETUNE_STEPS" engine.save_every="$FINETUNE_STEPS"} \
      --model "$model" --label "$arm" --output "$OUTPUT/retrieval/$arm/$seed"
    [[ -f $OUTPUT/reviews/$arm/$seed/metrics.json ]] || launch finetune \
      model_configs/finetune/movie_reviews_quickstart.yaml examples="$REVIEWS/examples.jsonl" engine.seed="$seed" \
      ${REVIEW_STEPS:+engine.steps="$REVIEW_STEPS"} --model "$model" --label "$arm" --output "$OUTPUT/reviews/$arm/$seed"
  done
done

for task in retrieval reviews; do
  printf '\n== %s\n' "$task"
  unimo report study "$OUTPUT/$task" --baseline "$BASELINE"
done
