"""Batches of the three streams: what is hidden, what is contrasted, and that nothing depends on ranks or history."""

import numpy as np
import pytest

from unimo.config import validate
from unimo.errors import ConfigError
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.run import build_sources
from unimo.pretrain.streams import candidate_rows
from unimo.readers.batching import Batch, Stream
from unimo.readers.tokenizer import load_tokenizer


@pytest.fixture
def sources(small_recipe):
    recipe = validate(PretrainRecipe, small_recipe, "small")
    return build_sources(recipe, load_tokenizer(recipe.tokenizer))


def batches(source, count: int, rank: int = 0, world: int = 1) -> list[Batch]:
    stream = Stream(source, 1024, seed=3, rank=rank, world=world, multiple=1)
    return [stream.next() for _ in range(count)]


def test_samples_are_the_training_split_only(sources):
    assert len(sources["text"].lengths) == 32
    assert len(sources["image"].lengths) == 20
    assert len(sources["pair"].lengths) == 40
    assert {i.split("#")[0] for i in sources["pair"].ids} == set(sources["image"].ids)


def test_counts_are_what_the_arrays_hold(sources):
    for name, source in sources.items():
        for batch in batches(source, 6):
            counts, inputs = dict(batch.counts), batch.inputs
            if "text" in inputs:
                objective = ({"mlm", "seq2seq"} & counts.keys()).pop()
                assert counts.pop(objective) == len(inputs["text"]["labels"]) == len(inputs["text"]["words"]) > 0
                assert ("source_lengths" in inputs["text"]) == (objective == "seq2seq")
            if "regions" in inputs:
                hidden = inputs["regions"]["hidden"]
                assert counts.pop("region_feature") == counts.pop("region_class") == hidden.sum() > 0
                assert len(inputs["regions"]["class_probs"]) == hidden.sum()
                assert not hidden[:, 0].any(), "the image slot is never masked"
                assert (hidden <= inputs["regions"]["mask"]).all(), "only real regions are masked"
            assert counts == ({"cmcl": len(batch.ids)} if name == "pair" else {})


def test_both_language_objectives_occur(sources):
    seen = {name for batch in batches(sources["text"], 12) for name in batch.counts}
    assert seen == {"mlm", "seq2seq"}


def test_masked_copies_do_not_reach_the_contrast(sources, small_world):
    tokenizer = load_tokenizer(small_world / "vocabulary")
    for batch in batches(sources["pair"], 4):
        for name, group in batch.inputs.items():
            if name.startswith(("captions", "retrieved_texts", "own_captions")):
                assert not (group["ids"] == tokenizer.mask_id).any()


def test_candidates_of_each_pair_are_its_own(sources, small_world):
    """Decode every candidate: X+ is the caption and its paraphrase, X- differs, retrieved ones come from the file."""
    tokenizer = load_tokenizer(small_world / "vocabulary")
    source = sources["pair"]
    batch = batches(source, 1)[0]
    groups = {n: g for n, g in batch.inputs.items() if n.startswith(("captions", "retrieved"))}
    texts, owners = [], []
    for group in groups.values():
        owners += group["owner"].tolist()
        rows = group["ids"] if "ids" in group else [None] * len(group["owner"])
        texts += [None if r is None else tokenizer.decode([t for t in r if t not in (0, 2, 3)]) for r in rows]
    contrast = batch.inputs["contrast"]
    for row, key in enumerate(batch.ids):
        own = source.texts[source.ids.index(key)]
        rewrite = source.rewrites[source.ids.index(key)]
        members = contrast["grid"][row][contrast["valid"][row] > 0]
        assert {owners[m] for m in members} == {row}
        positive = {texts[m] for m, p in zip(members, contrast["positive"][row]) if p}
        negative = [texts[m] for m, p in zip(members, contrast["positive"][row]) if not p]
        assert positive == {own, rewrite.positives[0].text, rewrite.similar_texts[0], None}  # None: a retrieved image
        assert {n.text for n in rewrite.negatives} <= set(negative)
        assert own not in negative
    assert not contrast["positive"][contrast["valid"] == 0].any()


def test_two_ranks_share_the_global_batch_of_one(sources):
    for name, source in sources.items():
        whole, halves = batches(source, 3), [batches(source, 3, rank, 2) for rank in (0, 1)]
        for step, batch in enumerate(whole):
            parts = [halves[rank][step] for rank in (0, 1)]
            assert sorted(parts[0].ids + parts[1].ids) == sorted(batch.ids)
            summed = {k: sum(p.counts[k] for p in parts) for k in batch.counts}
            assert summed == batch.counts, name


def test_candidate_rows_pads_ragged_sets():
    rows = candidate_rows([0, 1, 1, 0, 1], [True, True, False, False, False])
    np.testing.assert_array_equal(rows["grid"] * rows["valid"], [[0, 3, 0], [1, 2, 4]])
    np.testing.assert_array_equal(rows["valid"], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(rows["positive"], [[1, 0, 0], [1, 0, 0]])


def test_a_recipe_lists_all_that_its_streams_lack(small_recipe):
    small_recipe["data"].pop("texts")
    small_recipe["data"].pop("images")
    small_recipe["batch_positions"].pop("pair")
    recipe = validate(PretrainRecipe, small_recipe, "small")
    with pytest.raises(ConfigError) as error:
        build_sources(recipe, load_tokenizer(recipe.tokenizer))
    for problem in ("image needs data.images", "text needs data.texts", "pair needs batch_positions.pair"):
        assert problem in str(error.value)
