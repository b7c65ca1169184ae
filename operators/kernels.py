"""Two-dimensional blur kernels.

A kernel is a float64 array ``[h, w]`` whose centre is the pixel ``[h // 2, w // 2]``; blurring is
true convolution with it. Lengths are in pixels. Angles are in degrees, counter-clockwise as seen on
the screen, from the horizontal axis that points right: 0 is along the rows, 90 is straight up.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from operators.files import open_regular
from operators.matlab import read_mat

Array = NDArray[np.float64]
Kernel = Array

# Longer sides of a kernel are refused: they are mistyped numbers, and would fill the memory.
MAX_SIDE = 4097

# Bytes of the largest file that can hold a kernel: one of `MAX_SIDE`, in double precision.
MAX_BYTES = 8 * MAX_SIDE**2 + 2**20

# Points at which the path of a camera is sampled.
_PATH_POINTS_PER_PIXEL = 64

# Taps below this fraction of the largest are rounding errors.
_NEGLIGIBLE = 1e-12


def gaussian(sigma: float, sigma_across: float | None = None, angle: float = 0.0) -> Kernel:
    """Sample a Gaussian at the pixels' centres, cut at 4 σ, with odd sides.

    >>> gaussian(1.0).shape, gaussian(4.0, 1.0, angle=0).shape
    ((9, 9), (9, 33))

    Args:
        sigma: Standard deviation in pixels; with ``sigma_across`` the one along ``angle``.
        sigma_across: Standard deviation in pixels perpendicular to ``angle``; None is the same, a
            round Gaussian, equal to the outer product of `operators.gaussian_taps` with itself.
        angle: Direction of ``sigma`` in degrees, counter-clockwise on the screen from pointing
            right.

    Raises:
        ValueError: A standard deviation is not positive, or the kernel is larger than `MAX_SIDE`.
    """
    along = _positive("the Gaussian's standard deviation", sigma)
    across = along
    if sigma_across is not None:
        across = _positive("the Gaussian's standard deviation across", sigma_across)

    cos, sin = _direction(angle)
    reach_x = 4 * math.hypot(along * cos, across * sin)
    reach_y = 4 * math.hypot(along * sin, across * cos)
    x, y = _grid(max(1, int(reach_x + 0.5)), max(1, int(reach_y + 0.5)))
    distance = ((cos * x + sin * y) / along) ** 2 + ((cos * y - sin * x) / across) ** 2

    return _normalised(np.exp(-0.5 * distance))


def motion(length: float, angle: float = 0.0) -> Kernel:
    """Make the kernel of straight motion at constant speed.

    Each tap is the exact length of the path inside that pixel. A path of at most one pixel stays
    inside the central one.

    >>> motion(4, angle=90).ravel().tolist()
    [0.125, 0.25, 0.25, 0.25, 0.125]

    Args:
        length: Length of the path in pixels.
        angle: Direction of the path in degrees, counter-clockwise on the screen from pointing
            right.

    Raises:
        ValueError: The length is not positive, or the kernel is larger than `MAX_SIDE`.
    """
    half = _positive("the length of the motion", length) / 2
    cos, sin = _direction(angle)
    x, y = _grid(int(half * abs(cos) + 0.5), int(half * abs(sin) + 0.5))
    start = np.full(x.shape, -half)
    end = np.full(x.shape, half)

    for position, speed in ((x, cos), (y, sin)):
        with np.errstate(divide="ignore"):  # a path that never leaves this row or column
            border = np.sort(np.stack([(position - 0.5) / speed, (position + 0.5) / speed]), axis=0)
        start = np.maximum(start, border[0])
        end = np.minimum(end, border[1])

    return _normalised(_trimmed(np.maximum(end - start, 0)))


def curved_motion(
    length: float, seed: int, curvature: float = 180.0, angle: float | None = None
) -> Kernel:
    """Make the kernel of a shaken camera: motion along a smooth random path at constant speed.

    The kernel is centred on the path's centre of mass. The direction along the path is ``angle``
    plus a sum of four sines with random amplitudes and phases. The same arguments give the same
    kernel.

    >>> kernel = curved_motion(15, seed=0)
    >>> round(float(kernel.sum()), 12), kernel.ndim
    (1.0, 2)

    Args:
        length: Length of the path in pixels.
        seed: Random seed for the path.
        curvature: How much the path turns, as the root mean square over seeds of the turning rate,
            in degrees per ``length``. 0 is straight.
        angle: Direction in which the path starts, in degrees, counter-clockwise on the screen from
            pointing right; None is random.

    Raises:
        ValueError: The length is not positive, the curvature or the seed is negative, or the kernel
            is larger than `MAX_SIDE`.
    """
    length = _positive("the length of the motion", length)
    if length > MAX_SIDE:
        raise ValueError(
            f"the length of the motion must be at most {MAX_SIDE} pixels, not {length:g}"
        )
    if not (math.isfinite(curvature) and curvature >= 0):
        raise ValueError(
            f"the curvature must be a number of degrees of at least 0, not {curvature}"
        )

    generator = np.random.default_rng(seed)
    first = generator.uniform(0, 360) if angle is None else _finite("the angle", angle)
    amplitudes = generator.standard_normal(4) * math.radians(curvature)
    phases = generator.uniform(0, 2 * math.pi, 4)

    return _normalised(_visited(_random_path(length, math.radians(first), amplitudes, phases)))


def _random_path(length: float, first: float, amplitudes: Array, phases: Array) -> Array:
    """Trace points ``[2, n]`` (x to the right, y upwards) around their centre of mass.

    The heading in radians is ``first`` plus sines with these amplitudes and phases [4].
    """
    harmonics = np.arange(1, 5)
    count = math.ceil(length * _PATH_POINTS_PER_PIXEL)
    along = (np.arange(count) + 0.5) / count
    turned = np.sin(math.pi * harmonics * along[:, None] + phases) - np.sin(phases)
    heading = first + turned @ (amplitudes / (harmonics * math.pi) / math.sqrt(2))

    step = np.stack([np.cos(heading), np.sin(heading)]) * (length / count)
    path = np.cumsum(step, axis=1) - step / 2
    centred: Array = path - path.mean(axis=1, keepdims=True)
    return centred


def disk(radius: float) -> Kernel:
    """Make the kernel of a lens out of focus: each tap is the pixel's exact area in the circle.

    >>> disk(3.5).shape
    (7, 7)

    Args:
        radius: Radius in pixels, any fraction. Below 1/2 the disk lies in the central pixel.

    Raises:
        ValueError: The radius is not positive, or the kernel is larger than `MAX_SIDE`.
    """
    radius = _positive("the radius of the disk", radius)
    reach = int(radius + 0.5)
    x, y = _grid(reach, reach)
    corners = [[_area_within(x + i, y + j, radius) for j in (-0.5, 0.5)] for i in (-0.5, 0.5)]
    area = corners[1][1] - corners[1][0] - corners[0][1] + corners[0][0]
    area[area < _NEGLIGIBLE * radius**2] = 0
    return _normalised(_trimmed(area))


def box(size: int | tuple[int, int]) -> Kernel:
    """Make the mean over ``size`` × ``size`` pixels, or over (height, width) pixels.

    >>> box((1, 2)).tolist()
    [[0.5, 0.5]]

    Raises:
        ValueError: A side is not a whole number from 1 to `MAX_SIDE`.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    for side in (height, width):
        if not (math.isfinite(side) and side >= 1 and side == int(side)):
            raise ValueError(
                f"the sides of the box must be whole numbers of pixels of at least 1, not {side}"
            )

    _check_sides(int(height), int(width))

    return _normalised(np.ones((int(height), int(width))))


def from_array(array: ArrayLike, *, normalise: bool = True) -> Kernel:
    """Check a kernel that was measured or estimated elsewhere.

    >>> from_array([[1, 2, 1]]).tolist()
    [[0.25, 0.5, 0.25]]

    Args:
        array: ``[h, w]``, or ``[h, w, channels]`` with equal channels, as a grey picture stored in
            colour has them. Negative taps are allowed.
        normalise: True to divide by the sum, so that a flat picture keeps its brightness.

    Raises:
        ValueError: The array has another shape, is no array of finite real numbers, is all zero,
            or, when it is to be normalised, its sum is not clearly positive.
    """
    kernel = _one_channel(_as_real(array))
    if kernel.ndim != 2 or kernel.size == 0:
        raise ValueError(
            f"a kernel must be a two-dimensional array [height, width], not of shape {kernel.shape}"
        )

    _check_sides(*kernel.shape)
    if not np.isfinite(kernel).all():
        raise ValueError("a kernel must be finite, this one holds infinite or undefined numbers")
    if not kernel.any():
        raise ValueError("a kernel must not be all zero")
    if not normalise:
        return kernel

    kernel /= np.abs(kernel).max()
    total = kernel.sum()
    if total < 1e-6 * np.abs(kernel).sum():
        raise ValueError(
            "a kernel must have a positive sum to be normalised to 1; one that is meant to have "
            "none, such as a derivative, needs normalise=False"
        )

    normalised: Kernel = kernel / total
    return normalised


def _as_real(array: ArrayLike) -> Array:
    """Copy an array to float64."""
    try:
        if np.iscomplexobj(array):
            raise ValueError
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("a kernel must be a two-dimensional array of real numbers") from None


def _one_channel(kernel: Array) -> Array:
    """Drop the channels of a grey picture that was stored in colour."""
    if kernel.ndim != 3 or kernel.shape[2] not in (1, 2, 3, 4):
        return kernel

    if not (kernel == kernel[..., :1]).all():
        raise ValueError(
            f"a kernel has one channel, this one has {kernel.shape[2]} that differ; choose one "
            "or use their mean"
        )
    return kernel[..., 0].copy()


def from_file(path: str | Path, *, variable: str | None = None, normalise: bool = True) -> Kernel:
    """Read a kernel from a numpy file, a MATLAB file up to version 7 or a picture.

    A picture's values are used as they are (no gamma), its alpha channel is ignored where it is the
    same everywhere.

    Args:
        path: Path of the file: ``.npy`` of two dimensions, ``.mat``, or a picture (``.png``,
            ``.tif``, …) of one channel or of equal ones.
        variable: Name of the variable in a MATLAB file; needed where it holds several arrays.
        normalise: See `from_array`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no kernel; see also `from_array`. The message begins with the path.
    """
    path = Path(path)
    data = _bounded(path)
    suffix = path.suffix.lower()

    try:
        if variable is not None and suffix != ".mat":
            raise ValueError("only a .mat file has variables with names")
        if suffix == ".npy":
            array = _from_npy(data)
        elif suffix == ".mat":
            array = _from_mat(data, variable)
        else:
            array = _from_picture(data)

        return from_array(array, normalise=normalise)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _bounded(path: Path) -> bytes:
    """Read a file that is small enough for a kernel."""
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES / 2**20:.0f} MB, too large for a kernel")

    return data


def _from_npy(data: bytes) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:  # np.load raises nearly every kind on a damaged header
        raise ValueError("not a numpy file with one plain array") from None

    if not isinstance(array, np.ndarray):
        raise ValueError("not a numpy file with one plain array")
    if array.ndim == 3 and array.shape[2] > 1:  # no picture: which axis is which is not known
        raise ValueError(
            f"a kernel in a .npy file must be a two-dimensional array [height, width], not of "
            f"shape {list(array.shape)}; save one channel of it"
        )
    return array


def _from_mat(data: bytes, variable: str | None) -> NDArray[Any]:
    arrays = read_mat(data, MAX_SIDE**2)
    names = ", ".join(sorted(arrays)) or "none"
    if variable is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if variable is None:
        raise ValueError(
            f"a MATLAB file with one two-dimensional array is needed, this one has: {names}"
        )
    if variable not in arrays:
        raise ValueError(f"no two-dimensional array of the name {variable!r}; there are: {names}")

    return arrays[variable]


def _from_picture(data: bytes) -> NDArray[Any]:
    picture = _decoded(data)
    if picture is None:
        raise ValueError("not a kernel: neither a .npy file, nor a .mat file, nor a picture")
    if picture.ndim == 3 and picture.shape[2] in (2, 4) and np.ptp(picture[..., -1]) == 0:
        picture = picture[..., :-1]

    return picture


def _decoded(data: bytes) -> NDArray[Any] | None:
    """Decode a picture without any conversion; None if it is none."""
    size = _size(data)
    if size is None:
        return None
    _check_sides(*size)

    import cv2  # only kernels from files need it

    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a picture that is whole, by its header; None if it is none.

    OpenCV takes the memory that a header or the head of a chunk claims, gigabytes too.
    """
    try:
        if data[:4] in (b"II*\0", b"MM\0*"):
            import tifffile

            with tifffile.TiffFile(io.BytesIO(data)) as file:
                page = file.pages.first
                return int(page.imagelength), int(page.imagewidth)
        with Image.open(io.BytesIO(data)) as image:
            size = image.height, image.width
            image.verify()
            return size
    except Exception:  # readers of headers raise nearly every kind on a damaged one
        return None


def _finite(what: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, not {value}")
    return float(value)


def _positive(what: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what} must be a positive number of pixels, not {value}")
    return float(value)


def _direction(angle: float) -> tuple[float, float]:
    """Cosine and sine, exact at multiples of 90°."""
    quarters, rest = divmod(_finite("the angle", angle) % 360, 90)
    cos = math.cos(math.radians(rest))
    sin = math.sin(math.radians(rest))
    return [(cos, sin), (-sin, cos), (-cos, -sin), (sin, -cos)][int(quarters) % 4]


def _check_sides(height: float, width: float) -> None:
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"a kernel of {height}x{width} pixels is too large: at most {MAX_SIDE} a side"
        )


def _grid(reach_x: int, reach_y: int) -> tuple[Kernel, Kernel]:
    """Coordinates of the pixels' centres, x to the right and y upwards, the central pixel at 0."""
    _check_sides(2 * reach_y + 1, 2 * reach_x + 1)
    y, x = np.mgrid[reach_y : -reach_y - 1 : -1, -reach_x : reach_x + 1]
    return x.astype(np.float64), y.astype(np.float64)


def _area_within(x: Kernel, y: Kernel, radius: float) -> Kernel:
    """Signed area of the rectangle from (0, 0) to (x, y) that lies in the circle around (0, 0)."""
    right = np.minimum(np.abs(x), radius)
    top = np.minimum(np.abs(y), radius)
    # Up to here the circle runs above the rectangle.
    bend = np.minimum(np.sqrt((radius - top) * (radius + top)), right)

    def below_circle(u: Kernel) -> Kernel:
        return 0.5 * (u * np.sqrt((radius - u) * (radius + u)) + radius**2 * np.arcsin(u / radius))

    return np.sign(x) * np.sign(y) * (top * bend + below_circle(right) - below_circle(bend))


def _visited(path: Kernel) -> Kernel:
    """Count the points of a path ``[2, n]`` (x to the right, y upwards) in each pixel."""
    columns = np.rint(path[0]).astype(int)
    rows = np.rint(-path[1]).astype(int)
    reach_x = int(np.abs(columns).max())
    reach_y = int(np.abs(rows).max())

    taps = np.zeros((2 * reach_y + 1, 2 * reach_x + 1))
    np.add.at(taps, (rows + reach_y, columns + reach_x), 1.0)
    return taps


def _trimmed(taps: Kernel) -> Kernel:
    """Cut empty rows and columns off at the border, as far as the centre stays the centre."""
    rows, columns = np.nonzero(taps > _NEGLIGIBLE * taps.max())
    height, width = taps.shape
    y = height // 2 - int(np.abs(rows - height // 2).max())
    x = width // 2 - int(np.abs(columns - width // 2).max())
    return taps[y : height - y, x : width - x]


def _normalised(taps: Kernel) -> Kernel:
    """Divide by the sum, without rounding errors."""
    taps = np.where(taps > _NEGLIGIBLE * taps.max(), taps, 0.0)
    normalised: Kernel = taps / taps.sum()
    return normalised
