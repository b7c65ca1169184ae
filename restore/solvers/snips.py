"""SNIPS: annealed Langevin dynamics in the singular components of the operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    noise_like,
    report,
)
from restore.samplers.langevin import langevin_step_size
from restore.solvers.consistency import finished
from restore.solvers.ddrm import SpectralProcess, require_svd


def snips(
    denoise: Denoise,
    operator: LinearOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    steps_each: int = 2,
    step_size: float | None = None,
    consistent: bool = False,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """SNIPS: sample pictures that explain a measurement ``y = A x0 + σ_y n``.

    Kawar, Vaksman, Elad 2021, arXiv 2105.14951, algorithm 1. With ``A = U Σ Vᵀ``, ``x̄ = Vᵀ x``,
    ``ȳ = Σ⁺ Uᵀ y`` and the score ``g = −ε̂/σ`` of the network, each step at a level σ is

        ``x̄ ← x̄ + c α d̄ + √(2 c α) z̄``

    with a step size α of each component: one over the precision that the noise of the state and
    the measurement have together. With ``w = (s σ/σ_y)²``:

    - singular value 0:   ``α = σ²``, ``α d̄ = σ² ḡ``
    - ``σ < σ_y/s``:        ``α = σ² (1 − w)``, ``α d̄ = (1 − w) σ² ḡ + w (ȳ − x̄)``
    - ``σ ≥ σ_y/s``:        ``α = σ² (1 − 1/w)``, ``α d̄ = ȳ − x̄``

    In the last case the noise of the state contains that of the measurement, and the network has
    no say. This is their posterior score (section 3.3) times α, which cancels its divisions by 0.
    The last state is a sample with noise of the last positive level; the last network call takes
    its clean estimate, instead of a last step.

    Langevin dynamics must remove at each level what the level above leaves, so the levels should be
    close: the paper takes more than a thousand calls, and with a hundred the result is noise.
    Consistent annealing (Jolicoeur-Martineau et al. 2020, arXiv 2009.05475, proposition 1) gives
    the state exactly the noise of the next level: w and α are those of the next step, and the fresh
    noise has the variance ``α − (1−c)² α'`` instead of ``2 c α``, where α' is that of the state. c
    is at least ``1 − ς/σ``, so that this is not negative where nothing is measured. It works with a
    few dozen calls.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A, with an SVD.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0.
        generator: Random generator on the CPU, or one per picture.
        steps_each: τ of the paper, Langevin steps per level, at least 1; one network call each.
        step_size: c in (0, 1]; None is the best for Langevin dynamics at these levels by
            `restore.samplers.langevin.langevin_step_size`.
        consistent: Anneal consistently, see above.
        start: [B or 1, *input_shape], initial value of the components that are not measured,
            instead of 0.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        BadArgument: If the operator has no SVD.
        ValueError: If ``sigmas`` do not decrease to 0, ``steps_each`` is below 1, or the step size
            is outside (0, 1].
    """
    operator = require_svd(operator, "snips")
    pairs = falling_pairs(sigmas)
    if steps_each < 1 or not (step_size is None or 0 < step_size <= 1):
        raise ValueError(
            f"steps_each must be at least 1 and the step size in (0, 1], not {steps_each} and "
            f"{step_size}"
        )
    if step_size is None:
        step_size = langevin_step_size(sigmas, steps_each) if len(pairs) > 1 else 1.0

    process = SpectralProcess(operator, measurement, noise_level)
    shape = (measurement.shape[0], *operator.input_shape)
    noise = gaussian_noise(shape, generator, measurement.device)
    x = process.start(pairs[0][0], noise, start)
    del start, noise  # makes room for the network, for large pictures

    levels = [sigma for sigma, _ in pairs for _ in range(steps_each)]
    for index, sigma in enumerate(levels):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(levels), sigma, prediction.clean)
        if index + 1 < len(levels):
            sigma_next = levels[index + 1] if consistent else None
            z = noise_like(x, generator)
            x = _langevin_step(process, x, prediction, z, sigma, sigma_next, step_size)
            del prediction, z

    clean = prediction.clean
    return finished(operator, clean, measurement, noise_level) if final_projection else clean


def _langevin_step(
    process: SpectralProcess,
    x: Tensor,
    prediction: Prediction,
    z: Tensor,
    sigma: float,
    sigma_next: float | None,
    step_size: float,
) -> Tensor:
    """Take a step as if nothing were measured, and correct the measured components.

    Args:
        process: Operator, measurement and its noise.
        x: State.
        prediction: Estimates of the network at the state.
        z: White noise.
        sigma: Noise level of the step.
        sigma_next: Level that consistent annealing goes to; None is Langevin dynamics.
        step_size: c.
    """
    operator = process.operator
    target = sigma if sigma_next is None else sigma_next
    # a shorter step would leave more noise than the next level has
    step_size = max(step_size, 1 - target / sigma)
    w, alpha = _weights(process.noise, target)
    before = None if sigma_next is None else _weights(process.noise, sigma)[1]
    x_bar = operator.Vt(x)
    z_bar = operator.Vt(z)
    drift = -sigma * operator.Vt(prediction.noise)

    # a component that is not measured has α = σ²
    unmeasured = alpha.new_tensor(target**2)
    spread = _spread(unmeasured, None if before is None else before.new_tensor(sigma**2), step_size)
    free = x - step_size * sigma * prediction.noise + spread * z
    free_bar = x_bar + step_size * drift + spread * z_bar

    drift = (1 - w) * drift + w * (process.y - x_bar)
    measured = x_bar + step_size * drift + _spread(alpha, before, step_size) * z_bar

    return free + operator.V(torch.where(process.measured, measured - free_bar, 0.0))


def _weights(noise: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Return w, at most 1, and α at a level, for components with noise σ_y/s."""
    w = (sigma / noise.clamp_min(sigma)) ** 2
    alpha = torch.where(noise > sigma, sigma**2 * (1 - w), sigma**2 - noise**2)
    return w, alpha


def _spread(alpha: Tensor, before: Tensor | None, step_size: float) -> Tensor:
    """Return the standard deviation of the fresh noise of a step.

    Args:
        alpha: α that the step leads to.
        before: α of the state, for consistent annealing; None for Langevin dynamics.
        step_size: c.
    """
    if before is None:
        return (2 * step_size * alpha).sqrt()
    return (alpha - (1 - step_size) ** 2 * before).clamp_min(0).sqrt()
