"""Decoding in a process of its own, so that a library that crashes costs one picture.

The libraries are written in C, and a damaged file may end the process that they work in. Work on
many pictures is done within `decoding_apart`: a process that ends is started again for the next
picture. It is no sandbox.
"""

from __future__ import annotations

import atexit
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from restore.photo import decode as decoders
from restore.photo.decoding_process import OWN_FOLDER, READY
from restore.photo.formats.record import Decoded, Limits, PillowReader
from restore.photo.libraries import libraries_silent
from restore.photo.reading import Stored
from restore.photo.refusals import Unreadable

Value = TypeVar("Value")

# The module that is run as the process.
MODULE = "restore.photo.decoding_process"
# Seconds after which a picture that is not decoded counts as damaged.
LONGEST_SECONDS = 300.0


def decode(stored: Stored, page: int | None, limits: Limits) -> Decoded:
    """Decode a picture as `restore.photo.decode.decode`, apart if that is wanted.

    What a JPEG stores is read apart in any case, since that may end the process. Where it does, or
    no process can be started, the picture is decoded without.

    Raises:
        Unreadable: As there; or decoding ended the process, or took too long.
        Unavailable: As there.
    """
    if limits.coefficients and _has_coefficients(stored):
        with suppress(_NotApart, Crashed), decoding_apart(keep=True):
            return DECODER.call(decoders.decode, stored, page, limits, only_apart=True)

    plain = limits._replace(coefficients=False)
    return DECODER.call(decoders.decode, stored, page, plain)


def count_pages(stored: Stored, limits: Limits) -> int:
    """Count pages as `restore.photo.decode.count_pages`, apart if that is wanted.

    Raises:
        Exception: As there; or counting ended the process, or took too long.
    """
    return DECODER.call(decoders.count_pages, stored, limits)


def _has_coefficients(stored: Stored) -> bool:
    reader = stored.format.reader
    return isinstance(reader, PillowReader) and reader.stored is not None


@contextmanager
def decoding_apart(wanted: bool = True, *, keep: bool = False) -> Iterator[None]:
    """Have all threads decode pictures in a process of their own within the context.

    It starts at once, to be ready for the first picture. Where no process can be started, pictures
    are decoded here.

    Args:
        wanted: False to change nothing, as for a single picture, where it would not pay.
        keep: True to leave the process for later contexts, until this process ends.
    """
    if not wanted:
        yield
        return

    DECODER.users += 1
    DECODER.start()
    try:
        yield
    finally:
        DECODER.users -= 1
        DECODER.is_kept |= keep
        if not DECODER.users and not DECODER.is_kept:
            with libraries_silent():  # no other thread decodes now
                DECODER.end()


def end_decoding() -> None:
    """End the process that decodes, if there is one; what waits for it gets an error."""
    DECODER.end()


class Crashed(Unreadable):
    """A picture that ended the process; the text says how."""


class Ended(Exception):
    """The process has ended before it answered; the text says how."""


class _NotApart(Exception):
    """No process can be started."""


class Process:
    """A process that decodes pictures or clips.

    Args:
        module: The module that is run as the process; None is `MODULE`.
        what: What it decodes, for messages.

    Attributes:
        is_fresh: True until it has answered a request.
        is_unwanted: True once it was told to end.
    """

    def __init__(self, module: str | None = None, what: str = "picture") -> None:
        self.what = what
        self.is_fresh = True
        self.is_unwanted = False
        self._is_ready = False
        # what a library has written when it ends the process goes with it
        self._folder = tempfile.mkdtemp(prefix="restore-")
        folder = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self._folder)
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", module or MODULE, str(LONGEST_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                **folder,
                OWN_FOLDER: self._folder,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )

    def is_ready(self) -> bool:
        """Wait until the process can decode; return False if it has ended instead."""
        assert self._popen.stdout is not None
        self._is_ready = self._is_ready or self._popen.stdout.readline() == READY
        return self._is_ready

    @property
    def is_running(self) -> bool:
        """True until the process has ended."""
        return self._popen.poll() is None

    def ask(self, *request: Any) -> Any:
        """Return the answer to a request.

        Raises:
            Ended: The process has ended.
        """
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        start = time.monotonic()
        try:
            pickle.dump(request, self._popen.stdin, protocol=5)
            self._popen.stdin.flush()
            answer = pickle.load(self._popen.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.end()
            raise Ended(self._how(time.monotonic() - start)) from None
        except BaseException:  # an answer may be on its way
            self.end()
            raise

        self.is_fresh = False
        return answer

    def kill(self) -> None:
        """End the process while another thread may wait for its answer."""
        self.is_unwanted = True
        self._popen.kill()
        self._popen.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def end(self) -> None:
        """End the process, and wait for its end."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):  # what was left to write
                pipe.close()  # type: ignore[union-attr]
        shutil.rmtree(self._folder, ignore_errors=True)

    def _how(self, seconds: float) -> str:
        """Return how the process has ended after so many seconds of work."""
        if seconds >= LONGEST_SECONDS:
            return f"decoding it takes more than {LONGEST_SECONDS:g} seconds; it may be damaged"

        code = self._popen.returncode
        kind = f"exit code {code}"
        with suppress(ValueError):
            kind = signal.Signals(-code).name
        if kind == "SIGKILL":
            return "the decoder was killed on it (SIGKILL), perhaps for want of memory"
        return (
            f"the decoder crashed on it ({kind}): the {self.what} is damaged, or a library has a "
            "bug"
        )


class _Decoder:
    """Calls the functions of `restore.photo.decode`, apart while somebody wants that.

    Attributes:
        users: Number of contexts that want it.
        is_kept: True if the process stays when nobody wants it.
    """

    def __init__(self) -> None:
        self.users = 0
        self.is_kept = False
        self._process: Process | None = None
        self._is_possible = True
        self._starting = threading.Lock()

    def call(
        self,
        function: Callable[..., Value],
        stored: Stored | bytes,
        *arguments: Any,
        only_apart: bool = False,
    ) -> Value:
        """Return the value of a function of a file, which is named with its format or is bytes."""
        is_named = isinstance(stored, Stored)
        data = stored.data if isinstance(stored, Stored) else stored
        while self.users and (process := self.start()) is not None and self._is_ready(process):
            was_fresh = process.is_fresh
            try:
                answer = process.ask(function, is_named, data, *arguments)
            except Ended as error:
                self._process = None
                # an earlier picture may have damaged the memory of the process
                if was_fresh or process.is_unwanted:
                    raise Crashed(str(error)) from None
                continue
            except BaseException:
                self._process = None
                raise
            if isinstance(answer, Exception):
                raise answer
            return answer

        if only_apart:
            raise _NotApart
        return function(stored, *arguments)

    def start(self) -> Process | None:
        """Start the process unless it runs; return None where none can be started."""
        with self._starting:
            if self._process is None and self._is_possible:
                try:
                    self._process = Process()
                except OSError:
                    self._is_possible = False

            return self._process

    def end(self) -> None:
        process = self._process
        self._process = None
        if process is not None:
            process.kill()

    def forget(self) -> None:
        """Leave the process to the parent, after a fork."""
        self._process = None

    def _is_ready(self, process: Process) -> bool:
        if not process.is_ready():
            process.end()
            self._process = None
            self._is_possible = process.is_unwanted
        return self._is_possible


DECODER = _Decoder()
atexit.register(end_decoding)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: DECODER.forget())  # tests replace it
