"""DDRM for blurs with an unknown border, which have no SVD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import ValidConvolution
from restore.diffusion.protocol import Denoise, Prediction
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.solvers.consistency import project, project_explained, turns
from restore.solvers.ddrm import SpectralProcess, check_fractions

# Smallest noise level of the completed measurement, for pictures in [-1, 1]: an eighth of a level
# of 8 bits. What lies beyond the border is an estimate, which no picture explains exactly.
LEAST_NOISE = 1e-3

# Noise level, for pictures in [-1, 1], below which the first measurement is taken as far as the
# start explains it.
QUIET = 0.01


def ddrm_unknown_border(
    denoise: Denoise,
    operator: ValidConvolution,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    eta: float = 0.85,
    eta_b: float = 1.0,
    start: Tensor | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DDRM on a canvas that is larger than the measurement by the kernel's reach.

    On the canvas, the blur is a circular convolution C, which has an SVD; the measurement y is its
    inside. Before each step, the current estimate completes the measurement: ``ŷ = y`` inside and
    ``C x̂0`` outside, where x̂0 is the clean estimate fitted to y (by
    `restore.solvers.consistency.project` with the noise level of the step as its error, as in
    DiffPIR). Without the fit, ŷ would have a discontinuity at the border, which small singular
    values amplify. With little noise, y is taken as far as the fit has solved its equations, for
    the same reason. The step is then DDRM's for C and ŷ (Kawar et al. 2022, arXiv 2201.11793, eq. 7
    and 8).

    Args:
        denoise: ``denoise(x, sigma, None)`` with pictures in [-1, 1].
        operator: Blur with an unknown border.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units; one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        eta, eta_b: η and η_b of DDRM, fractions of fresh noise in [0, 1].
        start: Canvas [B or 1, *operator.input_shape] that completes the first measurement, and is
            the initial value of unmeasured components; None is mid-grey fitted to the measurement.
        final_projection: Project the last clean estimate onto the measurement.
        callback: Called with a `Step` after each network call, with the inside of the clean
            estimate.

    Returns:
        [B, *operator.input_shape], the canvas.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or η or η_b is outside [0, 1].
    """
    check_fractions(eta, eta_b)
    pairs = falling_pairs(sigmas)
    shape = (len(measurement), *operator.input_shape)
    if start is None:
        grey = measurement.new_zeros(shape)
        start = project(operator, grey, measurement, noise_level, prior_std=0.5)

    noise = torch.as_tensor(noise_level).to(measurement).clamp_min(LEAST_NOISE)
    known = torch.where(per_picture(noise, measurement) < QUIET, operator.A(start), measurement)
    parts = turns(operator, start)
    processes = [
        SpectralProcess(
            operator.circular.of_channels(part.stop - part.start),
            completed(operator, known[:, part], start[:, part]),
            noise,
        )
        for part in parts
    ]
    x = gaussian_noise(shape, generator, measurement.device)
    for part, process in zip(parts, processes, strict=True):
        x[:, part] = process.start(pairs[0][0], x[:, part], start[:, part])
    del start, known

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, None)
        del x  # whose spectrum the processes keep
        report(callback, index, len(pairs), sigma, operator.visible(prediction.clean))
        if sigma_next > 0:
            x = gaussian_noise(shape, generator, measurement.device)
            for part, process in zip(parts, processes, strict=True):
                clean, y = prediction.clean[:, part], measurement[:, part]
                fitted, known = project_explained(operator, clean, y, noise_level, prior_std=sigma)
                process.measure(completed(operator, known, fitted))
                del fitted, known
                estimates = Prediction(clean, prediction.noise[:, part])
                x[:, part] = process.step(estimates, x[:, part], sigma, sigma_next, eta, eta_b)
            del prediction

    clean = prediction.clean
    del prediction, process, processes

    return project(operator, clean, measurement, noise_level) if final_projection else clean


def completed(operator: ValidConvolution, measurement: Tensor, canvas: Tensor) -> Tensor:
    """Circular convolution of a canvas, with the measurement in its place."""
    return torch.where(operator.measured, operator.embed(measurement), operator.circular.A(canvas))
