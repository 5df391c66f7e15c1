#!/usr/bin/env bash
# The release's grids of GLUE: of each task 30 runs, two batch sizes x three rates x five seeds (UNIMO-2: 15, one batch
# size), dealt to devices, and of each settings best, median and mean over the seeds.
#   bash run_scripts/tables/glue.sh [KEY=VALUE]...                             (of the recipes, for all runs)
#   DEVICES="0 1 2 3" TASKS="sst2 mnli" SIZE=large bash run_scripts/tables/glue.sh
# Run again after an interruption: what is evaluated is not run again, what was begun goes on. A run that fails does not
# stop the others; it is named at the end.
# A run keeps its best checkpoint and its last one, with moments: some 3 GB for base, 9 for large.
# Variables: OUTPUT (default runs/glue), TASKS (sst2 cola mnli stsb), SIZE (base; large, unimo2_base), DEVICES (GPUs by
# number, or cpu as often as runs are to share the cores; default cpu), SEEDS (1 2 3 4 5), RATES (1e-5 2e-5 3e-5), BATCHES (a
# GPU: 16 32; UNIMO-2: 16), MODEL (what all start from, by default the release's choice).
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
OUTPUT=${OUTPUT:-runs/glue} TASKS=${TASKS:-sst2 cola mnli stsb} SIZE=${SIZE:-base} SEEDS=${SEEDS:-1 2 3 4 5}
RATES=${RATES:-1e-5 2e-5 3e-5}
if [[ $SIZE == unimo2_base ]]; then BATCHES=${BATCHES:-16}; else BATCHES=${BATCHES:-16 32}; fi
read -ra devices <<<"${DEVICES:-cpu}"
unset DEVICES # of launch.sh it is another list
unset -v NPROC
source "$repo/run_scripts/env.sh"
threads=$(($(nproc) / ${#devices[@]}))
declare -A folders=([sst2]=SST-2 [cola]=CoLA [mnli]=MNLI-AX [stsb]=STS-B)

runs=()
for seed in $SEEDS; do # seed by seed: an interrupted grid compares all settings on the seeds that are done
  for task in $TASKS; do
    [[ -n ${folders[$task]:-} ]] || { echo "error: TASKS: no task $task; there are ${!folders[*]}" >&2 && exit 2; }
    recipe=model_configs/finetune/${task}_$SIZE.yaml
    [[ -f $recipe ]] || { echo "error: SIZE: no recipe $recipe" >&2 && exit 2; }
    for batch in $BATCHES; do
      for rate in $RATES; do runs+=("$task $batch $rate $seed"); done
    done
  done
done

# shellcheck disable=SC2329 # `supervise` calls it
one_run() { # TASK BATCH RATE SEED KEY=VALUE...
  set -e
  local task=$1 batch=$2 rate=$3 seed=$4 recipe per every run
  shift 4
  recipe=model_configs/finetune/${task}_$SIZE.yaml
  run=$OUTPUT/$task/batch$batch-rate$rate/$seed
  [[ -f $run/metrics.json ]] && return
  per=$(sed -n 's/^examples_per_batch: \([0-9]*\).*/\1/p' "$recipe") # of 16 a GPU
  every=$(sed -n 's/^  eval_every: \([0-9]*\).*/\1/p' "$recipe")
  mkdir -p "$run"
  echo "$run"
  OUTPUT=$run step bash "run_scripts/finetune/classify/${folders[$task]}/run.sh" "$SIZE" \
    examples_per_batch=$((per * batch / 16)) engine.eval_every=$((every * 16 / batch)) engine.learning_rate="$rate" \
    engine.seed="$seed" engine.keep_last=1 "$@" >>"$run/output.log" 2>&1
}
work() { # PLACE KEY=VALUE...: every run that falls to the device at this place
  local place=$1 number words code failed=0
  shift
  export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
  export CUDA_VISIBLE_DEVICES=${devices[place]/#cpu/}
  for ((number = place; number < ${#runs[@]}; number += ${#devices[@]})); do
    read -ra words <<<"${runs[number]}"
    set +e # where a command's failure is looked at, bash lets those inside of it pass
    supervise one_run "${words[@]}" "$@"
    code=$?
    set -e
    ((stopped || code == 75)) && exit 75
    ((code == 0)) && continue
    echo "failed with $code: ${runs[number]}, see output.log in its folder" >&2
    failed=$code
  done
  exit "$failed"
}

workers=()
for place in "${!devices[@]}"; do
  work "$place" "$@" &
  workers+=($!)
done
trap 'kill -TERM "${workers[@]}" 2>/dev/null || true' TERM INT HUP
code=0
for worker in "${workers[@]}"; do
  while kill -0 "$worker" 2>/dev/null; do wait "$worker" || true; done # a signal ends a wait early
  wait "$worker" || code=$?
done
for task in $TASKS; do
  if compgen -G "$OUTPUT/$task/*/*/metrics.json" >/dev/null; then
    printf '\n%s\n\n' "$task"
    unimo report grid "$OUTPUT/$task"
  fi
done
exit "$code"
