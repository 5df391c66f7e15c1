"""BERT of Hugging Face, MiniLM among them: BertModel and BertForMaskedLM.

Its layer norm has epsilon 1e-12: for equal hidden states, `layer_norm_eps` of our config must be that too, as it is in
the config that `read` makes.
"""

from pathlib import Path

from unimo.port import text_encoders
from unimo.port.interchange import Checkpoint, Options
from unimo.port.library_folder import write_vocabulary
from unimo.port.names.text_names import Library, both

EMBEDDINGS = {
    "word_embedding.weight": ("embeddings.word_embeddings.weight",),
    **both("text_norm", "embeddings.LayerNorm"),
}
_SELF = "encoder.layer.{i}.attention.self."
LAYER = {
    **both("layers.{i}.attention.qkv", _SELF + "query", _SELF + "key", _SELF + "value"),
    **both("layers.{i}.attention.out", "encoder.layer.{i}.attention.output.dense"),
    **both("layers.{i}.attention_norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    **both("layers.{i}.feed_forward.inner", "encoder.layer.{i}.intermediate.dense"),
    **both("layers.{i}.feed_forward.outer", "encoder.layer.{i}.output.dense"),
    **both("layers.{i}.feed_forward_norm", "encoder.layer.{i}.output.LayerNorm"),
}
DEFAULTS = {  # of BertConfig; RobertaConfig has them too, but for the vocabulary and its pad
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
FIXED = {
    "hidden_act": ("gelu", "relu"),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}


def _modern(name: str) -> str:
    """TensorFlow's gamma and beta are weight and bias today."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


BERT = Library(
    name="BERT",
    model_type="bert",
    classes="Bert",
    architectures=("BertModel", "BertForMaskedLM"),
    prefix="bert.",
    embeddings=EMBEDDINGS,
    layer=LAYER,
    head={
        **both("lm.transform", "cls.predictions.transform.dense"),
        **both("lm.norm", "cls.predictions.transform.LayerNorm"),
        "lm.bias": ("cls.predictions.bias",),
    },
    copies={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    positions="embeddings.position_embeddings.weight",
    types="embeddings.token_type_embeddings.weight",
    type_rows=2,
    torch=True,
    defaults=DEFAULTS,
    fixed=FIXED,
    first_position=lambda config: 0,
    special_ids=lambda tokenizer: {"pad_token_id": tokenizer.pad_id},
    write_vocabulary=write_vocabulary,
    modern=_modern,
)


def read(path: Path, options: Options) -> Checkpoint:
    """A BERT as the text side of UNIMO or UNIMO-2."""
    return text_encoders.read(BERT, path, options)


def write(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """The text side of UNIMO or UNIMO-2 as a BERT."""
    return text_encoders.write(BERT, folder, checkpoint)
