"""`restore.photo.decoding_process` where the coefficients of a JPEG cannot be read.

The environment variable FAULT says why: libjpeg ``exits``, what it returns is ``wrong``, or jpeglib
is ``missing``.
"""

from __future__ import annotations

import os
import sys

from restore.photo import decoding_process
from restore.photo.formats import jpeg_coefficients

_read = jpeg_coefficients._read


def _wrong(*arguments):
    stored = _read(*arguments)
    stored.components[0].coefficients[...] += 3
    return stored


FAULTS = {
    "exits": lambda: setattr(jpeg_coefficients, "_read", lambda *arguments: os._exit(1)),
    "wrong": lambda: setattr(jpeg_coefficients, "_read", _wrong),
    "missing": lambda: sys.modules.__setitem__("jpeglib", None),  # type: ignore[arg-type]
}

if __name__ == "__main__":
    FAULTS[os.environ["FAULT"]]()
    decoding_process.serve(float(sys.argv[1]))
