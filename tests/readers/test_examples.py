"""The row of every benchmark, and one pass in order over any number of processes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl
from unimo.readers.examples import Example, gathered, in_order, read_examples

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 200), world=st.integers(1, 4))
def test_each_sample_once_in_order_within_the_budget(lengths, budget, world):
    parts = [list(in_order(lengths, budget, rank, world)) for rank in range(world)]
    batches = gathered(parts)
    assert [i for batch in batches for i in batch.tolist()] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@given(lengths=LENGTHS.filter(bool), budget=st.integers(1, 200))
def test_no_batch_could_have_taken_the_next_sample(lengths, budget):
    batches = list(in_order(lengths, budget))
    for batch, following in zip(batches, batches[1:]):
        widest = max(lengths[i] for i in [*batch, following[0]])
        assert (len(batch) + 1) * widest > budget


ROWS = [
    {"id": "s1", "split": "train", "source": ["a fine film"], "target": 1},
    {"id": "s2", "split": "dev", "source": ["it rains", "it is wet"], "target": 2.5},
    {"id": "s3", "split": "dev", "source": ["what is it?"], "image_id": "cat", "target": {"cat": 1.0, "pet": 0.3}},
    {"id": "s4", "split": "dev", "image_id": "cat", "target": "a cat sits"},
    {"id": "s5", "split": "test", "source": ["hidden answer"]},
]


def test_examples_of_every_task(tmp_path: Path):
    write_jsonl(tmp_path / "examples.jsonl", ROWS)
    found = read_examples(tmp_path / "examples.jsonl", "dev")
    assert [example.id for example in found] == ["s2", "s3", "s4"]
    assert found[0].source == ["it rains", "it is wet"] and found[0].target == 2.5
    assert found[1].target == {"cat": 1.0, "pet": 0.3} and found[2].source == []
    assert read_examples(tmp_path / "examples.jsonl", "test")[0].target is None
    assert isinstance(read_examples(tmp_path / "examples.jsonl", "train")[0].target, int)
    write_jsonl(tmp_path / "again.jsonl", found)
    assert read_examples(tmp_path / "again.jsonl", "dev") == found


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "x", "split": "val"}, "split: Input should be 'train', 'dev' or 'test'"),
        ({"id": "x", "split": "dev", "source": "a text"}, "source: Input should be a valid array"),
        ({"id": "x", "split": "dev", "source": [""]}, "source.0: String should have at least 1 character"),
        ({"id": "s1", "split": "dev"}, "id 's1' was already on line 1"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: dict, words: str):
    write_jsonl(tmp_path / "examples.jsonl", [*ROWS, row])
    with pytest.raises(DataError) as error:
        read_examples(tmp_path / "examples.jsonl", "dev")
    assert "line 6: " in str(error.value) and words in str(error.value)


def test_a_split_without_rows_is_an_error(tmp_path: Path):
    write_jsonl(tmp_path / "examples.jsonl", ROWS[:2])
    with pytest.raises(DataError, match=r"no example of split 'test'; it has \['dev', 'train'\]"):
        read_examples(tmp_path / "examples.jsonl", "test")


def test_fields_are_what_the_contract_names():
    assert list(Example.model_fields) == ["id", "split", "source", "image_id", "target"]
    assert np.array_equal(next(in_order([3, 3], 6)), [0, 1])
