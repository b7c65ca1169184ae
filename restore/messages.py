"""What is said to people while work goes on, through the logger ``restore``, and on stdout.

A program that uses this package decides where the messages go; the command prints them on stderr.
Everything passes through `restore.text.visible`, since it may have names of files in it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from restore.text import as_json, encodable, visible

LOGGER = logging.getLogger("restore")

# Name of stdout in errors.
STDOUT = "stdout"


def say(text: str) -> None:
    """Log a message."""
    LOGGER.info("%s", visible(text))


def complain(text: str) -> None:
    """Log an error that does not end the work."""
    LOGGER.error("%s", visible(text))


def put(text: str) -> None:
    """Print a line on stdout; characters that its encoding lacks are escaped."""
    _put(encodable(visible(text), sys.stdout.encoding))


def put_json(record: Mapping[str, Any], indent: int | None = None) -> None:
    """Print an object of JSON on stdout, in ASCII where its encoding lacks a character."""
    _put(as_json(record, sys.stdout.encoding, indent))


def _put(text: str) -> None:
    """Print text and flush it.

    Raises:
        OSError: of `STDOUT`, which cannot be written, such as a file on a full disk.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from error
