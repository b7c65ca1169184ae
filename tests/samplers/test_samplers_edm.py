"""EDM's samplers: Heun's rule and churn re-stated, what each option of churn does, diffusers.

Orders of convergence, exact samples and what all samplers have in common are in
`test_samplers_dpm_solver`.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from test_samplers_dpm_solver import (
    DIFFUSERS_LEVELS,
    WORLD,
    assert_same_states,
    diffusers_states,
    edm_output,
    karras,
    noisy,
    states,
)
from torch import Tensor

from restore.diffusion.stepping import noise_like
from restore.samplers.edm import edm_stochastic, euler, heun

SIGMAS = karras(6, 20.0, 0.1)


def _algorithm_2(
    x: Tensor,
    t: list[float],
    generator: torch.Generator,
    churn: float,
    low: float,
    high: float,
    noise: float,
) -> Tensor:
    """Karras et al. 2022, arXiv 2206.00364, algorithm 2, line by line with its D; without churn it
    is algorithm 1.
    """
    steps = len(t) - 1
    for i in range(steps):
        gamma = min(churn / steps, 2**0.5 - 1) if low <= t[i] <= high else 0.0
        t_hat = t[i] + gamma * t[i]
        if gamma > 0:
            x = x + (t_hat**2 - t[i] ** 2) ** 0.5 * noise * noise_like(x, generator)
        d = (x - WORLD.denoise(x, t_hat).clean) / t_hat
        following = x + (t[i + 1] - t_hat) * d
        if t[i + 1] != 0:
            d_following = (following - WORLD.denoise(following, t[i + 1]).clean) / t[i + 1]
            following = x + (t[i + 1] - t_hat) * (d / 2 + d_following / 2)
        x = following
    return x


@pytest.mark.parametrize("churn", [0.0, 1.0, 40.0])
@pytest.mark.parametrize("limits", [(0.0, math.inf), (0.3, 10.0)], ids=str)
@pytest.mark.parametrize("noise", [1.0, 1.01])
def test_is_algorithm_2(churn: float, limits: tuple[float, float], noise: float) -> None:
    x = noisy(5, SIGMAS[0])
    found = edm_stochastic(
        WORLD.denoise,
        x,
        SIGMAS,
        generator=torch.Generator().manual_seed(1),
        s_churn=churn,
        s_tmin=limits[0],
        s_tmax=limits[1],
        s_noise=noise,
    )
    expected = _algorithm_2(x, SIGMAS, torch.Generator().manual_seed(1), churn, *limits, noise)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_heun_is_algorithm_1() -> None:
    x = noisy(5, SIGMAS[0])
    expected = _algorithm_2(x, SIGMAS, torch.Generator(), 0.0, 0.0, math.inf, 1.0)
    torch.testing.assert_close(heun(WORLD.denoise, x, SIGMAS), expected, rtol=0, atol=1e-12)


def test_without_churn_it_is_heun() -> None:
    """By S_churn, or by limits that no level lies in: bit by bit, and no random number is drawn."""
    x = noisy(5, SIGMAS[0])
    draw = torch.Generator().manual_seed(1)
    before = draw.get_state()
    for options in ({"s_churn": 0.0}, {"s_tmin": 30.0}, {"s_tmin": 0.0, "s_tmax": 0.05}):
        assert torch.equal(
            edm_stochastic(WORLD.denoise, x, SIGMAS, generator=draw, **options),
            heun(WORLD.denoise, x, SIGMAS),
        )
    assert torch.equal(draw.get_state(), before)


@pytest.mark.parametrize(("churn", "factor"), [(0.7, 1.1), (40.0, math.sqrt(2))])
def test_levels_rise_within_the_limits(churn: float, factor: float) -> None:
    """By 1 + S_churn / steps, at most √2; the callback is told the level of the call."""
    steps = []
    options = {"s_churn": churn, "s_tmin": 0.3, "s_tmax": 10.0}
    edm_stochastic(WORLD.denoise, noisy(2, SIGMAS[0]), SIGMAS, callback=steps.append, **options)
    expected = [sigma * factor if 0.3 <= sigma <= 10 else sigma for sigma in SIGMAS[:-1]]
    assert (
        sum(level == sigma for level, sigma in zip(expected, SIGMAS[:-1], strict=True)) == 3
    )  # above and below
    assert [step.sigma for step in steps] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s_churn": -1.0}, "s_churn must be at least 0, not -1"),
        ({"s_churn": math.nan}, "s_churn must be at least 0"),
        ({"s_noise": 0.0}, "s_noise must be above 0"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "0 ≤ s_tmin ≤ s_tmax, not 2.0 and 1.0"),
        ({"s_tmin": -1.0}, "0 ≤ s_tmin"),
    ],
)
def test_refuses(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edm_stochastic(WORLD.denoise, noisy(1, SIGMAS[0]), SIGMAS, **options)


def test_diffusers_heun() -> None:
    """Theirs is told each level but the first twice, once for each half of Heun's rule."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.HeunDiscreteScheduler(prediction_type="sample")
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    sigmas = DIFFUSERS_LEVELS
    twice = [sigmas[0], *itertools.chain(*((s, s) for s in sigmas[1:-1])), 0.0]
    expected = diffusers_states(scheduler, x, twice, vp=False)
    assert_same_states(states(heun, x, sigmas), expected)


def test_diffusers_edm_euler() -> None:
    diffusers = pytest.importorskip("diffusers")
    x = noisy(4, DIFFUSERS_LEVELS[0], torch.float32)
    expected = diffusers_states(
        diffusers.EDMEulerScheduler(), x, DIFFUSERS_LEVELS, vp=False, output=edm_output
    )
    assert_same_states(states(euler, x, DIFFUSERS_LEVELS), expected)


@pytest.mark.parametrize("churn", [0.5, 40.0])
def test_diffusers_edm_churn(churn: float) -> None:
    """Theirs has algorithm 2's churn before Euler's rule, ours before Heun's: they agree in the
    step to 0.

    Theirs adds the noise after the network has been asked; here the network is shown what it adds.
    """
    diffusers = pytest.importorskip("diffusers")
    sigmas = [2.0, 0.7, 0.0]
    options = {"s_churn": churn, "s_tmin": 0.5, "s_tmax": 1.0, "s_noise": 1.01}
    x = noisy(4, sigmas[0], torch.float32)
    shown = states(edm_stochastic, x, sigmas, generator=torch.Generator().manual_seed(1), **options)
    before = states(heun, x, sigmas)[2]
    assert not torch.equal(shown[2], before)

    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(2)
    scheduler.sigmas = torch.tensor(sigmas)
    scheduler.set_begin_index(1)
    scheduler.is_scale_input_called = True
    raised = sigmas[1] * (1 + min(churn / 2, math.sqrt(2) - 1))
    answer = edm_output(shown[2], WORLD.denoise(shown[2], raised).clean, raised)
    draw = torch.Generator().manual_seed(1)
    expected = scheduler.step(
        answer, scheduler.timesteps[1], before, generator=draw, **options, return_dict=False
    )[0]
    torch.testing.assert_close(shown[-1], expected, rtol=0, atol=1e-4)
