"""Text encoders and tokenizers of other libraries beside ours, on a padded batch of texts with token types."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from case import Case, Result, compare, compare_bits
from environments import TRANSFORMERS, environment, run_program

from unimo.config import ROOT
from unimo.models.systems import SYSTEMS
from unimo.models.unimo import Text
from unimo.port import bert, paddlenlp, roberta, text_encoders
from unimo.port.interchange import Checkpoint, Options
from unimo.port.names.text_names import Library
from unimo.port.weights import fill, values_of
from unimo.readers.captions import collate_text
from unimo.readers.tokenizer import load_tokenizer

HERE = Path(__file__).parent
PADDLENLP = (
    "paddlepaddle==3.3.1",
    "paddlenlp==2.8.1",
    "huggingface_hub<1",  # this and the rest: later ones lack what paddlenlp imports
    "aistudio-sdk<0.3",
    "datasets<4",
    "pyarrow<21",
)
LENGTHS = (64, 40, 17, 3)
TEXTS = [
    "A man is riding a horse.",
    "  two  blanks,\ttab\nline  ",
    "don't naïve CAFÉ Ångström İstanbul ß ﬁ",
    "3,000.50 $ 50% a_b-c/d e@f.g #hash (x)[y]{z}",
    "我在北京的天安门广场，看到了2022年的UNIMO模型。",
    "日本語のテキスト ひらがな カタカナ 한국어 ﾊﾝｶｸ",
    "“quotes” ‘single’ — dash … 。！？「」",
    "emoji 🙂🚀 👩‍👩‍👧 ✔️",
    "zero\u200bwidth soft\u00adhyphen no\u00a0break \u3000wide",
    "control\x07 \x00 null \ufffd \ufeffbom",
    "e\u0301 combining A\u030a",
    "𠀀𪜀 rare 㐀 豈",
    "unaffable supercalifragilisticexpialidocious " + "x" * 120,
    "мир Ελλάδα عربي हिन्दी ไทย",
    "20℃ €5 3×4→12 5²µm º〇 ØŋƱ ±1 ①②",
    "[brackets] <angles> ## ##ing",
    "",
    " ",
]


@dataclass(frozen=True)
class Side:
    """One library, run in its environment."""

    format: str
    port: Library
    library: str
    requirements: tuple[str, ...]
    program: str
    sizes: str

    def run(self, *arguments: str | Path) -> None:
        run_program(environment(self.requirements), HERE / self.program, *arguments)


_HF = ("transformers 5.23.0", TRANSFORMERS, "peer_text_hf.py")
BERT = Side("bert", bert.BERT, *_HF, "12 x 768, 30522 tokens")
ROBERTA = Side("roberta", roberta.ROBERTA, *_HF, "12 x 768, 50265 tokens")
NLP = Side(
    "paddlenlp", paddlenlp.PADDLENLP, "paddlenlp 2.8.1", PADDLENLP, "peer_text_paddlenlp.py", "12 x 768, 18000 tokens"
)


def write_inputs(folder: Path, system: str, vocabulary: int, types: int) -> None:
    """Ids of a padded batch; the second half of each text is of another type where both sides have types."""
    rng = np.random.default_rng(12)
    batch = collate_text([rng.integers(5, vocabulary, n) for n in LENGTHS], pad_id=1)
    second = np.arange(batch["ids"].shape[1]) >= np.array(LENGTHS)[:, None] // 2
    kinds = np.where(second & (batch["mask"] > 0), min(types, 2) - 1, 0) if system == "unimo" else 0 * batch["ids"]
    np.savez(folder / "inputs.npz", ids=batch["ids"], mask=batch["mask"].astype(np.int64), types=kinds)


def our_outputs(system: str, model: Any, folder: Path) -> dict[str, np.ndarray]:
    """States of the real tokens, and their logits, of a model of ours."""
    with np.load(folder / "inputs.npz") as inputs:
        ids, mask, types = (inputs[key] for key in ("ids", "mask", "types"))
    positions = np.where(mask > 0, np.arange(ids.shape[1]) + 2, 1)
    typed = getattr(model.config, "type_vocab_size", 0) > 0
    text = Text(*map(paddle.to_tensor, (ids, positions, mask)), paddle.to_tensor(types) if typed else None)
    model.eval()
    with paddle.no_grad():
        states = model(text).text if system == "unimo" else model.encode_text(text)[0]
        states = states[paddle.to_tensor(mask > 0)]
        found = {"states": states} | ({"logits": model.lm_logits(states)} if "lm" in model.heads else {})
    return {key: t.numpy() for key, t in found.items()}


def their_outputs(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "record.npz") as record:
        return {key: record[key][inputs["mask"] > 0] for key in record.files}


def theirs_to_ours(side: Side, kind: str, system: str, folder: Path) -> Result:
    """Random weights that the library made, converted."""
    sizes = dict(bert=(30522, 2), roberta=(50265, 1), paddlenlp=(18000, 4))[side.format]
    write_inputs(folder, system, *sizes)
    side.run("make", kind, folder)
    return converted(side, system, folder)


def converted(side: Side, system: str, folder: Path) -> Result:
    checkpoint = text_encoders.read(side.port, folder / "theirs", Options(system=system))
    model = SYSTEMS[system].model(checkpoint.config, checkpoint.heads)
    fill(model, checkpoint.tensors)
    return compare(our_outputs(system, model, folder), their_outputs(folder))


def minilm(system: str, folder: Path) -> Result:
    """The published weights, with the library beside them."""
    fetch_minilm(folder / "theirs")
    write_inputs(folder, system, 30522, 2)
    BERT.run("run", "BertModel", folder, "theirs")
    return converted(BERT, system, folder)


def fetch_minilm(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "data_prep", "minilm", folder], cwd=ROOT, check=True, stdout=sys.stderr)


def our_checkpoint(system: str, **sizes: Any) -> tuple[Any, Checkpoint]:
    """A random model of ours."""
    paddle.seed(13)
    model = SYSTEMS[system].model(SYSTEMS[system].config(**sizes), ["pool", "lm"])
    for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
        parameter.set_value(parameter + 0.02 * paddle.randn(parameter.shape))
    return model, Checkpoint(system, model.config, model.heads, values_of(model))


def ours_to_theirs(side: Side, kind: str, system: str, sizes: dict[str, Any], folder: Path) -> Result:
    """A random model of ours, converted and loaded by the library."""
    model, checkpoint = our_checkpoint(system, **sizes)
    write_inputs(folder, system, 18000, getattr(model.config, "type_vocab_size", 0) or 1)
    text_encoders.write(side.port, folder / "written", checkpoint)
    side.run("run", kind, folder, "written")
    return compare(our_outputs(system, model, folder), their_outputs(folder))


def there_and_back(side: Side, sizes: dict[str, Any], folder: Path) -> Result:
    """The text side of a random model of ours, converted and read again."""
    before = our_checkpoint("unimo", **sizes)[1].tensors
    text_encoders.write(side.port, folder / "written", our_checkpoint("unimo", **sizes)[1])
    after = text_encoders.read(side.port, folder / "written", Options()).tensors
    values = {name: before[name].read().copy() for name in after}
    if side is not ROBERTA:
        values["position_embedding.weight"][:2] = 0  # rows that no token has
    return compare_bits({name: tensor.read() for name, tensor in after.items()}, values)


def tokens(side: Side, kind: str, make: Callable[[Path], None], direction: str, folder: Path) -> Result:
    """Ids of tricky texts, and of the special tokens, by a vocabulary of the library's and by ours made of it."""
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    make(folder)
    tokenizer, name = load_tokenizer(folder / "theirs"), "theirs"
    if direction == "written":
        (folder / "written").mkdir()
        side.port.write_vocabulary(folder / "written", tokenizer)
        name = "written"
    side.run("encode", kind, folder, name)
    *ids, specials = json.loads((folder / "ids.json").read_text())
    t = tokenizer
    ours = [*tokenizer.encode_batch(TEXTS), [t.cls_id, t.pad_id, t.sep_id, t.unk_id, t.mask_id]]
    return compare_bits(*({str(i): np.array(x) for i, x in enumerate(each)} for each in (ours, [*ids, specials])))


def chinese_vocabulary(folder: Path) -> None:
    """`token<TAB>id` lines as the published Chinese models have them, [UNK] last, of common characters and pieces."""
    characters = [chr(0x4E00 + i) for i in range(6000)] + list("，。！？“”‘’…—（）[]<>#%$@/-_.0123456789")
    pieces = [*"abcdefghijklmnopqrstuvwxyz", "model", "uni", "mo", "un", "caf", "man", "horse", "is", "2022", "##22"]
    inner = ["##" + c for c in (*characters[:3000], *pieces[:26], *"0123456789", "mo", "able", "ing")]
    words = dict.fromkeys(["[PAD]", "[CLS]", "[SEP]", "[MASK]", *characters, *pieces, *inner, "[UNK]"])
    (folder / "theirs").mkdir()
    lines = "".join(f"{token}\t{i}\n" for i, token in enumerate(words))
    (folder / "theirs" / "vocab.txt").write_text(lines, encoding="utf-8")


def _case(side: Side, way: str, run: Callable[[Path], Result], what: str, sizes: str) -> Case:
    ways = {"read": f"{side.format} -> ours", "write": f"ours -> {side.format}", "back": "there and back"}
    return Case(f"{side.format}-{way}-{what}", side.format, ways[way], side.library, sizes, run)


def _cases(side: Side, bare: str, whole: str, sizes: dict[str, Any]) -> list[Case]:
    """Models without and with the LM head, both directions, as UNIMO and as UNIMO-2."""
    second = {f"text_{key}": value for key, value in sizes.items() if key in ("vocab_size", "max_position_embeddings")}
    second |= {key: value for key, value in sizes.items() if key == "layer_norm_eps"}
    reads = [(bare, "unimo"), (whole, "unimo"), *([] if side is NLP else [(whole, "unimo-2")])]  # UNIMO-2 has no ReLU
    return [
        *(
            _case(
                side,
                "read",
                partial(theirs_to_ours, side, *read),
                "-".join(read),
                f"{read[0]} as {read[1]}, {side.sizes}",
            )
            for read in reads
        ),
        *(
            _case(side, "write", partial(ours_to_theirs, side, whole, system, ours), system, f"{system}, {side.sizes}")
            for system, ours in (("unimo", sizes), ("unimo-2", second))
        ),
        _case(side, "back", partial(there_and_back, side, sizes), "unimo", f"unimo, {side.sizes}"),
    ]


def _vocabulary(side: Side, kind: str, make: Callable[[Path], None], what: str) -> list[Case]:
    return [
        _case(side, way, partial(tokens, side, kind, make, name), "vocabulary", f"ids by {what}")
        for way, name in (("read", "theirs"), ("write", "written"))
    ]


CASES = (
    *_cases(ROBERTA, "RobertaModel", "RobertaForMaskedLM", {"max_position_embeddings": 514, "vocab_size": 50265}),
    *_vocabulary(ROBERTA, "RobertaTokenizer", lambda f: ROBERTA.run("train", "RobertaTokenizer", f), "2000 BPE tokens"),
    *_cases(
        BERT,
        "BertModel",
        "BertForMaskedLM",
        {"max_position_embeddings": 514, "vocab_size": 30522, "type_vocab_size": 2, "layer_norm_eps": 1e-12},
    ),
    _case(BERT, "read", partial(minilm, "unimo"), "minilm", "all-MiniLM-L6-v2: 6 x 384, 30522 tokens"),
    *_vocabulary(BERT, "BertTokenizer", lambda f: fetch_minilm(f / "theirs"), "MiniLM's 30522 WordPieces"),
    *_cases(
        NLP,
        "UNIMOModel",
        "UNIMOLMHeadModel",
        {"max_position_embeddings": 515, "vocab_size": 18000, "type_vocab_size": 4, "hidden_act": "relu"},
    ),
    *_vocabulary(NLP, "UNIMOTokenizer", chinese_vocabulary, "9000 Chinese WordPieces"),
)
