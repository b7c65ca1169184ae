"""Calls of the file system that fail, or at which the process dies, on purpose."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Functions of `os` that change files, with the arguments that are paths.
_BY_PATH = {
    "open": (0,),
    "mkdir": (0,),
    "rmdir": (0,),
    "link": (0, 1),
    "rename": (0, 1),
    "replace": (0, 1),
    "unlink": (0,),
}
_BY_DESCRIPTOR = ("fsync", "ftruncate")

# What happens instead of a call.
Fault = Callable[[str], None]


class Calls:
    """Counts the calls that reach files below a folder, and has one of them go wrong.

    Calls of Python are meant: the functions of `os`, and opening, writing and closing a file by
    `open`. It changes the modules for good, so that it is for a process of its own.

    Args:
        folder: the folder.
        at: number of the call that goes wrong, from 0; None is none of them.
        fault: called with the name of that call, before it is made; it raises an error or ends the
            process. If it returns, the call is made.
        cut: True to write half of the data first, if that call is a write. A write that is
            interrupted (EINTR) has written nothing.

    Attributes:
        names: names of the calls so far.
    """

    def __init__(
        self,
        folder: Path,
        at: int | None = None,
        fault: Fault | None = None,
        *,
        cut: bool = True,
    ) -> None:
        self.folder = str(folder)
        self.at = at
        self.fault = fault
        self.cut = cut
        self.names: list[str] = []
        self._real_open = io.open

    def install(self) -> None:
        for name, places in _BY_PATH.items():
            setattr(os, name, self._by_path(name, getattr(os, name), places))
        for name in _BY_DESCRIPTOR:
            setattr(os, name, self._by_descriptor(name, getattr(os, name)))
        io.open = self._open  # type: ignore[assignment]
        builtins.open = self._open  # type: ignore[assignment]

    def count(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self.at and self.fault is not None:
            self.fault(name)

    def _by_path(self, name: str, real: Callable, places: tuple[int, ...]) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            if any(self._is_below(arguments[place]) for place in places):
                self.count(name)
            return real(*arguments, **options)

        return call

    def _by_descriptor(self, name: str, real: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            self.count(name)
            return real(*arguments)

        return call

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any):
        if not self._is_below(file) or "b" not in mode:
            return self._real_open(file, mode, buffering, *more, **options)

        self.count("open")
        raw = _File(file, mode.replace("b", ""), self)
        if buffering == 0:
            return raw
        return io.BufferedReader(raw) if mode == "rb" else io.BufferedWriter(raw)

    def _is_below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)


class _File(io.FileIO):
    """A file whose writes and whose end are counted."""

    def __init__(self, path: Any, mode: str, calls: Calls) -> None:
        self._calls: Calls | None = None
        super().__init__(path, mode)
        self._calls = calls

    def write(self, data: Any) -> int:
        """Write, at a fault one half first, so that a process can die in the middle."""
        assert self._calls is not None
        half = len(data) // 2 if self._calls.cut else 0
        view = memoryview(data)
        written = super().write(view[:half]) if half else 0
        self._calls.count("write")
        return written + super().write(view[written:])

    def close(self) -> None:
        calls, self._calls = self._calls, None
        super().close()
        if calls is not None:
            calls.count("close")
