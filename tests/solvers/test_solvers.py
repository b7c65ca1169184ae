"""Solvers against a dense re-statement and against posteriors that are known in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import operators
from operators import AxesOperator, LinearOperator, Mask, dense_matrix
from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import corrected
from restore.errors import BadArgument
from restore.samplers.catalogue import SAMPLERS
from restore.solvers import ddrm, diffpir, one_step, project, sr3

SHAPE = (3, 16, 16)
LEVELS = noise_levels(NoiseSchedule.named("linear"), 8)


def _noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def _arbitrary_denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    """Any nonlinear function will do where two implementations of one solver are compared."""
    scaled = x / (1 + sigma**2) ** 0.5
    clean = torch.tanh(scaled + 0.3 * scaled.roll(1, -1) - 0.1 * scaled.roll(2, -2))
    return Prediction(clean, (x - clean) / sigma)


OPERATORS = {
    "down": lambda: operators.downsample(SHAPE, 4),
    "blur": lambda: operators.gaussian_blur(SHAPE, 1.0, boundary="zero"),
    "blur and down": lambda: operators.downsample(SHAPE, 3) @ operators.gaussian_blur(SHAPE, 0.8),
    "gray": lambda: operators.gray(SHAPE),
    "mask": lambda: Mask(
        SHAPE, torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.5
    ),
    "identity": lambda: operators.identity(SHAPE),
}


def _dense_ddrm(A, y, sigma_y, levels, eta, eta_b, generator, shape):
    """DDRM's three branches written with numpy's full SVD, scalar by scalar (arXiv 2201.11793, eq.
    4, 5, 7, 8).
    """
    batch = len(y)
    size = A.shape[1]
    U, s, Vt = np.linalg.svd(A, full_matrices=True)
    s = np.concatenate([s, np.zeros(size - len(s))])
    s[s < operators.RANK_TOLERANCE * s[0]] = 0
    Uty = np.zeros((batch, size))
    count = min(A.shape)
    Uty[:, :count] = (y.reshape(batch, -1) @ U)[:, :count]

    def white() -> np.ndarray:
        return (
            torch.randn((batch, *shape), generator=generator).double().reshape(batch, -1).numpy()
            @ Vt.T
        )

    x_bar = np.zeros((batch, size))
    z = white()
    for b in range(batch):
        for i in range(size):
            seen = s[i] > 0 and levels[0] >= sigma_y[b] / s[i]
            mean = Uty[b, i] / s[i] if seen else 0.0
            variance = levels[0] ** 2 - (sigma_y[b] / s[i]) ** 2 if seen else levels[0] ** 2
            x_bar[b, i] = mean + np.sqrt(variance) * z[b, i]
    for sigma, sigma_next in itertools.pairwise(levels):
        x = torch.from_numpy(x_bar @ Vt).float().reshape(batch, *shape)
        clean = _arbitrary_denoiser(x, sigma).clean.double().reshape(batch, -1).numpy() @ Vt.T
        if sigma_next == 0:
            return clean @ Vt
        z = white()
        new = np.empty_like(x_bar)
        for b in range(batch):
            for i in range(size):
                if s[i] == 0:
                    epsilon = (x_bar[b, i] - clean[b, i]) / sigma
                    new[b, i] = clean[b, i] + sigma_next * (
                        np.sqrt(1 - eta**2) * epsilon + eta * z[b, i]
                    )
                elif sigma_next < sigma_y[b] / s[i]:
                    pull = (Uty[b, i] / s[i] - clean[b, i]) / (sigma_y[b] / s[i])
                    new[b, i] = clean[b, i] + sigma_next * (
                        np.sqrt(1 - eta**2) * pull + eta * z[b, i]
                    )
                else:
                    mean = (1 - eta_b) * clean[b, i] + eta_b * Uty[b, i] / s[i]
                    new[b, i] = (
                        mean + np.sqrt(sigma_next**2 - (eta_b * sigma_y[b] / s[i]) ** 2) * z[b, i]
                    )
        x_bar = new
    raise AssertionError("levels end with 0")


NOISES = [(0.0, 0.0), (0.1, 0.1), (0.5, 0.02)]
ETAS = [(0.85, 1.0), (1.0, 0.4), (0.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "sigma_y", "eta", "eta_b"),
    [  # each operator with every noise and with every pair of η, in turns
        (name, sigma_y, *ETAS[(turn + number) % 3])
        for turn, name in enumerate(OPERATORS)
        for number, sigma_y in enumerate(NOISES)
    ],
)
def test_ddrm_is_its_dense_restatement(
    name: str, sigma_y: tuple[float, float], eta: float, eta_b: float
) -> None:
    operator = OPERATORS[name]()
    y = _noise(torch.Generator().manual_seed(1), 2, *operator.output_shape)
    if name == "mask":
        y = operator.A(y)
    A = dense_matrix(operator).numpy()
    noise = torch.Generator().manual_seed(2)
    expected = _dense_ddrm(A, y.double().numpy(), sigma_y, LEVELS, eta, eta_b, noise, SHAPE)
    for noise_level in (
        torch.tensor(sigma_y),
        *([] if any(sigma_y) else [0.0]),
    ):  # 0 for all needs no spectrum
        random = torch.Generator().manual_seed(2)
        found = ddrm(
            _arbitrary_denoiser,
            operator,
            y,
            noise_level,
            LEVELS,
            generator=random,
            eta=eta,
            eta_b=eta_b,
        )
        error = np.abs(found.double().flatten(1).numpy() - expected)
        assert error.max() < 2e-3, error.max()
        assert error.mean() < 1e-4


@pytest.mark.parametrize("name", OPERATORS)
def test_ddrm_without_noise_begins_with_an_estimate_as_with_noise_that_is_zero(name: str) -> None:
    operator = OPERATORS[name]()
    estimate = _noise(torch.Generator().manual_seed(3), 2, *SHAPE)
    y = operator.A(_noise(torch.Generator().manual_seed(1), 2, *SHAPE))
    found = [
        ddrm(
            _arbitrary_denoiser,
            operator,
            y,
            level,
            LEVELS,
            generator=torch.Generator().manual_seed(2),
            start=estimate,
        )
        for level in (0.0, torch.zeros(2))
    ]
    torch.testing.assert_close(*found, rtol=0, atol=2e-3)


def test_ddrm_uses_all_three_branches() -> None:
    """The comparison above is of worth only if every branch is taken."""
    operator = OPERATORS["blur and down"]()
    sigma_y = 0.1
    s = operator.singular_values[operator.singular_values > 0]
    for sigma in (LEVELS[-3], LEVELS[-2]):
        assert (sigma < sigma_y / s).any()
    assert (LEVELS[3] >= sigma_y / s).any()
    assert operator.singular_values.numel() < np.prod(SHAPE)


class GaussianPrior:
    """N(mean, covariance) over pictures [1, n, n], with its exact denoiser and posteriors."""

    def __init__(self, side: int = 5) -> None:
        grid = torch.arange(side * side)
        row = grid // side
        column = grid % side
        squared = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
        self.shape = (1, side, side)
        self.covariance = (
            0.25 * torch.exp(-squared.double() / 4) + 0.01 * torch.eye(side * side).double()
        )
        self.mean = torch.linspace(-0.5, 0.5, side * side).double()

    def denoise(self, x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        eye = torch.eye(len(self.mean)).double()
        gain = self.covariance @ torch.linalg.inv(self.covariance + sigma**2 * eye)
        clean = self.mean + (x.double().flatten(1) - self.mean) @ gain.T
        return Prediction(
            clean.reshape(x.shape).float(),
            ((x.flatten(1) - clean) / sigma).reshape(x.shape).float(),
        )

    def posterior(self, A: Tensor, y: Tensor, sigma_y: float) -> tuple[Tensor, Tensor]:
        gain = (
            self.covariance
            @ A.T
            @ torch.linalg.inv(A @ self.covariance @ A.T + sigma_y**2 * torch.eye(len(A)))
        )
        return self.mean + gain @ (y - A @ self.mean), self.covariance - gain @ A @ self.covariance

    def conditional_denoiser(self, A: Tensor, y: Tensor, sigma_y: float):
        """E[x0 | x_t, y]: what a perfect SR3 network answers."""
        posterior = GaussianPrior.__new__(GaussianPrior)
        posterior.mean, posterior.covariance = self.posterior(A, y, sigma_y)
        return posterior.denoise


def _problem(sigma_y: float) -> tuple[GaussianPrior, LinearOperator, Tensor, Tensor]:
    prior = GaussianPrior()
    operator = operators.downsample(prior.shape, 2) @ operators.gaussian_blur(prior.shape, 0.7)
    A = dense_matrix(operator)
    g = torch.Generator().manual_seed(3)
    x0 = (
        prior.mean + torch.linalg.cholesky(prior.covariance) @ torch.randn(25, generator=g).double()
    )
    y = A @ x0 + sigma_y * torch.randn(len(A), generator=g)
    return prior, operator, A, y


def _gaps(samples: Tensor, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
    """Error of mean and covariance, relative to the posterior's own spread and covariance."""
    flat = samples.double().flatten(1)
    spread = covariance.diagonal().sum().sqrt()
    return float((flat.mean(0) - mean).norm() / spread), float(
        (flat.T.cov() - covariance).norm() / covariance.norm()
    )


COUNT = 6000
MANY_LEVELS = noise_levels(NoiseSchedule.named("linear"), 200, "log-snr")


@pytest.mark.parametrize("sigma_y", [0.05, 0.3])
@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_sr3_reaches_the_exact_posterior(sigma_y: float, eta: float) -> None:
    prior, _operator, A, y = _problem(sigma_y)
    blank = torch.zeros(COUNT, *prior.shape)
    samples = sr3(
        prior.conditional_denoiser(A, y, sigma_y),
        Condition(blank, blank),
        MANY_LEVELS,
        generator=torch.Generator().manual_seed(4),
        eta=eta,
    )
    mean_gap, covariance_gap = _gaps(samples, *prior.posterior(A, y, sigma_y))
    assert mean_gap < 0.03
    assert covariance_gap < 0.07


@pytest.mark.parametrize(
    ("sigma_y", "mean_limit", "covariance_limit"),
    [(0.0, 0.04, 0.5), (0.05, 0.06, 0.55), (0.3, 0.35, 0.85)],
)
def test_ddrm_on_a_gaussian_prior(
    sigma_y: float, mean_limit: float, covariance_limit: float
) -> None:
    """DDRM with the exact denoiser against the exact posterior; what is left is its own
    approximation.

    Measured with 20 steps and η = 0.85 (mean in units of the posterior's spread, covariance
    relative): σ_y = 0: 0.02 and 0.41; σ_y = 0.05: 0.03 and 0.48; σ_y = 0.3: 0.28 and 0.75. The mean
    is right where the measurement is clean and drifts with its noise, since below σ_y/s only x0
    remembers y.
    """
    prior, operator, A, y = _problem(sigma_y)
    samples = ddrm(
        prior.denoise,
        operator,
        y.reshape(1, *operator.output_shape).float().expand(COUNT, -1, -1, -1),
        sigma_y,
        noise_levels(NoiseSchedule.named("linear"), 20, "log-snr"),
        generator=torch.Generator().manual_seed(4),
    )
    mean_gap, covariance_gap = _gaps(samples, *prior.posterior(A, y, sigma_y))
    assert mean_gap < mean_limit
    assert covariance_gap < covariance_limit


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_sr3_is_ddpms_chain(variance: str) -> None:
    """In VP coordinates: DDPM's algorithm 2 with σ² = β̃_t, and SR3's with σ² = 1 − α_t, over
    strided steps.
    """
    schedule = NoiseSchedule.named("linear")
    times = [900, 600, 300, 50, 0]
    blank = torch.zeros(2, 3, 8, 8)
    found = sr3(
        _arbitrary_denoiser,
        Condition(blank, blank[:, :1]),
        [*schedule.sigmas[times], 0.0],
        generator=torch.Generator().manual_seed(7),
        variance=variance,
    )
    generator = torch.Generator().manual_seed(7)
    alpha_bar = [float(schedule.alphas_cumprod[t]) for t in times]
    x = (1 - alpha_bar[0]) ** 0.5 * _noise(generator, 2, 3, 8, 8)
    for now, then in itertools.pairwise(alpha_bar):
        alpha = now / then
        epsilon = _arbitrary_denoiser(x / now**0.5, ((1 - now) / now) ** 0.5).noise
        mean = (x - (1 - alpha) / (1 - now) ** 0.5 * epsilon) / alpha**0.5
        spread = (1 - alpha) * ((1 - then) / (1 - now) if variance == "posterior" else 1)
        x = mean + spread**0.5 * _noise(generator, 2, 3, 8, 8)
    expected = _arbitrary_denoiser(x / alpha_bar[-1] ** 0.5, schedule.sigmas[0]).clean
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_sr3_without_fresh_noise_is_ddim() -> None:
    schedule = NoiseSchedule.named("linear")
    levels = [float(s) for s in schedule.sigmas[[900, 500, 100]]] + [0.0]
    blank = torch.zeros(1, 3, 8, 8)
    found = sr3(
        _arbitrary_denoiser,
        Condition(blank, blank[:, :1]),
        levels,
        generator=torch.Generator().manual_seed(7),
        eta=0.0,
    )
    x = levels[0] * _noise(torch.Generator().manual_seed(7), 1, 3, 8, 8)
    for now, then in itertools.pairwise(levels):
        prediction = _arbitrary_denoiser(x, now)
        x = prediction.clean + then * prediction.noise
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_sr3_keeps_the_noise_around_the_corrected_estimate(eta: float) -> None:
    """Where every estimate is corrected to the same c, the states are ``c + σ w``, w white noise.

    With ``w = (x − c)/σ`` a step is ``w ← √(1−κ²) w + κ z``: constant without fresh noise, of
    variance 1 with it. The network's own estimate, far from c, has no part in it.
    """
    c = torch.linspace(-0.8, 0.8, 64).expand(1, 3, 64, 64)
    whites = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        whites.append((x - c) / sigma)
        return Prediction(-5 * c, (x + 5 * c) / sigma)

    levels = [3.0, 1.0, 0.3, 0.1, 0.0]
    found = sr3(
        denoise,
        Condition(c, c[:, :1]),
        levels,
        generator=torch.Generator().manual_seed(0),
        eta=eta,
        start=c,
        correct=lambda clean: c,
    )

    assert torch.equal(found, c)
    for (white, later), (sigma, sigma_next) in zip(
        itertools.pairwise(whites), itertools.pairwise(levels), strict=False
    ):
        kappa = eta * (1 - (sigma_next / sigma) ** 2) ** 0.5
        kept = (1 - kappa**2) ** 0.5
        if eta == 0:
            torch.testing.assert_close(later, white, rtol=0, atol=1e-4)
        assert abs(float((white * later).mean()) - kept) < 0.04
        assert abs(float(later.std()) - 1) < 0.02
        assert abs(float((later * c).mean())) < 0.02


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sigma_y", [0.0, 0.2])
def test_projection_is_the_minimiser(name: str, sigma_y: float) -> None:
    operator = OPERATORS[name]()
    g = torch.Generator().manual_seed(0)
    estimate = _noise(g, 2, *SHAPE)
    y = operator.A(_noise(g, 2, *SHAPE))
    found = project(operator, estimate, y, sigma_y, prior_std=0.5)
    if sigma_y == 0:
        residual = operator.A(found) - y
        assert residual.abs().max() < 1e-3
        step = found - estimate
        assert (
            step - operator.pseudo_inverse(operator.A(step))
        ).abs().max() < 1e-3  # no move in the null space
    else:
        gradient = operator.At(operator.A(found) - y) / sigma_y**2 + (found - estimate) / 0.5**2
        assert gradient.abs().max() < 1e-2


def test_projection_takes_a_noise_level_per_picture() -> None:
    operator = OPERATORS["down"]()
    g = torch.Generator().manual_seed(0)
    estimate = _noise(g, 2, *SHAPE)
    y = _noise(g, 2, *operator.output_shape)
    together = project(operator, estimate, y, torch.tensor([0.0, 0.3]))
    alone = [
        project(operator, estimate[i : i + 1], y[i : i + 1], level)
        for i, level in enumerate((0.0, 0.3))
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_final_projection_explains_a_clean_measurement() -> None:
    operator = OPERATORS["blur and down"]()
    y = operator.A(_noise(torch.Generator().manual_seed(1), 1, *SHAPE))
    arguments = (_arbitrary_denoiser, operator, y, 0.0, LEVELS)
    with_it = ddrm(*arguments, generator=torch.Generator().manual_seed(2), final_projection=True)
    without = ddrm(*arguments, generator=torch.Generator().manual_seed(2))
    assert (operator.A(with_it) - y).abs().max() < 1e-4
    assert (operator.A(without) - y).abs().max() > 1e-2


def test_singular_values_of_zero_with_noise_are_left_to_the_prior() -> None:
    """The authors' code divides by them: a component that was not measured must not depend on y."""
    operator = AxesOperator((1, 4, 4), None, np.diag([1.0, 0.5, 0.0, 0.0]), None)
    y = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    other = y.clone()
    other[:, :, 2:] += 100

    def own_denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        clean = x / (1 + sigma**2)
        return Prediction(clean, (x - clean) / sigma)

    results = [
        ddrm(own_denoiser, operator, v, 0.1, LEVELS, generator=torch.Generator().manual_seed(1))
        for v in (y, other)
    ]
    assert torch.isfinite(results[0]).all()
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-4)


def test_callback_sees_every_call_of_the_network() -> None:
    operator = OPERATORS["down"]()
    calls = []
    steps = []

    def counted(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        calls.append(sigma)
        return _arbitrary_denoiser(x, sigma)

    y = torch.zeros(1, *operator.output_shape)
    blank = torch.zeros(1, *SHAPE)
    ddrm(counted, operator, y, 0.0, LEVELS, callback=steps.append)
    assert calls == LEVELS[:-1]
    assert [step.index for step in steps] == list(range(8))
    assert {step.steps for step in steps} == {8}
    assert [step.sigma for step in steps] == LEVELS[:-1]
    calls.clear()
    steps.clear()
    for from_zeros in (False, True):
        one_step(
            counted,
            Condition(blank, blank[:, :1]),
            80.0,
            from_zeros=from_zeros,
            callback=steps.append,
        )
    assert calls == [80.0, 80.0]
    assert [(step.index, step.steps, step.sigma) for step in steps] == [(0, 1, 80.0)] * 2


def test_one_step_from_zeros_shows_the_network_no_noise() -> None:
    shown = []

    def network(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        shown.append(x)
        return Prediction(condition.picture / 2, x)

    picture = torch.rand(2, *SHAPE)
    found = one_step(
        network, Condition(picture, picture[:, :1]), 80.0, from_zeros=True, correct=lambda x: x + 1
    )
    assert not shown[0].any()
    torch.testing.assert_close(found, picture / 2 + 1)
    one_step(network, Condition(picture, picture[:, :1]), 80.0)
    assert float(shown[1].std()) == pytest.approx(80, rel=0.1)


def test_noise_comes_from_the_generator_alone() -> None:
    operator = OPERATORS["mask"]()
    y = torch.zeros(1, *SHAPE)

    def run(seed: int) -> Tensor:
        return ddrm(
            _arbitrary_denoiser,
            operator,
            y,
            0.1,
            LEVELS,
            generator=torch.Generator().manual_seed(seed),
        )

    torch.manual_seed(0)
    first = run(5)
    state = torch.get_rng_state()
    assert torch.equal(first, run(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, run(6))


class WithoutSVD(LinearOperator):
    def A(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda op, y: ddrm(_arbitrary_denoiser, op, y, 0.0, LEVELS, eta=1.5), ValueError, "eta"),
        (lambda op, y: ddrm(_arbitrary_denoiser, op, y, 0.0, [1.0, 2.0, 0.0]), ValueError, "fall"),
        (lambda op, y: ddrm(_arbitrary_denoiser, op, y, 0.0, [1.0]), ValueError, "final 0"),
        (lambda op, y: ddrm(_arbitrary_denoiser, op, y, 0.0, [1.0, 0.5]), ValueError, "final 0"),
        (
            lambda op, y: ddrm(_arbitrary_denoiser, WithoutSVD(SHAPE, SHAPE), y, 0.0, LEVELS),
            BadArgument,
            "WithoutSVD has no SVD.*ddrm",
        ),
        (
            lambda op, y: diffpir(_arbitrary_denoiser, op, y, 0.1, LEVELS, zeta=2.0),
            ValueError,
            "zeta",
        ),
        (
            lambda op, y: diffpir(_arbitrary_denoiser, op, y, 0.1, LEVELS, strength=0.0),
            ValueError,
            "strength",
        ),
        (
            lambda op, y: diffpir(_arbitrary_denoiser, op, y, 0.1, [1.0, 2.0, 0.0]),
            ValueError,
            "fall",
        ),
        (
            lambda op, y: sr3(
                _arbitrary_denoiser, Condition(y, y), LEVELS, eta=0.5, variance="forward"
            ),
            ValueError,
            "forward",
        ),
    ],
)
def test_refuses(run, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(OPERATORS["identity"](), torch.zeros(1, *SHAPE))


@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m", "sde-dpmpp-2m", "heun"])
def test_sr3_by_another_sampler_reaches_the_posterior(name: str) -> None:
    """With the exact conditional denoiser, corrected by the identity, against the closed form."""
    prior = GaussianPrior(3)
    sampler = SAMPLERS[name]
    A = torch.eye(9).double()[::2]
    y = torch.full((5,), 0.4).double()
    mean, covariance = prior.posterior(A, y, 0.1)
    generator = torch.Generator().manual_seed(0)
    sigmas = noise_levels(NoiseSchedule.named("linear"), 60, sampler.levels)
    x = sigmas[0] * torch.randn(4000, 1, 3, 3, generator=generator)
    denoise = corrected(prior.conditional_denoiser(A, y, 0.1), lambda clean: clean)
    found = (
        sampler.run(denoise, x, sigmas, **({"generator": generator} if sampler.random else {}))
        .flatten(1)
        .double()
    )
    assert (found.mean(dim=0) - mean).abs().max() < 0.03
    assert (found.T.cov() - covariance).abs().max() < 0.03


def test_corrected_estimates_have_the_noise_that_goes_with_them() -> None:
    x = torch.randn(2, 3, 4, 4)
    prediction = corrected(_arbitrary_denoiser, lambda clean: clean.clamp(-0.1, 0.1))(x, 0.5)
    assert prediction.clean.abs().max() <= 0.1
    torch.testing.assert_close(prediction.clean + 0.5 * prediction.noise, x)
