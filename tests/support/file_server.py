"""A small HTTP server with the faults of large ones: ranges, cut connections, refusals, stalls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request."""

    path: str
    range: str | None


class FileServer(ThreadingHTTPServer):
    """Serves what is in ``files``, by path.

    Attributes:
        files: the bytes of each path.
        types: its content type, if it is not a file's.
        cuts: of a path how many bytes each of the next answers has before its connection is cut.
        ranges: whether Range is understood.
        endless: paths that are sent in chunks for ever, without a length.
        drip: seconds between two bytes, if an answer is to come slowly.
        release: answers wait for it before their last byte.
        asked: every request so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.cuts: dict[str, list[int]] = {}
        self.ranges = True
        self.endless: set[str] = set()
        self.drip: float | None = None
        self.release = threading.Event()
        self.release.set()
        self.asked: list[Asked] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that are cut are no errors here."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server on a free port."""
    server = FileServer()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(Asked(self.path, wanted))
        data = self.server.files.get(self.path.partition("?")[0])
        if data is None:
            self.send_error(404)
            return
        start = 0
        etag = f'"{hash(data):x}"'
        if wanted and self.server.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header(
            "Content-Type", self.server.types.get(self.path, "application/octet-stream")
        )
        if self.path in self.server.endless:
            self._send_for_ever()
            return
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", etag)
        self.end_headers()
        self._send(data[start:])

    def _send_for_ever(self) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            for _ in range(2**14):
                self.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
        self.close_connection = True

    def _send(self, data: bytes) -> None:
        if self.server.drip is not None:
            with suppress(OSError):
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(self.server.drip)
            return
        cuts = self.server.cuts.get(self.path)
        if cuts:
            self.wfile.write(data[: cuts.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(data[:-1])
        self.wfile.flush()
        self.server.release.wait(30)
        self.wfile.write(data[-1:])

    def log_message(self, *_: object) -> None:
        """Nothing."""
