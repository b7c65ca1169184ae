"""Files on the disk: their digests, and writing them whole or not at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # typeshed has the module on every system


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; reads the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; reads it once, unless its size or modification time changes.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    return _cached_sha256(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _cached_sha256(path: Path, *_version: int) -> str:
    return sha256(path)


@contextmanager
def written_whole(
    path: Path, temporary: Path | None = None, before_rename: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield a temporary path, whose file replaces ``path`` at the end, or after an error vanishes.

    The file is on the disk before it gets its name, so that a power cut leaves the old file or the
    new one. Missing folders are made, and the mode bits follow the umask, whoever writes the file:
    safetensors makes files that only their owner can read.

    Args:
        path: The file to write.
        temporary: Where to write it, in the same folder; None for a hidden name beside ``path``.
            The file is locked while it is written, see `lock`, unless the writer replaces it by
            another one, as safetensors does.
        before_rename: Called when all else is done; an error that it raises keeps the old file.

    Raises:
        OSError: The folder cannot be made, or the file not be written or renamed.
    """
    temporary = temporary or path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    path.parent.mkdir(parents=True, exist_ok=True)

    try:
        with open(temporary, "xb") as created:
            lock(created)
            if fcntl is None:  # Windows renames no open file
                created.close()
            mode = temporary.stat().st_mode

            yield temporary

            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
            _sync(temporary)
            before_rename()
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

    _sync_folder(path.parent)


def lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed or the process ends.

    Returns:
        False if another process holds the lock, or the system has no file locks.
    """
    if fcntl is None:
        return False

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False

    return True


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync a new name to the disk, on systems where folders can be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return

    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
