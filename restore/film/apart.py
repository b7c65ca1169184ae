"""Clips read in a process of their own, so that a file on which libav crashes is an error."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from restore.errors import FileAccess, RestoreError, Unavailable, UnreadableInput
from restore.files import not_written
from restore.film.assembly import Assembly
from restore.film.clip import Frame, Going, Limits, Look
from restore.photo.apart import Ended, Process
from restore.photo.refusals import Unreadable

# The module that is run as the process.
MODULE = "restore.film.process"

# Called with the number of frames or packets that are done.
Told = Callable[[int], None]


class Projector:
    """Reads a clip, and assembles the restored one, in a process of its own.

    Args:
        path: the clip.
        named: its name in messages.
        limits: what it may ask for.
    """

    def __init__(self, path: Path, named: str, limits: Limits) -> None:
        self.path = path
        self.named = named
        self.limits = limits
        self._process = Process(MODULE, "clip")
        if not self._process.is_ready():
            self._process.end()
            raise RestoreError("the process that reads clips does not start")

    @property
    def is_running(self) -> bool:
        """True until the process has ended, as a crash of libav ends it."""
        return self._process.is_running

    def look(self, told: Told = lambda count: None) -> Look:
        """Look at all frames.

        Raises:
            UnreadableInput: it is no clip, is damaged, encrypted or too large.
            FileAccess: it cannot be read.
        """
        with self._errors():
            return self._long(told, "look", self.path, self.limits)

    def frames(self, skipped: int, told: Told = lambda count: None) -> Iterator[tuple[Frame, int]]:
        """Yield the frames behind the first ones, each with the number of errors so far.

        Raises:
            UnreadableInput: as `look`.
            FileAccess: as `look`.
        """
        with self._errors():
            self._long(told, "read", self.path, self.limits, skipped)
        while True:
            with self._errors():
                frame, damaged = self._asked("next")
            if frame is None:
                return
            yield frame, damaged

    def assemble(self, assembly: Assembly, told: Told = lambda count: None) -> tuple[str, ...]:
        """Write the restored clip, and return sentences about what could not be kept.

        Raises:
            UnreadableInput: the other streams of the clip cannot be read.
            FileAccess: it cannot be written; `FullDisk` if no file could.
        """
        try:
            return self._long(told, "assemble", assembly)
        except OSError as error:
            raise not_written(assembly.target, error) from error
        except (Unreadable, Ended) as error:
            raise UnreadableInput(f"{self.named}: {error}.") from None

    def end(self) -> None:
        """End the process; a thread that waits for it gets an error."""
        self._process.kill()

    def close(self) -> None:
        """End the process, when no thread waits for it any more."""
        self._process.end()

    def _long(self, told: Told, *request: Any) -> Any:
        answer = self._asked(*request)
        while isinstance(answer, Going):
            told(answer.done)
            answer = self._asked("go_on")
        return answer

    def _asked(self, *request: Any) -> Any:
        answer = self._process.ask(*request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (Unreadable, Ended) as error:
            raise UnreadableInput(f"{self.named}: {error}.") from None
        except FileAccess:
            raise
        except OSError as error:
            text = f"{self.named}: cannot be read: {error.strerror or error}"
            raise FileAccess(text) from error


@contextmanager
def projecting(path: Path, named: str, limits: Limits) -> Iterator[Projector]:
    """Have a clip read in a process of its own within the context.

    Raises:
        Unavailable: PyAV is not installed.
    """
    check_installed()
    projector = Projector(path, named, limits)
    try:
        yield projector
    finally:
        projector.close()


def check_installed() -> None:
    """Check that clips can be read.

    Raises:
        Unavailable: PyAV is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise Unavailable(
            "clips are read and written by PyAV, which is not installed: pip install "
            "'restore-diffusion[video]'"
        )
