"""DDIM and its inversion: in a world whose truth is known, against its own equation, and against
diffusers.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.spatial import geometric_slerp
from support.analytic import Mixture, order_of_convergence
from support.monte_carlo import assert_matches
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import Step, start
from restore.samplers.ancestral import ancestral
from restore.samplers.ddim import ddim, ddim_invert, spherical_interpolation

LINEAR = NoiseSchedule.named("linear")


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _levels(steps: int, highest: float = 40.0, lowest: float = 0.02) -> list[float]:
    """Falling in geometric steps, with a final 0; the last step, to 0, is the same for any
    number.
    """
    return [*np.geomspace(highest, lowest, steps + 1).tolist(), 0.0]


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_reaches_the_target(eta: float) -> None:
    world = Mixture.random(4, seed=4)
    sigmas = noise_levels(LINEAR, 200, "log-snr")
    x = start(torch.empty(4000, 1, 1, 4, dtype=torch.float64), sigmas[0], _draw(1))
    assert_matches(ddim(world.denoise, x, sigmas, eta=eta, generator=_draw(2)), world)


def test_converges_with_order_1() -> None:
    """Against the same differential equation solved by scipy's adaptive Runge–Kutta method of order
    8.
    """
    world = Mixture.random(3, seed=3)
    levels = _levels(1)
    x = start(torch.empty(8, 1, 1, 3, dtype=torch.float64), levels[0], _draw(1))

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:  # dx/d log σ = σ ε
        sigma = float(np.exp(log_sigma))
        return (
            sigma
            * world.denoise(torch.from_numpy(flat).reshape(x.shape), sigma).noise.flatten().numpy()
        )

    span = (np.log(levels[0]), np.log(levels[1]))
    end = solve_ivp(slope, span, x.flatten().numpy(), method="DOP853", rtol=1e-9, atol=1e-9).y[
        :, -1
    ]
    truth = world.denoise(torch.from_numpy(end).reshape(x.shape), levels[1]).clean
    steps = [80, 160, 320, 640]
    errors = [float((ddim(world.denoise, x, _levels(n)) - truth).abs().max()) for n in steps]
    assert order_of_convergence(steps, errors) == pytest.approx(1, abs=0.1)


def test_steps_are_those_of_the_equation() -> None:
    """Eq. 12 and 16 in the paper's own coordinates, where its α_t is ᾱ_t."""
    eta = 0.6
    sigmas = noise_levels(LINEAR, 6)
    world = Mixture.random(5)
    x = torch.randn(3, 1, 1, 5, dtype=torch.float64, generator=_draw(1))
    found = ddim(
        world.denoise, x * (1 + sigmas[0] ** 2) ** 0.5, sigmas, eta=eta, generator=_draw(2)
    )
    noise = _draw(2)
    for sigma, sigma_next in pairwise(sigmas):
        alpha = 1 / (1 + sigma**2)
        alpha_next = 1 / (1 + sigma_next**2)
        spread = eta * ((1 - alpha_next) / (1 - alpha)) ** 0.5 * (1 - alpha / alpha_next) ** 0.5
        epsilon = world.denoise(x / alpha**0.5, sigma).noise
        predicted = (x - (1 - alpha) ** 0.5 * epsilon) / alpha**0.5
        x = alpha_next**0.5 * predicted + (1 - alpha_next - spread**2) ** 0.5 * epsilon
        if sigma_next > 0:
            x = x + spread * torch.randn(x.shape, dtype=x.dtype, generator=noise)
    assert torch.allclose(found, x, atol=1e-9)


def test_eta_1_is_ancestral_and_eta_0_draws_nothing() -> None:
    world = Mixture.random(4)
    sigmas = noise_levels(LINEAR, 12)
    x = start(torch.empty(3, 1, 1, 4, dtype=torch.float64), sigmas[0], _draw(1))
    expected = ancestral(world.denoise, x, sigmas, generator=_draw(2))
    assert torch.allclose(
        ddim(world.denoise, x, sigmas, eta=1.0, generator=_draw(2)), expected, atol=1e-10
    )
    draw = _draw(3)
    before = draw.get_state()
    ddim(world.denoise, x, sigmas, generator=draw)
    assert torch.equal(draw.get_state(), before)


def test_the_inversion_returns_to_its_start_as_the_steps_grow() -> None:
    world = Mixture.random(3, seed=3)
    pictures = world.sample(16, _draw(1))
    steps = [20, 40, 80, 160]
    errors = []
    for n in steps:
        back = ddim(world.denoise, ddim_invert(world.denoise, pictures, _levels(n)), _levels(n))
        errors.append(float((back - pictures).square().mean().sqrt()))
    assert errors[-1] < 1e-3
    assert order_of_convergence(steps, errors) == pytest.approx(
        2, abs=0.2
    )  # one level's ε serves the next


def test_the_inverted_noise_is_white() -> None:
    """Pictures of the world go to noise as `start` draws it: N(0, σ²), but for their own spread."""
    world = Mixture.random(3, seed=3)
    noise = ddim_invert(world.denoise, world.sample(4000, _draw(1)), _levels(150)).flatten(1) / 40
    assert noise.mean(dim=0).abs().max() < 0.08
    assert torch.allclose(torch.cov(noise.T), torch.eye(3).double(), atol=0.1)


def test_iterated_the_inversion_is_exact_on_any_levels() -> None:
    """Down and up again as well as up and down again: `ddim_invert` is then the inverse of `ddim`
    on both sides.
    """
    world = Mixture.random(3, seed=3)
    sigmas = _levels(60)
    pictures = world.sample(16, _draw(1))
    noise = ddim_invert(world.denoise, pictures, sigmas, iterations=20)
    assert torch.allclose(ddim(world.denoise, noise, sigmas), pictures, atol=1e-8)
    x = start(pictures, sigmas[0], _draw(2))
    again = ddim_invert(world.denoise, ddim(world.denoise, x, sigmas), sigmas, iterations=20)
    assert torch.allclose(again, x, atol=1e-6)


def test_the_inversion_of_one_gaussian_is_known() -> None:
    """ε = σ (x − μ)/(c + σ²) is linear: each exact step divides by what the step of `ddim`
    multiplies with.
    """
    variance = 0.2
    mean = 0.3
    world = Mixture(torch.ones(1), torch.full((1, 2), mean), variance * torch.eye(2)[None])
    picture = torch.tensor([[[[0.5, -0.4]]]], dtype=torch.float64)
    sigmas = [3.0, 1.0, 0.2, 0.0]
    expected = picture - mean
    for high, low in pairwise(sigmas):
        expected = expected / (1 - (high - low) * high / (variance + high**2))
    found = ddim_invert(world.denoise, picture, sigmas, iterations=400)
    assert torch.allclose(found, mean + expected, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [10, 100])
def test_agrees_with_diffusers(eta: float, steps: int) -> None:
    """diffusers' DDIMScheduler with the same network and noise, every state of the way.

    Its states are x/√(1+σ²). Its ``leading`` time steps are our ``uniform`` levels. Its last step
    goes to ᾱ = 1, as ours, with ``set_alpha_to_one`` (the default); without, to ᾱ_0 of the chain,
    which leaves x as it is. It draws noise at the last step too, of variance 0.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(steps)
    world = Mixture.random(6)
    states = []
    x = 1.5 * torch.randn(4, 1, 1, 6, dtype=torch.float64, generator=_draw(1))

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        states.append(x / (1 + sigma**2) ** 0.5)
        return world.denoise(x, sigma)

    times = scheduler.timesteps.tolist()
    sigmas = _sigmas_of(scheduler, times)
    found = ddim(denoise, x * (1 + sigmas[0] ** 2) ** 0.5, sigmas, eta=eta, generator=_draw(2))
    noise = _draw(2)
    for t, sigma, state in zip(times, sigmas, states, strict=False):
        assert torch.allclose(x, state, atol=1e-4)
        output = world.denoise(x * (1 + sigma**2) ** 0.5, sigma).noise
        x = scheduler.step(output, t, x, eta=eta, generator=noise).prev_sample
    assert torch.allclose(x, found, atol=1e-4)


def _sigmas_of(scheduler, times: list[int]) -> list[float]:
    kept = scheduler.alphas_cumprod.double()
    return [float(((1 - kept[t]) / kept[t]) ** 0.5) for t in times] + [0.0]


def test_tells_each_step_and_shows_the_condition() -> None:
    condition = Condition(torch.full((2, 1, 1, 4), 0.25), torch.ones(2, 1, 1, 4))

    def denoise(x: Tensor, sigma: float, shown: Condition | None) -> Prediction:
        assert shown is condition
        clean = shown.picture.expand_as(x)
        return Prediction(clean, (x - clean) / sigma)

    sigmas = noise_levels(LINEAR, 5)
    x = start(torch.empty(2, 1, 1, 4), sigmas[0], _draw(1))
    down: list[Step] = []
    up: list[Step] = []
    found = ddim(
        denoise, x, sigmas, eta=0.5, condition=condition, generator=_draw(2), callback=down.append
    )
    assert torch.allclose(found, condition.picture)
    noise = ddim_invert(
        denoise, found, sigmas, iterations=2, condition=condition, callback=up.append
    )
    assert noise.dtype == found.dtype == torch.float32
    assert [(s.index, s.steps, s.sigma) for s in down] == [(i, 5, sigmas[i]) for i in range(5)]
    assert [(s.index, s.steps, s.sigma) for s in up] == [(i, 5, sigmas[4 - i]) for i in range(5)]


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_must_be_a_share(eta: float) -> None:
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\]"):
        ddim(Mixture.random(2).denoise, torch.zeros(1, 1, 1, 2), [1.0, 0.0], eta=eta)


@pytest.mark.parametrize(
    ("sigmas", "message"), [([1.0, 2.0, 0.0], "must fall"), ([1.0, 0.5], "final 0")]
)
@pytest.mark.parametrize("sampler", [ddim, ddim_invert])
def test_levels_must_fall_to_0(sampler, sigmas: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(Mixture.random(2).denoise, torch.zeros(1, 1, 1, 2), sigmas)


def test_the_inversion_needs_an_iteration() -> None:
    with pytest.raises(ValueError, match="at least one iteration"):
        ddim_invert(Mixture.random(2).denoise, torch.zeros(1, 1, 1, 2), [1.0, 0.0], iterations=0)


def test_the_great_circle_between_two_noises() -> None:
    """At right angles the weights are sine and cosine; white noise keeps its size on the way."""
    first = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 2, 2)
    second = torch.tensor([0, 2.0, 0, 0]).reshape(1, 1, 2, 2)
    half = spherical_interpolation(first, second, 0.5)
    torch.testing.assert_close(half.flatten(), torch.tensor([0.5**0.5, 2 * 0.5**0.5, 0, 0]))

    noises = torch.randn(2, 3, 40, 40, generator=_draw())
    for fraction in (0.0, 0.2, 0.5, 1.0):
        x = spherical_interpolation(noises[:1], noises[1:], fraction)
        assert float(x.std()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(spherical_interpolation(noises[:1], noises[1:], 0.0), noises[:1])
    torch.testing.assert_close(spherical_interpolation(noises[:1], noises[1:], 1.0), noises[1:])
    torch.testing.assert_close(
        spherical_interpolation(noises[:1], 3 * noises[:1], 0.5), 2 * noises[:1]
    )


def test_the_great_circle_is_that_of_scipys_rotations() -> None:
    """`scipy.spatial.geometric_slerp` has the same points on the unit sphere."""
    first, second = torch.nn.functional.normalize(
        torch.randn(2, 12, generator=_draw(), dtype=torch.float64)
    )
    expected = geometric_slerp(first.numpy(), second.numpy(), np.linspace(0, 1, 5))
    for fraction, point in zip(np.linspace(0, 1, 5), expected, strict=True):
        found = spherical_interpolation(
            first.reshape(1, 3, 2, 2), second.reshape(1, 3, 2, 2), float(fraction)
        )
        np.testing.assert_allclose(found.flatten().numpy(), point, atol=1e-9)
