"""The process that decodes pictures for `restore.photo.apart`, which starts it.

It reads pickled requests from stdin: a function, whether it takes the format of a file with its
bytes, the bytes, and more arguments. It writes the pickled value or error of each to stdout.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import shutil
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from restore.errors import Unavailable
from restore.photo.formats import format_of
from restore.photo.formats.record import HEAD
from restore.photo.libraries import libraries_silent, reason
from restore.photo.reading import Stored
from restore.photo.refusals import Unreadable

# What is written to stdout when the process is ready.
READY = b"ready\n"

# Environment variable with the temporary folder of the process.
OWN_FOLDER = "RESTORE_OWN_FOLDER"


def serve(seconds: float) -> None:
    """Answer requests until stdin ends.

    Args:
        seconds: The process ends itself when it has worked on a request for so long.
    """
    ignore_signals()
    requests, answers = channels()
    answers.write(READY)
    answers.flush()

    with suppress(EOFError, BrokenPipeError):  # nobody asks, or waits, any more
        while True:
            _serve_one(requests, answers, seconds)

    remove_own_folder()


def remove_own_folder() -> None:
    """Remove the temporary folder, for a caller that was killed and could not."""
    if folder := os.environ.get(OWN_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)


def _serve_one(requests: BinaryIO, answers: BinaryIO, seconds: float) -> None:
    """Answer a request, and keep nothing of it.

    Raises:
        EOFError: There is no further request.
        BrokenPipeError: Nobody reads the answer.
    """
    request = pickle.load(requests)
    # ends the process even while a library does not return
    faulthandler.dump_traceback_later(seconds, exit=True)
    answer = _answer(*request)
    faulthandler.cancel_dump_traceback_later()
    pickle.dump(answer, answers, protocol=5)
    answers.flush()


def ignore_signals() -> None:
    """Leave the end to the caller, whom a terminal sends the same signals."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def channels() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout, which libraries cannot write to from here on."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)

    return requests, answers


def _answer(function: Any, is_named: bool, data: bytes, *arguments: Any) -> Any:
    """Return the value of a function, or an error that can be pickled."""
    try:
        with libraries_silent():
            return function(_named(data) if is_named else data, *arguments)
    except Unavailable as error:
        return error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, error.strerror)
        return Unreadable(reason(error))


def _named(data: bytes) -> Stored:
    format = format_of(data[:HEAD])
    assert format is not None
    return Stored(data, format)


if __name__ == "__main__":
    serve(float(sys.argv[1]))
