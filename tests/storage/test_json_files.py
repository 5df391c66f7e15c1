"""A json object, or one error of the caller's kind that says what to do."""

import pytest

from unimo.errors import CheckpointError, ConfigError
from unimo.storage.json_files import read_json


def test_an_object_is_read(tmp_path):
    (tmp_path / "x.json").write_text('{"é": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"é": [1]}


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot read .*x.json: No such file"),
        (b"{", "x.json is not JSON: "),
        (b"\xff\xfe{", "x.json is not JSON: "),
        (b"[" * 100_000, "x.json is not JSON: "),
        (b"[1]", "x.json holds a list, expected an object"),
        (b"null", "x.json holds a NoneType"),
    ],
)
@pytest.mark.parametrize("error", [CheckpointError, ConfigError])
def test_anything_else_is_one_error(tmp_path, content, message, error):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(error, match=f"{message}.*; fetch it again"):
        read_json(tmp_path / "x.json", error, "fetch it again")


def test_a_folder_in_its_place(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        read_json(tmp_path / "x.json", CheckpointError)
