"""DDPG: denoising diffusion with iteratively preconditioned guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.solvers.consistency import project, squared_norm


def ddpg(
    denoise: Denoise,
    operator: LinearOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    zeta: float = 0.7,
    gamma: float = 8.0,
    eta_tilde: float = 1.0,
    c: float = 1.0,
    decay: float = 0.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DDPG: guide clean estimates by a residual whose preconditioner changes on the way.

    Garber and Tirer 2023, arXiv 2312.16519, in the form of the authors' code. From σ to the next
    level ς, the network's clean estimate x0 moves by

        ``x̂0 = x0 + μ Aᵀ W (y − A x0)``,    ``W = (1−δ) (A Aᵀ + η I)⁻¹ + δ c I``,

    from back-projection at high noise levels, which converges fast, to least squares at low ones,
    which does not amplify the noise of the measurement: ``δ = ᾱ(ς)^γ`` with ``ᾱ(ς) = 1/(1+ς²)``,
    ``η = η̃ σ_y²`` and ``μ = ((1−ᾱ(ς)) / (1−ᾱ(σ)))^decay``. The next state is

        ``x ← x̂0 + ς (√ζ z + √(1−ζ) w ε̂)``,

    with white noise z and ``ε̂ = (x − x̂0)/σ``, the noise that explains x by x̂0; its weight w is δ,
    since early x̂0, and so ε̂, hold the noise of the measurement. The result is the last clean
    estimate. Without measurement noise, W is the back-projection all the way (δ = 0, η = 0, w = 1),
    and the result is the last x̂0.

    ``(A Aᵀ + η I)⁻¹`` is a diagonal filter for operators with an SVD; conjugate gradients apply it
    for all others.

    Three things differ from the authors' code. c is at most 1/‖A‖², so that least squares is stable
    for every operator. η has no floor of 1e-4, which would lose details of a clean measurement. The
    network runs at the noise levels that are given, where they take 100 levels uniform in t.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A, any linear operator.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y, standard deviation of the measurement's noise in the same units (twice
            that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random number generator on the CPU, or one per picture.
        zeta: ζ in [0, 1], fraction of fresh noise.
        gamma: γ ≥ 0, how late guidance becomes that of least squares.
        eta_tilde: η̃ > 0, regularisation of the back-projection in units of σ_y²: one over the
            variance of the error of x0, for pictures in [-1, 1].
        c: c ≥ 0, step of least squares, in units of one over a squared singular value; at most
            1/‖A‖² is used.
        decay: Exponent of the step size μ, at least 0; the authors take 0 for little and 1 for much
            noise.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or a parameter is out of range.
    """
    _check(zeta, gamma, eta_tilde, c, decay)
    pairs = falling_pairs(sigmas)
    shape = (len(measurement), *operator.input_shape)
    noisy = (per_picture(noise_level, measurement) > 0).to(measurement)  # 1, or 0 without noise
    any_noisy = bool(noisy.any())
    rate = (1 / squared_norm(operator, measurement)).clamp_max(c) if any_noisy else 0.0

    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, operator.visible(clean))
        if sigma_next > 0:
            delta = noisy * (1 + sigma_next**2) ** -gamma
            step = (_noise_fraction(sigma_next) / _noise_fraction(sigma)) ** decay
            projected = project(
                operator, clean, measurement, noise_level, prior_std=eta_tilde**-0.5
            )
            guidance = (1 - delta) * (projected - clean)
            if any_noisy:
                guidance += delta * rate * operator.At(measurement - operator.A(clean))

            guided = clean + step * guidance
            estimated = (delta + 1 - noisy) * (x - guided) / sigma
            fresh = gaussian_noise(shape, generator, measurement.device)
            x = guided + sigma_next * (zeta**0.5 * fresh + (1 - zeta) ** 0.5 * estimated)
            del clean, projected, guidance, guided, estimated, fresh

    if final_projection:
        return project(operator, clean, measurement, noise_level)

    if bool(noisy.all()):
        return clean

    return torch.where(noisy > 0, clean, project(operator, clean, measurement))


def _noise_fraction(sigma: float) -> float:
    """1 − ᾱ at a noise level."""
    return sigma**2 / (1 + sigma**2)


def _check(zeta: float, gamma: float, eta_tilde: float, c: float, decay: float) -> None:
    """Check the parameters.

    Raises:
        ValueError: If one is out of range.
    """
    if not 0 <= zeta <= 1:
        raise ValueError(f"zeta must be in [0, 1], not {zeta}")
    if not (gamma >= 0 and decay >= 0 and c >= 0):
        raise ValueError(f"gamma, c and decay must not be negative, not {gamma}, {c} and {decay}")
    if not eta_tilde > 0:
        raise ValueError(f"eta_tilde must be above 0, not {eta_tilde}")
