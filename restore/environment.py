"""Variables that PyTorch and its OpenMP read when they start, and that make a CPU faster."""

from __future__ import annotations

import os

# Large tensors on huge pages: a third less time in the network.
_HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
# A thread that waits for the others soon sleeps. By default it spins for milliseconds, which takes
# time from them as soon as another process needs a core. GNU OpenMP, PyTorch's on Linux, takes the
# number of turns (measured by benchmarks/waiting.py); others take the policy.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def prepare() -> None:
    """Set what is not set already; without effect on a PyTorch that is imported already."""
    # whoever sets one of them has chosen
    waiting = {} if _WAITING.keys() & os.environ.keys() else _WAITING
    for name, value in (_HUGE_PAGES | waiting).items():
        os.environ.setdefault(name, value)
