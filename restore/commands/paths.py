"""The inputs and the output among the arguments of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restore.errors import BadArgument, FileAccess
from restore.files import looked_up

if TYPE_CHECKING:
    from restore.jobs.inputs import Source

STDIN = Path("-")


def read_paths(
    paths: Sequence[Path], output: Path | None, *, overwrite: bool = False
) -> tuple[Source, Path | None]:
    """Return the inputs and the output.

    Without ``--output`` they are ``IN [OUT]``, with it all paths are inputs, as the names that a
    shell makes of ``*.png``. What could mean either is refused.

    Args:
        paths: the arguments, at least one.
        output: the option ``--output``.
        overwrite: True if OUT may exist.

    Raises:
        BadArgument: several inputs without a folder for their results.
        FileAccess: OUT is a picture that exists.
    """
    if output is not None:
        return _with_output(tuple(paths), output)

    source, *others = paths
    if len(others) > 1:
        folder = paths[-1] if paths[-1].is_dir() else "FOLDER"
        raise BadArgument(
            f"{_listed(paths)}: several inputs need a folder for their results; give --output "
            f"{folder} (restore --help shows the options)"
        )
    if not others:
        return source, None

    target = others[0]
    with looked_up(target, to_write=True):
        both = source.is_file() and target.is_file() and not target.samefile(source)
    if both and not overwrite:
        raise FileAccess(
            f"{target}: exists already; `overwrite` replaces it, and --output FOLDER restores "
            f"both {source} and {target}"
        )

    return source, target


def _with_output(paths: tuple[Path, ...], output: Path) -> tuple[Source, Path]:
    if len(paths) == 1:
        return paths[0], output

    from restore.photo.photograph import SUFFIXES

    with looked_up(output, to_write=True):
        is_picture = output.suffix.lower() in SUFFIXES and not output.is_dir()
    if is_picture:
        raise BadArgument(
            f"{_listed(paths)}: several inputs and --output {output}; give a folder, or one input"
        )

    return paths, output


def _listed(paths: Sequence[Path]) -> str:
    """Return the first paths for a message."""
    more = f", … ({len(paths)} in all)" if len(paths) > 3 else ""
    return ", ".join(map(str, paths[:3])) + more
