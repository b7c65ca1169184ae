"""RePaint: inpainting that goes back up in noise to bring known and new pixels together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from operators import SpectralOperator
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.errors import BadArgument
from restore.solvers.jumps import calls_of, visits

# Largest difference of a singular value from 0 or 1.
TOLERANCE = 1e-5


def repaint(
    denoise: Denoise,
    operator: SpectralOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    jump_length: int = 10,
    resamplings: int = 10,
    start: Tensor | None = None,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """RePaint: sample what a mask hides, given the pixels that it shows.

    Lugmayr et al. 2022, arXiv 2201.09865. A step from σ to the next level ς takes the unknown
    pixels from the reverse process, and the known pixels from the forward process (their eq. 8),

    - unknown: ``x0 + (ς/σ)² (x − x0) + ς √(1 − ς²/σ²) z``, where x0 is the clean estimate (DDPM:
      Ho et al. 2020, arXiv 2006.11239, eq. 7), and
    - known:   ``y + ς z``.

    After ``jump_length`` steps, noise takes the whole picture back up as many levels, and the
    reverse process goes down again, ``resamplings`` times in all (their algorithm 1 and appendix
    B), so that the new pixels come to fit the known ones.

    Noise of the measurement, which the authors do not treat: a known pixel ``y = x0 + σ_y n`` is a
    state of the chain at the level σ_y. So levels above σ_y are drawn from y by the forward
    process, ``y + √(ς² − σ_y²) z``, and y itself is the state from which the reverse process takes
    the known pixels to the levels below. Jumps below σ_y stay tied to y, see `bridge`.

    In place of pixels, an operator may have other orthonormal measurements, components ``x̄ = Vᵀ x``
    of singular value 1.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A mask, or another operator whose singular values are all 0 or 1.
        measurement: y, [B, *operator.output_shape], for pictures in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
            Without noise, ``A x = y`` holds in the end.
        sigmas: Decreasing noise levels and a final 0; `restore.solvers.jumps.calls_of` gives the
            number of network calls.
        generator: Random generator on the CPU, or one per picture.
        jump_length: Levels of a jump, j.
        resamplings: Number of times that the levels of a jump are sampled, r; 1 is no jump.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        BadArgument: If a singular value is neither 0 nor 1.
        ValueError: If ``sigmas`` do not decrease to 0, or a jump has no level or is not sampled.
    """
    if not takes_components(operator):
        raise BadArgument(
            f"{type(operator).__name__} has singular values other than 0 and 1, which repaint "
            "cannot use"
        )
    if jump_length < 1 or resamplings < 1:
        raise ValueError(
            f"jump_length and resamplings must be at least 1, not {jump_length} and {resamplings}"
        )

    count = len(falling_pairs(sigmas))
    calls = calls_of(count, jump_length, resamplings)
    shape = (measurement.shape[0], *operator.input_shape)
    known = _Known(operator, measurement, noise_level)
    x = measurement.new_zeros(shape) if start is None else start.expand(shape)
    x = known.up(x, gaussian_noise(shape, generator, measurement.device), 0.0, sigmas[0])
    del start  # makes room for the network, for large pictures

    call = 0
    for here, there in pairwise(visits(count, jump_length, resamplings)):
        sigma, sigma_next = sigmas[here], sigmas[there]
        if there < here:
            z = gaussian_noise(shape, generator, measurement.device)
            x = known.up(x, z, sigma, sigma_next)
            del z
            continue

        clean = denoise(x, sigma, condition).clean
        report(callback, call, calls, sigma, clean)
        call += 1
        if sigma_next > 0:
            z = gaussian_noise(shape, generator, measurement.device)
        else:
            z = torch.zeros_like(x)
        x = known.down(x, clean, z, sigma, sigma_next)
        del clean, z

    return x


def bridge(
    low: Tensor,
    low_level: float,
    high: Tensor,
    high_level: Tensor | float,
    level: float,
    z: Tensor,
) -> Tensor:
    """Draw the state of the chain at a level, given its states at two other levels.

    Between them it is a Brownian bridge in the variance, ``low + w (high − low) + √(w (σ_high² −
    σ²)) z`` with ``w = (σ² − σ_low²)/(σ_high² − σ_low²)``, and above both the forward process,
    ``high + √(σ² − σ_high²) z``. From a clean estimate, at level 0, it is a step of DDPM (Ho et al.
    2020, arXiv 2006.11239, eq. 7).

    Args:
        low, low_level: State at the lower level, and that level.
        high, high_level: State at the higher level, and that level: one number or [B, 1, 1, 1].
        level: σ, not below ``low_level``.
        z: White noise.
    """
    top = torch.as_tensor(high_level, dtype=low.dtype, device=low.device) ** 2
    at = level**2
    fraction = torch.where(top > at, (at - low_level**2) / (top - low_level**2), 1.0)
    variance = torch.where(top > at, fraction * (top - at), at - top)

    return low + fraction * (high - low) + variance.sqrt() * z


class _Known:
    """Moves between noise levels, with what is known of the components.

    Args:
        operator, measurement, noise_level: As for `repaint`.
    """

    def __init__(
        self, operator: SpectralOperator, measurement: Tensor, noise_level: Tensor | float
    ) -> None:
        self.operator = operator
        self.measured = operator.singular_values > 0.5
        self.y = operator.Ut(measurement)
        self.noise = per_picture(noise_level, measurement)

    def down(self, x: Tensor, clean: Tensor, z: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Return the state at the next level.

        Args:
            x: State at σ.
            clean: Clean estimate at σ.
            z: White noise.
            sigma, sigma_next: σ and the next level.
        """
        lower = bridge(clean, 0.0, x, sigma, sigma_next, z)
        known = self._drawn(clean, 0.0, sigma_next, z)
        return self._replaced(lower, known, self.noise < sigma)

    def up(self, x: Tensor, z: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Return the state at a higher level; arguments as for `down`."""
        higher = x + math.sqrt(sigma_next**2 - sigma**2) * z
        known = self._drawn(x, sigma, sigma_next, z)
        return self._replaced(higher, known, self.noise >= sigma)

    def _drawn(self, low: Tensor, low_level: float, level: float, z: Tensor) -> Tensor:
        """Components of a level, given y and a state at a lower level."""
        Vt = self.operator.Vt
        return bridge(Vt(low), low_level, self.y, self.noise, level, Vt(z))

    def _replaced(self, x: Tensor, known: Tensor, where: Tensor) -> Tensor:
        """Return x with these known components in the pictures where that is True."""
        change = torch.where(self.measured & where, known - self.operator.Vt(x), 0.0)
        return x + self.operator.V(change)


def takes_components(operator: object) -> bool:
    """Return True if the operator measures components as they are: singular values 0 and 1."""
    if not isinstance(operator, SpectralOperator):
        return False

    s = operator.singular_values
    return bool((torch.minimum(s.abs(), (s - 1).abs()) < TOLERANCE).all())
