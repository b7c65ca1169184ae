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


def say(text: str) -> None:
    """Log a message."""
    LOGGER.info("%s", visible(text))


def complain(text: str) -> None:
    """Log an error that does not end the work."""
    LOGGER.error("%s", visible(text))


def put(text: str) -> None:
    """Print a line on stdout; characters that its encoding lacks are escaped."""
    print(encodable(visible(text), sys.stdout.encoding), flush=True)


def put_json(record: Mapping[str, Any], indent: int | None = None) -> None:
    """Print an object of JSON on stdout, in ASCII where its encoding lacks a character."""
    print(as_json(record, sys.stdout.encoding, indent), flush=True)
