"""Training batches made on the training device, all pictures at once.

`DeviceBatches` is a drop-in for `restore.training.batches.Batches`, which makes one picture after
another on the CPU, and for which a GPU waits. Here the photographs are in the device's memory, and
a batch is a few dozen operations on large tensors.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import Evidence
from restore.diffusion.seeds import seed_of
from restore.runtime.devices import SideStream, works_beside
from restore.training.batches import Batch, Batches, BatchSettings
from restore.training.device_degradations import FAMILIES, Family, Made, Setting
from restore.training.device_pictures import DevicePictures, Dice
from restore.training.pictures import Pictures, Skipped, check_whole
from restore.training.run import BatchSource

_BITS = 40
_ONE = 1 << _BITS
# Odd number near 2^40 times the golden ratio: its multiples modulo 2^40 are evenly spread, and
# reach every number once.
_GOLDEN = round((math.sqrt(5) - 1) / 2 * _ONE) | 1

# First stream of random numbers, beyond those of the learner (its ranks and a few more).
_STREAM = 1 << 20


class Slices:
    """Division of a batch into kinds: each has a contiguous slice, in a fixed order.

    If a kind's fraction of the batch is no whole number, its count is rounded up in some steps and
    down in others. The slices' edges are moved together by an offset in [0, 1) and rounded down
    (systematic sampling): the counts of a step sum to the batch, and the count of each kind, and of
    every run of kinds, is rounded up or down. The offset advances by the golden ratio from step to
    step, so that the mean count over the steps tends to the exact fraction.

    Shapes must not change with the step, or CUDA graphs and kernels tuned for a shape are of no
    use. So a family of kinds is always made in its `capacity`, at most one picture more than the
    step needs. A capacity for each of the twenty kinds would cost up to twenty pictures.

    Args:
        fractions: Fraction of each kind, in the order of the slices, a list for each family; they
            sum to 1.
        batch: Number of pictures.
        seed: Random seed for the first offset.
    """

    def __init__(self, fractions: Sequence[Sequence[float]], batch: int, seed: int) -> None:
        edges = np.cumsum([0.0, *itertools.chain(*fractions)])
        self._edges = [round(edge / edges[-1] * batch * _ONE) for edge in edges.tolist()]
        self._first = np.cumsum([0, *map(len, fractions)]).tolist()
        self._offset = seed_of(seed, _STREAM) % _ONE
        self.batch = batch

    def capacity(self, family: int) -> int:
        """Return the most pictures of a family in any step."""
        start = self._edges[self._first[family]]
        end = self._edges[self._first[family + 1]]
        return _up(end - start)

    def ends(self, step: int) -> list[int]:
        """Return where each kind's slice ends, after a 0."""
        offset = (self._offset + step * _GOLDEN) % _ONE
        return [(edge + offset) >> _BITS for edge in self._edges]

    def of_family(self, step: int, family: int) -> tuple[int, int]:
        """Return where the slices of a family begin and end."""
        ends = self.ends(step)
        return ends[self._first[family]], ends[self._first[family + 1]]

    def kinds(self, step: int, family: int) -> NDArray[np.int64]:
        """Return the kind of each of a family's `capacity` pictures, by its place in the family."""
        start = self.of_family(step, family)[0]
        capacity = self.capacity(family)
        ends = np.asarray(self.ends(step)[self._first[family] + 1 : self._first[family + 1] + 1])
        found = np.searchsorted(ends, start + np.arange(capacity), side="right")
        wanted = np.flatnonzero(
            np.diff(self._edges[self._first[family] : self._first[family + 1] + 1])
        )

        return np.minimum(found, wanted[-1])

    def window(self, family: int, begin: int, end: int) -> slice:
        """Return which of a family's pictures can be in a part of a batch, in any step.

        Args:
            family: Number of the family.
            begin: First picture of the part.
            end: End of the part.
        """
        edge = self._edges[self._first[family]]
        first = begin - _up(edge)
        last = min(self.capacity(family), end - (edge >> _BITS))
        return slice(max(0, first), max(0, first, last))


class DeviceBatches:
    """`Batches` made on a device.

    Batch number ``step`` depends on the seed, the step and the kind of device alone. The
    distributions are those of `Batches`, with these differences: the kinds come in fixed numbers,
    in slices (see `Slices`); kernels and masks come from large banks instead of without end; and
    there are 16 scales of downsampling besides `SCALES`. Pictures of another device are other
    pictures of the same distribution.

    Args:
        folder: See `Batches`; may be the `DevicePictures` of the same device.
        device: Where the batches are made and stay.
        settings: What is in a batch; None takes the defaults.
        cache: See `Batches`.
        memory: Free bytes on the device for photographs; None asks the device. See
            `DevicePictures`.
        notice: Called if they do not suffice.
        options: Fields that replace those of the settings.

    Raises:
        BadArgument, FileAccess, NothingToDo: See `Batches`.
    """

    def __init__(
        self,
        folder: Path | str | Pictures | DevicePictures,
        settings: BatchSettings | None = None,
        *,
        device: torch.device,
        cache: Path | str | None = None,
        memory: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        self.settings = replace(settings or BatchSettings(), **options)
        self.device = device
        if isinstance(folder, DevicePictures):
            self.pictures = folder.at_least(self.settings.crop)
        else:
            host = Batches(folder, self.settings, cache=cache)
            self.pictures = DevicePictures(host.pictures, device, memory=memory, notice=notice)

        self._families: dict[tuple[int, bool], Family] = {}

    @property
    def skipped(self) -> list[Skipped]:
        """Unreadable pictures and pictures smaller than the crop."""
        return self.pictures.pictures.skipped

    def with_size(self, crop: int, batch: int) -> DeviceBatches:
        """Return the same pictures in crops and batches of another size, sharing the memory.

        Raises:
            BadArgument, NothingToDo: See `DeviceBatches`.
        """
        return DeviceBatches(
            self.pictures, self.settings, device=self.device, crop=crop, batch=batch
        )

    @torch.no_grad()
    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return a batch on the device, see `restore.training.batches.Numbered.at`."""
        check_whole("step", step, 0)
        begin, end = self.settings.bounds(part)
        sees = self.settings.sees(step)
        slices = self.slices(step)
        batch = _empty(end - begin, self.settings.crop, self.device, sees)

        for number, kinds in enumerate(self._kinds(slices, step)):
            window = slices.window(number, begin, end)
            if window.start == window.stop:
                continue
            made = self._made(number, sees, step, kinds, window)
            start, stop = slices.of_family(step, number)
            rows = slice(max(begin, start), min(end, stop))
            _fill(
                batch,
                slice(rows.start - begin, rows.stop - begin),
                made,
                rows.start - start - window.start,
            )

        return batch

    def slices(self, step: int) -> Slices:
        """Return the division of batch number ``step``.

        It is the same in all steps that train the same network.
        """
        settings = self.settings
        unconditional = settings.unconditional_at(step)
        kinds = settings.degradations.fractions.items()
        fractions = {kind: (1 - unconditional) * fraction for kind, fraction in kinds}
        fractions["unconditional"] = unconditional
        by_family = [[fractions[kind] for kind in family.kinds] for family in FAMILIES]

        return Slices(by_family, settings.batch, settings.seed)

    def stream(
        self,
        first_step: int = 0,
        prefetch: int = 2,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]:
        """Yield batches ``first_step``, ``first_step + 1``, … without end.

        On a device that works asynchronously (CUDA) a thread queues the next batches on a second
        stream while one is used, so that neither the device nor the queueing of the training waits
        for them. On others each is made when it is taken.

        Args:
            first_step: Number of the first batch.
            prefetch: Batches made ahead there, at least 1.
            part: See `at`.
            workers, pinned: Not used; they are for batches from the CPU.
        """
        check_whole("first_step", first_step, 0)
        check_whole("prefetch", prefetch, 1, "batches")
        self.settings.bounds(part)
        if works_beside(self.device):
            return self._beside(first_step, prefetch, part)
        return (self.at(step, part) for step in itertools.count(first_step))

    def _beside(self, first_step: int, prefetch: int, part: tuple[int, int]) -> Iterator[Batch]:
        # The banks are made on the present stream, which the other one waits for, and outside of
        # any graph that is being captured.
        self._prepare()
        side = SideStream(self.device)
        executor = ThreadPoolExecutor(1, "training-data")
        ahead: deque[Future[tuple[Batch, Any]]] = deque()

        try:
            for step in itertools.count(first_step):
                ahead.append(executor.submit(side.run, partial(self.at, step, part)))
                if len(ahead) > prefetch:
                    batch, event = ahead.popleft().result()
                    side.take(_tensors(batch), event)
                    yield batch
        finally:
            executor.shutdown(cancel_futures=True)

    def _kinds(self, slices: Slices, step: int) -> Sequence[Tensor]:
        """Return the kinds of each family's pictures, sent to the device together."""
        kinds: list[Sequence[int] | NDArray[np.int64]] = [
            slices.kinds(step, number) if slices.capacity(number) else []
            for number in range(len(FAMILIES))
        ]
        together = torch.from_numpy(np.concatenate(kinds).astype(np.int64))
        return together.to(self.device, non_blocking=True).split([len(k) for k in kinds])

    def _made(self, number: int, sees: bool, step: int, kinds: Tensor, window: slice) -> Made:
        """Make pictures ``window`` of a family.

        The random numbers are drawn for all pictures, so that those of all ranks are the same.
        """
        seed = self.settings.seed
        dice, places = (
            Dice(self.device, seed_of(seed, step, _STREAM + number, use), len(kinds), window)
            for use in (1, 2)
        )

        def squares(sides: Tensor, largest: int) -> Tensor:
            return self.pictures.squares(sides, largest, places, self.settings.augmentation)

        return self._family(number, sees).make(squares, kinds[window], dice)

    def _prepare(self) -> None:
        """Make the banks that any step needs."""
        predictor = self.settings.predictor
        seen = {False}
        if predictor is not None:
            seen = {True} if predictor.conditions else {True, False}

        fractions = self.settings.degradations.fractions
        for number, family in enumerate(FAMILIES):
            for sees in seen:
                if any(fractions.get(kind, 1) for kind in family.kinds):
                    self._family(number, sees)

    def _family(self, number: int, sees: bool) -> Family:
        """Return a family, whose banks are made when they are first needed."""
        key = number, sees
        if key not in self._families:
            settings = self.settings
            predictor = settings.predictor if sees else None
            shown = None if predictor is None else predictor.shown
            setting = Setting(
                settings.crop, settings.degradations, settings.seed, self.device, shown
            )
            self._families[key] = FAMILIES[number](setting)

        return self._families[key]


def batch_source(
    where: Literal["auto", "host", "device"],
    folder: Path | str | Pictures,
    settings: BatchSettings | None = None,
    *,
    device: torch.device,
    notice: Callable[[str], None] = lambda _: None,
    cache: Path | str | None = None,
    **options: Any,
) -> BatchSource:
    """Return batches from the host or from the device.

    Args:
        where: ``auto`` takes the device if it makes them beside the training steps (CUDA), else the
            host.
        folder: See `Batches`.
        settings: See `Batches`.
        device: Training device.
        notice: See `DeviceBatches`.
        cache: See `Batches`.
        options: See `Batches`.

    Raises:
        BadArgument, FileAccess, NothingToDo: See `Batches`.
    """
    if where == "device" or (where == "auto" and works_beside(device)):
        return DeviceBatches(folder, settings, device=device, cache=cache, notice=notice, **options)
    return Batches(folder, settings, cache=cache, **options)


def _empty(count: int, crop: int, device: torch.device, sees: bool) -> Batch:
    """Return a batch of grey pictures of which nothing is known."""
    clean, picture = (torch.zeros(count, 3, crop, crop, device=device) for _ in range(2))
    known, noise = (torch.zeros(count, 1, crop, crop, device=device) for _ in range(2))
    return Batch(
        clean, Condition(picture, known), Evidence(picture, known, noise) if sees else None
    )


def _fill(batch: Batch, rows: slice, made: Made, first: int) -> None:
    """Write a family's pictures, from number ``first`` on, into these rows of a batch."""
    taken = slice(first, first + rows.stop - rows.start)
    if rows.stop <= rows.start:
        return
    torch.sub(2 * made.clean[taken], 1, out=batch.clean[rows])
    for part, value in zip(batch.evidence or batch.condition, made.shown, strict=False):
        part[rows] = value[taken]


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield batch.clean
    yield from batch.condition if batch.evidence is None else batch.evidence


def _up(number: int) -> int:
    """Round a fixed-point number up."""
    return -(-number >> _BITS)
