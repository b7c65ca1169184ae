"""Convolution whose border repeats or mirrors the picture, so that a transform diagonalises it."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from operators.base import RANK_TOLERANCE, Shape, SpectralOperator, reciprocals, ridge_gains
from operators.cosine_transform import CosineTransform
from operators.spectra import Array, checked_kernel, fourier, is_even, stored


class CircularConvolution(SpectralOperator):
    """``y = k * x`` for any kernel, where the picture repeats beyond its border.

    ``y[i] = Σ_n k[n] x[i + size // 2 − n]`` along each axis: the kernel is centred at ``size //
    2``, as in ``scipy.ndimage.convolve`` (mode ``wrap``) and `operators.blur_matrix`.

    The Fourier transform F diagonalises it, ``A = F⁻¹ λ F``. Its real singular value decomposition
    has the orthonormal discrete Hartley transform (Bracewell 1983) as V, ``V = Vᵀ = V⁻¹: x ↦ Re F x
    − Im F x``, the magnitudes ``|λ|`` as singular values and ``U = F⁻¹ (λ/|λ|) F V``. `A` and `At`
    apply λ as it is; in the decomposition singular values below `RANK_TOLERANCE` of the largest are
    0.

    >>> from operators import kernels
    >>> blur = CircularConvolution((3, 32, 32), kernels.motion(7, angle=30))
    >>> blur.A(torch.rand(1, 3, 32, 32)).shape, blur.has_svd
    (torch.Size([1, 3, 32, 32]), True)

    Args:
        input_shape: (C, H, W) of the picture; every channel is convolved with the same kernel.
        kernel: ``[h, w]`` (see `operators.kernels`), or ``[B, h, w]`` with one kernel per picture
            of a batch.
        dtype: Type of the stored spectrum. It is computed in float64 whatever it is.

    Raises:
        ValueError: The kernel has another shape, is not finite, is all zero, or is larger than the
            picture.
    """

    magnitudes: Tensor
    transfer_pairs: Tensor
    phase_pairs: Tensor

    def __init__(
        self, input_shape: Shape, kernel: ArrayLike | Tensor, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(input_shape, input_shape)
        kernel = checked_kernel(kernel, self.input_shape)
        transfer = _transfer_function(kernel, self.input_shape[1:])
        magnitudes = _significant(np.abs(transfer))
        phase = np.where(magnitudes > 0, transfer / np.where(magnitudes > 0, magnitudes, 1), 1)

        # The rest of the spectrum of a real picture follows by symmetry.
        half = self.input_shape[2] // 2 + 1
        self.register_buffer("magnitudes", stored(magnitudes, dtype))
        self.register_buffer("transfer_pairs", stored(_pairs(transfer[..., :half]), dtype))
        self.register_buffer("phase_pairs", stored(_pairs(phase[..., :half]), dtype))

    def of_channels(self, count: int) -> CircularConvolution:
        """Return the same convolution for another number of channels; they share memory."""
        other = copy.copy(self)
        other.input_shape = other.output_shape = (count, *self.input_shape[1:])
        return other

    @property
    def singular_values(self) -> Tensor:
        """``[C, H, W]`` or ``[B, C, H, W]``; the channels share memory."""
        return _over_channels(self.magnitudes, self.input_shape)

    def A(self, x: Tensor) -> Tensor:
        return self._inverse_fourier(self._transfer() * fourier(x))

    def At(self, y: Tensor) -> Tensor:
        return self._inverse_fourier(self._transfer().conj() * fourier(y))

    def V(self, spectrum: Tensor) -> Tensor:
        return self._inverse_fourier(_from_hartley(spectrum))

    def Vt(self, x: Tensor) -> Tensor:
        return _to_hartley(fourier(x), self.input_shape[2])

    def U(self, spectrum: Tensor) -> Tensor:
        return self._inverse_fourier(self._phase() * _from_hartley(spectrum))

    def Ut(self, y: Tensor) -> Tensor:
        return _to_hartley(self._phase().conj() * fourier(y), self.input_shape[2])

    # The same as by the SVD, on half the spectrum and without its Hartley transforms.

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._inverted(y, reciprocals(self._half))

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        return self._inverted(y, ridge_gains(self._half, ratio))

    def _inverted(self, y: Tensor, gain: Tensor) -> Tensor:
        """Return ``V gain Uᵀ y`` for gains of half the spectrum."""
        return self._inverse_fourier(gain * self._phase().conj() * fourier(y))

    @property
    def _half(self) -> Tensor:
        """Singular values of half the spectrum, one for all channels."""
        return self.magnitudes[..., : self.input_shape[2] // 2 + 1]

    def _transfer(self) -> Tensor:
        return torch.view_as_complex(self.transfer_pairs)

    def _phase(self) -> Tensor:
        return torch.view_as_complex(self.phase_pairs)

    def _inverse_fourier(self, half_spectrum: Tensor) -> Tensor:
        """Inverse of `operators.spectra.fourier`."""
        x: Tensor = torch.fft.irfft2(half_spectrum, s=self.input_shape[1:], norm="ortho")
        return x


class SymmetricConvolution(SpectralOperator):
    """``y = k * x`` for kernels that are even along both axes, where the border is a mirror.

    The mirror lies on the border, so the outermost pixel is repeated (scipy.ndimage's ``reflect``).
    The orthonormal cosine transform DCT-II diagonalises it (Ng, Chan, Tang 1999, "A fast algorithm
    for deblurring models with Neumann boundary conditions"): it is V, the magnitudes of the
    eigenvalues are the singular values, and U is V with their signs. As in `CircularConvolution`,
    `A` and `At` are exact, while in the decomposition singular values below `RANK_TOLERANCE` of the
    largest are 0.

    >>> from operators import kernels
    >>> blur = SymmetricConvolution((1, 9, 9), kernels.disk(2.0))
    >>> torch.allclose(blur.A(torch.ones(1, 1, 9, 9)), torch.ones(1, 1, 9, 9), atol=1e-5)
    True

    Args:
        input_shape: (C, H, W) of the picture; every channel is convolved with the same kernel.
        kernel: ``[h, w]`` or ``[B, h, w]``, with odd sides, equal to its mirror images (to 10⁻⁶ of
            the largest tap).
        dtype: Type of the stored spectrum. It is computed in float64 whatever it is.

    Raises:
        ValueError: The kernel is not even, or see `CircularConvolution`.
    """

    eigenvalues: Tensor
    magnitudes: Tensor
    signs: Tensor

    def __init__(
        self, input_shape: Shape, kernel: ArrayLike | Tensor, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(input_shape, input_shape)
        kernel = checked_kernel(kernel, self.input_shape)
        if not is_even(kernel):
            raise ValueError(
                "the symmetric boundary needs a kernel with odd sides that equals its mirror "
                "images; use boundary 'circular' or 'unknown' for this one"
            )

        _, height, width = self.input_shape
        rows = _cosines(height, kernel.shape[-2])
        columns = _cosines(width, kernel.shape[-1])
        eigenvalues = (rows @ kernel @ columns.T)[..., None, :, :]

        self.register_buffer("eigenvalues", stored(eigenvalues, dtype))
        self.register_buffer("magnitudes", stored(_significant(np.abs(eigenvalues)), dtype))
        self.register_buffer("signs", stored(np.where(eigenvalues < 0, -1.0, 1.0), dtype))
        self.transform = CosineTransform(height, width, dtype=dtype)

    @property
    def singular_values(self) -> Tensor:
        """``[C, H, W]`` or ``[B, C, H, W]``; the channels share memory."""
        return _over_channels(self.magnitudes, self.input_shape)

    def A(self, x: Tensor) -> Tensor:
        return self.V(self.eigenvalues * self.Vt(x))

    def At(self, y: Tensor) -> Tensor:
        return self.A(y)

    def V(self, spectrum: Tensor) -> Tensor:
        return self.transform.inverse(spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self.transform.forward(x)

    def U(self, spectrum: Tensor) -> Tensor:
        return self.V(self.signs * spectrum)

    def Ut(self, y: Tensor) -> Tensor:
        return self.signs * self.Vt(y)


def _to_hartley(half_spectrum: Tensor, width: int) -> Tensor:
    """``Re − Im`` of the whole spectrum, of which half is given."""
    real = half_spectrum.real
    imag = half_spectrum.imag
    conjugates = (real + imag)[..., 1 : (width + 1) // 2]
    return torch.cat([real - imag, conjugates.flip(-2, -1).roll(1, -2)], dim=-1)


def _from_hartley(spectrum: Tensor) -> Tensor:
    """Inverse of `_to_hartley`."""
    half = spectrum.shape[-1] // 2 + 1
    opposite = spectrum.flip(-2, -1).roll((1, 1), (-2, -1))[..., :half]
    spectrum = spectrum[..., :half]
    return torch.complex(0.5 * (spectrum + opposite), 0.5 * (opposite - spectrum))


def _transfer_function(kernel: Array, size: tuple[int, int]) -> NDArray[np.complex128]:
    """λ ``[…, 1, H, W]``: the Fourier transform of the kernel with its centre at (0, 0)."""
    height, width = kernel.shape[-2:]
    padded = np.zeros((*kernel.shape[:-2], 1, *size))
    padded[..., 0, :height, :width] = kernel
    spectrum = np.fft.fft2(np.roll(padded, (-(height // 2), -(width // 2)), (-2, -1)))
    opposite = np.roll(np.flip(spectrum, (-2, -1)), (1, 1), (-2, -1))

    # The kernel is real: the spectrum is made symmetric beyond rounding, so that U is isometric.
    transfer: NDArray[np.complex128] = (spectrum + opposite.conj()) / 2
    return transfer


def _cosines(size: int, taps: int) -> Array:
    """``cos(π u j / size)`` for the frequencies u and the taps' distances j from the centre."""
    angles = math.pi / size * np.outer(np.arange(size), np.arange(taps) - taps // 2)
    return np.asarray(np.cos(angles), dtype=np.float64)


def _pairs(values: NDArray[np.complex128]) -> Array:
    """Pairs of real numbers, since ``.to(dtype)`` drops the imaginary part of complex buffers."""
    return np.stack([values.real, values.imag], axis=-1)


def _significant(magnitudes: Array) -> Array:
    """Set magnitudes below `RANK_TOLERANCE` of the largest to zero."""
    largest = magnitudes.max(axis=(-2, -1), keepdims=True)
    return np.where(magnitudes < RANK_TOLERANCE * largest, 0.0, magnitudes)


def _over_channels(values: Tensor, shape: Shape) -> Tensor:
    return values.expand(*values.shape[:-3], *shape)
