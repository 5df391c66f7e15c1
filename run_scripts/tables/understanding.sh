#!/usr/bin/env bash
# Every task of understanding on small real data of its kind, beside linear baselines (nobody packages GLUE, SNLI-VE or VQA):
# a UNIMO from MiniLM on texts, the quickstart's on regions, a UNIMO-2 on pixels. docs/understanding.md has what it gave.
#   bash run_scripts/quickstart.sh; bash run_scripts/quickstart.sh unimo-2     # first: data, and what the UNIMO-2 starts from
#   bash run_scripts/tables/understanding.sh [KEY=VALUE]...                    (of the recipes)
# Sets: movie-reviews (SST-2), rated-snippets (STS-B), summary-pairs (MNLI), entailment (SNLI-VE), easy-vqa, scene-questions
# (VQA). Rows of each: model; words, a regression on the words of the texts; where there are pictures words-and-picture, on
# those and a mean feature or a thumbnail. Run again after an interruption: what is evaluated is not run again.
# Variables: OUTPUT (default runs/understanding), SETS, SEEDS (1), DATA (default data/quickstart), SAMPLES (default
# data/samples, made where they are not there), SCENES (default data/quickstart-unimo-2/scenes), START1 (the UNIMO with
# pictures, default runs/quickstart/finetuned), START2 (the UNIMO-2, default runs/quickstart-unimo-2/pretrain), STEPS (of all
# sets; for a try), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/understanding} DATA=${DATA:-data/quickstart} SAMPLES=${SAMPLES:-data/samples} SEEDS=${SEEDS:-1}
SETS=${SETS:-movie-reviews rated-snippets summary-pairs entailment easy-vqa scene-questions}
SCENES=${SCENES:-data/quickstart-unimo-2/scenes} START2=${START2:-runs/quickstart-unimo-2/pretrain}
START1=${START1:-runs/quickstart/finetuned}
processes=${NPROC:-2}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"

places() { # SET -> where its examples and pictures are, as an evaluation is told
  case $1 in
    movie-reviews | rated-snippets | summary-pairs) echo "--examples $SAMPLES/$1/examples.jsonl" ;;
    entailment) echo "--examples $SAMPLES/$1/examples.jsonl --regions $DATA/regions" ;;
    easy-vqa) echo "--examples $SAMPLES/$1/examples.jsonl --images $SAMPLES/$1/images.jsonl" ;;
    scene-questions) echo "--examples $SCENES/questions.jsonl --images $SCENES/pairs.jsonl" ;;
    *) echo "error: SETS: no set $1; see the head of $0" >&2 && return 2 ;;
  esac
}
sample() { # SET: make it where it is not there
  [[ $1 != scene-questions && ! -f $SAMPLES/$1/manifest.json ]] || return 0
  local pairs=()
  [[ $1 != entailment ]] || pairs=(--pairs "$DATA/pairs.jsonl" --rewrites "$DATA/rewrites.jsonl")
  step python -m data_prep samples "$1" "${pairs[@]}" "$SAMPLES/$1"
}

for set in $SETS; do places "$set" >/dev/null; done
for set in $SETS; do
  sample "$set"
  read -ra where < <(places "$set")
  settings=(examples="${where[1]}") start=$OUTPUT/start rows="words words-and-picture"
  case $set in
    entailment) settings+=(regions="$DATA/regions") start=$START1 ;;
    easy-vqa) settings+=(images="${where[3]}" labels="$SAMPLES/easy-vqa/answers.txt") start=$START2 ;;
    scene-questions) settings+=(images="${where[3]}" labels="$SCENES/answers.txt") start=$START2 ;;
    *) rows=words ;;
  esac
  [[ $start != "$OUTPUT/start" || -d $start ]] || step unimo init model_configs/pretrain/unimo_quickstart.yaml \
    tokenizer="$DATA/minilm" initialise_from="$DATA/minilm/model.safetensors" --output "$start"
  for seed in $SEEDS; do
    run=$OUTPUT/$set/model/$seed
    [[ -f $run/metrics.json ]] || launch finetune "model_configs/finetune/${set//-/_}_quickstart.yaml" "${settings[@]}" \
      ${STEPS:+engine.steps="$STEPS"} engine.seed="$seed" "$@" --model "$start" --label model --output "$run"
    for row in $rows; do
      [[ -f $OUTPUT/$set/$row/$seed/metrics.json ]] || step unimo evaluate classify "$run" --baseline "$row" \
        "${where[@]}" --label "$row" --against "$run" --output "$OUTPUT/$set/$row/$seed"
    done
  done
done

for set in $SETS; do
  printf '\n== %s\n' "$set"
  unimo report study "$OUTPUT/$set" --baseline model
done
