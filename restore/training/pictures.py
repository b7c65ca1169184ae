"""Photographs for training, decoded once, and batches of crops with their conditions."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pretrained.tables import read_json
from restore.backbone import mirror_to_multiple
from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Shown
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError
from restore.jobs.walk import pictures_in
from restore.photo.apart import decoding_apart
from restore.photo.encode import quantise
from restore.photo.photograph import SUFFIXES, read_photo
from restore.training.degradations import CONTEXT, Mixture, draw

# Smallest side of a crop in pixels.
SMALLEST_CROP = 8

# Goes into the name of the cache, so that files of an older layout are not read.
_CACHE_VERSION = 1

# Skipped files that an error names.
_NAMED = 3

Random = np.random.Generator
# uint8 ``[3, H, W]``, or the reason why a picture is skipped.
Decoded = Tensor | str


class Batch(NamedTuple):
    """Pictures and what the network is shown of them, in float32.

    Attributes:
        clean: [B, 3, n, n] in [-1, 1].
        condition: ``picture`` [B, 3, n, n] in [-1, 1] except for the overshoot of bicubic
            enlargement, which tasks do not clip either; ``known`` [B, 1, n, n]. Both are zero for
            pictures that train the unconditional prior.
        evidence: What a predictor is shown, in batches in which one takes part. The condition is
            then its first two parts, which the predictor's answer replaces.
    """

    clean: Tensor
    condition: Condition
    evidence: Evidence | None = None

    def to(self, device: torch.device) -> Batch:
        clean, picture, known = (
            t.to(device, non_blocking=True) for t in (self.clean, *self.condition)
        )
        evidence = None if self.evidence is None else self.evidence.to(device)
        return Batch(clean, Condition(picture, known), evidence)


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


class Skipped(NamedTuple):
    """A file that is not used.

    Attributes:
        path: The file.
        reason: Why it is not used.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Augmentation:
    """Random variation of the crops.

    Attributes:
        flips: Mirror half of them.
        rotations: Rotate them by multiples of 90°.
        downscale: Downsample them by up to this factor, log-uniformly, by antialiased bicubic
            sampling. It varies the scale of textures, and averages away noise and JPEG artefacts of
            the photographs themselves.
        native: Fraction of the crops that are not downsampled.

    Raises:
        BadArgument: A factor is below 1 or a fraction outside [0, 1].
    """

    flips: bool = True
    rotations: bool = True
    downscale: float = 2.5
    native: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.downscale <= 16:
            raise BadArgument(f"downscale {self.downscale:g}: must be a factor from 1 to 16")
        if not 0 <= self.native <= 1:
            raise BadArgument(f"native {self.native:g}: must be a fraction from 0 to 1")


class Pictures:
    """All pictures below a folder, decoded once to 8 bits: 0.7 GB for 240 megapixels.

    Files with a suffix of `restore.photo.photograph.SUFFIXES` count, in the order of their paths.
    Grey becomes three equal channels, 16 bits become 8, and transparent pictures are laid over
    black. Colour profiles are not applied.

    Args:
        folder: Searched with all folders in it.
        smallest: Pictures with a side below this are skipped.
        cache: Folder for a file with all decoded pixels, made on the first run and mapped into
            memory afterwards, so that starting takes no time and several processes share the
            memory. Changed pictures make a new file.

    Attributes:
        paths: Paths of the pictures in use.
        planes: Their pixels, uint8 [3, H, W].
        skipped: Unreadable and too small files.

    Raises:
        FileAccess: There is no such folder, or a cache cannot be written.
        NothingToDo: There is no picture in the folder, or all were skipped.
    """

    def __init__(
        self, folder: Path | str, *, smallest: int = SMALLEST_CROP, cache: Path | str | None = None
    ) -> None:
        self.folder = Path(folder)
        found = _find(self.folder)
        decoded = _decoded(found) if cache is None else _cached(found, self.folder, Path(cache))
        self.skipped: list[Skipped] = []
        self._choose(zip(found, decoded, strict=True), smallest)

    def _choose(self, pictures: Iterable[tuple[Path, Decoded]], smallest: int) -> None:
        self.paths: list[Path] = []
        self.planes: list[Tensor] = []
        for path, planes in pictures:
            if isinstance(planes, str):
                self.skipped.append(Skipped(path, planes))
            elif min(height := planes.shape[1], width := planes.shape[2]) < smallest:
                self.skipped.append(
                    Skipped(path, f"{width}x{height} pixels, smaller than the crop of {smallest}")
                )
            else:
                self.paths.append(path)
                self.planes.append(planes)

        if not self.planes:
            raise NothingToDo(
                f"{self.folder}: none of its {len(self.skipped)} pictures can be used: "
                f"{_listed(self.skipped)}"
            )

        self._areas = np.cumsum([planes[0].numel() for planes in self.planes])

    def __len__(self) -> int:
        return len(self.planes)

    @property
    def pixels(self) -> int:
        """Number of pixels of all pictures in use."""
        return int(self._areas[-1])

    @property
    def bytes(self) -> int:
        """Bytes of memory, or of the mapped file."""
        return 3 * self.pixels

    def at_least(self, smallest: int) -> Pictures:
        """Return the pictures that are large enough, sharing the memory.

        Raises:
            NothingToDo: There is none.
        """
        rest = copy(self)
        rest.skipped = list(self.skipped)
        rest._choose(zip(self.paths, self.planes, strict=True), smallest)
        return rest

    def crop(self, side: int, random: Random, augmentation: Augmentation | None = None) -> Tensor:
        """Cut a random square of a random picture, chosen in proportion to its area.

        A picture that is smaller than ``side`` is mirrored at its right and lower border.

        Returns:
            float32 [3, side, side] in [0, 1].
        """
        augmentation = augmentation or Augmentation()
        planes = self.planes[
            np.searchsorted(self._areas, random.integers(self.pixels), side="right")
        ]
        height, width = planes.shape[1:]
        source = _source_side(side, min(height, width), augmentation, random)
        top = int(random.integers(height - source + 1))
        left = int(random.integers(width - source + 1))
        square = planes[:, top : top + source, left : left + source].float().div_(255)
        if source > side:
            # equal to operators.downsample, without multiplying by the zeros of its matrices
            square = F.interpolate(square[None], size=(side, side), mode="bicubic", antialias=True)[
                0
            ].clamp_(0, 1)
        elif source < side:
            square = mirror_to_multiple(square[None], side)[0]

        if augmentation.flips and random.random() < 0.5:
            square = square.flip(-1)

        return square.rot90(int(random.integers(4)), (-2, -1)) if augmentation.rotations else square


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
        """Return batch number ``step``, from 0, or the part of one process.

        Args:
            step: Number of the batch.
            part: (rank, world). The parts of ranks 0 to world − 1, one after another, are the whole
                batch.

        Raises:
            BadArgument: A negative step, no such rank, or more ranks than pictures.
        """
        check_whole("step", step, 0)
        crop = self.settings.crop
        seed = self.settings.seed
        indices = range(*self.settings.bounds(part))
        sees = self.settings.sees(step)
        fraction = self.settings.unconditional_at(step)
        clean = torch.empty(len(indices), 3, crop, crop)
        shown = _empty(clean, sees)
        offset = _random(seed, step, self.settings.batch).random()

        for row, index in enumerate(indices):
            random = _random(seed, step, index)
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
        """Yield batches ``first_step``, ``first_step + 1``, … without end, made ahead.

        An error in the making is raised where the batch is taken. Closing the iterator ends threads
        and processes.

        Args:
            first_step: Number of the first batch.
            prefetch: Batches made ahead, at least 1; with workers by each of them.
            workers: Processes that make them; 0 is one thread of this process. A thread is right
                for training on a CPU; a GPU may need several processes.
            part: See `at`.
            pinned: True for memory from which a GPU copies while it computes; only batches made by
                processes are.
        """
        check_whole("first_step", first_step, 0)
        check_whole("prefetch", prefetch, 1, "batches")
        check_whole("workers", workers, 0)
        if workers:
            return _by_processes(self, first_step, prefetch, part, workers, pinned)
        return _by_thread(self, first_step, prefetch, part)

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
    batches: Batches, first_step: int, prefetch: int, part: tuple[int, int]
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

    def __init__(self, batches: Batches, part: tuple[int, int]) -> None:
        self.batches = batches
        self.part = part

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self.batches.at(step, self.part)
        except (RestoreError, OSError, MemoryError) as error:
            return error


def _by_processes(
    batches: Batches,
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


def _random(seed: int, *key: int) -> Random:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _source_side(side: int, shortest: int, augmentation: Augmentation, random: Random) -> int:
    """Draw the side of the square in the photograph that becomes ``side`` pixels wide."""
    chance, size = random.random(2)
    most = min(augmentation.downscale, shortest / side)
    if chance < augmentation.native or most <= 1:
        return min(side, shortest)
    return min(round(side * most**size), shortest)


def _find(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileAccess(f"{folder}: no such folder")
    found = [path for path in pictures_in(folder, SUFFIXES) if path.is_file()]
    if not found:
        raise NothingToDo(f"{folder}: no picture in it; pictures are {', '.join(sorted(SUFFIXES))}")
    return found


def _decoded(found: Iterable[Path]) -> Iterator[Decoded]:
    """Yield the pixels of each picture, or why it is skipped, decoded apart."""
    with decoding_apart():
        yield from map(_decode, found)


def _decode(path: Path) -> Decoded:
    try:
        photo = read_photo(path)
    except RestoreError as error:
        return str(error)

    pixels = photo.pixels if photo.alpha is None else photo.pixels * photo.alpha[..., None]
    planes = quantise(pixels, 8).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(np.broadcast_to(planes, (3, *planes.shape[1:]))))


def _cached(found: Sequence[Path], folder: Path, cache: Path) -> Iterable[Decoded]:
    """Return pictures from two files, which are made if they do not exist.

    These hold all pixels, and each picture's size or the reason why it is skipped.
    """
    pixels = cache / f"pictures-{_fingerprint(found, folder)}.u8"
    index = pixels.with_suffix(".json")
    try:
        if not (index.is_file() and pixels.is_file()):
            cache.mkdir(parents=True, exist_ok=True)
            _write_cache(_decoded(found), pixels, index)
        entries = read_json(index)
        total = sum(3 * math.prod(entry) for entry in entries if not isinstance(entry, str))
        if pixels.stat().st_size != total:
            raise FileAccess(f"{pixels}: not whole; remove it, and it is made again")
        everything = (
            torch.from_file(str(pixels), shared=False, size=total, dtype=torch.uint8)
            if total
            else None
        )
    except FileAccess:
        raise
    except (OSError, ValueError) as error:
        raise FileAccess(
            f"{cache}: the cache cannot be used: {getattr(error, 'strerror', None) or error}"
        ) from error

    return _views(entries, everything)


def _views(
    entries: Sequence[str | tuple[int, int]], everything: Tensor | None
) -> Iterator[Decoded]:
    start = 0
    for entry in entries:
        if isinstance(entry, str) or everything is None:
            yield str(entry)
            continue
        length = 3 * math.prod(entry)
        yield everything[start : start + length].view(3, *entry)
        start += length


def _write_cache(decoded: Iterable[Decoded], pixels: Path, index: Path) -> None:
    """Write the cache; each file appears whole or not at all, the index last."""
    temporary = [path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp") for path in (pixels, index)]
    entries: list[str | list[int]] = []
    try:
        with open(temporary[0], "xb") as file:
            for planes in decoded:
                entries.append(planes if isinstance(planes, str) else list(planes.shape[1:]))
                if isinstance(planes, Tensor):
                    planes.numpy().tofile(file)
        temporary[1].write_text(json.dumps(entries), encoding="utf-8")
        os.replace(temporary[0], pixels)
        os.replace(temporary[1], index)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _fingerprint(found: Sequence[Path], folder: Path) -> str:
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in found]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(json.dumps([_CACHE_VERSION, facts]).encode()).hexdigest()[:16]


def _listed(skipped: Sequence[Skipped]) -> str:
    named = [
        entry.reason if str(entry.path) in entry.reason else f"{entry.path}: {entry.reason}"
        for entry in skipped
    ]
    return "; ".join(named[:_NAMED]) + (
        f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    )


def check_whole(name: str, value: int, least: int, unit: str = "") -> None:
    """Refuse a value that is no whole number of at least ``least``.

    Raises:
        BadArgument: The text names the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadArgument(
            f"{name} {value}: must be a whole number{' of ' + unit if unit else ''} of at least "
            f"{least}"
        )
