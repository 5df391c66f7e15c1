# shellcheck shell=bash
# What the studies of UNIMO-2 on composed pictures share. Source it, define `settings ARM`, which prints the keys that the
# arm changes, and call `study`.
# shellcheck disable=SC2154 # the script that sources this sets repo, OUTPUT, ARMS, SEEDS and BASELINE
cd "$repo" || exit
DATA=${DATA:-data/unimo2} PICTURES=${PICTURES:-20000} HELD_OUT=${HELD_OUT:-1000} SHORTLIST=${SHORTLIST:-8}
# shellcheck disable=SC2034 # of `launch`
processes=${NPROC:-1}
unset NPROC # env.sh gives the evaluations all cores
source "$repo/run_scripts/env.sh"
source "$repo/run_scripts/thumbnail_ridge.sh"
recipe=model_configs/pretrain/unimo2_micro.yaml

study() { # KEY=VALUE... of all arms
  local arm seed score model changed given
  local data=(data.pairs="$DATA/scenes/pairs.jsonl" tokenizer="$DATA/minilm")
  for arm in $ARMS; do settings "$arm" >/dev/null; done
  [[ -d $DATA/minilm ]] || step python -m data_prep minilm "$DATA/minilm"
  [[ -f $DATA/scenes/manifest.json ]] || step python -m data_prep scenes "$DATA/scenes" --train "$PICTURES" --dev 500 \
    --test "$HELD_OUT" --unpaired "${UNPAIRED:-0}"
  # what every arm must beat before they are compared
  [[ -f $OUTPUT/ridge/metrics.json ]] || thumbnail_ridge "$DATA" "$OUTPUT/ridge"

  for seed in $SEEDS; do # seed by seed: an interrupted study compares all arms on the seeds that are done
    for arm in $ARMS; do
      model=$OUTPUT/training/$arm/$seed
      [[ -f $OUTPUT/contrast/$arm/$seed/metrics.json ]] && continue
      read -ra changed < <(settings "$arm")
      launch pretrain "$recipe" "${data[@]}" "${changed[@]}" engine.seed="$seed" \
        ${STEPS:+engine.steps="$STEPS"} "$@" --output "$model"
      for score in joint contrast; do
        given=(--shortlist "$SHORTLIST")
        [[ $score == contrast ]] && given=(--score alone)
        step unimo evaluate retrieval "$model" --pairs "$DATA/scenes/pairs.jsonl" --max-tokens 32 "${given[@]}" \
          --label "$arm" --output "$OUTPUT/$score/$arm/$seed"
      done
    done
  done
  printf '\n'
  unimo report table "$OUTPUT/ridge"
  for score in joint contrast; do
    printf '\n%s\n\n' "$score"
    unimo report study "$OUTPUT/$score" --baseline "$BASELINE"
  done
}
