"""Convolution whose border is unknown, or continued by a rule."""

from __future__ import annotations

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from operators.banded_axes import along_axes
from operators.base import (
    LEAST_RATIO,
    IterativeOperator,
    LinearOperator,
    Shape,
)
from operators.blur import extension_weights
from operators.iterative import Map, conjugate_gradient
from operators.overlap_save import OverlapSave
from operators.spectra import Array, checked_kernel, stored
from operators.spectral_convolution import CircularConvolution

# Conjugate gradients end at a step of this fraction of the way, or after so many. With noise of
# 0.01, for pixels in [0, 1], that takes 3 to 6, and more bring DiffPIR and DPIR less than 0.05 dB
# (Gaussian, disk and motion); with 0.002 it takes about ten. A clean white page needs 50 not to
# get a frame.
RIDGE_GAIN = 0.05
RIDGE_ITERATIONS = 50


class ValidConvolution(LinearOperator):
    """``y = k * x`` where the measurement ends before the border is touched: a real photograph.

    The picture x, called canvas, is larger than the measurement by the kernel's sides less one;
    what lies beyond the measurement's border is unknown and sought as well. A measured pixel
    depends on no pixel outside the canvas, so ``A`` is the inside of a circular convolution of the
    canvas, with ``measured`` saying where: ``circular.A(x) * measured == embed(A(x))``. `A` and
    `At` go block by block, see `operators.overlap_save`.

    >>> blur = ValidConvolution((3, 32, 32), torch.full((5, 5), 1 / 25))
    >>> blur.input_shape
    (3, 36, 36)

    Args:
        output_shape: (C, H, W) of the measurement.
        kernel: ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        tolerance: `pseudo_inverse` ends where ``‖A x − y‖ ≤ tolerance ‖y‖`` for every picture. None
            is 10⁻⁵ in float32 and 10⁻¹² in float64.
        max_iterations: Largest number of iterations of `pseudo_inverse`.
        dtype: Type of the stored spectrum.

    Raises:
        ValueError: The kernel has another shape, is not finite, or is all zero.
    """

    channelwise = True

    def __init__(
        self,
        output_shape: Shape,
        kernel: ArrayLike | Tensor,
        *,
        tolerance: float | None = None,
        max_iterations: int = 300,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        kernel = checked_kernel(kernel)
        height, width = kernel.shape[-2:]
        channels, rows, columns = output_shape
        super().__init__((channels, rows + height - 1, columns + width - 1), output_shape)
        self.kernel = kernel
        self._circular: CircularConvolution | None = None
        self._gram: Gram | None = None
        self.blocks = OverlapSave(kernel, self.input_shape[1:], dtype=dtype)
        # Top, bottom, left, right.
        self.margins = (height - 1) // 2, height // 2, (width - 1) // 2, width // 2
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    @property
    def circular(self) -> CircularConvolution:
        """Convolution of the whole canvas, made at first use; its SVD fills in the unknown."""
        if self._circular is None:
            place = self.blocks.pairs
            with torch.inference_mode(False):  # what stays must be usable outside of it
                circular = CircularConvolution(self.input_shape, self.kernel, dtype=place.dtype)
                self._circular = circular.to(place.device)
        return self._circular

    @property
    def gram(self) -> Gram:
        """``A Aᵀ``, made at first use."""
        if self._gram is None:
            place = self.blocks.pairs
            with torch.inference_mode(False):  # as above
                size = (self.output_shape[1], self.output_shape[2])
                gram = Gram(self.kernel, size, dtype=place.dtype)
                self._gram = gram.to(place.device)
        return self._gram

    @property
    def measured(self) -> Tensor:
        """Map ``[1, 1, H + h − 1, W + w − 1]``, True where the convolution is measured."""
        device = self.blocks.pairs.device
        inside = torch.ones(1, 1, *self.output_shape[1:], dtype=torch.bool, device=device)
        return self.embed(inside)

    def A(self, x: Tensor) -> Tensor:
        return self.blocks.forward(x)

    def At(self, y: Tensor) -> Tensor:
        return self.blocks.adjoint(y)

    def visible(self, x: Tensor) -> Tensor:
        return self.crop(x)

    def crop(self, x: Tensor) -> Tensor:
        """Return the inside of a canvas, ``[…, H + h − 1, W + w − 1]`` to ``[…, H, W]``."""
        top, bottom, left, right = self.margins
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    def embed(self, y: Tensor) -> Tensor:
        """Put zeros around a measurement: the transpose of `crop`."""
        top, bottom, left, right = self.margins
        return F.pad(y, (left, right, top, bottom))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Return the smallest canvas that explains the measurement, by Craig's method.

        That is conjugate gradients on ``A Aᵀ``, which is the inside of a circular
        convolution, preconditioned by the regularised inverse of that. Each picture has its own
        steps and stops on its own, all after ``max_iterations`` at the latest: with kernels that
        wipe out frequencies the residual may then still be larger than ``tolerance``. Noise in y is
        amplified as by every inverse.
        """
        default = 1e-12 if y.dtype == torch.float64 else 1e-5
        power = self.gram.power
        regularised = power + 1e-3 * power.amax(dim=(-2, -1), keepdim=True)

        z = conjugate_gradient(
            lambda z: self.gram(z, power),
            y,
            precondition=lambda z: self.gram(z, 1 / regularised),
            rtol=default if self.tolerance is None else self.tolerance,
            iterations=self.max_iterations,
        )

        return self.At(z)

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        return self.At(self.multipliers(y, ratio))

    def _near_inverse(self, ratio: Tensor) -> Map:
        return lambda y: self.gram(y, 1 / (self.gram.power + ratio))

    def multipliers(self, y: Tensor, ratio: Tensor) -> Tensor:
        """Solve ``(A Aᵀ + ratio) λ = y``; ``Aᵀ λ`` minimises ``‖y − A x‖² + ratio ‖x‖²``.

        The error in x falls at every iteration of conjugate gradients. The canvas beyond the
        measurement is known by faint equations alone; those of ``(AᵀA + ratio) x = Aᵀ y`` square
        that faintness, and are solved hundreds of iterations later. The preconditioner is the
        inverse for the whole canvas.

        Args:
            y: [B, *output_shape].
            ratio: [B or 1, 1, 1, 1], above 0.

        Returns:
            λ, [B, *output_shape].
        """
        power = self._regularised_power(ratio)
        inverse = 1 / power

        return conjugate_gradient(
            lambda z: self.gram(z, power),
            y,
            precondition=lambda z: self.gram(z, inverse),
            rtol=0.0,
            gain=RIDGE_GAIN,
            iterations=RIDGE_ITERATIONS,
        )

    def explained(self, multipliers: Tensor, ratio: Tensor) -> Tensor:
        """Return ``(A Aᵀ + ratio) λ``: y as far as its equations are solved."""
        solved: Tensor = self.gram(multipliers, self._regularised_power(ratio))
        return solved

    def _regularised_power(self, ratio: Tensor) -> Tensor:
        return self.gram.power + ratio.clamp_min(LEAST_RATIO)


class Gram(nn.Module):
    """``A Aᵀ`` of a `ValidConvolution`, and maps near its inverse.

    ``A Aᵀ`` is the inside of a convolution with the kernel's autocorrelation, so that one transform
    of a torus, where this does not reach round, takes the place of two convolutions.

    Attributes:
        power: |λ|², half of the spectrum of the autocorrelation, ``[1, H', W' // 2 + 1]``, or with
            a batch of kernels ``[B, 1, H', W' // 2 + 1]``.

    Args:
        kernel: float64 ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        size: (height, width) of the measurement.
        dtype: Type of the stored spectrum.
    """

    power: Tensor

    def __init__(self, kernel: Array, size: tuple[int, int], *, dtype: torch.dtype) -> None:
        super().__init__()
        self.size = size
        self.sides = tuple(
            int(scipy.fft.next_fast_len(n + taps - 1, real=True))
            for n, taps in zip(size, kernel.shape[-2:], strict=True)
        )
        spectrum = np.fft.rfft2(kernel, s=self.sides)[..., None, :, :]
        self.register_buffer("power", stored(np.abs(spectrum) ** 2, dtype))

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        """Multiply the spectrum of measurements ``[B, C, H, W]`` by a gain of the form of `power`.

        With ``power`` as the gain it is ``A Aᵀ y``, with ``power + c`` it is ``A Aᵀ y + c y``.
        """
        height, width = self.size
        spectrum = torch.fft.rfft2(y, s=self.sides)
        around: Tensor = torch.fft.irfft2(spectrum * gain, s=self.sides)
        return around[..., :height, :width]


class PaddedConvolution(IterativeOperator):
    """``y = k * x`` with any kernel and any of `operators.BOUNDARIES`; it has no SVD.

    The picture is continued by half the kernel's size as the boundary says, a linear map along each
    axis, and the inside of its convolution is kept.

    >>> from operators import kernels
    >>> blur = PaddedConvolution((3, 32, 32), kernels.motion(7, angle=30), "replicate")
    >>> blur.A(torch.rand(1, 3, 32, 32)).shape, blur.has_svd
    (torch.Size([1, 3, 32, 32]), False)

    Args:
        input_shape: (C, H, W) of the picture.
        kernel: ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch; not larger than
            the picture.
        boundary: What lies beyond the border, one of `operators.BOUNDARIES`.
        dtype: Type of the stored spectrum and matrices.

    Raises:
        ValueError: The boundary is unknown, or see `CircularConvolution`.
    """

    def __init__(
        self,
        input_shape: Shape,
        kernel: ArrayLike | Tensor,
        boundary: str,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(input_shape, input_shape)
        checked_kernel(kernel, self.input_shape)
        self.inside = ValidConvolution(self.output_shape, kernel, dtype=dtype)
        top, bottom, left, right = self.inside.margins
        _, height, width = self.input_shape
        rows = extension_weights(height, top, bottom, boundary)
        columns = extension_weights(width, left, right, boundary)
        self.extend = along_axes(self.input_shape, None, rows, columns, dtype=dtype)

    def A(self, x: Tensor) -> Tensor:
        return self.inside.A(self.extend.A(x))

    def At(self, y: Tensor) -> Tensor:
        return self.extend.At(self.inside.At(y))

    def _near_inverse(self, ratio: Tensor) -> Map:
        return self.inside._near_inverse(ratio)
