"""Scores from Paddle's inference engine are dygraph's, by the weights of the call; what cannot be had is refused."""

import numpy as np
import paddle
import pytest
from unpadded import FEATURES, WORDS, caption, picture

from unimo import inference
from unimo.errors import ConfigError
from unimo.evaluate.runtimes import BLOCK, WORTH_TRACING, check_precision, choose_runtime
from unimo.evaluate.scoring import score_matrix
from unimo.hardware import has_bfloat16
from unimo.models.oner import Oner, OnerConfig
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Unimo, UnimoConfig

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def unimo() -> Unimo:
    paddle.seed(0)
    model = Unimo(UnimoConfig(**SIZE, vocab_size=WORDS, image_embedding_size=FEATURES), ["pool", "match"])
    model.eval()
    return model


@pytest.fixture
def streams() -> tuple[list[Text], list[Regions]]:
    paddle.seed(1)
    return [caption(n) for n in (4, 7, 4, 9)], [picture(n) for n in (3, 6, 1)]


def test_scores_are_those_of_dygraph_and_follow_the_weights(streams):
    model = unimo()
    model.train()
    first = score_matrix(model, *streams, batch_positions=60, runtime="inference")
    assert model.training
    np.testing.assert_allclose(first, score_matrix(model, *streams), atol=1e-5)
    with paddle.no_grad():
        for parameter in model.parameters():
            parameter.set_value(1.5 * parameter)
    second, plain = score_matrix(model, *streams, runtime="inference"), score_matrix(model, *streams)
    np.testing.assert_allclose(second, plain, atol=1e-5)
    assert np.abs(second - first).max() > 1e-2


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no avx512_bf16")
def test_bfloat16_rounds_products_and_no_more(streams):
    """Rounding weights and every operator's output by hand moves these scores by a hundredth of their range."""
    model = unimo()
    exact = score_matrix(model, *streams)
    rounded = score_matrix(model, *streams, runtime="inference", precision="bfloat16")
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.ptp(exact)


def test_auto_traces_from_the_break_even_on():
    model, layers = unimo(), SIZE["num_hidden_layers"]
    assert choose_runtime("auto", model, WORTH_TRACING // layers) == "inference"
    assert choose_runtime("auto", model, WORTH_TRACING // layers - 1) == "dygraph"
    assert choose_runtime("inference", model, 1) == "inference"
    assert choose_runtime("dygraph", model, WORTH_TRACING) == "dygraph"


def test_auto_leaves_a_matrix_of_many_small_blocks_to_dygraph():
    """For a new shape the engine arranges all weights anew, which a few pairs of ragged lengths do not pay for."""
    model, positions = unimo(), 10 * WORTH_TRACING
    assert choose_runtime("auto", model, positions, positions // (10 * BLOCK)) == "inference"
    assert choose_runtime("auto", model, positions, positions // BLOCK) == "dygraph"
    assert choose_runtime("inference", model, positions, positions // BLOCK) == "inference"


def test_other_systems_are_not_traced():
    small = {"vocab_size": 30, "image_size": 32, "resolution": 8, "projection_size": 8}
    model = Oner(OnerConfig(**SIZE, **small))
    assert choose_runtime("auto", model, WORTH_TRACING) == "dygraph"
    with pytest.raises(
        ConfigError, match="inference is of a unimo on the CPU, got a oner; take runtime auto or dygraph"
    ):
        choose_runtime("inference", model, 1)


@pytest.mark.parametrize("runtime", ["auto", "dygraph"])
def test_bfloat16_is_of_the_engine(runtime, monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda: True)
    check_precision("inference", "bfloat16")
    with pytest.raises(ConfigError, match=f"bfloat16 needs runtime inference, got runtime {runtime}"):
        check_precision(runtime, "bfloat16")


def test_bfloat16_needs_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda: False)
    check_precision("inference", "float32")
    with pytest.raises(ConfigError, match="avx512_bf16, this one has none"):
        check_precision("inference", "bfloat16")
