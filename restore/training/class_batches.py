"""Batches for a classifier: crops of photographs of which each folder holds one class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from restore.diffusion.denoiser import Condition
from restore.errors import FileAccess, NothingToDo
from restore.jobs.walk import is_hidden_folder
from restore.training.batches import Batch, BatchSettings, stream
from restore.training.pictures import Pictures, Skipped, random_of


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes of a folder, those of the folders in it, sorted.

    Raises:
        FileAccess: There is no such folder.
        NothingToDo: It has fewer than two folders.
    """
    if not folder.is_dir():
        raise FileAccess(f"{folder}: no such folder")

    below = (path.name for path in folder.iterdir() if path.is_dir())
    names = tuple(sorted(name for name in below if not is_hidden_folder(name)))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise NothingToDo(
            f"{folder}: a classifier learns from a folder of photographs for each class, at least "
            f"two; {found} is in it"
        )
    return names


class ClassBatches:
    """Batches of pictures with their classes, all of which are drawn equally often.

    As in `restore.training.batches.Batches`, a batch depends on the seed and its number alone.

    Args:
        folder: Has a folder of photographs for each class.
        names: Names of the classes.
        settings: Crop, batch, seed and augmentation; all else has no meaning here.
        cache: See `restore.training.pictures.Pictures`.

    Raises:
        FileAccess, NothingToDo: See `restore.training.pictures.Pictures`, for any class.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        settings: BatchSettings,
        *,
        cache: Path | None = None,
    ) -> None:
        self.settings = settings
        self.pictures = [
            Pictures(folder / name, smallest=settings.crop, cache=cache) for name in names
        ]

    @property
    def skipped(self) -> list[Skipped]:
        """Unreadable pictures and pictures smaller than the crop."""
        return [skipped for pictures in self.pictures for skipped in pictures.skipped]

    def with_size(self, crop: int, batch: int) -> ClassBatches:
        """Return the same pictures in crops and batches of another size, sharing the memory.

        Raises:
            NothingToDo: No picture of a class is large enough.
        """
        other = object.__new__(ClassBatches)
        other.settings = replace(self.settings, crop=crop, batch=batch)
        other.pictures = [pictures.at_least(crop) for pictures in self.pictures]
        return other

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return batch number ``step``, from 0, or the part of one process.

        Raises:
            BadArgument: See `restore.training.batches.BatchSettings.bounds`.
        """
        settings = self.settings
        indices = range(*settings.bounds(part))
        side = settings.crop
        clean = torch.empty(len(indices), 3, side, side)
        labels = torch.empty(len(indices), dtype=torch.int64)

        for row, index in enumerate(indices):
            random = random_of(settings.seed, step, index)
            labels[row] = label = int(random.integers(len(self.pictures)))
            picture = self.pictures[label].crop(side, random, settings.augmentation)
            torch.sub(2 * picture, 1, out=clean[row])

        nothing = Condition(torch.zeros_like(clean), torch.zeros_like(clean[:, :1]))
        return Batch(clean, nothing, labels=labels)

    def stream(
        self,
        first_step: int = 0,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]:
        """Yield batches without end, see `restore.training.batches.stream`."""
        return stream(self, first_step, workers=workers, part=part, pinned=pinned)
