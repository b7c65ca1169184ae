"""Detection of new files in a folder after they have been written completely."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Size and time of the last change.
State = tuple[int, int]


class Watch:
    """Remembers the state of each file between scans."""

    def __init__(self) -> None:
        self.seen: dict[Path, State] = {}
        self.taken: dict[Path, State] = {}

    def settled(self, paths: Iterable[Path]) -> list[Path]:
        """Return files that have not changed since the last scan and were not returned yet.

        A file that changes later is returned again; one whose restoration failed is not.
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
    except OSError:  # removed between two scans
        return None
    return status.st_size, status.st_mtime_ns
