"""UNIMO-2 as a whole: sizes of the release, masks, the dictionary, gradients, padding and decoding."""

from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import Tensor

from unimo.config import load
from unimo.errors import ConfigError
from unimo.models.grounded import grounded_captioning_mask, pair_mask
from unimo.models.layers import seq2seq_mask
from unimo.models.unimo2 import HEADS, Pixels, Text, Unimo2, Unimo2Config

CONFIGS = Path(__file__).parents[2] / "model_configs" / "models"
TINY = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    text_num_hidden_layers=1,
    text_num_attention_heads=2,
    vit_num_hidden_layers=1,
    vit_num_attention_heads=4,
    text_vocab_size=50,
    text_max_position_embeddings=30,
    image_size=16,
    resolution=4,
    num_codebook=20,
    topk_value=5,
    initializer_range=0.2,  # large enough for every position to matter
)


def make(seed: int = 3, heads=HEADS, **changes) -> Unimo2:
    paddle.seed(seed)
    model = Unimo2(Unimo2Config(**TINY | changes), heads)
    model.dictionary.codes.set_value(paddle.randn(model.dictionary.codes.shape))  # the start has almost equal codes
    model.dictionary.temperature.set_value(paddle.to_tensor([2.0]))
    model.eval()
    return model


@pytest.fixture(scope="module")
def model() -> Unimo2:
    return make()


def words(lengths: list[int], size: int, seed: int = 0) -> Text:
    """Random tokens, the same for every `size`; pads are id 1 at position 1."""
    ids, positions, mask = (np.full([len(lengths), size], value) for value in (1, 1, 0))
    for i, length in enumerate(lengths):
        ids[i, :length] = np.random.default_rng([seed, i]).integers(2, TINY["text_vocab_size"], length)
        positions[i, :length], mask[i, :length] = np.arange(2, 2 + length), 1
    return Text(*map(paddle.to_tensor, (ids, positions, mask)))


def images(count: int, side: int = 16) -> Pixels:
    return Pixels(paddle.to_tensor(np.random.default_rng(side).uniform(-1, 1, [count, 3, side, side]), "float32"))


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


# ---- sizes of the release


def count(size: str, heads: tuple[str, ...], streams: tuple[str, ...] = ("image", "text")) -> int:
    config = load(Unimo2Config, CONFIGS / f"unimo2_{size}.yaml", ["num_labels=3"])
    with paddle.LazyGuard():  # shapes only, no memory
        model = Unimo2(config, heads, streams)
    return sum(int(np.prod(p.shape)) for p in model.parameters())


COUNTS = {
    "base": (211_276_037, 297_664_516, 297_124_186, 298_306_909),
    "large": (659_770_373, 964_120_580, 963_121_242, 965_222_493),
}


@pytest.mark.parametrize("size", COUNTS)
def test_parameter_counts_of_the_released_graphs(size):
    mnli = count(size, ("pool", "cmcl", "classify"), ("text",))
    retrieval, caption = count(size, ("pool", "match", "cmcl")), count(size, ("lm",))
    assert (mnli, retrieval, caption, count(size, ("pool", "match", "cmcl", "lm"))) == COUNTS[size]


def test_all_sizes_load():
    sizes = sorted(CONFIGS.glob("unimo2_*.yaml"))
    assert {path.stem for path in sizes} >= {"unimo2_tiny", "unimo2_base", "unimo2_large"}
    for path in sizes:
        Unimo2Config(**yaml.safe_load(path.read_text()))


def test_json_of_the_release():
    values = {"resolution": 16, "image_size": 384, "vit_layer_norm_eps": 1e-6, "fusion_method": "mul", "num_labels": 2}
    config = Unimo2Config.from_release(values, "x.json")
    assert (config.image_size, config.vit_layer_norm_eps) == (224, 1e-12)  # constant in the release
    assert Unimo2Config.from_release({"resolution": 14}, "x.json").image_size == 196  # 14 x 14 rows in any case
    with pytest.raises(ConfigError, match="topk_value.*is more than num_codebook"):
        Unimo2Config.from_release({"topk_value": 50, "num_codebook": 40}, "x.json")
    with pytest.raises(ConfigError, match="(?s)x.json.*hidden_act: 'relu'.*type_vocab_size: 2"):
        Unimo2Config.from_release({"hidden_act": "relu", "type_vocab_size": 2}, "x.json")


# ---- masks


def sees(mask: Tensor, sizes: tuple[int, int, int]) -> list[list[list]]:
    """The blocks of a [1, S, S] mask, rows and columns in the order image, codes, text."""
    ends = np.cumsum([0, *sizes])
    return [[mask[0, a:b, c:d].tolist() for c, d in zip(ends, ends[1:])] for a, b in zip(ends, ends[1:])]


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 1), min_size=1, max_size=5))
def test_mask_of_a_pair(v, k, real):
    s = len(real)
    (vv, vg, vl), (gv, gg, gl), (lv, lg, ll) = sees(
        pair_mask(v, paddle.ones([1, k]), paddle.to_tensor([real])), (v, k, s)
    )
    for block, rows, columns in ((vv, v, v), (vg, v, k), (gv, k, v), (gg, k, k), (lg, s, k)):
        assert block == [[1] * columns] * rows
    assert vl == [[0] * s] * v and lv == [[0] * v] * s
    assert gl == [real] * k and ll == [real] * s


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2))
def test_mask_of_captioning(v, k, length, source, pads):
    s, source = length + pads, min(source, length)
    text = seq2seq_mask(paddle.to_tensor([source]), paddle.to_tensor([length]), s)
    (vv, vg, vl), (gv, gg, gl), (lv, lg, ll) = sees(grounded_captioning_mask(v + k, text), (v, k, s))
    for block, rows, columns in ((vv, v, v), (vg, v, k), (gv, k, v), (gg, k, k), (lv, s, v), (lg, s, k)):
        assert block == [[1] * columns] * rows
    assert vl == [[0] * s] * v and gl == [[0] * s] * k and ll == text[0].tolist()


def test_streams_of_a_pair_meet_in_the_codes_alone():
    """With one grounded layer, text states do not depend on the image but by the choice of codes, which is complete."""
    model = make(num_hidden_layers=1, topk_value=20)
    text = words([4, 3], 4)
    a, b = model(text, images(2)), model(text, Pixels(images(2).images * 0.5))
    assert difference(a.text, b.text) < 1e-5
    codes = [np.take_along_axis(e.codes.numpy(), np.argsort(e.grounding.chosen.numpy())[..., None], 1) for e in (a, b)]
    assert np.abs(codes[0] - codes[1]).max() > 1e-3
    deep = make(num_hidden_layers=2, topk_value=20)
    assert difference(deep(text, images(2)).text, deep(text, Pixels(images(2).images * 0.5)).text) > 1e-3


# ---- the dictionary


def plain_loss(tokens: np.ndarray, codes: np.ndarray, chosen: np.ndarray, temperature: float) -> float:
    """The release's formula, over the similarities of all codes."""
    s = 1 / (1 + np.exp(-temperature * (tokens @ codes.T)))
    share = np.stack([s[b][:, chosen[b]] for b in range(len(s))])  # (B, S, K)
    votes = np.stack([s.sum(1)[b, chosen[b]] for b in range(len(s))])  # (B, K)
    q = codes[chosen]
    e_value = (share / (votes[:, None] + 1e-18)).transpose(0, 2, 1) @ tokens
    q_value = share / (share.sum(2, keepdims=True) + 1e-18) @ q
    return ((tokens - q_value) ** 2).mean() + 0.25 * ((q - e_value) ** 2).mean()


def test_choice_and_loss_follow_the_formula(model):
    tokens = paddle.randn([3, 7, 16])
    grounding = model.dictionary(tokens, 5)
    z, codes = tokens.numpy().astype(float), model.dictionary.codes.numpy().astype(float)
    votes = (1 / (1 + np.exp(-2.0 * (z @ codes.T)))).sum(1)
    assert (grounding.chosen.numpy() == np.argsort(-votes, 1)[:, :5]).all()
    assert (grounding.codes.numpy() == model.dictionary.codes.numpy()[grounding.chosen.numpy()]).all()
    expected = plain_loss(z, codes, grounding.chosen.numpy(), 2.0)
    assert model.dictionary.losses(grounding).mean().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("value", "used"), [(0.5, 1.0), (3.0, 3.0), (2e4, 1e4)])
def test_temperature_is_clipped_where_it_is_used(value, used):
    dictionary = make().dictionary
    dictionary.temperature.set_value(paddle.to_tensor([value]))
    tokens = paddle.randn([2, 3, 16]) * 1e-3
    expected = paddle.nn.functional.sigmoid(used * paddle.matmul(tokens, dictionary.codes, transpose_y=True))
    assert difference(dictionary.similarity(tokens, dictionary.codes), expected) < 1e-6
    assert dictionary.temperature.item() == value


def test_who_votes(model):
    """Class tokens do not, pads do; in captioning the text does not."""
    text = words([4, 2], 5)
    pair = model(text, images(2))
    assert pair.grounding.tokens.shape == [2, 16 + 4, 16]
    assert difference(pair.grounding.tokens, paddle.concat([pair.vit[:, 1:], pair.text_encoder[:, 1:]], 1)) == 0
    assert difference(model(text).grounding.tokens, pair.text_encoder[:, 1:]) < 1e-6
    assert difference(model(pixels=images(2)).grounding.tokens, pair.vit[:, 1:]) < 1e-6
    mask = paddle.ones([2, 5, 5]).tril()
    assert difference(model(text, images(2), mask).grounding.tokens, pair.vit[:, 1:]) < 1e-6


def test_gradients_of_the_dictionary():
    model = make(heads=("pool",))
    encoded = model(words([4, 3], 4), images(2))
    encoded.codes.sum(-1).square().sum().backward(retain_graph=True)
    chosen = set(encoded.grounding.chosen.numpy().ravel().tolist())
    moved = model.dictionary.codes.grad.abs().sum(1).numpy() > 0
    assert {i for i in range(20) if moved[i]} <= chosen and moved.any()
    assert model.dictionary.temperature.grad is None
    model.clear_gradients()
    model.dictionary_losses(encoded).mean().backward()
    assert model.dictionary.temperature.grad.abs().item() > 0
    assert model.vit.patch.weight.grad.abs().sum() > 0 and model.text.word_embedding.weight.grad.abs().sum() > 0


def test_no_gradient_without_the_loss_if_nothing_uses_the_codes():
    model = make(heads=())
    encoded = model(words([4, 3], 4), images(2))
    (encoded.vit.square().sum() + encoded.text_encoder.square().sum()).backward()
    grad = model.dictionary.codes.grad
    assert grad is None or grad.abs().sum() == 0


def test_masked_codes_enter_as_zeros(model):
    """A layer norm of zeros is its bias: which code was masked cannot be told."""
    hidden = paddle.to_tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    encoded = model(words([4, 3], 4), images(2), masked_codes=hidden)
    plain = model(words([4, 3], 4), images(2))
    assert (encoded.grounding.chosen == plain.grounding.chosen).all()
    codes = plain.grounding.codes * (1 - hidden.astype("float32")).unsqueeze(2)
    replaced = model.grounded.enter(codes)
    assert difference(replaced[0, 0], model.grounded.norm.bias) < 1e-6
    assert difference(encoded.codes, plain.codes) > 1e-3
    assert model.code_logits(encoded.codes[hidden.astype("bool")]).shape == [2, 20]


# ---- padding, pairing, training


def test_more_padding_changes_no_encoder_state_and_only_the_choice_of_codes():
    model = make(topk_value=20)  # all are chosen, so that no pad can change the choice
    tight, padded = model(words([4, 2], 4), images(2)), model(words([4, 2], 9), images(2))
    for row, length in enumerate((4, 2)):
        for name in ("text_encoder", "text"):
            a, b = getattr(tight, name)[row, :length], getattr(padded, name)[row, :length]
            assert difference(a, b) < 1e-5, name
    assert difference(tight.image, padded.image) < 1e-5
    assert difference(model.match_logits(tight), model.match_logits(padded)) < 1e-5


def test_encoded_streams_pair_up_as_whole_passes_do(model):
    """Retrieval encodes each image and text once and grounds every pairing."""
    text, pixels = words([4, 2, 3], 5), images(3)
    image, (states, _) = model.vit(pixels.images), model.encode_text(text)
    rows, columns = paddle.to_tensor([0, 1, 2, 2]), paddle.to_tensor([2, 1, 0, 2])
    paired = model.ground(image.index_select(rows), states.index_select(columns), text.mask.index_select(columns))
    fields = (getattr(text, name).index_select(columns) for name in ("ids", "positions", "mask"))
    whole = model(Text(*fields), Pixels(pixels.images.index_select(rows)))
    assert difference(model.match_logits(paired), model.match_logits(whole)) < 1e-5
    assert difference(model.contrast_score(paired), model.contrast_score(whole)) < 1e-5


def test_contrast_score_normalises_the_image_alone(model):
    encoded = model(words([4, 2], 5), images(2))
    image, text = encoded.vit[:, 0].numpy(), encoded.text_encoder[:, 0].numpy()
    expected = (image / np.linalg.norm(image, axis=1, keepdims=True) * text).sum(1, keepdims=True)
    assert np.abs(model.contrast_score(encoded).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("recompute", [False, True])
def test_training_without_dropout_equals_evaluation(model, recompute):
    rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    off = dict.fromkeys([*rates, *(f"text_{rate}" for rate in rates)], 0.0)
    still = Unimo2(Unimo2Config(**TINY, **off, recompute=recompute), HEADS)
    still.set_state_dict(model.state_dict())
    text, pixels = words([4, 2], 5), images(2)
    a, b = still(text, pixels), model(text, pixels)
    assert still.training and not model.training
    for name in ("vit", "text_encoder", "image", "codes", "text"):
        assert difference(getattr(a, name), getattr(b, name)) < 1e-5, name
    assert difference(still.match_logits(a), model.match_logits(b)) < 1e-5
    assert difference(still.lm_logits(a.text[0]), model.lm_logits(b.text[0])) < 1e-4
    still.match_logits(a).square().sum().backward()
    unused = {"lm", "code", "classify", "cmcl_temperature"}
    for name, parameter in still.named_parameters():
        if name.split(".")[0] not in unused and name != "dictionary.temperature":
            assert parameter.grad is not None, name


# ---- captioning


def test_later_words_change_nothing_before_them_nor_the_image(model):
    text, pixels = words([6, 6], 6), images(2)
    mask = paddle.ones([2, 6, 6]).tril()
    changed = Text(text.ids.clone(), text.positions, text.mask)
    changed.ids[:, 4:] = 7
    a, b = model(text, pixels, mask), model(changed, pixels, mask)
    assert difference(a.text[:, :4], b.text[:, :4]) < 1e-6 and difference(a.text[:, 4:], b.text[:, 4:]) > 1e-3
    assert difference(a.image, b.image) == 0 and difference(a.codes, b.codes) == 0


def test_cached_steps_equal_the_full_pass(model):
    """Two object words, then three words of a caption one at a time, for reordered beams."""
    text, pixels = words([5, 5], 5), images(2)
    sizes = paddle.to_tensor([2, 2])
    full = model(text, pixels, seq2seq_mask(sizes, sizes + 3, 5))
    cut = lambda a, b: Text(text.ids[:, a:b], text.positions[:, a:b], text.mask[:, a:b])  # noqa: E731
    prefix = model(cut(0, 2), pixels, paddle.ones([2, 2, 2]))
    assert difference(prefix.text, full.text[:, :2]) < 1e-5
    rows = paddle.to_tensor([1, 0, 1])
    cache, context = prefix.cache.select(rows), prefix.image.shape[1] + prefix.codes.shape[1]
    for t in range(2, 5):
        token = Text(*(getattr(cut(t, t + 1), name).index_select(rows) for name in ("ids", "positions", "mask")))
        masks = paddle.ones([3, 1, t + 1]), paddle.ones([3, 1, context + t + 1])
        states, cache = model.decode(token, cache, *masks)
        assert difference(states[:, 0], full.text[:, t].index_select(rows)) < 1e-5


# ---- reading less of the last layer


@pytest.mark.parametrize("method", ["topk", "normal", "none"])
@pytest.mark.parametrize("wanted", ["text", "classes"])
@pytest.mark.parametrize("mode", ["eval", "train", "recompute"])
def test_what_is_read_is_what_the_whole_pass_has_there(method, wanted, mode):
    paddle.seed(3)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "recompute": mode == "recompute"}
    model = Unimo2(Unimo2Config(**TINY | still, grounding_method=method))
    (model.eval if mode == "eval" else model.train)()
    text, pixels = words([4, 7, 1], 7), images(3)
    vit, tokens = model.vit(pixels.images).detach(), model.text(model.text.embed(text), text.mask)[0].detach()
    vit.stop_gradient = tokens.stop_gradient = False
    found = []
    for read in ("all", wanted):
        for image, spoken in ((vit, tokens), (vit, None), (None, tokens)):
            encoded = model.ground(image, spoken, None if spoken is None else text.mask, wanted=read)
            if wanted == read:
                assert encoded.codes is None and (image is None or encoded.image.shape[1] == 1)
            states = [] if image is None else [encoded.image[:, 0]]
            if spoken is not None:
                states.append(encoded.text if wanted == "text" else encoded.text[:, :1])
            given = [x for x in (image, spoken) if x is not None]
            weights = [
                model.grounded.layers[-1].feed_forward.inner.weight,
                model.grounded.layers[0].attention.qkv.weight,
            ]
            gradients = paddle.grad(sum((x * x.shape[-1]).tanh().sum() for x in states), [*given, *weights])
            found.append([*states, *gradients])
    for whole, part in zip(found[:3], found[3:]):
        for a, b in zip(whole, part, strict=True):
            assert difference(a, b) <= 1e-5 * max(1.0, float(a.abs().max()))


# ---- streams and bad calls


def test_streams_build_only_their_own_parts():
    text = Unimo2(Unimo2Config(**TINY), ("pool", "classify"), ("text",))
    image = Unimo2(Unimo2Config(**TINY), ("pool",), ("image",))
    both = Unimo2(Unimo2Config(**TINY), ("pool", "classify"))
    names = [{name.split(".")[0] for name, _ in model.named_parameters()} for model in (text, image, both)]
    assert names[0] == {"text", "dictionary", "grounded", "pool_text", "classify"}
    assert names[1] == {"vit", "dictionary", "grounded", "pool_image"}
    text.set_state_dict(both.state_dict())
    for m in (text, both):
        m.eval()
    given = words([4, 2], 5)
    assert difference(text.pooled_text(text(given)), both.pooled_text(both(given))) == 0


def test_bad_calls_are_config_errors(model):
    config = Unimo2Config(**TINY)
    with pytest.raises(ConfigError, match="no stream"):
        model()
    with pytest.raises(ConfigError, match="for a stream that the pass was without"):
        model.contrast_score(model(words([2], 2)))
    with pytest.raises(ConfigError, match="caption_mask needs both"):
        model(words([2], 2), caption_mask=paddle.ones([1, 2, 2]))
    with pytest.raises(ConfigError, match=r"without the stream image; it has \['text'\]"):
        Unimo2(config, streams=("text",))(pixels=images(1))
    with pytest.raises(ConfigError, match="unknown heads.*region"):
        Unimo2(config, ["region_class"])
    with pytest.raises(ConfigError, match="streams.*audio"):
        Unimo2(config, streams=("audio",))
    with pytest.raises(ConfigError, match="lm head.*stream text"):
        Unimo2(config, ["lm"], ["image"])
