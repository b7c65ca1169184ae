"""The process of a device: what ends it costs one job."""

from __future__ import annotations

import os
import threading
import time

import pytest

from restore.errors import Unavailable
from restore.serve import engine
from restore.serve.engine import Engine, JobCancelled, JobFailed


@pytest.fixture
def started(monkeypatch):
    """``started()`` returns an engine whose worker does what orders say."""
    monkeypatch.setattr(engine, "MODULE", "support.odd_worker")
    monkeypatch.setattr(engine, "CANCEL_SECONDS", 0.3)
    engines = []

    def start(**options) -> Engine:
        engines.append(Engine({"model": "tiny", "device": "cpu"}, **options))
        engines[-1].start()
        return engines[-1]

    yield start
    for one in engines:
        one.close()


def pid_of(one: Engine) -> int:
    return int(one.run("fine", print).files[0].data)


@pytest.mark.parametrize(
    ("order", "text"), [("crash", "was ended by SIGSEGV"), ("exit", "ended with exit code 7")]
)
def test_a_worker_that_ends_costs_one_job(started, order, text):
    one = started()
    first = pid_of(one)
    with pytest.raises(JobFailed, match=text) as told:
        one.run(order, print)
    assert not told.value.is_known
    assert pid_of(one) != first
    assert pid_of(one) == pid_of(one)


def test_an_error_of_the_order_is_told(started):
    with pytest.raises(JobFailed, match="`scale`=1: wrong") as told:
        started().run("fail", print)
    assert told.value.is_known


@pytest.mark.parametrize(("order", "survives"), [("wait", True), ("hang", False)])
def test_a_job_is_cancelled_and_killed_if_it_takes_no_notice(started, order, survives):
    one = started()
    first = pid_of(one)
    with pytest.raises(JobCancelled):
        one.run(order, lambda done: one.cancel())
    time.sleep(0.5)
    assert (pid_of(one) == first) is survives


def test_a_job_that_takes_too_long_is_ended(started):
    one = started(seconds=0.3)
    with pytest.raises(JobFailed, match=r"more than 0\.3 seconds"):
        one.run("hang", lambda done: None)
    assert pid_of(one)


def test_the_worker_ends_with_the_server(started):
    one = started()
    pid = pid_of(one)
    failed = []

    def run() -> None:
        with pytest.raises(JobCancelled):
            one.run("hang", lambda done: began.set())
        failed.append(True)

    began = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(20)
    one.close()
    thread.join(20)
    assert failed
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(JobFailed, match="the server is ending"):
        one.run("fine", print)


def test_a_model_that_cannot_be_loaded_is_told(monkeypatch):
    monkeypatch.setattr(engine, "MODULE", "support.odd_worker")
    with pytest.raises(Unavailable, match="`model`=missing"):
        Engine({"model": "missing"}).start()
