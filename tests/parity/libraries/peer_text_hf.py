"""Runs in transformers' environment: a random model of its own, one converted from ours, or a tokenizer.

peer_text_hf.py make CLASS FOLDER       inputs of FOLDER/inputs.npz -> FOLDER/theirs, FOLDER/record.npz
peer_text_hf.py run CLASS FOLDER NAME   model FOLDER/NAME, inputs of FOLDER/inputs.npz -> FOLDER/record.npz
peer_text_hf.py train CLASS FOLDER      vocabulary of FOLDER/texts.json -> FOLDER/theirs
peer_text_hf.py encode CLASS FOLDER NAME    tokenizer FOLDER/NAME, texts of FOLDER/texts.json -> FOLDER/ids.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

SIZES = {  # what the published base models have and the library's defaults do not
    "RobertaForMaskedLM": {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
}


def main(mode: str, kind: str, folder: Path, name: str = "theirs") -> None:
    {"make": make, "run": run, "train": train, "encode": encode}[mode](getattr(transformers, kind), folder, name)


def make(kind: type, folder: Path, name: str) -> None:
    torch.manual_seed(11)
    model = kind(kind.config_class(**SIZES.get(kind.__name__, {})))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder / name)
    record(model, folder)


def run(kind: type, folder: Path, name: str) -> None:
    model, report = kind.from_pretrained(folder / name, output_loading_info=True, local_files_only=True)
    wrong = {key: found for key, found in report.items() if found}
    if name == "written" and wrong:
        sys.exit(f"transformers does not take the written folder: {wrong}")
    record(model, folder)


def record(model: torch.nn.Module, folder: Path) -> None:
    inputs = {key: torch.from_numpy(array) for key, array in np.load(folder / "inputs.npz").items()}
    model.eval()
    with torch.no_grad():
        out = model(
            input_ids=inputs["ids"],
            attention_mask=inputs["mask"],
            token_type_ids=inputs["types"],
            output_hidden_states=True,
        )
    found = {"states": out.hidden_states[-1], "logits": getattr(out, "logits", None)}
    np.savez(folder / "record.npz", **{key: t.numpy() for key, t in found.items() if t is not None})


def train(kind: type, folder: Path, name: str) -> None:
    (folder / name).mkdir()
    bpe = tokenizers.ByteLevelBPETokenizer()
    texts = json.loads((folder / "texts.json").read_text())
    bpe.train_from_iterator(texts, 2000, 2, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bpe.save_model(str(folder / name))


def encode(kind: type, folder: Path, name: str) -> None:
    tokenizer = kind.from_pretrained(folder / name, local_files_only=True)
    texts = json.loads((folder / "texts.json").read_text())
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    specials = [getattr(tokenizer, f"{key}_token_id") for key in ("cls", "pad", "sep", "unk", "mask")]
    (folder / "ids.json").write_text(json.dumps([*ids, specials]))


if __name__ == "__main__":
    main(*sys.argv[1:3], Path(sys.argv[3]), *sys.argv[4:])
