"""The outputs of a picture, first all written to the disk, then put in place together.

Each is written and synced under a temporary name in its folder. Then all get their names, the
target last. If one of them cannot, the others are taken back, so that the outputs change together
or not at all. A kill between two names is mended by the next run, see `restore.jobs.manifest`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pretrained.disk import lock, put_in_place, remove, sync_folder
from restore.files import Fingerprint, not_written, refuse_long, temporary_beside


class StagedFile(NamedTuple):
    """A file on the disk that waits for its name.

    Attributes:
        target: its name.
        temporary: where it is, in the same folder.
        fingerprint: its size, time and digest.
    """

    target: Path
    temporary: Path
    fingerprint: Fingerprint


class Staged:
    """Files on the disk that wait for their names; they are locked until they have them.

    Attributes:
        files: the files, in the order in which they get their names.
        drop: removes the temporary files that are left.
    """

    def __init__(self) -> None:
        self.files: list[StagedFile] = []
        self._open: list[BinaryIO] = []
        # also when a run is interrupted before they have their names
        self.drop = weakref.finalize(self, _drop, self.files, self._open)

    def put_in_place(self, *, replace: bool) -> None:
        """Give all files their names, or none; the temporary files are gone then.

        Args:
            replace: True to replace existing files.

        Raises:
            FileAccess: a name is taken, or a file or folder cannot be written.
        """
        moves: list[_Move] = []
        try:
            for file in self.files:
                moves.append(_Move(file, replace))
                moves[-1].go(file.temporary)

            for folder in dict.fromkeys(file.target.parent for file in self.files):
                with _errors_about(folder):
                    sync_folder(folder)
        except BaseException:
            for move in reversed(moves):
                move.take_back()
            raise
        finally:
            for move in moves:
                move.forget_old()
            self.drop()

    def add(self, target: Path, data: bytes) -> None:
        """Write a file under a temporary name and sync it.

        Raises:
            FileAccess: it cannot be written.
        """
        refuse_long(target)
        temporary = temporary_beside(target)
        try:
            with _errors_about(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                status = self._write(temporary, data)
        except BaseException:
            remove(temporary)
            raise

        self.files.append(StagedFile(target, temporary, Fingerprint.of_content(data, status)))

    def _write(self, temporary: Path, data: bytes) -> os.stat_result:
        file = open(temporary, "xb")  # noqa: SIM115  # locked as long as it is open
        self._open.append(file)
        lock(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
        if sys.platform == "win32":  # which renames no open file
            file.close()
        if status.st_size != len(data):
            raise OSError(f"it has {status.st_size:,} bytes on the disk instead of {len(data):,}")

        return status

    def __getstate__(self) -> list[StagedFile]:
        """Hand the files over to another process, which puts them in place."""
        self.drop.detach()
        return self.files

    def __setstate__(self, files: list[StagedFile]) -> None:
        Staged.__init__(self)
        self.files += files


def _drop(files: list[StagedFile], handles: list[BinaryIO]) -> None:
    for file in files:
        remove(file.temporary)
    for handle in handles:
        # one whose data could not be written tries again
        with contextlib.suppress(OSError):
            handle.close()


def stage(files: Mapping[Path, bytes]) -> Staged:
    """Write files under temporary names, to be put in place in the opposite order.

    Missing folders are made.

    Args:
        files: content by target; the first one gets its name last, so that its existence implies
            that of the others.

    Raises:
        FileAccess: one cannot be written; none is left then.
    """
    staged = Staged()
    try:
        for target, data in reversed(list(files.items())):
            staged.add(target, data)
    except BaseException:
        staged.drop()
        raise

    return staged


class _Move:
    """One file on its way to its name, and the way back.

    Args:
        file: the file.
        replace: True if it may replace another one.
    """

    def __init__(self, file: StagedFile, replace: bool) -> None:
        self.target = file.target
        self.replace = replace
        self.identity = _identity(file.temporary)
        self.new = not os.path.lexists(file.target)
        self.old: Path | None = None

    def go(self, temporary: Path) -> None:
        """Give the file its name; the old one stays under a temporary name if it has to."""
        if self.replace and not self.new:
            self._keep_old()
        with _errors_about(self.target):
            put_in_place(temporary, self.target, replace=self.replace)

    def take_back(self) -> None:
        """Give the name back to the old file, or to none, if the new one has it."""
        if self.identity is None or _identity(self.target) != self.identity:
            return
        with contextlib.suppress(OSError):
            if self.old is not None:
                os.replace(self.old, self.target)
            elif self.new:
                os.unlink(self.target)

    def forget_old(self) -> None:
        """Remove the old file."""
        if self.old is not None:
            remove(self.old)

    def _keep_old(self) -> None:
        old = temporary_beside(self.target)
        # without hard links the old file is gone when the new one has its name
        with contextlib.suppress(OSError, NotImplementedError):
            os.link(self.target, old, follow_symlinks=False)
            self.old = old


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    """Turn errors of the system into those of a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise not_written(path, error) from error
