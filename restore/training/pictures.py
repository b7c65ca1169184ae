"""Photographs for training, decoded once, and batches of crops with their conditions."""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrained.tables import read_json
from restore.backbone import mirror_to_multiple
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError
from restore.jobs.walk import pictures_in
from restore.photo.apart import decoding_apart
from restore.photo.encode import quantise
from restore.photo.photograph import SUFFIXES, read_photo

# Smallest side of a crop in pixels.
SMALLEST_CROP = 8

# Goes into the name of the cache, so that files of an older layout are not read.
_CACHE_VERSION = 1

# Skipped files that an error names.
_NAMED = 3

Random = np.random.Generator
# uint8 ``[3, H, W]``, or the reason why a picture is skipped.
Decoded = Tensor | str


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


def random_of(seed: int, *key: int) -> Random:
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
