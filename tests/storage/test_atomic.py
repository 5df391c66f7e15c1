"""Files and folders that are old or whole, also where several write one name at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unimo.errors import CheckpointError, ConfigError, DataError
from unimo.storage.atomic import atomic_write, new_folder
from unimo.storage.checksums import checksum
from unimo.storage.locks import alone

SIZE = 1 << 20


def write(path: Path, letter: bytes) -> None:
    with atomic_write(path) as file:
        for _ in range(16):
            file.write(letter * (SIZE // 16))
            time.sleep(0.002)


def test_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "file"
    for _ in range(5):
        writers = [multiprocessing.Process(target=write, args=(path, letter)) for letter in (b"a", b"b", b"c")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        content = path.read_bytes()
        assert content in (b"a" * SIZE, b"b" * SIZE, b"c" * SIZE)
        assert os.listdir(tmp_path) == ["file"]


def test_what_a_kill_left_is_taken_over(tmp_path):
    path = tmp_path / "file"
    program = "import os, sys; from unimo.storage.atomic import atomic_write\n"
    program += "with atomic_write(sys.argv[1]) as file: file.write(b'x' * 99); file.flush(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -signal.SIGKILL
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [b"x" * 99]
    write(path, b"a")
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"a" * SIZE


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), atomic_write(path) as file:
        file.write(b"new")
        raise ValueError
    assert os.listdir(tmp_path) == ["file"] and path.read_text() == "old"
    with pytest.raises(DataError, match="cannot write .*No such file or directory; nothing was changed"):
        write(tmp_path / "no" / "file", b"a")


def test_a_second_writer_of_a_folder_is_refused(tmp_path):
    with new_folder(tmp_path / "folder") as first:
        (first / "a").write_text("1")
        with pytest.raises(CheckpointError, match="another process is writing it"), new_folder(tmp_path / "folder"):
            pass
        assert (first / "a").read_text() == "1"
    assert (tmp_path / "folder" / "a").read_text() == "1" and os.listdir(tmp_path) == ["folder"]


def test_what_a_kill_left_in_a_new_folder_is_removed(tmp_path):
    (tmp_path / ".folder.tmp" / "inner").mkdir(parents=True)
    (tmp_path / ".folder.tmp" / "b").write_text("torn")
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("1")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with alone(tmp_path / "run"):
        with (
            pytest.raises(ConfigError, match=rf"another process \(pid {os.getpid()} on .*\) works in"),
            alone(tmp_path / "run"),
        ):
            pass
    with alone(tmp_path / "run"):
        pass


def test_a_checksum_follows_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    empty = checksum(path)
    assert empty == "99aa06d3014798d86001c324468d497f"  # XXH3-128 of nothing, as its authors publish it
    path.write_bytes(b"a" * 5000)
    first = checksum(path)
    path.write_bytes(b"a" * 4999 + b"b")
    assert len({empty, first, checksum(path)}) == 3


def test_what_a_link_points_to_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(Path("disk") / "file")
    for letter in (b"a", b"b"):  # at first there is nothing behind it
        write(tmp_path / "link", letter)
        assert (tmp_path / "disk" / "file").read_bytes() == letter * SIZE
    assert (tmp_path / "link").is_symlink() and os.listdir(tmp_path / "disk") == ["file"]
