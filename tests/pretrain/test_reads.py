"""How often an update of pre-training asks the device for a value: it must not grow unseen."""

import functools

import paddle

from unimo.config import validate
from unimo.engine import adamw
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.run import build_model
from unimo.pretrain.unimo import build_sources, build_task
from unimo.readers.batching import Stream
from unimo.readers.mixing import Mixer
from unimo.readers.tokenizer import load_tokenizer

READS = ("numpy", "item", "tolist", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__array__")


class ReadsPerUpdate:
    """An event that notes the reads of tensors since the last update; a read inside another is one."""

    def __init__(self, monkeypatch):
        self.count, self.inside, self.found = 0, False, []
        for name in READS:
            monkeypatch.setattr(paddle.Tensor, name, self._counted(getattr(paddle.Tensor, name)))

    def _counted(self, read):
        @functools.wraps(read)
        def counted(*args, **kwargs):
            outermost, self.inside = not self.inside, True
            self.count += outermost
            try:
                return read(*args, **kwargs)
            finally:
                self.inside = not outermost

        return counted

    def on_start(self, run) -> None:
        self.count = 0

    def on_step(self, run) -> None:
        self.found.append(self.count)
        self.count = 0


def test_an_update_of_any_stream_reads_once(small_recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(adamw, "KERNEL_IS_FAST", True)  # the update in chunks, of a CPU alone, reads its powers
    recipe = validate(PretrainRecipe, small_recipe, "small")
    tokenizer = load_tokenizer(recipe.tokenizer)
    task = build_task(build_model(recipe, tokenizer), recipe)
    sources = build_sources(recipe, tokenizer)
    streams = {name: Stream(source, recipe.batch_positions[name], seed=1) for name, source in sources.items()}
    mixer = Mixer(streams, dict.fromkeys(streams, 1), seed=2, accumulate=2)
    assert {mixer.stream_of(step) for step in range(12)} == set(streams)
    engine = validate(EngineConfig, {"steps": 12, "learning_rate": 1e-3, "accumulate": 2, "save_every": 100}, "reads")
    reads = ReadsPerUpdate(monkeypatch)
    train(task, mixer, engine, tmp_path / "run", [reads])
    assert reads.found == [1] * 12
