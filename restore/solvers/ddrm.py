"""Denoising Diffusion Restoration Models."""

from __future__ import annotations

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

WITHOUT_SVD = ("diffpir", "sr3", "one-step")
"""Methods that take operators without an SVD."""


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
    """Sample pictures that explain a measurement ``y = A x0 + σ_y n`` (Kawar et al. 2022, arXiv
    2201.11793).

    With ``A = U Σ Vᵀ``, ``x̄ = Vᵀ x`` and ``ȳ = Σ⁺ Uᵀ y``, each step takes the clean estimate x0
    and the noise estimate ε to the next level σ, component by component (their eq. 7 and 8; z is
    white noise):

    - singular value 0:   ``x̄0 + σ (√(1−η²) ε̄ + η z̄)``
    - ``σ < σ_y/s``:        ``x̄0 + σ (√(1−η²) (ȳ − x̄0) / (σ_y/s) + η z̄)``
    - ``σ ≥ σ_y/s``:        ``(1−η_b) x̄0 + η_b ȳ + √(σ² − η_b² σ_y²/s²) z̄``

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: with an SVD.
        measurement: y, ``[B, *operator.output_shape]``, in the coordinates of ``A x`` for x in [-1,
            1].
        noise_level: σ_y, standard deviation of the measurement's noise in the same coordinates
            (twice that of pixels in [0, 1]); one number or [B]. 0 is noiseless.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        generator: of the random numbers, on the CPU; or one for each picture.
        eta, eta_b: shares of fresh noise, in [0, 1] (η, η_b of the paper).
        start: [B or 1, *input_shape], where the components that the measurement does not tell
            begin, instead of at 0: a cheap estimate, from which fewer or smaller steps are needed
            (Chung et al. 2022, arXiv 2112.05146).
        condition: shown to the network beside the noisy picture, if given.
        final_projection: end with the picture nearest to the last clean estimate that explains the
            measurement (see `restore.solvers.consistency.project`; the authors' code returns the
            estimate itself).
        callback: called with a `Step` after each call of the network.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        BadArgument: the operator has no SVD.
        ValueError: ``sigmas`` do not fall to 0, or η or η_b lies outside [0, 1].
    """
    operator = require_svd(operator, "ddrm")
    check_shares(eta, eta_b)
    pairs = falling_pairs(sigmas)
    noiseless = not isinstance(noise_level, Tensor) and noise_level == 0
    walk = (
        NoiselessWalk(operator, measurement)
        if noiseless
        else SpectralWalk(operator, measurement, noise_level)
    )
    shape = (measurement.shape[0], *operator.input_shape)
    x = walk.start(pairs[0][0], gaussian_noise(shape, generator, measurement.device), start)
    del start  # large pictures: what is done with makes room for the network

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        if sigma_next > 0:
            noise = gaussian_noise(shape, generator, measurement.device)
            x = walk.step(prediction, noise, sigma, sigma_next, eta, eta_b)
            del prediction, noise

    if final_projection:
        return project(operator, prediction.clean, measurement, noise_level)

    return prediction.clean


def check_shares(eta: float, eta_b: float) -> None:
    """ValueError where η or η_b lies outside [0, 1]."""
    if not (0 <= eta <= 1 and 0 <= eta_b <= 1):
        raise ValueError(f"eta and eta_b must be in [0, 1], not {eta} and {eta_b}")


class NoiselessWalk:
    """Of a measurement without noise: all that it tells moves alike, whatever its singular value.

    With ``P = A⁺A``, the projection onto what the operator sees, the step for measured components
    is that for the others and P times the difference. That needs no spectrum, and costs little
    where A and A⁺ have narrow bands.
    """

    def __init__(self, operator: SpectralOperator, measurement: Tensor) -> None:
        self.operator = operator
        self.y = operator.pseudo_inverse(measurement)

    def start(self, sigma: float, z: Tensor, estimate: Tensor | None) -> Tensor:
        """``ȳ + σ z̄`` where it is measured, else ``estimate + σ z̄``."""
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
        """Take the state from σ to the next level."""
        unmeasured = sigma_next * ((1 - eta**2) ** 0.5 * prediction.noise + eta * z)
        measured = eta_b * (self.y - prediction.clean) + sigma_next * z
        return prediction.clean + unmeasured + self.operator.onto_row_space(measured - unmeasured)


class SpectralWalk:
    """The state in the operator's spectrum, x̄, beside ȳ and its noise.

    Applying V or Vt is what the solver costs beyond the network: three times a step, since x̄ is
    known from the last one and ``ε̄ = (x̄ − x̄0)/σ``.
    """

    def __init__(
        self, operator: SpectralOperator, measurement: Tensor, noise_level: Tensor | float
    ) -> None:
        self.operator = operator
        self.measured = operator.singular_values > 0
        self.noise = operator.inverse_singular_values() * per_picture(noise_level, measurement)
        self.measure(measurement)

    def measure(self, measurement: Tensor) -> None:
        """Go on with this measurement."""
        self.y = self.operator.inverse_singular_values() * self.operator.Ut(measurement)

    def start(self, sigma: float, z: Tensor, estimate: Tensor | None) -> Tensor:
        """``ȳ + √(σ² − σ_y²/s²) z̄`` where the measurement says more than σ hides, else ``estimate
        + σ z̄``.
        """
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
        """Take the state from σ to the next level."""
        kept = (1 - eta**2) ** 0.5
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
        """``√(σ² − η_b² σ_y²/s²)``, 0 where the measurement's noise is larger."""
        return (sigma**2 - (eta_b * self.noise) ** 2).clamp_min(0).sqrt()

    def _replace(self, x: Tensor, x_bar: Tensor, where: Tensor, value: Tensor) -> Tensor:
        """The picture x, of spectrum x̄, with other values in some components of it."""
        self.x = torch.where(where, value, x_bar)
        return x + self.operator.V(self.x - x_bar)


def require_svd(operator: LinearOperator, method: str) -> SpectralOperator:
    """The operator, if it has an SVD.

    Raises:
        BadArgument: it has none.
    """
    if not isinstance(operator, SpectralOperator):
        raise BadArgument(
            f"{type(operator).__name__} has no SVD, which {method} needs; {', '.join(WITHOUT_SVD)} "
            "work without one"
        )
    return operator
