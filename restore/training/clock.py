"""A clock that stands still while the process is stopped."""

from __future__ import annotations

import threading
import time
from types import TracebackType

TICK = 1.0
"""Seconds between two readings."""

LONGEST = 30.0
"""Seconds counted at most between two readings.

A busy machine delays the thread that reads, by a few seconds at most; a longer gap is a pause.
"""


class RunningClock:
    """Count the seconds in which the process was running.

    A stopped process (SIGSTOP, Ctrl-Z) notices nothing of its pause, but a monotonic clock goes
    on: a run by minutes would lose its learning time to it. A thread reads the monotonic clock
    every second; it stops with the process, so a long gap between two readings is a pause.

    The clock is a context manager: it counts within the context, and keeps its value afterwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._counted = 0.0
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._tick, name="running clock", daemon=True)

    def __enter__(self) -> RunningClock:
        self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self) -> float:
        """Return the seconds counted so far."""
        with self._lock:
            now = time.monotonic()
            gap = now - self._last
            self._last = now
            self._counted += gap if gap <= LONGEST else 0.0
            return self._counted

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            self()
