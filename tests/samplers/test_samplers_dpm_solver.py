"""DPM-Solver, DPM-Solver++ and UniPC: orders of convergence, their papers re-stated, exact samples,
diffusers.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from support.analytic import Mixture, order_of_convergence, sliced_wasserstein
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.stepping import start
from restore.samplers.dpm_solver import dpm_solver_1, dpm_solver_2, dpm_solver_3
from restore.samplers.dpm_solver_pp import (
    dpm_solver_pp_2m,
    dpm_solver_pp_2s,
    dpm_solver_pp_3m,
    sde_dpm_solver_1,
    sde_dpm_solver_pp_2m,
)
from restore.samplers.edm import edm_stochastic, euler, heun
from restore.samplers.unipc import unipc

Sampler = Callable[..., Tensor]

WORLD = Mixture.random(3)
DETERMINISTIC: dict[str, tuple[Sampler, int, int]] = {
    # order of convergence, calls of the network for a step not to 0
    "euler": (euler, 1, 1),
    "heun": (heun, 2, 2),
    "dpm_solver_1": (dpm_solver_1, 1, 1),
    "dpm_solver_2": (dpm_solver_2, 2, 2),
    "dpm_solver_3": (dpm_solver_3, 3, 3),
    "dpm_solver_pp_2s": (dpm_solver_pp_2s, 2, 2),
    "dpm_solver_pp_2m": (dpm_solver_pp_2m, 2, 1),
    "dpm_solver_pp_3m": (dpm_solver_pp_3m, 3, 1),
    "unipc of order 2": (partial(unipc, order=2), 3, 1),
    "unipc of order 3": (partial(unipc, order=3), 4, 1),
}
STOCHASTIC: dict[str, tuple[Sampler, int]] = {
    "sde_dpm_solver_1": (sde_dpm_solver_1, 1),
    "sde_dpm_solver_pp_2m": (sde_dpm_solver_pp_2m, 1),
    "edm_stochastic": (partial(edm_stochastic, s_noise=1.0), 2),
}
SAMPLERS = {name: sampler for name, (sampler, *_) in (DETERMINISTIC | STOCHASTIC).items()}
CALLS = {name: facts[-1] for name, facts in (DETERMINISTIC | STOCHASTIC).items()}


def karras(steps: int, highest: float, lowest: float) -> list[float]:
    """Levels of so many steps down to the lowest, and one more to 0; neighbours differ more and
    more in log σ.
    """
    return [*(np.linspace(highest ** (1 / 7), lowest ** (1 / 7), steps + 1) ** 7).tolist(), 0.0]


def noisy(
    count: int, sigma: float, dtype: torch.dtype = torch.float64, world: Mixture = WORLD
) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    x = world.sample(count, draw)
    return (x + sigma * torch.randn(x.shape, generator=draw, dtype=x.dtype)).to(dtype)


def states(sampler: Sampler, x: Tensor, sigmas: list[float], **options: object) -> list[Tensor]:
    """What the network was shown at each call, and the result."""
    shown = []

    def recorded(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        shown.append(x)
        return WORLD.denoise(x, sigma)

    result = sampler(recorded, x, sigmas, **options)
    return [*shown, result]


def exact_flow(world: Mixture, x: Tensor, high: float, low: float, steps: int = 600) -> Tensor:
    """``dx/dσ = ε̂`` from the high to the low level by the classical Runge–Kutta rule of order 4 in
    log σ.
    """

    def slope(x: Tensor, log_sigma: float) -> Tensor:
        sigma = math.exp(log_sigma)
        return sigma * world.denoise(x, sigma).noise

    for a, b in itertools.pairwise(np.linspace(math.log(high), math.log(low), steps + 1).tolist()):
        h = b - a
        middle = (a + b) / 2
        k1 = slope(x, a)
        k2 = slope(x + h / 2 * k1, middle)
        k3 = slope(x + h / 2 * k2, middle)
        k4 = slope(x + h * k3, b)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def test_the_reference_is_exact() -> None:
    """For one Gaussian the flow is known: along an axis of variance v, x − μ scales with √(v +
    σ²).
    """
    world = Mixture.gaussian(3)
    high = 20.0
    low = 0.1
    x = noisy(8, high, world=world)
    values, axes = torch.linalg.eigh(world.covariances[0])
    along = (x.flatten(1) - world.mean) @ axes * ((values + low**2) / (values + high**2)).sqrt()
    expected = (world.mean + along @ axes.T).reshape(x.shape)
    torch.testing.assert_close(exact_flow(world, x, high, low), expected, rtol=0, atol=1e-9)


HIGH = 20.0
LOW = 0.1


@pytest.fixture(scope="module")
def solution() -> tuple[Tensor, Tensor]:
    """Pictures at the level HIGH, and the clean estimates where the flow takes them at the level
    LOW.
    """
    x = noisy(32, HIGH)
    return x, WORLD.denoise(exact_flow(WORLD, x, HIGH, LOW), LOW).clean


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_of_convergence(name: str, solution: tuple[Tensor, Tensor]) -> None:
    """Slope of the error against the steps from HIGH to LOW.

    The special last step, to 0, is the same in every grid and in the reference: from LOW to the
    clean estimate there. That is a smooth function of x at LOW, so that its error falls as that of
    x does.
    """
    sampler, order, _calls = DETERMINISTIC[name]
    x, expected = solution
    steps = [40, 80, 160]
    errors = [
        float((sampler(WORLD.denoise, x, karras(n, HIGH, LOW)) - expected).square().mean().sqrt())
        for n in steps
    ]
    assert errors[-1] < 5e-3
    assert order_of_convergence(steps, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("sampler", [euler, dpm_solver_1])
def test_is_ddim(sampler: Sampler) -> None:
    """DDIM in its own VP coordinates with η = 0 (Song et al. 2021, arXiv 2010.02502, eq. 12)."""
    sigmas = karras(7, 50.0, 0.05)
    x = noisy(5, sigmas[0])
    found = states(sampler, x, sigmas)
    vp = x / (1 + sigmas[0] ** 2) ** 0.5
    for i, (sigma, lower) in enumerate(itertools.pairwise(sigmas)):
        alpha_bar = 1 / (1 + sigma**2)
        lower_alpha_bar = 1 / (1 + lower**2)
        torch.testing.assert_close(found[i] * alpha_bar**0.5, vp, rtol=0, atol=1e-12)
        noise = WORLD.denoise(vp / alpha_bar**0.5, sigma).noise
        clean = (vp - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
        vp = lower_alpha_bar**0.5 * clean + (1 - lower_alpha_bar) ** 0.5 * noise
    torch.testing.assert_close(found[-1], vp, rtol=0, atol=1e-12)


class _VP:
    """The papers' notation: α_t, σ_t and the network of x_t = α_t x0 + σ_t ε, at half the log-SNR
    λ.
    """

    def __init__(self, level: float) -> None:
        self.level = level
        self.lam = -math.log(level)
        self.alpha = 1 / math.sqrt(1 + level**2)
        self.sigma = level * self.alpha

    @classmethod
    def at(cls, lam: float) -> _VP:
        return cls(math.exp(-lam))

    def noise(self, x: Tensor) -> Tensor:
        return WORLD.denoise(x / self.alpha, self.level).noise

    def clean(self, x: Tensor) -> Tensor:
        return WORLD.denoise(x / self.alpha, self.level).clean


def _dpm_solver_2_in_vp(x: Tensor, s: _VP, t: _VP) -> Tensor:
    """arXiv 2206.00927, algorithm 1."""
    h = t.lam - s.lam
    m = _VP.at((s.lam + t.lam) / 2)
    u = m.alpha / s.alpha * x - m.sigma * math.expm1(h / 2) * s.noise(x)
    return t.alpha / s.alpha * x - t.sigma * math.expm1(h) * m.noise(u)


def _dpm_solver_3_in_vp(x: Tensor, s: _VP, t: _VP) -> Tensor:
    """arXiv 2206.00927, algorithm 2."""
    h = t.lam - s.lam
    r1 = 1 / 3
    r2 = 2 / 3
    s1 = _VP.at(s.lam + r1 * h)
    s2 = _VP.at(s.lam + r2 * h)
    e = s.noise(x)
    u1 = s1.alpha / s.alpha * x - s1.sigma * math.expm1(r1 * h) * e
    d1 = s1.noise(u1) - e
    u2 = s2.alpha / s.alpha * x - s2.sigma * math.expm1(r2 * h) * e
    u2 = u2 - s2.sigma * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
    d2 = s2.noise(u2) - e
    x = t.alpha / s.alpha * x - t.sigma * math.expm1(h) * e
    return x - t.sigma / r2 * (math.expm1(h) / h - 1) * d2


def _dpm_solver_pp_2s_in_vp(x: Tensor, s: _VP, t: _VP) -> Tensor:
    """arXiv 2211.01095, algorithm 1 with r = 1/2."""
    h = t.lam - s.lam
    r = 1 / 2
    m = _VP.at(s.lam + r * h)
    u = m.sigma / s.sigma * x - m.alpha * math.expm1(-r * h) * s.clean(x)
    d = (1 - 1 / (2 * r)) * s.clean(x) + 1 / (2 * r) * m.clean(u)
    return t.sigma / s.sigma * x - t.alpha * math.expm1(-h) * d


@pytest.mark.parametrize(
    ("sampler", "step"),
    [
        (dpm_solver_2, _dpm_solver_2_in_vp),
        (dpm_solver_3, _dpm_solver_3_in_vp),
        (dpm_solver_pp_2s, _dpm_solver_pp_2s_in_vp),
    ],
)
def test_singlestep_methods_are_their_papers_algorithms(
    sampler: Sampler, step: Callable[..., Tensor]
) -> None:
    """Theirs is a VP chain's state, ours divided by √(1 + σ²)."""
    sigmas = karras(4, 20.0, 0.1)
    x = noisy(5, sigmas[0])
    levels = [_VP(sigma) for sigma in sigmas[:-1]]
    vp = x * levels[0].alpha
    for s, t in itertools.pairwise(levels):
        vp = step(vp, s, t)
    torch.testing.assert_close(
        sampler(WORLD.denoise, x, sigmas), levels[-1].clean(vp), rtol=0, atol=1e-11
    )


def _sde_dpm_solver_1_in_vp(x: Tensor, s: _VP, t: _VP, d: Tensor, draw: torch.Generator) -> Tensor:
    """arXiv 2211.01095, SDE-DPM-Solver-1; d is not used."""
    h = t.lam - s.lam
    z = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    x = t.alpha / s.alpha * x - 2 * t.sigma * (math.exp(h) - 1) * s.noise(x)
    return x + t.sigma * math.sqrt(math.exp(2 * h) - 1) * z


def _sde_dpm_solver_pp_2m_in_vp(
    x: Tensor, s: _VP, t: _VP, d: Tensor, draw: torch.Generator
) -> Tensor:
    """arXiv 2211.01095, SDE-DPM-Solver++(2M)."""
    h = t.lam - s.lam
    z = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    x = t.sigma / s.sigma * math.exp(-h) * x + t.alpha * (1 - math.exp(-2 * h)) * d
    return x + t.sigma * math.sqrt(1 - math.exp(-2 * h)) * z


def _dpm_solver_pp_2m_in_vp(x: Tensor, s: _VP, t: _VP, d: Tensor, draw: torch.Generator) -> Tensor:
    """arXiv 2211.01095, algorithm 2."""
    return t.sigma / s.sigma * x - t.alpha * (math.exp(s.lam - t.lam) - 1) * d


@pytest.mark.parametrize(
    ("sampler", "step"),
    [
        (dpm_solver_pp_2m, _dpm_solver_pp_2m_in_vp),
        (sde_dpm_solver_1, _sde_dpm_solver_1_in_vp),
        (sde_dpm_solver_pp_2m, _sde_dpm_solver_pp_2m_in_vp),
    ],
)
def test_multistep_and_sde_methods_are_their_papers_equations(
    sampler: Sampler, step: Callable[..., Tensor]
) -> None:
    """As above; ``D = (1 + 1/2r) x̂0 − 1/2r x̂0_before`` with r the last step in λ over this
    one.
    """
    sigmas = karras(4, 20.0, 0.1)
    x = noisy(5, sigmas[0])
    draw = torch.Generator().manual_seed(1)
    levels = [_VP(sigma) for sigma in sigmas[:-1]]
    vp = x * levels[0].alpha
    cleans = []
    for i, (s, t) in enumerate(itertools.pairwise(levels)):
        cleans.append(s.clean(vp))
        d = cleans[0]
        if i > 0:
            r = (s.lam - levels[i - 1].lam) / (t.lam - s.lam)
            d = (1 + 1 / (2 * r)) * cleans[-1] - 1 / (2 * r) * cleans[-2]
        vp = step(vp, s, t, d, draw)
    options = {} if sampler is dpm_solver_pp_2m else {"generator": torch.Generator().manual_seed(1)}
    found = sampler(WORLD.denoise, x, sigmas, **options)
    torch.testing.assert_close(found, levels[-1].clean(vp), rtol=0, atol=1e-11)


COUNT = 3000


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, float]:
    """Exact samples, and the largest sliced Wasserstein distance between two of several sets of
    them.
    """
    draw = torch.Generator().manual_seed(2)
    sets = [WORLD.sample(COUNT, draw) for _ in range(5)]
    pairs = itertools.combinations(sets, 2)
    return sets[0], max(sliced_wasserstein(a, b, draw, directions=50) for a, b in pairs)


@pytest.mark.parametrize("name", SAMPLERS)
def test_reaches_the_truth(name: str, exact: tuple[Tensor, float]) -> None:
    """Mean, covariance and sliced Wasserstein distance within what as many exact samples would
    differ by.
    """
    count = COUNT
    draw = torch.Generator().manual_seed(3)
    sampler = SAMPLERS[name]
    sigmas = karras(150, 80.0, 0.01)
    options = {"generator": draw} if name in STOCHASTIC else {}
    x = start(torch.empty(count, 1, 1, 3, dtype=torch.float64), sigmas[0], draw)
    found = sampler(WORLD.denoise, x, sigmas, **options)

    centred = found.flatten(1) - WORLD.mean
    products = centred[:, :, None] * centred[:, None, :]
    for value, expected in ((centred, 0.0), (products, WORLD.covariance)):
        assert ((value.mean(0) - expected) / (value.std(0) / count**0.5)).abs().max() < 4.5
    reference, among_exact = exact
    assert sliced_wasserstein(found, reference, draw, directions=50) < 1.3 * among_exact


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_and_callback(name: str) -> None:
    """Calls as documented, the condition shown at each; the callback is told of each step, and x is
    left alone.
    """
    sigmas = [9.0, 4.0, 2.0, 0.5, 0.0]
    condition = Condition(torch.zeros(2, 1, 1, 3), torch.ones(2, 1, 1, 3))
    calls = []
    steps = []

    def counted(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        calls.append((sigma, condition))
        return WORLD.denoise(x, sigma)

    x = noisy(2, sigmas[0], torch.float32)
    before = x.clone()
    options = {"s_churn": 0.0} if name == "edm_stochastic" else {}
    found = SAMPLERS[name](
        counted, x, sigmas, condition=condition, callback=steps.append, **options
    )
    assert torch.equal(x, before)
    assert found.dtype == torch.float32
    assert len(calls) == 3 * CALLS[name] + 1
    assert all(shown is condition for _, shown in calls)
    assert [sigma for sigma, _ in calls][:: CALLS[name]] == sigmas[:-1]
    assert [(step.index, step.steps, step.sigma) for step in steps] == [
        (i, 4, s) for i, s in enumerate(sigmas[:-1])
    ]
    assert torch.equal(steps[-1].clean, found)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_comes_from_the_generator_alone(name: str) -> None:
    sigmas = karras(5, 20.0, 0.1)
    x = noisy(2, sigmas[0])

    def run(seed: int) -> Tensor:
        return SAMPLERS[name](
            WORLD.denoise, x, sigmas, generator=torch.Generator().manual_seed(seed)
        )

    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(run(5), run(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(5), run(6))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_take_no_generator(name: str) -> None:
    assert "generator" not in inspect.signature(SAMPLERS[name]).parameters


@pytest.mark.parametrize("name", SAMPLERS)
def test_refuses_levels_that_do_not_fall_to_0(name: str) -> None:
    x = noisy(1, 1.0)
    for sigmas, message in (
        ([1.0, 2.0, 0.0], "fall"),
        ([1.0, 1.0, 0.0], "fall"),
        ([2.0, 1.0], "final 0"),
        ([], "0"),
    ):
        with pytest.raises(ValueError, match=message):
            SAMPLERS[name](WORLD.denoise, x, sigmas)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("heun", 2),
        ("dpm_solver_2", 2),
        ("dpm_solver_3", 2),
        ("dpm_solver_pp_2s", 2),
        ("dpm_solver_pp_2m", 2),
        ("dpm_solver_pp_3m", 3),
        ("unipc of order 2", 2),
        ("unipc of order 3", 3),
        ("sde_dpm_solver_pp_2m", 2),
        ("edm_stochastic", 2),
    ],
)
def test_refuses_fewer_steps_than_it_needs(name: str, least: int) -> None:
    levels = [4.0, 2.0, 1.0]
    x = noisy(1, levels[0])
    assert SAMPLERS[name](WORLD.denoise, x, [*levels[:least], 0.0]).isfinite().all()
    with pytest.raises(ValueError, match=f"{name} needs at least {least} steps, not {least - 1}"):
        SAMPLERS[name](WORLD.denoise, x, [*levels[: least - 1], 0.0])


def test_unipc_refuses_other_orders() -> None:
    with pytest.raises(ValueError, match="2 or 3, not 4"):
        unipc(WORLD.denoise, noisy(1, 1.0), [1.0, 0.0], order=4)


def diffusers_states(
    scheduler, x: Tensor, sigmas: list[float], vp: bool, output=None, **options
) -> list[Tensor]:
    """What the network was shown at each step of one of diffusers' schedulers on our levels, and
    the result.

    Args:
        vp: the scheduler's state is that of a VP chain, ours divided by √(1 + σ²).
        output: what the scheduler takes for the network's output, of (x, clean, σ); the clean
            estimate if not given.
    """
    steps = len(sigmas) - 1
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor(sigmas)
    scheduler.timesteps = torch.arange(steps, 0, -1).float()
    scheduler.set_begin_index(0)
    shown = []
    for time, sigma, lower in zip(scheduler.timesteps, sigmas, sigmas[1:], strict=False):
        shown.append(x)
        scale, lower_scale = ((1 + s**2) ** 0.5 if vp else 1.0 for s in (sigma, lower))
        clean = WORLD.denoise(x, sigma).clean
        answer = clean if output is None else output(x, clean, sigma)
        scheduler.is_scale_input_called = True
        x = lower_scale * scheduler.step(answer, time, x / scale, return_dict=False, **options)[0]
    return [*shown, x]


def assert_same_states(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(ours), rtol=0, atol=1e-4)


def edm_output(x: Tensor, clean: Tensor, sigma: float, data: float = 0.5) -> Tensor:
    """What a network in EDM's preconditioning would have answered (Karras et al. 2022, eq. 7 and
    table 1).
    """
    skip = data**2 / (sigma**2 + data**2)
    out = sigma * data / (sigma**2 + data**2) ** 0.5
    return (clean - skip * x) / out


DIFFUSERS_LEVELS = karras(9, 20.0, 0.1)


def _dpm_scheduler(order: int, algorithm: str = "dpmsolver++"):
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DPMSolverMultistepScheduler(
        solver_order=order,
        algorithm_type=algorithm,
        prediction_type="sample",
        lower_order_final=False,
    )


@pytest.mark.parametrize(
    ("sampler", "order"), [(dpm_solver_1, 1), (euler, 1), (dpm_solver_pp_2m, 2)]
)
def test_diffusers_multistep(sampler: Sampler, order: int) -> None:
    """Step by step. Theirs lowers the order of the last but one of few steps too, which is switched
    off here.
    """
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    expected = diffusers_states(_dpm_scheduler(order), x, DIFFUSERS_LEVELS, vp=True)
    assert_same_states(states(sampler, x, DIFFUSERS_LEVELS), expected)


def test_diffusers_multistep_of_order_3_halves_a_term() -> None:
    """The first two steps are ours; the third differs by half of the parabola's quadratic term.

    With τ = (λ − λ_s)/h the parabola is ``D0 + D1 τ + Q τ²``. What multiplies Q in the step is
    ``σ_t ∫ e^λ τ² dλ``, that is ``1 − 2/h + 2 (1 − e^{−h})/h²``; diffusers multiplies Q, its D2, by
    half of that.
    """
    sigmas = [2.0, 1.1, 0.6, 0.3, 0.0]
    x = noisy(4, sigmas[0], torch.float32)
    theirs = diffusers_states(_dpm_scheduler(3), x, sigmas, vp=True)
    ours = states(dpm_solver_pp_3m, x, sigmas)
    assert_same_states(ours[:3], theirs[:3])
    cleans = [
        WORLD.denoise(shown, sigma).clean for shown, sigma in zip(ours[:3], sigmas, strict=False)
    ]
    h1, h0, h = (math.log(high / low) for high, low in itertools.pairwise(sigmas[:4]))
    slopes = (cleans[2] - cleans[1]) / h0, (cleans[1] - cleans[0]) / h1
    quadratic = (slopes[0] - slopes[1]) / (h0 + h1) * h**2
    half = (1 - 2 / h - 2 * math.expm1(-h) / h**2) / 2 * quadratic
    assert half.abs().max() > 1e-3
    torch.testing.assert_close(ours[3] - theirs[3], half, rtol=0, atol=2e-5)


def test_diffusers_multistep_of_order_3_is_of_second_order(solution: tuple[Tensor, Tensor]) -> None:
    """So the halved term is a fault of theirs, not a convention: ours is of third order, see
    above.
    """
    x, expected = solution
    steps = [20, 40, 80]
    errors = []
    for n in steps:
        found = diffusers_states(_dpm_scheduler(3), x, karras(n, HIGH, LOW), vp=True)[-1]
        errors.append(float((found - expected).square().mean().sqrt()))
    assert order_of_convergence(steps, errors) < 2.5


def test_diffusers_sde_multistep() -> None:
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    expected = diffusers_states(
        _dpm_scheduler(2, "sde-dpmsolver++"),
        x,
        DIFFUSERS_LEVELS,
        vp=True,
        generator=torch.Generator().manual_seed(1),
    )
    found = states(
        sde_dpm_solver_pp_2m, x, DIFFUSERS_LEVELS, generator=torch.Generator().manual_seed(1)
    )
    assert_same_states(found, expected)


@pytest.mark.parametrize("name", ["dpmsolver++", "sde-dpmsolver++"])
def test_diffusers_edm_multistep(name: str) -> None:
    """The same solvers in EDM's coordinates, which are ours, through EDM's preconditioning."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        solver_order=2, algorithm_type=name, lower_order_final=False
    )
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    sampler = dpm_solver_pp_2m
    options = [{}, {}]
    if name == "sde-dpmsolver++":
        sampler = sde_dpm_solver_pp_2m
        options = [{"generator": torch.Generator().manual_seed(1)} for _ in range(2)]
    expected = diffusers_states(
        scheduler, x, DIFFUSERS_LEVELS, vp=False, output=edm_output, **options[0]
    )
    assert_same_states(states(sampler, x, DIFFUSERS_LEVELS, **options[1]), expected)


def test_diffusers_singlestep() -> None:
    """Their levels are one for each call: ours with the geometric means between."""
    diffusers = pytest.importorskip("diffusers")
    sigmas = karras(4, 20.0, 0.1)
    middles = [math.sqrt(high * low) for high, low in itertools.pairwise(sigmas[:-1])]
    levels = [sigmas[0], *itertools.chain(*zip(middles, sigmas[1:-1], strict=True)), 0.0]
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        solver_order=2, prediction_type="sample", final_sigmas_type="zero"
    )
    x = noisy(4, sigmas[0], torch.float32)
    expected = diffusers_states(scheduler, x, levels, vp=True)
    assert_same_states(states(dpm_solver_pp_2s, x, sigmas), expected)


@pytest.mark.parametrize("order", [2, 3])
def test_diffusers_unipc(order: int) -> None:
    """Down to the last level above 0; for the step to 0 theirs needs the lower orders that are
    switched off here.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(
        solver_order=order, solver_type="bh2", prediction_type="sample", lower_order_final=False
    )
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    expected = diffusers_states(scheduler, x, DIFFUSERS_LEVELS[:-1], vp=True)
    assert_same_states(states(partial(unipc, order=order), x, DIFFUSERS_LEVELS)[:-1], expected)
