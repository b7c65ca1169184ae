"""Arrays of MATLAB files, read in a process of their own.

scipy's reader ends the process on some damaged files (a segmentation fault), which would take a
whole run with it. Run as a script, this module reads a file from stdin and writes a ``.npz``.
"""

from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

# Seconds after which a file counts as damaged.
LONGEST_SECONDS = 120

# Exit code of the script for a file that it cannot read; a crash has another one.
UNREADABLE = 3

# Keeps names of variables apart from numpy's own parameters.
PREFIX = "variable "


def read_mat(data: bytes, most: int) -> dict[str, NDArray[np.generic]]:
    """Return the numeric arrays of two axes by their names.

    Args:
        data: A MATLAB file up to version 7.
        most: Number of values of the largest array that is read.

    Raises:
        ValueError: The file is of version 7.3, or damaged.
    """
    words = [sys.executable, "-P", __file__, str(most)]
    try:
        done = subprocess.run(words, input=data, capture_output=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError("not a readable MATLAB file (it takes too long)") from None
    if done.returncode == UNREADABLE:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise ValueError("not a readable MATLAB file (damaged)")

    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        return {name.removeprefix(PREFIX): arrays[name] for name in arrays.files}


def _arrays(data: bytes, most: int) -> dict[str, NDArray[np.generic]]:
    """Read the arrays in this process."""
    import scipy.io

    # by the header, since a compressed file can claim any size
    known = scipy.io.whosmat(io.BytesIO(data))
    small = [name for name, shape, _ in known if math.prod(shape) <= most]
    contents = scipy.io.loadmat(io.BytesIO(data), variable_names=small)
    return {
        name: value
        for name, value in contents.items()
        if isinstance(value, np.ndarray)
        and value.ndim == 2
        and value.size > 1
        and value.dtype.kind in "buif"
    }


def _main() -> None:
    try:
        found = _arrays(sys.stdin.buffer.read(), int(sys.argv[1]))
    except NotImplementedError:
        sys.exit(_refused("a MATLAB file of version 7.3; save it with '-v7', or as .npy"))
    except Exception as error:  # loadmat raises nearly every kind on a damaged file
        sys.exit(_refused(f"not a readable MATLAB file ({type(error).__name__})"))

    named = {PREFIX + name: value for name, value in found.items()}
    np.savez(sys.stdout.buffer, **named)  # type: ignore[arg-type]


def _refused(reason: str) -> int:
    print(reason, file=sys.stderr)
    return UNREADABLE


if __name__ == "__main__":
    _main()
