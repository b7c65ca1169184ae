"""Pictures of every kind that people pass in, as tensors and back again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import BadArgument
from restore.photo.photograph import Photo
from restore.photo.pil import open_pil
from restore.photo.pil_stored import file_of, is_jpeg, stored_of
from restore.photo.rounding import EXACT, LUMA, Rounding, is_grey
from restore.photo.stored import StoredJpeg

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | NDArray[Any] | Tensor | Photo

# Values of white.
_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
# Range of a measurement with noise: black and white, and as much again on either side.
_NOISY_RANGE = (-1.0, 2.0)
# What rounding may leave beyond [0, 1] in a picture of floating-point numbers.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Opened:
    """A picture as a tensor, with the way back to what it was.

    Attributes:
        color: float32 [B, 3, H, W] in [0, 1], in [-1, 2] with noise, on the CPU; a grey picture has
            three equal channels.
        alpha: float32 [B, 1, H, W], or None.
        gray: True if the picture has one channel.
        pack: `pack(color, alpha, gray)` makes a picture of the original kind from color
            [B, 3, H', W'] and alpha [B, 1, H', W'] or None. If `gray`, it has one channel where
            the original has one, and three equal ones where `equal` is True.
        equal: bool [B], True for pictures of three channels whose colours are grey everywhere.
        rounding: What the encoding of a lossy file may have done to the picture.
        stored: What the picture's file stores, for a JPEG whose coefficients were asked for.
        gone: True for a JPEG whose coefficients were asked for, and whose file cannot be had.
        source: What the picture was opened from, where a task needs to know more of it.
    """

    color: Tensor
    alpha: Tensor | None
    gray: bool
    pack: Callable[[Tensor, Tensor | None, bool], Any]
    equal: Tensor
    rounding: Rounding = EXACT
    stored: StoredJpeg | None = None
    gone: bool = False
    source: Any = None


def open_picture(
    picture: Picture, *, noisy: bool | None = None, coefficients: bool = False
) -> Opened:
    """Open a picture as a tensor.

    Args:
        picture: A PIL image (see `restore.photo.pil`); a numpy array [H, W] or [H, W, 1 … 4],
            uint8, uint16, or float in [0, 1]; a tensor [C, H, W] or [B, C, H, W] with 1 to 4
            channels, uint8 or float in [0, 1], on any device; or a `Photo`, which comes back as a
            float32 array [H, W, 1 … 4]. Two and four channels are grey and colour with alpha. The
            argument is not changed.
        noisy: True to take colours in [-1, 2] too: noise leads beyond black and white, and
            without that its mean would be wrong there. False if the caller could say so, which
            an error then advises; None for a picture that has no noise.
        coefficients: True to read what a JPEG stores, for an image that Pillow opened and nobody
            has changed since, from a path or, unless the caller has loaded it, from a file in
            memory. A `Photo` brings it along in any case.

    Raises:
        BadArgument: Any other kind, shape or value range, or values that are not finite.
    """
    if isinstance(picture, Tensor):
        return _open_tensor(picture, noisy)
    if isinstance(picture, np.ndarray):
        return _open_array(picture, lambda array: array, noisy)
    if isinstance(picture, Photo):
        opened = _open_array(picture.samples, lambda array: array, rounding=picture.rounding)
        return replace(opened, stored=picture.stored)
    if hasattr(picture, "getbands"):
        file = file_of(picture) if coefficients else None
        array, finish, rounding = open_pil(picture)
        stored = None if file is None else stored_of(file, array)
        gone = coefficients and file is None and is_jpeg(picture)
        return replace(_open_array(array, finish, noisy, rounding), stored=stored, gone=gone)

    raise BadArgument(
        f"a picture is a PIL image, a numpy array or a torch tensor, not a {type(picture).__name__}"
    )


def open_measurement(measurement: Picture, *, coefficients: bool = False) -> Opened:
    """Open a measurement: a picture with noise as in `open_picture`, or a tensor of floats.

    Args:
        measurement: A tensor [C, h, w] or [B, C, h, w] may have any number of channels and any
            finite values, and is not changed.
        coefficients: As for `open_picture`.

    Raises:
        BadArgument: As `open_picture`.
    """
    if not isinstance(measurement, Tensor) or not measurement.is_floating_point():
        return open_picture(measurement, noisy=True, coefficients=coefficients)
    if measurement.ndim not in (3, 4) or measurement.numel() == 0:
        raise BadArgument(
            f"a measurement must be [C, h, w] or [B, C, h, w], not {list(measurement.shape)}"
        )

    values = measurement.detach().cpu().float()
    if not bool(torch.isfinite(values).all()):
        raise BadArgument("the measurement has values that are not finite (NaN or infinity)")

    def pack(color: Tensor, alpha: Tensor | None, gray: bool) -> Tensor:
        result = color.to(measurement.device, measurement.dtype)
        return result[0] if measurement.ndim == 3 else result

    stacked = values if measurement.ndim == 4 else values[None]
    return Opened(stacked, None, False, pack, torch.zeros(len(stacked), dtype=torch.bool))


def _open_array(
    array: NDArray[Any],
    finish: Callable[[NDArray[Any]], Any],
    noisy: bool | None = None,
    rounding: Rounding = EXACT,
) -> Opened:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        raise BadArgument(f"an array must be [H, W] or [H, W, 1 to 4], not {list(array.shape)}")

    dtype = array.dtype
    flat = array.ndim == 2
    scale = _FULL_SCALE.get(dtype.newbyteorder("="))
    if scale is None and dtype.kind != "f":
        raise BadArgument(f"an array must be uint8, uint16 or float in [0, 1], not {dtype}")

    values = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
    channels = (values[..., None] if flat else values).permute(2, 0, 1)[None]
    # Contiguous, since Fourier transforms round by the order in memory.
    stacked = channels.contiguous() / (scale or 1)

    def pack(result: Tensor) -> Any:
        values = result[0].permute(1, 2, 0).cpu().numpy()
        if scale:
            values = np.rint(values.astype(np.float64).clip(0, 1) * scale)
        values = np.ascontiguousarray(values.astype(dtype))
        return finish(values[..., 0] if flat and values.shape[-1] == 1 else values)

    return _open_stacked(stacked, pack, noisy, rounding)


def _open_tensor(tensor: Tensor, noisy: bool | None) -> Opened:
    if tensor.ndim not in (3, 4) or not 1 <= tensor.shape[-3] <= 4 or tensor.numel() == 0:
        raise BadArgument(
            "a tensor must be [C, H, W] or [B, C, H, W] with 1 to 4 channels, not "
            f"{list(tensor.shape)}"
        )
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise BadArgument(f"a tensor must be uint8 or float in [0, 1], not {tensor.dtype}")

    scale = 255 if tensor.dtype == torch.uint8 else None
    values = tensor.detach().cpu().float() / (scale or 1)

    def pack(result: Tensor) -> Tensor:
        if scale:
            result = (result.clamp(0, 1) * scale).round()
        result = result.to(tensor.device, tensor.dtype)
        return result[0] if tensor.ndim == 3 else result

    return _open_stacked(values if tensor.ndim == 4 else values[None], pack, noisy)


def _open_stacked(
    stacked: Tensor, pack: Callable[[Tensor], Any], noisy: bool | None, rounding: Rounding = EXACT
) -> Opened:
    """Split [B, 1 … 4, H, W] into colour and alpha."""
    if not bool(torch.isfinite(stacked).all()):
        raise BadArgument("the picture has values that are not finite (NaN or infinity)")

    channels = stacked.shape[1]
    gray = channels < 3
    has_alpha = channels in (2, 4)
    alpha = _in_range(stacked[:, -1:], None, "alpha has") if has_alpha else None
    color = stacked[:, :-1] if has_alpha else stacked
    color = _in_range(color, noisy, "float pictures have")
    equal = (color == color[:, :1]).flatten(1).all(dim=1) & (not gray)
    if _is_rounded_grey(color, rounding):
        luma = (color * color.new_tensor(LUMA).reshape(3, 1, 1)).sum(dim=1, keepdim=True)
        color, equal = luma.expand_as(color), torch.ones_like(equal)

    def pack_both(color: Tensor, alpha: Tensor | None, as_gray: bool) -> Any:
        if as_gray and gray:
            color = color.mean(dim=1, keepdim=True)
        elif as_gray and color.shape[1] > 1:
            mean = color.mean(dim=1, keepdim=True).expand_as(color)
            color = torch.where(equal.to(color.device).reshape(-1, 1, 1, 1), mean, color)
        return pack(color if alpha is None else torch.cat([color, alpha], dim=1))

    return Opened(color.expand(-1, 3, -1, -1), alpha, gray, pack_both, equal, rounding)


def _is_rounded_grey(color: Tensor, rounding: Rounding) -> bool:
    """True for three channels that differ by no more than their file's rounding of grey."""
    if color.shape[1] < 3 or not rounding.grey_within:
        return False
    return is_grey(color[0].permute(1, 2, 0).numpy(), rounding.grey_within)


def _in_range(values: Tensor, noisy: bool | None, what: str) -> Tensor:
    """Clip what rounding left beyond [0, 1]; values with noise stay as they are.

    Raises:
        BadArgument: Values beyond [0, 1], or beyond [-1, 2] with noise.
    """
    least = float(values.min())
    most = float(values.max())
    reach = f"this one reaches from {least:g} to {most:g}"
    if noisy:
        if least < _NOISY_RANGE[0] or most > _NOISY_RANGE[1]:
            raise BadArgument(
                f"a picture with noise has values in [-1, 2], where 0 is black and 1 is white; "
                f"{reach}"
            )
        return values
    if least < -_TOLERANCE or most > 1 + _TOLERANCE:
        advice = (
            "" if noisy is None else ", or say its noise, which may lead beyond black and white"
        )
        raise BadArgument(f"{what} values in [0, 1]; {reach}: scale or clip it{advice}")

    return values.clamp(0, 1)
