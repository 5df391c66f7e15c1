"""Runs in PaddleNLP's environment: a random UNIMO of its own, one converted from ours, or a tokenizer.

peer_text_paddlenlp.py make CLASS FOLDER      inputs of FOLDER/inputs.npz -> FOLDER/theirs, FOLDER/record.npz
peer_text_paddlenlp.py run CLASS FOLDER       model FOLDER/written, inputs of FOLDER/inputs.npz -> FOLDER/record.npz
peer_text_paddlenlp.py encode CLASS FOLDER NAME   tokenizer FOLDER/NAME, texts of FOLDER/texts.json -> FOLDER/ids.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import paddle
from paddlenlp import transformers


def main(mode: str, kind: str, folder: Path, name: str = "theirs") -> None:
    {"make": make, "run": run, "encode": encode}[mode](getattr(transformers, kind), folder, name)


def make(kind: type, folder: Path, name: str) -> None:
    paddle.seed(11)
    model = kind(transformers.UNIMOConfig())
    for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
        parameter.set_value(parameter + 0.02 * paddle.randn(parameter.shape))
    model.save_pretrained(str(folder / name))
    record(model, folder)


def run(kind: type, folder: Path, name: str) -> None:
    paddle.seed(12)  # whatever it does not load differs from what was written
    record(kind.from_pretrained(str(folder / name)), folder)


def record(model: paddle.nn.Layer, folder: Path) -> None:
    inputs = {key: paddle.to_tensor(array) for key, array in np.load(folder / "inputs.npz").items()}
    model.eval()
    encoder = getattr(model, "unimo", model)
    with paddle.no_grad():
        states = encoder(
            inputs["ids"],
            inputs["types"],
            paddle.arange(inputs["ids"].shape[1]).expand_as(inputs["ids"]),
            (inputs["mask"].astype("float32") - 1).unsqueeze([1, 2]) * 1e4,
        )
        found = {"states": states} | ({"logits": model.lm_head(states)} if encoder is not model else {})
    np.savez(folder / "record.npz", **{key: t.numpy() for key, t in found.items()})


def encode(kind: type, folder: Path, name: str) -> None:
    tokenizer = kind.from_pretrained(str(folder / name))
    texts = json.loads((folder / "texts.json").read_text())
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    specials = [getattr(tokenizer, f"{key}_token_id") for key in ("cls", "pad", "sep", "unk", "mask")]
    (folder / "ids.json").write_text(json.dumps([*ids, specials]))


if __name__ == "__main__":
    main(*sys.argv[1:3], Path(sys.argv[3]), *sys.argv[4:])
