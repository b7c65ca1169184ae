"""RePaint: its schedule, its steps against a dense re-statement, its posterior in a known world."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

import operators
from operators import Bayer, Mask
from restore.diffusion.denoiser import Condition, Prediction
from restore.errors import BadArgument
from restore.solvers import repaint
from restore.solvers.jumps import calls_of, plan_within, visits
from restore.solvers.repaint import takes_components

SHAPE = (3, 6, 5)
LEVELS = [*np.geomspace(2.0, 0.05, 6).tolist(), 0.0]
HOLES = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.4


def _denoise(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh(x + 0.3 * x.roll(1, -1)) / (1 + float(sigma) ** 2)
    return Prediction(clean, (x - clean) / float(sigma))


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _authors_schedule(levels: int, jump_length: int, resamplings: int) -> list[int]:
    """Restate get_schedule_jump of the authors' code: times from levels − 1 to −1."""
    jumps = dict.fromkeys(range(0, levels - jump_length, jump_length), resamplings - 1)
    t = levels
    times = []
    while t >= 1:
        t -= 1
        times.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump_length):
                t += 1
                times.append(t)
    return [*times, -1]


@pytest.mark.parametrize("plan", [(250, 10, 10), (20, 4, 3), (5, 2, 2), (6, 3, 2), (4, 4, 5)])
def test_the_levels_are_visited_as_by_the_authors(plan: tuple[int, int, int]) -> None:
    """They go up level by level, which is the same in distribution as at once."""
    times = _authors_schedule(*plan)
    calls = sum(b < a for a, b in itertools.pairwise(times))
    visited = visits(*plan)
    assert calls_of(*plan) == calls
    assert sum(b > a for a, b in itertools.pairwise(visited)) == calls
    ups = [b for a, b, c in zip(times, times[1:], times[2:], strict=False) if a < b > c]
    assert [plan[0] - 1 - b for a, b in itertools.pairwise(visited) if b < a] == ups


@pytest.mark.parametrize("calls", [1, 2, 8, 20, 100, 999])
@pytest.mark.parametrize(("jump", "resamplings"), [(1, 2), (10, 10), (3, 1), (1, 1)])
def test_a_plan_keeps_to_its_calls(calls: int, jump: int, resamplings: int) -> None:
    levels, times = plan_within(calls, jump, resamplings)
    assert times in (1, resamplings)
    assert calls_of(levels, jump, times) <= calls
    assert calls_of(levels + 1, jump, times) > calls


def test_its_steps_are_those_of_the_paper() -> None:
    """Algorithm 1 without noise: eq. 8a for what is known, 8b for the rest, then forward again."""
    operator = Mask(SHAPE, HOLES)
    y = operator.A(torch.rand(2, *SHAPE, generator=_draw(1)))
    found = repaint(
        _denoise, operator, y, 0.0, LEVELS, generator=_draw(), jump_length=2, resamplings=2
    )

    source = _draw()
    m = HOLES.float()
    x = LEVELS[0] * torch.randn(2, *SHAPE, generator=source)
    x = m * (y + x) + (1 - m) * x
    for here, there in itertools.pairwise(visits(6, 2, 2)):
        s, t = LEVELS[here], LEVELS[there]
        z = torch.randn(2, *SHAPE, generator=source) if t > 0 else torch.zeros(1)
        if there < here:
            x = x + math.sqrt(t**2 - s**2) * z
            continue
        clean = _denoise(x, s).clean
        unknown = clean + (t / s) ** 2 * (x - clean) + t * math.sqrt(1 - (t / s) ** 2) * z
        x = m * (y + t * z) + (1 - m) * unknown

    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bayer", "hadamard:0.5", "mask:random:0.4"])
def test_without_noise_the_end_explains_the_measurement(name: str) -> None:
    operator = operators.parse(name).operator((3, 8, 8))
    assert takes_components(operator)
    y = operator.A(torch.rand(1, 3, 8, 8, generator=_draw(1)))
    found = repaint(
        _denoise, operator, y, 0.0, LEVELS, generator=_draw(), jump_length=1, resamplings=2
    )
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 1, 7)])
@pytest.mark.parametrize("noise", [(0.0, 0.3), (0.02, 5.0)])
def test_pictures_of_a_batch_are_as_each_alone(
    shape: tuple[int, int, int], noise: tuple[float, float]
) -> None:
    operator = Mask(shape, torch.rand(shape[1:], generator=_draw(1)) > 0.5)
    y = torch.rand(2, *shape, generator=_draw(2))

    def found(y: Tensor, noise: Tensor, seeds: list[int]) -> Tensor:
        return repaint(
            _denoise, operator, y, noise, LEVELS, generator=[_draw(seed) for seed in seeds],
            jump_length=2, resamplings=3,
        )  # fmt: skip

    together = found(y, torch.tensor(noise), [3, 4])
    for index in range(2):
        one = slice(index, index + 1)
        alone = found(y[one], torch.tensor(noise[one]), [3 + index])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resamplings", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_independent_pixels_have_their_posterior(noise: float, resamplings: int) -> None:
    """Where unknown pixels know nothing of known ones, nothing is approximated but the number of
    steps, with jumps and with noise of the measurement.
    """
    spreads = torch.tensor([0.5, 0.3, 0.4], dtype=torch.float64)
    means = torch.tensor([[0.2, -0.1, 0.3]], dtype=torch.float64)
    world = Mixture(torch.ones(1), means, torch.diag(spreads**2)[None])
    operator = Mask((1, 1, 3), torch.tensor([[True, False, True]]))
    y = torch.tensor([0.7, 0.0, -0.3])
    levels = [*np.geomspace(3.0, 0.02, 120).tolist(), 0.0]
    count = 8000
    found = repaint(
        world.denoise, operator, y.expand(count, 1, 1, 3), noise, levels, generator=_draw(),
        jump_length=20, resamplings=resamplings,
    ).flatten(1)  # fmt: skip
    posterior = world.posterior(torch.eye(3)[[0, 2]], y[[0, 2]], noise)
    std = posterior.covariance.diagonal().clamp_min(0).sqrt()
    error = (found.mean(dim=0) - posterior.mean) / spreads
    assert float(error.abs().max()) < 0.04
    torch.testing.assert_close(found.double().std(dim=0), std, rtol=0.06, atol=1e-5)


def test_jumps_bring_correlated_pixels_together() -> None:
    """One step cannot tell an unknown pixel of a known one whose noise is fresh, so that they are
    too little alike; going up and down again mends most of that.
    """
    covariance = 0.25 * torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    world = Mixture(torch.ones(1), torch.zeros(1, 2), covariance[None])
    operator = Mask((1, 1, 2), torch.tensor([[True, False]]))
    y = torch.tensor([1.0, 0.0])
    expected = float(world.posterior(torch.eye(2)[:1], y[:1], 0.0).mean[1])
    levels = [*np.geomspace(3.0, 0.02, 15).tolist(), 0.0]

    def mean(resamplings: int) -> float:
        found = repaint(
            world.denoise, operator, y.expand(1500, 1, 1, 2), 0.0, levels, generator=_draw(),
            jump_length=3, resamplings=resamplings,
        )  # fmt: skip
        return float(found[..., 1].mean())

    once, often = mean(1), mean(6)
    assert expected - once > 3 * abs(expected - often)


@pytest.mark.parametrize("options", [{"jump_length": 0}, {"resamplings": 0}])
def test_jumps_out_of_range_are_refused(options: dict[str, int]) -> None:
    operator = Mask(SHAPE, HOLES)
    with pytest.raises(ValueError, match="must be at least 1"):
        repaint(_denoise, operator, torch.zeros(1, *SHAPE), 0.0, LEVELS, **options)


def test_other_singular_values_are_refused() -> None:
    operator = operators.downsample(SHAPE, 2)
    with pytest.raises(BadArgument, match="singular values other than 0 and 1"):
        repaint(_denoise, operator, torch.zeros(1, *operator.output_shape), 0.0, LEVELS)
    assert takes_components(Bayer(SHAPE))
    assert not takes_components(operators.gaussian_blur(SHAPE, 1.0))


def test_each_call_is_reported() -> None:
    steps = []
    repaint(
        _denoise, Mask(SHAPE, HOLES), torch.zeros(1, *SHAPE), 0.0, LEVELS, generator=_draw(),
        jump_length=2, resamplings=2, callback=steps.append,
    )  # fmt: skip
    calls = calls_of(6, 2, 2)
    assert [(step.index, step.steps) for step in steps] == [(i, calls) for i in range(calls)]
