#!/usr/bin/env bash
# UNIMO from nothing on two CPU cores: real pictures and captions, region features, paraphrases and hard negatives, similar
# sentences and images, pre-training on texts and pictures, retrieval fine-tuned with it and without it beside a linear
# baseline, and two pages to look at: one of the data, one of the runs. Or UNIMO-2 from pixels: composed pictures,
# pre-training, zero-shot retrieval beside a linear baseline, and a page (quickstart_unimo2.sh).
#   bash run_scripts/quickstart.sh [unimo | unimo-2]
# Run again after an interruption: every stage goes on where it was.
# Variables: OUTPUT (default runs/quickstart), DATA (default data/quickstart), SOURCE (auto, debian or openclipart: where
# pictures come from), PRETRAIN_STEPS, FINETUNE_STEPS, LIMIT (records of each kind; for a try), NPROC (processes), and
# those of setup.sh.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${1:-unimo} in
  unimo) ;;
  unimo-2) exec bash "$repo/run_scripts/quickstart_unimo2.sh" ;;
  *) echo "error: no quickstart of $1; there are unimo and unimo-2" >&2 && exit 2 ;;
esac
source "$repo/run_scripts/setup.sh" data,report
cd "$repo"
OUTPUT=${OUTPUT:-runs/quickstart} DATA=${DATA:-data/quickstart} SOURCE=${SOURCE:-auto}
processes=${NPROC:-2}
unset NPROC # env.sh gives the stages of one process all cores
source "$repo/run_scripts/env.sh"

data=(data.pairs="$DATA/pairs.jsonl" data.rewrites="$DATA/augmented.jsonl" data.images="$DATA/images.jsonl"
  data.texts="$DATA/texts.jsonl" data.regions="$DATA/regions"
  tokenizer="$DATA/minilm" initialise_from="$DATA/minilm/model.safetensors")
pretrain=model_configs/pretrain/unimo_quickstart.yaml
finetune=(finetune model_configs/finetune/dual_encoder_quickstart.yaml
  pairs="$DATA/pairs.jsonl" rewrites="$DATA/augmented.jsonl" images="$DATA/images.jsonl" texts="$DATA/texts.jsonl"
  regions="$DATA/regions" ${FINETUNE_STEPS:+engine.steps="$FINETUNE_STEPS"})

step python -m data_prep minilm "$DATA/minilm"
step python -m data_prep demo "$DATA" --source "$SOURCE" ${LIMIT:+--limit "$LIMIT"}
step python -m data_prep regions extract --pairs "$DATA/pairs.jsonl" --images "$DATA/images.jsonl" \
  --extractor resnet50 --workers "$processes" --output "$DATA/regions"
step python -m data_prep rewrite build --pairs "$DATA/pairs.jsonl" --regions "$DATA/regions" \
  --output "$DATA/rewrites.jsonl"
step python -m data_prep retrieve fit --pairs "$DATA/pairs.jsonl" --texts "$DATA/texts.jsonl" \
  --images "$DATA/images.jsonl" --regions "$DATA/regions" --output "$DATA/neighbours"
step python -m data_prep retrieve apply --index "$DATA/neighbours" --pairs "$DATA/pairs.jsonl" \
  --rewrites "$DATA/rewrites.jsonl" --output "$DATA/augmented.jsonl"
step python -m data_prep page --pairs "$DATA/pairs.jsonl" --rewrites "$DATA/augmented.jsonl" --regions "$DATA/regions" \
  --images "$DATA/images.jsonl" --output "$DATA/page.html"

step unimo init "$pretrain" "${data[@]}" --output "$OUTPUT/start"
step unimo evaluate retrieval "$OUTPUT/start" --baseline ridge --pairs "$DATA/pairs.jsonl" --regions "$DATA/regions" \
  --rewrites "$DATA/augmented.jsonl" --max-tokens 32 --label ridge --output "$OUTPUT/ridge"
launch pretrain "$pretrain" "${data[@]}" ${PRETRAIN_STEPS:+engine.steps="$PRETRAIN_STEPS"} --output "$OUTPUT/pretrain"
launch "${finetune[@]}" --model "$OUTPUT/pretrain" --label "fine-tuned" --output "$OUTPUT/finetuned"
launch "${finetune[@]}" --model "$OUTPUT/start" --label "fine-tuned without pre-training" --output "$OUTPUT/not_pretrained"

runs=("$OUTPUT/pretrain" "$OUTPUT/ridge" "$OUTPUT/finetuned" "$OUTPUT/not_pretrained")
step unimo report run "${runs[@]}" --baseline ridge --output "$OUTPUT/report.html"
printf '\n'
unimo report table "${runs[@]}" --baseline ridge
printf '\n%s\n' "$(realpath "$OUTPUT/report.html")"
