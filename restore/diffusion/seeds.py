"""Seeds for random numbers that have nothing to do with each other."""

from __future__ import annotations

import numpy as np


def seed_of(*key: int) -> int:
    """A seed for what has this key, from 0 to 2^63 - 1; NumPy's `SeedSequence` mixes the numbers,
    none negative.

    Keys of as many numbers, none above 2^32 - 1, have seeds of their own but for chance. Zeros at
    the end of a key count for nothing.
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
