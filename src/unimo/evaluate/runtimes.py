"""What runs the joint passes of an evaluation: dygraph, or Paddle's inference engine on a graph of that evaluation."""

from typing import Literal

from paddle import Tensor, nn
from paddle.static import InputSpec

from unimo.errors import ConfigError
from unimo.evaluate.pair_scorers import Encoded, PairScorer, pair_scorer
from unimo.inference import Precision, check_processor, traced
from unimo.models.systems import system_of
from unimo.models.unimo import Unimo

Runtime = Literal["dygraph", "inference"]
# From how many encoder positions x layers on a graph is traced. Tracing takes 2.1 CPU seconds at 384 x 2 and 5.7 at
# 768 x 12, the engine saves 12 and 35 microseconds a position and layer: both are even at 160,000 to 180,000.
WORTH_TRACING = 400_000
# Positions that a block costs the engine: for a new shape oneDNN arranges all weights anew. On a Xeon with AVX-512 the
# first call of a shape took 7 ms a layer of 384 and 20 ms of 768 longer than the next, against 12 and 35 microseconds.
BLOCK = 500


def check_precision(runtime: Literal["auto"] | Runtime, precision: Precision) -> None:
    """Raise a ConfigError for a precision that this runtime or this processor does not have."""
    if precision == "bfloat16" and runtime != "inference":
        raise ConfigError(f"precision bfloat16 needs runtime inference, got runtime {runtime}; set both")
    check_processor(precision)


def choose_runtime(asked: Literal["auto"] | Runtime, model: nn.Layer, positions: int, blocks: int = 0) -> Runtime:
    """The runtime asked for; of auto, inference where it is faster: a UNIMO on a CPU, from WORTH_TRACING on.

    Args:
        positions: of the encoder, in all joint passes of this process.
        blocks: of pairs of equal lengths that they belong to, of which each is worth BLOCK positions less.

    Raises:
        ConfigError: inference is asked for, and the model is of another system or not on the CPU.
    """
    on_cpu = next(iter(model.parameters())).place.is_cpu_place()
    traceable = isinstance(model, Unimo) and on_cpu and model.config.match_on == "joint"
    if asked == "inference" and not traceable:
        system = system_of(model)
        got = f"a {system}" if on_cpu else f"a {system} that is not on the CPU"
        got += " that encodes captions and pictures alone" if isinstance(model, Unimo) and on_cpu else ""
        raise ConfigError(f"runtime inference is of a unimo on the CPU, got {got}; take runtime auto or dygraph")
    if asked != "auto":
        return asked
    gain = (positions - BLOCK * blocks) * model.config.num_hidden_layers if traceable else 0
    return "inference" if traceable and gain >= WORTH_TRACING else "dygraph"


class _Pooled(nn.Layer):
    """`Unimo.pooled_embedded` as `inference.write_graph` takes it: one list of tensors -> a list of two."""

    def __init__(self, model: Unimo):
        super().__init__()
        self.model = model

    def forward(self, given: list[Tensor]) -> list[Tensor]:
        return list(self.model.pooled_embedded(*given))


def traced_scorer(model: nn.Layer, precision: Precision) -> PairScorer:
    """The model's scorer, with `score` run by Paddle's inference engine on the CPU by the weights of now.

    Raises:
        ConfigError: as `choose_runtime`.
    """
    choose_runtime("inference", model, 0)
    assert isinstance(model, Unimo)
    streams, size, inputs = ("text", "image"), model.config.hidden_size, []
    for name in streams:
        inputs += [InputSpec([None, None, size], "float32", name), InputSpec([None, None], "float32", f"{name}_mask")]
    inputs += [InputSpec([None], "int64", f"{name}_rows") for name in streams]
    run = traced(_Pooled(model), inputs, bfloat16=precision == "bfloat16")

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        pooled = run([*texts, *images, rows, columns])
        return model.match(*pooled).squeeze(1)  # never in bfloat16, whose eight bits would make close scores ties

    return pair_scorer(model)._replace(score=score)
