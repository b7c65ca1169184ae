"""Distances of two sets of pictures by their features, arrays float64 [N, D], a row a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rows of a matrix of distances that are in memory at once.
ROWS_AT_ONCE = 1024


class Statistics(NamedTuple):
    """Mean [D] and covariance [D, D] of features."""

    mean: Array
    covariance: Array

    @classmethod
    def of(cls, features: Array) -> Statistics:
        """Estimate them from features [N, D], N at least 2."""
        return cls(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class Neighbours(NamedTuple):
    """Fractions of two sets that lie in each other's neighbourhoods.

    Attributes:
        precision: Fraction of the generated pictures that are within the manifold of the reference.
        recall: Fraction of the reference within the manifold of the generated pictures.
        density: Mean number of neighbourhoods of the reference that a generated picture is in, over
            k; it may exceed 1.
        coverage: Fraction of the reference whose neighbourhood has a generated picture.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return the Fréchet distance of two Gaussians, at least 0.

    ``|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½)`` (FID: Heusel et al. 2017, arXiv 1706.08500, eq.
    6). The trace of the root is the sum of the singular values of ``Σ_a^½ Σ_b^½``, which are real
    also for singular covariances, those of fewer pictures than features.
    """
    root_trace = np.linalg.norm(_root(a.covariance) @ _root(b.covariance), "nuc")
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root_trace
    return max(0.0, float(((a.mean - b.mean) ** 2).sum() + traces))


def kernel_distance(a: Array, b: Array) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy of two sets, and its standard error.

    KID: Bińkowski et al. 2018, arXiv 1801.01401, eq. 4, with the kernel ``(x·y/D + 1)³``. It may be
    negative. The error is the jackknife's, which leaves out each picture of either set in turn
    (Arvesen 1969, Ann. Math. Statist. 40(6), for U-statistics of two samples). It is right for sets
    that differ, and up to √2 times too large for those of one distribution.

    Args:
        a, b: [N, D] and [M, D], N and M at least 3.
    """
    within_a, within_b = (_kernel_sums(own, own, without_self=True) for own in (a, b))
    across_a, across_b = _kernel_sums(a, b), _kernel_sums(b, a)
    n, m = len(a), len(b)

    def distance(inside_a: Array, inside_b: Array, across: Array, n: int, m: int) -> Array:
        return inside_a / (n * (n - 1)) + inside_b / (m * (m - 1)) - 2 * across / (n * m)

    sum_a, sum_b, sum_across = (part.sum() for part in (within_a, within_b, across_a))
    value = distance(sum_a, sum_b, sum_across, n, m)
    without_a = distance(sum_a - 2 * within_a, sum_b, sum_across - across_a, n - 1, m)
    without_b = distance(sum_a, sum_b - 2 * within_b, sum_across - across_b, n, m - 1)
    variance = sum((len(left) - 1) * float(np.var(left)) for left in (without_a, without_b))

    return Estimate(float(value), math.sqrt(variance))


def neighbours(
    generated: Array, reference: Array, *, k_precision: int = 3, k_density: int = 5
) -> Neighbours:
    """Return precision and recall, density and coverage.

    Precision and recall: Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 to 3, with balls that
    reach to the k-th nearest other picture of their set, k = 3 as there. Density and coverage:
    Naeem et al. 2020, arXiv 2002.09797, eq. 4 and 5, with k = 5 as there.

    Args:
        generated, reference: [N, D] and [M, D], each with more than k pictures.
        k_precision: k of precision and recall.
        k_density: k of density and coverage.

    Raises:
        ValueError: A set has no k-th neighbour.
    """
    most = max(k_precision, k_density)
    if min(len(generated), len(reference)) <= most:
        raise ValueError(
            f"more than {most} pictures are needed in both sets, not {len(generated)} and "
            f"{len(reference)}"
        )

    radii = _radii(reference, most)
    of_generated = _radii(generated, k_precision)[:, k_precision - 1]
    precise = np.zeros(len(generated), dtype=bool)
    dense = 0
    recalled = np.zeros(len(reference), dtype=bool)
    covered = np.zeros(len(reference), dtype=bool)

    for rows, squared in _squared_distances(reference, generated):
        precise |= (squared <= radii[rows, k_precision - 1, None]).any(axis=0)
        recalled[rows] = (squared <= of_generated).any(axis=1)
        inside = squared <= radii[rows, k_density - 1, None]
        dense += int(inside.sum())
        covered[rows] = inside.any(axis=1)

    return Neighbours(
        float(precise.mean()),
        float(recalled.mean()),
        dense / (k_density * len(generated)),
        float(covered.mean()),
    )


def _root(covariance: Array) -> Array:
    """Symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root: Array = vectors * np.sqrt(values.clip(0)) @ vectors.T
    return root


def _kernel_sums(a: Array, b: Array, *, without_self: bool = False) -> Array:
    """Sum of the kernel of each row of a with all rows of b, without that with itself: [N]."""
    sums = [
        ((a[first : first + ROWS_AT_ONCE] @ b.T / a.shape[1] + 1) ** 3).sum(axis=1)
        for first in range(0, len(a), ROWS_AT_ONCE)
    ]
    total: Array = np.concatenate(sums)
    return total - ((a**2).sum(axis=1) / a.shape[1] + 1) ** 3 if without_self else total


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Yield rows of the matrix of squared Euclidean distances, some at a time."""
    norms = (b**2).sum(axis=1)
    for first in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        part = a[rows]
        squared = (part**2).sum(axis=1)[:, None] + norms - 2 * part @ b.T
        yield rows, squared.clip(0)


def _radii(features: Array, k: int) -> Array:
    """Squared distances to the 1st … k-th nearest other row, [N, k]."""
    found = np.empty((len(features), k))
    for rows, squared in _squared_distances(features, features):
        numbers = np.arange(len(features))[rows]
        squared[np.arange(len(numbers)), numbers] = np.inf
        found[rows] = np.sort(np.partition(squared, k - 1, axis=1)[:, :k], axis=1)

    return found
