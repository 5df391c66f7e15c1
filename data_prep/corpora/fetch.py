"""One picture from an address that may be anything: gone, hanging, endless, hostile, or a page that claims to be one.

Only http and https are spoken, and to public networks alone unless told otherwise: lists of addresses come from
strangers, and a redirect may point into one's own network. A name is looked up once, and the connection goes to what
was found and checked. Proxies of the environment are not used.
"""

import base64
import hashlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

import numpy as np

from data_prep.corpora.text_files import whole
from unimo.errors import DataError
from unimo.readers.pictures import read_picture, shrink
from unimo.zoo.download import PASSING

MIN_SIDE = 32  # pixels, ours: what is smaller counts visitors or stands in for a picture that is gone
MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_BLOCK = 1 << 16
_IN_PATH = "/%:@!$&'()*+,;=~"  # stays as it is, besides letters and digits; in a query ? too


@dataclass(frozen=True)
class Rules:
    """What fetching may take, and what comes out."""

    timeout: float = 20  # seconds without a byte
    deadline: float = 60  # seconds for one picture, redirects included
    max_bytes: int = 20 << 20
    longest: int = 1024  # pixels of the longer side of what is kept
    attempts: int = 3
    wait: float = 2  # seconds before the second try; doubled for each further one
    patience: float = 120  # seconds that a server may ask to wait; beyond that the picture counts as failed for now
    threads: int = 16
    per_host: int = 4
    allow_private: bool = False  # also loopback, link-local and reserved networks


class FetchError(Exception):
    """Why there is no picture. `passing`: a later try may bring it; `after`: in so many seconds, says the server."""

    def __init__(self, reason: str, detail: object = "", passing: bool = False, after: float | None = None):
        super().__init__(reason, whole(str(detail)))
        self.reason, self.detail, self.passing, self.after = reason, whole(str(detail)), passing, after


class Watch:
    """Cuts connections that take too long or are not wanted any more, whatever their thread waits for."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()

    @contextmanager
    def over(self, connected: socket.socket, seconds: float) -> Iterator[None]:
        """Cut this connection after so many seconds."""
        twin = connected.dup()  # TLS takes the first one over
        timer = threading.Timer(max(seconds, 0), _cut, [twin])
        timer.daemon = True
        self._open.add(twin)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._open.discard(twin)
            twin.close()

    def cut(self) -> None:
        """Cut all connections."""
        for twin in list(self._open):
            _cut(twin)


def _cut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed meanwhile
        pass


def fetch(address: str, rules: Rules, watch: Watch) -> bytes:
    """What lies at an address, after at most MAX_REDIRECTS redirects. Raises FetchError."""
    end, first = time.monotonic() + rules.deadline, address
    try:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _ask(address, rules, watch, end)
            if isinstance(answer, bytes):
                return answer
            address = urljoin(address, answer)
        raise FetchError(f"more than {MAX_REDIRECTS} redirects", first)
    except FetchError:
        raise
    except (OSError, http.client.HTTPException) as error:
        if time.monotonic() >= end:
            raise FetchError(f"took longer than {rules.deadline:g} s", address, passing=True) from error
        if isinstance(error, TimeoutError):
            raise FetchError(f"no byte for {rules.timeout:g} s", address, passing=True) from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise FetchError("certificate is not valid", f"{address}: {error}") from error
        if isinstance(error, http.client.InvalidURL):
            raise FetchError("no http address", f"{address[:200]!r}: {error}") from error
        raise FetchError("connection failed", f"{address}: {error or type(error).__name__}", passing=True) from error
    except ValueError as error:  # of urlsplit and of names that are no host names
        raise FetchError("no http address", f"{address[:200]!r}: {error}") from error
    except Exception as error:  # whatever one server or address does, the others are fetched
        raise FetchError("cannot be fetched", f"{address[:200]!r}: {error!r}") from error


def _ask(address: str, rules: Rules, watch: Watch, end: float) -> bytes | str:
    """The body, or the address that the server points to."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchError("no http address", repr(address[:200]))
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port or kind.default_port, timeout=rules.timeout)
    connected = _connect(connection.host, connection.port, rules)
    with closing(connected), watch.over(connected, end - time.monotonic()), closing(connection):
        connection.sock = _tls().wrap_socket(connected, server_hostname=parts.hostname) if secure else connected
        path = quote(parts.path or "/", safe=_IN_PATH)
        query = f"?{quote(parts.query, safe=_IN_PATH + '?')}" if parts.query else ""
        headers = {"User-Agent": "unimo", "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("GET", path + query, headers=headers)
        response = connection.getresponse()
        location = response.getheader("Location")
        if response.status in _REDIRECTS and location:
            return location
        if response.status != 200:
            after = _seconds(response.getheader("Retry-After"))
            raise FetchError(f"answered {response.status}", address, response.status in PASSING, after)
        content = _body(response, address, rules.max_bytes)
    if time.monotonic() >= end:  # it may have been cut where no length tells
        raise TimeoutError
    return content


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(host: str, port: int, rules: Rules) -> socket.socket:
    """A connection to one of the addresses of a host, each checked before it is used."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:  # may be the network, and not the host
        raise FetchError("host is unknown", f"{host}: {error.strerror}", passing=True) from error
    allowed = [entry for entry in found if rules.allow_private or is_public(str(entry[4][0]))]
    if not allowed:
        raise FetchError("host is in a private network", f"{host} is {found[0][4][0]}; --allow-private permits it")
    for family, kind, protocol, _, target in allowed:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(rules.timeout)
            connected.connect(target)
            return connected
        except OSError as error:
            connected.close()
            problem = error
    raise problem


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet; one that stands for an IPv4 address is what that is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None and (parsed not in _UNICAST or parsed in _EXAMPLES):
            return False
        parsed = inner or parsed
    return parsed.is_global and not parsed.is_multicast


_UNICAST = ipaddress.IPv6Network("2000::/3")  # all global unicast addresses (IANA's registry)
_EXAMPLES = ipaddress.IPv6Network("3fff::/20")  # RFC 9637; older Pythons take them for global
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind a NAT64


def _body(response: http.client.HTTPResponse, address: str, most: int) -> bytes:
    claimed = response.getheader("Content-Length", "")
    length = int(claimed) if claimed.isdecimal() and response.length is not None else None
    blocks, size = [], 0
    while size != length and (block := response.read1(_BLOCK)):
        size += len(block)
        if max(size, length or 0) > most:
            raise FetchError(f"larger than {most:,} bytes", address)
        blocks.append(block)
    if length is not None and size != length:
        raise ConnectionError(f"the connection ended at {size:,} of {length:,} bytes")
    return b"".join(blocks)


def _seconds(value: str | None) -> float | None:
    """Retry-After: seconds or a date (RFC 9110 section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError, OSError):
        return None


def picture(content: bytes, longest: int, md5: str | None = None) -> np.ndarray:
    """The picture that was sent, decoded whole and scaled down. [height, width, 3] uint8

    Args:
        md5: in base64, what the list says of the bytes.

    Raises:
        FetchError: it is another file than the list names, or no picture.
    """
    if md5 and base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode() != md5:
        raise FetchError("another file than the list names", "its MD5 differs")
    try:
        decoded = read_picture(content)
    except DataError as error:
        raise FetchError("no picture", f"{error}; it begins {content[:40]!r}") from error
    height, width = decoded.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise FetchError(f"a side below {MIN_SIDE} pixels", f"{width} x {height}")
    return shrink(decoded, longest)
