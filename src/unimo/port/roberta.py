"""RoBERTa of Hugging Face, XLM-R and CamemBERT among them: RobertaModel and RobertaForMaskedLM.

Ids, positions and epsilon are those of the releases.
Its vocabulary has the releases' ids; only the special tokens have other names (readers/tokenizer.py). Its position
table starts at row pad_token_id + 1, which is 2, our first row, for the vocabulary of RoBERTa. Its type table of one
row, of zeros in the published models, goes into the position table.
"""

from pathlib import Path

from unimo.port import text_encoders
from unimo.port.bert import BERT, DEFAULTS, FIXED
from unimo.port.interchange import Checkpoint, Options
from unimo.port.names.text_names import Library, both

ROBERTA = Library(
    name="RoBERTa",
    model_type="roberta",
    classes="Roberta",
    architectures=("RobertaModel", "RobertaForMaskedLM"),
    prefix="roberta.",
    embeddings=BERT.embeddings,
    layer=BERT.layer,
    head={
        **both("lm.transform", "lm_head.dense"),
        **both("lm.norm", "lm_head.layer_norm"),
        "lm.bias": ("lm_head.bias",),
    },
    copies={
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    positions=BERT.positions,
    types=BERT.types,
    type_rows=1,
    torch=True,
    defaults={**DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
    fixed={**FIXED, "hidden_act": ("gelu",)},  # its LM head has a GELU whatever the layers have
    first_position=lambda config: config["pad_token_id"] + 1,
    special_ids=lambda tokenizer: {
        "bos_token_id": tokenizer.cls_id,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.sep_id,
    },
    write_vocabulary=BERT.write_vocabulary,
    same={"xlm-roberta": "XLMRoberta", "camembert": "Camembert"},
)


def read(path: Path, options: Options) -> Checkpoint:
    """A RoBERTa as the text side of UNIMO or UNIMO-2."""
    return text_encoders.read(ROBERTA, path, options)


def write(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """The text side of UNIMO or UNIMO-2 as a RoBERTa."""
    return text_encoders.write(ROBERTA, folder, checkpoint)
