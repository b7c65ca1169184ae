"""The words of the command: messages on stderr, with parameters named as options."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress

from restore.messages import LOGGER

# `scale`=3 or `scale` in a text of the core
PARAMETER = re.compile(r"`([a-z_]+)`(=?)")

_flags: dict[str, str] = {}


def use_flags(flags: Mapping[str, str]) -> None:
    """Set the options that replace parameters from now on, such as ``{"label": "--class"}``."""
    _flags.clear()
    _flags.update(flags)


def in_options(text: str) -> str:
    """Replace parameters in a message of the core by options: `scale`=3 becomes --scale 3."""

    def flag(found: re.Match[str]) -> str:
        written = f"--{found[1].replace('_', '-')}"
        option = _flags.get(found[1], written if written in _flags.values() else "")
        return f"{option}{' ' if found[2] else ''}" if option else found[0]

    return PARAMETER.sub(flag, text)


class StderrHandler(logging.Handler):
    """Prints messages on whatever stderr is at the time, in the words of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        text = in_options(record.getMessage())
        prefix = "restore: error: " if record.levelno >= logging.ERROR else ""
        with suppress(OSError):  # nobody listens any more
            print(f"{prefix}{text}", file=sys.stderr, flush=True)


def show_messages() -> None:
    """Have the messages of the package printed on stderr, and no text fail for its letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    LOGGER.setLevel(logging.INFO)
    if not any(isinstance(handler, StderrHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(StderrHandler())
