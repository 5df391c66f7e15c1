"""Paddle's inference engine on the CPU: write a layer as a graph, and open a graph with oneDNN."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import paddle
from paddle import Tensor, inference, nn
from paddle.static import InputSpec

from unimo.errors import ConfigError
from unimo.hardware import has_avx512, has_bfloat16

Precision = Literal["float32", "bfloat16"]

GRAPH, WEIGHTS = "model.json", "model.pdiparams"
# Passes left out because Paddle's plain operators are faster (tests/benchmarks/export.py). Without AVX-512, oneDNN's
# affine maps of many rows lose to MKL's. In decoding, with few rows, only oneDNN's affine maps gain.
_AFFINE_PASS, _OTHER_OPERATORS_PASS = "fc_onednn_enable_pass", "onednn_placement_pass"


def check_processor(precision: Precision) -> None:
    """Raise a ConfigError for a precision that this processor does not have."""
    if precision == "bfloat16" and not has_bfloat16():
        raise ConfigError("precision bfloat16 needs a processor with avx512_bf16, this one has none; take float32")


def write_graph(layer: nn.Layer, inputs: Sequence[InputSpec], folder: Path) -> None:
    """Trace a layer in evaluation, whose `forward` takes one list of tensors, and write its files into a new folder.

    Args:
        inputs: named; a length of None is one that each call chooses.
    """
    layer.eval()
    paddle.jit.save(layer, str(folder / GRAPH.removesuffix(".json")), input_spec=[list(inputs)])


def predictor_config(
    folder: Path, few_rows: bool = False, bfloat16: bool = False, threads: int | None = None
) -> inference.Config:
    """Settings of the engine for one graph: CPU and oneDNN.

    Args:
        few_rows: the graph's affine maps are of a few rows each, as in decoding.
        bfloat16: products in bfloat16; needs `hardware.has_bfloat16`.
        threads: None is as many as OMP_NUM_THREADS says (1 without it). Paddle keeps the number after a call.
    """
    config = inference.Config(str(folder / GRAPH), str(folder / WEIGHTS))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", "1")))
    config.enable_mkldnn()
    if bfloat16:
        config.enable_mkldnn_bfloat16()
    if few_rows:
        config.delete_pass(_OTHER_OPERATORS_PASS)
    elif not has_avx512():
        config.delete_pass(_AFFINE_PASS)
    return config


def traced(
    layer: nn.Layer, inputs: Sequence[InputSpec], bfloat16: bool = False, threads: int | None = None
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """A layer, as for `write_graph`, as a function of the tensors of `inputs` that the engine runs.

    It keeps the layer's weights of now, in memory of its own: after a change of theirs, trace again. It is for one
    thread at a time, and what it gives is overwritten by its next call: copy what must outlive that.

    Args:
        bfloat16, threads: as of `predictor_config`.
    """
    with TemporaryDirectory(prefix="unimo-graph-") as name:
        write_graph(layer, inputs, Path(name))
        predictor = inference.create_predictor(predictor_config(Path(name), bfloat16=bfloat16, threads=threads))
    names, order = [spec.name for spec in inputs], predictor.get_input_names()
    return lambda tensors: predictor.run([dict(zip(names, tensors, strict=True))[name] for name in order])
