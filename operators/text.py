"""Operators written as text."""

from __future__ import annotations

import torch

from operators.axes import AxesOperator
from operators.base import Shape
from operators.blur import box_blur, gaussian_blur

BLUR_KERNELS = {
    "gaussian": ("SIGMA", "standard deviation in pixels, e.g. gaussian:2.0"),
    "box": ("N", "side of the square in whole pixels, e.g. box:5"),
}


def parse_blur(
    text: str, input_shape: Shape, *, boundary: str = "symmetric", dtype: torch.dtype = torch.float32
) -> AxesOperator:
    """The blur that ``gaussian:SIGMA`` or ``box:N`` describes (lengths in pixels).

    Raises:
        ValueError: unknown kernel, or a parameter that is missing, malformed or out of range; the message names
            the part and lists what would be right.
    """
    name, _, parameter = text.partition(":")
    if name not in BLUR_KERNELS:
        known = ", ".join(f"{kernel}:{letter}" for kernel, (letter, _) in BLUR_KERNELS.items())
        raise ValueError(f"unknown blur kernel {name!r} in {text!r}; known are {known}")
    try:
        value = float(parameter)
        if name == "gaussian":
            _check_extent(text, 4 * value, input_shape)
            return gaussian_blur(input_shape, value, boundary=boundary, dtype=dtype)
        if value != int(value):
            raise ValueError
        _check_extent(text, value / 2, input_shape)
        return box_blur(input_shape, int(value), boundary=boundary, dtype=dtype)
    except (ValueError, OverflowError) as error:
        hint = str(error) if "picture" in str(error) else f"{name} takes the {BLUR_KERNELS[name][1]}"
        raise ValueError(f"cannot use the blur kernel {text!r}: {hint}") from None


def _check_extent(text: str, radius: float, input_shape: Shape) -> None:
    if radius > max(input_shape[1:]):
        raise ValueError(f"it is larger than the picture ({input_shape[1]}x{input_shape[2]}, height x width)")
