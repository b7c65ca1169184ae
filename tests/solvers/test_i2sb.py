"""I²SB: its bridge, objective and steps in the paper's symbols, and what it draws in a Gaussian
world.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoiser, Prediction
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.i2sb import bridge_levels
from restore.methods.options import Knowledge, Options
from restore.methods.settings import settings_for
from restore.solvers.i2sb import i2sb
from restore.tasks import KINDS
from restore.training.objective import Objective
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, read_recipe

BRIDGE = NoiseSchedule.named("bridge")


def _product(first: float, second: float) -> tuple[float, float, float]:
    """Coefficients of both means, and the variance, of N(x | a, first²) N(x | b, second²)."""
    total = first**2 + second**2
    return second**2 / total, first**2 / total, first**2 * second**2 / total


def test_its_variances_are_symmetric_and_those_of_beta_max() -> None:
    beta = np.diff(BRIDGE.sigmas**2, prepend=0)
    np.testing.assert_allclose(beta, beta[::-1], rtol=1e-6)
    assert beta[0] == pytest.approx(1e-4)
    assert beta.max() == pytest.approx((0.5 * (0.01 + math.sqrt(3e-4))) ** 2, rel=3e-3)


@pytest.mark.parametrize("bridge", ["brownian", "ot-ode"])
def test_states_in_training_are_those_of_the_bridge(bridge: str) -> None:
    """x_t ~ N(μ_t, Σ_t) of eq. 11, with target (x_t − x0)/σ_t of eq. 12."""
    recipe = parse_recipe(
        f"[model]\nbridge = '{bridge}'\nparameterization = 'epsilon'\n"
        "schedule = {name = 'bridge'}\nbackbone = {condition_channels = 0, condition_map = false}\n"
        "[objective]\nlevels = 'uniform'"
    )
    check_recipe(recipe)
    assert recipe.model is not None
    draw = torch.Generator().manual_seed(0)
    clean, degraded = (torch.rand(300, 3, 8, 8, generator=draw) * 2 - 1 for _ in range(2))
    noise = torch.randn(clean.shape, generator=draw)
    objective = Objective(recipe.model, recipe.objective)
    levels = objective.draw(torch.ones(300, dtype=torch.bool), draw)
    sigma = ((1 - levels.gamma) / levels.gamma).sqrt().double().reshape(-1, 1, 1, 1)
    highest = BRIDGE.sigmas[-1]
    to_clean, to_degraded, variance = _product(sigma, (highest**2 - sigma**2).clamp_min(0).sqrt())
    seen: list[Tensor] = []

    def network(x: Tensor, time: Tensor) -> Tensor:
        """Answer (x_t − x0)/σ_t exactly."""
        state = x * (1 + sigma**2).sqrt()
        seen.append(state)
        return ((state - clean) / sigma).float()

    condition = Condition(degraded, torch.ones_like(degraded[:, :1]))
    loss = objective.terms(network, clean, condition, levels, noise).simple
    assert float(loss.max()) < 1e-5
    expected = to_clean * clean + to_degraded * degraded
    if bridge == "brownian":
        expected = expected + variance.sqrt() * noise
    torch.testing.assert_close(seen[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_is_the_papers_posterior(eta: float) -> None:
    """Eq. 4 between two levels, and the same mean without noise for the OT-ODE."""
    sigmas = bridge_levels(BRIDGE, 2)
    assert sigmas[0] == pytest.approx(BRIDGE.sigmas[-1])
    draw = torch.Generator().manual_seed(0)
    degraded, estimate = torch.randn(2, 4000, 1, 2, 2, generator=draw, dtype=torch.float64)
    states: list[Tensor] = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        states.append(x)
        return Prediction(estimate, (x - estimate) / sigma)

    condition = Condition(degraded, torch.ones_like(degraded))
    found = i2sb(denoise, condition, sigmas, eta=eta, generator=draw)
    of_clean, of_state, variance = _product(sigmas[1], math.sqrt(sigmas[0] ** 2 - sigmas[1] ** 2))
    assert torch.equal(states[0], degraded)
    assert torch.equal(found, estimate)
    fresh = states[1] - of_clean * estimate - of_state * degraded
    assert float(fresh.var()) == pytest.approx(eta * variance, rel=0.05, abs=1e-20)
    assert float(fresh.abs().max()) < 6 * variance**0.5 if eta else float(fresh.abs().max()) < 1e-9


@pytest.mark.parametrize("sees_the_degraded", [True, False])
def test_it_draws_clean_pictures_of_a_gaussian_world(sees_the_degraded: bool) -> None:
    """x0 ~ N(0.2, 0.3²) and x1 = 0.6 x0 + 0.1 n, of which all conditional means are linear.

    A network that sees x1 beside the state draws from p(x0 | x1); one that sees the state alone
    draws pictures whose distribution is that of x0.
    """
    mean, prior, gain, error = 0.2, 0.3**2, 0.6, 0.1**2
    highest = BRIDGE.sigmas[-1]
    draw = torch.Generator().manual_seed(1)
    truth = mean + prior**0.5 * torch.randn(20_000, 1, 1, 1, generator=draw, dtype=torch.float64)
    degraded = gain * truth + error**0.5 * torch.randn(
        truth.shape, generator=draw, dtype=torch.float64
    )
    # covariances of x0 and x1
    joint = np.array([[prior, gain * prior], [gain * prior, gain**2 * prior + error]])

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        assert condition is not None
        way = sigma**2 / highest**2
        weights = np.array([1 - way, way])
        noise = sigma**2 * (1 - way)
        rows = np.array([weights, [0.0, 1.0]]) if sees_the_degraded else weights[None]
        covariance = rows @ joint @ rows.T + np.diag([noise] + [0] * (len(rows) - 1))
        filters = np.linalg.pinv(covariance) @ rows @ joint[:, 0]
        means = rows @ np.array([mean, gain * mean])
        seen = [x, condition.picture][: len(rows)]
        clean = mean + sum(f * (s - m) for f, s, m in zip(filters, seen, means, strict=True))
        return Prediction(clean, (x - clean) / sigma)

    condition = Condition(degraded, torch.ones_like(degraded))
    found = i2sb(denoise, condition, bridge_levels(BRIDGE, 999), generator=draw)
    chance = 4 / len(found) ** 0.5
    if sees_the_degraded:
        slope = joint[0, 1] / joint[1, 1]
        rest = found - mean - slope * (degraded - gain * mean)
        variance = prior - slope * joint[0, 1]
        assert float((rest * (degraded - gain * mean)).mean()) == pytest.approx(0, abs=3e-4)
    else:
        rest, variance = found - mean, prior
    assert float(rest.mean()) == pytest.approx(0, abs=chance * variance**0.5 + 2e-3)
    assert float(rest.var()) == pytest.approx(variance, rel=chance * 1.5 + 0.02)


def test_it_takes_bridges_alone_and_they_take_nothing_else() -> None:
    bridge = Knowledge(prior=False, bridge=True, enlarges_only=False)
    assert settings_for(KINDS["sr"], None, bridge)[0] == "i2sb"
    assert settings_for(KINDS["deblur"], Options(steps=5), bridge)[0] == "i2sb"
    with pytest.raises(BadArgument, match=r"`method`=sr3: .* use i2sb"):
        settings_for(KINDS["sr"], Options("sr3"), bridge)
    with pytest.raises(BadArgument, match="begins at noise, and is no bridge"):
        settings_for(KINDS["sr"], Options("i2sb"), Knowledge(bridge=False))
    own = Knowledge(prior=False, bridge=False, enlarges_only=False)
    assert settings_for(KINDS["deblur"], None, own)[0] == "sr3"
    assert METHODS["i2sb"].bridges


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[data]\nunconditional_fraction = 0.2", "unconditional_fraction: must be 0"),
        ("[objective]\nlevels = 'uniform'\nweighting = 'bound'", "has no variational bound"),
        ("[distillation]\nstart = 4\nend = 2", "only noise is distilled"),
    ],
)
def test_recipes_that_no_bridge_can_have(text: str, words: str) -> None:
    made = parse_recipe(
        "[model]\nbridge = 'brownian'\nparameterization = 'v'\nschedule = {name = 'bridge'}\n"
        f"backbone = {{condition_channels = 0, condition_map = false}}\n{text}"
    )
    with pytest.raises(BadArgument, match=words):
        check_recipe(made)


def test_the_networks_that_sample_are_those_that_learn() -> None:
    """The denoiser of the recipe shows the network its state alone, at the time of its level."""
    model = read_recipe(Path("i2sb")).model
    assert model is not None
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, time: Tensor) -> Tensor:
        seen.append((x, time))
        return torch.zeros_like(x)

    degraded = torch.rand(1, 3, 16, 16)
    condition = Condition(degraded, torch.ones(1, 1, 16, 16))
    denoiser = Denoiser(network, model)
    assert (denoiser.bridge, denoiser.prior, denoiser.conditional) == (True, False, True)
    found = i2sb(denoiser, condition, bridge_levels(denoiser.schedule, 4), eta=0.0)
    torch.testing.assert_close(found, degraded)
    assert [float(time) for _, time in seen] == pytest.approx(
        [999, 749.25, 499.5, 249.75], rel=1e-3
    )
    torch.testing.assert_close(seen[0][0], degraded / math.sqrt(1 + BRIDGE.sigmas[-1] ** 2))
