"""Pictures that are restored in one batch: their parts, and the report of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from restore.methods.report import Report, Result
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.photo.pictures import Picture


def places_of_equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of equal keys, in the order of first occurrence."""
    places: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    return list(places.values())


def in_parts(
    restore: Callable[[Sequence[Picture]], list[Result]],
    images: Sequence[Picture],
    parts: Sequence[Sequence[int]],
) -> list[Result]:
    """Restore parts of a batch one after the other; the results keep the order of the images."""
    found: dict[int, Result] = {}
    for part in parts:
        results = restore([images[index] for index in part])
        found.update(zip(part, results, strict=True))

    return [found[index] for index in range(len(images))]


def of_one(report: Report, problem: Problem, explained: Tensor, index: int) -> Report:
    """Return the report of one picture of a batch."""
    found, left = explained[index].tolist()
    return replace(
        report,
        noise=float(problem.noise[index]),
        consistency=found,
        unexplained=left,
        seconds=report.seconds / len(problem.noise),
        signal_noise=problem.signal_noise[index : index + 1],
    )
