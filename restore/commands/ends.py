"""How the command ends when it is told to: by a signal, or by a reader that has seen enough.

This file is imported before everything else, so it imports nothing of the package.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

# Exit code after Ctrl-C; those after other signals are 128 and the number of the signal, too.
INTERRUPTED = 130
# Exit code after stdout was closed by the program that read it, as shells have it for SIGPIPE.
CLOSED_PIPE = 141
# Exit code after stdout could not be written for another reason.
_UNWRITABLE = 5

# How a stream that the caller has closed is opened: reading from stdin finds nothing, writing to
# stdout fails, and what goes to stderr is lost.
_CLOSED = {"stdin": os.O_RDONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}

_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def leave_at_once() -> None:
    """Have signals end the process without a traceback; for the start, with nothing to clean up."""

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, f"restore: error: {_told(number)}\n".encode())
        os._exit(128 + number)

    for number in _ENDING:
        # one that is ignored stays so, as under nohup
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def open_streams() -> None:
    """Open those of stdin, stdout and stderr that the caller has closed, as by ``<&-``.

    A file that is opened later would get the number of the stream, and what a library writes to the
    stream would end up in the file.
    """
    for name, how in _CLOSED.items():
        if getattr(sys, name) is None:
            place = os.open(os.devnull, how)  # the lowest number that is free
            os.set_inheritable(place, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(place, mode, encoding="utf-8", errors="surrogateescape"))


class Signals:
    """Has SIGTERM and SIGHUP raise KeyboardInterrupt like Ctrl-C within the context.

    Attributes:
        number: the signal that came last; None if none came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in _ENDING:
            before = signal.getsignal(number)
            if before is signal.SIG_IGN:
                continue
            try:
                signal.signal(number, self._interrupt)
            except ValueError:  # not in the main thread, where no signal arrives
                break
            self._before[number] = before

        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.number is None else 128 + self.number

    def __str__(self) -> str:
        return _told(self.number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt


def is_closed_pipe(error: BaseException) -> bool:
    """Return True for a closed pipe, or an exit that a library makes of it."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    )


def is_stuck(stream: Any) -> bool:
    """Return True if a stream has something to write and cannot."""
    try:
        stream.flush()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
    except OSError:
        return True
    return False


def flushed(code: int) -> int:
    """Write what is left for stdout and stderr, and return the exit code.

    Args:
        code: the exit code if all can be written.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):  # there is none, or it is closed
            continue
        except OSError as error:
            code = code or (CLOSED_PIPE if is_closed_pipe(error) else _UNWRITABLE)
            # Python writes what is left once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    return code


def _told(number: int | None) -> str:
    """Return what is said about the end by a signal."""
    if number in (None, signal.SIGINT):
        return "interrupted"
    return f"ended by {signal.Signals(number).name}"
