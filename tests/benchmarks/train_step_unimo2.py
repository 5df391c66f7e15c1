"""CPU speed and memory of a UNIMO-2 training step, beside the same three stacks of Hugging Face's transformers.

    python tests/benchmarks/train_step_unimo2.py

ViT, text encoder and grounded encoder of 4 layers each, 384 and 768 wide: pictures of 224 x 224 (196 patches), captions
of 10 to 34 tokens padded to the batch's longest, 100 of 2,048 codes, vocabulary of 50,265. A step is the forward pass
with the losses of a pair (matching, contrast within the batch, dictionary, 15 % of the words hidden), the backward pass
and AdamW; float32, dropout .1 in text and grounded encoder, one thread, CPU seconds. Both sides see the same batches of
8 pairs.

The peer is written as its users would: ViTModel and BertModel (sdpa attention), a BertEncoder under the mask of the
grounded sequence, the dictionary in torch operators, fused AdamW. It computes every position of every layer; ours reads
of the last grounded layer what the losses need, which is told apart (`unimo whole`). Also gives the time of each part
of our step. Takes about 12 CPU minutes.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

PEER = ("torch==2.13.0", "transformers==5.23.0", "numpy==2.2.6")
PAIRS, LAYERS, VOCABULARY, CODES, CHOSEN, SIDE, PATCH = 8, 4, 50265, 2048, 100, 224, 16
TOKENS, STEPS, ROUNDS = (10, 34), 4, 3
Arrays = dict[str, np.ndarray]


def batches() -> list[Arrays]:
    """The same for both sides; `words` and `labels` are the hidden ones."""
    found = []
    for seed in range(STEPS + 1):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(*TOKENS, PAIRS)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype("float32")
        real = np.flatnonzero(mask)
        found.append(
            {
                "pixels": rng.standard_normal([PAIRS, 3, SIDE, SIDE], "float32"),
                "ids": rng.integers(4, VOCABULARY, mask.shape),
                "positions": np.tile(np.arange(2, 2 + mask.shape[1]), [PAIRS, 1]),
                "mask": mask,
                "words": np.sort(rng.choice(real, len(real) * 15 // 100, replace=False)),
                "fits": (np.arange(PAIRS) % 3 > 0).astype("int64"),
            }
        )
        found[-1]["labels"] = rng.integers(4, VOCABULARY, len(found[-1]["words"]))
    return found


def ours(hidden: int, whole: bool) -> tuple[Callable, Callable, Any]:
    """Our loss of a batch, the update after its backward pass, and the model."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.engine.adamw import AdamW
    from unimo.engine.distributed import World
    from unimo.models.streams import Text, given
    from unimo.models.unimo2 import Unimo2, Unimo2Config
    from unimo.pretrain.language import word_prediction_loss
    from unimo.pretrain.matching import contrast_loss, matching_loss

    paddle.seed(0)
    heads = hidden // 64
    config = Unimo2Config(
        hidden_size=hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        text_num_hidden_layers=LAYERS,
        text_num_attention_heads=heads,
        vit_num_hidden_layers=LAYERS,
        vit_num_attention_heads=heads,
        text_vocab_size=VOCABULARY,
        num_codebook=CODES,
        topk_value=CHOSEN,
    )
    model = Unimo2(config, ("pool", "match", "cmcl", "lm"))
    model.train()
    optimizer, world = AdamW(1e-4, parameters=model.parameters()), World()

    def loss(batch: Arrays) -> Any:
        t = {name: paddle.to_tensor(value) for name, value in batch.items()}
        words, _ = model.encode_text(Text(t["ids"], t["positions"], t["mask"]))
        wanted = "all" if whole else "text"
        encoded = model.ground(model.vit(t["pixels"]), words, t["mask"], wanted=wanted)
        match = matching_loss(model, encoded, t["fits"]) / PAIRS
        contrast = contrast_loss(model, encoded, paddle.ones([PAIRS]), "both", world) / PAIRS
        hidden_words = word_prediction_loss(model, given(encoded.text), t["words"], t["labels"]) / len(batch["words"])
        return match + contrast + hidden_words + model.dictionary_losses(encoded).mean()

    def update() -> None:
        optimizer.step()
        optimizer.clear_grad()

    return loss, update, model


def peer(hidden: int) -> tuple[Callable, Callable]:
    """The same of transformers and torch."""
    import torch
    from torch.nn import functional as F
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = {"hidden_size": hidden, "num_hidden_layers": LAYERS, "num_attention_heads": hidden // 64}
    sizes |= {"intermediate_size": 4 * hidden, "attn_implementation": "sdpa"}
    bert = BertConfig(vocab_size=VOCABULARY, **sizes)
    model = torch.nn.ModuleDict(
        {
            "vit": ViTModel(ViTConfig(image_size=SIDE, patch_size=PATCH, **sizes), add_pooling_layer=False),
            "text": BertModel(bert, add_pooling_layer=False),
            "grounded": BertModel(bert, add_pooling_layer=False).encoder,
            "enter": torch.nn.Sequential(torch.nn.LayerNorm(hidden), torch.nn.Dropout(0.1)),
            "pool_text": torch.nn.Linear(hidden, hidden),
            "pool_image": torch.nn.Linear(hidden, hidden),
            "match": torch.nn.Linear(hidden, 2),
            "lm": torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.GELU(), torch.nn.LayerNorm(hidden)),
        }
    )
    codes = torch.nn.Parameter(torch.empty(CODES, hidden).uniform_(-1 / CODES, 1 / CODES))
    scales = torch.nn.ParameterDict({"dictionary": torch.tensor([100.0]), "contrast": torch.tensor([0.07])})
    bias = torch.nn.Parameter(torch.zeros(VOCABULARY))
    model.train()
    optimizer = torch.optim.AdamW([*model.parameters(), *scales.parameters(), codes, bias], 1e-4, fused=True)

    def dictionary(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            chosen = torch.sigmoid(scales["dictionary"] * tokens @ codes.T).sum(1).topk(CHOSEN)[1]
        q = codes[chosen]
        share = torch.sigmoid(scales["dictionary"] * tokens @ q.transpose(1, 2))
        means = (share / share.sum(1, keepdim=True)).transpose(1, 2) @ tokens
        rebuilt = share / share.sum(2, keepdim=True) @ q
        loss = F.mse_loss(rebuilt, tokens.detach()) + 0.25 * F.mse_loss(means, q.detach())
        return q, loss

    def seen(mask: torch.Tensor, image: int) -> torch.Tensor:
        """Image and text see the codes and themselves, the codes see all: additive, [B, 1, S, S]."""
        s = image + CHOSEN + mask.shape[1]
        whole = torch.ones(len(mask), s, s)
        whole[:, :image, image + CHOSEN :] = 0
        whole[:, image + CHOSEN :, :image] = 0
        whole[:, :, image + CHOSEN :] *= mask[:, None]
        return ((whole - 1) * 1e4)[:, None]

    def loss(batch: Arrays) -> torch.Tensor:
        t = {name: torch.from_numpy(value) for name, value in batch.items()}
        image = model["vit"](t["pixels"]).last_hidden_state
        text = model["text"](t["ids"], attention_mask=t["mask"]).last_hidden_state
        q, of_dictionary = dictionary(torch.cat([image[:, 1:], text[:, 1:]], 1))
        sequence = torch.cat([image, model["enter"](q), text], 1)
        x = model["grounded"](sequence, attention_mask=seen(t["mask"], image.shape[1])).last_hidden_state
        start = image.shape[1] + CHOSEN
        pooled = F.relu(model["pool_text"](x[:, start])) * F.relu(model["pool_image"](x[:, 0]))
        match = F.cross_entropy(model["match"](pooled), t["fits"])
        logits = F.normalize(image[:, 0], dim=-1) @ F.normalize(text[:, 0], dim=-1).T / scales["contrast"]
        own = torch.arange(PAIRS)
        contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        states = model["lm"](x[:, start:].flatten(0, 1)[t["words"]])
        words = F.cross_entropy(F.linear(states, model["text"].embeddings.word_embeddings.weight, bias), t["labels"])
        return match + contrast + words + of_dictionary

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return loss, update


def work(side: str, hidden: int) -> dict[str, float]:
    """Steps after one to warm up: CPU seconds, and the most memory that the process held."""
    if side == "peer":
        loss, update = peer(hidden)
    else:
        loss, update, _ = ours(hidden, whole=side == "unimo whole")
    seconds = np.zeros(3)
    for number, batch in enumerate(batches()):
        marks = [time.process_time()]
        value = loss(batch)
        marks.append(time.process_time())
        value.backward()
        marks.append(time.process_time())
        update()
        marks.append(time.process_time())
        seconds += np.diff(marks) * (number > 0)
    if not np.isfinite(value.item()):
        sys.exit(f"the last loss is {value.item()}")
    found = dict(zip(("forward_ms", "backward_ms", "update_ms"), 1000 * seconds / STEPS, strict=True))
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs_per_cpu_s": STEPS * PAIRS / seconds.sum()} | found


def parts(hidden: int) -> dict[str, float]:
    """CPU milliseconds of a step's parts, forward and backward, and what their matrix products alone would take."""
    _, update, model = ours(hidden, whole=False)
    import paddle

    from unimo.models.streams import Text

    batch = {name: paddle.to_tensor(value) for name, value in batches()[0].items()}
    text = Text(batch["ids"], batch["positions"], batch["mask"])
    states = {}
    for name, run in (("image", lambda: model.vit(batch["pixels"])), ("text", lambda: model.encode_text(text)[0])):
        states[name] = run().detach()
        states[name].stop_gradient = False
    hidden_words = paddle.randn([len(batch["words"]), hidden])
    hidden_words.stop_gradient = False

    def grounded() -> paddle.Tensor:
        encoded = model.ground(states["image"], states["text"], batch["mask"], wanted="text")
        return encoded.text.sum() + encoded.image.sum()

    def dictionary() -> paddle.Tensor:
        return model.dictionary.losses(model.choose(states["image"], states["text"], batch["mask"])).sum()

    x = paddle.randn([2048, 2048])
    cases = {
        "ViT": lambda: model.vit(batch["pixels"]).sum().backward(),
        "text encoder": lambda: model.encode_text(text)[0].sum().backward(),
        "grounded encoder": lambda: grounded().backward(),
        "dictionary loss": lambda: dictionary().backward(),
        "words": lambda: model.lm_logits(hidden_words).sum().backward(),
        "AdamW": update,
        "a product of 2048^3": lambda: paddle.matmul(x, x),
    }
    found = {}
    for name, run in cases.items():
        run()
        start = time.process_time()
        for _ in range(3):
            run()
        found[name] = 1000 * (time.process_time() - start) / 3
    return found


def main() -> int:
    sys.path.append(str(Path(__file__).parents[1] / "parity" / "libraries"))
    from environments import environment
    from side_by_side import Target, alternate, print_machine, ratio, verdict, wide_amd

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Paddle's, about a missing ccache
    python = environment(PEER)
    print_machine(threads=1, versions={"paddle": version("paddlepaddle"), "peer": " ".join(PEER)})
    rate, found = "pairs_per_cpu_s", {}
    for hidden in (384, 768):
        workers = {
            side: [python if side == "peer" else sys.executable, __file__, side, str(hidden)]
            for side in ("unimo", "unimo whole", "peer")
        }
        found[hidden] = alternate(workers, rounds=ROUNDS)
        for name, figures in found[hidden].items():
            print(f"{hidden} wide  {name:12s}" + "".join(f"  {k} {median(v):.4g}" for k, v in figures.items()))
        made_of = alternate({"parts": [sys.executable, __file__, "parts", str(hidden)]}, rounds=1)["parts"]
        print(f"{hidden} wide, CPU ms: " + ", ".join(f"{name} {value[0]:.0f}" for name, value in made_of.items()))
    whole = {hidden: ratio(found[hidden], rate, "unimo whole", "peer") for hidden in found}
    print(
        "every position of the last layer computed, ours / peer: " + ", ".join(f"{h} {r:.3g}" for h, r in whole.items())
    )
    equal = 1.5 if wide_amd() else 1.0
    return verdict([Target(f"{h} wide, ours / peer", ratio(found[h], rate, "unimo", "peer"), equal) for h in found])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    side, hidden = sys.argv[1:]
    print(json.dumps(parts(int(hidden)) if side == "parts" else work(side, int(hidden))))
