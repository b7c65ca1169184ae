"""Single precision during a restoration, whatever PyTorch's settings of the calling program."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

# Device types on which a program may have turned autocast on.
_AUTOCAST = ("cpu", "cuda", "mps")

_lock = threading.Lock()
_inside = 0
_of_caller = torch.float32


@contextmanager
def single_precision() -> Iterator[None]:
    """Compute as if autocast were off and the default dtype float32; also a decorator.

    Programs set ``torch.set_default_dtype(torch.float64)`` or wrap their work in
    ``torch.autocast``. Results do not depend on either. Autocast belongs to a thread; the default
    dtype belongs to the process, so it is put back when the last thread leaves.
    """
    with ExitStack() as stack:
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        _enter()
        stack.callback(_leave)
        yield


def _enter() -> None:
    global _inside, _of_caller

    with _lock:
        if _inside == 0:
            _of_caller = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _inside += 1


def _leave() -> None:
    global _inside

    with _lock:
        _inside -= 1
        if _inside == 0:
            torch.set_default_dtype(_of_caller)
