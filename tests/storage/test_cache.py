"""The folder of downloads, and one process at a time in it."""

import subprocess
import sys

from unimo.storage.cache import cache_folder, sha256
from unimo.storage.locks import locked


def test_the_cache_folder_follows_argument_environment_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("UNIMO_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "unimo"
    monkeypatch.setenv("UNIMO_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"
    assert cache_folder(tmp_path / "c") == tmp_path / "c"


def test_a_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_lock_waits_for_another_process_and_outlives_no_kill(tmp_path):
    lock = tmp_path / "zoo" / "model.lock"
    program = "import sys, time, pathlib; from unimo.storage.locks import locked\n"
    program += "with locked(pathlib.Path(sys.argv[1]), print): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    said = []

    def log(text: str) -> None:
        said.append(text)
        holder.kill()

    with locked(lock, log):
        assert said == [f"another process holds {lock}; waiting for it"]
    assert holder.wait() == -9
    holder.stdout.close()
