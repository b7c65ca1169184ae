"""Writing a file so that the whole of it appears, or nothing does."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from restore.errors import FileAccess


def write_atomically(data: bytes, path: Path, overwrite: bool) -> None:
    """Write beside the target, then rename over it; missing folders are made, mode bits follow the umask.

    Raises FileAccess where the target exists and `overwrite` is False, or cannot be written.
    """
    temporary = path.parent / f".restore-{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            refuse_existing(path, overwrite)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be written: {error.strerror or error}") from error


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise FileAccess where something is at `path` and may not be replaced; a dangling link counts."""
    if os.path.lexists(path) and not overwrite:
        raise FileAccess(f"{path}: exists already; pass --overwrite to replace it")
