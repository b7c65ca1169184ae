"""Single precision during a restoration, whatever PyTorch's settings of the calling program."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from restore.device_names import CPU, KINDS

_lock = threading.Lock()
_inside = 0
_of_caller = torch.float32


@contextmanager
def single_precision() -> Iterator[None]:
    """Compute as if autocast were off, the default dtype float32 and the default device the CPU.

    Programs set ``torch.set_default_dtype(torch.float64)`` or ``torch.set_default_device("cuda")``,
    or wrap their work in ``torch.autocast``. Results do not depend on them. Autocast and the
    default device belong to a thread; the default dtype belongs to the process, so it is put back
    when the last thread leaves. This is also a decorator.
    """
    with ExitStack() as stack:
        for device in KINDS:  # on which a program may have turned autocast on
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != CPU:
            stack.enter_context(torch.device(CPU))
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
