"""The mean of a truncated normal distribution, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import truncnorm

from operators import truncated
from operators.truncated import truncated_mean


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_it_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    mean = random.normal(0, 3, 400)
    deviation = 10 ** random.uniform(-1, 2, 400)
    low = random.normal(0, 3, 400)
    high = low + 10 ** random.uniform(-2, 1, 400)

    found = truncated_mean(*(torch.from_numpy(v) for v in (mean, deviation, low, high)))
    a, b = (low - mean) / deviation, (high - mean) / deviation
    expected = truncnorm(a, b, mean, deviation).mean()
    near = np.minimum(abs(a), abs(b)) < 6  # scipy loses digits in the tails
    assert near.sum() > 300
    np.testing.assert_allclose(found.numpy()[near], expected[near], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("far", [8.0, 30.0, 200.0])
def test_far_tails_by_quadrature(far: float) -> None:
    """The density beyond a is exp(−(t + t²/(2a²))) with t = a (x − a)."""

    def density(x: float) -> float:
        return float(np.exp(-(x**2 - far**2) / 2))

    end = far + 10 / far
    mass = quad(density, far, end)[0]
    expected = quad(lambda x: x * density(x), far, end)[0] / mass
    found = truncated_mean(numbers(0.0), numbers(1.0), numbers(far), numbers(end))
    mirrored = truncated_mean(numbers(0.0), numbers(1.0), numbers(-end), numbers(-far))
    assert float(found) == pytest.approx(expected, rel=1e-9)
    assert float(mirrored) == pytest.approx(-expected, rel=1e-9)


def test_without_deviation_it_is_the_nearest_value() -> None:
    found = truncated_mean(numbers(-1, 0.2, 0.5, 7), numbers(0), numbers(0), numbers(0.5))
    assert found.tolist() == [0, 0.2, 0.5, 0.5]


def test_a_wide_distribution_gives_the_middle() -> None:
    found = truncated_mean(numbers(-1e3, 0, 1e3), numbers(1e9), numbers(1), numbers(3))
    np.testing.assert_allclose(found.numpy(), 2, atol=1e-4)


def test_a_point_is_its_mean() -> None:
    found = truncated_mean(numbers(-5, 0, 5), numbers(0.1), numbers(2), numbers(2))
    assert found.tolist() == [2, 2, 2]


def test_in_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(7, 5, 8, generator=generator)
    low = torch.randn(7, 5, 8, generator=generator)
    whole = truncated_mean(mean, torch.tensor(0.3), low, low + 1)
    monkeypatch.setattr(truncated, "CHUNK", 50)
    assert torch.equal(truncated_mean(mean, torch.tensor(0.3), low, low + 1), whole)
    assert whole.dtype == torch.float32
