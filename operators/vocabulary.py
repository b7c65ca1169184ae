"""The words of `operators.text`: every degradation that can be written, its parameters, and how it
is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from operators import kernels, masks
from operators.axes import AxesOperator
from operators.base import LinearOperator, Shape
from operators.bayer import BAYER_PATTERNS, Bayer
from operators.blur import BOUNDARIES, box_taps, gaussian_blur, separable_blur
from operators.color import LUMA_BT601, color_mix, gray
from operators.convolution import convolution
from operators.mask import Mask
from operators.nonlinear import Jpeg, Quantise
from operators.reference import REFERENCE_NAMES, ddrm_reference
from operators.resample import RESAMPLERS, downsample
from operators.sensing import BlockSensing, Hadamard
from operators.text import REQUIRED, Parameter, Word

BLUR_BOUNDARIES = (*BOUNDARIES, "unknown")
"""What lies beyond the border of a blurred picture; ``unknown`` is what a camera does, see
`ValidConvolution`.
"""


LEAST, MOST = 1e-3, 1e6
"""Lengths below and numbers beyond these are mistyped."""


def same(shape: Shape, **_: Any) -> Shape:
    """A measurement has the shape of its picture."""
    return shape


def _number(
    text: str, low: float = -math.inf, *, above: bool = False, high: float = math.inf
) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None

    if not math.isfinite(value):
        raise ValueError("not finite")
    if value < low or (above and value == low):
        raise ValueError(f"must be {'above' if above else 'at least'} {low:g}")
    if abs(value) > min(high, MOST):
        raise ValueError(f"must be at most {min(high, MOST):g}")

    return value


def _positive(text: str) -> float:
    value = _number(text, 0, above=True)
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST:g}")
    return value


def _whole(text: str, low: int = 1, high: float = math.inf) -> int:
    value = _number(text, low, high=high)
    if value != int(value):
        raise ValueError("must be a whole number")
    return int(value)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise ValueError("must be a whole number from 0 to below 2^63")
    return int(text)


def _one_or_two(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """``4``, or ``4x2``: along the width, then along the height."""

    def both(text: str) -> Any:
        pieces = text.split("x")
        if len(pieces) > 2:
            raise ValueError("one number, or two joined by x")
        values = tuple(read(piece) for piece in pieces)
        return values[0] if len(values) == 1 else values

    return both


def _pair(value: Any) -> tuple[Any, Any]:
    """(along the width, along the height)."""
    return value if isinstance(value, tuple) else (value, value)


def _choice(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"known are {', '.join(names)}")
        return text

    return read


def _threshold(text: str) -> float:
    value = _number(text, 0, high=1)
    if value == 1:
        raise ValueError("must be below 1")
    return value


def _yes(text: str) -> bool:
    return _choice("yes", "no")(text) == "yes"


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text == "none" else read(text)


def _path(text: str) -> str:
    if not text:
        raise ValueError("no path")
    return text


def _matrix(text: str) -> tuple[tuple[float, ...], ...]:
    rows = tuple(tuple(_number(value) for value in row.split(",")) for row in text.split("/"))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("rows of different lengths")
    return rows


def _parameter(
    name: str, read: Callable[[str], Any], about: str, default: Any = REQUIRED, unit: str = ""
) -> Parameter:
    return Parameter(name, read, about, default, unit)


BOUNDARY = _parameter(
    "boundary",
    _choice(*BLUR_BOUNDARIES),
    f"what lies beyond the border, of {', '.join(BLUR_BOUNDARIES)}",
    "symmetric",
)
SEED = _parameter("seed", _seed, "of the random numbers, a whole number", 0)
ANGLE = _parameter(
    "angle",
    _number,
    "an angle in degrees, counter-clockwise from pointing right",
    0.0,
    unit="degrees",
)
SHARE = _parameter(
    "share",
    lambda t: _number(t, 0, above=True, high=1),
    "a share above 0 and up to 1",
    unit="share of 1",
)


def _kernel_word(
    name: str,
    about: str,
    parameters: tuple[Parameter, ...],
    kernel: Callable[..., Any],
    example: str,
) -> Word:
    """A blur by a two-dimensional kernel, ``kernel(**values)``."""

    def build(shape: Shape, *, boundary: str, **values: Any) -> LinearOperator:
        taps = kernel(**values)
        height, width = taps.shape
        if height > shape[1] or width > shape[2]:
            raise ValueError(_too_large(height, width, shape))
        if boundary == "unknown":
            shape = (shape[0], shape[1] - height + 1, shape[2] - width + 1)

        return convolution(shape, taps, boundary)

    def grow(shape: Shape, *, boundary: str, **values: Any) -> Shape:
        if boundary != "unknown":
            return shape
        height, width = kernel(**values).shape
        if max(height, width) > max(shape[1:]):
            raise ValueError(_too_large(height, width, shape))
        return shape[0], shape[1] + height - 1, shape[2] + width - 1

    return Word(f"blur:{name}", about, (*parameters, BOUNDARY), build, grow, example)


def _too_large(height: int, width: int, shape: Shape) -> str:
    return (
        f"the kernel of {width}x{height} pixels (width x height) is larger than the picture of "
        f"{shape[2]}x{shape[1]}"
    )


def _separable_word(word: Word, separable: Callable[..., LinearOperator | None]) -> Word:
    """The same blur as an axes operator, which composes with others along the axes, where
    ``separable`` makes one.
    """

    def build(shape: Shape, *, boundary: str, **values: Any) -> LinearOperator:
        blur = None if boundary == "unknown" else separable(shape, boundary, **values)
        return word.build(shape, boundary=boundary, **values) if blur is None else blur

    return Word(word.name, word.about, word.parameters, build, word.grow, word.example)


def _gaussian_kernel(sigma: float, across: float | None, angle: float) -> Any:
    if across is None and angle:
        raise ValueError("a round Gaussian has no angle; give across as well")
    return kernels.gaussian(sigma, across, angle)


def _gaussian(
    shape: Shape, boundary: str, sigma: float, across: float | None, angle: float
) -> LinearOperator | None:
    if angle or (across is not None and across != sigma):
        return None
    if 4 * sigma > max(shape[1:]):
        raise ValueError(_too_large(round(8 * sigma) + 1, round(8 * sigma) + 1, shape))
    return gaussian_blur(shape, sigma, boundary=boundary)


def _box(shape: Shape, boundary: str, size: int | tuple[int, int]) -> LinearOperator:
    width, height = _pair(size)
    if max(height, width) > 2 * max(shape[1:]):
        raise ValueError(_too_large(height, width, shape))
    return separable_blur(shape, box_taps(height), box_taps(width), boundary=boundary)


def _down_word(kernel: str) -> Word:
    factors = _parameter(
        "factor",
        _one_or_two(lambda t: _number(t, 1)),
        "how many times smaller, at least 1, fractions too; or HORIZONTALxVERTICAL",
    )

    def build(shape: Shape, *, factor: Any) -> LinearOperator:
        across, down = _pair(factor)
        for size, one, axis in zip(shape[1:], (down, across), ("high", "wide"), strict=True):
            if one >= size + 1:
                raise ValueError(
                    f"the factor {one:g} leaves no whole pixel of a picture {size} pixels {axis}"
                )

        return downsample(shape, (down, across), kernel=kernel)

    def grow(shape: Shape, *, factor: Any) -> Shape:
        across, down = _pair(factor)
        return shape[0], math.floor(shape[1] * down + 1e-9), math.floor(shape[2] * across + 1e-9)

    about = {
        "bicubic": "Keys' cubic",
        "area": "mean over each pixel's area",
        "lanczos": "Lanczos, 3 lobes",
    }[kernel]

    return Word(
        f"down:{kernel}",
        f"made smaller, antialiased: {about}",
        (factors,),
        build,
        grow,
        f"down:{kernel}:4",
    )


def _mask_word(
    name: str,
    about: str,
    parameters: tuple[Parameter, ...],
    known: Callable[..., Any],
    example: str,
) -> Word:
    """``known(size, **values)`` is the map of known pixels."""
    return Word(
        f"mask:{name}",
        about,
        parameters,
        lambda shape, **values: Mask(shape, known(shape[1:], **values)),
        same,
        example,
    )


def _file_mask(size: tuple[int, int], path: str, threshold: float, dilate: int) -> Any:
    known = masks.from_file(path, threshold=threshold, dilate=dilate)
    if tuple(known.shape) != tuple(size):
        raise ValueError(
            f"the mask is {known.shape[1]}x{known.shape[0]} pixels and the picture "
            f"{size[1]}x{size[0]}; they must be of the same size"
        )
    if bool(known.all()):
        raise ValueError(f"{path} is black everywhere: there is nothing to fill (white = fill)")

    return known


def _box_mask(
    size: tuple[int, int], side: int | tuple[int, int], top: int | None, left: int | None
) -> Any:
    width, height = _pair(side)
    return masks.box(size, height, width, top=top, left=left)


def _colors(rows: int) -> Callable[..., Shape]:
    """Colour pictures whose colours were mixed into so many channels."""

    def grow(shape: Shape, **_: Any) -> Shape:
        if shape[0] != rows:
            raise ValueError(f"it measures {rows} channel(s), and this measurement has {shape[0]}")
        return 3, shape[1], shape[2]

    return grow


def _weights(text: str) -> tuple[tuple[float, ...], ...]:
    rows = _matrix(text)
    if len(rows) != 1 or len(rows[0]) != 3:
        raise ValueError("must be 3 numbers; mix makes more channels")
    return rows


def _gray(shape: Shape, *, weights: tuple[tuple[float, ...], ...]) -> LinearOperator:
    if shape[0] != 3:
        raise ValueError(f"3 weights for pictures of {shape[0]} channel(s)")
    return gray(shape, weights[0])


def _jpeg(shape: Shape, *, quality: int, chroma: str) -> Jpeg:
    if shape[0] != 3:
        raise ValueError(f"JPEG takes pictures of 3 channels, not {shape[0]}")
    return Jpeg(quality, ":".join(chroma))


def _size_unknown(shape: Shape, **_: Any) -> Shape:
    raise ValueError(
        "its measurement does not tell the size of the picture; say which (--size WIDTHxHEIGHT)"
    )


def _reference_word(name: str, about: str) -> Word:
    kind, _, parameter = name.partition(":")
    factor = _parameter("factor", _whole, "a whole number", REQUIRED)
    unknown = _parameter("share", lambda t: _number(t, 0, high=1), "the share of unknown pixels")
    cut = _parameter("cut", _yes, "whether small singular values are cut, yes or no", True)
    mixed = _parameter(
        "mixed", _yes, "whether singular values meet the wrong components, yes or no", False
    )
    own = {"R": (factor,), "SHARE": (unknown, SEED)}.get(parameter, ())
    blur = kind.startswith("deblur")
    parameters = (
        *own,
        *((cut,) if blur or kind == "sr_bicubic" else ()),
        *((mixed,) if blur else ()),
    )

    def build(
        shape: Shape, *, mixed: bool = False, cut: bool = True, seed: int = 0, **values: Any
    ) -> LinearOperator:
        full = ":".join([kind, *(f"{value:g}" for value in values.values())])
        return ddrm_reference(full, shape, cut=cut, mixed_spectrum=mixed, seed=seed)

    def grow(shape: Shape, *, factor: int = 1, **_: Any) -> Shape:
        return shape[0], shape[1] * factor, shape[2] * factor

    example = f"ddrm-reference:{kind}" + {"R": ":4", "SHARE": ":0.5"}.get(parameter, "")
    about = f"as DDRM's code: {about}"
    if kind == "color":
        return Word(
            f"ddrm-reference:{kind}", about, parameters, build, _colors(1), example, lambda **_: 1
        )

    return Word(f"ddrm-reference:{kind}", about, parameters, build, grow, example)


_WORDS = (
    Word(
        "identity",
        "the picture itself, for denoising",
        (),
        lambda shape: AxesOperator(shape),
        same,
        "identity",
    ),
    _separable_word(
        _kernel_word(
            "gaussian",
            "Gaussian blur, cut at 4 standard deviations",
            (
                _parameter("sigma", _positive, "a standard deviation in pixels", unit="pixels"),
                _parameter(
                    "across",
                    _or_none(_positive),
                    "the one perpendicular to the angle, in pixels",
                    None,
                    unit="pixels",
                ),
                ANGLE,
            ),
            _gaussian_kernel,
            "blur:gaussian:2",
        ),
        _gaussian,
    ),
    _separable_word(
        _kernel_word(
            "box",
            "mean over a rectangle; with even sides the pixel after the middle is the centre",
            (
                _parameter(
                    "size",
                    _one_or_two(_whole),
                    "a side in whole pixels, or WIDTHxHEIGHT",
                    unit="pixels",
                ),
            ),
            lambda size: kernels.box(_pair(size)[::-1]),
            "blur:box:5",
        ),
        _box,
    ),
    _kernel_word(
        "motion",
        "straight motion at constant speed",
        (_parameter("length", _positive, "a length in pixels", unit="pixels"), ANGLE),
        kernels.motion,
        "blur:motion:15:30",
    ),
    _kernel_word(
        "shake",
        "motion along a smooth random path",
        (
            _parameter("length", _positive, "a length in pixels", unit="pixels"),
            SEED,
            _parameter(
                "curvature",
                lambda t: _number(t, 0),
                "how much the path turns, in degrees",
                180.0,
                unit="degrees",
            ),
        ),
        kernels.curved_motion,
        "blur:shake:15",
    ),
    _kernel_word(
        "disk",
        "out of focus",
        (_parameter("radius", _positive, "a radius in pixels", unit="pixels"),),
        kernels.disk,
        "blur:disk:3",
    ),
    _kernel_word(
        "file",
        "a kernel from a picture, .npy or .mat, made to sum to 1",
        (
            _parameter("path", _path, "a file"),
            _parameter(
                "variable", _or_none(str), "the array's name in a .mat file of several", None
            ),
        ),
        kernels.from_file,
        "blur:file:k.png",
    ),
    *(_down_word(kernel) for kernel in RESAMPLERS),
    _mask_word(
        "file",
        "pixels lost where a picture is white",
        (
            _parameter("path", _path, "a file"),
            _parameter(
                "threshold",
                _threshold,
                "a brightness from 0 to below 1; white is above",
                0.5,
                unit="share of white",
            ),
            _parameter(
                "dilate",
                lambda t: _whole(t, 0),
                "a radius in whole pixels by which holes grow",
                0,
                unit="pixels",
            ),
        ),
        _file_mask,
        "mask:file:m.png",
    ),
    _mask_word(
        "random",
        "pixels lost at random, this share stays",
        (SHARE, SEED),
        lambda size, share, seed: masks.random_pixels(size, share, seed),
        "mask:random:0.5",
    ),
    _mask_word(
        "strokes",
        "brush strokes lost",
        (
            _parameter("count", lambda t: _whole(t, high=1000), "how many, up to 1000", 6),
            SEED,
            _parameter(
                "thickness",
                _one_or_two(_positive),
                "in pixels, or LOWESTxHIGHEST",
                (4.0, 16.0),
                unit="pixels",
            ),
        ),
        lambda size, count, seed, thickness: masks.strokes(
            size,
            seed,
            count=count,
            thickness=thickness if isinstance(thickness, tuple) else (thickness, thickness),
        ),
        "mask:strokes:6",
    ),
    _mask_word(
        "box",
        "a rectangle lost, in the middle unless placed",
        (
            _parameter(
                "side",
                _one_or_two(_whole),
                "a side in whole pixels, or WIDTHxHEIGHT",
                unit="pixels",
            ),
            _parameter(
                "top", _or_none(lambda t: _whole(t, 0)), "its first row", None, unit="pixels"
            ),
            _parameter(
                "left", _or_none(lambda t: _whole(t, 0)), "its first column", None, unit="pixels"
            ),
        ),
        _box_mask,
        "mask:box:32",
    ),
    _mask_word(
        "border",
        "a frame lost: outpainting",
        (_parameter("width", _whole, "its width in whole pixels", unit="pixels"),),
        masks.border,
        "mask:border:16",
    ),
    _mask_word(
        "lines",
        "only every n-th line stays",
        (
            _parameter("every", lambda t: _whole(t, 2), "n, at least 2", 2),
            _parameter("axis", _choice("rows", "columns"), "which lines, rows or columns", "rows"),
        ),
        masks.alternate_lines,
        "mask:lines:2",
    ),
    _mask_word(
        "checkerboard",
        "only one of n pixels stays, on diagonals",
        (_parameter("every", lambda t: _whole(t, 2), "n, at least 2", 2),),
        lambda size, every: masks.alternate_pixels(size, every, "checkerboard"),
        "mask:checkerboard:2",
    ),
    _mask_word(
        "grid",
        "only every n-th pixel of every n-th row stays",
        (_parameter("every", lambda t: _whole(t, 2), "n, at least 2", 2),),
        lambda size, every: masks.alternate_pixels(size, every, "grid"),
        "mask:grid:2",
    ),
    Word(
        "gray",
        "one channel from three, weights of BT.601 unless given",
        (
            _parameter(
                "weights",
                _weights,
                "three numbers joined by commas, as in 0.3,0.6,0.1",
                (LUMA_BT601,),
            ),
        ),
        _gray,
        _colors(1),
        "gray",
        lambda **_: 1,
    ),
    Word(
        "mix",
        "every colour times a matrix",
        (_parameter("matrix", _matrix, "rows joined by /, as in 1,0,0/0,0.5,0.5"),),
        lambda shape, matrix: color_mix(shape, np.array(matrix)),
        lambda shape, matrix: _colors(len(matrix))(shape),
        "mix:1,0,0/0,0.5,0.5",
        lambda matrix: len(matrix),
    ),
    Word(
        "bayer",
        "the mosaic of a camera's sensor: one colour at each pixel",
        (
            _parameter(
                "pattern",
                _choice(*BAYER_PATTERNS),
                "the colours of the upper left 2x2 pixels",
                "RGGB",
            ),
        ),
        lambda shape, pattern: Bayer(shape, pattern),
        _colors(1),
        "bayer",
        lambda **_: 1,
    ),
    Word(
        "hadamard",
        "the first Walsh-Hadamard coefficients of shuffled pixels",
        (SHARE, SEED),
        lambda shape, share, seed: Hadamard(shape, share, seed=seed),
        _size_unknown,
        "hadamard:0.25",
    ),
    Word(
        "blocks",
        "random orthonormal sums over the pixels of blocks",
        (
            SHARE,
            _parameter("block", _whole, "side of a block in pixels, up to 64", 32, unit="pixels"),
            SEED,
        ),
        lambda shape, share, block, seed: BlockSensing(shape, share, block=block, seed=seed),
        _size_unknown,
        "blocks:0.25",
    ),
    Word(
        "quantise",
        "rounded to 2^bits levels; not linear, undone approximately",
        (_parameter("bits", lambda t: _whole(t, 1, 16), "a whole number of bits, 1 to 16"),),
        lambda shape, bits: Quantise(bits),
        same,
        "quantise:3",
    ),
    Word(
        "jpeg",
        "saved as JPEG; not linear, undone approximately",
        (
            _parameter("quality", lambda t: _whole(t, 1, 100), "a whole number, 1 to 100"),
            _parameter(
                "chroma",
                _choice("420", "444"),
                "whether colour has half the size (420) or the whole",
                "420",
            ),
        ),
        _jpeg,
        same,
        "jpeg:30",
    ),
    *(_reference_word(name, about) for name, about in REFERENCE_NAMES.items()),
)

WORDS: dict[str, Word] = {word.name: word for word in _WORDS}
"""By name, in the order of a listing."""
