"""Maps of known pixels: which were measured (True) and which are to be filled (False).

Each function returns a bool tensor ``[H, W]`` on the CPU, as `operators.Mask` takes it; sizes are
(height, width) in pixels. The same random seed gives the same map. A map without any known pixel is
refused: there would be no measurement.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from operators.files import open_regular
from operators.painting import to_fill

# (height, width) in pixels.
Size = tuple[int, int]

# Largest thickness of a stroke in pixels: OpenCV's own limit.
MAX_THICKNESS = 32767

# Formats of pictures that paint a map; Pillow would also run other programs for some.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

# A brush stroke: random directions along it, points on it, fractional bits of their coordinates.
_TURNS = 6
_POINTS = 64
_SUBPIXEL_BITS = 4


def random_pixels(
    size: Size, share_known: float, seed: int, *, channels: int | None = None
) -> Tensor:
    """Keep ``round(share_known · H · W)`` pixels, at least one, all choices equally likely.

    >>> int(random_pixels((4, 5), 0.5, seed=0).sum())
    10

    Args:
        size: (height, width).
        share_known: Fraction of the pixels that is known, in (0, 1].
        seed: Random seed, not negative.
        channels: None for one map ``[H, W]``; C for a choice of its own in every channel,
            ``[C, H, W]``.

    Raises:
        ValueError: ``share_known`` is outside (0, 1], a size or number of channels is below 1, or
            the seed is negative.
    """
    height, width = _checked_size(size)
    if not 0 < share_known <= 1:
        raise ValueError(f"share_known must be above 0 and at most 1, not {share_known}")
    if channels is not None and _whole("channels", channels) < 1:
        raise ValueError(f"channels must be at least 1, not {channels}")

    generator = np.random.default_rng(seed)
    pixels = height * width
    known = np.zeros((channels or 1, pixels), dtype=bool)

    count = max(1, round(share_known * pixels))
    for row in known:
        row[generator.permutation(pixels)[:count]] = True

    shape = (channels, height, width) if channels else (height, width)
    return torch.from_numpy(known.reshape(shape))


def strokes(
    size: Size, seed: int, *, count: int = 6, thickness: tuple[float, float] = (4, 16)
) -> Tensor:
    """Lose smooth strokes, as drawn with a brush.

    Each stroke starts anywhere in the picture, is a quarter to a whole diagonal of it long, and has
    a direction that turns smoothly between six random ones. It may leave the picture.

    >>> strokes((64, 64), seed=0, count=1).shape
    torch.Size([64, 64])

    Args:
        size: (height, width).
        seed: Random seed, not negative.
        count: Number of strokes.
        thickness: Lowest and highest thickness in pixels; each stroke has one, drawn between them
            and rounded.

    Raises:
        ValueError: There is less than one stroke, the thickness is impossible, the seed is
            negative, or nothing stays known.
    """
    height, width = _checked_size(size)
    low, high = thickness
    if _whole("count", count) < 1:
        raise ValueError(f"at least one stroke is needed, not {count}")
    if not 1 <= low <= high <= MAX_THICKNESS:
        raise ValueError(
            f"thickness must be (lowest, highest) within 1 … {MAX_THICKNESS} pixels, not "
            f"{thickness}"
        )

    import cv2  # takes long to import, and only some masks need it

    generator = np.random.default_rng(seed)
    canvas = np.zeros((height, width), dtype=np.uint8)

    for _ in range(int(count)):
        path = _brush_path(generator, height, width)
        points = np.round(path * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        drawn = round(generator.uniform(low, high))
        cv2.polylines(canvas, [points[:, None]], False, 1, drawn, cv2.LINE_8, _SUBPIXEL_BITS)

    return _known(canvas == 0, f"{count} strokes up to {high} pixels thick")


def box(
    size: Size, height: int, width: int, *, top: int | None = None, left: int | None = None
) -> Tensor:
    """Lose a rectangle of ``height × width`` pixels.

    >>> box((2, 4), 1, 2, top=0).tolist()
    [[True, False, False, True], [True, True, True, True]]

    Args:
        size: (height, width) of the picture.
        height: Height of the rectangle.
        width: Width of the rectangle.
        top: Its first row. None centres it; where that is not possible exactly, it is half a pixel
            nearer to the top.
        left: Its first column. None centres it in the same way, nearer to the left.

    Raises:
        ValueError: The rectangle is empty, does not fit into the picture, or covers all of it.
    """
    rows, columns = _checked_size(size)
    height = _whole("height", height)
    width = _whole("width", width)
    top = (rows - height) // 2 if top is None else _whole("top", top)
    left = (columns - width) // 2 if left is None else _whole("left", left)
    if height < 1 or width < 1:
        raise ValueError(f"a box needs at least one row and one column, not {height}x{width}")
    if top < 0 or left < 0 or top + height > rows or left + width > columns:
        raise ValueError(
            f"a box of {height} rows and {width} columns at row {top}, column {left} does not fit "
            f"into {rows} rows and {columns} columns"
        )

    known = np.ones((rows, columns), dtype=bool)
    known[top : top + height, left : left + width] = False

    return _known(known, f"a box of {height} rows and {width} columns")


def border(size: Size, width: int) -> Tensor:
    """Lose a frame of ``width`` pixels on all four sides: outpainting.

    >>> border((3, 4), 1).int().tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]

    Raises:
        ValueError: The width is below 1, or nothing is left inside.
    """
    rows, columns = _checked_size(size)
    width = _whole("width", width)
    if width < 1:
        raise ValueError(f"a border is at least 1 pixel wide, not {width}")

    known = np.zeros((rows, columns), dtype=bool)
    known[width : max(width, rows - width), width : max(width, columns - width)] = True
    return _known(known, f"a border of {width} pixels")


def alternate_lines(
    size: Size, every: int = 2, axis: Literal["rows", "columns"] = "rows"
) -> Tensor:
    """Keep the rows (or columns) 0, every, 2·every, … and lose the lines between them.

    >>> alternate_lines((3, 2)).int().tolist()
    [[1, 1], [0, 0], [1, 1]]

    Raises:
        ValueError: ``every`` is below 2, or the axis is unknown.
    """
    rows, columns = _checked_grid(size, every)
    if axis not in ("rows", "columns"):
        raise ValueError(f"axis must be 'rows' or 'columns', not {axis!r}")
    along = (rows if axis == "rows" else columns) % every == 0
    return torch.from_numpy(np.broadcast_to(along, (rows.size, columns.size)).copy())


def alternate_pixels(
    size: Size, every: int = 2, pattern: Literal["checkerboard", "grid"] = "checkerboard"
) -> Tensor:
    """Keep single pixels, at row i and column j from 0.

    - ``checkerboard``: where ``i + j`` is a multiple of ``every``; one of ``every`` pixels, on
      diagonals
    - ``grid``: where both i and j are; one of ``every²`` pixels

    >>> alternate_pixels((2, 4)).int().tolist()
    [[1, 0, 1, 0], [0, 1, 0, 1]]

    Raises:
        ValueError: ``every`` is below 2, or the pattern is unknown.
    """
    rows, columns = _checked_grid(size, every)
    if pattern == "checkerboard":
        return torch.from_numpy((rows + columns) % every == 0)
    if pattern == "grid":
        return torch.from_numpy((rows % every == 0) & (columns % every == 0))
    raise ValueError(f"pattern must be 'checkerboard' or 'grid', not {pattern!r}")


def from_picture(picture: ArrayLike, *, threshold: float = 0.5, dilate: int = 0) -> Tensor:
    """Lose what is brighter than ``threshold``: white = fill, as masks are painted.

    >>> from_picture(np.array([[0, 255]], np.uint8)).tolist()
    [[True, False]]

    Args:
        picture: ``[H, W]`` or ``[H, W, C]``, see `operators.painting.to_fill`.
        threshold: Brightness in [0, 1). A pixel exactly at the threshold stays known.
        dilate: Radius in whole pixels of the disk by which the unknown area grows: every pixel at
            most this far from an unknown one, centre to centre, becomes unknown.

    Returns:
        bool [H, W]; all True if nothing is white.

    Raises:
        ValueError: As `operators.painting.to_fill`, or the radius is negative or fractional, or
            nothing stays known.
    """
    if _whole("dilate", dilate) < 0:
        raise ValueError(f"dilate must be 0 pixels or more, not {dilate}")

    known = ~to_fill(picture, threshold)
    if dilate:
        # Squared distances are whole numbers.
        known &= _distance_to(~known) ** 2 > dilate**2 + 0.5

    return _known(known, "a picture that is white everywhere (white = fill) or grown so far")


def from_file(path: str | Path, *, threshold: float = 0.5, dilate: int = 0) -> Tensor:
    """Read the map that a picture file paints, upright; see `from_picture`.

    Args:
        path: Path of the file.
        threshold: See `from_picture`.
        dilate: See `from_picture`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no picture; see also `from_picture`. The message begins with the path.
    """
    path = Path(path)
    with open_regular(path) as file:
        try:
            pixels = _decoded(file)
        except Exception as error:  # Pillow raises many types for a damaged file
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{path}: {_reason(error)}") from None

    try:
        return from_picture(pixels, threshold=threshold, dilate=dilate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _decoded(file: BinaryIO) -> NDArray[Any]:
    """Pixels of an opened picture, upright."""
    with Image.open(file, formats=_FORMATS) as opened:
        opened.load()
        try:
            picture = ImageOps.exif_transpose(opened)
        except Exception:  # only the EXIF is damaged; Pillow raises many types for it
            picture = opened

        if picture.mode not in ("1", "L", "LA", "RGB", "RGBA", "I;16"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        return np.asarray(picture)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return f"a picture of more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels"
    return "the picture is damaged, or of a kind that is not supported"


def feather(known: Tensor, radius: float, *, side: Literal["hole", "known"] = "hole") -> Tensor:
    """Make weights to paste a filled picture into its original without a visible seam.

    The paste is ``weight · picture + (1 − weight) · filled``. What was measured and what was not
    meet at the rim of a hole, so the ramp must lie on one side of it:

    - ``hole``: the weight is exactly 1 on every known pixel, which therefore stays as it is, and
      falls to 0 inside the hole. The picture's own values count within ``radius`` of the rim, so
      they must make sense there: take it for a photo that still shows what is replaced, or that was
      filled roughly; not for one with black in its holes.
    - ``known``: the weight is exactly 0 on every unknown pixel, so nothing that was not measured
      gets in, and rises to 1 outside the hole. Known pixels within ``radius`` of the rim change
      towards the filled picture.

    With d the distance in pixels, centre to centre, to the nearest pixel of the other side, and
    ``t = d / (radius + 1)`` up to 1, the ramp is ``t² (3 − 2t)``. So pixels with ``d ≥ radius + 1``
    are beyond it, and radius 0 is the map itself.

    >>> feather(torch.tensor([[True, False, False, False]]), 1.0).tolist()
    [[1.0, 0.5, 0.0, 0.0]]

    Args:
        known: bool, True = measured; ``[H, W]`` or with more axes in front, each map by itself.
        radius: Radius of the ramp in pixels, 0 or more.
        side: Side of the rim on which the ramp lies.

    Returns:
        float32 in [0, 1], of the shape of ``known``. A map without a rim comes back as it is.

    Raises:
        ValueError: The map has fewer than two axes or other values than 0 and 1, the radius is
            negative or infinite, or the side is unknown.
    """
    known = torch.as_tensor(known)
    if known.ndim < 2 or 0 in known.shape or not ((known == 0) | (known == 1)).all():
        raise ValueError("known must be a map [..., H, W] of 0 (unknown) and 1 (known)")
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be 0 pixels or more, not {radius}")
    if side not in ("hole", "known"):
        raise ValueError(f"side must be 'hole' or 'known', not {side!r}")

    maps = known.reshape(-1, *known.shape[-2:]).cpu().numpy().astype(bool)
    if side == "hole":
        weights = [1 - _ramp(_distance_to(one), radius) for one in maps]
    else:
        weights = [_ramp(_distance_to(~one), radius) for one in maps]

    return torch.from_numpy(np.stack(weights)).reshape(known.shape).to(known.device)


def _ramp(distance: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Rise smoothly from 0 at distance 0 to 1 at ``radius + 1``."""
    t = np.minimum(distance / np.float32(radius + 1), 1)
    ramp: NDArray[np.float32] = t * t * (3 - 2 * t)
    return ramp


def _distance_to(there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Exact Euclidean distance of each pixel to the nearest True one, infinite without any."""
    if not there.any():
        return np.full(there.shape, np.inf, dtype=np.float32)

    import cv2

    away = (~there).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32, copy=False)


def _brush_path(generator: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Points (x, y) on a path whose direction turns evenly from one random one to the next."""
    length = math.hypot(height, width) * generator.uniform(0.25, 1)
    start = generator.uniform((0, 0), (width - 1, height - 1))
    nodes = generator.uniform(0, 2 * math.pi) + np.cumsum(generator.normal(0, 0.9, _TURNS))
    direction = np.interp(np.linspace(0, _TURNS - 1, _POINTS), np.arange(_TURNS), nodes)

    steps = np.stack([np.cos(direction), np.sin(direction)], axis=1) * (length / _POINTS)
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])


def _checked_size(size: Size) -> Size:
    if len(size) != 2 or min(_whole("size", n) for n in size) < 1:
        raise ValueError(f"size must be (height, width), both at least 1, not {tuple(size)}")
    return int(size[0]), int(size[1])


def _checked_grid(size: Size, every: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers ``[H, 1]`` and column numbers ``[1, W]``."""
    rows, columns = _checked_size(size)
    if _whole("every", every) < 2:
        raise ValueError(f"every must be 2 or more, not {every}")
    return np.arange(rows)[:, None], np.arange(columns)[None]


def _whole(name: str, value: float) -> int:
    if value != value or value in (math.inf, -math.inf) or value != int(value):
        raise ValueError(f"{name} must be a whole number, not {value}")
    return int(value)


def _known(known: NDArray[np.bool_], what: str) -> Tensor:
    """Return a map as a tensor; refuse one without a known pixel, naming what leaves none."""
    if not known.any():
        raise ValueError(
            f"{what} leaves no pixel of {known.shape[0]} rows and {known.shape[1]} columns known"
        )
    return torch.from_numpy(known)
