"""Denoising diffusion null-space models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from operators import LinearOperator, SpectralOperator, ValidConvolution
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.solvers.consistency import project, project_explained
from restore.solvers.ddrm import require_svd
from restore.solvers.ddrm_border import LEAST_NOISE, completed
from restore.solvers.jumps import calls_of, visits

# Takes prediction, σ, the next level and white noise to the state at the next level.
Step = Callable[[Prediction, float, float, Tensor], Tensor]


def ddnm(
    denoise: Denoise,
    operator: LinearOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    eta: float = 0.85,
    travel_length: int = 1,
    travel_repeats: int = 1,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DDNM and DDNM+: replace what was measured, and denoise only the null space.

    Wang, Yu and Zhang 2022, arXiv 2212.00490. Without measurement noise, each clean estimate x0 is
    projected onto the pictures that explain the measurement, and goes to the next level σ by a step
    of DDIM with the network's own noise estimate ε (their eq. 12 to 15; z is white noise):

        ``x̂0 = x0 − A⁺(A x0 − y)``,    ``x ← x̂0 + σ (√(1−η²) ε + η z)``.

    This takes any linear operator. With noise (DDNM+, their eq. 17 and 51), ``A = U Σ Vᵀ`` with
    singular values s, and each component of Vᵀx gets as much of the projection as its noise σ_y/s
    allows, and only the noise that is missing to σ:

    - singular value 0: as without noise.
    - ``σ ≥ σ_y/s``: the whole projection, and ``√(σ² − σ_y²/s²) z``.
    - ``σ < σ_y/s``: ``√(1−η²) σ s/σ_y`` of the projection, and ``η σ z``.

    In components with noise these are the steps of DDRM with η_b = 1; the methods differ in where
    they start, in components without noise, and by time travel. A blur with an unknown border has
    no SVD; there the steps are those of the circular convolution of the whole canvas, whose
    measurement is completed as in `restore.solvers.ddrm_border`.

    Time travel returns to earlier noise levels, ``x ← x + √(σ_earlier² − σ²) z``, so that estimates
    of late steps improve early ones (their algorithm 2). The authors' code adds the noise to x0
    instead of x, which forgets the projection.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A; with noise, it needs an SVD or must be a blur with an unknown border.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y, standard deviation of the measurement's noise in the same units (twice
            that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0.
        generator: Random number generator on the CPU, or one per picture.
        eta: η in [0, 1], fraction of fresh noise.
        travel_length: Levels that a travel goes back.
        travel_repeats: Times that each such stretch is passed; 1 is without time travel. The
            network is called once per level and repeat, see `restore.solvers.jumps.visits`.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`. Without noise, the last step does that anyway.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        BadArgument: If the measurement is noisy, and the operator has no SVD.
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], or a number of the time
            travel is below 1.
    """
    _check(eta, travel_length, travel_repeats)
    count = len(falling_pairs(sigmas))
    calls = calls_of(count, travel_length, travel_repeats)
    route = [sigmas[place] for place in visits(count, travel_length, travel_repeats)]
    step = _step(operator, measurement, noise_level, eta)
    shape = (len(measurement), *operator.input_shape)

    x = route[0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    call = 0
    for sigma, sigma_next in pairwise(route):
        if sigma_next > sigma:
            fresh = gaussian_noise(shape, generator, measurement.device)
            x = x + math.sqrt(sigma_next**2 - sigma**2) * fresh
            del fresh
            continue

        prediction = denoise(x, sigma, condition)
        report(callback, call, calls, sigma, operator.visible(prediction.clean))
        call += 1
        if sigma_next == 0 and final_projection:
            return project(operator, prediction.clean, measurement, noise_level)
        fresh = gaussian_noise(shape, generator, measurement.device)
        x = step(prediction, sigma, sigma_next, fresh)
        del prediction, fresh

    return x


def _check(eta: float, travel_length: int, travel_repeats: int) -> None:
    """Check the parameters.

    Raises:
        ValueError: If one is out of range.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")
    if travel_length < 1 or travel_repeats < 1:
        raise ValueError(
            "travel_length and travel_repeats must be at least 1, not "
            f"{travel_length} and {travel_repeats}"
        )


def _step(
    operator: LinearOperator, measurement: Tensor, noise_level: Tensor | float, eta: float
) -> Step:
    """Return the step of DDNM, or that of DDNM+ if any picture has noise.

    Raises:
        BadArgument: If there is noise, and the operator has no SVD.
    """
    kept = math.sqrt(1 - eta**2)
    if not bool(torch.as_tensor(noise_level).any()):

        def noiseless(prediction: Prediction, _: float, sigma_next: float, z: Tensor) -> Tensor:
            fitted = project(operator, prediction.clean, measurement)
            return fitted + sigma_next * (kept * prediction.noise + eta * z)

        return noiseless

    if isinstance(operator, ValidConvolution):
        least = torch.as_tensor(noise_level).to(measurement).clamp_min(LEAST_NOISE)

        def on_canvas(prediction: Prediction, sigma: float, sigma_next: float, z: Tensor) -> Tensor:
            fitted, known = project_explained(
                operator, prediction.clean, measurement, noise_level, prior_std=sigma
            )
            y = completed(operator, known, fitted)
            return _noisy_step(operator.circular, y, least, prediction, sigma_next, eta, z)

        return on_canvas

    spectral = require_svd(operator, "ddnm of a noisy measurement")

    def noisy(prediction: Prediction, _: float, sigma_next: float, z: Tensor) -> Tensor:
        return _noisy_step(spectral, measurement, noise_level, prediction, sigma_next, eta, z)

    return noisy


def _noisy_step(
    operator: SpectralOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    prediction: Prediction,
    sigma: float,
    eta: float,
    z: Tensor,
) -> Tensor:
    """Take a prediction to the level σ by DDNM+.

    Components without noise get the same as what the spectrum leaves out: ``σ (√(1−η²) ε + η z)``.
    """
    kept = math.sqrt(1 - eta**2)
    noise = operator.inverse_singular_values() * per_picture(noise_level, measurement)
    noisy = noise > 0

    coarse = noise > sigma
    projected = torch.where(coarse, kept * sigma / torch.where(noisy, noise, 1.0), 1.0)
    spread = torch.where(coarse, eta * sigma, (sigma**2 - noise**2).clamp_min(0).sqrt())

    residual = operator.Ut(measurement - operator.A(prediction.clean))
    moved = projected * operator.inverse_singular_values() * residual
    other = sigma * (kept * prediction.noise + eta * z)
    replaced = torch.where(noisy, spread * operator.Vt(z) - operator.Vt(other), 0.0)

    return prediction.clean + other + operator.V(moved + replaced)
