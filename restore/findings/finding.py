"""One thing that was found out about a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was found of one degradation, for records.

    Attributes:
        about: the degradation.
        value: its strength: a standard deviation, a kernel as text, or how a JPEG was saved; empty
            if it was not found.
        treated: True if it is to be undone.
        words: the finding in words.
    """

    about: Literal["noise", "blur", "jpeg"]
    value: str
    treated: bool
    words: str
