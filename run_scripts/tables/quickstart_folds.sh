#!/usr/bin/env bash
# The quickstart's fine-tuning on every captioned picture: eight folds, each tested once, by several seeds, beside the
# ridge regression on the same features and pairs. Ours; docs/dual_encoder.md has what it gave.
#   bash run_scripts/quickstart.sh                    # first: it prepares the data
#   bash run_scripts/tables/quickstart_folds.sh [KEY=VALUE]...                 (of the fine-tuning recipe, for all arms)
# Arms: ridge; contrast (rewritten captions are negatives); plain (none are).
# Run again after an interruption: what is evaluated is not run again. Several may run at once on other folds.
# Variables: OUTPUT (default runs/folds), DATA (default data/quickstart), FOLDS, SEEDS, ARMS, FINETUNE_STEPS, BASELINE
# (ridge: the arm that others are compared with), NPROC.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/folds} DATA=${DATA:-data/quickstart} FOLDS=${FOLDS:-0 1 2 3 4 5 6 7} SEEDS=${SEEDS:-1 2 3}
ARMS=${ARMS:-ridge contrast plain} BASELINE=${BASELINE:-ridge}
processes=${NPROC:-2}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"

check() {
  case $1 in
    ridge | contrast | plain) ;;
    *) echo "error: ARMS: no arm $1; there are ridge, contrast, plain" >&2 && return 2 ;;
  esac
}

for arm in $ARMS; do check "$arm"; done
if [[ ! -d $OUTPUT/data ]]; then
  step python -m data_prep folds --pairs "$DATA/pairs.jsonl" --images "$DATA/images.jsonl" \
    --rewrites "$DATA/augmented.jsonl" --folds 8 --output "$OUTPUT/data"
fi
if [[ ! -d $OUTPUT/start ]]; then
  step unimo init model_configs/pretrain/unimo_quickstart.yaml tokenizer="$DATA/minilm" \
    initialise_from="$DATA/minilm/model.safetensors" --output "$OUTPUT/start"
fi

for seed in $SEEDS; do # seed by seed: an interrupted study has all folds of the seeds that are done
  for fold in $FOLDS; do
    files=$OUTPUT/data/$fold
    for arm in $ARMS; do
      run=$OUTPUT/runs/$arm/$fold-$seed
      [[ -f $run/metrics.json ]] && continue
      if [[ $arm == ridge ]]; then # it has no seed
        step unimo evaluate retrieval "$OUTPUT/start" --baseline ridge --pairs "$files/pairs.jsonl" \
          --regions "$DATA/regions" --rewrites "$files/rewrites.jsonl" --max-tokens 32 --label ridge --output "$run"
      else
        # both are evaluated on the rewrites; only one trains on them
        trained=(rewrites=null)
        [[ $arm == contrast ]] && trained=(rewrites="$files/rewrites.jsonl")
        launch finetune model_configs/finetune/dual_encoder_quickstart.yaml pairs="$files/pairs.jsonl" \
          images="$files/images.jsonl" texts="$DATA/texts.jsonl" regions="$DATA/regions" "${trained[@]}" \
          engine.seed="$seed" ${FINETUNE_STEPS:+engine.steps="$FINETUNE_STEPS"} "$@" \
          --model "$OUTPUT/start" --label "$arm" --output "$OUTPUT/training/$arm/$fold-$seed"
        step unimo evaluate retrieval "$OUTPUT/training/$arm/$fold-$seed" --pairs "$files/pairs.jsonl" \
          --regions "$DATA/regions" --rewrites "$files/rewrites.jsonl" --label "$arm" --output "$run"
        rm -r "$OUTPUT/training/$arm/$fold-$seed/checkpoints"
      fi
    done
  done
done

printf '\n'
unimo report study "$OUTPUT/runs" --baseline "$BASELINE"
