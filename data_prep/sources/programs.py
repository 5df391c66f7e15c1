"""Programs of Debian packages, unpacked into the cache and run from there: nothing is installed, root is not needed."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.packages import apt_get
from unimo.errors import DataError
from unimo.storage.cache import cache_folder, sha256
from unimo.storage.locks import locked

RECORD = "packages.json"  # beside the unpacked files, written before the folder gets its name


@dataclass(frozen=True)
class Programs:
    """Where packages lie, the environment that their programs need, and what the manifest says of them."""

    root: Path
    environment: dict[str, str]
    packages: list[dict[str, str]]  # name, version, sha256

    def find(self, path: str) -> Path:
        """A file of the packages, or of the system where that had them installed already. Raises DataError."""
        places = [self.root / path, Path("/") / path]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise DataError(f"{path} is neither under {self.root} nor on this system; delete that folder and run again")
        return found


def debian_programs(name: str, packages: Sequence[str], cache: Path | None = None) -> Programs:
    """These packages, and what they depend on that is not installed on this system, from the cache or through apt-get.

    Raises:
        DataError: no apt-get or dpkg-deb, or the packages cannot be fetched.
    """
    home = cache_folder(cache) / "packages" / "programs"
    root = home / name
    if not (root / RECORD).exists():  # without the lock: a cache may be for reading only
        with locked(home / f"{name}.lock", print):
            if not (root / RECORD).exists():
                _unpack(packages, root)
    folders = sorted(str(path) for path in root.glob("usr/lib/*-linux-gnu"))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(root / "usr/bin"), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
        "LC_ALL": "C.UTF-8",
    }
    return Programs(root, environment, json.loads((root / RECORD).read_bytes()))


def _unpack(packages: Sequence[str], root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".") as folder:
        temporary = Path(folder) / "files"
        temporary.mkdir()
        plan = apt_get(["install", "--simulate", "--no-install-recommends", *packages], Path(folder), keep=True)
        wanted = re.findall(r"^Inst (\S+) ", plan, re.MULTILINE)
        if wanted:
            apt_get(["download", *wanted], Path(folder))
        records = []
        for archive in sorted(Path(folder).glob("*.deb")):
            package, version, _ = archive.stem.split("_")
            records.append({"name": package, "version": version.replace("%3a", ":"), "sha256": sha256(archive)})
            try:
                subprocess.run(["dpkg-deb", "--extract", str(archive), str(temporary)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise DataError(f"{archive.name} cannot be unpacked: {error}") from error
        (temporary / RECORD).write_text(json.dumps(records, indent=1))
        os.replace(temporary, root)
