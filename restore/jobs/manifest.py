"""The manifest of a folder run: a line of JSON for each picture, in the output folder.

The line of a picture is written after all its outputs. It has their size, time and SHA-256, and the
picture counts as done only while its outputs are what was written. Lines are only appended; the
last line of a picture counts, a line that cannot be read is passed over, and a last one that a kill
cut off goes when the next one is written.

Beside the manifest, a run has a journal as long as it is at work: before the outputs of a picture
get their names, a line says which files are about to get them. What a killed run was about to do is
finished from there by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pretrained.disk import put_in_place, remove, sync_folder
from restore import __version__
from restore.errors import FileAccess
from restore.files import Fingerprint, is_temporary, not_written, read_once
from restore.jobs.staging import Staged

NAME = "restore.jsonl"
_MANIFEST = re.compile(r"restore(-[0-9]+of[0-9]+)?\.jsonl")
_JOURNAL = re.compile(r"restore(-[0-9]+of[0-9]+)?\.journal")

# State of a picture whose target exists: done; done from an input that has changed since; done with
# other options; done, but an output has changed since; killed while its outputs got their names; or
# not recorded in the manifest.
State = Literal["done", "changed", "other options", "altered", "unfinished", "unknown"]


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
        status: ``done`` or ``failed``; in the journal ``begun``.
        error: reason of a failure.
        version: version of restore.
        written: fingerprints of the outputs; empty in the lines of older versions.
        temporaries: paths of the outputs before they get their names, in the journal.
        kernels: what was found about an unknown blur, see `restore.blind.estimate.Finding`.
        damage: what was found of scratches, see `restore.blind.scratches.Damage`.
    """

    input: str
    fingerprint: Fingerprint
    options: Mapping[str, Any]
    outputs: Sequence[str] = ()
    seconds: float = 0.0
    status: Literal["begun", "done", "failed"] = "done"
    error: str = ""
    version: str = field(default=__version__)
    written: Sequence[Fingerprint] = ()
    temporaries: Sequence[str] = ()
    kernels: Sequence[Mapping[str, Any]] = ()
    damage: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, line: str) -> Entry | None:
        """Parse a line; None if it is not a complete line of a manifest."""
        try:
            table = json.loads(line)
            known = {f.name: table[f.name] for f in fields(cls) if f.name in table}
            known["fingerprint"] = Fingerprint(**known["fingerprint"])
            known["written"] = [Fingerprint(**one) for one in known.get("written", [])]
            entry = cls(**known)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return entry if entry._is_sound() else None

    def write(self) -> str:
        table = asdict(self)
        for name in ("temporaries", "kernels", "damage"):
            if not table[name]:
                del table[name]
        return json.dumps(table, sort_keys=True) + "\n"

    @property
    def moment(self) -> int:
        """Time at which the outputs were written, in nanoseconds; 0 if unknown."""
        return max((one.mtime_ns for one in self.written), default=0)

    def _is_sound(self) -> bool:
        """Return True if the values have the types and places that they should have."""
        known = isinstance(self.input, str) and isinstance(self.options, dict)
        if not known or self.status not in ("begun", "done", "failed"):
            return False
        if not isinstance(self.seconds, int | float) or not isinstance(self.error, str):
            return False
        if not all(_is_fingerprint(one) for one in (self.fingerprint, *self.written)):
            return False
        if not all(isinstance(found, list | tuple) for found in (self.kernels, self.damage)):
            return False
        if not isinstance(self.outputs, list) or not all(map(_is_below, self.outputs)):
            return False

        return len(self.written) in (0, len(self.outputs)) and self._has_sound_temporaries()

    def _has_sound_temporaries(self) -> bool:
        """Return True if each file that waits for a name is one of ours, beside that name."""
        if self.status != "begun":
            return True
        if not isinstance(self.temporaries, list) or not all(map(_is_below, self.temporaries)):
            return False
        if not len(self.temporaries) == len(self.written) == len(self.outputs) > 0:
            return False

        pairs = zip(self.temporaries, self.outputs, strict=True)
        return all(
            PurePosixPath(temporary).parent == PurePosixPath(output).parent
            and is_temporary(PurePosixPath(temporary).name)
            for temporary, output in pairs
        )


def _is_fingerprint(one: Fingerprint) -> bool:
    numbers = isinstance(one.size, int) and isinstance(one.mtime_ns, int)
    return numbers and isinstance(one.sha256, str)


def _is_below(name: Any) -> bool:
    """Return True for the path of a file below a folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not Path(name).is_absolute()


class Manifest:
    """The manifest of an output folder, with the lines of all its shards.

    Args:
        folder: output folder, which need not exist yet.
        part: name of the shard, such as ``2of8``, whose file this run appends to; concurrent runs
            append to theirs.

    Attributes:
        path: the file that this run appends to.
        journal: the file in which this run says what it is about to do.
        entries: last line of each picture.
        begun: last line in a journal of each picture whose outputs may not be in place.
        odd: places of lines that were passed over.

    Raises:
        FileAccess: a manifest that cannot be read.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self.path = folder / (f"{Path(NAME).stem}-{part}.jsonl" if part else NAME)
        self.journal = self.path.with_suffix(".journal")
        self._read()

    def refresh(self) -> bool:
        """Read the manifest again if another run has written to it; return whether one has.

        Raises:
            FileAccess: a manifest that cannot be read.
        """
        if self._versions == _versions(self._files()):
            return False
        self._read()
        return True

    def state(self, name: str, source: Path, options: Mapping[str, Any]) -> State:
        """Return the state of a picture of which an output exists.

        The outputs of a picture that is done have the recorded size, and the recorded time or
        digest.

        Args:
            name: as in `Entry.input`.
            source: the input file.
            options: options of this run, as in `Entry.options`.
        """
        entry = self.entries.get(name)
        begun = self.begun.get(name)
        if begun is not None:
            new = [_holds(path, one) for path, one in self._outputs(begun)]
            if all(new):
                entry = begun
            elif any(new) and self._is_ours(begun):
                return "unfinished"

        if entry is None or entry.status == "failed":
            return "unknown"
        if not self._is_there(entry):
            return "unfinished" if self._lacks_target(entry) else "unknown"
        if not all(_holds(path, one) for path, one in self._outputs(entry)):
            return "altered"
        if entry.options != _as_read(options):
            return "other options"
        return "done" if _holds(source, entry.fingerprint) else "changed"

    def begin(self, entry: Entry, staged: Staged) -> Entry:
        """Write into the journal which files are about to become the outputs of a picture.

        Args:
            entry: the line of the picture, without outputs.
            staged: the outputs.

        Returns:
            The line of the picture when it is done.

        Raises:
            FileAccess: it cannot be written.
        """
        # in the order in which people know them, the target first
        files = staged.files[::-1]
        done = replace(
            entry,
            outputs=[self._below(file.target) for file in files],
            written=[file.fingerprint for file in files],
        )
        temporaries = [self._below(file.temporary) for file in files]
        begun = replace(done, status="begun", temporaries=temporaries)
        self._append(self.journal, begun)
        self.begun[entry.input] = begun

        return done

    def add(self, entry: Entry) -> None:
        """Append a line and flush it to disk.

        Raises:
            FileAccess: it cannot be written.
        """
        self._append(self.path, entry)
        self.entries[entry.input] = replace(entry, options=_as_read(entry.options))

    def settle(self) -> bool:
        """Finish what killed runs have begun: give the files that are left their names.

        This run must have kept other runs out, see `excluded_by`.

        Returns:
            True if a picture is done now.

        Raises:
            FileAccess: the manifest cannot be written.
        """
        finished = [entry for entry in self._unsettled() if self._finish(entry)]
        for entry in finished:
            self.add(replace(entry, status="done", temporaries=()))

        return bool(finished)

    def close(self) -> None:
        """Remove the journals of which nothing is left to do."""
        if not any(map(self._is_half_done, self._unsettled())):
            for path in self._own_journals():
                remove(path)

    def foreign_temporaries(self) -> set[Path]:
        """Return the files with which other shards, which may be running, are about to go on."""
        own = self._own_names()
        others = (entry for name, entry in self.begun.items() if name not in own)
        return {self.folder / name for entry in others for name in entry.temporaries}

    def _unsettled(self) -> list[Entry]:
        """Return the pictures that this run, or one that it keeps out, was about to finish."""
        own = self._own_names()
        begun = [entry for name, entry in self.begun.items() if name in own]
        return [entry for entry in begun if not _same_outputs(entry, self.entries.get(entry.input))]

    def _own_names(self) -> set[str]:
        """Return the pictures in the journals of this run and of those that it keeps out."""
        return {name for path in self._own_journals() for name in _lines(path)[0]}

    def _own_journals(self) -> list[Path]:
        return [path for path in excluded_by(self.journal) if path.exists()]

    def _finish(self, entry: Entry) -> bool:
        """Put the outputs of a picture in place that are not yet; return whether all are."""
        waiting = []
        old = self._old(entry)
        for name, (target, one) in zip(entry.temporaries, self._outputs(entry), strict=True):
            temporary = self.folder / name
            if _holds(target, one):
                continue
            if temporary.is_symlink() or not _holds(temporary, one):
                return False
            if os.path.lexists(target) and not _holds(target, old.get(target)):
                return False
            waiting.append((temporary, target))

        try:
            for temporary, target in waiting:
                put_in_place(temporary, target)
            for folder in {target.parent for target, _ in self._outputs(entry)}:
                sync_folder(folder)
        except OSError:
            return False

        return True

    def _append(self, path: Path, entry: Entry) -> None:
        _append(path, entry)
        self._versions |= _versions([path])

    def _is_half_done(self, begun: Entry) -> bool:
        """Return True if some outputs of a picture are in place."""
        return any(_holds(path, one) for path, one in self._outputs(begun))

    def _is_ours(self, begun: Entry) -> bool:
        """Return True if every output that exists was written by this picture's last two runs."""
        old = self._old(begun)
        return all(
            not os.path.lexists(path) or _holds(path, new) or _holds(path, old.get(path))
            for path, new in self._outputs(begun)
        )

    def _old(self, begun: Entry) -> dict[Path, Fingerprint]:
        """Return the outputs of the run before, as far as their fingerprints are known."""
        entry = self.entries.get(begun.input)
        return {} if entry is None else dict(self._outputs(entry))

    def _is_there(self, entry: Entry) -> bool:
        return bool(entry.outputs) and all((self.folder / name).is_file() for name in entry.outputs)

    def _lacks_target(self, entry: Entry) -> bool:
        """Return True if the target is gone, and the other outputs are as they were written."""
        if not entry.written:
            return False
        first, *others = self._outputs(entry)
        return not os.path.lexists(first[0]) and all(
            _holds(path, one) or not os.path.lexists(path) for path, one in others
        )

    def _outputs(self, entry: Entry) -> Iterator[tuple[Path, Fingerprint]]:
        """Yield path and fingerprint of each output; none for the lines of older versions."""
        for name, one in zip(entry.outputs, entry.written, strict=False):
            yield self.folder / name, one

    def _below(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _files(self) -> list[Path]:
        """Return the manifests and journals in the folder."""
        return [*manifests_in(self.folder), *_named(self.folder, _JOURNAL)]

    def _read(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.odd: list[str] = []
        self._versions = _versions(self._files())
        for path in manifests_in(self.folder):
            found, odd = _lines(path)
            self.odd += odd
            for name, entry in found.items():
                # what a run of the whole folder did may be older than what a shard did
                if name not in self.entries or self.entries[name].moment <= entry.moment:
                    self.entries[name] = entry

        self.begun: dict[str, Entry] = {}
        for path in _named(self.folder, _JOURNAL):
            self.begun |= {n: e for n, e in _lines(path)[0].items() if e.status == "begun"}


def manifests_in(folder: Path) -> list[Path]:
    """Return the manifests in a folder: those of shards, and that of the whole folder.

    Raises:
        FileAccess: the folder cannot be read.
    """
    return _named(folder, _MANIFEST)


def excluded_by(own: Path) -> list[Path]:
    """Return the journals in a folder that nobody may hold while a run holds its own.

    A shard goes with other shards of its division, not with those of others nor with a run on the
    whole folder.

    Args:
        own: the journal of the run.

    Returns:
        ``own`` and the other ones that exist, in an order that is the same for all runs.
    """

    def division(path: Path) -> str:
        return path.stem.partition("of")[2]

    others = [
        path
        for path in _named(own.parent, _JOURNAL)
        if not division(own) or division(path) != division(own)
    ]
    return sorted({own, *others}, key=lambda path: (division(path) != "", path.name))


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileAccess(f"{folder}: cannot be read: {error.strerror or error}") from error

    return sorted(folder / name for name in names if pattern.fullmatch(name))


def _lines(path: Path) -> tuple[dict[str, Entry], list[str]]:
    """Return the last entry of each picture in a file, and the places of lines that are none.

    Raises:
        FileAccess: the file cannot be read.
    """
    data, _ = read_once(path)
    entries: dict[str, Entry] = {}
    odd = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        entry = Entry.read(line)
        if entry is not None:
            entries[entry.input] = entry
        elif line.strip():
            odd.append(f"{path}: line {number}")

    return entries, odd


def _append(path: Path, entry: Entry) -> None:
    """Append a line to a file and flush it to disk.

    Raises:
        FileAccess: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            missing = _mended(file)
            with _all_or_nothing(file):
                _write(file, missing + entry.write().encode())
                os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error) from error


def _same_outputs(begun: Entry, entry: Entry | None) -> bool:
    """Return True if a picture is recorded as done with the outputs that it was begun with."""
    if entry is None or entry.status != "done" or entry.outputs != begun.outputs:
        return False
    return [one.sha256 for one in entry.written] == [one.sha256 for one in begun.written]


def _versions(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return size and time of the files that have lines."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):  # removed just now
            status = path.stat()
            if status.st_size:
                found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _holds(path: Path, fingerprint: Fingerprint | None) -> bool:
    """Return True if a file exists and has this content."""
    if fingerprint is None:
        return False
    try:
        return fingerprint.still_holds(path)
    except OSError:
        return False


@contextlib.contextmanager
def _all_or_nothing(file: FileIO) -> Iterator[None]:
    """Cut off what was appended to a file if not all of it could be."""
    size = os.fstat(file.fileno()).st_size
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


def _write(file: FileIO, data: bytes) -> None:
    """Write all of the data, which may take several calls."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _mended(file: FileIO) -> bytes:
    """Remove a last line that a kill cut off, and return what is missing at the end of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if not end or file.read(1) == b"\n":
        return b""

    file.seek(0)
    data = file.readall()
    start = data.rfind(b"\n") + 1
    if Entry.read(data[start:].decode("utf-8", "replace")) is not None:
        return b"\n"

    os.ftruncate(file.fileno(), start)
    return b""


def _as_read(options: Mapping[str, Any]) -> Any:
    """Return options as they are read back from JSON."""
    return json.loads(json.dumps(options))
