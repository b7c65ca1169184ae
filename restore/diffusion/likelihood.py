"""Log-likelihood of pictures under the model, by the probability-flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from restore.diffusion.flow import Array, as_pictures, as_state, check_tolerances, flow_velocity
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import noise_like
from restore.precision import single_precision

Density = Callable[[Tensor], Tensor]

DIVERGENCES = ("hutchinson", "exact")
PROBES = ("rademacher", "gaussian")
# The exact divergence runs backwards through the network once for each number of a picture.
MOST_EXACT_DIMENSIONS = 4096


@single_precision()
def log_likelihood(
    denoise: Denoise,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    *,
    divergence: Literal["hutchinson", "exact"] = "hutchinson",
    probes: int = 1,
    probe_distribution: Literal["rademacher", "gaussian"] = "rademacher",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    terminal_log_density: Density | None = None,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p(x) of pictures with little noise (Song et al. 2021, arXiv 2011.13456, section 4.3).

    Along ``dx/dσ = ε̂`` the density changes by the divergence of the flow (their eq. 39, appendix
    D.2):

        log p(x) = log p_max(x(σ_max)) + ∫ tr(∂ε̂/∂x) dσ    from σ_min to σ_max.

    Both are integrated over log σ by an adaptive Runge–Kutta method of order 5(4). The density is
    that of pictures with noise of level σ_min: for clean pictures take σ_min so small that it does
    not matter.

    The trace is exact, with one derivative for each number of a picture, or Hutchinson's estimate:
    the mean of ``vᵀ (∂ε̂/∂x) v`` over probes v with mean 0 and covariance 1, fixed along the
    trajectory (their eq. 40). The estimate is unbiased: its mean over probes, or over seeds, tends
    to the exact value.

    At σ_max the density is taken as N(0, σ_max²). For data with mean m and variance c, the error
    per dimension is about ``½ (m² + c)/σ_max²`` nats, plus m/σ_max times a random number of order
    1. ``terminal_log_density`` replaces this approximation.

    Works in ``no_grad`` and ``inference_mode`` too, if the network's weights were not created in
    the latter.

    Args:
        denoise: ``denoise(x, sigma, condition)``, differentiable by autograd with respect to x.
        x: [B, C, H, W], pictures in [-1, 1].
        sigma_min, sigma_max: Range of the integral, 0 < sigma_min < sigma_max.
        divergence: ``hutchinson`` or ``exact``.
        probes: Number of probes of Hutchinson's estimate; each one costs a backward pass per call.
        probe_distribution: ``rademacher`` (±1, with the smaller variance) or ``gaussian``.
        rtol, atol: Relative and absolute tolerance of a step, for the root mean square of a batch.
        terminal_log_density: log p at σ_max, from [B, C, H, W] to nats [B].
        condition: Shown to the network beside the picture, for log p(x | condition).
        generator: Random generator of the probes, on the CPU.

    Returns:
        nats [B], float64, on the CPU.

    Raises:
        ValueError: If the levels do not rise, the divergence or distribution is unknown, there are
            fewer than 1 probe, a tolerance is not positive, or the exact divergence is wanted for
            more than `MOST_EXACT_DIMENSIONS` numbers.
        ArithmeticError: If the solver finds no step that is small enough, for example because the
            network's output is not finite.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"0 < sigma_min < sigma_max is needed, not {sigma_min} and {sigma_max}")

    check_tolerances(rtol, atol)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()  # a tensor made in inference mode knows no derivative
        condition = None if condition is None else Condition(*(part.clone() for part in condition))
        trace = _trace_estimator(divergence, probes, probe_distribution, x, generator)

        def derivative(log_sigma: float, state: Array) -> Array:
            sigma = math.exp(log_sigma)
            u = as_pictures(state[: x.numel()], x)
            noisy = (u * math.hypot(1, sigma)).requires_grad_()
            noise = denoise(noisy, sigma, condition).noise
            change = sigma * trace(noise, noisy)
            return np.concatenate([as_state(flow_velocity(u, noise, sigma)), as_state(change)])

        start = np.concatenate([as_state(x / math.hypot(1, sigma_min)), np.zeros(len(x))])
        span = (math.log(sigma_min), math.log(sigma_max))
        end = _integral(derivative, start, span, rtol, atol)

    terminal = as_pictures(end[: x.numel()], x) * math.hypot(1, sigma_max)
    density = (
        _white_log_density(terminal, sigma_max)
        if terminal_log_density is None
        else terminal_log_density(terminal)
    )

    return density.detach().cpu().double() + torch.from_numpy(end[x.numel() :].copy())


def _integral(
    derivative: Callable[[float, Array], Array],
    start: Array,
    span: tuple[float, float],
    rtol: float,
    atol: float,
) -> Array:
    """Integrate an ODE by a Runge–Kutta method of order 5(4); return the state at the end.

    Raises:
        ArithmeticError: If the solver finds no step that is small enough.
    """
    solution = scipy.integrate.solve_ivp(
        derivative, span, start, method="RK45", t_eval=span[1:], rtol=rtol, atol=atol
    )
    if not solution.success:
        raise ArithmeticError(f"the probability-flow ODE could not be solved: {solution.message}")

    end: Array = solution.y[:, -1]
    return end


def bits_per_dimension(
    log_likelihood: Tensor, dimensions: int, *, bin_width: float = 1 / 128
) -> Tensor:
    """Bits per dimension of 8-bit pictures from a log density (arXiv 2011.13456, section 4.3).

    A pixel value v in 0 … 255 becomes ``(v + u)/128 − 1`` in [-1, 1], with u uniform in [0, 1) and
    drawn by the caller (uniform dequantisation: Theis et al. 2016, arXiv 1511.01844, section 3.1).
    Its probability is about density × 1/128, which adds ``log₂ 128 = 7`` bits to those of the
    density. The mean over u is an upper bound of the bits of the discrete model.

    Args:
        log_likelihood: Log density of pictures in [-1, 1], nats [B].
        dimensions: C·H·W.
        bin_width: Width of a pixel value in [-1, 1]; 1 gives the bits of the density itself, for
            data that are not discrete.

    Returns:
        [B]; lower is better.

    Raises:
        ValueError: If there are fewer than 1 dimension, or the width is not positive.
    """
    if dimensions < 1 or bin_width <= 0:
        raise ValueError(
            f"at least 1 dimension and a positive width are needed, not {dimensions} and "
            f"{bin_width}"
        )
    return -log_likelihood / (dimensions * math.log(2)) - math.log2(bin_width)


def _trace_estimator(
    divergence: str, probes: int, distribution: str, x: Tensor, generator: torch.Generator | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of (f(x), x) for tr(∂f/∂x), [B]."""
    if divergence not in DIVERGENCES:
        raise ValueError(f"unknown divergence {divergence!r}; known are {', '.join(DIVERGENCES)}")
    if divergence == "exact":
        if x[0].numel() > MOST_EXACT_DIMENSIONS:
            raise ValueError(
                f"the exact divergence is for at most {MOST_EXACT_DIMENSIONS} dimensions, not "
                f"{x[0].numel()}; hutchinson estimates it for any number"
            )
        return _exact_trace

    if probes < 1:
        raise ValueError(f"Hutchinson's estimate needs at least one probe, not {probes}")

    vectors = [_probe(distribution, x, generator) for _ in range(probes)]

    def estimate(output: Tensor, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for v in vectors:
            product = _vector_jacobian(output, x, v, last=v is vectors[-1])
            total = total + (product * v).flatten(1).sum(1)

        return total / probes

    return estimate


def _exact_trace(output: Tensor, x: Tensor) -> Tensor:
    """tr(∂f/∂x), [B], by one backward pass for each number of a picture."""
    total = x.new_zeros(len(x))
    dimensions = x[0].numel()
    for index in range(dimensions):
        unit = torch.zeros_like(x).flatten(1)
        unit[:, index] = 1
        row = _vector_jacobian(output, x, unit.reshape(x.shape), last=index == dimensions - 1)
        total += row.flatten(1)[:, index]

    return total


def _vector_jacobian(output: Tensor, x: Tensor, vector: Tensor, *, last: bool) -> Tensor:
    """vᵀ ∂f/∂x; the last product of a call frees the intermediate results of the network."""
    (product,) = torch.autograd.grad(output, x, vector.to(output.dtype), retain_graph=not last)
    return product


def _probe(distribution: str, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random vectors like x, with mean 0 and covariance 1."""
    if distribution not in PROBES:
        raise ValueError(
            f"unknown distribution of probes {distribution!r}; known are {', '.join(PROBES)}"
        )
    if distribution == "gaussian":
        return noise_like(x, generator)
    return torch.randint(0, 2, x.shape, generator=generator, device="cpu").mul(2).sub(1).to(x)


def _white_log_density(x: Tensor, sigma: float) -> Tensor:
    """log N(x; 0, σ²), [B]."""
    squared = (x.double().cpu() / sigma).square().flatten(1)
    return -0.5 * (squared + math.log(2 * math.pi * sigma**2)).sum(1)
