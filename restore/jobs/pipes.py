"""One picture through a pipe: ``-`` for stdin and stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from restore.errors import BadArgument, FileAccess, RestoreError, UnreadableInput
from restore.files import not_written
from restore.jobs.inputs import named
from restore.jobs.request import Request
from restore.photo.formats import format_of
from restore.photo.formats.record import HEAD
from restore.photo.photograph import FORMATS

PIPE = Path("-")

# Bytes of the largest picture from stdin: of all pixels that are allowed, in floats with alpha.
MOST_BYTES = 4 * 10**9
CHUNK = 2**20


@contextmanager
def piped(
    request: Request, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
) -> Iterator[Request]:
    """Replace ``-`` in a request by temporary files, and copy the output to stdout at the end.

    Without an output, stdin goes to stdout. The output has the format of the input unless another
    one is chosen.

    Raises:
        BadArgument: several outputs, or other text on stdout.
        UnreadableInput: stdin is empty.
        FileAccess: stdout is closed.
    """
    to_stdout = request.target == PIPE or (request.source == PIPE and request.target is None)
    if request.source != PIPE and not to_stdout:
        yield request
        return
    if to_stdout:
        _refuse_more(request)

    with TemporaryDirectory(prefix="restore-") as place:
        names = dict(request.shown)
        if request.source == PIPE:
            source = _received(
                stdin or sys.stdin.buffer, Path(place), anything=request.task.takes_raws
            )
            request, names[source] = replace(request, source=source), "stdin"
        if to_stdout:
            assert isinstance(request.source, Path)
            target = Path(place, f"stdout{request.output.suffix(request.source)}")
            request, names[target] = replace(request, target=target), "stdout"
        with _named(names):
            yield replace(request, shown=names)
        if to_stdout:
            _send(target.read_bytes(), stdout or sys.stdout.buffer)


@contextmanager
def _named(names: Mapping[Path, str]) -> Iterator[None]:
    """Call temporary files in errors by the names that the user knows."""
    try:
        yield
    except RestoreError as error:
        text = str(error.args[0]) if error.args else ""
        for path, name in names.items():
            text = text.replace(str(path), name)
        error.args = (text,)
        raise


def _refuse_more(request: Request) -> None:
    source = request.source
    if isinstance(source, tuple) or (source != PIPE and source.is_dir()):
        what = "a folder" if isinstance(source, Path) else "several pictures"
        raise BadArgument(
            f"{named(source)}: {what} cannot be written to stdout; give an output folder"
        )

    wanted: dict[str, Any] = {
        "`json`": request.as_json,
        "`samples`": request.options.samples > 1,
        "`compare`": request.compare,
        "`pages`": request.pages,
        "`watch`": request.watch,
        "`dry_run`": request.dry_run,
    }
    for option, given in wanted.items():
        if given:
            raise BadArgument(f"{option}: stdout takes the one picture; give an output file")


def _received(stdin: IO[bytes], folder: Path, *, anything: bool = False) -> Path:
    """Copy stdin to a file; of what is no picture, only the beginning unless anything is taken."""
    head = stdin.read(HEAD)
    if not head:
        raise UnreadableInput("stdin: nothing came; a picture was to come")

    format = format_of(head)
    name = None if format is None else format.name
    suffix = next((suffix for suffix, known in FORMATS.items() if known == name), ".png")
    path = folder / f"stdin{suffix}"
    try:
        with open(path, "wb") as file:
            file.write(head)
            if format is not None or anything:
                _copy(stdin, file, MOST_BYTES - len(head))
    except FileAccess:
        raise
    except OSError as error:
        raise not_written(path, error) from error

    return path


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> None:
    """Copy a stream.

    Raises:
        UnreadableInput: It is longer than so many bytes.
    """
    while chunk := source.read(CHUNK):
        most -= len(chunk)
        if most < 0:
            raise UnreadableInput(
                f"stdin: more than {MOST_BYTES / 1e9:.0f} GB came; no picture is as large"
            )
        target.write(chunk)


def _send(data: bytes, stdout: IO[bytes]) -> None:
    try:
        stdout.write(data)
        stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, which is no error
        raise
    except OSError as error:
        raise FileAccess(f"stdout: cannot be written: {error.strerror or error}") from error
