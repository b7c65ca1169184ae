"""The inputs of a run, and the pictures that they hold, each with its place in the output."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePath

from restore.errors import BadArgument
from restore.files import looked_up
from restore.jobs.selection import check_input, is_pattern, listed, matched, root_of
from restore.jobs.walk import PassedOver, pictures_in, why_unread

# A file, a folder or a pattern; or several of them.
Source = Path | tuple[Path, ...]


def named(source: Source) -> str:
    """Return the inputs for a message."""
    return str(source) if isinstance(source, Path) else f"{len(source)} inputs"


def root_of_all(sources: tuple[Path, ...]) -> Path:
    """Return the folder that holds all inputs, for the messages of their run.

    Raises:
        FileAccess: an input is not there.
        BadArgument: one is stdin.
    """
    for source in sources:
        if str(source) == "-":
            raise BadArgument("- is one input, from stdin; give files alone")
        check_input(source)

    folders = [os.path.abspath(source.parent) for source in sources]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on several drives
        return Path(folders[0])


def pictures_of(
    source: Source,
    root: Path,
    suffixes: frozenset[str],
    *,
    leave_out: Collection[Path] = (),
    files_from: Path | None = None,
    passed: PassedOver,
) -> dict[Path, PurePath]:
    """Return the pictures of the inputs, with their paths below the output folder.

    A folder or pattern is mirrored there. Of several inputs, files go straight into it, and folders
    into a folder of their name.

    Args:
        source: the inputs; several files may have any suffix.
        root: the folder, or that of the pattern.
        suffixes: suffixes of pictures in lower case.
        leave_out: folders to skip.
        files_from: a list of the files to take from the folder.
        passed: counts what is passed over.

    Raises:
        RestoreError: an input cannot be read, or matches nothing.
    """
    if isinstance(source, tuple):
        return {
            path: place
            for one in source
            for path, place in _of_several(one, suffixes, leave_out, passed).items()
        }

    if files_from is not None:
        found = listed(root, files_from)
    elif is_pattern(source):
        found = _matched(source, suffixes, passed)
    else:
        found = list(pictures_in(root, suffixes, leave_out, passed))

    return {path: path.relative_to(root) for path in found}


def _of_several(
    source: Path, suffixes: frozenset[str], leave_out: Collection[Path], passed: PassedOver
) -> dict[Path, PurePath]:
    """Return the pictures of one of several inputs, see `pictures_of`."""
    if is_pattern(source):
        root = root_of(source)
        return {path: path.relative_to(root) for path in _matched(source, suffixes, passed)}
    with looked_up(source):
        if not source.is_dir():
            return {source: PurePath(source.name)}

    name = PurePath(os.path.abspath(source)).name
    found = pictures_in(source, suffixes, leave_out, passed)
    return {path: PurePath(name, path.relative_to(source)) for path in found}


def _matched(pattern: Path, suffixes: frozenset[str], passed: PassedOver) -> list[Path]:
    """Return the pictures that match a pattern."""
    files = matched(pattern)
    unread = [why_unread(path) for path in files if path.suffix.lower() not in suffixes]
    passed.update(reason for reason in unread if reason is not None)
    return [path for path in files if path.suffix.lower() in suffixes]
