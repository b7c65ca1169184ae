"""Files on the disk: their digests, and writing them whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # typeshed has the module on every system

# Errors of file systems that have no hard links, such as FAT, or allow none.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

# Errors of systems and file systems whose folders cannot be synced.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


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
    path: Path, temporary: Path | None = None, *, replace: bool = True
) -> Iterator[Path]:
    """Yield a temporary path, whose file gets the name ``path`` at the end, or vanishes on error.

    The file is on the disk before it gets its name, so that a power cut leaves the old file or the
    new one. Missing folders are made, and the mode bits follow the umask, whoever writes the file:
    safetensors makes files that only their owner can read.

    Args:
        path: The file to write.
        temporary: Where to write it, in the same folder; None for a hidden name beside ``path``.
            The file is locked while it is written, see `lock`, unless the writer replaces it by
            another one, as safetensors does.
        replace: True to replace an existing file, see `put_in_place`.

    Raises:
        OSError: The folder cannot be made, or the file not be written, named or synced.
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
            put_in_place(temporary, path, replace=replace)
    finally:
        remove(temporary)

    sync_folder(path.parent)


def put_in_place(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Give a file another name in its folder, in one step.

    Args:
        temporary: The file.
        path: Its new name.
        replace: True to replace what has this name. Otherwise a file that arrives at the last
            moment stays; on file systems without hard links the name is checked just before.

    Raises:
        FileExistsError: The name is taken, and not to be replaced.
        OSError: The file cannot be renamed.
    """
    if replace:
        os.replace(temporary, path)
        return
    if os.name == "nt":  # where renaming refuses an existing name
        os.rename(temporary, path)
        return

    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        remove(temporary)
        return

    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    os.rename(temporary, path)


def remove(temporary: Path) -> None:
    """Remove a temporary file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)


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


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk, on systems where folders can be synced.

    Raises:
        OSError: The disk reports an error.
    """
    if os.name == "nt":
        return

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that takes files and cannot be listed
        return

    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
