"""Downloads from a real server that drops, hangs, lies about lengths, forgets ranges and changes the file."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from file_server import File, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.zoo.download import download

BODY = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
LIMIT = 1 << 20


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.tar.gz"


def get(url: str, target: Path, **options) -> list[str]:
    """Download without waiting between tries; returns what was said."""
    said: list[str] = []
    download(url, target, **{"max_bytes": LIMIT, "wait": 0, "timeout": 5, "log": said.append} | options)
    return said


def left(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir())


def test_a_good_file_arrives_whole_and_alone(target):
    with serving(File(BODY)) as url:
        assert get(url, target) == []
    assert target.read_bytes() == BODY and left(target) == [target.name]


def test_redirects_are_followed_and_resumed(target):
    file = File(BODY, drops=[150_000])
    with serving(file) as url:
        get(url.replace("/file", "/moved"), target)
    assert target.read_bytes() == BODY and "Range" in file.requests[3]


def test_a_dropped_connection_goes_on_where_it_was(target):
    file = File(BODY, drops=[150_000, 100_000])
    with serving(file) as url:
        said = get(url, target)
    assert target.read_bytes() == BODY and len(said) == 2 and "bytes; trying again" in said[0]
    assert "Range" not in file.requests[0] and all(r["If-Range"] == '"1"' for r in file.requests[1:])
    assert file.sent <= len(BODY) + 100_000  # nothing was fetched twice but what a reset lost on the way


def test_a_later_call_goes_on_where_an_earlier_gave_up(target):
    file = File(BODY, length=len(BODY), drops=[200_000, 0, 0])
    with serving(file) as url:
        with pytest.raises(DataError, match=r"tries: 2.*bytes are kept in .*model.tar.gz.part, the same command"):
            get(url, target, attempts=2)
        have = (target.parent / "model.tar.gz.part").stat().st_size
        assert 0 < have <= 200_000 and not target.exists()
        file.length = None
        get(url, target)
    assert target.read_bytes() == BODY and file.requests[-1]["Range"] == f"bytes={have}-"


def test_last_modified_serves_where_there_is_no_strong_etag(target):
    file = File(BODY, etag='W/"1"', modified="Fri, 20 May 2022 10:00:00 GMT", drops=[150_000])
    with serving(file) as url:
        get(url, target)
    assert target.read_bytes() == BODY and file.requests[1]["If-Range"] == file.modified


@pytest.mark.parametrize("odd", [{"ranges": False}, {"etag": None}])
def test_without_ranges_or_validator_it_starts_over(target, odd):
    file = File(BODY, drops=[150_000, 200_000], **odd)
    with serving(file) as url:
        get(url, target)
    assert target.read_bytes() == BODY and len(file.requests) == 3


@pytest.mark.parametrize("conditions", [True, False])
@pytest.mark.parametrize("body", [OTHER, OTHER[:200_000], OTHER[:100]], ids=["same size", "shorter", "tiny"])
def test_a_file_that_changed_in_between_is_not_glued(target, body, conditions):
    file = File(BODY, drops=[150_000, 0, 0])
    with serving(file) as url:
        with pytest.raises(DataError):
            get(url, target, attempts=2)
        file.body, file.etag, file.conditions, file.drops = body, '"2"', conditions, []
        get(url, target)
    assert target.read_bytes() == body


def test_an_unknown_part_is_not_trusted(target):
    (target.parent / "model.tar.gz.part").write_bytes(OTHER[:1000])
    version = {"url": "http://else.where/", "validator": '"1"', "size": 300_000}
    (target.parent / "model.tar.gz.part.json").write_text(json.dumps(version))
    with serving(File(BODY)) as url:
        get(url, target)
    assert target.read_bytes() == BODY


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drops=st.lists(st.integers(0, 300_000), max_size=5), ranges=st.booleans(), etag=st.sampled_from(['"1"', None]))
def test_any_sequence_of_drops_gives_the_same_bytes(target, drops, ranges, etag):
    target.unlink(missing_ok=True)
    with serving(File(BODY, drops=list(drops), ranges=ranges, etag=etag)) as url:
        get(url, target, attempts=7)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("claimed", [400_000, 1_000_000])
def test_a_length_that_never_arrives_is_an_error(target, claimed):
    with serving(File(BODY, length=claimed, ranges=False)) as url:
        with pytest.raises(DataError, match=f"the connection ended at 300,000 of {claimed:,} bytes"):
            get(url, target, attempts=2)
    assert not target.exists()


def test_no_length_ends_with_the_connection(target):
    with serving(File(BODY, chunked=True)) as url:
        get(url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_file_is_not_asked_for_again(target, status):
    file = File(b"<html>gone</html>", status=status, kind="text/html")
    with serving(file) as url:
        with pytest.raises(DataError, match=f"/file answered {status}"):
            get(url, target)
    assert len(file.requests) == 1 and left(target) == []


def test_a_busy_server_is_asked_again(target):
    file = File(BODY, status=503)
    with serving(file) as url:
        with pytest.raises(DataError, match="the server answered 503"):
            get(url, target, attempts=3)
    assert len(file.requests) == 3


def test_a_part_that_nobody_asked_for_is_no_file(target):
    with serving(File(BODY, status=206)) as url, pytest.raises(DataError, match="starts over"):
        get(url, target)
    assert left(target) == []


def test_a_page_is_not_taken_for_a_file(target):
    with serving(File(b"<html>\n <body>Please log in</body>", kind="text/html; charset=utf-8")) as url:
        with pytest.raises(DataError, match="a web page .*Please log in"):
            get(url, target)
    assert not target.exists()


def test_a_page_on_the_way_costs_nothing_that_arrived(target):
    file = File(BODY, drops=[200_000, 0])
    with serving(file) as url:
        with pytest.raises(DataError):
            get(url, target, attempts=1)
        have = (target.parent / "model.tar.gz.part").stat().st_size
        file.ranges, file.kind = False, "text/html"  # a portal that answers everything with its login page
        with pytest.raises(DataError, match="a web page"):
            get(url, target)
        file.ranges, file.kind = True, "application/gzip"
        get(url, target)
    assert target.read_bytes() == BODY and file.requests[-1]["Range"] == f"bytes={have}-"


def test_what_stopped_before_the_rename_is_whole(target):
    file = File(BODY)
    with serving(file) as url:
        (target.parent / "model.tar.gz.part").write_bytes(BODY)
        version = {"url": url, "validator": file.etag, "size": len(BODY)}
        (target.parent / "model.tar.gz.part.json").write_text(json.dumps(version))
        get(url, target)
    assert target.read_bytes() == BODY and file.requests == [] and left(target) == [target.name]


def test_a_server_that_hangs_counts_as_dropped(target):
    file = File(BODY, hang=threading.Event())
    with serving(file) as url:
        said = get(url, target, timeout=0.3)
        assert target.read_bytes() == BODY and "timed out" in said[0]
    assert len(file.requests) == 2


@pytest.mark.parametrize("chunked", [True, False])
def test_a_file_too_large_is_stopped(target, chunked):
    with serving(File(BODY, chunked=chunked)) as url:
        with pytest.raises(DataError, match="100,000"):
            get(url, target, max_bytes=100_000)
    assert sum(p.stat().st_size for p in target.parent.iterdir()) < 100_500


def test_an_unknown_host_fails_at_once(target):
    with pytest.raises(DataError, match=r"could not be fetched: the connection failed .*\(tries: 1\)$"):
        get("http://no-such-host.invalid/file", target, wait=100)


@pytest.mark.parametrize("url", ["no address", "http://[/file"])
def test_what_is_no_address_is_refused(target, url):
    with pytest.raises(DataError, match="cannot be fetched"):
        get(url, target)


def test_a_refused_connection_is_an_error_of_ours(target):
    with serving(File(BODY)) as url:
        pass
    with pytest.raises(DataError, match="refused"):
        get(url, target, attempts=2)


def test_a_full_disk_is_told_from_a_broken_network(target):
    file = File(BODY)
    (target.parent / "model.tar.gz.part").symlink_to("/dev/full")
    with serving(file) as url:
        with pytest.raises(DataError, match="cannot write .*: No space left on device"):
            get(url, target)
    assert len(file.requests) == 1
