"""Files of kernels and masks, opened without waiting for anybody."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: It is a folder, a named pipe, a socket or a device, or cannot be opened.
    """
    _check_regular(path, path.stat())  # opening a device can have effects
    file = io.BufferedReader(io.FileIO(str(path), opener=_without_waiting))

    try:  # another file may have taken the name since
        _check_regular(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise

    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
