import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.progress import Progress
from unimo.errors import DataError

WORK = {"seed": 1, "b": [1, 2]}


def test_records_of_the_same_work_are_found_again(tmp_path):
    first = Progress(tmp_path / "p.jsonl", WORK)
    first.add([{"a": 1}, {"a": "é\n"}])
    first.add([{"a": 3}])
    again = Progress(tmp_path / "p.jsonl", dict(reversed(WORK.items())))
    assert again.done == first.done == [{"a": 1}, {"a": "é\n"}, {"a": 3}]
    assert Progress(tmp_path / "p.jsonl", {**WORK, "seed": 2}).done == []
    assert Progress(tmp_path / "p.jsonl", WORK).done == []  # the other work took its place


@given(cut=st.integers(0, 200))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "p.jsonl"
    records = [{"a": i, "text": "x" * i} for i in range(6)]
    Progress(path, WORK).add(records)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    resumed = Progress(path, WORK)
    head = len(json.dumps(WORK, sort_keys=True)) + 1
    assert resumed.done == records[: whole[head:cut].count(b"\n") if cut >= head else 0]
    resumed.add(records[len(resumed.done) :])
    assert path.read_bytes() == whole


def test_a_damaged_line_ends_what_is_believed(tmp_path):
    Progress(tmp_path / "p.jsonl", WORK).add([{"a": 1}, {"a": 2}, {"a": 3}])
    text = (tmp_path / "p.jsonl").read_text().replace('{"a": 2}', '{"a": 2')
    (tmp_path / "p.jsonl").write_text(text)
    assert Progress(tmp_path / "p.jsonl", WORK).done == [{"a": 1}]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot write"):
        Progress(tmp_path / "missing" / "p.jsonl", WORK)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        Progress(tmp_path / "folder", WORK)
