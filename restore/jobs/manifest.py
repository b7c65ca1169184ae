"""What a folder run has done: a line of JSON for each picture, in the output folder.

A picture is done when all its outputs were in place and its line was written after them, so that a
run that was killed goes on where it was. Lines are only ever added; the last one of a picture
counts, and a line that was cut off by a kill counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from restore import __version__
from restore.errors import FileAccess

NAME = "restore.jsonl"

State = Literal["done", "changed", "other options", "unknown"]
"""Of a picture whose outputs are there: done; done from an input or with options that are others
now; or not by us.
"""


@dataclass(frozen=True)
class Fingerprint:
    """What an input was when it was read."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Reads the whole file.

        Raises:
            FileAccess: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
        return cls(status.st_size, status.st_mtime_ns, digest)

    def still_holds(self, path: Path) -> bool:
        """Whether the file's content is the same; it is read only where its size and time leave a
        doubt.
        """
        status = path.stat()
        if status.st_size != self.size:
            return False
        return status.st_mtime_ns == self.mtime_ns or Fingerprint.of(path).sha256 == self.sha256


@dataclass(frozen=True)
class Entry:
    """A picture's line.

    Attributes:
        input: path below the input folder, with forward slashes; bytes that are no text as in
            `os.fsdecode`.
        fingerprint: of the input.
        options: everything that decides the result: task, arguments, method, seed, model, form of
            the output.
        outputs: paths below the output folder.
        seconds: that the picture took.
        error: why it failed.
    """

    input: str
    fingerprint: Fingerprint
    options: Mapping[str, Any]
    outputs: Sequence[str] = ()
    seconds: float = 0.0
    status: Literal["done", "failed"] = "done"
    error: str = ""
    version: str = field(default=__version__)

    @classmethod
    def read(cls, line: str) -> Entry | None:
        """None where it is no whole line of ours."""
        try:
            table = json.loads(line)
            return cls(**{**table, "fingerprint": Fingerprint(**table["fingerprint"])})
        except (ValueError, TypeError, KeyError):
            return None

    def write(self) -> str:
        return json.dumps(asdict(self), sort_keys=True) + "\n"


class Manifest:
    """The lines of an output folder, those of all its shards.

    Args:
        folder: of the outputs; it need not exist yet.
        part: names the file that this run adds to, ``2of8`` of a shard; other runs at the same time
            add to theirs.

    Raises:
        FileAccess: a manifest that cannot be read.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self.path = folder / (f"{Path(NAME).stem}-{part}.jsonl" if part else NAME)
        self.entries: dict[str, Entry] = {}
        for path in sorted(folder.glob(f"{Path(NAME).stem}*.jsonl")):
            self._take(path)

    def state(self, name: str, source: Path, options: Mapping[str, Any]) -> State:
        """What is known of a picture whose target exists.

        Args:
            name: as in `Entry.input`.
            options: of this run, as in `Entry.options`.
        """
        entry = self.entries.get(name)
        if entry is None or entry.status != "done" or not self._whole(entry):
            return "unknown"
        if entry.options != _as_read(options):
            return "other options"
        return "done" if entry.fingerprint.still_holds(source) else "changed"

    def add(self, entry: Entry) -> None:
        """Write a line and see it on the disk.

        Raises:
            FileAccess: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                if file.tell() and not _ends_with_newline(file):
                    file.write(b"\n")
                file.write(entry.write().encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileAccess(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error
        self.entries[entry.input] = replace(entry, options=_as_read(entry.options))

    def _take(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
        for entry in map(Entry.read, text.splitlines()):
            if entry is not None:
                self.entries[entry.input] = entry

    def _whole(self, entry: Entry) -> bool:
        return bool(entry.outputs) and all((self.folder / name).is_file() for name in entry.outputs)


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _as_read(options: Mapping[str, Any]) -> Any:
    """As they are after a trip through JSON."""
    return json.loads(json.dumps(options))
