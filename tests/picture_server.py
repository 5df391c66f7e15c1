"""A real web server on this machine that sends pictures, and fails and lies in every way that its paths name."""

import io
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
from file_server import serving as serving_file
from PIL import Image


def picture(number: int, form: str = "JPEG", size: tuple[int, int] = (80, 60)) -> bytes:
    """A picture of its own for each number."""
    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.NEAREST).save(file, form)
    return file.getvalue()


@dataclass
class Site:
    """What was asked for, and how many requests were answered at once for each name of the host."""

    pause: float = 0  # seconds before every answer
    asked: Counter = field(default_factory=Counter)
    busy: Counter = field(default_factory=Counter)
    most: Counter = field(default_factory=Counter)
    lock: Any = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)  # for those that hang


class Handler(BaseHTTPRequestHandler):
    """/KIND/NUMBER: the method of that name answers; `self.again` is how often the path was asked for before."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.file
        host = self.headers["Host"].partition(":")[0]
        with site.lock:
            self.again = site.asked[self.path]
            site.asked[self.path] += 1
            site.busy[host] += 1
            site.most[host] = max(site.most[host], site.busy[host])
        try:
            time.sleep(site.pause)
            _, kind, self.number = self.path.split("/")
            self.body = picture(int(self.number))
            getattr(self, kind)()
        except OSError:  # the client left
            pass
        finally:
            with site.lock:
                site.busy[host] -= 1
            self.close_connection = True

    def send(self, body: bytes, kind: str = "image/jpeg", status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content_Type": kind, "Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def ok(self) -> None:
        self.send(self.body)

    def png(self) -> None:
        """A picture that is called a page."""
        self.send(picture(int(self.number), "PNG"), "text/html")

    def large(self) -> None:
        self.send(picture(int(self.number), size=(3000, 1500)))

    def page(self) -> None:
        """A page that is called a picture."""
        self.send(b"<!doctype html><title>Not found</title>" * 50)

    def gone(self) -> None:
        self.send(b"no such picture", status=404)

    def flaky(self) -> None:
        self.send(self.body, status=200 if self.again else 500)

    def broken(self) -> None:
        self.send(b"", status=503)

    def limited(self) -> None:
        self.send(self.body, status=200 if self.again else 429, Retry_After=None if self.again else 1)

    def shut(self) -> None:
        self.send(b"", status=429, Retry_After=9999)

    def short(self) -> None:
        """Claims more bytes than come."""
        self.send(self.body[: len(self.body) // 2], Content_Length=len(self.body))

    def claimsless(self) -> None:
        self.send(self.body, Content_Length=len(self.body) // 2)

    def claimsmuch(self) -> None:
        self.send(self.body, Content_Length=10**13)

    def claimsnonsense(self) -> None:
        self.send(self.body, Content_Length="-7")

    def reset(self) -> None:
        self.send(self.body[:50], Content_Length=len(self.body))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        self.connection.close()

    def chunked(self) -> None:
        self.send(b"", Content_Length=None, Transfer_Encoding="chunked")
        for part in (self.body[:100], self.body[100:], b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    def endless(self) -> None:
        self.send(self.body, Content_Length=None)
        while True:
            self.wfile.write(bytes(1 << 16))

    def hang(self) -> None:
        self.server.file.ended.wait(20)

    def drip(self) -> None:
        """A byte of the head at a time, so that no timeout between bytes helps."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.file.ended.wait(0.1):
            self.wfile.write(b"x")

    def slow(self) -> None:
        """The same with the body, which ends whenever the connection does."""
        self.send(self.body[:-1], Content_Length=None)
        while not self.server.file.ended.wait(0.1):
            self.wfile.write(b"x")

    def nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-nothing to see here\r\n\r\n")

    def bomb(self) -> None:
        """A small file of many pixels."""
        head = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(999))))
        sizes = [struct.pack(">I", len(data)) + name + data for name, data in chunks]
        self.send(b"\x89PNG\r\n\x1a\n" + b"".join(c + struct.pack(">I", zlib.crc32(c[4:])) for c in sizes))

    def dot(self) -> None:
        self.send(picture(1, "GIF", (1, 1)))

    def postscript(self) -> None:
        self.send(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EOF\n")

    def moved(self) -> None:
        self.send(b"", status=302, Location=f"/ok/{self.number}")

    def loop(self) -> None:
        self.send(b"", status=301, Location=self.path)

    def tofile(self) -> None:
        self.send(b"", status=302, Location="file:///etc/passwd")

    def toprivate(self) -> None:
        self.send(b"", status=302, Location="http://[::ffff:10.0.0.1]:1/x")

    def log_message(self, *args: Any) -> None:
        pass


def serving(site: Site, tls: ssl.SSLContext | None = None) -> AbstractContextManager[str]:
    """The address of a file of the site."""
    return serving_file(site, Handler, tls)
