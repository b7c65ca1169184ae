"""Slow clients, whose connections are ended; nonsense; and too many requests at one time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from support.serving import all_forms

from restore.serve.app import make_app
from restore.serve.guard import Guard
from restore.serve.listen import listen
from restore.serve.settings import Address, Limits

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


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"nonsense\r\n\r\n", b"400"), (HEAD.replace(b"1000", b"0008") + b"nonsense", b"400")],
)
def test_the_log_says_nothing_of_nonsense(port, caplog, request_, status):
    answer, _ = answered(port, request_, b"", 30)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert not caplog.records


def test_too_many_requests_at_one_time_are_refused():
    async def waits(scope, receive, send) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def asked() -> list[httpx.Response]:
        guard = httpx.ASGITransport(Guard(waits, Address(), Limits(requests=2)))
        async with httpx.AsyncClient(transport=guard, base_url="http://127.0.0.1") as client:
            slow = [asyncio.create_task(client.get("/slow")) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused = await client.get("/")
            gate.set()
            return [refused, *await asyncio.gather(*slow), await client.get("/")]

    gate = asyncio.Event()
    refused, *others = asyncio.run(asked())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert refused.json()["error"].startswith("the server is busy with 2 requests")
    assert [answer.status_code for answer in others] == [204, 204, 204]
