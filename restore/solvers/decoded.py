"""Measurements of pictures that a decoder makes of latents: what the solvers of latents share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain, identity
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.solvers.consistency import finished, of_pictures, picture_norms
from restore.solvers.guided import guided
from restore.solvers.misfit import misfit_gradient, residual_and_gradient

# Powers for the first estimate of `Stretch`, and the factor that makes up for their number.
POWERS = 8
MARGIN = 1.1

# Root mean square of the move of latents whose decoded difference stands for a derivative.
SHIFT = 0.01

# objective(z, pictures): a number to descend, differentiable; the pictures are decoded from z.
Objective = Callable[[Tensor, Tensor], Tensor]


class DecodedMeasurement:
    """A measurement ``y = A decode(z) + σ_y n`` of latents z.

    Args:
        autoencoder: The autoencoder of the latents.
        operator: A, a linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units; one number, [B], or a map of the measurement.
        least: Lowest `deviation`.

    Attributes:
        shape: Shape of the latents, [B, C, h, w].
        fraction: Numbers of a latent over those of a picture.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        operator: LinearOperator | NonlinearChain,
        measurement: Tensor,
        noise_level: Tensor | float,
        *,
        least: float = 1e-3,
    ) -> None:
        height, width = operator.input_shape[-2:]
        channels = autoencoder.channels
        self.autoencoder = autoencoder
        self.operator = operator
        self.least = least
        with torch.inference_mode(False):  # autograd may save what is no tensor of that mode
            self.measurement = measurement.clone()
            self.noise_level = (
                noise_level.clone() if isinstance(noise_level, Tensor) else noise_level
            )
        self.size = (height, width)
        self.shape = (len(measurement), channels, *autoencoder.latent_size(self.size))
        self.fraction = math.prod(self.shape[1:]) / math.prod(operator.input_shape)
        self._last: Tensor | None = None

    def begin(self, sigma: float, start: Tensor | None, generator: Generator) -> Tensor:
        """Return noise of a level, added to the latents of a picture [B or 1, *input_shape]."""
        z = sigma * gaussian_noise(self.shape, generator, self.measurement.device)
        if start is None:
            return z
        with torch.no_grad():
            return z + self.autoencoder.encode(start)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures of latents, without a graph."""
        with torch.no_grad():
            return self.autoencoder.decode(latents, self.size)

    def opened(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents as a leaf of autograd, and the pictures that depend on it.

        Called, and the pictures used, outside of inference mode with gradients enabled.
        """
        leaf = latents.detach().clone().requires_grad_()
        pictures = self.autoencoder.decode(leaf, self.size)
        self._last = pictures.detach()
        return leaf, pictures

    def preview(self, latents: Tensor) -> Tensor:
        """Return what is seen of the pictures that were decoded last, or else of latents."""
        if self._last is None:
            self._last = self.decode(latents)
        return self.operator.visible(self._last)

    def residual_and_gradient(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``A decode(z) − y`` and the gradient of ``½ ‖y − A decode(z)‖²`` at z."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf, pictures = self.opened(latents)
            residual, upstream = residual_and_gradient(
                self.operator, pictures.detach(), self.measurement
            )
            (gradient,) = torch.autograd.grad(pictures, leaf, upstream)

        return residual, gradient

    @cached_property
    def deviation(self) -> Tensor:
        """Standard deviation of what A decode(z) may miss of y, [B or 1, 1, 1, 1].

        That of the noise and of rounding, at least `least`.
        """
        noise = per_picture(of_pictures(self.noise_level), self.measurement)
        if isinstance(self.operator, NonlinearChain):
            rounding = self.operator.error(self.measurement)
            noise = noise.hypot(per_picture(rounding, self.measurement))
        return noise.clamp_min(self.least)

    def misfit(self, pictures: Tensor) -> Tensor:
        """Return a number with the derivatives of the misfit, times a length of latents.

        The derivative is that of ``N_z/√N ‖y − A x‖``, over the N numbers of a picture and the N_z
        of its latents: where a decoder keeps the root mean square, and A and the network do not
        stretch, its root mean square over the latents is at most 1.
        """
        known = pictures.detach()
        gradient = misfit_gradient(self.operator, known, self.measurement)
        return self.fraction * (gradient * pictures).sum()

    def squared_jacobian(self, latents: Tensor, direction: Tensor) -> Tensor:
        """Return ``(A J)ᵀ A J`` of a direction of length 1, with the decoder's Jacobian J.

        The product with J is a difference of two decoded pictures.
        """
        length = SHIFT * math.prod(self.shape[1:]) ** 0.5
        linear = self.operator
        if isinstance(linear, NonlinearChain):
            linear = identity(linear.input_shape) if linear.linear is None else linear.linear

        with torch.inference_mode(False), torch.enable_grad():
            leaf, pictures = self.opened(latents)
            moved = self.decode(leaf + length * direction) - pictures.detach()
            upstream = linear.At(linear.A(moved / length))
            (product,) = torch.autograd.grad(pictures, leaf, upstream)

        return product

    def finished(self, latents: Tensor) -> Tensor:
        """Decode, and project onto the measurement, see `consistency.finished`."""
        return finished(self.operator, self.decode(latents), self.measurement, self.noise_level)


class Stretch:
    """How far A and a decoder stretch latents at most, by powers of ``(A J)ᵀ A J``.

    J is the decoder's Jacobian at given latents. The direction that is stretched most is kept, so
    that later calls need one power.

    Args:
        decoded: The measurement, with the operator.
    """

    def __init__(self, decoded: DecodedMeasurement) -> None:
        self.decoded = decoded
        fixed = torch.Generator().manual_seed(0)
        device = decoded.measurement.device
        self._direction = gaussian_noise((1, *decoded.shape[1:]), fixed, device)
        self._powers = POWERS

    def squared(self, latents: Tensor) -> Tensor:
        """Return ``‖A J‖²`` at latents, [B, 1, 1, 1], above 0."""
        for _ in range(self._powers):
            direction = self._direction / picture_norms(self._direction)
            self._direction = self.decoded.squared_jacobian(latents, direction)
        self._powers = 1

        return MARGIN * picture_norms(self._direction)


def guided_latents(
    denoise: Denoise,
    decoded: DecodedMeasurement,
    objective: Objective,
    sigmas: Sequence[float],
    *,
    eta: float,
    generator: Generator,
    start: Tensor | None,
    callback: Callback | None,
) -> Tensor:
    """Take guided steps over latents, see `restore.solvers.guided`, and return pictures.

    Args:
        denoise: ``denoise(z, sigma, condition)`` of latents, differentiable.
        decoded: The measurement.
        objective: What is descended, at the clean latents and their pictures.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        eta: Fraction of fresh noise in the steps.
        generator: Random generator on the CPU, or one per picture.
        start: Picture whose latents the first noise is added to, if given.
        callback: Called with a `Step` after each network call, with decoded pictures.
    """
    pairs = falling_pairs(sigmas)

    def downhill(index: int, sigma: float, clean: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf, pictures = decoded.opened(clean)
            report(callback, index, len(pairs), sigma, decoded.preview(clean))
            (gradient,) = torch.autograd.grad(objective(leaf, pictures), leaf)
        return gradient

    first = decoded.begin(pairs[0][0], start, generator)
    z = guided(denoise, first, pairs, downhill, eta=eta, generator=generator)
    return decoded.finished(z)
