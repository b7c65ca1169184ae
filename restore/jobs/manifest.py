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

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pretrained.disk import put_in_place, remove, sync_folder
from restore.files import Fingerprint
from restore.jobs.entry import Entry
from restore.jobs.manifest_files import (
    NAME,
    append,
    excluded_by,
    journals_in,
    lines_of,
    manifests_in,
    versions,
)
from restore.jobs.staging import Staged

# State of a picture whose target exists: done; done from an input that has changed since; done with
# other options; done, but an output has changed since; killed while its outputs got their names; or
# not recorded in the manifest.
State = Literal["done", "changed", "other options", "altered", "unfinished", "unknown"]


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
        if self._versions == versions(self._files()):
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
        return {name for path in self._own_journals() for name in lines_of(path)[0]}

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
        append(path, entry)
        self._versions |= versions([path])

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
        return [*manifests_in(self.folder), *journals_in(self.folder)]

    def _read(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.odd: list[str] = []
        self._versions = versions(self._files())
        for path in manifests_in(self.folder):
            found, odd = lines_of(path)
            self.odd += odd
            for name, entry in found.items():
                # what a run of the whole folder did may be older than what a shard did
                if name not in self.entries or self.entries[name].moment <= entry.moment:
                    self.entries[name] = entry

        self.begun: dict[str, Entry] = {}
        for path in journals_in(self.folder):
            self.begun |= {n: e for n, e in lines_of(path)[0].items() if e.status == "begun"}


def _same_outputs(begun: Entry, entry: Entry | None) -> bool:
    """Return True if a picture is recorded as done with the outputs that it was begun with."""
    if entry is None or entry.status != "done" or entry.outputs != begun.outputs:
        return False
    return [one.sha256 for one in entry.written] == [one.sha256 for one in begun.written]


def _holds(path: Path, fingerprint: Fingerprint | None) -> bool:
    """Return True if a file exists and has this content."""
    if fingerprint is None:
        return False
    try:
        return fingerprint.still_holds(path)
    except OSError:
        return False


def _as_read(options: Mapping[str, Any]) -> Any:
    """Return options as they are read back from JSON."""
    return json.loads(json.dumps(options))
