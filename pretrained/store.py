"""The cache folder of downloaded checkpoints: listing, installing, checking and removing them.

The folder holds:

- ``models/NAME/``: the files of a checkpoint and, once all are complete and checked,
  ``installed.json``;
- ``pinned/NAME.json``: digests of files for which the catalogue has none; they stay when the files
  are removed;
- ``locks/``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pretrained import hub
from pretrained.catalogue import Entry, RemoteFile, classifiers, entries, latent_models, metrics
from pretrained.classifier_description import is_classifier
from pretrained.disk import sha256, written_whole
from pretrained.download import (
    OFFLINE_VARIABLE,
    CacheError,
    Progress,
    download,
    is_offline,
    take_over,
)
from pretrained.errors import CheckpointError
from pretrained.tables import read_json

CACHE_VARIABLE = "RESTORE_CACHE"
_RECORD = "installed.json"


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be installed.

    Attributes:
        name: Name that ``--model`` takes.
        entry: Its entry in the catalogue, or None.
        repository: ``OWNER/REPO`` on the Hugging Face hub; empty if it is elsewhere.
        revision: Branch, tag or commit there; empty if it is elsewhere.
    """

    name: str
    entry: Entry | None = None
    repository: str = ""
    revision: str = ""

    @property
    def folder(self) -> Path:
        """Folder of its files, whether or not it is installed."""
        return cache_folder() / "models" / self.key

    @property
    def key(self) -> str:
        """Its name as a file name."""
        return self.name.replace(hub.PREFIX, "hf--").replace("/", "--")

    @property
    def is_metric(self) -> bool:
        """Whether it is a network of a metric, and no model of pictures."""
        return self.entry is not None and not self.entry.config

    @property
    def is_classifier(self) -> bool:
        """Whether it is a classifier of noisy pictures, and no model of pictures."""
        return self.entry is not None and is_classifier(self.entry.config)

    def listing(self) -> hub.Listing:
        """List its files, the weights first; asks the hub about a repository.

        Raises:
            CheckpointError: The hub does not answer, or has no single weights file there.
        """
        if self.repository:
            return hub.listing(self.repository, self.revision)
        assert self.entry is not None
        assert self.entry.file is not None
        return hub.Listing("", [self.entry.file])


@dataclass(frozen=True)
class Installed:
    """An installed checkpoint.

    Attributes:
        folder: Folder of its files.
        weights: Path of the weights file.
        files: For each file name, of a pipeline with its folder, its ``size``, its ``sha256``, the
            address it came ``from`` and its ``digest``: ``published``, or ``pinned`` at the first
            download.
        commit: Commit of the hub's repository, or empty.
    """

    folder: Path
    weights: Path
    files: Mapping[str, Mapping[str, Any]]
    commit: str

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(facts["size"] for facts in self.files.values())

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights when they were installed, hexadecimal."""
        digest: str = self.files[self.weights.name]["sha256"]
        return digest


def cache_folder() -> Path:
    """The cache folder: ``RESTORE_CACHE``, or the system's folder for caches of the user."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)

    from platformdirs import user_cache_dir

    return Path(user_cache_dir("restore-diffusion"))


def source_of(model: str) -> Source | None:
    """Look up a name of the catalogue or ``hf:OWNER/REPO[@REVISION]``; None for anything else.

    Raises:
        CheckpointError: ``hf:`` and something that is no repository.
    """
    if model.startswith(hub.PREFIX):
        repository, revision = hub.parse(model)
        return Source(model, None, repository, revision)

    known = (entries(), latent_models(), classifiers(), metrics())
    entry = next((table[model] for table in known if model in table), None)
    if entry is None:
        return None

    return Source(model, entry, *((entry.hub, "main") if entry.hub else ()))


def installed(source: Source) -> Installed | None:
    """Find an installed checkpoint; None unless all of its files are there with their sizes.

    Raises:
        CacheError: The folder cannot be read.
    """
    facts = _record(source.folder)
    if facts is None:
        return None

    found = Installed(
        source.folder, source.folder / facts["weights"], facts["files"], facts["commit"]
    )
    sizes = {name: each["size"] for name, each in found.files.items()}

    return (
        found if all(_size(found.folder / name) == size for name, size in sizes.items()) else None
    )


def all_installed() -> dict[str, Installed]:
    """All installed checkpoints by name, those of the hub included.

    Raises:
        CacheError: The folder cannot be read.
    """
    records = (_record(path.parent) for path in cache_folder().glob(f"models/*/{_RECORD}"))
    names = sorted(record["name"] for record in records if record is not None)
    sources = (source for name in names if (source := source_of(name)) is not None)
    return {source.name: found for source in sources if (found := installed(source)) is not None}


def _record(folder: Path) -> dict[str, Any] | None:
    """Record of a complete installation, or None."""
    return _json(folder / _RECORD, ("name", "weights", "commit", "files"))


def _json(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """Read a record with these keys; None if there is no file.

    Raises:
        CacheError: The file cannot be read, or is no such record.
    """
    try:
        record = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise CacheError(
            f"{path}: cannot be read: {error}; remove that file to begin anew"
        ) from None

    if not isinstance(record, dict) or not record.keys() >= set(keys):
        raise CacheError(f"{path}: is no record of ours; remove that file to begin anew")
    return record


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def install(
    source: Source,
    progress: Progress = lambda done, total: None,
    *,
    local: Path | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> Installed:
    """Download a checkpoint unless it is installed.

    If several processes ask for the same one, one downloads it and the others wait.

    Args:
        source: The checkpoint.
        progress: Called with the progress of the current file.
        local: A file that was fetched by other means, used instead of a download.
        notice: Called with a message if another process is waited for.

    Raises:
        CheckpointError: The published files cannot be downloaded; what was received is kept for the
            next attempt.
        CacheError: The folder cannot be written.
    """
    if local is None and is_offline():
        raise CheckpointError(
            f"{source.name} is not installed, and {OFFLINE_VARIABLE} is set: nothing is downloaded"
        )

    with _Lock(source, notice):
        if (found := installed(source)) is not None:
            return found
        commit, files = source.listing() if local is None else hub.Listing("", [_only_file(source)])
        bring = (
            partial(download, progress=progress) if local is None else partial(_taken, local=local)
        )
        facts = {file.name: _brought(source, file, bring) for file in files}
        record = {"name": source.name, "weights": files[0].name, "commit": commit, "files": facts}
        pins = {file.name: facts[file.name]["sha256"] for file in files if _is_pinned(source, file)}
        if pins:
            _write(_pins(source), pins)
        _write(source.folder / _RECORD, record)  # last, since it marks a complete installation

    done = installed(source)
    assert done is not None

    return done


def faults(source: Source, found: Installed) -> list[str]:
    """Read the files of an installed checkpoint and describe each that has changed since."""
    return [
        f"{found.folder / name} has changed: its SHA-256 is not {facts['sha256']}"
        for name, facts in found.files.items()
        if sha256(found.folder / name) != facts["sha256"]
    ]


def remove(source: Source) -> int:
    """Remove a checkpoint and partial downloads of it; pinned digests stay.

    Returns:
        The number of bytes that were freed.

    Raises:
        CacheError: It cannot be removed.
    """
    with _Lock(source, lambda text: None):
        freed = sum(path.stat().st_size for path in source.folder.rglob("*") if path.is_file())
        try:
            # The record goes first, so that what a kill leaves never looks complete.
            (source.folder / _RECORD).unlink(missing_ok=True)
            if source.folder.exists():
                shutil.rmtree(source.folder)
        except OSError as error:
            raise CacheError(
                f"{source.folder}: cannot be removed: {error.strerror or error}"
            ) from None
    return freed


def _only_file(source: Source) -> RemoteFile:
    if source.entry is None or source.entry.file is None:
        raise CheckpointError(
            f"{source.name} is a repository; give its folder as `model`=FOLDER instead"
        )
    return source.entry.file


def _taken(file: RemoteFile, folder: Path, local: Path) -> str:
    take_over(file, folder, local)
    return str(local)


def _brought(
    source: Source, file: RemoteFile, bring: Callable[[RemoteFile, Path], str]
) -> dict[str, Any]:
    """Bring a file into the folder and return its record, see `Installed.files`.

    Args:
        bring: Downloads or copies a file into a folder and returns where it came from.

    Raises:
        CheckpointError: It cannot be had, or differs from its pinned digest.
    """
    path = source.folder / file.name
    origin = bring(replace(file, name=path.name), path.parent)
    digest = file.sha256 or sha256(path)
    if _is_pinned(source, file):
        _compare_with_pin(source, file.name, digest)

    kind = "published" if file.is_published else "pinned"
    return {"size": path.stat().st_size, "sha256": digest, "from": origin, "digest": kind}


def _is_pinned(source: Source, file: RemoteFile) -> bool:
    """Whether later downloads must have the digest of the first.

    The hub's digests count for nothing here: a server can change them together with its files.
    """
    return bool(source.repository) or file.sha256 is None


def _compare_with_pin(source: Source, name: str, digest: str) -> None:
    pinned = (_json(_pins(source), ()) or {}).get(name, digest)
    if pinned != digest:
        (source.folder / name).unlink()
        raise CheckpointError(
            f"{name} of {source.name} has changed since it was first downloaded: its SHA-256 "
            f"is {digest}, and {pinned} is pinned in {_pins(source)}; if you trust the new file, "
            "remove that one"
        )


def _pins(source: Source) -> Path:
    return cache_folder() / "pinned" / f"{source.key}.json"


def _write(path: Path, record: Mapping[str, Any]) -> None:
    try:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CacheError(f"{path}: cannot be written: {error.strerror or error}") from None


class _Lock:
    """Lock on a checkpoint's folder against other processes."""

    def __init__(self, source: Source, notice: Callable[[str], None]) -> None:
        self.source = source
        self.notice = notice
        self.path = cache_folder() / "locks" / f"{source.key}.lock"

    def __enter__(self) -> None:
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.path)
            try:
                self.lock.acquire(timeout=0)
            except Timeout:
                self.notice(
                    f"{self.source.name} is being downloaded by another process; waiting for it"
                )
                self.lock.acquire()
        except OSError as error:
            raise CacheError(
                f"{self.path.parent}: cannot be written: {error.strerror or error}; "
                "RESTORE_CACHE=FOLDER chooses another folder"
            ) from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
