"""Training batches made on the device that trains, all pictures at once: a drop-in for
`restore.training.pictures`.

The CPU's `Batches` make one picture after another, and a GPU waits for them. Here the photographs
lie in the device's memory, and a batch is some dozens of operations on large tensors.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from restore.errors import BadArgument
from restore.runtime.devices import SideStream, works_beside
from restore.training.degradations import Mixture
from restore.training.device_degradations import FAMILIES, Family, Made, Setting
from restore.training.device_pictures import DevicePictures, Dice
from restore.training.pictures import (
    Augmentation,
    Batch,
    Batches,
    Pictures,
    PredictorData,
    Skipped,
    check_whole,
)
from restore.training.run import BatchSource

_BITS = 40
_ONE = 1 << _BITS
_GOLDEN = round((math.sqrt(5) - 1) / 2 * _ONE) | 1
"""An odd number near the golden ratio: its multiples are evenly spread over [0, 2^40), and in the
end hit each once.
"""

_STREAM = 1 << 20
"""Of random numbers: beyond those of the learner, which are the ranks of its processes and a few
more.
"""


class Slices:
    """How a batch is divided into kinds: each has a contiguous slice, in a fixed order.

    Where a kind's share of the batch is no whole number its count is rounded up in some steps and
    down in others. For that the slices' edges are moved together by an offset in [0, 1) and rounded
    down (systematic sampling): the counts of a step sum to the batch, each is its share rounded up
    or down, and so is that of every run of kinds. The offset moves on by the golden ratio from step
    to step, so that the mean count over the steps tends to the share exactly.

    Shapes must not change with the step, or CUDA graphs and kernels tuned for a shape are of no
    use. So a family of kinds is always made in its `capacity`, at most one more than the step
    needs. That costs a picture or less a family; a capacity for every kind would cost one for each
    of the twenty kinds.

    Args:
        shares: of each kind, in the order of the slices, a list for each family; they sum to 1.
        batch: pictures.
        seed: of the first offset.
    """

    def __init__(self, shares: Sequence[Sequence[float]], batch: int, seed: int) -> None:
        edges = np.cumsum([0.0, *itertools.chain(*shares)])
        self._edges = [round(edge / edges[-1] * batch * _ONE) for edge in edges.tolist()]
        self._first = np.cumsum([0, *map(len, shares)]).tolist()
        self._offset = seed_of(seed, _STREAM) % _ONE
        self.batch = batch

    def capacity(self, family: int) -> int:
        """The most pictures of a family in any step."""
        start = self._edges[self._first[family]]
        end = self._edges[self._first[family + 1]]
        return _up(end - start)

    def ends(self, step: int) -> list[int]:
        """Where each kind's slice ends, after a 0."""
        offset = (self._offset + step * _GOLDEN) % _ONE
        return [(edge + offset) >> _BITS for edge in self._edges]

    def of_family(self, step: int, family: int) -> tuple[int, int]:
        """Where the slices of a family begin and end."""
        ends = self.ends(step)
        return ends[self._first[family]], ends[self._first[family + 1]]

    def kinds(self, step: int, family: int) -> NDArray[np.int64]:
        """Of each of a family's pictures, its kind's place in the family; `capacity` of them."""
        start = self.of_family(step, family)[0]
        capacity = self.capacity(family)
        ends = np.asarray(self.ends(step)[self._first[family] + 1 : self._first[family + 1] + 1])
        found = np.searchsorted(ends, start + np.arange(capacity), side="right")
        wanted = np.flatnonzero(
            np.diff(self._edges[self._first[family] : self._first[family + 1] + 1])
        )

        return np.minimum(found, wanted[-1])

    def window(self, family: int, begin: int, end: int) -> slice:
        """Those of a family's pictures that pictures ``begin`` to ``end`` of a batch may be, in
        whatever step.
        """
        edge = self._edges[self._first[family]]
        first = begin - _up(edge)
        last = min(self.capacity(family), end - (edge >> _BITS))
        return slice(max(0, first), max(0, first, last))


class DeviceBatches:
    """`Batches` made on a device: number ``step`` depends on the seed, the step and the kind of
    device alone.

    The distributions are those of `Batches`, with these differences: the kinds come in fixed
    numbers, in slices (see `Slices`); kernels and masks come from large banks instead of without
    end; and of the scales of down-sampling that are none of `SCALES` there are 16. Pictures of
    another device are other pictures of the same distribution.

    Args:
        folder, crop, batch, share_unconditional, seed, degradations, augmentation, cache,
            predictor: see `Batches`; ``folder`` may be the `DevicePictures` of the same device.
        device: where the batches are made and stay.
        memory: bytes that are free on it for photographs; None asks the device. See
            `DevicePictures`.
        notice: told if they do not suffice.

    Raises:
        BadArgument, FileAccess, NothingToDo: see `Batches`.
    """

    def __init__(
        self,
        folder: Path | str | Pictures | DevicePictures,
        *,
        device: torch.device,
        crop: int = 64,
        batch: int = 32,
        share_unconditional: float = 0.45,
        seed: int = 0,
        degradations: Mixture | Mapping[str, Any] | None = None,
        augmentation: Augmentation | None = None,
        cache: Path | str | None = None,
        predictor: PredictorData | None = None,
        memory: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        known = folder.pictures if isinstance(folder, DevicePictures) else folder
        self._settings = {
            "share_unconditional": share_unconditional,
            "seed": seed,
            "degradations": degradations,
            "augmentation": augmentation,
            "predictor": predictor,
        }
        host = Batches(known, crop=crop, batch=batch, cache=cache, **self._settings)
        self.crop = crop
        self.batch = batch
        self.device = device
        self.seed = seed
        self.share_unconditional = share_unconditional
        self.predictor = predictor
        self.mixture = host.mixture
        self.augmentation = host.augmentation
        if isinstance(folder, DevicePictures):
            self.pictures = folder.at_least(crop)
        else:
            self.pictures = DevicePictures(host.pictures, device, memory=memory, notice=notice)

        self._families: dict[tuple[int, bool], Family] = {}

    @property
    def skipped(self) -> list[Skipped]:
        """Unreadable pictures and pictures smaller than the crop."""
        return self.pictures.pictures.skipped

    def with_size(self, crop: int, batch: int) -> DeviceBatches:
        """The same pictures in crops and batches of another size, sharing the memory.

        Raises:
            BadArgument, NothingToDo: see above.
        """
        return DeviceBatches(
            self.pictures, device=self.device, crop=crop, batch=batch, **self._settings
        )

    @torch.no_grad()
    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Batch number ``step``, from 0, or of it the share of one process, on the device.

        Args:
            part: (rank, world). The shares of ranks 0 to world − 1, one after another, are the
                whole batch.

        Raises:
            BadArgument: a negative step, no such rank, or more ranks than pictures.
        """
        check_whole("step", step, 0)
        begin, end = self._bounds(part)
        sees = self.predictor is not None and self.predictor.sees(step)
        slices = self.slices(step)
        batch = _empty(end - begin, self.crop, self.device, sees)

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
        """How batch number ``step`` is divided; the same in all steps that train the same
        network.
        """
        trains = self.predictor is not None and self.predictor.trains_at(step)
        unconditional = 0.0 if trains else self.share_unconditional
        shares = {name: (1 - unconditional) * share for name, share in self.mixture.shares.items()}
        shares["unconditional"] = unconditional
        return Slices(
            [[shares[kind] for kind in family.kinds] for family in FAMILIES], self.batch, self.seed
        )

    def stream(
        self,
        first_step: int = 0,
        prefetch: int = 2,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]:
        """Batches ``first_step``, ``first_step + 1``, … without end.

        On a device that works beside (CUDA) a thread queues the next ones on a second stream while
        one is used, so that neither the device nor the queueing of the training waits for them. On
        others each is made when it is taken.

        Args:
            prefetch: batches made ahead there, at least 1.
            workers, pinned: not used; they are for batches from the CPU.
            part: see `at`.
        """
        check_whole("first_step", first_step, 0)
        check_whole("prefetch", prefetch, 1, "batches")
        self._bounds(part)
        if works_beside(self.device):
            return self._beside(first_step, prefetch, part)
        return (self.at(step, part) for step in itertools.count(first_step))

    def _beside(self, first_step: int, prefetch: int, part: tuple[int, int]) -> Iterator[Batch]:
        # on the present stream, which the other one waits for, and in no graph that is being
        # captured
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

    def _bounds(self, part: tuple[int, int]) -> tuple[int, int]:
        rank, world = part
        if not 0 <= rank < world <= self.batch:
            raise BadArgument(
                f"part {rank} of {world}: a batch of {self.batch} pictures has no such part"
            )
        return self.batch * rank // world, self.batch * (rank + 1) // world

    def _kinds(self, slices: Slices, step: int) -> Sequence[Tensor]:
        """Of each family's pictures, their kinds: on the device, sent at once."""
        kinds = [
            slices.kinds(step, number) if slices.capacity(number) else []
            for number in range(len(FAMILIES))
        ]
        together = torch.from_numpy(np.concatenate(kinds).astype(np.int64))
        return together.to(self.device, non_blocking=True).split([len(k) for k in kinds])

    def _made(self, number: int, sees: bool, step: int, kinds: Tensor, window: slice) -> Made:
        """Pictures ``window`` of a family; those of all sizes and ranks come from the same random
        numbers.
        """
        dice, places = (
            Dice(self.device, seed_of(self.seed, step, _STREAM + number, use), len(kinds), window)
            for use in (1, 2)
        )

        def squares(sides: Tensor, largest: int) -> Tensor:
            return self.pictures.squares(sides, largest, places, self.augmentation)

        return self._family(number, sees).make(squares, kinds[window], dice)

    def _prepare(self) -> None:
        """Make the banks of all steps."""
        predictor = self.predictor
        seen = {False}
        if predictor is not None:
            seen = {True} if predictor.conditions else {True, False}

        for number, family in enumerate(FAMILIES):
            for sees in seen:
                if any(self.mixture.shares.get(kind, 1) for kind in family.kinds):
                    self._family(number, sees)

    def _family(self, number: int, sees: bool) -> Family:
        """Its banks are made when they are first needed."""
        key = number, sees
        if key not in self._families:
            shown = self.predictor.shown if sees else None
            self._families[key] = FAMILIES[number](
                Setting(self.crop, self.mixture, self.seed, self.device, shown)
            )

        return self._families[key]


def batch_source(
    where: Literal["auto", "host", "device"],
    folder: Path | str | Pictures,
    *,
    device: torch.device,
    notice: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> BatchSource:
    """Batches from the host or from the device.

    Args:
        where: ``auto`` takes the device if it makes them beside the training steps (CUDA), else the
            host.
        folder: see `Batches`.
        device: that trains.
        notice: see `DeviceBatches`.
        settings: all others, see `Batches`.

    Raises:
        BadArgument, FileAccess, NothingToDo: see `Batches`.
    """
    if where == "device" or (where == "auto" and works_beside(device)):
        return DeviceBatches(folder, device=device, notice=notice, **settings)
    return Batches(folder, **settings)


def _empty(count: int, crop: int, device: torch.device, sees: bool) -> Batch:
    """Black pictures of which nothing is known."""
    clean, picture = (torch.zeros(count, 3, crop, crop, device=device) for _ in range(2))
    known, noise = (torch.zeros(count, 1, crop, crop, device=device) for _ in range(2))
    return Batch(
        clean, Condition(picture, known), Evidence(picture, known, noise) if sees else None
    )


def _fill(batch: Batch, rows: slice, made: Made, first: int) -> None:
    """Write a family's pictures from number ``first`` on into these rows of a batch."""
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
    """Of a fixed-point number, rounded up."""
    return -(-number >> _BITS)
