"""DDNM and DDNM+ against a dense re-statement, DDRM's steps and posteriors in closed form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

import operators
from operators import LinearOperator, Mask, SpectralOperator, dense_matrix, kernels
from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.errors import BadArgument
from restore.solvers import ddnm
from restore.solvers.ddnm import _noisy_step
from restore.solvers.ddrm import SpectralProcess

SHAPE = (3, 8, 6)
LEVELS = noise_levels(NoiseSchedule.named("linear"), 5, "log-snr", highest=2.0)
HOLES = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.2

WITH_SVD = {
    "bicubic": lambda: operators.downsample(SHAPE, 2),
    "area": lambda: operators.downsample(SHAPE, 2, kernel="area"),
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.7, boundary="mirror"),
    "gray": lambda: operators.gray(SHAPE),
    "mask": lambda: Mask(SHAPE, HOLES),
    "one row": lambda: operators.gaussian_blur((1, 1, 7), 0.6),
}
WITHOUT_SVD = {
    "unknown border": lambda: operators.ValidConvolution((3, 7, 6), kernels.gaussian(0.5)),
    "mask after blur": lambda: Mask(SHAPE, HOLES) @ operators.gaussian_blur(SHAPE, 0.6),
    "own": lambda: operators.FunctionOperator(
        lambda x: x[:, :, ::2] + 0.5 * x[:, :, 1::2].roll(1, -1), SHAPE
    ),
}


def _denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    scaled = x / (1 + sigma**2) ** 0.5
    clean = torch.tanh(scaled + 0.3 * scaled.roll(1, -1) - 0.1 * scaled.roll(2, -2))
    return Prediction(clean, (x - clean) / sigma)


def _measurement(operator: LinearOperator, count: int = 2) -> Tensor:
    x = torch.randn(count, *operator.input_shape, generator=torch.Generator().manual_seed(1))
    return operator.A(x)


def _dense_step(A: np.ndarray, clean, noise, z, y, sigma_y: float, sigma: float, eta: float):
    """Appendix of the paper, with Σ_t and Φ_t of every singular value, and of 0."""
    _, s, Vt = np.linalg.svd(A)
    s = np.concatenate([s, np.zeros(len(Vt) - len(s))])
    s[s < 1e-5] = 0
    level = np.divide(sigma_y, s, out=np.zeros_like(s), where=s > 0)
    scale = np.ones_like(s)
    fresh = np.full_like(s, eta * sigma)
    kept = np.full_like(s, (1 - eta**2) ** 0.5 * sigma)
    if sigma_y > 0:
        fine = (s > 0) & (sigma >= level)
        coarse = (s > 0) & (sigma < level)
        scale[coarse] = s[coarse] * sigma * (1 - eta**2) ** 0.5 / sigma_y
        fresh[fine] = np.sqrt(sigma**2 - level[fine] ** 2)
        kept[s > 0] = 0
    moved = clean - Vt.T @ (scale * (Vt @ (np.linalg.pinv(A, rcond=1e-5) @ (A @ clean - y))))
    return moved + Vt.T @ (fresh * (Vt @ z) + kept * (Vt @ noise))


def _dense(operator, y, sigma_y, visits, eta, generator) -> Tensor:
    A = dense_matrix(operator).double().numpy()
    levels = list(LEVELS)
    shape = (len(y), *operator.input_shape)
    x = levels[0] * torch.randn(shape, generator=generator)
    for sigma, below in pairwise(levels[visit] for visit in visits):
        z = torch.randn(shape, generator=generator)
        if below > sigma:
            x = x + (below**2 - sigma**2) ** 0.5 * z
            continue
        found = _denoiser(x, sigma)
        rows = [t.double().flatten(1).numpy() for t in (*found[:2], z, y)]
        stepped = [
            _dense_step(A, *row, s, below, eta) for *row, s in zip(*rows, sigma_y, strict=True)
        ]
        x = torch.from_numpy(np.stack(stepped)).float().reshape(shape)
    return x


@pytest.mark.parametrize("name", WITH_SVD)
@pytest.mark.parametrize("eta", [0.0, 0.85])
@pytest.mark.parametrize("sigma_y", [(0.0, 0.0), (0.3, 0.02), (0.0, 0.3)], ids=str)
def test_is_its_dense_restatement(name: str, eta: float, sigma_y: tuple[float, float]) -> None:
    """With time travel; a picture without noise beside a noisy one is restored as if alone."""
    operator = WITH_SVD[name]()
    y = _measurement(operator) + 0.1
    found = ddnm(
        _denoiser,
        operator,
        y,
        torch.tensor(sigma_y),
        LEVELS,
        generator=torch.Generator().manual_seed(2),
        eta=eta,
        travel_length=2,
        travel_repeats=2,
    )
    visits = [0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 5]
    expected = _dense(operator, y, sigma_y, visits, eta, torch.Generator().manual_seed(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * max(1, expected.abs().max()))


@pytest.mark.parametrize("name", WITH_SVD)
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_noisy_components_step_as_in_ddrm(name: str, sigma: float) -> None:
    """With η_b = 1; what DDNM+ adds to DDRM is the start and time travel."""
    operator = WITH_SVD[name]()
    assert isinstance(operator, SpectralOperator)
    y = _measurement(operator)
    x, z = torch.randn(2, 2, *operator.input_shape, generator=torch.Generator().manual_seed(3))
    prediction = _denoiser(x, 1.0)
    process = SpectralProcess(operator, y, 0.3)
    process.x = operator.Vt(x)
    expected = process.step(prediction, z, 1.0, sigma, 0.6, 1.0)
    found = _noisy_step(operator, y, 0.3, prediction, sigma, 0.6, z)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", WITH_SVD | WITHOUT_SVD)
def test_without_noise_the_measurement_holds(name: str) -> None:
    operator = (WITH_SVD | WITHOUT_SVD)[name]()
    y = _measurement(operator)
    for final_projection in (False, True):
        found = ddnm(_denoiser, operator, y, 0.0, LEVELS, final_projection=final_projection)
        torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-3)


def test_with_noise_it_needs_an_svd() -> None:
    operator = WITHOUT_SVD["mask after blur"]()
    with pytest.raises(BadArgument, match=r"Composition has no SVD, which ddnm of a noisy"):
        ddnm(_denoiser, operator, _measurement(operator), torch.tensor([0.0, 0.1]), LEVELS)


@pytest.mark.parametrize("noise", [0.004, 0.3])
def test_unknown_border_without_a_border(noise: float) -> None:
    """With a kernel of one pixel, the canvas is the measurement, and the blur is the identity."""
    border = operators.ValidConvolution(SHAPE, np.ones((1, 1)))
    identity = operators.CircularConvolution(SHAPE, np.ones((1, 1)))
    y = _measurement(identity)
    found, expected = (
        ddnm(_denoiser, one, y, noise, LEVELS, generator=torch.Generator().manual_seed(2))
        for one in (border, identity)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_unknown_border_is_sharper_than_the_measurement() -> None:
    """The canvas of a smooth scene explains its blurred inside within the noise."""
    operator = operators.ValidConvolution((1, 12, 12), kernels.gaussian(0.8))
    rows = torch.linspace(0, 3, operator.input_shape[1]).sin()
    scene = 0.8 * rows[:, None] * rows.flip(0)
    y = operator.A(scene.expand(1, 1, -1, -1)) + 0.02 * torch.randn(
        1, 1, 12, 12, generator=torch.Generator().manual_seed(0)
    )
    found = ddnm(
        _denoiser, operator, y, 0.02, LEVELS, generator=torch.Generator().manual_seed(2),
        final_projection=True,
    )  # fmt: skip
    assert float((operator.A(found) - y).square().mean().sqrt()) < 0.04


def test_pictures_of_a_batch_are_independent() -> None:
    operator = WITH_SVD["bicubic"]()
    y = _measurement(operator)
    noise = torch.tensor([0.1, 0.4])

    def restored(y: Tensor, noise: Tensor, seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return ddnm(_denoiser, operator, y, noise, LEVELS, generator=generators, travel_repeats=2)

    together = restored(y, noise, [7, 8])
    for b in range(2):
        alone = restored(y[b : b + 1], noise[b : b + 1], [7 + b])
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-5)


def test_start_condition_and_callback() -> None:
    operator = WITH_SVD["mask"]()
    shown = Condition(torch.zeros(1, *SHAPE), torch.ones(1, 1, *SHAPE[1:]))
    conditions, steps = [], []

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        conditions.append(condition)
        return _denoiser(x, sigma)

    ddnm(
        denoise, operator, torch.zeros(1, *operator.output_shape), 0.1, LEVELS,
        generator=torch.Generator().manual_seed(0), travel_length=2, travel_repeats=2,
        start=torch.ones(1, *SHAPE), condition=shown, callback=steps.append,
    )  # fmt: skip
    assert [(step.index, step.steps) for step in steps] == [(i, 9) for i in range(9)]
    assert all(condition is shown for condition in conditions)
    assert float(steps[0].clean.mean()) > 0.2


@pytest.mark.usefixtures("float64_by_default")
def test_float32_stays() -> None:
    operator = WITH_SVD["bicubic"]()
    y = torch.zeros(1, *operator.output_shape, dtype=torch.float32)
    assert ddnm(_denoiser, operator, y, 0.1, LEVELS).dtype == torch.float32


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"eta": 1.1}, r"eta must be in \[0, 1\], not 1.1"),
        ({"travel_length": 0}, "travel_length and travel_repeats must be at least 1, not 0 and 1"),
        ({"travel_repeats": 0}, "travel_length and travel_repeats must be at least 1, not 1 and 0"),
    ],
)
def test_out_of_range(options: dict[str, float], text: str) -> None:
    operator = WITH_SVD["mask"]()
    with pytest.raises(ValueError, match=text):
        ddnm(_denoiser, operator, _measurement(operator), 0.0, LEVELS, **options)


COUNT = 4000


def _gaps(sigma_y: float, levels: int, **options: float) -> tuple[float, float]:
    """Error of the mean in units of the posterior's spread, and the ratio of the variances."""
    prior = Mixture.gaussian(6, seed=1)
    operator = Mask((1, 1, 6), torch.arange(6).reshape(1, 6) < 3)
    y = operator.A(prior.sample(1, torch.Generator().manual_seed(3)).float())
    y += sigma_y * torch.randn(y.shape, generator=torch.Generator().manual_seed(4))
    samples = ddnm(
        prior.denoise,
        operator,
        y.expand(COUNT, -1, -1, -1),
        sigma_y,
        noise_levels(NoiseSchedule.named("linear"), levels, "log-snr"),
        generator=torch.Generator().manual_seed(5),
        **options,
    )
    posterior = prior.posterior(dense_matrix(operator), y, sigma_y)
    flat = samples.double().flatten(1)
    spread = posterior.covariance.trace().sqrt()
    return (
        float((flat.mean(0) - posterior.mean).norm() / spread),
        float(flat.T.cov().trace() / posterior.covariance.trace()),
    )


def test_on_a_gaussian_prior() -> None:
    """The mean converges where the noise is small; the samples are less spread than the posterior.

    Measured: 0.13 and 0.66 with 20 levels, 0.04 and 0.74 with 100, for a clean measurement; 0.20
    and 0.65, 0.08 and 0.73 with noise of 0.05; 0.48 and 0.46 with noise of 0.3.
    """
    for sigma_y, levels, mean, least, most in (
        (0.0, 20, 0.16, 0.6, 0.72),
        (0.0, 100, 0.06, 0.68, 0.8),
        (0.05, 20, 0.23, 0.6, 0.72),
        (0.3, 100, 0.55, 0.4, 0.52),
    ):
        gap, ratio = _gaps(sigma_y, levels, eta=0.85)
        assert gap < mean
        assert least < ratio < most


def test_fresh_noise_alone_forgets_a_noisy_measurement() -> None:
    """η = 1 leaves nothing of y below its noise; the mean is off by more than the spread."""
    assert _gaps(0.3, 100, eta=1.0)[0] > 1.2


def test_time_travel_brings_the_mean_nearer() -> None:
    """Without noise, with 20 levels: 0.129 becomes 0.094."""
    once, again = (_gaps(0.0, 20, travel_length=2, travel_repeats=n)[0] for n in (1, 2))
    assert again < 0.85 * once
