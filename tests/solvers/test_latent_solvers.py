"""Solvers of latents against their equations, behind a linear autoencoder."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.latents import HaarAutoencoder
from torch import Tensor

import operators
from operators import FunctionOperator, Mask, dense_matrix
from restore.diffusion.protocol import Prediction
from restore.solvers import dps, latent_daps, latent_dps, project, psld, resample
from restore.solvers.decoded import DecodedMeasurement, Stretch
from restore.solvers.psld import _projected
from restore.solvers.resample import consistent

SHAPE = (1, 8, 8)
CODEC = HaarAutoencoder()
LEVELS = [3.0, 1.5, 0.8, 0.3, 0.05, 0.0]
PRIOR = Mixture.gaussian(16)
SOLVERS = {
    "latent_dps": latent_dps,
    "psld": psld,
    "resample": resample,
    "latent_daps": partial(latent_daps, prior_std=1.0),
}


def _hole() -> Mask:
    known = torch.ones(8, 8).bool()
    known[:, 3:] = False
    return Mask(SHAPE, known)


OPERATORS = {
    "mask": _hole,
    "x2": lambda: operators.downsample(SHAPE, 2),
    "blur": lambda: operators.gaussian_blur(SHAPE, 1.0),
    "unknown border": lambda: operators.ValidConvolution((1, 6, 6), np.full((3, 3), 1 / 9)),
    "own": lambda: FunctionOperator(lambda x: x[..., ::2] + x[..., 1::2].roll(1, -1), SHAPE),
}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _measured(operator, noise: float = 0.0) -> Tensor:
    latents = PRIOR.sample(1, _seeded(1)).reshape(1, 1, 4, 4).float()
    y = operator.A(CODEC.decode(latents, SHAPE[1:]))
    return y + noise * torch.randn(y.shape, generator=_seeded(2))


def _copied(x: Tensor, sigma, condition=None) -> Prediction:
    """A network that sees no noise."""
    return Prediction(x, torch.zeros_like(x))


@pytest.mark.parametrize("name", ["mask", "blur", "own"])
def test_latent_dps_is_dps_with_the_decoder_in_the_operator(name: str) -> None:
    """16 latents of 64 pixels: the step of √64 of the pixels is that of √16 of the latents, halved.

    The picture is then projected.
    """
    operator = OPERATORS[name]()
    y = _measured(operator, 0.1)
    found = latent_dps(
        PRIOR.denoise, CODEC, operator, y, 0.1, LEVELS, step_size=0.1, generator=_seeded()
    )
    through = FunctionOperator(lambda z: operator.A(CODEC.decode(z, SHAPE[1:])), (1, 4, 4))
    latents = dps(
        PRIOR.denoise, through, y.reshape(1, *through.output_shape), 0.1, LEVELS,
        step_size=0.05, generator=_seeded(),
    )  # fmt: skip
    expected = project(operator, CODEC.decode(latents, SHAPE[1:]), y, 0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_a_decoder_that_keeps_the_root_mean_square_moves_latents_by_the_step() -> None:
    """All of A = 1, and a network that copies."""
    codec = HaarAutoencoder(scale=2.0)
    identity = Mask(SHAPE, torch.ones(8, 8).bool())
    y = codec.decode(torch.rand(2, 1, 4, 4), SHAPE[1:])
    one, none = (
        latent_dps(
            _copied, codec, identity, y, 1e6, [1e-3, 0.0], step_size=size, generator=_seeded()
        )
        for size in (0.1, 0.0)
    )
    moved = codec.encode(one - none).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(moved, torch.full((2,), 0.1), rtol=1e-3, atol=0)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_gluing_is_a_step_towards_the_latents_of_the_projected_picture(noise: float) -> None:
    """With matrices: ``γ ∇ ‖z − E P D z‖`` and ``γ = g √16``."""
    operator = OPERATORS["x2"]()
    y = _measured(operator, noise)
    run = partial(psld, _copied, CODEC, operator, y, noise, [1e-3, 0.0], step_size=0.0)
    none, glued = (
        CODEC.encode(run(gluing=size, generator=_seeded())).flatten().double()
        for size in (0.0, 0.3)
    )

    D = _dense_decoder()
    E = CODEC.encode(torch.eye(64).reshape(64, *SHAPE)).flatten(1).T.double()
    A = dense_matrix(operator).double()
    ratio = (noise / 0.05) ** 2
    M = A.T @ torch.linalg.inv(A @ A.T + ratio * torch.eye(len(A)))
    P = torch.eye(64) - M @ A
    z = 1e-3 * torch.randn(16, generator=_seeded()).double()
    far = z - E @ (P @ D @ z + M @ y.flatten().double())
    gradient = (torch.eye(16) - E @ P @ D).T @ far / far.norm()
    expected = E @ P @ D @ (0.3 * 16**0.5 * gradient) * (1 + 1e-6) ** 0.5
    torch.testing.assert_close(none - glued, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_projection_of_gluing_is_differentiable(name: str) -> None:
    """``⟨u, P v⟩ = ⟨Pᵀ u, v⟩`` for every kind of operator."""
    operator = OPERATORS[name]()
    decoded = DecodedMeasurement(CODEC, operator, _measured(operator), 0.1)
    x, v, u = torch.randn(3, *operator.input_shape, generator=_seeded())
    leaf = x[None].clone().requires_grad_()
    projected = _projected(decoded, leaf)
    (pulled,) = torch.autograd.grad(projected, leaf, u[None])
    pushed = _projected(decoded, (x + v)[None]) - projected.detach()
    assert float((pulled[0] * v).sum()) == pytest.approx(float((u * pushed[0]).sum()), abs=5e-3)


def test_data_consistency_stops_at_the_noise() -> None:
    """Each picture by itself; one that is explained stays as it is."""
    operator = OPERATORS["x2"]()
    latents = torch.randn(3, 1, 4, 4, generator=_seeded())
    y = operator.A(CODEC.decode(latents, SHAPE[1:]))
    decoded = DecodedMeasurement(CODEC, operator, y, torch.tensor([0.0, 0.05, 0.5]))
    begun = latents + torch.tensor([0.0, 0.5, 0.5]).reshape(3, 1, 1, 1)
    found = consistent(decoded, begun, iterations=200, rate=0.05)
    misfit = (operator.A(CODEC.decode(found, SHAPE[1:])) - y).square().mean(dim=(1, 2, 3)).sqrt()
    assert torch.equal(found[[0, 2]], begun[[0, 2]])
    assert 0.03 < float(misfit[1]) <= 0.05


def test_resampling_is_that_of_the_paper() -> None:
    """In their coordinates, ``N((σ_t² √ᾱ ẑ0 + (1−ᾱ) z')/(σ_t²+1−ᾱ), σ_t²(1−ᾱ)/(σ_t²+1−ᾱ))``."""
    operator = OPERATORS["x2"]()
    latents = torch.full((2000, 1, 4, 4), 0.7)
    y = operator.A(CODEC.decode(latents, SHAPE[1:]))
    seen: list[Tensor] = []

    def denoise(z: Tensor, sigma: float, condition=None) -> Prediction:
        seen.append(z)
        return Prediction(latents, 0.5 * torch.ones_like(z))  # explains y: nothing to optimise

    now, below, gamma = 1.2, 0.7, 3.0
    resample(denoise, CODEC, operator, y, 0.0, [now, below, 0.0], gamma=gamma, every=1)
    abar, abar_below = (1 / (1 + level**2) for level in (now, below))
    beta = (1 - abar_below) / (1 - abar) * (1 - abar / abar_below)
    variance, rest = gamma * beta, 1 - abar_below
    step = np.sqrt(abar_below) * (0.7 + below * 0.5)
    mean = (variance * np.sqrt(abar_below) * 0.7 + rest * step) / (variance + rest)
    state = seen[1] * np.sqrt(abar_below)
    assert float(state.mean()) == pytest.approx(mean, abs=0.01)
    assert float(state.var()) == pytest.approx(variance * rest / (variance + rest), rel=0.02)


def test_the_stretch_is_the_largest_singular_value() -> None:
    operator = OPERATORS["blur"]()
    decoded = DecodedMeasurement(CODEC, operator, _measured(operator), 0.1)
    matrix = dense_matrix(operator).double() @ _dense_decoder()
    largest = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    stretch = Stretch(decoded)
    latents = torch.randn(1, 1, 4, 4, generator=_seeded())
    assert 0.95 * largest < float(stretch.squared(latents)) < 1.15 * largest


def _dense_decoder() -> Tensor:
    return CODEC.decode(torch.eye(16).reshape(16, 1, 4, 4), SHAPE[1:]).flatten(1).T.double()


def test_langevin_steps_draw_from_the_posterior() -> None:
    """Of a white prior, whose spread is told: mean and covariance are those of the posterior."""
    prior = Mixture(torch.ones(1), torch.zeros(1, 16), torch.eye(16)[None])
    operator = OPERATORS["mask"]()
    y = _measured(operator, 0.3)
    posterior = prior.posterior(dense_matrix(operator).double() @ _dense_decoder(), y, 0.3)
    states: list[Tensor] = []

    def denoise(z: Tensor, sigma: float, condition=None) -> Prediction:
        states.append(z)
        return prior.denoise(z, sigma, condition)

    latent_daps(
        denoise, CODEC, operator, y.expand(2000, -1, -1, -1), 0.3, [3.0, 1.0, 0.0],
        prior_std=1.0, langevin_steps=100, generator=_seeded(), step_size=0.2,
    )  # fmt: skip
    noisy = states[1].flatten(1).double()  # at σ = 1
    mean = (noisy.mean(0) - posterior.mean).norm() / posterior.mean.norm()
    covariance = noisy.T.cov() - posterior.covariance - torch.eye(16)
    assert float(mean) < 0.1
    assert float(covariance.norm() / (posterior.covariance + torch.eye(16)).norm()) < 0.1


@pytest.mark.parametrize("name", SOLVERS)
def test_the_measurement_is_explained_in_pixels(name: str) -> None:
    """Without noise exactly, in every mode of PyTorch; every call is reported, with pictures."""
    operator = OPERATORS["x2"]()
    y = _measured(operator)
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        steps = []
        with mode():
            made = SOLVERS[name](
                PRIOR.denoise, CODEC, operator, y + 0, 0.0, LEVELS,
                generator=_seeded(), start=torch.zeros(1, *SHAPE), callback=steps.append,
            )  # fmt: skip
        assert [(step.index, step.steps) for step in steps] == [(i, 5) for i in range(5)]
        assert {tuple(step.clean.shape) for step in steps} == {(1, *SHAPE)}
        found.append(made.detach().clone())

    torch.testing.assert_close(operator.A(found[0]), y, rtol=0, atol=1e-5)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("name", SOLVERS)
def test_pictures_of_a_batch_are_as_each_alone(name: str) -> None:
    operator = OPERATORS["mask"]()
    y = _measured(operator) + torch.tensor([0.0, 0.3]).reshape(2, 1, 1, 1)
    noise = torch.tensor([0.02, 0.3])
    together = SOLVERS[name](
        PRIOR.denoise, CODEC, operator, y, noise, LEVELS, generator=[_seeded(5), _seeded(6)]
    )
    for b, seed in enumerate((5, 6)):
        alone = SOLVERS[name](
            PRIOR.denoise, CODEC, operator, y[[b]], noise[[b]], LEVELS, generator=_seeded(seed)
        )
        torch.testing.assert_close(together[[b]], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("solver", "options", "words"),
    [
        (latent_dps, {"step_size": -0.1}, "step_size not negative"),
        (psld, {"gluing": np.inf}, "step_size and gluing not negative"),
        (psld, {"eta": 1.1}, "eta must be in"),
        (resample, {"every": 0}, "every and iterations"),
        (resample, {"rate": 0.0}, "rate above 0"),
        (latent_daps, {"momentum": 1.0}, "momentum must be"),
        (latent_daps, {"langevin_steps": 0}, "at least one Langevin step"),
    ],
)
def test_out_of_range(solver, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solver(PRIOR.denoise, CODEC, _hole(), torch.zeros(1, *SHAPE), 0.1, LEVELS, **options)
