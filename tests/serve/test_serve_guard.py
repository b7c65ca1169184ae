"""Slow clients: a header or a body that does not come in time ends the connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from support.serving import all_forms

from restore.serve.app import make_app
from restore.serve.listen import listen
from restore.serve.settings import Limits

# A header that comes within half a second, and a body within one.
LIMITS = Limits(idle_seconds=0.5, body_seconds=1.0)
HEAD = (
    b"POST /api/restore/sr HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
)
PART = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app: FastAPI = make_app(all_forms(), [], limits=LIMITS)
    listening = socket.create_server(("127.0.0.1", 0))
    began = threading.Event()
    arguments = (app, listening, LIMITS, began.set)
    threading.Thread(target=listen, args=arguments, daemon=True).start()
    assert began.wait(60)
    return listening.getsockname()[1]


def answered(port: int, first: bytes, drip: bytes, pause: float) -> tuple[bytes, int]:
    """Send bytes one by one until the server answers or closes; return that and their number."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        connection.settimeout(pause)
        for sent in range(100):
            try:
                return connection.recv(1000), sent
            except TimeoutError:
                connection.sendall(drip)
            except ConnectionError:
                return b"", sent
    raise AssertionError("the server went on reading")


@pytest.mark.parametrize(
    ("first", "pause", "status"),
    [
        (b"GET / HTTP/1.1\r\nX-Slow: ", 0.1, b""),
        (HEAD + PART, 0.1, b"HTTP/1.1 408 "),
        (HEAD, 3.0, b"HTTP/1.1 408 "),
    ],
)
def test_slow_requests_are_ended(port, first, pause, status):
    begun = time.monotonic()
    answer, sent = answered(port, first, b"y", pause)
    assert answer.startswith(status)
    assert bool(answer) is bool(status)
    assert sent < 99
    assert time.monotonic() - begun < 30
