"""Heads on top of encoder states. A model builds the heads that it is asked for and runs one only when it is called."""

from collections.abc import Iterable, Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from unimo.errors import ConfigError
from unimo.models.layers import Activation, LayerNorm, Linear, activate, dropout, tied_logits


def choose_heads(asked: Iterable[str], known: Sequence[str], system: str) -> tuple[str, ...]:
    """The heads asked for, each once, in the order of `known`.

    Raises:
        ConfigError: any that is not among the `known` ones of the system.
    """
    asked = set(asked)
    unknown = sorted(asked - set(known))
    if unknown:
        raise ConfigError(f"unknown heads {unknown}; {system} has {list(known)}")
    return tuple(head for head in known if head in asked)


class PoolHead(nn.Layer):
    """ReLU(affine) of one position's state: the first text position, or the global image slot. [B, H] -> [B, H]."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.affine = Linear(hidden_size, hidden_size)

    def forward(self, state: Tensor) -> Tensor:
        """State of one position -> what is compared between text and image. [B, H] -> [B, H]"""
        return F.relu(self.affine(state))


class MaskedLMHead(nn.Layer):
    """Affine, activation, layer norm, product with the word table, bias, on gathered positions only: [M, H] -> [M, V].

    The release initialises the layer norm's bias with 1 (an oddity that its checkpoints overwrite); here it is 0.
    """

    def __init__(self, hidden_size: int, vocab_size: int, epsilon: float, activation: Activation = "gelu"):
        super().__init__()
        self.activation = activation
        self.transform = Linear(hidden_size, hidden_size)
        self.norm = LayerNorm(hidden_size, epsilon)
        self.bias = self.create_parameter([vocab_size], is_bias=True)

    def features(self, states: Tensor) -> Tensor:
        """What the word table is multiplied by. [M, H] -> [M, H]"""
        return self.norm(activate(self.transform(states), self.activation, self.training))

    def forward(self, states: Tensor, word_table: Tensor) -> Tensor:
        """Vocabulary logits of gathered states: [M, H] and the word table [V, H] -> [M, V]."""
        return tied_logits(self.features(states), word_table, self.bias, self.training)


class MatchHead(nn.Layer):
    """Score of image and text from the product of their pooled states: [B, H] x [B, H] -> [B, 1]."""

    def __init__(self, hidden_size: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        # Fluid's default initialisers, as the release uses them here
        self.affine = Linear(
            hidden_size,
            1,
            weight_attr=nn.initializer.XavierUniform(),
            bias_attr=paddle.ParamAttr(initializer=nn.initializer.Uniform(-1.0, 1.0)),
        )

    def forward(self, pooled_text: Tensor, pooled_image: Tensor) -> Tensor:
        """Logit of the match of each text with the image of the same row. [B, H], [B, H] -> [B, 1]"""
        fused = dropout(pooled_text * pooled_image, self.dropout, self.training)
        return self.affine(fused)


class ClassifyHead(nn.Layer):
    """Dropout, 0.1 in the GLUE tasks of the releases, and one affine map: [B, H] -> [B, num_labels]."""

    def __init__(self, hidden_size: int, num_labels: int, dropout: float = 0.1):
        super().__init__()
        self.dropout = dropout
        self.affine = Linear(hidden_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits of the labels. [B, H] -> [B, num_labels]"""
        return self.affine(dropout(pooled, self.dropout, self.training))


class EntailHead(nn.Layer):
    """SNLI-VE's head: an affine map to `inner_size` values, dropout, an affine map to the labels. [B, H] -> [B, labels]

    There is no activation between the two maps. Source: the release's visual_entailment.py.
    """

    def __init__(self, hidden_size: int, num_labels: int, inner_size: int = 2048, dropout: float = 0.1):
        super().__init__()
        self.dropout = dropout
        self.inner = Linear(hidden_size, inner_size)
        self.affine = Linear(inner_size, num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits of the labels. [B, H] -> [B, num_labels]"""
        return self.affine(dropout(self.inner(pooled), self.dropout, self.training))


class RegionHead(nn.Layer):
    """One affine map from a region's state to its detector feature (2048-d) or to detector classes (1601)."""

    def __init__(self, hidden_size: int, out_size: int):
        super().__init__()
        self.affine = Linear(hidden_size, out_size)

    def forward(self, states: Tensor) -> Tensor:
        """States of regions -> predictions of their feature or class logits. [R, H] -> [R, out_size]"""
        return self.affine(states)
