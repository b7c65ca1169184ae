"""The process that reads and assembles clips for `restore.film.apart`, which starts it.

It reads pickled requests from stdin, the name of a function of `Desk` with its arguments, and
writes the pickled value or error of each to stdout. Work that takes long goes on in parts, so that
the caller can show how far it is, and end it.
"""

from __future__ import annotations

import faulthandler
import pickle
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from restore.film.assembly import Assembly, assemble
from restore.film.clip import Frame, Going, Limits
from restore.film.reader import Reader
from restore.photo.decoding_process import (
    READY,
    channels,
    ignore_signals,
    remove_own_folder,
)
from restore.photo.refusals import Unreadable

# Seconds after which a part of long work ends.
PART_SECONDS = 2.0


class Desk:
    """What can be asked for."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._work: Generator[int, None, Any] | None = None

    def look(self, path: Path, limits: Limits) -> Any:
        """Look at all frames of a clip; in parts."""
        self._open(path, limits)
        assert self._reader is not None
        return self._begin(self._reader.look())

    def read(self, path: Path, limits: Limits, skipped: int) -> Any:
        """Open a clip behind so many frames; in parts."""
        self._open(path, limits)
        assert self._reader is not None
        return self._begin(self._reader.skip(skipped))

    def next(self) -> tuple[Frame | None, int]:
        """Return the next frame, and the number of errors so far."""
        assert self._reader is not None
        return self._reader.next(), self._reader.damaged

    def assemble(self, assembly: Assembly) -> Any:
        """Write a clip from its segments and its source; in parts."""
        return self._begin(assemble(assembly))

    def go_on(self) -> Any:
        """Go on with work, and return its value, or `Going`."""
        assert self._work is not None
        end = time.monotonic() + PART_SECONDS
        try:
            while True:
                count = next(self._work)
                if time.monotonic() > end:
                    return Going(count)
        except StopIteration as stop:
            return stop.value

    def _open(self, path: Path, limits: Limits) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = Reader(path, limits)

    def _begin(self, work: Generator[int, None, Any]) -> Any:
        self._work = work
        return self.go_on()


def serve(seconds: float) -> None:
    """Answer requests until stdin ends.

    Args:
        seconds: The process ends itself when it has worked on a request for so long.
    """
    ignore_signals()
    requests, answers = channels()
    desk = Desk()
    answers.write(READY)
    answers.flush()

    with suppress(EOFError, BrokenPipeError):  # nobody asks, or waits, any more
        while True:
            name, *arguments = pickle.load(requests)
            # ends the process even while a library does not return
            faulthandler.dump_traceback_later(seconds, exit=True)
            answer = _answer(getattr(desk, name), arguments)
            faulthandler.cancel_dump_traceback_later()
            pickle.dump(answer, answers, protocol=5)
            answers.flush()

    remove_own_folder()


def _answer(function: Any, arguments: list[Any]) -> Any:
    """Return the value of a function, or an error that can be pickled."""
    try:
        return function(*arguments)
    except MemoryError:
        return Unreadable("not enough memory to decode it")
    except Unreadable as error:
        return error
    except OSError as error:
        return OSError(error.errno, error.strerror)
    except Exception:
        return Unreadable("the clip is damaged, or of a kind that is not supported")


if __name__ == "__main__":
    serve(float(sys.argv[1]))
