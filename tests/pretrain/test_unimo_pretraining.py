"""The pre-training task on real batches: no leak through masks, every parameter is trained, seq2seq sees no future."""

import numpy as np
import paddle
import pytest

from unimo.config import validate
from unimo.models.unimo import Regions
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.regions import hidden_rows, soft_class_loss, without_hidden
from unimo.pretrain.run import build_model
from unimo.pretrain.unimo import UnimoPretraining, build_sources, fragment_mask
from unimo.readers import pairings
from unimo.readers.batching import Stream
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import load_tokenizer


@pytest.fixture
def world(small_recipe):
    recipe = validate(PretrainRecipe, small_recipe, "small")
    tokenizer = load_tokenizer(recipe.tokenizer)
    sources = build_sources(recipe, tokenizer)
    task = UnimoPretraining(build_model(recipe, tokenizer), recipe.weights, recipe.contrast.temperature)
    streams = {name: Stream(source, recipe.batch_positions[name], seed=1) for name, source in sources.items()}
    return task, streams


def test_every_stream_gives_the_losses_it_counts_and_all_parameters_get_gradients(world):
    task, streams = world
    touched = set()
    for stream in streams.values():
        for _ in range(6):  # both language objectives
            batch = stream.next()
            losses = task(batch)
            assert losses.keys() == task.items(batch).keys()
            sum(losses.values()).backward()
            assert all(np.isfinite(loss.item()) and loss.item() > 0 for loss in losses.values())
    touched = {n for n, p in task.model.named_parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0}
    assert touched == {name for name, _ in task.model.named_parameters()}


def test_calls_without_pads_give_the_loss_and_gradients_of_one_call(world, monkeypatch):
    monkeypatch.setattr(pairings, "CALL", 0)  # else so few pairings are one call
    task, streams = world
    batch, found = streams["pair"].next(), []
    calls = batch.inputs["pairings"]["calls"]
    assert len(calls) > 1 and max(n * (slots + tokens) for n, slots, tokens in calls) <= streams["pair"].budget
    whole = np.array([[calls[:, 0].sum(), *calls[:, 1:].max(axis=0)]])
    for one in (calls, whole):
        batch.inputs["pairings"]["calls"] = one
        loss = task(batch)["cmcl"]
        loss.backward()
        # a shift of all scores changes no contrast: what is left of this gradient is rounding, one way as the other
        shift = np.abs(task.model.match.affine.bias.grad.numpy()).max()
        assert shift <= 16 * np.finfo(np.float32).eps * len(batch.inputs["contrast"]["grid"])
        task.model.match.affine.bias.clear_gradient(set_to_zero=False)
        found.append((loss.item(), [p.grad.numpy().copy() for p in task.model.parameters() if p.grad is not None]))
        task.model.clear_gradients()
    (loss, gradients), (plain_loss, plain) = found
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    largest = max(np.abs(g).max() for g in plain)
    differing = max(np.abs(a - b).max() for a, b in zip(gradients, plain, strict=True))
    assert differing < 3e-6 * largest, "more than float32 sums in another order differ by"


def test_an_objective_without_weight_is_left_out(world):
    task, streams = world
    task.weights = {"cmcl": 1.0}
    assert task(streams["pair"].next()).keys() == {"cmcl"}


def test_hidden_regions_leave_no_trace_in_the_input():
    rng = np.random.default_rng(0)
    features, hidden = rng.normal(size=(2, 4, 3)).astype("float32"), np.array([[0, 1, 0, 0], [0, 0, 1, 1]], "float32")
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], "float32")

    def given(values: np.ndarray) -> np.ndarray:
        regions = Regions(paddle.to_tensor(values), paddle.zeros([2, 4, 5]), paddle.to_tensor(mask))
        return without_hidden(regions, paddle.to_tensor(hidden)).features.numpy()

    first = given(features)
    changed = features + 9 * hidden[:, :, None]
    changed[:, 0] = changed[:, 1:].mean(axis=1)  # the global slot as the reader makes it, hidden regions included
    np.testing.assert_array_equal(given(changed), first)
    np.testing.assert_allclose(first[0, 0], features[0, 2], rtol=1e-6)  # the mean of what is real and visible
    np.testing.assert_array_equal(first[0, 1], 0)
    np.testing.assert_array_equal(first[1, 1], features[1, 1])


def test_hidden_rows_come_in_row_order():
    values = paddle.arange(12, dtype="float32").reshape([2, 3, 2])
    rows = hidden_rows(values, np.array([[0.0, 1, 0], [1, 0, 1]]))
    np.testing.assert_array_equal(rows.numpy(), [[2, 3], [6, 7], [10, 11]])


def test_soft_class_loss_is_cross_entropy_with_the_detector(world):
    task, _ = world
    states = paddle.randn([3, 32])
    target = paddle.nn.functional.softmax(paddle.randn([3, 9]))
    log_q = paddle.nn.functional.log_softmax(task.model.region_class(states)).numpy()
    expected = -(target.numpy() * log_q).sum()
    assert soft_class_loss(task.model, states, target).item() == pytest.approx(expected, rel=1e-5)


def test_fragment_mask_with_an_image():
    text = {"source_lengths": np.array([2]), "lengths": np.array([4]), "ids": np.zeros((1, 5))}
    regions = Regions(None, None, paddle.to_tensor([[1.0, 1.0, 0.0]]))
    mask = fragment_mask(text, regions).numpy()[0]
    image, source, target, pad = [0, 1], [3, 4], [5, 6], 7
    assert mask[np.ix_(image, image + source)].all() and not mask[np.ix_(image, target)].any()
    assert mask[np.ix_(source, image + source)].all() and not mask[np.ix_(source, target)].any()
    assert mask[np.ix_(target, image + source)].all() and mask[6, 5] and not mask[5, 6]
    assert not mask[:, 2].any() and not mask[:, pad].any()


def test_seq2seq_prediction_does_not_see_its_target(world):
    """Changing the last target word changes no logit of the words before it."""
    task, streams = world
    batch = streams["pair"].next()
    while "seq2seq" not in task.items(batch):
        batch = streams["pair"].next()
    model, text = task.model, batch.inputs["text"]
    model.eval()
    from unimo.readers.tensors import as_regions, as_text

    regions = as_regions(batch.inputs["regions"])
    mask = fragment_mask(text, regions)
    before = model(as_text(text), regions, attention_mask=mask).text.numpy()
    last = text["lengths"][0] - 1
    text["ids"][0, last] = 7
    after = model(as_text(text), regions, attention_mask=mask).text.numpy()
    np.testing.assert_array_equal(before[0, :last], after[0, :last])
    assert np.abs(before[0, last] - after[0, last]).max() > 1e-3


def test_the_contrast_of_single_streams_is_that_of_every_pairing_scored_by_itself(small_recipe):
    """Captions once each, in calls by length, against a caption and a picture encoded alone for every candidate."""
    small_recipe["model"]["match_on"] = "alone"
    small_recipe["contrast"] |= {"images": 0, "texts": 0}
    recipe = validate(PretrainRecipe, small_recipe, "small")
    tokenizer = load_tokenizer(recipe.tokenizer)
    model = build_model(recipe, tokenizer)
    task = UnimoPretraining(model, {"cmcl": 1.0}, recipe.contrast.temperature)
    task.eval()
    source = build_sources(recipe, tokenizer)["pair"]
    inputs = (batch := Stream(source, recipe.batch_positions["pair"], seed=1).next()).inputs
    captions, images = as_text(inputs["captions"]), as_regions(inputs["contrast_images"])
    texts, shown = model.pooled_text(model(captions)), model.pooled_image(model(regions=images))
    scores = [
        float(model.match(texts[row : row + 1], shown[column : column + 1]))
        for row, column in zip(inputs["pairings"]["captions"], inputs["pairings"]["images"])
    ]
    contrast, expected = inputs["contrast"], 0.0
    for row, positive, valid in zip(contrast["grid"], contrast["positive"], contrast["valid"]):
        d = np.exp(np.array(scores)[row] / recipe.contrast.temperature)
        expected -= np.log((d * positive * valid).sum() / (d * valid).sum())
    assert task(batch)["cmcl"].item() == pytest.approx(expected, rel=1e-5)
