"""Distances of sets of features against scipy, torchmetrics, closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from restore.metrics import distances
from restore.metrics.distances import Statistics, frechet_distance, kernel_distance, neighbours


def _features(count: int, dimensions: int = 6, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, dimensions)) @ rng.standard_normal((dimensions,) * 2)
    return mixed + shift


def test_frechet_distance_is_scipys() -> None:
    a, b = (Statistics.of(_features(200, seed=seed, shift=seed)) for seed in (1, 2))
    root = sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_known_gaussians() -> None:
    """Of N(m, s²) it is Σ (m_a − m_b)² + (s_a − s_b)²."""
    a = Statistics(np.array([0.0, 1.0]), np.diag([4.0, 0.25]))
    b = Statistics(np.array([3.0, 1.0]), np.diag([1.0, 9.0]))
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 2.5**2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_of_fewer_pictures_than_features() -> None:
    """Both covariances are singular; scipy's root then is complex or fails."""
    few = [_features(5, 20, seed) for seed in (3, 4)]
    both = [Statistics.of(own) for own in few]
    assert frechet_distance(both[0], both[0]) == pytest.approx(0, abs=1e-6)
    shifted = Statistics(both[0].mean + 2, both[0].covariance)
    assert frechet_distance(both[0], shifted) == pytest.approx(80, rel=1e-6)
    assert frechet_distance(*both) > 0
    assert frechet_distance(*(Statistics.of(own[:, :1]) for own in few)) > 0


class _Same(torch.nn.Module):
    """Features that are given as pictures."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_distances_are_those_of_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = _features(90, seed=5), _features(90, seed=6, shift=0.3)
    fid = FrechetInceptionDistance(feature=_Same(), input_img_size=(6,)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=_Same(), subsets=1, subset_size=90)
    for metric in (fid, kid):
        metric.update(torch.from_numpy(a), real=True)
        metric.update(torch.from_numpy(b), real=False)
    found = frechet_distance(Statistics.of(a), Statistics.of(b))
    assert found == pytest.approx(float(fid.compute()), rel=1e-4)
    assert kernel_distance(a, b).value == pytest.approx(float(kid.compute()[0]), rel=1e-4)


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    a, b = _features(7, seed=1), _features(5, seed=2)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    inside = [
        np.mean([kernel(x, y) for i, x in enumerate(own) for j, y in enumerate(own) if i != j])
        for own in (a, b)
    ]
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b).value == pytest.approx(sum(inside) - 2 * across)


@pytest.mark.parametrize(("shift", "excess"), [(0.0, 2**0.5), (2.0, 1.0)])
def test_kernel_distance_is_unbiased_and_knows_its_error(shift: float, excess: float) -> None:
    """Over independent sets: the mean is that of large sets, the spread what the error says, which
    is √2 times too large for sets of one distribution, where a jackknife counts pairs twice.
    """
    rng = np.random.default_rng(0)
    draws = [
        kernel_distance(rng.standard_normal((40, 4)), rng.standard_normal((60, 4)) + shift)
        for _ in range(400)
    ]
    values = np.array([draw.value for draw in draws])
    large = kernel_distance(rng.standard_normal((3000, 4)), rng.standard_normal((3000, 4)) + shift)
    assert abs(values.mean() - large.value) < 4 * math.hypot(values.std() / 20, large.error)
    errors = np.sqrt(np.mean([draw.error**2 for draw in draws]))
    assert errors == pytest.approx(excess * values.std(), rel=0.15)


def test_neighbourhoods_are_those_of_the_papers() -> None:
    """The formulas of the authors' code, prdc, with scipy's distances."""
    generated, reference = _features(60, seed=1), _features(80, seed=2, shift=0.5)
    within = [np.sort(cdist(own, own), axis=1) for own in (reference, generated)]
    across = cdist(reference, generated)
    found = neighbours(generated, reference)

    assert found.precision == (across < within[0][:, 3, None]).any(axis=0).mean()
    assert found.recall == (across < within[1][None, :, 3]).any(axis=1).mean()
    inside = across < within[0][:, 5, None]
    assert found.density == pytest.approx(inside.sum(axis=0).mean() / 5)
    assert found.coverage == inside.any(axis=1).mean()
    assert 0 < found.recall < 1
    assert 0 < found.precision < 1


def test_rows_in_parts_are_the_same(monkeypatch) -> None:
    a, b = _features(30, seed=1), _features(41, seed=2)
    whole = kernel_distance(a, b), neighbours(a, b)
    monkeypatch.setattr(distances, "ROWS_AT_ONCE", 7)
    assert kernel_distance(a, b) == pytest.approx(whole[0])
    assert neighbours(a, b) == whole[1]


def test_sets_apart_and_equal() -> None:
    a = _features(50)
    assert neighbours(a, a) == (1, 1, pytest.approx(1.2), 1)  # each is in its own ball too
    assert neighbours(a + 1000, a) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="more than 5 pictures are needed in both sets, not 5"):
        neighbours(a[:5], a)
