"""`restore.photo.decoding_process` with libraries that fail on pictures that say so.

A picture says it in its resolution, one of `FAULTS`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

from restore.photo import decode, decoding_process
from restore.photo.reading import Stored

# Dots per inch.
ABORTS, SEGFAULTS, HANGS, PRINTS, EXITS = range(91, 96)

# What happens on a picture.
FAULTS = {
    ABORTS: os.abort,
    SEGFAULTS: lambda: ctypes.string_at(0),
    HANGS: lambda: time.sleep(1000),
    PRINTS: lambda: os.write(1, b"on stdout\n") and os.write(2, b"libpng error: on stderr\n"),
    EXITS: lambda: os._exit(0),
}

_decode = decode.decode


def crashing(stored: Stored, *arguments: object) -> object:
    """Decode a picture, or do what it says."""
    decoded = _decode(stored, *arguments)
    dpi = decoded.metadata.dpi
    if dpi is not None and round(dpi[0]) in FAULTS:
        FAULTS[round(dpi[0])]()
    return decoded


def abort(data: bytes, *arguments: object) -> None:
    """End the process on any file."""
    os.abort()


if __name__ == "__main__":
    decode.decode = crashing
    crashing.__module__, crashing.__qualname__ = decode.__name__, "decode"
    decoding_process.serve(float(sys.argv[1]))
