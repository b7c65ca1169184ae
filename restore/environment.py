"""Variables that PyTorch and its OpenMP read when they start, and that make a CPU faster."""

from __future__ import annotations

import os

# Large tensors on huge pages: a third less time in the network.
_HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
# A thread that waits for the others sleeps. The default is to spin, which takes time from them as
# soon as another process needs a core.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def prepare() -> None:
    """Set what is not set already; without effect on a PyTorch that is imported already."""
    for name, value in (_HUGE_PAGES | _WAITING).items():
        os.environ.setdefault(name, value)
