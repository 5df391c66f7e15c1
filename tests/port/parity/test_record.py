"""What `port record` writes of a model, `port verify` finds again in the same model as a release's folder."""

import numpy as np
import paddle
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.models.unimo import HEADS, Unimo, UnimoConfig
from unimo.models.unimo2 import HEADS as HEADS2
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.port.parity.record import MODES
from unimo.zoo import save_pretrained

CONFIG = UnimoConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=50, image_embedding_size=7, num_labels=3
)
STACKS = {
    f"{stack}num_{kind}": n
    for stack in ("", "text_", "vit_")
    for kind, n in (("hidden_layers", 1), ("attention_heads", 2))
}
CONFIG2 = Unimo2Config(hidden_size=16, text_vocab_size=50, num_codebook=20, topk_value=4, **STACKS)


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result.output


def test_unimo_records_and_verifies_itself(tmp_path):
    paddle.seed(0)
    model = Unimo(CONFIG, [h for h in HEADS if not h.startswith("region")])
    save_pretrained(model, tmp_path / "model")
    run("port", "record", tmp_path / "model", tmp_path / "io.npz")
    run("port", "convert", tmp_path / "model", tmp_path / "release", "--to", "release")
    args = ("--config", tmp_path / "model" / "config.json", "--golden", tmp_path / "io.npz")
    output = run("port", "verify", tmp_path / "release", *args)
    assert output.count(" ok") == 11
    with np.load(tmp_path / "io.npz") as golden:
        assert golden["in_src_ids"].shape == (3, 9, 1) and (golden["in_src_ids"][1, -1] == 1).all()
        np.testing.assert_array_equal(golden["in_loc"][:, 0], [[0, 0, 1, 1, 1]] * 3)
    weights = tmp_path / "release" / "match_fc.b_0"
    data = bytearray(weights.read_bytes())
    data[-4:] = np.float32(3.0).tobytes()
    weights.write_bytes(data)
    assert "out_match_score" in next(
        line for line in run("port", "verify", tmp_path / "release", *args, code=1).splitlines() if "DIFFERS" in line
    )


@pytest.mark.parametrize("mode", MODES)
def test_unimo2_records_and_verifies_itself(mode, tmp_path):
    paddle.seed(0)
    save_pretrained(Unimo2(CONFIG2, HEADS2), tmp_path / "model")
    output = run("port", "record", tmp_path / "model", tmp_path / "io.npz", "--mode", mode)
    assert "out_idx" in output
    run("port", "convert", tmp_path / "model", tmp_path / "release", "--to", "release")
    args = ("--config", tmp_path / "model" / "config.json", "--golden", tmp_path / "io.npz", "--system", "unimo-2")
    assert "DIFFERS" not in run("port", "verify", tmp_path / "release", *args)


def test_the_same_seed_gives_the_same_file(tmp_path):
    paddle.seed(0)
    save_pretrained(Unimo(CONFIG, ("pool",)), tmp_path / "model")
    files = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        output = run("port", "record", tmp_path / "model", tmp_path / name, "--seed", seed)
        assert "out_l_pooled" in output and "out_lm_logits" not in output
        files.append(dict(np.load(tmp_path / name)))
    assert all(np.array_equal(files[0][key], files[1][key]) for key in files[0])
    assert not np.array_equal(files[0]["in_image"], files[2]["in_image"])
