"""The worker process of one device, as a server calls it: `Engine.run` restores one picture.

A worker that ends, for want of memory or by a fault of a library, costs the job it is at; the next
job starts another.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from restore.errors import RestoreError, Unavailable
from restore.serve.messages import Failed, Progressed, Ready, Restored

if TYPE_CHECKING:
    from restore.serve.order import Order

# The module that is run as the process.
MODULE = "restore.serve.worker"
# Seconds in which a worker must take notice that a job was cancelled, before it is killed.
CANCEL_SECONDS = 5.0


class JobFailed(Exception):
    """A job ended without a result.

    Attributes:
        text: what went wrong, for the user.
        is_known: True for an error that the request caused.
        code: exit code that the command would have.
    """

    def __init__(self, text: str, is_known: bool = False, code: int = 15) -> None:
        super().__init__(text)
        self.text = text
        self.is_known = is_known
        self.code = code


class JobCancelled(Exception):
    """A job was cancelled."""


class _Gone:
    """Stands for the answer of a worker that has ended."""


class Engine:
    """A model on a device in a process of its own; one thread calls it, others may cancel.

    Args:
        options: arguments of `restore.Restorer`.
        seconds: time that a job may take.
    """

    def __init__(self, options: Mapping[str, Any], seconds: float = threading.TIMEOUT_MAX) -> None:
        self.device = str(options.get("device", "auto"))
        self._options = dict(options)
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._sending = threading.Lock()
        self._number = 0  # of the latest job
        self._cancelled = 0  # number of the latest job that was cancelled
        self._is_late = False
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """True if the worker runs."""
        process = self._process
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            RestoreError: it cannot be.
        """
        if self.is_ready:
            return
        if self._is_closed:
            raise RestoreError("the server is ending")

        self._process = process = _started()
        self._send(self._options)
        answer = _received(process)
        if isinstance(answer, Ready):
            self.device = answer.device
            return

        how = _how(process)
        if isinstance(answer, Failed):
            raise (Unavailable if answer.is_known else RestoreError)(answer.text)
        raise RestoreError(f"the model cannot be loaded: the worker {how}")

    def run(self, order: Order, progress: Callable[[Progressed], None]) -> Restored:
        """Restore a picture.

        Args:
            order: what is to be done.
            progress: called after calls of the network.

        Raises:
            JobFailed: it cannot be done.
            JobCancelled: `cancel` was called.
        """
        self._number += 1
        number = self._number
        self._is_late = False
        try:
            self.start()
        except RestoreError as error:
            raise JobFailed(str(error)) from None

        process = self._process
        assert process is not None
        timer = _later(self._seconds, self._end_late, number)
        try:
            self._send((number, order))
            answer = _received(process)
            while isinstance(answer, Progressed):
                progress(answer)
                answer = _received(process)
        finally:
            timer.cancel()

        return self._outcome(answer, process, number)

    def cancel(self) -> None:
        """Have `run` end soon; if the worker does not take notice, it is killed."""
        number = self._number
        self._cancelled = number
        self._send(number)
        _later(CANCEL_SECONDS, self._kill, number)

    def close(self) -> None:
        """End the worker for good."""
        self._is_closed = True
        self._cancelled = self._number
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _outcome(self, answer: Any, process: subprocess.Popen[bytes], number: int) -> Restored:
        # a timer must not end the next job
        self._number += 1
        if isinstance(answer, Restored):
            return answer
        if self._cancelled >= number:
            raise JobCancelled
        if isinstance(answer, Failed):
            raise JobFailed(*answer)

        how = _how(process)
        if self._is_late:
            raise JobFailed(f"it took more than {self._seconds:g} seconds, and was ended")
        raise JobFailed(f"the worker {how}; the server goes on with another")

    def _send(self, message: Any) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._sending, suppress(OSError, ValueError):  # it has ended, which the answer tells
            pickle.dump(message, process.stdin, protocol=5)
            process.stdin.flush()

    def _end_late(self, number: int) -> None:
        self._is_late = self._number == number
        self._kill(number)

    def _kill(self, number: int) -> None:
        """End the worker if it is still at a job."""
        if self._number == number and self._process is not None:
            self._process.kill()


def _later(seconds: float, function: Callable[..., None], *arguments: Any) -> threading.Timer:
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), function, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _received(process: subprocess.Popen[bytes]) -> Any:
    """Return the next message of a worker."""
    assert process.stdout is not None
    try:
        return pickle.load(process.stdout)
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        return _Gone()


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _how(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a worker, and return how it has ended."""
    try:
        code = process.wait(timeout=CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code >= 0:
        return f"ended with exit code {code}"

    name = signal.Signals(-code).name
    why = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"
