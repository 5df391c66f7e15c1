"""Fetching from a server that fails, hangs and lies: what comes is whole, the rest is listed, a kill loses nothing."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_server import Site, picture, serving
from PIL import Image

from data_prep.corpora import fetch as fetch_module
from data_prep.corpora.fetch import FetchError, Rules, Watch, fetch, is_public
from data_prep.corpora.pairs import build
from data_prep.merge import merge
from data_prep.stage import Shard, read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_pairs

ROOT = Path(__file__).parents[3]
RULES = Rules(attempts=2, wait=0.05, max_bytes=1 << 20, per_host=8, allow_private=True)
HASTY = replace(RULES, timeout=1, deadline=2)
# kind of answer -> the reason for which there is no picture; None: it comes
KINDS = {
    "ok": None,
    "png": None,
    "large": None,
    "moved": None,
    "flaky": None,
    "limited": None,
    "chunked": None,
    "claimsnonsense": None,
    "page": "no picture",
    "claimsless": "no picture",
    "postscript": "no picture",
    "bomb": "no picture",
    "dot": "a side below 32 pixels",
    "gone": "answered 404",
    "broken": "answered 503",
    "shut": "answered 429",
    "short": "connection failed",
    "reset": "connection failed",
    "nonsense": "connection failed",
    "claimsmuch": "larger than 1,048,576 bytes",
    "endless": "larger than 1,048,576 bytes",
    "hang": "no byte for 1 s",
    "drip": "took longer than 2 s",
    "slow": "took longer than 2 s",
    "loop": "more than 5 redirects",
    "tofile": "no http address",
}
PASSING = {"broken", "shut", "short", "reset", "nonsense", "hang", "drip", "slow"}


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with serving(site) as address:
        site.root = address.removesuffix("/file")
        yield site
        site.ended.set()


def write_list(folder: Path, site: Site, paths: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"a picture of {path}\t{path if ':' in path else site.root + path}\n" for path in paths]
    (folder / "list.tsv").write_text("".join(lines))
    return folder / "list.tsv"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(source: Path, out: Path, **options) -> str:
    return build("conceptual-captions", [source], out, **{"rules": RULES} | options)


def test_what_is_no_picture_is_listed_and_all_else_comes_whole(site, tmp_path):
    source = write_list(tmp_path, site, [f"/{kind}/{n}" for n, kind in enumerate(KINDS)])
    run(source, tmp_path / "out", rules=HASTY)
    pairs = {p.captions[0].split("/")[1]: p for p in read_pairs(tmp_path / "out" / "pairs.jsonl")}
    assert set(pairs) == {kind for kind, reason in KINDS.items() if reason is None}
    order = list(KINDS)
    rejects = {order[int(r["id"][-8:]) - 1]: r for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")}
    assert "9000 x 9000 pixels" in rejects["bomb"]["detail"]
    reasons = {kind: reject["reason"] for kind, reject in rejects.items()}
    assert reasons == {kind: reason for kind, reason in KINDS.items() if reason}
    log = {order[r["row"]]: r for r in lines(tmp_path / "out" / "pairs.fetched.jsonl")[1:]}
    for kind, pair in pairs.items():
        file = tmp_path / "out" / pair.image
        content = file.read_bytes()
        assert log[kind]["sha256"] == hashlib.sha256(content).hexdigest() and log[kind]["bytes"] == len(content)
        with Image.open(file) as image:
            assert image.format == "JPEG" and image.size == (log[kind]["width"], log[kind]["height"])
            assert image.size == ((1024, 512) if kind == "large" else (80, 60))
    assert {kind for kind, record in log.items() if record.get("passing")} == PASSING
    numbers = {kind: site.asked[f"/{kind}/{n}"] for n, kind in enumerate(KINDS)}
    assert numbers["loop"] == 6 and numbers["shut"] == 1
    for kind in set(KINDS) - {"loop", "shut"}:
        assert numbers[kind] == (2 if kind in PASSING | {"flaky", "limited"} else 1), kind
    written = {p.name for p in (tmp_path / "out" / "images").rglob("*") if p.is_file()}
    assert written == {Path(pair.image).name for pair in pairs.values()}, "nothing else is left"


def test_the_same_command_asks_for_nothing_again_and_retries_only_what_may_pass(site, tmp_path):
    kinds = ["ok", "gone", "broken", "page", "short"]
    source = write_list(tmp_path, site, [f"/{kind}/{n}" for n, kind in enumerate(kinds)])
    run(source, tmp_path / "out")
    first, before = (tmp_path / "out" / "pairs.jsonl").read_bytes(), site.asked.copy()
    run(source, tmp_path / "out")
    assert site.asked == before and (tmp_path / "out" / "pairs.jsonl").read_bytes() == first
    run(source, tmp_path / "out", retry_failed=True)
    assert set((site.asked - before).keys()) == {"/broken/2", "/short/4"}
    before = site.asked.copy()
    next((tmp_path / "out" / "images").rglob("*.jpg")).unlink()
    run(source, tmp_path / "out")
    assert set((site.asked - before).keys()) == {"/ok/0"}, "a picture that was deleted comes again"
    with pytest.raises(DataError, match="of another list or of other settings"):
        run(write_list(tmp_path, site, ["/ok/9"]), tmp_path / "out")


PROGRAM = """
import pathlib, sys
from data_prep.corpora.fetch import Rules
from data_prep.corpora.pairs import build
rules = Rules(threads=4, wait=0.05, attempts=2, allow_private=True)
build("conceptual-captions", [pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), rules=rules)
"""


def test_killed_it_goes_on_and_ends_as_if_nothing_had_been(site, tmp_path):
    kinds = ["ok", "gone", "ok", "png", "page", "flaky"]
    source = write_list(tmp_path, site, [f"/{kinds[n % 6]}/{n}" for n in range(72)])
    run(source, tmp_path / "whole")
    site.asked.clear()
    site.pause, out = 0.04, tmp_path / "out"
    log, known = out / "pairs.fetched.jsonl", 0
    for least in (10, 35):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, source, out], cwd=ROOT, env=os.environ)
        end = time.monotonic() + 60
        while not (log.exists() and log.read_bytes().count(b"\n") > least):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
        known = log.read_bytes().count(b"\n") - 1
        with open(log, "a") as file:
            file.write('{"row": 70, "sha')
    assert 35 <= known < 60 and not (out / "pairs.jsonl").exists()
    done = {f"/{kinds[r['row'] % 6]}/{r['row']}" for r in map(json.loads, log.read_text().splitlines()[1 : known + 1])}
    site.asked.clear()
    process = subprocess.run([sys.executable, "-c", PROGRAM, source, out], cwd=ROOT, env=os.environ)
    assert process.returncode == 0
    assert done.isdisjoint(site.asked) and len(done) + len(site.asked) == 72
    for name in ("pairs.jsonl", "pairs.credits.jsonl", "pairs.rejects.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    for path in (tmp_path / "whole" / "images").rglob("*.jpg"):
        assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    fetched = [{r["row"]: r for r in lines(folder / "pairs.fetched.jsonl")[1:]} for folder in (out, tmp_path / "whole")]
    assert fetched[0].keys() == fetched[1].keys()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_at_once_though_servers_hang(site, tmp_path, number):
    source = write_list(tmp_path, site, ["/ok/0", "/hang/1", "/drip/2"])
    command = [sys.executable, "-m", "data_prep", "corpora", "pairs", "conceptual-captions", source]
    command += ["--output", tmp_path / "out", "--allow-private"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True)
    while len(site.asked) < 3:
        time.sleep(0.02)
    time.sleep(0.2)
    started = time.monotonic()
    process.send_signal(number)
    assert "the same command goes on from here" in process.communicate(timeout=20)[1]
    assert process.returncode == 75 and time.monotonic() - started < 5
    assert [r["row"] for r in lines(tmp_path / "out" / "pairs.fetched.jsonl")[1:]] == [0]


def test_parts_joined_are_one_run(site, tmp_path):
    source = write_list(tmp_path, site, [f"/{'gone' if n % 5 == 3 else 'ok'}/{n}" for n in range(14)])
    with open(source, "a") as file:
        file.write("no address\n")
    run(source, tmp_path / "whole")
    for number in (1, 2, 3):
        run(source, tmp_path / "out", shard=Shard(number, 3))
    assert "3 parts, 11 images" in merge(tmp_path / "out" / "pairs.jsonl")
    for name in ("pairs.jsonl", "pairs.credits.jsonl", "pairs.rejects.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert set(site.asked.values()) == {2}, "each picture once in each of the two"
    reasons = read_manifest(tmp_path / "out" / "pairs.jsonl")["rejects"]
    assert reasons == {"answered 404": 3, "not a caption and an address": 1}


def test_a_host_is_asked_politely_and_slow_ones_do_not_stop_others(site, tmp_path):
    site.pause = 0.03
    other = site.root.replace("127.0.0.1", "localhost")
    paths = [f"{site.root}/ok/{n}" for n in range(30)] + [f"{other}/ok/{n}" for n in range(6)]
    started = time.monotonic()
    run(write_list(tmp_path, site, paths), tmp_path / "out", rules=Rules(per_host=3, threads=16, allow_private=True))
    assert site.most == {"127.0.0.1": 3, "localhost": 3}
    assert time.monotonic() - started < 30 * 0.03 + 3


def test_private_networks_are_refused_unless_allowed(site, tmp_path):
    paths = ["/ok/1", "http://localhost:1/x", "http://0x7f.1/x", "http://[::1]/x", "http://169.254.169.254/latest"]
    with pytest.raises(DataError, match="nothing usable.*host is in a private network.*127.0.0.1"):
        run(write_list(tmp_path, site, paths), tmp_path / "out", rules=Rules(attempts=1))
    reasons = [r["reason"] for r in lines(tmp_path / "out" / "pairs.fetched.jsonl")[1:]]
    assert reasons == ["host is in a private network"] * 5 and not site.asked


def test_a_redirect_into_a_private_network_is_refused(site, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.corpora.fetch.is_public", lambda address: address == "127.0.0.1")
    source = write_list(tmp_path, site, ["/toprivate/1", "/ok/2"])
    run(source, tmp_path / "out", rules=Rules(attempts=1))
    (reject,) = lines(tmp_path / "out" / "pairs.rejects.jsonl")
    assert reject["reason"] == "host is in a private network" and "::ffff:10.0.0.1" in reject["detail"]


def test_tls_with_and_without_a_certificate_that_is_trusted(site, tmp_path, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *name]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(site, context) as address:
        root = address.removesuffix("/file").replace("http://127.0.0.1", "https://localhost")
        fetch_module._tls.cache_clear()
        with pytest.raises(FetchError, match="certificate is not valid"):
            fetch(f"{root}/ok/1", HASTY, Watch())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch_module._tls.cache_clear()
        assert fetch(f"{root}/ok/1", HASTY, Watch()) == picture(1)
        for kind in ("drip", "slow"):
            with pytest.raises(FetchError, match="took longer than 2 s"):
                fetch(f"{root}/{kind}/1", HASTY, Watch())
        with pytest.raises(FetchError, match="certificate is not valid"):  # it is localhost's
            fetch(f"{root.replace('localhost', '127.0.0.1')}/ok/1", HASTY, Watch())
    with pytest.raises(FetchError, match="connection failed"):
        fetch(f"{site.root.replace('http:', 'https:')}/ok/1", HASTY, Watch())
    fetch_module._tls.cache_clear()


@pytest.mark.parametrize(
    "address, public",
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("172.16.0.9", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", True),  # of 93.184.216.34
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b::a9fe:a9fe", False),  # of 169.254.169.254
        ("64:ff9b:1::5db8:d822", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) == public


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://a/b", "gopher://a", "//a/b", "data:image/png;base64,x", "http://", "http://[::1", "x",
     "http://a:99999999/", "http://a\r\nb/", "http://" + "a" * 300 + "/", "http://a..b/", ""],
)  # fmt: skip
def test_other_addresses_are_refused(address):
    with pytest.raises(FetchError) as error:
        fetch(address, RULES, Watch())
    assert error.value.reason in ("no http address", "host is unknown")


@given(st.text(max_size=40))
def test_any_text_as_an_address_is_one_kind_of_error(text):
    with socket.socket() as s:  # nobody listens there
        s.bind(("127.0.0.1", 0))
        for address in (text, f"http://127.0.0.1:{s.getsockname()[1]}/{text}"):
            if "." in text or "http" in text:  # may be a host that exists
                continue
            with pytest.raises(FetchError):
                fetch(address, RULES, Watch())


def test_blanks_and_letters_of_any_script_are_escaped(site):
    site_path = "/ok/7?caption=ein Bär&x=%20"
    with pytest.raises(FetchError, match="connection failed"):  # the handler takes the query for a number, and breaks
        fetch(site.root + site_path, RULES, Watch())
    assert set(site.asked) == {"/ok/7?caption=ein%20B%C3%A4r&x=%20"}


def test_a_checksum_of_the_list_is_held_against_what_comes(site, tmp_path):
    right = base64.b64encode(hashlib.md5(picture(1)).digest()).decode()
    rows = [("one", "1", right), ("two", "2", right), ("none", "3", "")]
    table = [f"{i},train,{site.root}/ok/{n},{md5},L,A\n" for i, n, md5 in rows]
    source = tmp_path / "list.csv"
    source.write_text("ImageID,Subset,OriginalURL,OriginalMD5,License,Author\n" + "".join(table))
    build("openimages", [source], tmp_path / "out", rules=RULES)
    assert [r["image_id"] for r in lines(tmp_path / "out" / "images.jsonl")] == ["openimages-one", "openimages-none"]
    assert lines(tmp_path / "out" / "images.rejects.jsonl")[0]["reason"] == "another file than the list names"


def test_a_disk_that_cannot_be_written_ends_the_run(site, tmp_path):
    source = write_list(tmp_path, site, ["/ok/1", "/ok/2"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").write_text("a file")
    with pytest.raises(OSError):
        run(source, tmp_path / "out")
    assert len(lines(tmp_path / "out" / "pairs.fetched.jsonl")) == 1, "not the pictures' fault"


def test_a_damaged_log_is_one_clear_error(site, tmp_path):
    source = write_list(tmp_path, site, ["/ok/1"])
    run(source, tmp_path / "out")
    with open(tmp_path / "out" / "pairs.fetched.jsonl", "a") as file:
        file.write("\0\0\0\n")
    with pytest.raises(DataError, match="is damaged at byte"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize("value", ["Mon, 01 Jan 2024 00:00:00 +99999999999999", "9" * 5000, "soon", "-1"])
def test_no_retry_after_breaks_a_crawl(value):
    assert fetch_module._seconds(value) is None or fetch_module._seconds(value) > 100


def test_a_half_of_a_surrogate_pair_in_an_address_is_listed(tmp_path):
    source = tmp_path / "sbu.json"
    source.write_text(
        json.dumps({"image_urls": ["http://\ud800/x", "http://127.0.0.1:1/\ud800"], "captions": ["a", "b"]})
    )
    for _ in range(2):
        with pytest.raises(DataError, match="nothing usable, 2 records"):
            build("sbu", [source], tmp_path / "out", rules=RULES)
    assert len(lines(tmp_path / "out" / "pairs.fetched.jsonl")) == 3
