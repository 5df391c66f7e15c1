"""A model's config.json of something else is one clear error."""

import pytest

from unimo.engine.model_folder import parse_description
from unimo.errors import UnimoError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"system": ["oner"], "heads": []}', "of system \\['oner'\\], expected one of"),
        ('{"system": "oner", "heads": [["lm"]]}', "heads are .* expected names"),
        ('{"system": "oner", "heads": 5}', "is not a model's config"),
        ('{"system": "oner", "heads": [], "max_position_embeddings": 10000000000}', "max_position_embeddings: Input"),
        ('{"system": "unimo-2", "heads": [], "vit_num_hidden_layers": 20000000}', "vit_num_hidden_layers: Input"),
        ('{"system": "unimo", "heads": [], "layer_norm_eps": NaN}', "layer_norm_eps: Input should be"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_config_of_something_else_is_one_error(content: str, message: str, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UnimoError, match=message) as caught:
        parse_description(tmp_path / "config.json")
    assert len(str(caught.value)) < 600
