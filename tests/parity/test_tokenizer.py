"""The releases' dictionary: ids of some texts, and the copy that this project ships."""

from parity.recordings import ROOT
from unimo.config import ROOT as CLONE
from unimo.readers.tokenizer import load_tokenizer

RELEASE_VECTORS = {
    "a man is riding a horse.": [102, 313, 16, 5793, 10, 5253, 4],
    "A man is riding a horse.": [250, 313, 16, 5793, 10, 5253, 4],
    " a man": [10, 313],
    "don't stop": [7254, 75, 912],
    "naïve café 123": [2133, 48350, 26059, 17072],
    "[CLS] hello": [10975, 7454, 104, 742, 20760],
    "[SEP]": [10975, 3388, 510, 742],
}


def test_recording():
    tokenizer = load_tokenizer(ROOT / "tokenizer")
    assert {text: tokenizer.encode(text) for text in RELEASE_VECTORS} == RELEASE_VECTORS
    assert (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert (tokenizer.mask_id, tokenizer.vocab_size) == (50264, 50265)
    assert load_tokenizer(CLONE / "model_files" / "dict").fingerprint == tokenizer.fingerprint
