"""Operators written as text."""

from __future__ import annotations

import math

import torch

from operators.axes import AxesOperator
from operators.base import Shape
from operators.blur import box_blur, gaussian_blur

BLUR_KERNELS = {
    "gaussian": ("SIGMA", "standard deviation in pixels, e.g. gaussian:2.0"),
    "box": ("N", "side of the square in whole pixels, e.g. box:5"),
}


def read_blur(text: str) -> tuple[str, float]:
    """The kernel's name and parameter in ``gaussian:SIGMA`` or ``box:N`` (lengths in pixels).

    Raises:
        ValueError: unknown kernel, or a parameter that is missing, malformed or out of range; the message names
            the part and says what would be right.
    """
    name, _, parameter = text.partition(":")
    if name not in BLUR_KERNELS:
        known = ", ".join(f"{kernel}:{letter}" for kernel, (letter, _) in BLUR_KERNELS.items())
        raise ValueError(f"unknown blur kernel {name!r} in {text!r}; known are {known}")
    try:
        value = float(parameter)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0) or (name == "box" and value != int(value)):
        raise ValueError(f"cannot use the blur kernel {text!r}: {name} takes the {BLUR_KERNELS[name][1]}")
    return name, value


def parse_blur(
    text: str, input_shape: Shape, *, boundary: str = "symmetric", dtype: torch.dtype = torch.float32
) -> AxesOperator:
    """The blur that ``gaussian:SIGMA`` or ``box:N`` describes.

    Raises:
        ValueError: as `read_blur`; unknown boundary; or a kernel larger than the picture.
    """
    name, value = read_blur(text)
    radius = 4 * value if name == "gaussian" else value / 2
    if radius > max(input_shape[1:]):
        height, width = input_shape[1:]
        raise ValueError(f"the blur kernel {text!r} is larger than the picture ({width}x{height} pixels)")
    if name == "gaussian":
        return gaussian_blur(input_shape, value, boundary=boundary, dtype=dtype)
    return box_blur(input_shape, int(value), boundary=boundary, dtype=dtype)
