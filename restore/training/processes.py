"""The processes that train together: one, or those that ``torchrun`` starts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn

from restore.runtime.devices import choose_device, collective_backend

# What `Interruption` notes.
NOTED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
        device: Device of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True for the process that writes files."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Return this process's part of a batch that all share evenly."""
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over all processes."""
        return network if self.count == 1 else nn.parallel.DistributedDataParallel(network)

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate the tensors [b, …] of all processes in order, on the CPU."""
        if self.count == 1:
            return values.cpu()
        values = values.to(self.device)
        parts = [torch.empty_like(values) for _ in range(self.count)]
        distributed.all_gather(parts, values)
        return torch.cat(parts).cpu()

    def agree(self, stop: bool, elapsed: float) -> tuple[bool, float]:
        """Return whether any process wants to stop, and the first one's clock."""
        if self.count == 1:
            return stop, elapsed
        known = self.gather(torch.tensor([[float(stop), elapsed]], dtype=torch.float64))
        return bool(known[:, 0].any()), float(known[0, 1])

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            self.gather(torch.zeros(1))


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, if it did.

    With several devices of a kind, each process of a machine gets its own.

    Args:
        device: See `choose_device`.

    Raises:
        RestoreError: See `choose_device`.
    """
    rank, count, local = (
        int(os.environ.get(k, d)) for k, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    chosen = choose_device(device)
    if count == 1:
        yield Processes(0, 1, chosen)
        return

    module = getattr(torch, chosen.type)
    if chosen.index is None and module.device_count() > 1:
        chosen = choose_device(f"{chosen.type}:{local}")
        module.set_device(chosen)

    distributed.init_process_group(collective_backend(chosen))

    try:
        yield Processes(rank, count, chosen)
    finally:
        distributed.destroy_process_group()


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP, noted within the context so that a step is never cut in two.

    A second Ctrl-C, two seconds later or more, interrupts at once. If the work ends by an
    interrupt, the handler of the caller gets the signal that was noted, if it has one.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._number = signal.SIGINT
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in NOTED:
                if signal.getsignal(number) is not signal.SIG_IGN:  # stays so, as under nohup
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

        before = self._before.get(self._number)
        if kind is KeyboardInterrupt and self.wanted and callable(before):
            before(self._number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.wanted:
            self.wanted = True
            self._number = signal.Signals(number)
            self._since = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > 2:
            raise KeyboardInterrupt
