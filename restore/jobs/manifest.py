"""The manifest of a folder run: a line of JSON for each picture, in the output folder.

The line of a picture is written after all its outputs, so that a run that was killed resumes where
it stopped. Lines are only appended; the last line of a picture counts, and a truncated line is
ignored.
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

# State of a picture whose outputs exist: done; done from an input that has changed since; done with
# other options; or not recorded in the manifest.
State = Literal["done", "changed", "other options", "unknown"]


@dataclass(frozen=True)
class Fingerprint:
    """Identity of the content of a file.

    Attributes:
        size: size in bytes.
        mtime_ns: time of the last change in nanoseconds.
        sha256: digest of the content.
    """

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Return the fingerprint of a file, which is read whole.

        Raises:
            FileAccess: the file cannot be read.
        """
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
        return cls(status.st_size, status.st_mtime_ns, digest)

    def still_holds(self, path: Path) -> bool:
        """Return True if a file has the same content; it is read only if its time differs."""
        status = path.stat()
        if status.st_size != self.size:
            return False
        return status.st_mtime_ns == self.mtime_ns or Fingerprint.of(path).sha256 == self.sha256


@dataclass(frozen=True)
class Entry:
    """The line of a picture.

    Attributes:
        input: path below the input folder, with forward slashes; undecodable bytes as in
            `os.fsdecode`.
        fingerprint: fingerprint of the input.
        options: everything that decides the result: task, arguments, method, seed, model, output
            format.
        outputs: paths below the output folder.
        seconds: time in the solver.
        status: ``done`` or ``failed``.
        error: reason of a failure.
        version: version of restore.
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
        """Parse a line; None if it is not a complete line of a manifest."""
        try:
            table = json.loads(line)
            return cls(**{**table, "fingerprint": Fingerprint(**table["fingerprint"])})
        except (ValueError, TypeError, KeyError):
            return None

    def write(self) -> str:
        return json.dumps(asdict(self), sort_keys=True) + "\n"


class Manifest:
    """The manifest of an output folder, with the lines of all its shards.

    Args:
        folder: output folder, which need not exist yet.
        part: name of the shard, such as ``2of8``, whose file this run appends to; concurrent runs
            append to theirs.

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
        """Return the state of a picture whose target exists.

        Args:
            name: as in `Entry.input`.
            source: the input file.
            options: options of this run, as in `Entry.options`.
        """
        entry = self.entries.get(name)
        if entry is None or entry.status != "done" or not self._whole(entry):
            return "unknown"
        if entry.options != _as_read(options):
            return "other options"
        return "done" if entry.fingerprint.still_holds(source) else "changed"

    def add(self, entry: Entry) -> None:
        """Append a line and flush it to disk.

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
    """Return options as they are read back from JSON."""
    return json.loads(json.dumps(options))
