"""The three SDEs, their reverse processes and the probability flow, against their equations and
known mixtures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from support.analytic import Mixture
from support.monte_carlo import assert_matches
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.samplers.score_sde import (
    SDE,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    euler_maruyama,
    predictor_corrector,
    probability_flow,
    reverse_diffusion,
)

SDES = {"ve": VarianceExploding(), "vp": VariancePreserving(), "sub-vp": SubVariancePreserving()}
SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler-maruyama": euler_maruyama,
    "reverse-diffusion": reverse_diffusion,
    "predictor-corrector": predictor_corrector,
}
FEW = [5.0, 2.0, 1.0, 0.4, 0.0]

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())


def _arbitrary(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    shift = 0 if condition is None else condition.picture
    clean = torch.tanh(x / (1 + sigma**2) ** 0.5 + 0.3 * x.roll(1, -1) / (1 + sigma) + shift)
    return Prediction(clean, (x - clean) / sigma)


def _noise(count: int, dimensions: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 1, 1, dimensions, generator=generator, dtype=torch.float64)


@every_sde
def test_marginals_are_those_of_the_forward_sde(sde: SDE) -> None:
    """Simulated in small steps from one point; the VE process begins with its σ_min."""
    count = 20_000
    steps = 2_000
    x0 = 0.7
    draw = np.random.default_rng(0)
    u = np.full(count, x0)
    if isinstance(sde, VarianceExploding):
        u = u + sde.sigma_min * draw.standard_normal(count)
    for index in range(steps):
        t = (index + 0.5) / steps
        dt = 1 / steps
        u = (
            u
            + sde.drift(t) * u * dt
            + sde.diffusion(t) * math.sqrt(dt) * draw.standard_normal(count)
        )
        if index + 1 in (steps // 4, steps // 2, steps):
            now = (index + 1) / steps
            assert abs(u.mean() - sde.scale(now) * x0) < 4 * sde.std(now) / count**0.5
            assert u.std() == pytest.approx(sde.std(now), rel=4 / (2 * count) ** 0.5 + 2e-3)


def test_marginals_in_the_papers_symbols() -> None:
    for t in (0.1, 0.5, 1.0):
        vp, sub = SDES["vp"], SDES["sub-vp"]
        alpha_bar = math.exp(-(0.1 * t + (20 - 0.1) * t**2 / 2))
        assert vp.scale(t) == sub.scale(t) == pytest.approx(alpha_bar**0.5)
        assert vp.std(t) == pytest.approx((1 - alpha_bar) ** 0.5)
        assert sub.std(t) == pytest.approx(1 - alpha_bar)
        assert SDES["ve"].std(t) == pytest.approx(0.01 * 5000**t)


@every_sde
def test_coefficients_belong_to_the_marginals(sde: SDE) -> None:
    """f = (log s)' and g² = s² (σ²)'."""
    h = 1e-6
    for t in (0.05, 0.4, 0.9):
        assert sde.drift(t) == pytest.approx(
            (math.log(sde.scale(t + h)) - math.log(sde.scale(t - h))) / (2 * h)
        )
        growth = (sde.sigma(t + h) ** 2 - sde.sigma(t - h) ** 2) / (2 * h)
        assert sde.diffusion(t) ** 2 == pytest.approx(sde.scale(t) ** 2 * growth, rel=1e-6)
        assert sde.time_at(sde.sigma(t)) == pytest.approx(t)


@every_sde
def test_levels_are_uniform_in_time(sde: SDE) -> None:
    levels = sde.levels(5, end=0.2)
    assert [sde.time_at(sigma) for sigma in levels[:-1]] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert levels[-1] == 0


def test_constant_beta() -> None:
    sde = VariancePreserving(2.0, 2.0)
    assert sde.time_at(sde.sigma(0.3)) == pytest.approx(0.3)


@every_sde
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_reaches_the_mixture(sampler: str, sde: SDE) -> None:
    mixture = Mixture.random(2)
    generator = torch.Generator().manual_seed(1)
    levels = [*np.geomspace(20, 0.01, 200).tolist(), 0.0]
    x = levels[0] * _noise(1200, 2, generator)
    assert_matches(
        SAMPLERS[sampler](mixture.denoise, x, levels, sde=sde, generator=generator), mixture
    )


@every_sde
@pytest.mark.parametrize(("dimensions", "count"), [(8, 800), (64, 200)])
def test_reaches_mixtures_of_more_dimensions(dimensions: int, count: int, sde: SDE) -> None:
    mixture = Mixture.random(dimensions)
    generator = torch.Generator().manual_seed(1)
    levels = [*np.geomspace(20, 0.01, 150).tolist(), 0.0]
    x = levels[0] * _noise(count, dimensions, generator)
    assert_matches(
        predictor_corrector(mixture.denoise, x, levels, sde=sde, generator=generator), mixture
    )


def test_corrector_repairs_a_coarse_predictor() -> None:
    """With 25 levels the predictor alone ends with too wide a spread; Langevin steps take most of
    it away.
    """
    mixture = Mixture.gaussian(2)
    levels = [*np.geomspace(20, 0.01, 25).tolist(), 0.0]

    def excess(corrector_steps: int) -> float:
        generator = torch.Generator().manual_seed(0)
        x = levels[0] * _noise(4000, 2, generator)
        samples = predictor_corrector(
            mixture.denoise,
            x,
            levels,
            corrector_steps=corrector_steps,
            snr=0.4,
            generator=generator,
        )
        return float(
            (samples.flatten(1).T.cov() - mixture.covariance).norm() / mixture.covariance.norm()
        )

    assert excess(4) < 0.6 * excess(0)


def test_ve_is_algorithm_2_with_corrector_4() -> None:
    x = 5 * _noise(4, 6, torch.Generator().manual_seed(0))
    found = predictor_corrector(
        _arbitrary, x, FEW, corrector_steps=2, snr=0.3, generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(1)

    def score(x: Tensor, sigma: float) -> Tensor:
        return -_arbitrary(x, sigma).noise / sigma

    for sigma, below in itertools.pairwise(FEW[:-1]):
        x = (
            x
            + (sigma**2 - below**2) * score(x, sigma)
            + (sigma**2 - below**2) ** 0.5 * _noise(4, 6, generator)
        )
        for _ in range(2):
            g = score(x, below)
            epsilon = 2 * (0.3 * 6**0.5 / g.flatten(1).norm(dim=1).mean()) ** 2
            x = x + epsilon * g + (2 * epsilon) ** 0.5 * _noise(4, 6, generator)
    torch.testing.assert_close(found, _arbitrary(x, FEW[-2]).clean)


def test_vp_is_algorithm_3_with_corrector_5() -> None:
    """In the chain's own state u = √ᾱ x and its β."""
    x = 5 * _noise(4, 6, torch.Generator().manual_seed(0))
    found = predictor_corrector(
        _arbitrary, x, FEW, sde=SDES["vp"], snr=0.3, generator=torch.Generator().manual_seed(1)
    )
    alpha_bar = [1 / (1 + sigma**2) for sigma in FEW]
    beta = [1 - now / below for now, below in itertools.pairwise(alpha_bar)]
    generator = torch.Generator().manual_seed(1)

    def score(u: Tensor, i: int) -> Tensor:
        return -_arbitrary(u / alpha_bar[i] ** 0.5, FEW[i]).noise / (1 - alpha_bar[i]) ** 0.5

    u = alpha_bar[0] ** 0.5 * x
    for i in range(3):
        u = (
            (2 - (1 - beta[i]) ** 0.5) * u
            + beta[i] * score(u, i)
            + beta[i] ** 0.5 * _noise(4, 6, generator)
        )
        g = score(u, i + 1)
        epsilon = 2 * (1 - beta[i + 1]) * (0.3 * 6**0.5 / g.flatten(1).norm(dim=1).mean()) ** 2
        u = u + epsilon * g + (2 * epsilon) ** 0.5 * _noise(4, 6, generator)
    torch.testing.assert_close(found, _arbitrary(u / alpha_bar[3] ** 0.5, FEW[3]).clean)


@every_sde
def test_euler_maruyama_is_equation_6_in_the_sdes_own_state(sde: SDE) -> None:
    x = 5 * _noise(4, 6, torch.Generator().manual_seed(0))
    found = euler_maruyama(_arbitrary, x, FEW, sde=sde, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    times = [sde.time_at(sigma) for sigma in FEW[:-1]]
    u = sde.scale(times[0]) * x
    for t, below in itertools.pairwise(times):
        score = -_arbitrary(u / sde.scale(t), sde.sigma(t)).noise / sde.std(t)
        g = sde.diffusion(t)
        dt = t - below
        u = u - (sde.drift(t) * u - g**2 * score) * dt + g * dt**0.5 * _noise(4, 6, generator)
    torch.testing.assert_close(found, _arbitrary(u / sde.scale(times[-1]), FEW[-2]).clean)


@pytest.mark.parametrize(("dimensions", "count"), [(2, 1500), (16, 800), (64, 300)])
def test_probability_flow_reaches_the_mixture(dimensions: int, count: int) -> None:
    mixture = Mixture.random(dimensions)
    generator = torch.Generator().manual_seed(1)
    x = 100 * _noise(count, dimensions, generator)
    assert_matches(probability_flow(mixture.denoise, x, [100.0, 0.01, 0.0]), mixture)


def test_probability_flow_is_a_fine_heun_integration() -> None:
    """Of dx/dσ = ε̂ over many levels, with the clean estimate at the end of both."""
    mixture = Mixture.random(6)
    start = 50 * _noise(20, 6, torch.Generator().manual_seed(0))
    found = probability_flow(mixture.denoise, start, [50.0, 0.01, 0.0], rtol=1e-8, atol=1e-8)
    assert torch.equal(
        found, probability_flow(mixture.denoise, start, [50.0, 0.01, 0.0], rtol=1e-8, atol=1e-8)
    )
    x = start
    for sigma, below in itertools.pairwise(np.geomspace(50, 0.01, 2000).tolist()):
        slope = mixture.denoise(x, sigma).noise
        ahead = mixture.denoise(x + (below - sigma) * slope, below).noise
        x = x + (below - sigma) * (slope + ahead) / 2
    torch.testing.assert_close(found, mixture.denoise(x, 0.01).clean, rtol=0, atol=1e-4)


@every_sde
def test_probability_flow_is_equation_13_of_every_sde(sde: SDE) -> None:
    mixture = Mixture.random(4)
    top = 30.0
    bottom = 0.02
    x = top * _noise(5, 4, torch.Generator().manual_seed(0))
    found = probability_flow(mixture.denoise, x, [top, bottom, 0.0], rtol=1e-8, atol=1e-8)

    def derivative(t: float, state: np.ndarray) -> np.ndarray:
        u = torch.from_numpy(state).reshape(x.shape)
        score = mixture.score(u / sde.scale(t), sde.sigma(t)) / sde.scale(t)
        return (sde.drift(t) * u - 0.5 * sde.diffusion(t) ** 2 * score).flatten().numpy()

    times = (sde.time_at(top), sde.time_at(bottom))
    start = (sde.scale(times[0]) * x).flatten().numpy()
    end = solve_ivp(derivative, times, start, rtol=1e-8, atol=1e-8).y[:, -1] / sde.scale(times[1])
    expected = mixture.denoise(torch.from_numpy(end).reshape(x.shape), bottom).clean
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_probability_flow_tells_of_every_level() -> None:
    mixture = Mixture.random(3)
    steps = []
    levels = [20.0, 5.0, 4.99, 1.0, 0.02, 0.0]
    x = 20 * _noise(2, 3, torch.Generator().manual_seed(0))
    found = probability_flow(mixture.denoise, x, levels, callback=steps.append)
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(i, 5, levels[i]) for i in range(5)]
    torch.testing.assert_close(steps[-1].clean, found)
    assert torch.equal(found, probability_flow(mixture.denoise, x, [20.0, 0.02, 0.0]))


def test_probability_flow_says_when_it_fails() -> None:
    def broken(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        return Prediction(x, x if sigma > 1 else x * math.nan)

    with pytest.raises(ArithmeticError, match="could not be solved"):
        probability_flow(broken, torch.ones(1, 1, 2, 2), [5.0, 0.1, 0.0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_callback_type_condition_and_random_numbers(sampler: str) -> None:
    steps = []
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    condition = Condition(torch.ones(2, 3, 4, 5), torch.ones(2, 1, 4, 5))

    def run(seed: int, condition: Condition | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return SAMPLERS[sampler](
            _arbitrary,
            x,
            FEW,
            sde=SDES["vp"],
            condition=condition,
            generator=generator,
            callback=steps.append,
        )

    state = torch.get_rng_state()
    first = run(0)
    assert first.dtype == torch.float32
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(i, 4, FEW[i]) for i in range(4)]
    torch.testing.assert_close(steps[-1].clean, first)
    assert torch.equal(run(0), first)
    assert not torch.equal(run(1), first)
    assert not torch.equal(run(0, condition), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_probability_flow_keeps_the_type_and_shows_the_condition() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    condition = Condition(torch.ones(2, 3, 4, 5), torch.ones(2, 1, 4, 5))
    found = probability_flow(_arbitrary, x, FEW)
    assert found.dtype == torch.float32
    assert (found - probability_flow(_arbitrary, x, FEW, condition=condition)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda x: predictor_corrector(_arbitrary, x, FEW, predictor="heun"),
            "reverse-diffusion, euler-maruyama",
        ),
        (lambda x: predictor_corrector(_arbitrary, x, FEW, corrector_steps=-1), "at least 0"),
        (lambda x: predictor_corrector(_arbitrary, x, FEW, snr=0.0), "must be positive"),
        (lambda x: euler_maruyama(_arbitrary, x, [1.0, 2.0, 0.0]), "must fall"),
        (lambda x: reverse_diffusion(_arbitrary, x, [2.0, 1.0]), "final 0"),
        (lambda x: probability_flow(_arbitrary, x, [2.0, 0.0]), "two positive noise levels"),
        (lambda x: probability_flow(_arbitrary, x, FEW, rtol=0.0), "tolerances must be positive"),
        (lambda x: VarianceExploding(2.0, 1.0), "sigma_min < sigma_max"),
        (lambda x: VariancePreserving(0.0, 20.0), "beta_min <= beta_max"),
        (lambda x: SubVariancePreserving(3.0, 2.0), "beta_min <= beta_max"),
        (lambda x: VariancePreserving().levels(0), "at least 1 step"),
        (lambda x: VariancePreserving().levels(5, end=0.0), "an end in"),
    ],
)
def test_refuses(run: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(torch.zeros(1, 1, 2, 2))
