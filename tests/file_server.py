"""A real web server on this machine that serves one file and fails as it is told to."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class File:
    """What is served at every path but /moved, which redirects to /file."""

    body: bytes
    etag: str | None = '"1"'
    modified: str | None = None
    ranges: bool = True  # whether Range is honoured
    conditions: bool = True  # whether If-Range is
    kind: str = "application/gzip"
    status: int = 200
    length: int | None = None  # what Content-Length claims; None: the truth
    chunked: bool = False  # no Content-Length, ended by closing the connection
    drops: list[int] = field(default_factory=list)  # bytes after which the next connections are cut off
    hang: threading.Event | None = None  # the first answer waits for it, after half of the file
    requests: list[dict[str, str]] = field(default_factory=list)  # headers of all requests
    sent: int = 0  # bytes of bodies


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        file: File = self.server.file
        file.requests.append(dict(self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, asked = 0, self.headers.get("Range")
        condition = self.headers.get("If-Range") in (None, file.etag, file.modified) or not file.conditions
        if file.ranges and asked and condition:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        body = file.body[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else file.status)
        self.send_header("Content-Type", file.kind)
        if start or file.status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(file.body) - 1}/{len(file.body)}")
        if file.chunked:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) if file.length is None else file.length))
        for name, value in (("ETag", file.etag), ("Last-Modified", file.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.answer(file, body)
        if file.length is not None:
            self.close_connection = True

    def answer(self, file: File, body: bytes) -> None:
        if file.hang is not None:
            hang, file.hang = file.hang, None
            self.write(file, body[: len(body) // 2])
            hang.wait(20)
            body = body[len(body) // 2 :]
        elif file.drops:
            self.write(file, body[: file.drops.pop(0)])
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))  # a reset, no end
            self.connection.close()
            self.close_connection = True
            return
        self.write(file, body)

    def write(self, file: File, body: bytes) -> None:
        try:
            self.wfile.write(body)
            self.wfile.flush()
            file.sent += len(body)
        except OSError:  # the client left
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:  # of connections that were reset
        pass


@contextmanager
def serving(
    file: Any, handler: type[BaseHTTPRequestHandler] = Handler, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """The address of the file; another handler finds in `self.server.file` what it was given."""
    server = _Server(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.file = file
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file"
    finally:
        server.shutdown()
        server.server_close()
