"""A task and a data set of the smallest size that exercise the engine; also a program to run under the launcher."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import nn

from unimo.config import validate
from unimo.engine.distributed import World
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import UnimoError
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.batching import Batch

NO_LABEL = -100
OBJECTIVES = {"text": ("words",), "image": ("regions",), "pair": ("words", "regions")}


class TinyModel(nn.Layer):
    """One hidden layer under two heads: stream "text" uses `words`, "image" uses `regions`, "pair" uses both."""

    def __init__(self, dropout: float):
        super().__init__()
        self.embed, self.embed_norm = nn.Linear(8, 16), nn.LayerNorm(16)
        self.words, self.regions = nn.Linear(16, 5), nn.Linear(16, 3)
        self.dropout = dropout

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.dropout(self.embed_norm(self.embed(x)), self.dropout, training=self.training)


class TinyTask(Task):
    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.model, self.weights = TinyModel(dropout), {"words": 1.0, "regions": 0.5}

    def items(self, batch: Batch) -> dict[str, int]:
        found = {"words": len(batch.ids), "regions": int((batch.inputs["region"] != NO_LABEL).sum())}
        return {name: found[name] for name in OBJECTIVES[batch.stream]}

    def forward(self, batch: Batch) -> dict[str, paddle.Tensor]:
        states = self.model(paddle.to_tensor(batch.inputs["x"]))
        losses = {}
        if "words" in OBJECTIVES[batch.stream]:
            labels = paddle.to_tensor(batch.inputs["word"])
            losses["words"] = F.cross_entropy(self.model.words(states), labels, reduction="sum")
        if "regions" in OBJECTIVES[batch.stream]:
            labels = paddle.to_tensor(batch.inputs["region"])
            losses["regions"] = F.cross_entropy(
                self.model.regions(states), labels, reduction="sum", ignore_index=NO_LABEL
            )
        return losses


class UnimoTask(TinyTask):
    """The same objectives by the smallest UNIMO, whose layers have gradients of their own (PyLayers) on the CPU."""

    def __init__(self, dropout: float = 0.0, recompute: bool = False):
        super().__init__()
        config = UnimoConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=8,
            max_position_embeddings=8,
            image_embedding_size=4,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            recompute=recompute,
        )
        self.model, self.weights = Unimo(config, ("lm", "region_feature")), {"words": 1.0, "regions": 0.5}

    def forward(self, batch: Batch) -> dict[str, paddle.Tensor]:
        n, words = len(batch.ids), paddle.to_tensor(batch.inputs["word"])
        features = paddle.to_tensor(batch.inputs["x"]).reshape([n, 2, 4])
        text = Text(
            (words.unsqueeze(1) + paddle.arange(3)) % 8, paddle.arange(2, 5).expand([n, 3]), paddle.ones([n, 3])
        )
        regions = Regions(features, paddle.zeros([n, 2, 5]), paddle.ones([n, 2]))
        objectives = OBJECTIVES[batch.stream]
        encoded = self.model(text if "words" in objectives else None, regions if "regions" in objectives else None)
        losses = {}
        if "words" in OBJECTIVES[batch.stream]:
            losses["words"] = F.cross_entropy(self.model.lm_logits(encoded.text[:, 1]), words, reduction="sum")
        if "regions" in OBJECTIVES[batch.stream]:
            kept = paddle.to_tensor(batch.inputs["region"] != NO_LABEL).astype("float32").unsqueeze(1)
            error = self.model.region_feature(encoded.regions[:, 1]) - features[:, 1]
            losses["regions"] = (error.square() * kept).sum()
        return losses


class TinyData:
    """Step -> stream and 8 samples, each a function of the step; rank r takes every world-th of them."""

    STREAMS = ("text", "pair", "image", "text", "image", "pair")

    def __init__(self, accumulate: int = 1, poison: int = -1, pause: float = 0.0, fingerprint: str = "tiny-1"):
        self.accumulate, self.poison, self.pause, self.step = accumulate, poison, pause, 0
        self.fingerprint = fingerprint
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def next(self) -> list[Batch]:
        time.sleep(self.pause)
        rng, stream = np.random.default_rng(self.step), self.STREAMS[self.step % len(self.STREAMS)]
        x = rng.standard_normal((8, 8), dtype=np.float32)
        if self.step == self.poison:
            x[5] = np.inf
        region = np.where(np.arange(8) % 3, rng.integers(0, 3, 8), NO_LABEL)  # counts differ between ranks
        inputs = {"x": x, "mask": np.arange(8) % 4 > 0, "word": rng.integers(0, 5, 8), "region": region}
        batches = []
        for micro in range(self.accumulate):
            rows = np.arange(8)[micro :: self.accumulate][self.rank :: self.size]
            ids = [f"s{self.step}-{row}" for row in rows]
            batches.append(Batch(stream, ids, {k: v[rows] for k, v in inputs.items()}))
        self.step += 1
        return batches

    def state(self) -> dict[str, int]:
        return {"step": self.step}

    def restore(self, state: dict[str, int]) -> None:
        self.step = state["step"]


class SumsPerUpdate:
    """An event that prints how often `World.sum` met the other ranks in each update."""

    def __init__(self):
        self.count, self.found, plain = 0, [], World.sum

        def counted(world: World, values):
            self.count += 1
            return plain(world, values)

        World.sum = counted  # in a process of its own

    def on_start(self, run) -> None:
        self.count = 0

    def on_step(self, run) -> None:
        self.found.append(self.count)
        self.count = 0

    def on_end(self, run) -> None:
        print("sums per update:", self.found, flush=True)


def run(output: str | Path, options: dict[str, Any]) -> int:
    """Train and return the exit code.

    Options: `engine` settings, perhaps `dropout`, `unimo` and `data` (arguments of their classes), `save_seconds`,
    `count_sums`.
    """
    try:
        config = validate(EngineConfig, {"steps": 6, "learning_rate": 0.01, **options["engine"]}, "tiny")
        paddle.seed(0)
        task = (UnimoTask if "unimo" in options else TinyTask)(options.get("dropout", 0.0), **options.get("unimo", {}))
        data, pause = TinyData(config.accumulate, **options.get("data", {})), options.get("save_seconds", 0)
        events = [SumsPerUpdate()] if options.get("count_sums") else []
        train(task, data, config, output, events, write_extras=lambda folder: time.sleep(pause))
    except UnimoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":  # tiny_task.py --output RUN OPTIONS_AS_JSON
    sys.exit(run(sys.argv[2], json.loads(sys.argv[3])))
