"""Words for blur: ``blur:gaussian:2``, ``blur:motion:15:30``, …"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from operators import kernels
from operators.base import LinearOperator, Shape
from operators.blur import BOUNDARIES, box_taps, gaussian_blur, separable_blur
from operators.convolution import convolution
from operators.grammar import Parameter, Word
from operators.nonlinear import NonlinearOperator
from operators.parameters import (
    ANGLE,
    SEED,
    choice,
    number_from,
    one_or_two,
    or_none,
    pair,
    read_length,
    read_path,
    whole_from,
)

# What lies beyond the border of a blurred picture; ``unknown`` is what a camera does, see
# `ValidConvolution`.
BLUR_BOUNDARIES = (*BOUNDARIES, "unknown")

BOUNDARY = Parameter(
    "boundary",
    choice(*BLUR_BOUNDARIES),
    f"what lies beyond the border, of {', '.join(BLUR_BOUNDARIES)}",
    "symmetric",
)


def blur_word(
    name: str,
    about: str,
    *parameters: Parameter,
    kernel: Callable[..., kernels.Kernel],
    example: str,
) -> Word:
    """Make the word for a blur by a two-dimensional kernel.

    Args:
        name: Name behind ``blur:``.
        about: What it does, in one line.
        parameters: Parameters of the kernel.
        kernel: ``kernel(**values)`` makes the kernel ``[h, w]``.
        example: A text that works.
    """

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

    return Word(f"blur:{name}", about, (*parameters, BOUNDARY), build, example, grow)


def _separable(word: Word, separable: Callable[..., LinearOperator | None]) -> Word:
    """Let a word make an axes operator, which composes with others, where ``separable`` has one."""

    def build(shape: Shape, *, boundary: str, **values: Any) -> LinearOperator | NonlinearOperator:
        blur = None if boundary == "unknown" else separable(shape, boundary, **values)
        return word.build(shape, boundary=boundary, **values) if blur is None else blur

    return replace(word, build=build)


def _too_large(height: int, width: int, shape: Shape) -> str:
    return (
        f"the kernel of {width}x{height} pixels (width x height) is larger than the picture of "
        f"{shape[2]}x{shape[1]}"
    )


def _gaussian_kernel(sigma: float, across: float | None, angle: float) -> kernels.Kernel:
    if across is None and angle:
        raise ValueError("a round Gaussian has no angle; give across as well")
    return kernels.gaussian(sigma, across, angle)


def _separable_gaussian(
    shape: Shape, boundary: str, sigma: float, across: float | None, angle: float
) -> LinearOperator | None:
    if angle or (across is not None and across != sigma):
        return None

    if 4 * sigma > max(shape[1:]):
        side = round(8 * sigma) + 1
        raise ValueError(_too_large(side, side, shape))

    return gaussian_blur(shape, sigma, boundary=boundary)


def _box_kernel(size: int | tuple[int, int]) -> kernels.Kernel:
    width, height = pair(size)
    return kernels.box((height, width))


def _separable_box(shape: Shape, boundary: str, size: int | tuple[int, int]) -> LinearOperator:
    width, height = pair(size)
    if max(height, width) > 2 * max(shape[1:]):
        raise ValueError(_too_large(height, width, shape))
    return separable_blur(shape, box_taps(height), box_taps(width), boundary=boundary)


GAUSSIAN = _separable(
    blur_word(
        "gaussian",
        "Gaussian blur, cut at 4 standard deviations",
        Parameter("sigma", read_length, "a standard deviation in pixels", unit="pixels"),
        Parameter(
            "across",
            or_none(read_length),
            "the one perpendicular to the angle, in pixels",
            None,
            unit="pixels",
        ),
        ANGLE,
        kernel=_gaussian_kernel,
        example="blur:gaussian:2",
    ),
    _separable_gaussian,
)
BOX = _separable(
    blur_word(
        "box",
        "mean over a rectangle; with even sides the pixel after the middle is the centre",
        Parameter(
            "size",
            one_or_two(whole_from(1)),
            "a side in whole pixels, or WIDTHxHEIGHT",
            unit="pixels",
        ),
        kernel=_box_kernel,
        example="blur:box:5",
    ),
    _separable_box,
)
MOTION = blur_word(
    "motion",
    "straight motion at constant speed",
    Parameter("length", read_length, "a length in pixels", unit="pixels"),
    ANGLE,
    kernel=kernels.motion,
    example="blur:motion:15:30",
)
SHAKE = blur_word(
    "shake",
    "motion along a smooth random path",
    Parameter("length", read_length, "a length in pixels", unit="pixels"),
    SEED,
    Parameter(
        "curvature",
        number_from(0),
        "how much the path turns, in degrees",
        180.0,
        unit="degrees",
    ),
    kernel=kernels.curved_motion,
    example="blur:shake:15",
)
DISK = blur_word(
    "disk",
    "out of focus",
    Parameter("radius", read_length, "a radius in pixels", unit="pixels"),
    kernel=kernels.disk,
    example="blur:disk:3",
)
FILE = blur_word(
    "file",
    "a kernel from a picture, .npy or .mat, made to sum to 1",
    Parameter("path", read_path, "a file"),
    Parameter("variable", or_none(str), "the array's name in a .mat file of several", None),
    kernel=kernels.from_file,
    example="blur:file:k.png",
)
