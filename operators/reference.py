"""The degradations of DDRM's published code, as they are there, to compare with published figures.

Kawar et al., "Denoising Diffusion Restoration Models", arXiv 2201.11793; the facts are those of its
repository (bahjat-kawar/ddrm, functions/svd_replacement.py and runners/diffusion.py, as of 2022).
DDNM, RED-diff and others took them over. They are not what their names say:

- A blur loses the last tap of its kernel. "Uniform 9×9" is 8 × 8 taps of 1/9, gain 0.79; "Gaussian
  5×5" is 4 × 4 taps of a nearly flat kernel (σ = 10 pixels), gain 0.64; both shift the picture by
  half a pixel. Beyond the border is 0.
- Singular values of one axis below 0.03 are set to zero, in the blurs and in bicubic downsampling.
  The degradation itself is computed from the decomposition, so that it is cut as well.
- In the blurs, singular values meet the wrong components. With both counted in falling order,
  component i of colour c has the gain of component ``(3 i + c) mod H·W``: ``repeat`` stands where
  downsampling has ``repeat_interleave``. So the measurement is a blurred picture in the first
  third of the components, and the next two thirds start again at full strength. This is almost
  certainly a slip, and optional here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.axes import AxesOperator
from operators.base import Shape, SpectralOperator
from operators.blur import blur_matrix
from operators.mask import Mask
from operators.resample import cubic

Array = NDArray[np.float64]

# Singular values of one axis below this are zero in the blurs and in bicubic downsampling.
CUT = 3e-2

# What each name stands for; R and FRACTION are parameters.
REFERENCE_NAMES = {
    "deblur_uni": "9 taps of 1/9 along both axes, less the last",
    "deblur_gauss": "5 taps of a Gaussian with σ = 10 along both axes, less the last",
    "deblur_aniso": "9 taps, less the last: σ = 1 along the height and σ = 20 along the width",
    "sr_averagepooling:R": "mean over R × R pixels",
    "sr_bicubic:R": "bicubic kernel of 4 R taps at every R-th pixel, border mirrored",
    "inp_random:FRACTION": "this fraction of the pixels unknown, as in inp_random:0.5",
    "color": "grey as 0.3333 R + 0.3334 G + 0.3333 B",
    "denoise": "the picture itself",
}


def ddrm_reference(
    name: str,
    input_shape: Shape,
    *,
    cut: bool = True,
    mixed_spectrum: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> SpectralOperator:
    """Make a degradation of DDRM's published code for pictures of any shape, without its noise.

    >>> ddrm_reference("sr_bicubic:4", (3, 64, 64)).output_shape
    (3, 16, 16)

    Args:
        name: One of `REFERENCE_NAMES`.
        input_shape: (C, H, W). The published code has square pictures of 3 channels.
        cut: True to set singular values of one axis below 0.03 to zero, as published (blurs and
            bicubic downsampling).
        mixed_spectrum: True to let the blurs give their singular values to other components than
            their own, as published. Components of equal singular value (those of a square picture
            that mirror each other, and all that were cut) come in an order that the published code
            leaves to the device, and here in that of their index.
        seed: Random seed for the unknown pixels of ``inp_random``. The published ones depend on
            what was drawn before them.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: The name is unknown, a parameter is missing or out of range, or the shape does
            not fit it.
    """
    kind, _, parameter = name.partition(":")
    if kind in _BLURS and not parameter:
        rows, columns = (
            _blur(size, taps, cut) for size, taps in zip(input_shape[1:], _BLURS[kind], strict=True)
        )
        blur = AxesOperator(input_shape, None, rows, columns, dtype=dtype)
        return MixedSpectrum(blur) if mixed_spectrum else blur

    if kind in ("sr_averagepooling", "sr_bicubic"):
        factor = _factor(name, parameter, input_shape)
        build = _mean if kind == "sr_averagepooling" else _bicubic
        rows, columns = (build(size, factor, cut) for size in input_shape[1:])
        return AxesOperator(input_shape, None, rows, columns, dtype=dtype)

    if kind == "inp_random":
        known = _random_pixels(input_shape, _share(name, parameter), seed)
        return Mask(input_shape, known, dtype=dtype)

    if name == "color":
        if input_shape[0] != 3:
            raise ValueError(f"color takes pictures of 3 channels, not {input_shape[0]}")
        return AxesOperator(input_shape, np.array([[0.3333, 0.3334, 0.3333]]), dtype=dtype)

    if name == "denoise":
        return AxesOperator(input_shape, dtype=dtype)

    raise ValueError(f"unknown degradation {name!r}; known are {', '.join(REFERENCE_NAMES)}")


class MixedSpectrum(SpectralOperator):
    """An axes operator whose components carry one another's singular values; see the module.

    It is no longer a product of matrices along the axes, and composes like any other operator.

    Args:
        axes: The operator with its own singular values.
    """

    def __init__(self, axes: AxesOperator) -> None:
        super().__init__(axes.input_shape, axes.output_shape)
        self.axes = axes
        self.register_buffer("singular_values", _mix(axes.singular_values))

    def V(self, spectrum: Tensor) -> Tensor:
        return self.axes.V(spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self.axes.Vt(x)

    def U(self, spectrum: Tensor) -> Tensor:
        return self.axes.U(spectrum)

    def Ut(self, y: Tensor) -> Tensor:
        return self.axes.Ut(y)


def _mix(singular_values: Tensor) -> Tensor:
    """Give component i of colour c the value of component ``(3 i + c) mod H·W``, both falling."""
    channels = len(singular_values)
    components = singular_values[0].numel()
    falling, order = singular_values[0].flatten().sort(descending=True, stable=True)
    entries = torch.arange(channels * components) % components

    mixed = torch.empty(channels, components, dtype=falling.dtype)
    mixed[:, order] = falling[entries].reshape(components, channels).mT
    return mixed.reshape(singular_values.shape)


def _gaussian(sigma: float, radius: int) -> Array:
    density = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps: Array = density / density.sum()
    return taps


# Taps along the height and along the width.
_BLURS: dict[str, tuple[Array, Array]] = {
    "deblur_uni": (np.full(9, 1 / 9), np.full(9, 1 / 9)),
    "deblur_gauss": (_gaussian(10, 2), _gaussian(10, 2)),
    "deblur_aniso": (_gaussian(1, 4), _gaussian(20, 4)),
}


def _blur(size: int, taps: Sequence[float] | Array, cut: bool) -> Array:
    """Make the matrix with rows ``Σ_k taps[k] x[i − radius + k]`` without the last tap.

    That is a correlation, so the taps are reversed.
    """
    kept = np.array(taps)
    kept[-1] = 0
    return _without_small_values(blur_matrix(size, kept[::-1], "zero"), cut)


def _mean(size: int, factor: int, cut: bool) -> Array:
    return np.kron(np.eye(size // factor), np.full((1, factor), 1 / factor))


def _bicubic(size: int, factor: int, cut: bool) -> Array:
    """Make the matrix whose row i has its kernel before pixel ``factor i + factor // 2``.

    That is the centre of a block of even length; the border is mirrored.
    """
    taps = cubic((np.arange(4 * factor) - 2 * factor + 0.5) / factor)
    matrix = np.zeros((size // factor, size))
    for row in range(size // factor):
        for k, tap in enumerate(taps / taps.sum()):
            column = factor * row + factor // 2 - 2 * factor + k
            mirrored = min(column, 2 * size - 1 - column) if column >= 0 else -column - 1
            matrix[row, mirrored] += tap

    return _without_small_values(matrix, cut)


def _without_small_values(matrix: Array, cut: bool) -> Array:
    if not cut:
        return matrix

    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s[s < CUT] = 0
    product: Array = (u * s) @ vt
    return product


def _random_pixels(input_shape: Shape, fraction: float, seed: int) -> Tensor:
    """Draw a map in which exactly this fraction of the pixels, rounded down, is unknown."""
    _, height, width = input_shape
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed))
    known = torch.ones(height * width, dtype=torch.float32)
    known[order[: int(fraction * height * width)]] = 0
    return known.reshape(height, width)


def _factor(name: str, parameter: str, input_shape: Shape) -> int:
    if not parameter.isdecimal() or int(parameter) < 1:
        raise ValueError(
            f"{name!r} needs a whole factor of at least 1, as in {name.partition(':')[0]}:4"
        )

    factor = int(parameter)
    _, height, width = input_shape
    if height % factor or width % factor:
        raise ValueError(
            f"{name!r} takes sides that are multiples of {factor}, not {height}x{width} (height x "
            "width)"
        )
    if name.startswith("sr_bicubic") and min(height, width) < 2 * factor:
        raise ValueError(
            f"{name!r} takes sides of at least {2 * factor}, not {height}x{width} (height x width)"
        )

    return factor


def _share(name: str, parameter: str) -> float:
    try:
        fraction = float(parameter)
    except ValueError:
        fraction = float("nan")

    if not 0 <= fraction < 1:
        raise ValueError(
            f"{name!r} needs the fraction of unknown pixels, from 0 to below 1, as in "
            "inp_random:0.5"
        )

    return fraction
