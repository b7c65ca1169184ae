"""`restore.film.process` with a library that crashes on every clip."""

from __future__ import annotations

import os
import sys

from restore.film import process


def crashing(*arguments: object) -> None:
    os.abort()


if __name__ == "__main__":
    process.Reader = crashing  # type: ignore[misc, assignment]
    process.serve(float(sys.argv[1]))
