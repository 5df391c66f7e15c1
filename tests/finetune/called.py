"""Small sizes of models, and the command line called in this process."""

from click.testing import CliRunner

from unimo.cli import main

GROUNDED = {"text_num_hidden_layers": 1, "text_num_attention_heads": 2, "vit_num_hidden_layers": 1}
GROUNDED |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "text_vocab_size": 40}
GROUNDED |= {"vit_num_attention_heads": 2, "image_size": 32, "resolution": 8, "num_codebook": 12, "topk_value": 4}
GROUNDED |= {"text_max_position_embeddings": 30}
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
SIZES |= {"max_position_embeddings": 30}


def invoke(*call: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(part) for part in call])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
