"""The registry of systems: what is asked of one is answered by all that read text."""

import numpy as np
import paddle
import pytest

from unimo.config import ROOT, load
from unimo.errors import ConfigError
from unimo.models.systems import (
    SYSTEMS,
    check_length,
    check_vocabulary,
    described,
    longest_text,
    skeleton,
    system_of,
    with_heads,
)

TINY = {"unimo": "unimo_tiny", "unimo-2": "unimo2_tiny", "oner": "oner_tiny"}


def tiny(system: str):
    return load(SYSTEMS[system].config, ROOT / "model_configs" / "models" / f"{TINY[system]}.yaml")


def test_the_systems():
    assert set(TINY) == {name for name, system in SYSTEMS.items() if system.positions}
    assert set(SYSTEMS) - set(TINY) == {"bottom-up-attention"}


@pytest.mark.parametrize("system", TINY)
def test_sizes_tell_their_system(system):
    config = tiny(system)
    assert described(config) is SYSTEMS[system]
    assert longest_text(config) == {"unimo": 64, "unimo-2": 64, "oner": 32}[system]
    check_length(longest_text(config), config)
    with pytest.raises(ValueError, match="max_tokens is 65, the model has positions for"):
        check_length(65, config)
    rows = config.text_vocab_size if system == "unimo-2" else config.vocab_size
    check_vocabulary(rows, config, "words")
    with pytest.raises(
        ConfigError, match=f"tokenizer words has {rows + 1} tokens, .*; set model.*vocab_size={rows + 1}"
    ):
        check_vocabulary(rows + 1, config, "words")


@pytest.mark.parametrize("system", TINY)
def test_a_model_with_other_heads_keeps_all_else(system):
    """Parts that both have are the same, the others start at random and are named."""
    heads = SYSTEMS[system].heads
    paddle.seed(0)
    whole = SYSTEMS[system].model(tiny(system), heads)
    for kept in ((), heads[:1], heads):
        found, random = with_heads(whole, kept)
        assert system_of(found) == system and found.heads == tuple(h for h in heads if h in kept) and random == []
        there = whole.state_dict()
        for name, value in found.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), there[name].numpy())
    bare = SYSTEMS[system].model(tiny(system), ())
    again, random = with_heads(bare, heads)
    assert set(random) == {n.split(".")[0] for n in skeleton(system, tiny(system), heads).state_dict()} - {
        n.split(".")[0] for n in bare.state_dict()
    }
    assert random and again.heads == heads
