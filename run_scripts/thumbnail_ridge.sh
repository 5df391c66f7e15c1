# shellcheck shell=bash
# What a UNIMO-2 trained on composed pictures is read against. Source it after env.sh.

# Ridge regression from 16 x 16 thumbnails to MiniLM's sentence vectors, fitted to the training pairs of DATA/scenes with
# the vocabulary and weights in DATA/minilm, evaluated on the test split into OUTPUT.
thumbnail_ridge() { # DATA OUTPUT
  local sentences minilm=(model.hidden_size=384 model.num_attention_heads=6 model.vit_num_attention_heads=6
    model.text_num_hidden_layers=6 model.text_num_attention_heads=12 model.text_max_position_embeddings=514
    initialise_from="$1/minilm/model.safetensors") # another size of the same make, that of MiniLM
  sentences=$(dirname "$2")/sentences
  step unimo init model_configs/pretrain/unimo2_micro.yaml data.pairs="$1/scenes/pairs.jsonl" tokenizer="$1/minilm" \
    "${minilm[@]}" --output "$sentences"
  step unimo evaluate retrieval "$sentences" --baseline ridge --pairs "$1/scenes/pairs.jsonl" --max-tokens 32 \
    --label "ridge of thumbnails" --output "$2"
}
