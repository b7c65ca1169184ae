"""Files on the disk: their digests, and writing them so that the whole of one appears, or nothing
does.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path


def sha256(path: Path) -> str:
    """Of a file, hexadecimal; it is read now, piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; read once, unless its size or time of change become
    others.
    """
    status = path.stat()
    return _read_once(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_once(path: Path, *_facts: int) -> str:
    return sha256(path)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """The path of a temporary file: what is written there is at ``path`` in the end, or, after an
    error, nowhere.

    Its mode bits follow the umask, whoever writes it: safetensors makes files that only their owner
        can read.

    Raises:
        OSError: the folder cannot be made, or the file not be renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
