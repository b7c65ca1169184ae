"""New pictures of a folder, once whoever writes them has finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

State = tuple[int, int]
"""Size and time of the last change."""


class Watch:
    """Remembers from look to look what each file was."""

    def __init__(self) -> None:
        self.seen: dict[Path, State] = {}
        self.taken: dict[Path, State] = {}

    def settled(self, paths: Iterable[Path]) -> list[Path]:
        """Of the files that are there now, those that were the same at the last look and have not
        been taken so.

        A file that changes after it was taken comes again; one that failed does not come again by
        itself.
        """
        found = {path: state for path in paths if (state := _state(path)) is not None}
        ready = [
            path
            for path, state in found.items()
            if self.seen.get(path) == state != self.taken.get(path)
        ]
        self.seen = found
        self.taken.update({path: found[path] for path in ready})

        return ready


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except OSError:  # gone between two looks
        return None
    return status.st_size, status.st_mtime_ns
