"""The error that a JPEG's quantisation tables imply, which no look at its pixels shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restore.photo.stored import DCT

Array = NDArray[np.float64]

# RGB → Y, Cb, Cr (ITU-T T.871, JFIF), without the offset of 128.
LUMA = (0.299, 0.587, 0.114)
_TO_YCC = np.array([LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)])
# Mean square over R, G and B of a unit error in Y, Cb and Cr.
_YCC_GAIN = (1.0, (0.344136**2 + 1.772**2) / 3, (1.402**2 + 0.714136**2) / 3)
# Blocks of 8x8 that are looked at, evenly over the picture.
_BLOCKS = 16384
# Variance of the rounding of a number to a whole one.
_WHOLE = 1 / 12
# Ids of the components of a JPEG that holds R, G and B, and Adobe's mark of such a file.
_RGB_IDS = [ord(letter) for letter in "RGB"]
_UNTRANSFORMED = 0


class Rounding(NamedTuple):
    """What the rounding of a lossy file may have done to its pixels.

    Attributes:
        error: Expected standard deviation of the error, for pixels in [0, 1]; 0 if unknown.
        in_band: The same for white noise that is as strong as the error where the error is. Blurred
            pictures have neither content nor error at high frequencies, and an inverse of the blur
            amplifies what lies below: ``√(Σ D²/Σ D)`` for the variances D of all frequencies.
        grey_within: Largest |Cb| and |Cr|, for pixels in [0, 1], that it may leave in grey.
    """

    error: float = 0.0
    in_band: float = 0.0
    grey_within: float = 0.0


EXACT = Rounding()


def rounding_of(im: Image.Image, samples: NDArray[np.uint8]) -> Rounding:
    """Expected rounding error of a JPEG that Pillow opened; `EXACT` for others, and for CMYK.

    A table with a step of 0, which no encoder writes, says nothing either.

    Uniform rounding with a step q has an error of variance ``q²/12`` (Bennett, Spectra of Quantized
    Signals, Bell System Technical Journal 27, 1948) where a coefficient spreads over several steps.
    One that is mostly rounded to 0 loses what it had. So the variance for each frequency is
    ``min(q²/12, E[c²])``, with the energy of the coefficients that were kept (reverse
    water-filling; Cover and Thomas, Elements of Information Theory, 10.3.3). The transform is
    orthonormal: the mean over frequencies is the variance of a sample of the component, and the
    conversion to RGB gives the weights of the components. What subsampled chroma lost is not in the
    tables, and not counted.

    Args:
        im: The picture, not converted.
        samples: Its pixels [H, W, 1 or 3], before the orientation is applied.
    """
    tables: Any = getattr(im, "quantization", None)
    layers: Any = getattr(im, "layer", None)
    if not tables or not layers or im.mode not in ("L", "RGB") or 0 in samples.shape:
        return EXACT
    if len(layers) != samples.shape[2] or any(layer[3] not in tables for layer in layers):
        return EXACT

    steps = [np.reshape(tables[table], (8, 8)).astype(np.float64) for *_, table in layers]
    if not all(step.all() for step in steps):
        return EXACT

    cells = [
        (max(layer[2] for layer in layers) // down, max(layer[1] for layer in layers) // across)
        for _, across, down, _ in layers
    ]
    is_ycc = len(layers) == 3 and _is_transformed(im, [layer[0] for layer in layers])
    gains = _YCC_GAIN if is_ycc else (1 / len(layers),) * len(layers)
    strips = _strips(samples, 8 * max(down for down, _ in cells))
    planes = np.moveaxis(strips, -1, 0) if not is_ycc else np.tensordot(_TO_YCC, strips, (1, -1))

    parts = zip(gains, planes, steps, cells, strict=True)
    lost = np.full((8, 8), _WHOLE)
    for gain, plane, step, cell in parts:
        lost += gain * _lost(plane, step, cell)

    in_band = np.square(lost).mean() / lost.mean()
    grey_within = 1.5 + max(step[0, 0] for step in steps[1:]) / 16 if is_ycc else 0.0

    return Rounding(
        float(np.sqrt(lost.mean())) / 255, float(np.sqrt(in_band)) / 255, float(grey_within) / 255
    )


def is_grey(pixels: NDArray[np.float32], within: float = 0.0) -> bool:
    """True if pixels [..., 3] in [0, 1] have equal channels, or no more chroma than ``within``.

    The conversion of colours to whole numbers and back may leave 1.5 levels of 255, and the
    rounding of the chroma's mean half a step, see `rounding_of`.
    """
    first, *others = np.moveaxis(pixels, -1, 0)
    if all(np.array_equal(first, other) for other in others):
        return True
    return within > 0 and all(
        bool((np.abs(pixels @ row) <= within).all()) for row in _TO_YCC[1:].astype(np.float32)
    )


def _is_transformed(im: Image.Image, ids: list[int]) -> bool:
    """True if the components are Y, Cb and Cr."""
    adobe = im.info.get("adobe_transform")
    return ids != _RGB_IDS if adobe is None else adobe != _UNTRANSFORMED


def _strips(samples: NDArray[np.uint8], height: int) -> Array:
    """Strips of whole blocks evenly over the picture, [N, height, W, C] less 128."""
    rows, width = samples.shape[:2]
    whole = max(rows // height, 1)
    wanted = max(1, _BLOCKS * 64 // (width * height))
    starts = range(0, whole * height, height * -(-whole // wanted))
    strips = np.stack([samples[start : start + height] for start in starts]).astype(np.float64)
    missing = height - strips.shape[1]

    return np.pad(strips, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge") - 128


def _lost(plane: Array, step: Array, cell: tuple[int, int]) -> Array:
    """``min(q²/12, E[c²])`` for each frequency, [8, 8], in strips [N, h, W] of a component."""
    down, across = cell
    plane = np.pad(plane, ((0, 0), (0, 0), (0, -plane.shape[2] % (8 * across))), mode="edge")
    count, height, width = plane.shape
    samples = plane.reshape(count, height // down, down, width // across, across).mean((2, 4))
    blocks = samples.reshape(-1, 8, width // across // 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)

    coefficients = DCT @ blocks @ DCT.T
    kept = np.rint(coefficients / step) * step

    return np.minimum(step**2 / 12, np.square(kept).mean(axis=0))
