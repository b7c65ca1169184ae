"""Whether samples are as near to a known distribution as exact samples of the same number are."""

from __future__ import annotations

from functools import cache

import torch
from support.analytic import Mixture, sliced_wasserstein
from torch import Tensor

EXACT_SETS = 30
GAPS = ("mean", "covariance", "sliced Wasserstein")


@cache
def _world(mixture: Mixture, count: int) -> tuple[Tensor, Tensor]:
    """A set of exact samples to compare with, and the gaps of others, [EXACT_SETS, 3]."""
    draw = torch.Generator().manual_seed(1000)
    reference = mixture.sample(count, draw)
    return reference, torch.stack(
        [_gaps(mixture.sample(count, draw), mixture, reference) for _ in range(EXACT_SETS)]
    )


def _gaps(samples: Tensor, mixture: Mixture, reference: Tensor) -> Tensor:
    """Of the mean, in units of the spread; of the covariance, relative; and the sliced Wasserstein
    distance: [3].
    """
    flat = samples.double().flatten(1)
    spread = mixture.covariance.diagonal().sum().sqrt()
    mean = (flat.mean(0) - mixture.mean).norm() / spread
    covariance = (flat.T.cov() - mixture.covariance).norm() / mixture.covariance.norm()
    distance = sliced_wasserstein(
        samples, reference, torch.Generator().manual_seed(0), directions=50
    )
    return torch.stack([mean, covariance, torch.tensor(distance).double()])


def deviations(samples: Tensor, mixture: Mixture) -> Tensor:
    """By how many standard deviations the samples' gaps exceed the mean gaps of exact samples:
    [3].
    """
    reference, exact = _world(mixture, len(samples))
    return (_gaps(samples, mixture, reference) - exact.mean(0)) / exact.std(0)


def assert_matches(samples: Tensor, mixture: Mixture) -> None:
    """What is left between the samples [N, 1, 1, D] and the mixture is Monte-Carlo error: 4
    standard deviations.
    """
    for name, deviation in zip(GAPS, deviations(samples, mixture).tolist(), strict=True):
        assert deviation < 4, f"{name}: {deviation:.1f} standard deviations beyond exact samples"


def assert_moments(samples: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Mean and covariance of samples [N, …] are those given but for Monte-Carlo error.

    The squared error of the covariance of N Gaussian samples is ``(tr(C)² + ‖C‖²)/N`` on average.
    """
    flat = samples.double().flatten(1)
    count = len(flat)
    off = (flat.mean(0) - mean).norm() / (covariance.diagonal().sum() / count).sqrt()
    assert off < 2, f"the mean is off by {off:.1f} times its Monte-Carlo error"

    expected = (covariance.diagonal().sum() ** 2 + covariance.square().sum()) / count
    off = (flat.T.cov() - covariance).norm() / expected.sqrt()
    assert off < 2, f"the covariance is off by {off:.1f} times its Monte-Carlo error"
