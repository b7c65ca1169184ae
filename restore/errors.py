"""Errors a user can meet. Each carries the exit code that the `restore` command ends with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RestoreError(Exception):
    """Base of every error raised on purpose; its text is written for the user."""

    exit_code = 15


class BadArgument(RestoreError, ValueError):
    """An option or argument has a value that cannot be used."""

    exit_code = 1


class UnreadableInput(RestoreError, ValueError):
    """A file is not a picture that can be read, or is damaged."""

    exit_code = 2


class Unavailable(RestoreError, RuntimeError):
    """A model, device or optional package that was asked for is not here."""

    exit_code = 3


class FileAccess(RestoreError, OSError):
    """A file or folder cannot be read or written."""

    exit_code = 5


class NothingToDo(RestoreError):
    """The input names no picture, or every output exists already."""

    exit_code = 6


class SomeFailed(RestoreError):
    """A folder was processed, but some of its pictures failed."""

    exit_code = 10


@contextmanager
def of_option(name: str) -> Iterator[None]:
    """What `operators` says of a text, for the person who wrote it.

    Raises:
        BadArgument: for a ValueError.
        FileAccess: for an OSError, which names the file.
    """
    try:
        yield
    except ValueError as error:
        raise BadArgument(f"`{name}`: {error}") from None
    except OSError as error:
        raise FileAccess(
            f"`{name}`: {error.filename}: cannot be read: {error.strerror or error}"
        ) from None
