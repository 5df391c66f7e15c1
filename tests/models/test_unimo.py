"""UNIMO as a whole: masks, padding, decoding with a cache, and that every parameter is saved."""

import gc
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from paddle import Tensor, nn
from paddle.base.framework import EagerParamBase

from unimo.errors import ConfigError
from unimo.models.layers import attention_bias, captioning_mask, seq2seq_mask
from unimo.models.unimo import HEADS, Regions, Tags, Text, Unimo, UnimoConfig

SIZES = sorted((Path(__file__).parents[2] / "model_configs" / "models").glob("unimo_*.yaml"))
TINY = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    vocab_size=50,
    max_position_embeddings=30,
    image_embedding_size=12,
    image_class_size=7,
    initializer_range=0.2,  # large enough for every position to matter
)


@pytest.fixture(scope="module")
def model() -> Unimo:
    paddle.seed(3)
    model = Unimo(UnimoConfig(**TINY), HEADS)
    model.eval()
    return model


def words(kind: type[Text], lengths: list[int], size: int, seed: int = 0) -> Text:
    """Random tokens, the same for every `size`; pads are id 1 at position 1."""
    ids, positions, mask = (np.full([len(lengths), size], value) for value in (1, 1, 0))
    for i, length in enumerate(lengths):
        ids[i, :length] = np.random.default_rng([seed, i]).integers(2, TINY["vocab_size"], length)
        positions[i, :length] = np.arange(2, 2 + length)
        mask[i, :length] = 1
    return kind(*map(paddle.to_tensor, (ids, positions, mask)))


def regions(counts: list[int], size: int) -> Regions:
    features, boxes = np.zeros([len(counts), size, 12], np.float32), np.zeros([len(counts), size, 5], np.float32)
    mask = np.zeros([len(counts), size], np.int64)
    for i, count in enumerate(counts):
        rng = np.random.default_rng([9, i])
        features[i, :count], boxes[i, :count], mask[i, :count] = rng.normal(size=[count, 12]), rng.random([count, 5]), 1
    return Regions(*map(paddle.to_tensor, (features, boxes, mask)))


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


# ---- masks


def test_seq2seq_mask_of_the_release():
    mask = seq2seq_mask(paddle.to_tensor([3, 2]), paddle.to_tensor([5, 4]), size=5)
    assert mask.numpy().tolist() == [
        [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]],
    ]


def test_captioning_mask():
    context, text = paddle.to_tensor([[1, 1], [1, 0]]), paddle.to_tensor([[1, 1, 1], [1, 1, 0]])
    assert captioning_mask(context, text).numpy().tolist() == [
        [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]],
    ]


def test_attention_bias():
    keys = attention_bias(paddle.to_tensor([[1, 0]]))
    assert keys.shape == [1, 1, 1, 2] and keys.flatten().tolist() == [0, -10000]
    square = attention_bias(paddle.to_tensor([[[1, 0], [0, 1]]]))
    assert square.shape == [1, 1, 2, 2] and square.flatten().tolist() == [0, -10000, -10000, 0]


def test_default_mask_is_everyone_sees_every_real_position(model):
    text, image = words(Text, [4, 2], 5), regions([3, 1], 4)
    mask = paddle.concat([image.mask, text.mask], axis=1).astype("float32")
    given = model(text, image, attention_mask=mask.unsqueeze(2) * mask.unsqueeze(1))
    default = model(text, image)
    for row, (n, s) in enumerate([(3, 4), (1, 2)]):
        assert difference(default.regions[row, :n], given.regions[row, :n]) < 1e-5
        assert difference(default.text[row, :s], given.text[row, :s]) < 1e-5


# ---- padding

STREAMS = [("text",), ("regions",), ("regions", "text"), ("regions", "tags", "text")]


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("captioning", [False, True])
def test_more_padding_changes_no_real_state(model, streams, captioning):
    def run(extra: dict[str, int]):
        given = {
            "regions": regions([4, 2], 4 + extra["regions"]),
            "tags": words(Tags, [1, 3], 3 + extra["tags"], seed=1),
            "text": words(Text, [3, 5], 5 + extra["text"]),
        }
        given = {name: given[name] for name in streams}
        masks = [stream.mask for stream in given.values()]
        causal = captioning and len(masks) > 1
        mask = captioning_mask(paddle.concat(masks[:-1], axis=1), masks[-1]) if causal else None
        return model(**given, attention_mask=mask)

    tight = run({"regions": 0, "tags": 0, "text": 0})
    for extra in ({"regions": 3, "tags": 0, "text": 0}, {"regions": 0, "tags": 2, "text": 7}):
        padded = run(extra)
        for name in streams:
            for row, length in enumerate({"regions": [4, 2], "tags": [1, 3], "text": [3, 5]}[name]):
                a, b = getattr(tight, name)[row, :length], getattr(padded, name)[row, :length]
                assert difference(a, b) < 1e-5, (name, row, extra)
        if "text" in streams:
            assert difference(model.pooled_text(tight), model.pooled_text(padded)) < 1e-5
        if "regions" in streams:
            assert difference(model.pooled_image(tight), model.pooled_image(padded)) < 1e-5


# ---- decoding


def decode(model: Unimo, prefix_mask: Tensor, cache: list, target: Text, order: Tensor | None = None) -> Tensor:
    """States of `target` [B, T] computed one token at a time after a cached prefix: [B, T, H]."""
    steps = []
    for t in range(target.ids.shape[1]):
        token = Text(target.ids[:, t : t + 1], target.positions[:, t : t + 1], target.mask[:, t : t + 1])
        seen = paddle.concat([prefix_mask.astype("float32"), paddle.ones([prefix_mask.shape[0], t + 1])], axis=1)
        encoded = model(text=token, attention_mask=seen.unsqueeze(1), cache=cache)
        cache = encoded.cache
        steps.append(encoded.text)
    return paddle.concat(steps, axis=1)


def test_cached_steps_equal_the_full_pass_of_seq2seq(model):
    """Sources of 3 and 2 tokens are padded in the cache; in training a target follows its source directly."""
    lengths, steps = [3, 2], 4
    source, target = words(Text, lengths, 3), words(Text, [steps, steps], steps, seed=5)
    sizes = paddle.to_tensor(lengths)
    prefix = model(text=source, attention_mask=seq2seq_mask(sizes, sizes, 3))
    stepped = decode(model, source.mask, prefix.cache, target)
    for i, s in enumerate(lengths):
        together = [paddle.concat([getattr(source, f)[i : i + 1, :s], getattr(target, f)[i : i + 1]], axis=1)
                    for f in ("ids", "positions", "mask")]  # fmt: skip
        mask = seq2seq_mask(sizes[i : i + 1], sizes[i : i + 1] + steps, s + steps)
        full = model(text=Text(*together), attention_mask=mask).text[0]
        assert difference(full[:s], prefix.text[i, :s]) < 1e-5
        assert difference(full[s:], stepped[i]) < 1e-5


@pytest.mark.parametrize("with_tags", [False, True])
def test_cached_steps_equal_the_full_pass_of_captioning(model, with_tags):
    text = words(Text, [6, 6], 6)
    context = {"regions": regions([2, 5], 5)} | ({"tags": words(Tags, [3, 1], 3, seed=2)} if with_tags else {})
    mask = paddle.concat([stream.mask for stream in context.values()], axis=1)
    full = model(text=text, **context, attention_mask=captioning_mask(mask, text.mask))
    prefix = model(**context)
    stepped = decode(model, mask, prefix.cache, text)
    assert difference(full.text, stepped) < 1e-5
    assert difference(full.regions[0, :2], prefix.regions[0, :2]) < 1e-5


def test_selected_cache_rows_follow_their_beams(model):
    text, context = words(Text, [3, 3], 3), regions([2, 4], 4)
    prefix = model(regions=context)
    rows = paddle.to_tensor([1, 0, 1])
    beams = Text(*(getattr(text, field).index_select(rows) for field in ("ids", "positions", "mask")))
    cache = [layer.select(rows) for layer in prefix.cache]
    expected = decode(model, context.mask, prefix.cache, text).index_select(rows)
    assert difference(decode(model, context.mask.index_select(rows), cache, beams), expected) < 1e-5


# ---- parameters


def parameters_made(build) -> tuple[nn.Layer, set[int]]:
    """A layer, and the ids of all trainable tensors that building it made, wherever they are kept."""
    gc.collect()
    before = {id(o): o for o in gc.get_objects() if isinstance(o, EagerParamBase)}  # held, so that no id is used again
    layer = build()
    return layer, {id(o) for o in gc.get_objects() if isinstance(o, EagerParamBase)} - set(before)


def test_all_model_sizes_are_seen():
    assert {path.stem for path in SIZES} >= {"unimo_tiny", "unimo_mini", "unimo_base", "unimo_large"}


@pytest.mark.parametrize("path", SIZES, ids=lambda path: path.stem)
def test_every_trainable_tensor_is_saved(path):
    with paddle.LazyGuard():  # shapes only, no memory
        config = UnimoConfig(**yaml.safe_load(path.read_text()))
        model, made = parameters_made(lambda: Unimo(config, HEADS))
    assert made and made == {id(p) for p in model.state_dict().values()}


def test_a_parameter_in_a_plain_dict_would_be_found():
    class Leaky(nn.Layer):
        def __init__(self):
            super().__init__()
            self.kept = {"scale": self.create_parameter([2])}

    layer, made = parameters_made(Leaky)
    assert len(made) == 1 and not layer.state_dict()


# ---- training and bad calls


def test_training_without_dropout_equals_evaluation(model):
    still = Unimo(UnimoConfig(**TINY, hidden_dropout_prob=0, attention_probs_dropout_prob=0), HEADS)
    still.set_state_dict(model.state_dict())
    text, image = words(Text, [4, 2], 5), regions([3, 1], 4)
    a, b = still(text, image), model(text, image)
    assert still.training and not model.training
    assert difference(a.text, b.text) < 1e-5 and difference(a.regions, b.regions) < 1e-5
    assert difference(still.match_score(a), model.match_score(b)) < 1e-5
    assert difference(still.lm_logits(a.text[0]), model.lm_logits(b.text[0])) < 1e-4


def test_bad_calls_are_config_errors(model):
    text = words(Text, [2], 2)
    with pytest.raises(ConfigError, match="no stream"):
        model()
    with pytest.raises(ConfigError, match="for a stream that the pass was without"):
        model.match_score(model(text=text))
    with pytest.raises(ConfigError, match="needs an attention_mask"):
        model(text=text, cache=model(text=text).cache)
    with pytest.raises(ConfigError, match="unknown heads.*vqa"):
        Unimo(UnimoConfig(**TINY), ["vqa"])
    with pytest.raises(ConfigError, match=r"hidden_size \(32\) must be divisible by num_attention_heads \(5\)"):
        Unimo(UnimoConfig(**TINY | {"num_attention_heads": 5}))


def test_token_types():
    """Without types every token is of type 0; other types are other texts; a model without the table takes none."""
    paddle.seed(4)
    typed = Unimo(UnimoConfig(**TINY, type_vocab_size=3))
    typed.eval()
    text = words(Text, [7, 4], 7)
    of_type = {n: typed(Text(text.ids, text.positions, text.mask, paddle.full_like(text.ids, n))).text for n in (0, 2)}
    assert difference(typed(text).text, of_type[0]) == 0
    assert difference(typed(text).text, of_type[2]) > 1e-3
    with pytest.raises(ConfigError, match="type_vocab_size is 0"):
        Unimo(UnimoConfig(**TINY))(Text(text.ids, text.positions, text.mask, text.ids * 0))


def test_relu():
    """`hidden_act: relu` reaches every feed-forward layer and the LM head, and no parameter."""
    models = [Unimo(UnimoConfig(**TINY, hidden_act=act), ["lm"]) for act in ("gelu", "relu")]
    models[1].set_state_dict(models[0].state_dict())
    [model.eval() for model in models]
    x = paddle.randn([5, TINY["hidden_size"]])
    block, relu = models[1].layers[0].feed_forward, paddle.nn.functional.relu
    assert difference(block(x), block.outer(relu(block.inner(x)))) == 0
    assert all(difference(a.feed_forward(x), b.feed_forward(x)) > 1e-3 for a, b in zip(*(m.layers for m in models)))
    head = models[1].lm
    assert (
        difference(head.norm(relu(head.transform(x))) @ models[1].word_embedding.weight.T, models[1].lm_logits(x))
        < 1e-6
    )


@pytest.mark.parametrize("mode", ["eval", "train", "recompute"])
@pytest.mark.parametrize("streams", ["text", "regions", "both"])
def test_first_positions_alone_are_what_the_whole_pass_has_there(streams, mode):
    """Values and gradients; nothing else of the last layer is computed."""
    paddle.seed(3)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "recompute": mode == "recompute"}
    model = Unimo(UnimoConfig(**TINY | still), ["pool"])
    (model.eval if mode == "eval" else model.train)()
    given = {"text": words(Text, [4, 7, 1], 7), "regions": regions([5, 2, 3], 5)}
    given = {name: stream for name, stream in given.items() if streams in (name, "both")}
    found = []
    for wanted in ("all", "classes"):
        encoded = model(**given, wanted=wanted)
        states = [x[:, 0] for x in (encoded.text, encoded.regions) if x is not None]
        if wanted == "classes":
            assert all(x is None or x.shape[1] == 1 for x in (encoded.text, encoded.regions)) and not encoded.cache
        layers = [model.layers[-1].feed_forward.inner.weight, model.layers[0].attention.qkv.weight]
        sum(x.tanh().sum() for x in states).backward()
        found.append([x.detach() for x in (*states, *(layer.grad.clone() for layer in layers))])
        model.clear_gradients()
    for whole, part in zip(*found, strict=True):
        assert difference(whole, part) <= 1e-5 * max(1.0, float(whole.abs().max()))
