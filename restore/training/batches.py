"""Batches of training: crops and what is known of them, made by threads or processes."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Shown
from restore.errors import BadArgument, RestoreError
from restore.training.degradations import CONTEXT
from restore.training.drawing import draw
from restore.training.mixture import Mixture
from restore.training.pictures import (
    SMALLEST_CROP,
    Augmentation,
    Pictures,
    Random,
    Skipped,
    check_whole,
    random_of,
)


class Batch(NamedTuple):
    """Pictures and what the network is shown of them, in float32.

    Attributes:
        clean: [B, 3, n, n] in [-1, 1].
        condition: ``picture`` [B, 3, n, n] in [-1, 1] except for the overshoot of bicubic
            enlargement, which tasks do not clip either; ``known`` [B, 1, n, n]. Both are zero for
            pictures that train the unconditional prior.
        evidence: What a predictor is shown, in batches in which one takes part. The condition is
            then its first two parts, which the predictor's answer replaces.
        labels: Class of each picture, int64 [B]; None in batches that train no classifier.
    """

    clean: Tensor
    condition: Condition
    evidence: Evidence | None = None
    labels: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        clean, picture, known = (
            t.to(device, non_blocking=True) for t in (self.clean, *self.condition)
        )
        evidence = None if self.evidence is None else self.evidence.to(device)
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(clean, Condition(picture, known), evidence, labels)


class PredictorData(NamedTuple):
    """The part of a predictor in the batches.

    Attributes:
        shown: What it is shown.
        fraction: Fraction of the batches that train it, which have no unconditional pictures.
        conditions: True if the denoiser is shown its answers in all others.
    """

    shown: Shown
    fraction: float
    conditions: bool

    def trains_at(self, step: int) -> bool:
        """Return True if a batch trains the predictor; these are evenly spread."""
        return self.steps_until(step + 1) > self.steps_until(step)

    def steps_until(self, step: int) -> int:
        """Return how many of the first ``step`` batches train it."""
        return math.floor(step * self.fraction + 1e-9)

    def sees(self, step: int) -> bool:
        """Return True if it takes part in a batch."""
        return self.conditions or self.trains_at(step)


@dataclass(frozen=True)
class BatchSettings:
    """Everything that decides what is in a batch, besides the photographs.

    Attributes:
        crop: Side of the crops in pixels, at least 8.
        batch: Number of pictures in a batch.
        unconditional_fraction: Fraction of the pictures without a condition, in every batch to
            within one picture.
        seed: Random seed, not negative.
        degradations: Degradations of the other pictures; settings by name are read by `Mixture.of`.
        augmentation: How crops are varied.
        predictor: For a model with a predictor that takes part; None otherwise.

    Raises:
        BadArgument: An option that cannot be used.
    """

    crop: int = 64
    batch: int = 32
    unconditional_fraction: float = 0.45
    seed: int = 0
    degradations: Mixture = field(default_factory=Mixture)
    augmentation: Augmentation = field(default_factory=Augmentation)
    predictor: PredictorData | None = None

    def __post_init__(self) -> None:
        check_whole("crop", self.crop, SMALLEST_CROP, "pixels")
        check_whole("batch", self.batch, 1, "pictures")
        check_whole("seed", self.seed, 0)
        if not 0 <= self.unconditional_fraction <= 1:
            raise BadArgument(
                f"unconditional_fraction {self.unconditional_fraction:g}: must be a fraction from "
                "0 to 1"
            )
        if isinstance(self.degradations, Mapping):
            object.__setattr__(self, "degradations", Mixture.of(self.degradations))

    def sees(self, step: int) -> bool:
        """Return True if a predictor takes part in a batch."""
        return self.predictor is not None and self.predictor.sees(step)

    def unconditional_at(self, step: int) -> float:
        """Return the fraction of a batch without a condition; a predictor learns from none."""
        trains = self.predictor is not None and self.predictor.trains_at(step)
        return 0.0 if trains else self.unconditional_fraction

    def bounds(self, part: tuple[int, int]) -> tuple[int, int]:
        """Return begin and end of the part (rank, world) of a batch.

        Raises:
            BadArgument: There is no such rank, or there are more ranks than pictures.
        """
        rank, world = part
        if not 0 <= rank < world <= self.batch:
            raise BadArgument(
                f"part {rank} of {world}: a batch of {self.batch} pictures has no such part"
            )

        return self.batch * rank // world, self.batch * (rank + 1) // world


class Batches:
    """Batches for training, made on the CPU.

    Batch number ``step`` depends on the seed and on ``step`` alone. It is the same in every run,
    process and thread, so that resuming needs no state. Each picture of it depends on its own
    number only, so that the part of a rank is the same as that piece of the whole.

    Args:
        folder: Folder of pictures, see `Pictures`; or `Pictures` that were read before.
        settings: What is in a batch; None takes the defaults.
        cache: See `Pictures`.
        options: Fields that replace those of the settings.

    Raises:
        BadArgument: An option that cannot be used.
        FileAccess, NothingToDo: See `Pictures`.
    """

    def __init__(
        self,
        folder: Path | str | Pictures,
        settings: BatchSettings | None = None,
        *,
        cache: Path | str | None = None,
        **options: Any,
    ) -> None:
        self.settings = replace(settings or BatchSettings(), **options)
        crop = self.settings.crop
        if isinstance(folder, Pictures):
            self.pictures = folder.at_least(crop)
        else:
            self.pictures = Pictures(folder, smallest=crop, cache=cache)

    @property
    def skipped(self) -> list[Skipped]:
        """Unreadable pictures and pictures smaller than the crop."""
        return self.pictures.skipped

    def with_size(self, crop: int, batch: int) -> Batches:
        """Return the same pictures in crops and batches of another size, sharing the memory.

        Raises:
            BadArgument, NothingToDo: See `Batches`.
        """
        return Batches(self.pictures, self.settings, crop=crop, batch=batch)

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return a batch, see `Numbered.at`."""
        check_whole("step", step, 0)
        crop = self.settings.crop
        seed = self.settings.seed
        indices = range(*self.settings.bounds(part))
        sees = self.settings.sees(step)
        fraction = self.settings.unconditional_at(step)
        clean = torch.empty(len(indices), 3, crop, crop)
        shown = _empty(clean, sees)
        offset = random_of(seed, step, self.settings.batch).random()

        for row, index in enumerate(indices):
            random = random_of(seed, step, index)
            conditional = not _unconditional(index, offset, fraction)
            region, known = (
                self._conditional(random, sees) if conditional else (self._crop(crop, random), ())
            )
            torch.sub(2 * region, 1, out=clean[row])
            for target, value in zip(shown, known, strict=False):
                target[row] = value

        return Batch(clean, Condition(*shown[:2]), shown if isinstance(shown, Evidence) else None)

    def stream(
        self,
        first_step: int = 0,
        prefetch: int = 2,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]:
        """Yield batches without end, made ahead, see `stream`."""
        return stream(self, first_step, prefetch, workers=workers, part=part, pinned=pinned)

    def _crop(self, side: int, random: Random) -> Tensor:
        return self.pictures.crop(side, random, self.settings.augmentation)

    def _conditional(self, random: Random, sees: bool) -> tuple[Tensor, Condition | Evidence]:
        """Return the clean crop in [0, 1], and its condition or a predictor's evidence."""
        settings = self.settings
        predictor = settings.predictor if sees else None
        context = 0 if predictor is None else CONTEXT
        degradation = draw(settings.degradations, settings.crop, random, context)
        region = self._crop(degradation.place.region, random)
        measured = degradation.measured(region, random)
        shown = (
            degradation.condition(measured)
            if predictor is None
            else degradation.evidence(measured, predictor.shown)
        )

        return degradation.clean(region), shown


class Numbered(Protocol):
    """Batches that depend on their number alone."""

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return batch number ``step``, from 0, or the part of one process.

        Args:
            step: Number of the batch.
            part: (rank, world). The parts of ranks 0 to world − 1, one after another, are the whole
                batch.

        Raises:
            BadArgument: A negative step, no such rank, or more ranks than pictures.
        """


def stream(
    batches: Numbered,
    first_step: int = 0,
    prefetch: int = 2,
    *,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
    pinned: bool = False,
) -> Iterator[Batch]:
    """Yield batches ``first_step``, ``first_step + 1``, … without end, made ahead.

    An error in the making is raised where the batch is taken. Closing the iterator ends threads
    and processes.

    Args:
        batches: Makes them.
        first_step: Number of the first batch.
        prefetch: Batches made ahead, at least 1; with workers by each of them.
        workers: Processes that make them; 0 is one thread of this process. A thread is right
            for training on a CPU; a GPU may need several processes.
        part: See `Batches.at`.
        pinned: True for memory from which a GPU copies while it computes; only batches made by
            processes are.
    """
    check_whole("first_step", first_step, 0)
    check_whole("prefetch", prefetch, 1, "batches")
    check_whole("workers", workers, 0)
    if workers:
        return _by_processes(batches, first_step, prefetch, part, workers, pinned)
    return _by_thread(batches, first_step, prefetch, part)


def _empty(clean: Tensor, sees: bool) -> Condition | Evidence:
    """Return the condition or evidence of a batch of which nothing is known."""
    count, _, height, width = clean.shape
    maps = (torch.zeros(count, 1, height, width) for _ in range(2))
    picture, known, noise = torch.zeros_like(clean), *maps
    return Evidence(picture, known, noise) if sees else Condition(picture, known)


def _unconditional(index: int, offset: float, fraction: float) -> bool:
    """Return True for pictures without a condition, evenly spread over a batch.

    ``offset`` in [0, 1) rounds their number up or down at random.
    """
    return math.floor((index + 1) * fraction + offset) > math.floor(index * fraction + offset)


def _by_thread(
    batches: Numbered, first_step: int, prefetch: int, part: tuple[int, int]
) -> Iterator[Batch]:
    torch.get_num_threads()  # fixes the number of this thread before the other one sets its own
    executor = ThreadPoolExecutor(
        1, "training-data", initializer=torch.set_num_threads, initargs=(1,)
    )
    ahead: deque[Future[Batch]] = deque()

    try:
        for step in itertools.count(first_step):
            ahead.append(executor.submit(batches.at, step, part))
            if len(ahead) > prefetch:
                yield ahead.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


class _Steps(Dataset[Batch | Exception]):
    """Batches as a data set for the loader's processes.

    Expected errors are returned as values, so that they arrive as they were raised.
    """

    def __init__(self, batches: Numbered, part: tuple[int, int]) -> None:
        self.batches = batches
        self.part = part

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self.batches.at(step, self.part)
        except (RestoreError, OSError, MemoryError) as error:
            return error


def _by_processes(
    batches: Numbered,
    first_step: int,
    prefetch: int,
    part: tuple[int, int],
    workers: int,
    pinned: bool,
) -> Iterator[Batch]:
    context = "fork" if hasattr(os, "fork") else None  # forked, they share the pictures' memory
    loader = DataLoader(
        _Steps(batches, part),
        batch_size=None,
        sampler=itertools.count(first_step),
        num_workers=workers,
        prefetch_factor=prefetch,
        multiprocessing_context=context,
        pin_memory=pinned,
        generator=torch.Generator(),  # the default one belongs to the training
    )
    made = iter(loader)

    try:
        for batch in made:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        del made  # ends the processes
