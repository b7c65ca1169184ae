"""Batches of pictures that are restored together, with fallback to smaller ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from restore.errors import BadArgument, RestoreError
from restore.jobs.picture import Loaded, Work
from restore.jobs.plan import Job
from restore.methods.report import Result
from restore.restorer import Restorer
from restore.runtime.devices import is_out_of_memory, release_memory
from restore.runtime.progress import Progress
from restore.runtime.tiles import Notice


class Batches:
    """Restores pictures, in batches of equal size if that is faster.

    Args:
        work: what is done to every picture.
        restorer: the model.
        wanted: maximum batch size; None is what suits the device, 1 on a CPU.
        progress: shows the current pictures.
        notice: called with a warning when a batch does not fit the memory.
    """

    def __init__(
        self, work: Work, restorer: Restorer, wanted: int | None, progress: Progress, notice: Notice
    ) -> None:
        self.work = work
        self.restorer = restorer
        self.wanted = wanted
        self.progress = progress
        self.notice = notice
        # batch size that fits the memory, as far as known
        self._most: float = math.inf

    def most(self, first: Loaded) -> int:
        """Return the maximum batch size for pictures like this one.

        It is 1 for measurements, pictures with alpha, a start, cascades and feed-forward networks.
        """
        options = self.work.options
        in_stages = first.task.cascade_stages is not None
        if first.measurement is not None or first.photo.alpha is not None or in_stages:
            return 1
        if options.start is not None or options.networks:
            return 1

        size = first.picture.shape[:2]

        try:
            count = self.restorer.pictures_at_once(first.task, size, self.wanted)
        except RestoreError:  # raised again, and reported, when the picture is restored
            return 1

        return int(min(count, self._most))

    def alike(self, first: Loaded, other: Loaded) -> bool:
        """Return True if two pictures can be in one batch.

        They have the same size, channels, task options and companion, such as a mask.
        """
        return (
            other.measurement is None
            and first.picture.shape == other.picture.shape
            and all(
                np.array_equal(getattr(first.task, field.name), getattr(other.task, field.name))
                for field in fields(first.task)
            )
        )

    def solve(
        self, jobs: Sequence[Job], loaded: Sequence[Loaded]
    ) -> list[tuple[Loaded, Result] | Exception]:
        """Restore pictures that are alike, and return the result or the error of each.

        If memory runs out, the batch size is halved for good. After any other error the pictures
        are restored one by one, to find the one that failed.
        """
        self.progress.picture(_named(jobs), len(jobs))
        try:
            return list(zip(loaded, self._results(loaded), strict=True))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            count = self._fewer(len(jobs)) if is_out_of_memory(error) else 1

        release_memory(self.restorer.device)
        self.progress.drop()
        parts = (slice(start, start + count) for start in range(0, len(jobs), count))

        return [one for part in parts for one in self.solve(jobs[part], loaded[part])]

    def _results(self, loaded: Sequence[Loaded]) -> list[Result]:
        if len(loaded) == 1:
            return [self.work.solve(self.restorer, loaded[0], self.progress.step)]
        return self.work.solve_together(self.restorer, loaded, self.progress.step)

    def _fewer(self, count: int) -> int:
        self._most = count // 2
        self.notice(f"not enough memory for {count} pictures together: going on with {self._most}")
        return self._most


def check_batch(batch: int | None) -> None:
    """Check a batch size.

    Raises:
        BadArgument: a batch size below 1.
    """
    if batch is not None and batch < 1:
        raise BadArgument(
            f"`batch`={batch}: must be at least 1, which restores one picture after the other"
        )


def _named(jobs: Sequence[Job]) -> str:
    name = Path(jobs[0].source_name).name
    return name if len(jobs) == 1 else f"{len(jobs)} from {name}"
