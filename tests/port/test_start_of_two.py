"""UNIMO-2's pre-training starts from a ViT of one library and a text encoder of another at once."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file
from text_folders import HEADS, HIDDEN, LAYERS, SPECIALS, VOCABULARY, random_tensors, write_library_folder

from unimo.config import validate
from unimo.errors import CheckpointError
from unimo.models.unimo2 import Unimo2
from unimo.port.bert import BERT
from unimo.port.roberta import ROBERTA
from unimo.pretrain.run import build_model
from unimo.pretrain.unimo2_recipe import Unimo2Recipe
from unimo.readers.tokenizer import load_tokenizer

VIT = Path(__file__).parents[1] / "fixtures" / "vit" / "hf"  # written by transformers: 2 layers, 16 wide, 32 pixels
MODEL = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vit_num_hidden_layers": 2,
    "vit_num_attention_heads": 2,
    "image_size": 32,
    "resolution": 8,
    "text_num_hidden_layers": LAYERS,
    "text_num_attention_heads": HEADS,
    "text_vocab_size": VOCABULARY,
    "text_max_position_embeddings": 20,
    "num_codebook": 12,
    "topk_value": 3,
}


def recipe_of(folder: Path, starts: list[Path], **model: int) -> Unimo2Recipe:
    values = {
        "system": "unimo-2",
        "model": MODEL | model,
        "tokenizer": str(folder),
        "initialise_from": [str(start) for start in starts],
        "data": {"pairs": "pairs.jsonl"},
        "streams": {"pair": 1},
        "batch_positions": {"pair": 64},
        "max_tokens": 12,
        "weights": {"match": 1.0, "contrast": 1.0},
        "engine": {"steps": 1, "learning_rate": 1e-3},
    }
    return validate(Unimo2Recipe, values, "the test")


@pytest.mark.parametrize("library", [BERT, ROBERTA])
def test_each_fills_its_part_and_the_rest_starts_at_random(library, tmp_path, capfd):
    words = SPECIALS + [f"w{i}" for i in range(VOCABULARY - len(SPECIALS))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    tensors = random_tensors(library)
    text = write_library_folder(tmp_path / "text", library, tensors, "\n".join(words) + "\n")
    rows = 22 if library is BERT else 20  # BERT counts positions from 0, this toolkit from 2
    recipe = recipe_of(tmp_path, [VIT, text], text_max_position_embeddings=rows)
    model = build_model(recipe, load_tokenizer(tmp_path))
    theirs = load_file(VIT / "model.safetensors")
    cls = next(array for name, array in theirs.items() if name.endswith("cls_token"))
    assert np.array_equal(model.vit.cls.numpy(), cls)
    table = next(array for name, array in tensors.items() if name.endswith("word_embeddings.weight"))
    assert np.array_equal(model.text.word_embedding.weight.numpy(), table)
    inner = next(array for name, array in tensors.items() if "layer.2.intermediate.dense.weight" in name)
    assert np.array_equal(model.text.layers[2].feed_forward.inner.weight.numpy(), inner.T)
    said = "".join(capfd.readouterr())
    random = next(line for line in said.splitlines() if "starting at random" in line)
    assert "not in any of the 2 checkpoints" in random
    parts = {part.strip() for part in random.split(":")[1].split(",")}
    assert parts - {"lm"} == {"cmcl_temperature", "dictionary", "grounded", "match", "pool_image", "pool_text"}
    paddle.seed(recipe.engine.seed)
    fresh = Unimo2(recipe.model, model.heads)
    assert np.array_equal(model.dictionary.codes.numpy(), fresh.dictionary.codes.numpy()), "those of the seed"


def test_two_that_do_not_fit_together_are_refused(tmp_path):
    words = SPECIALS + [f"w{i}" for i in range(VOCABULARY - len(SPECIALS))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    text = write_library_folder(tmp_path / "text", BERT, random_tensors(BERT), "\n".join(words) + "\n")
    with pytest.raises(CheckpointError, match="num_hidden_layers: 2, expected 3"):
        recipe = recipe_of(tmp_path, [VIT, text], vit_num_hidden_layers=3, text_max_position_embeddings=22)
        build_model(recipe, load_tokenizer(tmp_path))
