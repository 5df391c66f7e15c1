"""Batches of the three streams: what is hidden, what is contrasted, and that nothing depends on ranks or history."""

import numpy as np
import paddle
import pytest

from unimo.config import validate
from unimo.errors import ConfigError
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.unimo import UnimoPretraining, build_sources
from unimo.pretrain.unimo_streams import Candidate, candidate_rows
from unimo.readers.batching import Batch, Stream
from unimo.readers.tokenizer import load_tokenizer


@pytest.fixture
def sources(small_recipe):
    recipe = validate(PretrainRecipe, small_recipe, "small")
    return build_sources(recipe, load_tokenizer(recipe.tokenizer))


@pytest.fixture
def task(small_recipe):
    """It is asked for counts alone, so any model does."""
    return UnimoPretraining(paddle.nn.Linear(1, 1), small_recipe["weights"], temperature=1.0)


def batches(source, count: int, rank: int = 0, world: int = 1) -> list[Batch]:
    stream = Stream(source, 4096, seed=3, rank=rank, world=world, multiple=1)
    return [stream.next() for _ in range(count)]


def test_samples_are_the_training_split_only(sources):
    assert len(sources["text"].lengths) == 32
    assert len(sources["image"].lengths) == 20
    assert len(sources["pair"].lengths) == 40
    assert {i.split("#")[0] for i in sources["pair"].ids} == set(sources["image"].ids)


def test_items_are_what_the_arrays_hold(sources, task):
    for name, source in sources.items():
        for batch in batches(source, 6):
            items, inputs = dict(task.items(batch)), batch.inputs
            if "text" in inputs:
                objective = ({"mlm", "seq2seq"} & items.keys()).pop()
                assert items.pop(objective) == len(inputs["text"]["labels"]) == len(inputs["text"]["words"]) > 0
                assert ("source_lengths" in inputs["text"]) == (objective == "seq2seq")
            if "regions" in inputs:
                hidden = inputs["regions"]["hidden"]
                assert items.pop("region_feature") == items.pop("region_class") == hidden.sum() > 0
                assert len(inputs["regions"]["class_probs"]) == hidden.sum()
                assert not hidden[:, 0].any(), "the image slot is never masked"
                assert (hidden <= inputs["regions"]["mask"]).all(), "only real regions are masked"
            assert items == ({"cmcl": 4 * len(batch.ids)} if name == "pair" else {})


def test_both_language_objectives_occur(sources, task):
    seen = {name for batch in batches(sources["text"], 12) for name in task.items(batch)}
    assert seen == {"mlm", "seq2seq"}


def test_masked_copies_do_not_reach_the_contrast(sources, small_world):
    tokenizer = load_tokenizer(small_world / "vocabulary")
    for batch in batches(sources["pair"], 4):
        for name, group in batch.inputs.items():
            if name.startswith(("captions", "retrieved_texts", "own_captions")):
                assert not (group["ids"] == tokenizer.mask_id).any()


def test_rows_hold_the_group_and_what_was_rewritten_and_retrieved(sources, small_world):
    """Decode every candidate of the first batch and rebuild each row from the files."""
    tokenizer, source = load_tokenizer(small_world / "vocabulary"), sources["pair"]
    batch = batches(source, 1)[0]
    inputs, said = batch.inputs, lambda ids: tokenizer.decode([t for t in ids if t not in (0, 2, 3)])
    captions = [said(ids) for ids in inputs["captions"]["ids"]]
    assert len(set(captions)) == len(captions), "each is encoded once"
    texts: list[str | None] = [captions[row] for row in inputs["pairings"]["captions"]]
    texts += [said(ids) for ids in inputs["retrieved_texts"]["ids"]]
    texts += [None] * len(inputs["retrieved_images"]["partner"])
    contrast, size = batch.inputs["contrast"], 1 + source.contrast.companions
    assert len(contrast["grid"]) == len(batch.inputs["contrast_images"]["mask"]) == size * len(batch.ids)
    for number, key in enumerate(batch.ids):
        sample = source.ids.index(key)
        own, rewrite = source.texts[sample], source.rewrites[key]
        rows = []
        for member in range(size):
            row = number * size + member
            chosen = contrast["grid"][row][contrast["valid"][row] > 0]
            marks = contrast["positive"][row][: len(chosen)]
            rows.append(
                ([texts[c] for c, m in zip(chosen, marks) if m], [texts[c] for c, m in zip(chosen, marks) if not m])
            )
        positive, negative = rows[0]
        retrieved = [rewrite.similar_texts[0], None]  # None: a retrieved image
        assert sorted(positive, key=str) == sorted([own, rewrite.positives[0].text, *retrieved], key=str)
        companions = [row[0] for row in rows[1:]]
        assert all(len(c) == 1 for c in companions), "a companion's only positive is its own caption"
        captions = [own, *(c[0] for c in companions)]
        assert len(set(captions)) == size
        expected = captions[1:] + [own] * (size - 1) + [n.text for n in rewrite.negatives]
        assert sorted(negative) == sorted(expected)
        for member in range(1, size):
            others = [c for c in captions if c != captions[member]]
            assert sorted(rows[member][1]) == sorted(others + [captions[member]] * (size - 1))
    assert not contrast["positive"][contrast["valid"] == 0].any()


def test_companions_are_other_pictures_with_other_words(sources):
    source = sources["pair"]
    for sample in range(len(source.ids)):
        for epoch in range(3):
            group = [sample, *source._companions(sample, np.random.default_rng([epoch, sample]), 3)]
            assert len(group) == 4
            assert len({source.image_ids[i] for i in group}) == len({source.texts[i] for i in group}) == 4


def test_two_ranks_share_the_global_batch_of_one(sources, task):
    for name, source in sources.items():
        whole, halves = batches(source, 3), [batches(source, 3, rank, 2) for rank in (0, 1)]
        for step, batch in enumerate(whole):
            parts = [halves[rank][step] for rank in (0, 1)]
            assert sorted(parts[0].ids + parts[1].ids) == sorted(batch.ids)
            summed = {k: sum(task.items(p)[k] for p in parts) for k in task.items(batch)}
            assert summed == task.items(batch), name


def test_candidate_rows_pads_ragged_sets():
    candidates = [Candidate("", 0, {0}, True), Candidate("", 1, {1}, True), Candidate("", 0, {0, 1}, False)]
    rows = candidate_rows([*candidates, Candidate("", 1, {1}, True)], 2)
    np.testing.assert_array_equal(rows["grid"] * rows["valid"], [[0, 2, 0], [1, 2, 3]])
    np.testing.assert_array_equal(rows["valid"], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(rows["positive"], [[1, 0, 0], [1, 0, 1]])


def test_a_recipe_lists_all_that_its_streams_lack(small_recipe):
    small_recipe["data"].pop("texts")
    small_recipe["data"].pop("images")
    small_recipe["batch_positions"].pop("pair")
    recipe = validate(PretrainRecipe, small_recipe, "small")
    with pytest.raises(ConfigError) as error:
        build_sources(recipe, load_tokenizer(recipe.tokenizer))
    for problem in ("image needs data.images", "text needs data.texts", "pair needs batch_positions.pair"):
        assert problem in str(error.value)
