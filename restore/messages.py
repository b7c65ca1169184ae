"""What is said to people while work goes on, through the logger ``restore``.

A program that uses this package decides where the messages go; the command prints them on stderr.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("restore")


def say(text: str) -> None:
    """Log a message."""
    LOGGER.info("%s", text)


def complain(text: str) -> None:
    """Log an error that does not end the work."""
    LOGGER.error("%s", text)
