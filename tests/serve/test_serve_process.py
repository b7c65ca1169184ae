"""`restore serve` as a process: load, slow and huge requests, kills, and the end by a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.networks import random_file, tiny
from support.processes import Forked
from support.serving import order, png, until

# one for all requests, since each takes long to make
CLIENT = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_file(tmp_path_factory.mktemp("model") / "tiny.safetensors", tiny())


@contextlib.contextmanager
def started(model: Path, *words: object) -> Iterator[tuple[Forked, str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = ("--model", model, "--device", "cpu", "--port", port, *words)
    server = Forked("serve", *given)
    site = f"http://127.0.0.1:{port}"
    try:
        until(lambda: server.returncode is not None or is_up(site), 300)
        assert server.returncode is None, server.output()
        yield server, site
    finally:
        server.send_signal(signal.SIGKILL)
        server.output()


def is_up(site: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return CLIENT.get(f"{site}/api/health", timeout=30).status_code == 200
    return False


def restored(site: str, seed: int, wait: float = 0.2) -> tuple[bytes, int]:
    """Send a picture until there is a place; return the answer and the number of refusals."""
    refusals = 0
    while True:
        parts = order(png((48, 32)), scale=2, seed=seed)
        answer = CLIENT.post(f"{site}/api/restore/sr", timeout=120, **parts)
        if answer.status_code == 200:
            return answer.content, refusals
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        refusals += 1
        time.sleep(wait)


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for thread in threads for one in thread.read_text().split()]


def workers(pid: int) -> list[int]:
    lines = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in children(pid)}
    return [one for one, line in lines.items() if b"restore.serve.worker" in line]


def memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pid_of(server: Forked) -> int:
    pid = server._process.pid
    assert pid is not None
    return pid


def test_it_serves_under_load_and_survives_its_workers(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started(model, "--queue", 4) as (server, site):
        pid = pid_of(server)
        alone = {seed: restored(site, seed)[0] for seed in range(5)}
        before = memory(pid)

        with ThreadPoolExecutor(10) as clients:
            answers = list(clients.map(lambda number: restored(site, number % 5), range(50)))
        assert [content for content, _ in answers] == [alone[n % 5] for n in range(50)]
        assert sum(refusals for _, refusals in answers) > 0
        assert memory(pid) - before < 200e6

        slow = order(png((48, 32)), scale=2, steps=1000, samples=100)
        place = CLIENT.post(f"{site}/api/restore/sr?wait=false", timeout=60, **slow)
        job = f"{site}{place.headers['location']}"
        until(lambda: CLIENT.get(job).json()["step"] > 0)
        (worker,) = workers(pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: CLIENT.get(job).json()["state"] == "failed")
        assert "SIGKILL" in CLIENT.get(job).json()["error"]
        assert restored(site, 0)[0] == alone[0]

        # a client that vanishes
        with contextlib.suppress(httpx.TimeoutException):
            CLIENT.post(f"{site}/api/restore/sr", timeout=2, **slow)
        until(lambda: CLIENT.get(f"{site}/api/health").json()["running"] == 0)

        # a kill in the middle
        CLIENT.post(f"{site}/api/restore/sr?wait=false", timeout=60, **slow)
        (worker,) = workers(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists())
    assert list(tmp_path.iterdir()) == []


def test_it_ends_by_a_signal_and_refuses_huge_and_slow_requests(model):
    with started(model) as (server, site):
        port = int(site.rpartition(":")[2])
        head = (
            f"POST /api/restore/sr HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n"
        )
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"{head}Content-Length: 10000000000\r\n\r\n--x".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")

        # another one that never ends does not keep the server
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--x".encode())
            assert is_up(site)
            server.send_signal(signal.SIGTERM)
            out, err = server.output()
        assert server.returncode == 143
        assert out == b""
        assert b"Traceback" not in err
        assert f"serving {site}/ on cpu".encode() in err
        assert b"ended by SIGTERM" in err


def test_a_port_in_use_is_told(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Forked("serve", "--model", model, "--port", port)
        _, err = server.output()
    assert server.returncode == 3
    assert f"--port {port}: cannot be listened on".encode() in err
