"""The process that holds a model and restores one picture after the other for a server.

Its parent, `restore.serve.engine`, starts it and asks it through stdin; messages go to stdout, both
as pickles, which never come from a request. What ends it, such as a lack of memory, ends one job.
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

import torch
from PIL import Image
from torch.nn import functional as F

from restore.errors import RestoreError
from restore.restorer import Restorer
from restore.runtime.devices import keep_freed_memory
from restore.serve.messages import Failed, Progressed, Ready, Restored
from restore.serve.order import Order
from restore.solvers import Step
from restore.text import shortened, visible

# Longest side of a preview, in pixels, and its quality as a JPEG.
PREVIEW_SIDE = 480
PREVIEW_QUALITY = 80
# Seconds between two previews, and between two reports of progress.
PREVIEW_SECONDS = 0.5
REPORT_SECONDS = 0.1


class Cancelled(Exception):
    """The job is not wanted any more."""


class Inbox:
    """Messages of the parent: a number with an order, or the number of one that is cancelled.

    The process ends when the parent does.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._cancelled = 0
        self._orders: queue.SimpleQueue[tuple[int, Order]] = queue.SimpleQueue()
        threading.Thread(target=self._receive, args=(stream,), daemon=True).start()

    def next(self) -> tuple[int, Order]:
        return self._orders.get()

    def is_cancelled(self, number: int) -> bool:
        return self._cancelled >= number

    def _receive(self, stream: BinaryIO) -> None:
        while True:
            try:
                message = pickle.load(stream)
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, int):
                self._cancelled = message
            else:
                self._orders.put(message)


class Follower:
    """The callback of a solver, which reports progress and ends work that was cancelled.

    Args:
        send: sends a message to the parent.
        is_cancelled: returns True when the job is not wanted any more.
        samples: number of times that the steps are taken.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        send: Callable[[Any], None],
        is_cancelled: Callable[[], bool],
        samples: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._is_cancelled = is_cancelled
        self._samples = samples
        self._clock = clock
        self._begun = clock()
        self._calls = 0
        self._reported = self._previewed = float("-inf")

    def __call__(self, step: Step) -> None:
        if self._is_cancelled():
            raise Cancelled

        steps = step.steps * self._samples
        if self._calls >= steps:  # the next stage of a cascade
            self._calls = 0
            self._begun = self._clock()
        self._calls += 1

        now = self._clock()
        if now - self._reported < REPORT_SECONDS and self._calls < steps:
            return
        preview = None
        if now - self._previewed >= PREVIEW_SECONDS:
            preview = previewed(step.clean)
            self._previewed = now
        left = (now - self._begun) / self._calls * (steps - self._calls)
        self._send(Progressed(self._calls, steps, left, preview))
        self._reported = now


def previewed(clean: torch.Tensor) -> bytes:
    """Return the first picture of [B, C, H, W] in [-1, 1] as a small JPEG."""
    picture = clean.detach()[:1].float()
    height, width = picture.shape[-2:]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        picture = F.interpolate(picture, size=size, mode="area")

    samples = ((picture[0] + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    array = samples.permute(1, 2, 0).numpy()
    if array.shape[2] != 3:
        array = array[..., :1].repeat(3, axis=2)

    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()


def failure(error: BaseException) -> Failed:
    """Return an error as it is told to a user: in one sentence, without a traceback."""
    if isinstance(error, RestoreError):
        return Failed(visible(str(error)), True, error.exit_code)
    if isinstance(error, MemoryError):
        return Failed("not enough memory for a picture of this size", False, 15)

    reason = visible(shortened(" ".join(str(error).split())))
    return Failed(f"{type(error).__name__}: {reason}", False, RestoreError.exit_code)


def work(requests: BinaryIO, answers: BinaryIO, start: Callable[[], Restorer]) -> None:
    """Answer orders until the parent ends this process.

    Args:
        requests: messages of the parent.
        answers: messages to it.
        start: loads the model.
    """
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            pickle.dump(message, answers, protocol=5)
            answers.flush()

    inbox = Inbox(requests)
    try:
        restorer = start()
    except Exception as error:
        send(failure(error))
        return

    send(Ready(str(restorer.device)))
    while True:
        number, order = inbox.next()
        follow = Follower(send, partial(inbox.is_cancelled, number), order.options.samples)
        send(_answer(restorer, order, follow))


def _answer(restorer: Restorer, order: Order, follow: Follower) -> Restored | Failed | None:
    """Return the result of an order, an error, or None if it was cancelled."""
    try:
        return order.carry_out(restorer, follow)
    except Cancelled:
        return None
    except Exception as error:
        return failure(error)


def main() -> None:
    """Serve the parent, with the model that the first message names."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to the parent, which ends this process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # where libraries print

    with suppress(EOFError, BrokenPipeError):
        options = pickle.load(requests)
        keep_freed_memory()
        work(requests, answers, lambda: Restorer(**options))


if __name__ == "__main__":
    main()
