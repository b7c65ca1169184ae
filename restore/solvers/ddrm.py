"""Denoising Diffusion Restoration Models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator, SpectralOperator
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.errors import BadArgument
from restore.solvers.consistency import project


def ddrm(
    denoise: Denoise,
    operator: SpectralOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    eta: float = 0.85,
    eta_b: float = 1.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DDRM: sample pictures that explain a measurement ``y = A x0 + σ_y n``.

    Kawar et al. 2022, arXiv 2201.11793. With ``A = U Σ Vᵀ``, ``x̄ = Vᵀ x`` and ``ȳ = Σ⁺ Uᵀ y``,
    each step takes the clean estimate x0 and the noise estimate ε to the next level σ, component by
    component (their eq. 7 and 8; z is white noise):

    - singular value 0:   ``x̄0 + σ (√(1−η²) ε̄ + η z̄)``
    - ``σ < σ_y/s``:        ``x̄0 + σ (√(1−η²) (ȳ − x̄0) / (σ_y/s) + η z̄)``
    - ``σ ≥ σ_y/s``:        ``(1−η_b) x̄0 + η_b ȳ + √(σ² − η_b² σ_y²/s²) z̄``

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A, with an SVD.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y, standard deviation of the measurement's noise in the same units (twice
            that for pixels in [0, 1]); one number or [B]. 0 is noiseless.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        eta, eta_b: η and η_b, fractions of fresh noise in [0, 1].
        start: [B or 1, *input_shape], initial value of the components that are not measured,
            instead of 0: a cheap estimate that needs fewer or smaller steps (Chung et al. 2022,
            arXiv 2112.05146).
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`; the authors' code returns the estimate itself.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        BadArgument: If the operator has no SVD.
        ValueError: If ``sigmas`` do not decrease to 0, or η or η_b is outside [0, 1].
    """
    operator = require_svd(operator, "ddrm")
    check_fractions(eta, eta_b)
    pairs = falling_pairs(sigmas)
    noiseless = not isinstance(noise_level, Tensor) and noise_level == 0
    process = (
        NoiselessProcess(operator, measurement)
        if noiseless
        else SpectralProcess(operator, measurement, noise_level)
    )
    shape = (measurement.shape[0], *operator.input_shape)
    x = process.start(pairs[0][0], gaussian_noise(shape, generator, measurement.device), start)
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        if sigma_next > 0:
            noise = gaussian_noise(shape, generator, measurement.device)
            x = process.step(prediction, noise, sigma, sigma_next, eta, eta_b)
            del prediction, noise

    if final_projection:
        return project(operator, prediction.clean, measurement, noise_level)

    return prediction.clean


def check_fractions(eta: float, eta_b: float) -> None:
    """Check the fractions of fresh noise.

    Raises:
        ValueError: If η or η_b is outside [0, 1].
    """
    if not (0 <= eta <= 1 and 0 <= eta_b <= 1):
        raise ValueError(f"eta and eta_b must be in [0, 1], not {eta} and {eta_b}")


class NoiselessProcess:
    """Steps of DDRM for a measurement without noise, by projections instead of the spectrum.

    All measured components move alike, whatever their singular value. With the projection ``P =
    A⁺A`` onto the row space, a step is that of the unmeasured components plus P times the
    difference to that of the measured ones. This is cheap where A and A⁺ are narrow-banded.

    Args:
        operator: A, with an SVD.
        measurement: y, [B, *operator.output_shape].
    """

    def __init__(self, operator: SpectralOperator, measurement: Tensor) -> None:
        self.operator = operator
        self.y = operator.pseudo_inverse(measurement)

    def start(self, sigma: float, z: Tensor, estimate: Tensor | None) -> Tensor:
        """``ȳ + σ z̄`` in measured components, ``estimate + σ z̄`` in the others."""
        x = sigma * z + self.y
        return (
            x
            if estimate is None
            else x + estimate - self.operator.onto_row_space(estimate.expand_as(z))
        )

    def step(
        self,
        prediction: Prediction,
        z: Tensor,
        sigma: float,
        sigma_next: float,
        eta: float,
        eta_b: float,
    ) -> Tensor:
        """Take the state from σ to the next level.

        Args:
            prediction: Estimates of the network at the state.
            z: White noise.
            sigma, sigma_next: Noise levels of the step.
            eta, eta_b: η and η_b of `ddrm`.
        """
        unmeasured = sigma_next * (math.sqrt(1 - eta**2) * prediction.noise + eta * z)
        measured = eta_b * (self.y - prediction.clean) + sigma_next * z
        return prediction.clean + unmeasured + self.operator.onto_row_space(measured - unmeasured)


class SpectralProcess:
    """Steps of DDRM in the spectrum of the operator.

    It keeps the spectrum x̄ of the state, so that a step applies V or Vᵀ only three times, with
    ``ε̄ = (x̄ − x̄0)/σ``.

    Args:
        operator: A, with an SVD.
        measurement: y, [B, *operator.output_shape].
        noise_level: σ_y, one number or [B].
    """

    def __init__(
        self, operator: SpectralOperator, measurement: Tensor, noise_level: Tensor | float
    ) -> None:
        self.operator = operator
        self.measured = operator.singular_values > 0
        self.noise = operator.inverse_singular_values() * per_picture(noise_level, measurement)
        self.measure(measurement)

    def measure(self, measurement: Tensor) -> None:
        """Use this measurement from now on."""
        self.y = self.operator.inverse_singular_values() * self.operator.Ut(measurement)

    def start(self, sigma: float, z: Tensor, estimate: Tensor | None) -> Tensor:
        """``ȳ + √(σ² − σ_y²/s²) z̄`` where σ_y/s ≤ σ, else ``estimate + σ z̄``."""
        x = sigma * z if estimate is None else estimate + sigma * z
        better = self.measured & (self.noise <= sigma)
        return self._replace(
            x, self.operator.Vt(x), better, self.y + self._spread(sigma) * self.operator.Vt(z)
        )

    def step(
        self,
        prediction: Prediction,
        z: Tensor,
        sigma: float,
        sigma_next: float,
        eta: float,
        eta_b: float,
    ) -> Tensor:
        """Take the state from σ to the next level.

        Args:
            prediction: Estimates of the network at the state.
            z: White noise.
            sigma, sigma_next: Noise levels of the step.
            eta, eta_b: η and η_b of `ddrm`.
        """
        kept = math.sqrt(1 - eta**2)
        clean = self.operator.Vt(prediction.clean)
        z_bar = self.operator.Vt(z)
        fresh = clean + sigma_next * eta * z_bar
        unmeasured = fresh + (sigma_next * kept / sigma) * (self.x - clean)
        measured = torch.lerp(clean, self.y, eta_b) + self._spread(sigma_next, eta_b) * z_bar
        coarse = fresh + (sigma_next * kept) * (self.y - clean) / torch.where(
            self.noise > 0, self.noise, 1.0
        )
        measured = torch.where(sigma_next < self.noise, coarse, measured)
        del fresh, coarse
        x = prediction.clean + sigma_next * (kept * prediction.noise + eta * z)

        return self._replace(x, unmeasured, self.measured, measured)

    def _spread(self, sigma: float, eta_b: float = 1.0) -> Tensor:
        """``√(σ² − η_b² σ_y²/s²)``, 0 where the noise of the measurement is larger."""
        return (sigma**2 - (eta_b * self.noise) ** 2).clamp_min(0).sqrt()

    def _replace(self, x: Tensor, x_bar: Tensor, where: Tensor, value: Tensor) -> Tensor:
        """Return the picture x, of spectrum x̄, with new values of some components."""
        self.x = torch.where(where, value, x_bar)
        return x + self.operator.V(self.x - x_bar)


def require_svd(operator: LinearOperator, method: str) -> SpectralOperator:
    """Return the operator if it has an SVD.

    Raises:
        BadArgument: If it has none.
    """
    if not isinstance(operator, SpectralOperator):
        raise BadArgument(f"{type(operator).__name__} has no SVD, which {method} needs")
    return operator
