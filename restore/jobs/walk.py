"""The pictures below a folder, and what is passed over there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from restore.errors import FileAccess
from restore.film.containers import is_clip
from restore.photo import formats


class Reason(NamedTuple):
    """Why something in a folder is passed over.

    Attributes:
        one: what one of them is called.
        many: what several are called.
        remedy: what to do to have them restored.
    """

    one: str
    many: str
    remedy: str = ""

    def counted(self, count: int) -> str:
        """Return text like ``2 hidden folders``."""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{count} {self.one if count == 1 else self.many}{remedy}"


HIDDEN_FOLDER = Reason("hidden folder", "hidden folders")
HIDDEN_FILE = Reason("hidden picture", "hidden pictures")
SPECIAL = Reason("named pipe, socket or device", "named pipes, sockets or devices")
LINK = Reason("link that leads elsewhere", "links that lead elsewhere")
CLIP = Reason("clip", "clips", "give each by itself, or a folder of clips alone")
RAW = Reason("camera raw", "camera raws", "restore develop makes pictures of them")

# fmt: off
_RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc",
    ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl",
    ".sr2", ".srf", ".srw", ".x3f",
))
# fmt: on
# Folders of systems and programs whose names have no dot: of a NAS, of zip files of macOS, of the
# recycle bin and restore points of Windows, and of file system checks.
_SYSTEM_FOLDERS = frozenset(
    ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)
# Pictures of formats that this package does not know, by suffix.
_UNKNOWN = {".jxl": "JPEG XL", ".psd": "PSD", ".xcf": "XCF"}
_REMEDIES = {"HEIF": "pip install 'restore-diffusion[heic]' has them read"}


class PassedOver(Counter[Reason]):
    """The number of files and folders that a walk left out, by the reason.

    Files with suffixes that no picture has do not count.

    >>> str(PassedOver([HIDDEN_FOLDER, RAW, HIDDEN_FOLDER]))
    '2 hidden folders, 1 camera raw (restore develop makes pictures of them)'
    """

    def __str__(self) -> str:
        return ", ".join(reason.counted(count) for reason, count in self.items())


def pictures_in(
    folder: Path,
    suffixes: frozenset[str],
    leave_out: Collection[Path] = (),
    passed: PassedOver | None = None,
) -> Iterator[Path]:
    """Yield files with these suffixes below a folder, in name order, those of sub-folders last.

    Hidden files and folders, whose names begin with a dot, belong to the system and its programs:
    they are passed over, as are its folders of other names, and special files. Links to folders,
    and out of the folder, are not followed. A picture beside the measurement of its name is skipped
    if measurements are among the suffixes.

    Args:
        folder: the folder, which may be hidden itself.
        suffixes: suffixes in lower case.
        leave_out: folders to skip, such as that of the outputs.
        passed: counts what is passed over.

    Raises:
        FileAccess: a sub-folder cannot be read.
    """
    root = os.path.realpath(folder)
    skipped = {os.path.realpath(other) for other in leave_out}
    passed = PassedOver() if passed is None else passed
    left = [folder]

    while left:
        place = left.pop()
        entries = _entries(place)
        names = {entry.name for entry in entries}
        folders = []

        for entry in entries:
            path = place / entry.name
            if entry.is_dir(follow_symlinks=False):
                if os.path.realpath(path) in skipped:
                    continue
                if is_hidden_folder(entry.name):
                    passed[HIDDEN_FOLDER] += 1
                else:
                    folders.append(path)
            elif reason := _why_passed(entry, path, suffixes, root):
                passed[reason] += 1
            elif path.suffix.lower() in suffixes and not _is_shadowed(path, suffixes, names):
                yield path

        left += reversed(folders)


def is_hidden_folder(name: str) -> bool:
    """Return True for the name of a folder that belongs to the system and its programs."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def why_unread(path: Path) -> Reason | None:
    """Return why a picture is passed over whose format cannot be read here; None for other files.

    Args:
        path: a file whose suffix is not among those that are taken.
    """
    suffix = path.suffix.lower()
    if suffix in _RAW_SUFFIXES:
        return RAW
    if is_clip(path):
        return CLIP

    known = (format for format in formats.FORMATS if suffix in format.suffixes)
    title, name = next(((f.title, f.name) for f in known), (_UNKNOWN.get(suffix), ""))
    if title is None:
        return None
    return Reason(f"{title} picture", f"{title} pictures", _REMEDIES.get(name, "not read here"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise FileAccess(f"{folder}: cannot be read: {error.strerror or error}") from error


def _is_shadowed(path: Path, suffixes: frozenset[str], names: Collection[str]) -> bool:
    """Return True for a picture whose measurement is beside it and is taken."""
    return ".npz" in suffixes and path.suffix != ".npz" and path.with_suffix(".npz").name in names


def _why_passed(
    entry: os.DirEntry[str], path: Path, suffixes: frozenset[str], root: str
) -> Reason | None:
    """Return why an entry that is no folder is passed over, if it looks like a picture."""
    linked = entry.is_symlink()
    if linked and os.path.isdir(path):
        return LINK
    if path.suffix.lower() not in suffixes:
        return None if entry.name.startswith(".") else why_unread(path)
    if entry.name.startswith("."):
        return HIDDEN_FILE
    if linked and not Path(os.path.realpath(path)).is_relative_to(root):
        return LINK
    # a link that leads nowhere stays, to be reported as missing
    if os.path.exists(path) and not os.path.isfile(path):
        return SPECIAL

    return None
