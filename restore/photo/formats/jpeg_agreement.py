"""Whether coefficients that were read from a JPEG are those of the pixels that were decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restore.photo.stored import DCT, Component, StoredJpeg

Array = NDArray[np.float64]

# Windows that are compared, evenly over the picture, and their sides in MCUs.
_WINDOWS = (4, 4)
_SIDE = 8
# Levels that decoders may differ by: each of three components is rounded, Cb counts 1.8 times.
_WITHIN = 4.0
# Share of the samples that are as near as that; decoders smooth chroma in different ways.
_SHARE = 0.98
# Y, Cb, Cr → RGB (ITU-T T.871), for rows of components.
_FROM_YCC = np.array([(1, 1, 1), (0, -0.344136, 1.772), (1.402, -0.714136, 0)])
# Ratios of sampling at which libjpeg interpolates, by a triangle; it repeats samples at others.
_INTERPOLATED = {(1, 2), (2, 1), (2, 2)}


class _Window(NamedTuple):
    """Rows and columns of a picture in MCUs, the last excluded."""

    top: int
    left: int
    bottom: int
    right: int


def agrees(stored: StoredJpeg, im: Image.Image) -> bool:
    """Compare the pixels of some windows with what the coefficients say.

    Args:
        stored: What was read.
        im: The picture as Pillow decodes it, not converted.
    """
    if im.size != (stored.width, stored.height) or not _has_whole_ratios(stored):
        return False

    near = [_near(stored, im, window) for window in _windows(stored)]
    return float(np.mean(near)) >= _SHARE


def _has_whole_ratios(stored: StoredJpeg) -> bool:
    return all(
        stored.vertical % one.vertical == 0 and stored.horizontal % one.horizontal == 0
        for one in stored.components
    )


def _windows(stored: StoredJpeg) -> Iterator[_Window]:
    rows = -(-stored.height // (8 * stored.vertical))
    columns = -(-stored.width // (8 * stored.horizontal))
    for top in _starts(rows, _WINDOWS[0]):
        for left in _starts(columns, _WINDOWS[1]):
            yield _Window(top, left, min(top + _SIDE, rows), min(left + _SIDE, columns))


def _starts(length: int, count: int) -> list[int]:
    return sorted({int(start) for start in np.linspace(0, max(0, length - _SIDE), count)})


def _near(stored: StoredJpeg, im: Image.Image, window: _Window) -> float:
    """Share of a window's samples that are as the coefficients say."""
    down, across = 8 * stored.vertical, 8 * stored.horizontal
    left, right = window.left * across, min(window.right * across, stored.width)
    top, bottom = window.top * down, min(window.bottom * down, stored.height)
    pixels = np.asarray(im.crop((left, top, right, bottom))).astype(np.float64)
    pixels = pixels.reshape(bottom - top, right - left, -1)
    if pixels.shape[2] != len(stored.components):
        return 0.0

    # what lies on the inner edges depends on samples beyond them
    inner = (
        slice(stored.vertical if top else 0, -stored.vertical if bottom < stored.height else None),
        slice(
            stored.horizontal if left else 0, -stored.horizontal if right < stored.width else None
        ),
    )
    return max(
        float((np.abs(_decoded(stored, window, smooth) - pixels)[inner] <= _WITHIN).mean())
        for smooth in (True, False)
    )


def _decoded(stored: StoredJpeg, window: _Window, smooth: bool) -> Array:
    """Pixels [h, w, C] of a window as Pillow gives them, by T.81, A.3.3, and T.871."""
    height = min(window.bottom * 8 * stored.vertical, stored.height)
    width = min(window.right * 8 * stored.horizontal, stored.width)
    shape = (height - window.top * 8 * stored.vertical, width - window.left * 8 * stored.horizontal)
    planes = [_plane(stored, component, window, shape, smooth) for component in stored.components]
    values = np.stack(planes, axis=-1)
    if stored.colour in ("YCbCr", "YCCK"):
        values[..., :3] = (values[..., :3] - (0, 128, 128)) @ _FROM_YCC
    if stored.colour == "CMYK":
        values = 255 - values  # Adobe's files are inverted, and Pillow turns every file round
    if stored.colour == "YCCK":
        values[..., 3] = 255 - values[..., 3]

    return values.clip(0, 255)


def _plane(
    stored: StoredJpeg, component: Component, window: _Window, shape: tuple[int, int], smooth: bool
) -> Array:
    """Samples of a component at the picture's full resolution."""
    rows = slice(window.top * component.vertical, window.bottom * component.vertical)
    columns = slice(window.left * component.horizontal, window.right * component.horizontal)
    blocks = component.coefficients[rows, columns].astype(np.float64) * component.table
    samples = (DCT.T @ blocks @ DCT).swapaxes(1, 2) + 128
    plane = samples.reshape(8 * samples.shape[0], -1).round().clip(0, 255)

    down = stored.vertical // component.vertical
    across = stored.horizontal // component.horizontal
    plane = plane[: -(-shape[0] // down), : -(-shape[1] // across)]
    smooth = smooth and (down, across) in _INTERPOLATED
    plane = _enlarged(_enlarged(plane, down, smooth).T, across, smooth).T

    return plane[: shape[0], : shape[1]]


def _enlarged(plane: Array, ratio: int, smooth: bool) -> Array:
    """Rows of a plane, each for so many; smooth, by 3/4 of the nearer and 1/4 of the farther."""
    repeated = np.repeat(plane, ratio, axis=0)
    if ratio == 1 or not smooth:
        return repeated

    around = np.pad(plane, ((1, 1), (0, 0)), mode="edge")
    farther = np.empty_like(repeated)
    farther[0::2] = around[:-2]
    farther[1::2] = around[2:]

    return 0.75 * repeated + 0.25 * farther
