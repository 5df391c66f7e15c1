"""PaddleNLP's UNIMO: UNIMOModel and UNIMOLMHeadModel, also called UNIMOForMaskedLM and UNIMOForConditionalGeneration.

It is UNIMO's text side without images; its published models are Chinese, with ReLU, 4 token types and positions from 0,
and a WordPiece vocabulary of `token<TAB>id` lines. Affine maps are kept [in, out] as ours are.
"""

import json
from pathlib import Path

from unimo.port import text_encoders
from unimo.port.interchange import Checkpoint, Options
from unimo.port.library_folder import plain, splits_symbols, word_piece_settings
from unimo.port.names.text_names import Library, both
from unimo.readers.tokenizer import SETTINGS, Tokenizer

_LAYER = "encoder.layers.{i}."


def _vocabulary(folder: Path, tokenizer: Tokenizer) -> list[str]:
    values = json.loads(tokenizer.to_json())
    if values["model"]["type"] != "WordPiece":
        tokenizer.save(folder)
        return ["PaddleNLP's UNIMOTokenizer is WordPiece only: the byte-level BPE was written as our tokenizer.json"]
    if not plain(values):
        tokenizer.save(folder)
        return ["the vocabulary has settings that UNIMOTokenizer has not: it was written as our tokenizer.json"]
    lines = sorted(values["model"]["vocab"].items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\t{i}\n" for token, i in lines), encoding="utf-8")
    settings = {"tokenizer_class": "UNIMOTokenizer", **word_piece_settings(values)}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    if splits_symbols(values):
        return []
    return ["UNIMOTokenizer splits at symbols, as this vocabulary's own does not"]


PADDLENLP = Library(
    name="PaddleNLP's UNIMO",
    model_type="unimo",
    classes="UNIMO",
    architectures=("UNIMOModel", "UNIMOLMHeadModel"),
    prefix="unimo.",
    embeddings={
        "word_embedding.weight": ("embeddings.word_embeddings.weight",),
        **both("text_norm", "encoder_norm"),
    },
    layer={
        **both("layers.{i}.attention.qkv", *(f"{_LAYER}self_attn.{kind}" for kind in ("q_proj", "k_proj", "v_proj"))),
        **both("layers.{i}.attention.out", _LAYER + "self_attn.out_proj"),
        **both("layers.{i}.attention_norm", _LAYER + "norm1"),
        **both("layers.{i}.feed_forward.inner", _LAYER + "linear1"),
        **both("layers.{i}.feed_forward.outer", _LAYER + "linear2"),
        **both("layers.{i}.feed_forward_norm", _LAYER + "norm2"),
    },
    head={
        **both("lm.transform", "lm_head.transform"),
        **both("lm.norm", "lm_head.layer_norm"),
        "lm.bias": ("lm_head.decoder_bias",),
    },
    copies={"lm_head.decoder_weight": "embeddings.word_embeddings.weight"},
    positions="embeddings.position_embeddings.weight",
    types="embeddings.token_type_embeddings.weight",
    type_rows=4,
    torch=False,
    defaults={  # of UNIMOConfig
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "hidden_act": "relu",
        "vocab_size": 18000,
        "max_position_embeddings": 513,
        "type_vocab_size": 4,
        "layer_norm_eps": 1e-5,  # not in the config: its layer norms are Paddle's as they come
    },
    fixed={
        "hidden_act": ("gelu", "relu"),
        "normalize_before": (False,),
        "layer_norm_eps": (1e-5,),
    },
    first_position=lambda config: 0,
    special_ids=lambda tokenizer: {
        "unk_token_id": tokenizer.unk_id,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.cls_id,
        "eos_token_id": tokenizer.mask_id,  # as in its published configs: a generated text ends at [MASK]
        "mask_token_id": tokenizer.mask_id,
    },
    write_vocabulary=_vocabulary,
)


def read(path: Path, options: Options) -> Checkpoint:
    """A UNIMO of PaddleNLP as UNIMO, or as the text side of UNIMO-2."""
    return text_encoders.read(PADDLENLP, path, options)


def write(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """The text side of UNIMO or UNIMO-2 as a UNIMO of PaddleNLP."""
    return text_encoders.write(PADDLENLP, folder, checkpoint)
