"""How long a piece of work takes, and how much memory."""

from __future__ import annotations

import ctypes
import re
import time
from pathlib import Path
from types import TracebackType

import torch

from restore.runtime.devices import begin_peak_memory, peak_memory, synchronize

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Of Linux's proc(5): the peak begins anew."""


class Meter:
    """``with Meter(device) as meter: …``; then ``meter.seconds`` and ``meter.memory``.

    The memory is a peak in MiB: on CUDA what PyTorch had allocated, weights included; on a CPU by
    how much the process grew, which Linux tells. None elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.memory: float | None = None

    def __enter__(self) -> Meter:
        self._kept_by_device = begin_peak_memory(self.device)
        self._before = None
        if not self._kept_by_device:
            _give_back_freed()
            self._before = _resident("VmRSS") if _forget_peak() else None

        synchronize(self.device)
        self._started = time.perf_counter()

        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        synchronize(self.device)
        self.seconds = time.perf_counter() - self._started
        if self._kept_by_device:
            self.memory = peak_memory(self.device) / 2**20
        elif self.device.type == "cpu" and self._before is not None:
            self.memory = max(0.0, (_resident("VmHWM") or 0.0) - self._before)


def _give_back_freed() -> None:
    """Memory that the C library keeps for later would hide what the next work needs (glibc
    only).
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _forget_peak() -> bool:
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident(name: str) -> float | None:
    """In MiB."""
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
