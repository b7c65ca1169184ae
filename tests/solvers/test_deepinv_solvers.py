"""DPS, DiffPIR and ΠGDM of deepinv as witnesses, with one network and one noise.

Established with deepinv 0.5.0. Each step begins at the same state; each test says where the
conventions differ, and with the stated factor the steps agree to 1e-4.
"""

from __future__ import annotations

import math
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import Mask, kernels
from restore.diffusion.protocol import Prediction
from restore.solvers import diffpir, dps, pigdm

SHAPE = (3, 9, 12)
TIMES = (0.5, 0.3, 0.15, 0.05, 0.0)
NOISE = 0.1


@pytest.fixture(scope="module")
def deepinv() -> ModuleType:
    pytest.importorskip("deepinv.sampling")
    return pytest.importorskip("deepinv")


class Network(torch.nn.Module):
    """A denoiser of [-1, 1] within [-0.9, 0.9], where deepinv's clipping changes nothing."""

    def forward(self, x: Tensor, sigma: Tensor | float, **_) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        scaled = x / (1 + level**2).sqrt()
        return 0.9 * torch.tanh(scaled + 0.3 * scaled.roll(1, -1) - 0.1 * scaled.roll(2, -2))


class Recorded:
    """The same network as ours, which remembers the states that it saw."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float, condition=None) -> Prediction:
        self.states.append(x.detach())
        clean = Network()(x, sigma)
        return Prediction(clean, (x - clean) / sigma)


def _blur(deepinv: ModuleType, noise: float = NOISE) -> tuple[operators.LinearOperator, object]:
    kernel = kernels.motion(3, 30)
    theirs = deepinv.physics.BlurFFT(
        img_size=SHAPE,
        filter=torch.from_numpy(kernel.copy()).float()[None, None],
        noise_model=deepinv.physics.GaussianNoise(noise),
    )
    return operators.CircularConvolution(SHAPE, kernel), theirs


def _mask(deepinv: ModuleType, noise: float = NOISE) -> tuple[operators.LinearOperator, object]:
    known = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(3)) < 0.6
    theirs = deepinv.physics.Inpainting(
        SHAPE,
        mask=known.float().expand(SHAPE),
        noise_model=deepinv.physics.GaussianNoise(noise),
    )
    return Mask(SHAPE, known), theirs


PHYSICS = pytest.mark.parametrize("physics", [_mask, _blur])


def _measured(operator: operators.LinearOperator) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return operator.A(torch.rand(1, *SHAPE, generator=generator) - 0.5)


def _draws() -> tuple[Tensor, Tensor]:
    """The noise of a start and that of a step, as our solvers draw them from seed 2."""
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(1, *SHAPE, generator=generator) for _ in range(2))


def _step(solve, state: Tensor, sigma: float, sigma_next: float, **options) -> Tensor:
    """Take a state over one of our steps."""
    network = Recorded()
    levels = [sigma, sigma_next, 0.0] if sigma_next > 0 else [sigma, 0.0]
    end = solve(
        network, sigmas=levels, start=state - sigma * _draws()[0],
        generator=torch.Generator().manual_seed(2), **options,
    )  # fmt: skip
    return network.states[1] if sigma_next > 0 else end


def _trajectory(deepinv: ModuleType, solver: str, data_fidelity, theirs, y: Tensor):
    """States of deepinv's solver in our coordinates, and their noise levels."""
    sampling = deepinv.sampling
    sde = sampling.VariancePreservingDiffusion(dtype=torch.float32)
    times = torch.tensor(TIMES)
    solver = getattr(sampling, solver)(timesteps=times)
    solver.randn_like = lambda x, seed=None: _draws()[1]
    model = sampling.PosteriorDiffusion(
        data_fidelity, Network(), sde, solver, dtype=torch.float32, minus_one_one=False
    )
    scales = [float(sde.scale_t(t)) for t in times]
    sigmas = [float(sde.sigma_t(t)) for t in times]
    start = sigmas[0] * scales[0] * _draws()[0]
    _, states = model(y, theirs, x_init=start, get_trajectory=True)
    return [state / scale for state, scale in zip(states, scales, strict=True)], sigmas


@PHYSICS
@pytest.mark.parametrize(("solver", "eta"), [("DDPMSolver", 1.0), ("DDIMSolver", 0.0)])
def test_dps(deepinv, physics, solver: str, eta: float) -> None:
    """deepinv puts the gradient into the score, so that its step is ζ times that of the score.

    In our coordinates this moves by ``ζ (σ² − σ ς √(1 − η² (1 − ς²/σ²))) ∇``, where the paper
    has ``ζ √((1+σ²)(1+ς²)) ∇`` whatever the length of the step.
    """
    ours, theirs = physics(deepinv)
    y = _measured(ours)
    fidelity = deepinv.sampling.DPSDataFidelity(Network(), weight=0.5, clip=[-1.0, 1.0])
    states, sigmas = _trajectory(deepinv, solver, fidelity, theirs, y)

    for (state, after), (sigma, below) in zip(pairwise(states), pairwise(sigmas), strict=True):
        ratio = below / sigma
        length = sigma**2 * (1 - ratio * math.sqrt(1 - eta**2 * (1 - ratio**2)))
        zeta = 0.5 * length / math.sqrt((1 + sigma**2) * (1 + below**2))
        found = _step(
            dps, state, sigma, below, operator=ours, measurement=y, noise_level=0.0,
            step_size=zeta / math.prod(SHAPE) ** 0.5, eta=eta,
        )  # fmt: skip
        torch.testing.assert_close(found, after, rtol=1e-4, atol=1e-4)


@PHYSICS
@pytest.mark.parametrize(("solver", "eta"), [("DDPMSolver", 1.0), ("DDIMSolver", 0.0)])
def test_pigdm(deepinv, physics, solver: str, eta: float) -> None:
    """deepinv puts the guidance into the score; the paper adds r² times it to every step.

    Their guidance is ours, and counts ``σ² (1 − ς/σ √(1 − η² (1 − ς²/σ²)))/r²`` times as much in a
    step.
    """
    ours, theirs = physics(deepinv)
    y = _measured(ours)
    fidelity = deepinv.sampling.PiGDMDataFidelity(Network())
    states, sigmas = _trajectory(deepinv, solver, fidelity, theirs, y)

    for (state, after), (sigma, below) in zip(pairwise(states), pairwise(sigmas), strict=True):
        ratio = below / sigma
        length = sigma**2 * (1 - ratio * math.sqrt(1 - eta**2 * (1 - ratio**2)))
        factor = length * (1 + sigma**2) / sigma**2
        options = {"operator": ours, "measurement": y, "noise_level": NOISE, "eta": eta}
        found = _step(pigdm, state, sigma, below, **options)
        unguided = _step(dps, state, sigma, below, **{**options, "noise_level": 0.0}, step_size=0.0)
        expected = unguided + factor * (found - unguided)
        torch.testing.assert_close(expected, after, rtol=1e-4, atol=1e-4)


def test_guidance_of_pigdm_without_an_svd(deepinv, monkeypatch) -> None:
    """Their conjugate gradients take 3 iterations by default; with 50 they agree with ours."""
    run_to_the_end(monkeypatch)
    kernel = kernels.gaussian(0.7)
    height, width = kernel.shape
    ours = operators.ValidConvolution((3, 9 - height + 1, 12 - width + 1), kernel)
    theirs = deepinv.physics.Blur(
        filter=torch.from_numpy(kernel.copy()).float()[None, None],
        padding="valid",
        noise_model=deepinv.physics.GaussianNoise(NOISE),
    )
    y = _measured(ours)
    state, sigma = 0.7 * _draws()[0], 0.7
    fidelity = deepinv.sampling.PiGDMDataFidelity(Network(), cg_max_iter=50, cg_tol=1e-6)
    theirs_guidance = -fidelity.grad(state, y, theirs, sigma)
    options = {"operator": ours, "measurement": y}
    guided = _step(pigdm, state, sigma, 0.0, noise_level=NOISE, **options)
    ours_guidance = guided - Network()(state, sigma)
    spread = sigma**2 / (1 + sigma**2)
    torch.testing.assert_close(ours_guidance, spread * theirs_guidance, rtol=0, atol=2e-3)


@PHYSICS
def test_diffpir(deepinv, physics) -> None:
    """deepinv's λ is twice ours: its proximal step is that of ½‖y − A x‖² with 1/(2ρ).

    It starts with the noise √(σ² − 4σ_y²), clips clean estimates (not here), takes noise levels in
    [0, 1], and returns the state before its last network call, with the noise of that level.
    """
    ours, theirs = physics(deepinv, NOISE / 2)
    y = _measured(ours)
    A_one = ours.A(torch.ones(1, *SHAPE))

    class Unit(torch.nn.Module):
        def forward(self, x: Tensor, sigma: Tensor, **_) -> Tensor:
            return (Network()(2 * x - 1, 2 * sigma) + 1) / 2

    model = deepinv.sampling.DiffPIR(
        Unit(), deepinv.optim.data_fidelity.L2(), sigma=NOISE / 2, max_iter=6, zeta=0.3, lambda_=4.0
    )
    in_unit = (y + A_one) / 2
    torch.manual_seed(4)
    last = 2 * model(in_unit, theirs) - 1

    levels = [float(model.sigmas[index]) for index in model.seq]
    torch.manual_seed(4)
    z = torch.randn(1, *SHAPE)
    start = 2 * theirs.A_adjoint(in_unit) - 1
    start = start + (math.sqrt(levels[0] ** 2 - NOISE**2) - levels[0]) * z
    network = Recorded()
    torch.manual_seed(4)
    diffpir(network, ours, y, NOISE, [*levels, 0.0], strength=2.0, zeta=0.3, start=start)
    scaled = network.states[-1] / math.hypot(1, levels[-1])
    torch.testing.assert_close(scaled, last, rtol=0, atol=1e-4)
