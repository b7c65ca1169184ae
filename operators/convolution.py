"""Convolution with any kernel, with a border that is stated."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from operators.banded_axes import along_axes
from operators.base import (
    RANK_TOLERANCE,
    IterativeOperator,
    LinearOperator,
    Shape,
    SpectralOperator,
    reciprocals,
    ridge_gains,
)
from operators.blur import BOUNDARIES, extension_weights
from operators.iterative import Map, conjugate_gradient
from operators.overlap_save import OverlapSave

Array = NDArray[np.float64]

# What lies beyond the border: as in `operators.BOUNDARIES`, or pixels that are sought like all
# others.
CONVOLUTION_BOUNDARIES = (*BOUNDARIES, "unknown")


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
        kernel = _checked(kernel, self.input_shape)
        transfer = _transfer_function(kernel, self.input_shape[1:])
        magnitudes = _significant(np.abs(transfer))
        phase = np.where(magnitudes > 0, transfer / np.where(magnitudes > 0, magnitudes, 1), 1)

        # The rest of the spectrum of a real picture follows by symmetry.
        half = self.input_shape[2] // 2 + 1
        self.register_buffer("magnitudes", _stored(magnitudes, dtype))
        self.register_buffer("transfer_pairs", _stored(_pairs(transfer[..., :half]), dtype))
        self.register_buffer("phase_pairs", _stored(_pairs(phase[..., :half]), dtype))

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
        return self._inverse_fourier(self._transfer() * _fourier(x))

    def At(self, y: Tensor) -> Tensor:
        return self._inverse_fourier(self._transfer().conj() * _fourier(y))

    def V(self, spectrum: Tensor) -> Tensor:
        return self._inverse_fourier(_from_hartley(spectrum))

    def Vt(self, x: Tensor) -> Tensor:
        return _to_hartley(_fourier(x), self.input_shape[2])

    def U(self, spectrum: Tensor) -> Tensor:
        return self._inverse_fourier(self._phase() * _from_hartley(spectrum))

    def Ut(self, y: Tensor) -> Tensor:
        return _to_hartley(self._phase().conj() * _fourier(y), self.input_shape[2])

    # The same as by the SVD, on half the spectrum and without its Hartley transforms.

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._inverted(y, reciprocals(self._half))

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        return self._inverted(y, ridge_gains(self._half, ratio))

    def _inverted(self, y: Tensor, gain: Tensor) -> Tensor:
        """Return ``V gain Uᵀ y`` for gains of half the spectrum."""
        return self._inverse_fourier(gain * self._phase().conj() * _fourier(y))

    @property
    def _half(self) -> Tensor:
        """Singular values of half the spectrum, one for all channels."""
        return self.magnitudes[..., : self.input_shape[2] // 2 + 1]

    def _transfer(self) -> Tensor:
        return torch.view_as_complex(self.transfer_pairs)

    def _phase(self) -> Tensor:
        return torch.view_as_complex(self.phase_pairs)

    def _inverse_fourier(self, half_spectrum: Tensor) -> Tensor:
        """Inverse of `_fourier`."""
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
        kernel = _checked(kernel, self.input_shape)
        if not _is_even(kernel):
            raise ValueError(
                "the symmetric boundary needs a kernel with odd sides that equals its mirror "
                "images; use boundary 'circular' or 'unknown' for this one"
            )

        _, height, width = self.input_shape
        rows = _cosines(height, kernel.shape[-2])
        columns = _cosines(width, kernel.shape[-1])
        eigenvalues = (rows @ kernel @ columns.T)[..., None, :, :]

        self.register_buffer("eigenvalues", _stored(eigenvalues, dtype))
        self.register_buffer("magnitudes", _stored(_significant(np.abs(eigenvalues)), dtype))
        self.register_buffer("signs", _stored(np.where(eigenvalues < 0, -1.0, 1.0), dtype))
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


class ValidConvolution(LinearOperator):
    """``y = k * x`` where the measurement ends before the border is touched: a real photograph.

    The picture x, called canvas, is larger than the measurement by the kernel's sides less one;
    what lies beyond the measurement's border is unknown and sought as well. A measured pixel
    depends on no pixel outside the canvas, so ``A`` is the inside of a circular convolution of the
    canvas, with ``measured`` saying where: ``circular.A(x) * measured == embed(A(x))``. `A` and
    `At` go block by block, see `operators.overlap_save`.

    >>> blur = ValidConvolution((3, 32, 32), np.full((5, 5), 1 / 25))
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
        kernel = _checked(kernel)
        height, width = kernel.shape[-2:]
        channels, rows, columns = output_shape
        super().__init__((channels, rows + height - 1, columns + width - 1), output_shape)
        self.kernel = kernel
        self._circular: CircularConvolution | None = None
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
        power = self.circular.transfer_pairs.square().sum(dim=-1)
        regularised = power + 1e-3 * power.amax(dim=(-2, -1), keepdim=True)

        def preconditioned(z: Tensor) -> Tensor:
            return self.crop(self.circular._inverse_fourier(_fourier(self.embed(z)) / regularised))

        z = conjugate_gradient(
            lambda z: self.A(self.At(z)),
            y,
            precondition=preconditioned,
            rtol=default if self.tolerance is None else self.tolerance,
            iterations=self.max_iterations,
        )

        return self.At(z)

    def _near_inverse(self, ratio: Tensor) -> Map:
        power = self.circular.transfer_pairs.square().sum(dim=-1) + ratio
        return lambda y: self.crop(self.circular._inverse_fourier(_fourier(self.embed(y)) / power))

    def ridge(
        self, y: Tensor, shift: Tensor, *, rtol: float, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Find the canvas x that minimises ``‖y − A x‖² + shift ‖x‖²``.

        That is ``x = Aᵀ λ`` with ``(A Aᵀ + shift) λ = y``, by conjugate gradients whose error in x
        falls at every iteration. The canvas beyond the measurement is known by faint equations
        alone; those of ``(AᵀA + shift) x = Aᵀ y`` square that faintness, and are solved hundreds of
        iterations later. The preconditioner is the inverse for the whole canvas.

        Args:
            y: [B, *output_shape].
            shift: positive, [B or 1, 1, 1, 1].
            rtol, iterations: As for `conjugate_gradient`.

        Returns:
            The canvas, and ``A x + shift λ``: y as far as its equations are solved.
        """
        multipliers = conjugate_gradient(
            lambda z: torch.addcmul(self.A(self.At(z)), shift, z),
            y,
            precondition=self._near_inverse(shift),
            rtol=rtol,
            iterations=iterations,
        )
        x = self.At(multipliers)

        return x, torch.addcmul(self.A(x), shift, multipliers)


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
        _checked(kernel, self.input_shape)
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


def convolution(
    shape: Shape,
    kernel: ArrayLike | Tensor,
    boundary: str = "circular",
    *,
    dtype: torch.dtype = torch.float32,
) -> CircularConvolution | SymmetricConvolution | PaddedConvolution | ValidConvolution:
    """Make the convolution whose measurement has this shape.

    It has an SVD with the boundary ``circular``, and with ``symmetric`` if the kernel is even along
    both axes. Only with ``unknown`` is the picture larger than the measurement; see
    `ValidConvolution`.

    >>> from operators import kernels
    >>> convolution((3, 32, 32), kernels.disk(3.0), "symmetric").has_svd
    True

    Args:
        shape: (C, H, W) of the measurement.
        kernel: ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        boundary: One of `CONVOLUTION_BOUNDARIES`.
        dtype: Type of the stored spectrum.

    Raises:
        ValueError: The boundary is unknown, or the kernel does not fit it or the picture.
    """
    if boundary == "circular":
        return CircularConvolution(shape, kernel, dtype=dtype)
    if boundary == "unknown":
        return ValidConvolution(shape, kernel, dtype=dtype)
    if boundary == "symmetric" and _is_even(_checked(kernel)):
        return SymmetricConvolution(shape, kernel, dtype=dtype)
    if boundary in CONVOLUTION_BOUNDARIES:
        return PaddedConvolution(shape, kernel, boundary, dtype=dtype)

    raise ValueError(
        f"unknown boundary {boundary!r}; known are {', '.join(CONVOLUTION_BOUNDARIES)}"
    )


class CosineTransform(nn.Module):
    """Orthonormal DCT-II of pictures of any size, by one Fourier transform of that size.

    J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE TASSP 28(1), 1980. one
    axis of n, with ``v = (x0, x2, x4, …, x5, x3, x1)`` and ``w_k = √2 exp(−iπk/2n)`` (but
    ``w_0 = 1``), the transform is ``X_k − i X_{n−k} = w_k (F v)_k`` with ``X_n = 0``. Along both, F
    is taken of both at once.

    >>> transform = CosineTransform(4, 6)
    >>> round(float(transform(torch.ones(1, 1, 4, 6))[0, 0, 0, 0]), 4)  # √24
    4.899

    Args:
        height: Height of the pictures in pixels.
        width: Width of the pictures in pixels.
        dtype: Type of the stored factors.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.size = height, width
        self.register_buffer("rows", _stored(_twiddles(height, height)[:, None], dtype))
        self.register_buffer("columns", _stored(_twiddles(width, width // 2 + 1), dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``[…, H, W]`` to ``[…, H, W]``."""
        rows = torch.view_as_complex(self.rows)
        columns = torch.view_as_complex(self.columns)
        v = _evens_then_odds(_evens_then_odds(x, -1), -2)
        here = _fourier(v) * columns
        there = here.flip(-2).roll(1, -2).conj()
        left = (rows * (here + there) / 2).real
        right = (rows * (here - there) / 2).imag[..., 1 : (self.size[1] + 1) // 2]

        return torch.cat([left, -right.flip(-1)], dim=-1)

    def inverse(self, transform: Tensor) -> Tensor:
        """Apply the inverse of the transform, which is its transpose: ``[…, H, W]``."""
        rows = torch.view_as_complex(self.rows)
        columns = torch.view_as_complex(self.columns)
        half = columns.shape[-1]
        mirrored = F.pad(transform.flip(-1), (1, 0))[..., :half]  # X_{n−k}, with X_n = 0

        here = torch.complex(transform[..., :half].contiguous(), -mirrored)
        there = F.pad(here.flip(-2), (0, 0, 1, 0))[..., :-1, :]
        spectrum = (here - 1j * there) / rows / columns

        v = torch.fft.irfft2(spectrum, s=self.size, norm="ortho")
        return _interleaved(_interleaved(v, -2), -1)


def _twiddles(size: int, count: int) -> Array:
    """``w_k`` as pairs of real and imaginary parts, ``[count, 2]``."""
    k = np.arange(count)
    angle = math.pi * k / (2 * size)
    scale = np.where(k == 0, 1.0, math.sqrt(2))
    return np.stack([scale * np.cos(angle), -scale * np.sin(angle)], axis=-1)


def _evens_then_odds(x: Tensor, axis: int) -> Tensor:
    """``(x0, x2, x4, …, x5, x3, x1)`` along an axis."""
    along = x.movedim(axis, 0)
    return torch.cat([along[::2].movedim(0, axis), along[1::2].flip(0).movedim(0, axis)], dim=axis)


def _interleaved(v: Tensor, axis: int) -> Tensor:
    """Inverse of `_evens_then_odds`."""
    count = v.shape[axis]
    evens, odds = v.split([count - count // 2, count // 2], dim=axis)
    x = torch.empty_like(v)
    x.movedim(axis, 0)[::2] = evens.movedim(axis, 0)
    x.movedim(axis, 0)[1::2] = odds.flip(axis).movedim(axis, 0)
    return x


def _fourier(x: Tensor) -> Tensor:
    """Half the spectrum of a real picture, columns 0 … W // 2; the others are its conjugates."""
    spectrum: Tensor = torch.fft.rfft2(x, norm="ortho")
    return spectrum


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


def _checked(kernel: ArrayLike | Tensor, shape: Shape | None = None) -> Array:
    """Return the kernel in float64; with a picture's shape, only if it is not larger."""
    if isinstance(kernel, Tensor):
        kernel = kernel.detach().cpu().double().numpy()

    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim not in (2, 3) or kernel.size == 0:
        raise ValueError(
            f"a kernel must be [h, w], or [B, h, w] for one per picture, not {kernel.shape}"
        )
    if not np.isfinite(kernel).all() or not kernel.any(axis=(-2, -1)).all():
        raise ValueError("a kernel must be finite and not all zero")
    if shape is not None and (kernel.shape[-2] > shape[1] or kernel.shape[-1] > shape[2]):
        raise ValueError(
            f"the kernel ({kernel.shape[-2]}x{kernel.shape[-1]}, height x width) is larger than "
            f"the picture ({shape[1]}x{shape[2]})"
        )

    return kernel


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


def _is_even(kernel: Array) -> bool:
    """Return True if a kernel has odd sides and equals its mirror images."""
    odd = kernel.shape[-2] % 2 == kernel.shape[-1] % 2 == 1
    allowed = 1e-6 * np.abs(kernel).max(axis=(-2, -1), keepdims=True)
    return odd and all(
        (np.abs(kernel - np.flip(kernel, axis)) <= allowed).all() for axis in (-2, -1)
    )


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


def _stored(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
