"""DiffPIR against a dense re-statement, through operators with and without an SVD."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import BatchOperator, Mask, dense_matrix, kernels
from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.solvers import ddrm, diffpir, project

SHAPE = (3, 9, 8)
LEVELS = noise_levels(NoiseSchedule.named("linear"), 6, "log-snr", highest=2.0)
HOLES = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.2

WITH_SVD = {
    "down": lambda: operators.downsample(SHAPE, 2),
    "blur": lambda: operators.gaussian_blur(SHAPE, 1.0, boundary="mirror"),
    "circular": lambda: operators.CircularConvolution(SHAPE, kernels.motion(3, 30)),
    "gray": lambda: operators.gray(SHAPE),
    "mask": lambda: Mask(SHAPE, HOLES),
    "hadamard": lambda: operators.Hadamard(SHAPE, 0.5),
}
WITHOUT_SVD = {
    "unknown border": lambda: operators.ValidConvolution((3, 7, 6), kernels.gaussian(0.7)),
    "mask after blur": lambda: Mask(SHAPE, HOLES) @ operators.gaussian_blur(SHAPE, 1.0),
    "replicated": lambda: operators.convolution(SHAPE, kernels.motion(3, 30), "replicate"),
    "own": lambda: operators.FunctionOperator(
        lambda x: x[:, :, ::2] + 0.5 * x[:, :, 1::2].roll(1, -1), (3, 8, 8)
    ),
    "batch": lambda: operators.batch_of(
        [operators.convolution(SHAPE, kernels.motion(3, angle), "zero") for angle in (0, 60)]
    ),
}
BUILDERS = WITH_SVD | WITHOUT_SVD


@pytest.fixture
def to_the_end(monkeypatch) -> None:
    """Conjugate gradients that do not stop early: what is compared is the method, not its
    patience.
    """
    run_to_the_end(monkeypatch)


def _denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    scaled = x / (1 + sigma**2) ** 0.5
    clean = torch.tanh(scaled + 0.3 * scaled.roll(1, -1) - 0.1 * scaled.roll(2, -2))
    return Prediction(clean, (x - clean) / sigma)


def _dense(operator: operators.LinearOperator, picture: int) -> np.ndarray:
    one = operator.operators[picture] if isinstance(operator, BatchOperator) else operator
    return dense_matrix(one).numpy()


def _dense_fit(
    A: np.ndarray, clean: np.ndarray, y: np.ndarray, sigma_y: float, tau: float
) -> np.ndarray:
    """argmin ‖y − A x‖²/σ_y² + ‖x − clean‖²/τ² by the normal equations; by numpy's pinv without
    noise.
    """
    if sigma_y == 0:
        return clean + np.linalg.pinv(A, rcond=1e-6) @ (y - A @ clean)
    normal = A.T @ A / sigma_y**2 + np.eye(A.shape[1]) / tau**2
    return np.linalg.solve(normal, A.T @ y / sigma_y**2 + clean / tau**2)


def _dense_diffpir(operator, y, sigma_y, levels, strength, zeta, generator):
    matrices = [_dense(operator, b) for b in range(len(y))]
    shape = (len(y), *operator.input_shape)
    x = levels[0] * torch.randn(shape, generator=generator)
    for sigma, below in itertools.pairwise(levels):
        clean = _denoiser(x, sigma).clean
        if below == 0:
            return clean
        fitted = np.stack(
            [
                _dense_fit(A, c, m, s, sigma / strength**0.5)
                for A, c, m, s in zip(
                    matrices,
                    clean.double().flatten(1).numpy(),
                    y.double().flatten(1).numpy(),
                    sigma_y,
                    strict=True,
                )
            ]
        )
        fitted = torch.from_numpy(fitted).float().reshape(shape)
        z = torch.randn(shape, generator=generator)
        x = fitted + below * (np.sqrt(1 - zeta) * (x - fitted) / sigma + np.sqrt(zeta) * z)
    raise AssertionError("levels end with 0")


@pytest.mark.usefixtures("to_the_end")
@pytest.mark.parametrize(
    ("name", "strength", "zeta", "sigma_y"),
    [  # each operator with both noises and both settings, in turns
        (name, *((1.0, 1.0), (4.0, 0.3))[(turn + number) % 2], sigma_y)
        for turn, name in enumerate(BUILDERS)
        for number, sigma_y in enumerate([(0.1, 0.1), (0.5, 0.05)])
    ],
)
def test_is_its_dense_restatement(
    name: str, strength: float, zeta: float, sigma_y: tuple[float, float]
) -> None:
    operator = BUILDERS[name]()
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    arguments = {"strength": strength, "zeta": zeta}
    found = diffpir(
        _denoiser,
        operator,
        y,
        torch.tensor(sigma_y),
        LEVELS,
        generator=torch.Generator().manual_seed(2),
        **arguments,
    )
    expected = _dense_diffpir(
        operator, y, sigma_y, LEVELS, strength, zeta, torch.Generator().manual_seed(2)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 if name in WITHOUT_SVD else 1e-4)


@pytest.mark.parametrize("name", [name for name in WITH_SVD if name != "blur"])
def test_without_noise_it_is_ddrm_with_fresh_noise(name: str) -> None:
    """For η = ζ = 1 and σ_y = 0 both take x̂0 = x0 + A⁺(y − A x0) and renew all noise, where s = 1
    or 0.
    """
    operator = WITH_SVD[name]()
    y = operator.A(torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)))
    run = [
        solver(
            _denoiser,
            operator,
            y,
            0.0,
            LEVELS,
            generator=torch.Generator().manual_seed(3),
            **options,
        )
        for solver, options in (
            (ddrm, {"eta": 1.0, "final_projection": True}),
            (diffpir, {"final_projection": True}),
        )
    ]
    # They begin differently: DDRM at ȳ + σ z, this one at σ z. One step on, both have forgotten
    # that.
    for result in run:
        torch.testing.assert_close(operator.A(result), y, rtol=0, atol=2e-3)
    start = operator.pseudo_inverse(y)
    same_start = diffpir(
        _denoiser,
        operator,
        y,
        0.0,
        LEVELS,
        generator=torch.Generator().manual_seed(3),
        start=start,
        final_projection=True,
    )
    torch.testing.assert_close(same_start, run[0], rtol=0, atol=1e-3)


@pytest.mark.usefixtures("to_the_end")
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("sigma_y", [0.02, 0.3])
def test_projection_weighs_the_estimate_against_the_measurement(name: str, sigma_y: float) -> None:
    operator = BUILDERS[name]()
    generator = torch.Generator().manual_seed(0)
    estimate = torch.randn(2, *operator.input_shape, generator=generator)
    y = torch.randn(2, *operator.output_shape, generator=generator)
    found = project(operator, estimate, y, sigma_y, prior_std=0.4)
    for b in range(2):
        clean = estimate[b].double().flatten().numpy()
        measured = y[b].double().flatten().numpy()
        expected = _dense_fit(_dense(operator, b), clean, measured, sigma_y, 0.4)
        error = np.linalg.norm(found[b].double().flatten().numpy() - expected)
        assert error < 1e-3 * np.linalg.norm(expected - clean)


@pytest.mark.parametrize("name", WITHOUT_SVD)
def test_stopping_early_keeps_within_the_noise(name: str) -> None:
    """After 25 iterations what is unexplained of a clean measurement is below its noise."""
    operator = WITHOUT_SVD[name]()
    sigma_y = 0.02
    y = operator.A(
        torch.randn(2, *operator.input_shape, generator=torch.Generator().manual_seed(0))
    )
    found = project(operator, torch.zeros(2, *operator.input_shape), y, sigma_y, prior_std=1.0)
    assert float((operator.A(found) - y).square().mean().sqrt()) < 0.5 * sigma_y


def test_pictures_of_a_batch_are_independent() -> None:
    operator = WITHOUT_SVD["unknown border"]()
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    noise = torch.tensor([0.1, 0.4])
    together = project(operator, torch.zeros(2, *operator.input_shape), y, noise)
    for b in range(2):
        alone = project(
            operator, torch.zeros(1, *operator.input_shape), y[b : b + 1], float(noise[b])
        )
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-4)


def test_start_and_callback() -> None:
    operator = WITHOUT_SVD["mask after blur"]()
    y = torch.zeros(1, *operator.output_shape)
    steps = []
    diffpir(
        _denoiser, operator, y, 0.1, LEVELS, start=torch.ones(1, *SHAPE), callback=steps.append,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert [(step.index, step.steps) for step in steps] == [(i, 6) for i in range(6)]
    assert float(steps[0].clean.mean()) > 0.2


@pytest.mark.parametrize(
    "text", ["quantise:3", "jpeg:50", "blur:gaussian:1+quantise:4", "mask:random:0.6+jpeg:70"]
)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_what_is_not_linear(text: str, noise: float) -> None:
    """The fit moves the estimate towards what explains the measurement, and never by more than its
    error warrants.
    """
    chain = operators.parse(text).operator((3, 16, 16)).between(-1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 3, 16, 16, generator=generator) * 1.6 - 0.8
    y = chain.A(truth)
    estimate = truth + 0.3 * torch.randn(truth.shape, generator=generator)
    fitted = project(chain, estimate, y, noise, prior_std=0.3)
    assert float((fitted - truth).norm()) < 0.97 * float((estimate - truth).norm())
    far = project(chain, estimate, y, noise, prior_std=1e-4)
    torch.testing.assert_close(
        far, estimate, rtol=0, atol=1.0 if noise == 0 and "+" not in text else 1e-2
    )
    found = diffpir(_denoiser, chain, y, noise, LEVELS, generator=generator)
    assert torch.isfinite(found).all()
