"""DDRM where a blurred photograph ends: what lies beyond its border is unknown, and the blur has no
SVD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import ValidConvolution
from restore.diffusion.protocol import Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report
from restore.solvers.consistency import project
from restore.solvers.ddrm import SpectralWalk, check_shares

LEAST_NOISE = 1e-3
"""Of the completed measurement, pictures in [-1, 1]: an eighth of a level of 8 bits. What stands
beyond the border is an estimate, which no picture explains exactly."""


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
    """`ddrm` on a canvas that is larger than the measurement by the kernel's reach.

    On the whole canvas the blur is a circular convolution C, which has an SVD, and of which the
    measurement y is the inside. Before each step it is completed by the present estimate: ``ŷ = y``
    where it was measured and ``C x̂0`` beyond, where x̂0 is the clean estimate fitted to y
    (`project` with the step's noise level as its error, as in DiffPIR). Without that fit ŷ would
    break off at the border by the estimate's error, which the small singular values make large.
    Then the step is DDRM's (Kawar et al. 2022, arXiv 2201.11793, eq. 7 and 8) for C and ŷ.

    Args:
        start: canvas [B or 1, *operator.input_shape] that the first measurement is completed by,
            and where components begin that it does not tell; None is mid-grey fitted to the
            measurement.

        The others are those of `restore.solvers.ddrm.ddrm`.

    Returns:
        [B, *operator.input_shape], the canvas.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or η or η_b lies outside [0, 1].
    """
    check_shares(eta, eta_b)
    pairs = falling_pairs(sigmas)
    shape = (len(measurement), *operator.input_shape)
    if start is None:
        grey = measurement.new_zeros(shape)
        start = project(operator, grey, measurement, noise_level, prior_std=0.5)

    noise = torch.as_tensor(noise_level, device=measurement.device).clamp_min(LEAST_NOISE)
    walk = SpectralWalk(operator.circular, completed(operator, measurement, start), noise)
    x = walk.start(pairs[0][0], gaussian_noise(shape, generator, measurement.device), start)
    del start

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, None)
        report(callback, index, len(pairs), sigma, operator.visible(prediction.clean))
        if sigma_next > 0:
            fitted = project(operator, prediction.clean, measurement, noise_level, prior_std=sigma)
            walk.measure(completed(operator, measurement, fitted))
            z = gaussian_noise(shape, generator, measurement.device)
            x = walk.step(prediction, z, sigma, sigma_next, eta, eta_b)
            del prediction, fitted, z

    clean = prediction.clean

    return project(operator, clean, measurement, noise_level) if final_projection else clean


def completed(operator: ValidConvolution, measurement: Tensor, canvas: Tensor) -> Tensor:
    """The circular convolution of a canvas, with what was measured in its place."""
    return torch.where(operator.measured, operator.embed(measurement), operator.circular.A(canvas))
