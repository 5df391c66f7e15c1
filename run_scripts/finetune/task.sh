# shellcheck shell=bash
# What the scripts of tasks share. Source it and call `task`: it fine-tunes by the recipe of a data set and a size.
# The words of a user: [base|large|unimo2_base] [--dry-run] [KEY=VALUE]...
# --dry-run shows the paper's row and the command, and checks the recipe.
# Variables: MODEL (what to start from: a name of `unimo zoo list`, or a model folder), OUTPUT (default
# runs/DATASET_SIZE), and those of launch.sh: NPROC, DEVICES, NNODES, MASTER, HOST.
tasks=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$tasks/../.." && pwd)

# shellcheck disable=SC2154 # who sources this may set `split`, and the names that a task starts from
task() { # DATASET WORDS...
  local dataset=$1 size=${default_size:-base} recipe start word settings=()
  shift
  for word in "$@"; do
    case $word in
      base | large | unimo2_base) size=$word ;;
      *) settings+=("$word") ;;
    esac
  done
  recipe=$repo/model_configs/finetune/${dataset}_$size.yaml
  if [[ ! -f $recipe ]]; then
    echo "error: no recipe ${dataset}_$size; there are: $(cd "$repo/model_configs/finetune" && echo "$dataset"_*.yaml)" >&2
    return 2
  fi
  case $size in
    base) start=${base_model:-unimo-base-en} ;;
    large) start=${large_model:-unimo-large-en} ;;
    *) start=unimo-2-base-en ;;
  esac
  exec bash "$repo/run_scripts/launch.sh" finetune "$recipe" --model "${MODEL:-$start}" \
    --output "${OUTPUT:-$repo/runs/${dataset}_$size}" --split "${split:-test}" "${settings[@]}"
}
