"""Requests whose input is a clip: which options they take, and where the output goes."""

from __future__ import annotations

from pathlib import Path

from restore.errors import BadArgument
from restore.files import looked_up
from restore.film.apart import check_installed
from restore.film.containers import check_target
from restore.jobs.request import Request, start_file


def check_request(request: Request) -> None:
    """Check what can be checked before a clip is opened.

    Raises:
        BadArgument: options that a clip does not have, or a task that takes none.
        Unavailable: PyAV is not installed.
    """
    refuse_options(request)
    request.task.check_clip()
    check_installed()


def refuse_options(request: Request) -> None:
    """Refuse options that a clip does not have.

    Raises:
        BadArgument: one is given.
    """
    options = request.options
    several = isinstance(request.source, Path) and request.source.is_dir()
    what = "holds clips alone" if several else "is a clip"
    given = {
        "samples": options.samples > 1,
        "start": start_file(options) is not None,
        "pages": request.pages,
        "compare": request.compare,
        "report": request.report is not None,
        "watch": request.watch,
        "files_from": request.files_from is not None,
        "shard": request.shard is not None,
        "engine": request.cluster is not None,
        "format": request.output.format is not None,
        "depth": request.output.depth is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise BadArgument(f"`{name}`: is for pictures, and {request.source} {what}")
    if str(request.target) == "-":
        raise BadArgument("-: a clip cannot be written to stdout; give an output file")


def target_of(source: Path, target: Path | None, task: str) -> Path:
    """Return the output of a clip: ``NAME-TASK.SUFFIX`` beside it by default.

    Raises:
        BadArgument: an output that is no clip.
    """
    if target is None:
        return source.with_name(f"{source.stem}-{task}{source.suffix}")
    with looked_up(target, to_write=True):
        if target.is_dir():
            target = target / source.name
    check_target(target)
    return target
