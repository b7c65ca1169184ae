"""Measurement of time and peak memory."""

from __future__ import annotations

import ctypes
import re
import time
from pathlib import Path
from types import TracebackType

import torch

from restore.runtime.devices import HOST, begin_peak_memory, peak_memory, synchronize

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
# Value that resets the peak, see proc(5) of Linux.
_RESET_PEAK = "5"


class Meter:
    """Measures a block: ``with Meter(device) as meter: …``.

    Attributes:
        seconds: wall-clock time.
        memory: peak in MiB: on CUDA the memory allocated by PyTorch, weights included; on a CPU the
            growth of the process, on Linux only; None elsewhere.
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
        elif self.device.type == HOST.type and self._before is not None:
            self.memory = max(0.0, (_resident("VmHWM") or 0.0) - self._before)


def _give_back_freed() -> None:
    """Return freed memory to the system (glibc only), as it would hide later growth."""
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
    """Return a field of ``/proc/self/status`` in MiB."""
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
