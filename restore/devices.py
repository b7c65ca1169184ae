"""The one place that knows devices and the number formats they are good at."""

from __future__ import annotations

import ctypes

import torch

from restore.errors import BadArgument, Unavailable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's <malloc.h>."""


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        BadArgument: not a device name.
        Unavailable: the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if _has_cuda() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadArgument(f"--device {name}: not a device; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise BadArgument(f"--device {name}: not supported; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and not (_has_cuda() and (device.index or 0) < torch.cuda.device_count()):
        raise Unavailable(f"--device {name}: this machine has no such CUDA device; use --device auto or cpu")
    if device.type == "mps" and not _has_mps():
        raise Unavailable(f"--device {name}: this machine has no Apple GPU; use --device auto or cpu")
    return device


def network_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bf16_units() else torch.float32
    return torch.float32


def keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next ones, where it is glibc.

    It would hand them back to the system and take them zeroed again in every operation: on a CPU that costs a fifth to
    a third of the network's time at 1024×1024 (benchmarks/overhead.py --allocator). A process then keeps what it once
    took, up to a fifth more than without. It concerns the whole process, so it is for programs, not for the library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def device_name(device: torch.device) -> str:
    """For reports: the model of a GPU where CUDA tells, else the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def begin_peak_memory(device: torch.device) -> bool:
    """Forget the peak of allocated memory; whether the device keeps one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device.type == "cuda"


def peak_memory(device: torch.device) -> int:
    """Bytes, weights included, since `begin_peak_memory` said that there is a peak."""
    return torch.cuda.max_memory_allocated(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _cpu_has_bf16_units() -> bool:
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
