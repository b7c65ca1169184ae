"""NPR- and SN-DPM: their variance against samples of the true reverse step and the paper's symbols,
what few steps reach, and what trains the network.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.analytic import Mixture
from torch import Tensor
from torch.nn.functional import softplus

from pretrained.description import BackboneConfig, ModelConfig
from restore.diffusion.denoiser import Condition, Denoiser, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels, posterior_variance
from restore.diffusion.stepping import start
from restore.errors import BadArgument
from restore.methods.options import Options
from restore.methods.sampling import Sampling, sample_pictures
from restore.methods.settings import settings_for
from restore.samplers.analytic_dpm import ScoreNorms, analytic_dpm
from restore.samplers.extended_analytic_dpm import diagonal_variance, extended_analytic_dpm
from restore.tasks import KINDS
from restore.training.objective import Objective
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, read_recipe
from restore.training.recipe_sections import ObjectiveRecipe

LINEAR = NoiseSchedule.named("linear")


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _narrow_and_wide() -> Mixture:
    """One Gaussian whose pixels have variances of 0.4, 0.05 and 0.001."""
    return Mixture(torch.ones(1), torch.tensor([[0.2, -0.3, 0.1]]), torch.diag(
        torch.tensor([0.4, 0.05, 0.001])
    )[None])  # fmt: skip


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_variance_is_that_of_the_true_step_around_a_wrong_mean(eta: float, bias: float) -> None:
    """E[(x_ς − μ̂)² | x_σ] by samples of x0 given x_σ; no other variance has a smaller KL."""
    world = _narrow_and_wide()
    sigma, lower, count = 0.8, 0.3, 200_000
    x = torch.tensor([0.5, -0.1, 0.9], dtype=torch.float64).reshape(1, 1, 1, 3)
    wrong = world.denoise(x, sigma).noise + bias
    residual = world.noise_variance(x, sigma) + bias**2
    spread = (sigma * world.noise_variance(x, sigma) ** 0.5).expand(count, 1, 1, 3)
    clean = world.denoise(x, sigma).clean + spread * torch.randn(
        spread.shape, generator=_draw(), dtype=torch.float64
    )

    fresh = eta**2 * posterior_variance(sigma, lower)
    kept = (lower**2 - fresh) ** 0.5
    reached = clean + kept * (x - clean) / sigma
    mean = (x - sigma * wrong) + kept * wrong
    expected = fresh + ((reached - mean) ** 2).mean(dim=0, keepdim=True)
    found = diagonal_variance(residual, sigma, lower, eta)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_variance_is_that_of_the_papers_symbols(eta: float) -> None:
    """λ_n² + γ_n² β̄_n/ᾱ_n g with γ_n = √ᾱ_{n−1} − √(β̄_{n−1} − λ_n²) √(ᾱ_n/β̄_n), for x/√(1+σ²)."""
    for sigma, lower in [(3.0, 1.0), (0.5, 0.1)]:
        kept, kept_next = 1 / (1 + sigma**2), 1 / (1 + lower**2)
        noise, noise_next = 1 - kept, 1 - kept_next
        fresh = eta**2 * noise_next / noise * (1 - kept / kept_next)
        gamma = kept_next**0.5 - (noise_next - fresh) ** 0.5 * (kept / noise) ** 0.5
        g = 0.07
        expected = fresh + gamma**2 * noise / kept * g
        found = diagonal_variance(torch.tensor(g).double(), sigma, lower, eta)
        assert float(found) * kept_next == pytest.approx(expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_few_steps_reach_the_variance_of_every_pixel(eta: float) -> None:
    """The one variance of Analytic-DPM is right on average only."""
    world = _narrow_and_wide()
    sigmas = noise_levels(LINEAR, 5, "log-snr")
    count = 20_000
    x = start(torch.empty(count, 1, 1, 3, dtype=torch.float64), sigmas[0], _draw(1))

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        return world.denoise(x, sigma)._replace(noise_variance=world.noise_variance(x, sigma))

    values = torch.diagonal(world.covariances[0])
    norms = ScoreNorms(
        tuple(sigmas[:-1]), tuple(float((1 / (values + s**2)).mean()) for s in sigmas[:-1]), "m"
    )
    found = extended_analytic_dpm(
        denoise, x, sigmas, eta=eta, last_noise=None, generator=_draw(2)
    ).flatten(1)
    one = analytic_dpm(
        world.denoise, x, sigmas, norms, eta=eta, last_noise=None, generator=_draw(2)
    ).flatten(1)
    exact = values**2 / (values + sigmas[-2] ** 2)  # the last step takes the clean estimate
    torch.testing.assert_close(found.var(dim=0), exact, rtol=4.5 * (2 / count) ** 0.5, atol=0)
    assert float((one.var(dim=0) / exact - 1).abs().max()) > 0.5


def test_the_last_noise_of_a_pixel_is_cut() -> None:
    states: list[Tensor] = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        states.append(x)
        sure = torch.zeros_like(x)
        sure[..., 0] = 1.0  # of the first pixel nothing is known
        return Prediction(torch.zeros_like(x), torch.zeros_like(x), None, sure)

    x = torch.zeros(4000, 1, 1, 2, dtype=torch.float64)
    extended_analytic_dpm(denoise, x, [0.5, 0.1, 0.0], eta=0.0, generator=_draw(1))
    assert float(states[1][..., 0].abs().mean()) == pytest.approx(2 * 2 / 255, rel=0.05)
    assert not states[1][..., 1].any()


def _model(kind: str, parameterization: str = "epsilon") -> ModelConfig:
    backbone = BackboneConfig(channels=32, channel_multipliers=(1,), learned_variance=True)
    return ModelConfig(backbone, {"name": "linear"}, parameterization, noise_variance=kind)


@pytest.mark.parametrize("parameterization", ["epsilon", "v", "edm"])
def test_what_the_second_output_learns_is_what_the_denoiser_says(parameterization: str) -> None:
    """The loss is that of E[(ε − ε̂)² | x], and teaches the mean nothing."""
    model = _model("npr", parameterization)
    weights = torch.randn(6, 3, 1, 1, generator=_draw(3)).requires_grad_()

    def network(x: Tensor, time: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(torch.tanh(x[:, :3]), weights)

    clean = torch.rand(20, 3, 8, 8, generator=_draw(1)) * 2 - 1
    noise = torch.randn(clean.shape, generator=_draw(2))
    objective = Objective(model, ObjectiveRecipe(noiseless_fraction=0.0, variance_weight=0.5))
    draw = objective.draw(torch.zeros(20, dtype=torch.bool), _draw(4))
    nothing = Condition(torch.zeros_like(clean), torch.zeros_like(clean[:, :1]))
    terms = objective.terms(network, clean, nothing, draw, noise)
    torch.testing.assert_close(objective.total(terms), terms.simple + 0.5 * terms.variance)
    (slope,) = torch.autograd.grad(terms.variance.sum(), weights)
    assert not slope[:3].any()
    assert bool(slope[3:].any())

    sigma = ((1 - draw.gamma) / draw.gamma).sqrt()
    with torch.no_grad():
        said = Denoiser(network, model)(clean + sigma[:, None, None, None] * noise, sigma)
    assert said.noise_variance is not None
    assert said.variance_fraction is None
    error = said.noise_variance - (noise - said.noise) ** 2
    torch.testing.assert_close(
        error.square().mean(dim=(1, 2, 3)), terms.variance.detach(), rtol=5e-3, atol=1e-3
    )


def test_sn_learns_the_square_of_the_noise_and_subtracts_that_of_the_estimate() -> None:
    second = torch.tensor([-1.0, 0.5, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)

    def network(x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x, 0.9), second], dim=1)

    found = Denoiser(network, _model("sn"))(torch.zeros(1, 3, 4, 4), 1.0).noise_variance
    assert found is not None
    torch.testing.assert_close(found, (softplus(second) - 0.81).clamp_min(0))
    assert not found[:, 0].any()

    clean, noise = torch.randn(2, 1, 3, 4, 4, generator=_draw())
    objective = Objective(_model("sn"), ObjectiveRecipe(noiseless_fraction=0.0))
    draw = objective.draw(torch.zeros(1, dtype=torch.bool), _draw())
    nothing = Condition(torch.zeros_like(clean), torch.zeros_like(clean[:, :1]))
    learned = objective.terms(network, clean, nothing, draw, noise).variance
    assert float(learned) == pytest.approx(float((softplus(second) - noise**2).square().mean()))

    plain = Denoiser(network, _model("npr"))(torch.zeros(1, 3, 4, 4), 1.0).noise_variance
    torch.testing.assert_close(plain, softplus(second))


def test_networks_without_it_are_refused() -> None:
    start = torch.ones(1, 1, 1, 2).double()
    with pytest.raises(ValueError, match="does not predict the variance"):
        extended_analytic_dpm(Mixture.random(2).denoise, start, [2.0, 1.0, 0])
    network = Denoiser(lambda x, time: x, ModelConfig(BackboneConfig(), {"name": "linear"}))
    with pytest.raises(BadArgument, match="--recipe npr-ddpm does; analytic-ddpm estimates"):
        sample_pictures(network, Sampling(sampler="npr-ddim"), torch.device("cpu"))
    with pytest.raises(BadArgument, match="has not learned the variance of its steps"):
        sample_pictures(
            Denoiser(lambda x, time: x, _model("npr")),
            Sampling(sampler="ddpm-learned"),
            torch.device("cpu"),
        )
    with pytest.raises(BadArgument, match="it is for restore sample"):
        settings_for(KINDS["sr"], Options(sampler="npr-ddpm"))
    with pytest.raises(ValueError, match="noise_variance = npr: the network needs learned_var"):
        ModelConfig(BackboneConfig(), {"name": "linear"}, noise_variance="npr")
    made = parse_recipe(
        "[model]\nnoise_variance = 'sn'\n[model.backbone]\nlearned_variance = true\n"
        "[objective]\nweighting = 'bound'\nlevels = 'uniform'"
    )
    with pytest.raises(BadArgument, match="must be 'simple' for a model with a noise_variance"):
        check_recipe(made)


def test_its_recipe_samples_pictures() -> None:
    """An untrained network of the recipe draws pictures by both samplers."""
    model = read_recipe(Path("npr-ddpm")).model
    assert model is not None
    assert model.noise_variance == "npr"

    def network(x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([x, -2 - x.abs()], dim=1)

    for name in ("npr-ddpm", "npr-ddim"):
        made, _ = sample_pictures(
            Denoiser(network, model),
            Sampling(count=2, height=16, width=16, sampler=name, steps=4),
            torch.device("cpu"),
        )
        assert math.isfinite(float(made.sum()))
        assert made.shape == (2, 3, 16, 16)
