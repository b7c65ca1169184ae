"""Errors for users, each with the exit code of the `restore` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from restore.text import shortened, visible


class RestoreError(Exception):
    """Base of all errors raised on purpose, whose text is for the user.

    The text shows hidden characters of names as escapes and words of a page's length without their
    middle, see `restore.text`; ``args`` has it as it was given.
    """

    exit_code = 15

    def __str__(self) -> str:
        return visible(shortened(super().__str__()))


class BadArgument(RestoreError, ValueError):
    """An option or argument has an invalid value."""

    exit_code = 1


class UnreadableInput(RestoreError, ValueError):
    """A file is not a readable picture, or is damaged."""

    exit_code = 2


class Unavailable(RestoreError, RuntimeError):
    """A requested model, device or optional package is missing."""

    exit_code = 3


class FileAccess(RestoreError, OSError):
    """A file or folder cannot be read or written."""

    exit_code = 5


class FullDisk(FileAccess):
    """A disk takes no further file: it is full, over quota or read-only."""


class NothingToDo(RestoreError):
    """The input has no picture, or all outputs exist."""

    exit_code = 6


class SomeFailed(RestoreError):
    """Some pictures of a folder failed."""

    exit_code = 10


@contextmanager
def of_option(name: str) -> Iterator[None]:
    """Turn errors of `operators` about a text into errors of an option.

    Raises:
        BadArgument: for a ValueError.
        FileAccess: for an OSError.
    """
    try:
        yield
    except ValueError as error:
        raise BadArgument(f"`{name}`: {error}") from None
    except OSError as error:
        raise FileAccess(
            f"`{name}`: {error.filename}: cannot be read: {error.strerror or error}"
        ) from None
