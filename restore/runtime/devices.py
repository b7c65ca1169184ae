"""Devices: choosing one, its number format, its memory and its queues of work."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import torch
from torch import nn

from restore.device_names import CHOICES_IN_WORDS, CPU, KINDS
from restore.errors import BadArgument, Unavailable
from restore.runtime.host_memory import available_memory, resident_memory

# Device on which files are read and written, and of pictures that are too large for another one.
HOST = torch.device(CPU)

T = TypeVar("T")

# From glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# Parts of the messages of errors that mean that memory ran out.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, MPS
    "not enough memory",  # PyTorch on a CPU
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",  # C++
    "ALLOC_FAILED",  # cuBLAS, cuDNN, cuFFT
    "could not create a memory object",  # oneDNN
)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        BadArgument: It is not the name of a device.
        Unavailable: The machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if _has_cuda() else "mps" if _has_mps() else "cpu")

    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadArgument(f"`device`={name}: not a device; use {CHOICES_IN_WORDS}") from None

    if device.type not in KINDS:
        raise BadArgument(f"`device`={name}: not supported; use {CHOICES_IN_WORDS}")
    if device.type == "cuda" and not (
        _has_cuda() and (device.index or 0) < torch.cuda.device_count()
    ):
        raise Unavailable(
            f"`device`={name}: this machine has no such CUDA device; use `device`=auto or cpu"
        )
    if device.type == "mps" and not _has_mps():
        raise Unavailable(
            f"`device`={name}: this machine has no Apple GPU; use `device`=auto or cpu"
        )

    return device


def network_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bf16_units() else torch.float32
    return torch.float32


def why_device(name: str, device: torch.device) -> str:
    """Reason in words why `choose_device` takes `device` for `name`."""
    if name != "auto":
        return "asked for"
    if device.type == "cuda":
        return "auto takes CUDA where there is some"
    if device.type == "mps":
        return "no CUDA device here; auto takes the Apple GPU next"

    has_gpu_build = torch.version.cuda or torch.version.hip
    build = "" if has_gpu_build else ", and this PyTorch is built without CUDA"

    return f"no CUDA device and no Apple GPU here{build}"


def why_dtype(device: torch.device) -> str:
    """Reason in words for `network_dtype`."""
    if network_dtype(device) == torch.bfloat16:
        return "the device multiplies it faster than float32"
    if device.type == "mps":
        return "bfloat16 is not used on Apple GPUs"
    return "the device has no units for bfloat16"


def keep_freed_memory() -> None:
    """Let glibc keep the memory of large tensors for the next ones.

    By default it returns them to the system and takes them zeroed again in every operation: on a
    CPU that costs a fifth to a third of the network's time at 1024×1024 (benchmarks/overhead.py
    --allocator). A process then keeps what it once took, up to a fifth more than without. The
    setting holds for the whole process, so it is for programs, not for the library.
    """
    _set_allocator(mmap_threshold=1 << 30, trim_threshold=2**31 - 1)


def hand_back_freed_memory() -> None:
    """Undo `keep_freed_memory`, for pictures that fill the memory: what is kept is fragmented.

    Inpainting 3 megapixels took 237 bytes for each pixel this way, and 313 with memory kept.
    """
    _set_allocator(mmap_threshold=1 << 22, trim_threshold=1 << 22)
    _trim_heap()


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on the device.

    For the CPU see `restore.runtime.host_memory`.
    """
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_memory()


def used_memory(device: torch.device) -> int:
    """Bytes that this process has on the device: of tensors on a GPU, of everything on the CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return resident_memory()


def release_memory(device: torch.device) -> None:
    """Return freed memory that is kept for later to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        _trim_heap()


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that the memory of a device, or of the host, ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def copies_from_pinned_memory(device: torch.device) -> bool:
    """Return True if the device copies from page-locked memory while it computes."""
    return device.type == "cuda"


def works_beside(device: torch.device) -> bool:
    """Return True if the device runs several queues, so that it makes data beside training."""
    return device.type == "cuda"


class SideStream:
    """A second queue of work on a device that `works_beside`; elsewhere work is done at once.

    It sees all that was queued before it was made.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if works_beside(device):
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def run(self, make: Callable[[], T]) -> tuple[T, torch.cuda.Event | None]:
        """Queue what `make` does, from any thread.

        Returns:
            Its result, and the event that is recorded when it is ready; None without a queue.
        """
        if self._stream is None:
            return make(), None
        with torch.cuda.stream(self._stream):
            return make(), self._stream.record_event()

    def take(self, tensors: Iterable[torch.Tensor], event: torch.cuda.Event | None) -> None:
        """Let the current queue wait for what `run` made, and keep its memory for that queue."""
        if event is None or self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(current)


def collective_backend(device: torch.device) -> str:
    """Backend of `torch.distributed` for processes with such devices."""
    return "nccl" if device.type == "cuda" else "gloo"


def compiled(network: nn.Module, device: torch.device, *, alone: bool = True) -> nn.Module:
    """Compile a network by `torch.compile`; on CUDA its kernels are launched as a graph.

    A small network's kernels take less time than launching them one by one: see docs/training.md.

    Args:
        alone: False for one of several processes: they exchange gradients in between, and launch
            their kernels one by one.
    """
    graph = device.type == "cuda" and alone
    mode = "reduce-overhead" if graph else "default"
    return cast(nn.Module, torch.compile(network, dynamic=False, mode=mode))


def likes_batches(device: torch.device) -> bool:
    """Return True if the device takes several pictures at once in less time than one by one."""
    return device.type in ("cuda", "mps")


def device_name(device: torch.device) -> str:
    """Name for reports: the model of a CUDA GPU, else the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def begin_peak_memory(device: torch.device) -> bool:
    """Forget the peak of allocated memory; returns True if the device keeps one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device.type == "cuda"


def peak_memory(device: torch.device) -> int:
    """Peak of allocated bytes, with weights, since `begin_peak_memory` returned True."""
    return torch.cuda.max_memory_allocated(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work, for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _set_allocator(mmap_threshold: int, trim_threshold: int) -> None:
    """Set in bytes when glibc returns memory to the system.

    Args:
        mmap_threshold: Blocks from this size on are returned at once.
        trim_threshold: Others are returned when so much is free.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, mmap_threshold)
    mallopt(_M_TRIM_THRESHOLD, trim_threshold)


def _trim_heap() -> None:
    """Call glibc's malloc_trim, if there is one."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _cpu_has_bf16_units() -> bool:
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
