"""Independent random seeds."""

from __future__ import annotations

import numpy as np


def seed_of(*key: int) -> int:
    """Random seed for a key of numbers, by NumPy's `SeedSequence`.

    Different keys of the same length get independent seeds. Zeros at the end of a key are ignored.

    Args:
        *key: Integers in [0, 2^32).

    Returns:
        An integer in [0, 2^63).
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
