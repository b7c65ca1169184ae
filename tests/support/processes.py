"""The command and functions in processes of their own, forked from a warm one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import cli

T = TypeVar("T")

# The server of its children imports PyTorch once; a new interpreter takes seconds for it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *("cli", "restore.commands.app", "restore.restorer", "restore.jobs.run"),
        *("pretrained.layouts", "safetensors.torch"),  # what a run imports later
        "pydantic.type_adapter",  # what Typer imports to read options
    ]
)


def value_of(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a test file in a forked process of its own; return its value."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        return pool.submit(function, *arguments).result(timeout=120)


class Forked:
    """The command in a process of its own that starts with everything imported.

    It has the environment and the folder of the caller, a pipe with ``stdin`` as stdin, and the
    signal handlers of a new interpreter. It calls ``prepare`` before the command.
    """

    def __init__(
        self, *words: object, stdin: bytes = b"", prepare: Callable[[], object] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        given = (
            [str(word) for word in words],
            stdin,
            Path(self._folder.name),
            dict(os.environ),
            Path.cwd(),
            prepare,
        )
        self._process = FORKS.Process(target=_run_here, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(self._process.pid, number)

    def output(self, timeout: float = 120) -> tuple[bytes, bytes]:
        """Wait for the end, and return what was written to stdout and stderr."""
        self._process.join(timeout)
        assert self.returncode is not None, "it did not end"
        out, err = ((Path(self._folder.name) / name).read_bytes() for name in ("out", "err"))
        return out, err


def _run_here(
    words: list[str],
    stdin: bytes,
    streams: Path,
    environment: dict[str, str],
    folder: Path,
    prepare: Callable[[], object] | None,
) -> None:
    read, write = os.pipe()
    os.write(write, stdin)
    os.close(write)
    os.dup2(read, 0)
    for number, name in enumerate(("out", "err"), start=1):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if prepare is not None:
        prepare()
    sys.argv = ["restore", *words]
    cli.main()
