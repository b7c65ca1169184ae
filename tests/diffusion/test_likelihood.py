"""The likelihood by the probability-flow ODE against the exact one of mixtures that are known in
closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.likelihood import bits_per_dimension, log_likelihood

LOW = 0.01
HIGH = 80.0


def _bits_apart(found: Tensor, expected: Tensor, dimensions: int) -> float:
    """The largest difference in bits per dimension."""
    return float(
        (bits_per_dimension(found, dimensions) - bits_per_dimension(expected, dimensions))
        .abs()
        .max()
    )


@pytest.mark.parametrize(("dimensions", "count"), [(2, 200), (8, 50), (64, 2)])
def test_equals_the_exact_likelihood(dimensions: int, count: int) -> None:
    mixture = Mixture.random(dimensions)
    x = mixture.sample(count, torch.Generator().manual_seed(0))
    found = log_likelihood(
        mixture.denoise,
        x,
        LOW,
        HIGH,
        divergence="exact",
        terminal_log_density=lambda end: mixture.log_density(end, HIGH),
    )
    assert found.shape == (count,)
    assert _bits_apart(found, mixture.log_density(x, LOW), dimensions) < 1e-3


def test_white_noise_will_do_at_a_high_level() -> None:
    """The default terminal density, whose error falls as 1/σ_max."""
    mixture = Mixture.random(4)
    x = mixture.sample(50, torch.Generator().manual_seed(0))
    gaps = [
        _bits_apart(
            log_likelihood(mixture.denoise, x, LOW, high, divergence="exact"),
            mixture.log_density(x, LOW),
            4,
        )
        for high in (50.0, 5000.0)
    ]
    assert gaps[1] < 1e-3 < gaps[0]


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_hutchinson_is_right_in_the_mean(distribution: str) -> None:
    """Over many probes of the same two pictures, within the Monte-Carlo error."""
    mixture = Mixture.random(6)
    repeats = 400
    x = mixture.sample(2, torch.Generator().manual_seed(0))
    options = {
        "terminal_log_density": lambda end: mixture.log_density(end, HIGH),
        "rtol": 1e-4,
        "atol": 1e-4,
    }
    found = log_likelihood(
        mixture.denoise,
        x.repeat(repeats, 1, 1, 1),
        LOW,
        HIGH,
        probe_distribution=distribution,
        generator=torch.Generator().manual_seed(1),
        **options,
    ).reshape(repeats, 2)
    error = found.std(0) / repeats**0.5
    assert (error > 1e-3).all()  # the probes do matter
    assert ((found.mean(0) - mixture.log_density(x, LOW)).abs() < 4 * error).all()


def test_more_probes_spread_less() -> None:
    mixture = Mixture.random(6)
    x = mixture.sample(1, torch.Generator().manual_seed(0)).repeat(200, 1, 1, 1)
    spreads = [
        log_likelihood(
            mixture.denoise,
            x,
            LOW,
            HIGH,
            probes=probes,
            rtol=1e-3,
            generator=torch.Generator().manual_seed(1),
        ).std()
        for probes in (1, 8)
    ]
    assert float(spreads[0] / spreads[1]) == pytest.approx(8**0.5, rel=0.25)


def _network() -> Callable[..., Prediction]:
    """A small convolution as a denoiser that is shown a condition, in float32."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 1, 3, padding=1).requires_grad_(False)

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        shown = torch.zeros_like(x) if condition is None else condition.picture
        clean = torch.tanh(layer(torch.cat([x / (1 + sigma**2) ** 0.5, shown], dim=1)))
        return Prediction(clean, (x - clean) / sigma)

    return denoise


def test_within_inference_mode_and_with_a_condition() -> None:
    network = _network()
    make = torch.Generator().manual_seed(0)

    def run(condition: Condition | None, seed: int = 3) -> Tensor:
        picture = torch.zeros(2, 1, 4, 4) + 0.2
        return log_likelihood(
            network,
            picture,
            0.01,
            50.0,
            condition=condition,
            generator=torch.Generator().manual_seed(seed),
        )

    shown = torch.randn(2, 1, 4, 4, generator=make)
    outside = run(Condition(shown, shown))
    with torch.inference_mode():
        inside = run(Condition(shown.clone(), shown.clone()))
    assert torch.equal(inside, outside)
    with torch.no_grad():
        assert torch.equal(run(Condition(shown, shown)), outside)
    assert not torch.allclose(run(None), outside)
    assert not torch.equal(run(Condition(shown, shown), seed=4), outside)
    assert not outside.requires_grad


def test_hutchinson_agrees_with_the_exact_divergence_of_a_network() -> None:
    network = _network()
    x = torch.full((100, 1, 4, 4), 0.2)
    exact = log_likelihood(network, x[:1], 0.05, 50.0, divergence="exact")
    found = log_likelihood(network, x, 0.05, 50.0, generator=torch.Generator().manual_seed(0))
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / 10 + 1e-3


def test_bits_of_uniform_pixels() -> None:
    """All 256 values alike: 8 bits, 1 of the density on [-1, 1] and 7 of the width of a value."""
    density = torch.full((3,), -12 * math.log(2))
    torch.testing.assert_close(bits_per_dimension(density, 12), torch.full((3,), 8.0))
    torch.testing.assert_close(bits_per_dimension(density, 12, bin_width=1), torch.full((3,), 1.0))


def test_says_when_the_network_is_broken() -> None:
    def broken(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        return Prediction(x, x if sigma < 1 else x * math.nan)

    with pytest.raises(ArithmeticError, match="could not be solved"):
        log_likelihood(broken, torch.ones(1, 1, 2, 2), LOW, HIGH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_min": 0.0}, "sigma_min < sigma_max"),
        ({"sigma_min": 100.0}, "sigma_min < sigma_max"),
        ({"divergence": "approximate"}, "hutchinson, exact"),
        ({"probes": 0}, "at least one probe"),
        ({"probe_distribution": "uniform"}, "rademacher, gaussian"),
        ({"rtol": 0.0}, "tolerances must be positive"),
        (
            {"x": torch.zeros(1, 3, 64, 64), "divergence": "exact"},
            "at most 4096 dimensions, not 12288",
        ),
    ],
)
def test_refuses(options: dict[str, object], message: str) -> None:
    arguments = {"x": torch.zeros(1, 1, 2, 2), "sigma_min": LOW, "sigma_max": HIGH, **options}
    with pytest.raises(ValueError, match=message):
        log_likelihood(_network(), **arguments)


@pytest.mark.parametrize(("dimensions", "width"), [(0, 1.0), (4, 0.0)])
def test_bits_refuse(dimensions: int, width: float) -> None:
    with pytest.raises(ValueError, match="at least 1 dimension and a positive width"):
        bits_per_dimension(torch.zeros(1), dimensions, bin_width=width)
