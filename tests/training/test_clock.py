"""The clock of training runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from restore.training import clock as module
from restore.training.clock import RunningClock

CHILD = """
from restore.training import clock
clock.TICK, clock.LONGEST = 0.05, 1.0
with clock.RunningClock() as seconds:
    print("ready", flush=True)
    input()
    print(seconds(), flush=True)
"""


def test_short_gaps_count_and_long_ones_do_not(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    seconds = RunningClock()
    for gap, counted in [(2, 2), (module.LONGEST, 2 + module.LONGEST), (3600, 32), (1, 33)]:
        now += gap
        assert seconds() == pytest.approx(counted)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control")
def test_a_stopped_process_does_not_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        started = time.monotonic()
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(child.pid, signal.SIGCONT)
        out, _ = child.communicate("\n")
    running = time.monotonic() - started - 2.5
    assert 0 <= float(out) <= running + 0.5
