"""Schedules against their closed forms, level grids against their papers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from restore.diffusion.schedule import LEVELS, SCHEDULES, NoiseSchedule, noise_levels


def test_linear_schedule() -> None:
    alphas_cumprod = NoiseSchedule.named("linear").alphas_cumprod
    product = 1.0
    expected = []
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        expected.append(product)
    np.testing.assert_allclose(alphas_cumprod, expected, rtol=1e-10)
    assert alphas_cumprod[-1] == pytest.approx(4.0358e-5, rel=1e-4)  # DDPM, section 4: about 4e-5


def test_cosine_schedule() -> None:
    alphas_cumprod = NoiseSchedule.named("cosine", timesteps=500).alphas_cumprod

    def f(t: float) -> float:
        return math.cos((t / 500 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 1, 100, 250, 400):
        assert alphas_cumprod[t] == pytest.approx(f(t + 1) / f(0), rel=1e-10)
    betas = 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]
    assert betas.max() == pytest.approx(0.999)


def test_sr3_schedule_is_linear_in_beta_over_2000_steps() -> None:
    alphas_cumprod = NoiseSchedule.named("sr3").alphas_cumprod
    betas = 1 - np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    np.testing.assert_allclose(np.diff(betas), (1e-2 - 1e-6) / 1999, rtol=1e-6)
    assert len(betas) == 2000


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_and_sigma_are_inverse(name: str) -> None:
    schedule = NoiseSchedule.named(name)
    times = np.array([0, 0.25, 1, 17.5, 400, 998.75, len(schedule) - 1])
    sigmas = schedule.sigma_at(times)
    found = schedule.time_at(torch.from_numpy(sigmas).float())
    np.testing.assert_allclose(found.numpy(), times, atol=2e-3)
    whole = schedule.time_at(torch.from_numpy(schedule.sigmas).float())
    np.testing.assert_allclose(whole.numpy(), np.arange(len(schedule)), atol=1e-2)


def test_time_is_clamped_at_both_ends() -> None:
    schedule = NoiseSchedule.named("linear")
    assert schedule.time_at(torch.tensor([0.0, 1e-6, 1e6])).tolist() == [0, 0, 999]


def test_uniform_levels_are_ddrms() -> None:
    """DDRM takes t = 950, 900, …, 0 of 1000 in 20 steps."""
    schedule = NoiseSchedule.named("linear")
    expected = [*(float(schedule.sigmas[t]) for t in range(950, -1, -50)), 0.0]
    assert noise_levels(schedule, 20) == pytest.approx(expected)


def test_quadratic_levels_are_ddims() -> None:
    schedule = NoiseSchedule.named("linear")
    times = [
        float(schedule.time_at(torch.tensor([s])))
        for s in noise_levels(schedule, 10, "quadratic")[:-1]
    ]
    roots = np.sqrt(np.array(times)[::-1])
    np.testing.assert_allclose(np.diff(roots), roots[-1] / 9, rtol=1e-3)
    assert times[0] == pytest.approx(0.8 * 999, abs=0.01)


def test_karras_levels() -> None:
    schedule = NoiseSchedule.named("linear")
    low = schedule.sigmas[0]
    high = schedule.sigmas[-1]
    n = 18
    expected = [
        (high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)
    ] + [0]
    assert noise_levels(schedule, n, "karras") == pytest.approx(expected)


def test_log_snr_levels_have_a_constant_ratio() -> None:
    levels = np.array(noise_levels(NoiseSchedule.named("cosine"), 12, "log-snr")[:-1])
    np.testing.assert_allclose(levels[1:] / levels[:-1], levels[1] / levels[0])


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_levels_fall_from_the_highest_to_zero(kind: str, steps: int) -> None:
    schedule = NoiseSchedule.named("linear")
    for highest in (None, 1.5):
        levels = noise_levels(schedule, steps, kind, highest=highest)
        assert len(levels) == steps + 1
        assert levels[-1] == 0
        assert all(a > b for a, b in itertools.pairwise(levels))
        assert levels[0] <= (highest or schedule.sigmas[-1]) * (1 + 1e-9)
    if kind in ("karras", "log-snr"):
        assert levels[0] == pytest.approx(1.5)


@pytest.mark.parametrize("kind", ["karras", "log-snr"])
def test_levels_end_at_the_lowest(kind: str) -> None:
    schedule = NoiseSchedule.named("linear")
    levels = noise_levels(schedule, 8, kind, highest=1.5, lowest=0.2)
    assert (levels[0], levels[-2], levels[-1]) == (pytest.approx(1.5), pytest.approx(0.2), 0)
    assert noise_levels(schedule, 8, kind, lowest=float(schedule.sigmas[0])) == pytest.approx(
        noise_levels(schedule, 8, kind)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "between 1 and 1000"),
        ({"steps": 1001}, "between 1 and 1000"),
        ({"steps": 5, "kind": "nope"}, "uniform, quadratic, karras, log-snr"),
        ({"steps": 5, "highest": 1e9}, "highest"),
        ({"steps": 5, "highest": 0.0}, "highest"),
        ({"steps": 5, "lowest": 1e-9}, "lowest"),
        ({"steps": 5, "highest": 1.0, "lowest": 1.0}, "lowest"),
    ],
)
def test_refuses_levels(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_levels(NoiseSchedule.named("linear"), **arguments)


def test_refuses_an_unknown_schedule() -> None:
    with pytest.raises(ValueError, match="linear, cosine, sr3"):
        NoiseSchedule.named("sigmoid")


def test_scaled_linear_schedule_is_linear_in_the_root_of_beta() -> None:
    alphas_cumprod = NoiseSchedule.named("scaled-linear").alphas_cumprod
    betas = 1 - np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    np.testing.assert_allclose(
        np.diff(np.sqrt(betas)), (0.012**0.5 - 0.00085**0.5) / 999, rtol=1e-6
    )
    assert NoiseSchedule.named("scaled-linear").sigmas[-1] == pytest.approx(14.6146, abs=1e-4)


def test_flow_levels_are_those_of_the_line() -> None:
    """σ = t/(1 − t), where the shift s multiplies σ by s."""
    sigmas = NoiseSchedule.named("flow", timesteps=9).sigmas
    t = np.arange(1, 10) / 10
    np.testing.assert_allclose(sigmas, t / (1 - t))
    np.testing.assert_allclose(
        NoiseSchedule.named("flow", timesteps=9, shift=3.0).sigmas, 3 * sigmas
    )
