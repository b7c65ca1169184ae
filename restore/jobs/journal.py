"""The lines that a run writes into its manifest, and the files that all its pictures share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.errors import FileAccess
from restore.files import Fingerprint, stamp
from restore.jobs.entry import Entry
from restore.jobs.manifest import Manifest
from restore.jobs.picture import Ended
from restore.jobs.plan import Job
from restore.jobs.staging import Staged


class Journal:
    """Records the pictures of a run.

    Args:
        manifest: the manifest of the output folder.
        name: ``name(job)`` is the name of a picture in the manifest.
        options: ``options(job, used)`` is everything that decides the result, given the digests of
            the files that were used, see `restore.jobs.picture.Loaded`.
        check: called before a picture is recorded; its errors end the run.
    """

    def __init__(
        self,
        manifest: Manifest,
        name: Callable[[Job], str],
        options: Callable[[Job, Mapping[str, str]], dict[str, Any]],
        check: Callable[[], None],
    ) -> None:
        self.manifest = manifest
        self.name = name
        self.options = options
        self.check = check
        self._begun: dict[Job, Entry] = {}

    def begin(self, job: Job, ended: Ended, staged: Staged) -> None:
        """Record that the outputs of a picture are about to get their names.

        Args:
            job: the picture.
            ended: what was done.
            staged: its outputs.

        Raises:
            FileAccess: the manifest cannot be written.
        """
        self.check()
        entry = Entry(
            self.name(job),
            ended.fingerprint,
            self.options(job, ended.used),
            seconds=ended.description.get("seconds", 0.0),
            kernels=ended.description.get("kernels", ()),
            damage=ended.description.get("damage", ()),
        )
        self._begun[job] = self.manifest.begin(entry, staged)

    def finish(self, job: Job) -> None:
        """Record that all outputs of a picture are in place.

        Raises:
            FileAccess: the manifest cannot be written.
        """
        self.manifest.add(self._begun.pop(job))

    def fail(self, job: Job, reason: str) -> None:
        """Record that a picture failed.

        Raises:
            FileAccess: the manifest cannot be written.
        """
        self._begun.pop(job, None)
        fingerprint = _readable(job.source) or Fingerprint(0, 0, "")
        companions = {"mask": job.companion, "start": job.start}
        found = {name: _readable(path) for name, path in companions.items() if path is not None}
        used = {name: one.sha256 for name, one in found.items() if one is not None}
        options = self.options(job, used)
        self.manifest.add(
            Entry(self.name(job), fingerprint, options, status="failed", error=reason)
        )


class SharedFiles:
    """Files that a run reads again for each picture, and which must not change meanwhile.

    Args:
        paths: kernels, masks and networks.

    Attributes:
        digests: SHA-256 of each.

    Raises:
        FileAccess: a file that cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stamps = {path: _stamp(path) for path in paths}
        self._digests = {path: Fingerprint.of(path).sha256 for path in self._stamps}
        self.digests = [self._digests[path] for path in paths]

    def check(self) -> None:
        """Check that no file has changed; one with a new time is read again.

        Raises:
            FileAccess: one has.
        """
        for path, known in self._stamps.items():
            found = _stamp(path)
            if found == known:
                continue
            if Fingerprint.of(path).sha256 != self._digests[path]:
                raise has_changed(path)
            self._stamps[path] = found


def has_changed(path: object) -> FileAccess:
    """Return the error of a file that a run uses and that is not what it was."""
    return FileAccess(
        f"{path}: has changed while a run used it; what is done is recorded, start again"
    )


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return stamp(os.stat(path))
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error


def _readable(path: Path) -> Fingerprint | None:
    """Return the fingerprint of a file; None if it cannot be read."""
    try:
        return Fingerprint.of(path)
    except FileAccess:
        return None
