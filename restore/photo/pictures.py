"""Pictures of every kind that people pass in, as tensors and back again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import BadArgument

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | NDArray[Any] | Tensor

# Values of white.
_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


@dataclass(frozen=True)
class Opened:
    """A picture as a tensor, with the way back to what it was.

    Attributes:
        color: float32 [B, 3, H, W] in [0, 1] on the CPU; a grey picture has three equal channels.
        alpha: float32 [B, 1, H, W], or None.
        gray: True if the picture has one channel.
        pack: `pack(color, alpha, gray)` makes a picture of the original kind from color
            [B, 3, H', W'] and alpha [B, 1, H', W'] or None, with one channel if `gray`.
    """

    color: Tensor
    alpha: Tensor | None
    gray: bool
    pack: Callable[[Tensor, Tensor | None, bool], Any]


def open_picture(picture: Picture) -> Opened:
    """Open a picture as a tensor.

    Args:
        picture: A PIL image of mode 1, L, LA, I;16, P, RGB, RGBA, CMYK or YCbCr (the last four come
            back as RGB or RGBA); a numpy array [H, W] or [H, W, 1 … 4], uint8, uint16, or float in
            [0, 1]; or a tensor [C, H, W] or [B, C, H, W] with 1 to 4 channels, uint8 or float in
            [0, 1], on any device. Two and four channels are grey and colour with alpha. The
            argument is not changed.

    Raises:
        BadArgument: Any other kind, shape or value range, or values that are not finite.
    """
    if isinstance(picture, Tensor):
        return _open_tensor(picture)
    if isinstance(picture, np.ndarray):
        return _open_array(picture, lambda array: array)
    if hasattr(picture, "getbands"):
        return _open_pil(picture)

    raise BadArgument(
        f"a picture is a PIL image, a numpy array or a torch tensor, not a {type(picture).__name__}"
    )


def open_measurement(measurement: Picture) -> Opened:
    """Open a measurement: a picture as in `open_picture`, or a tensor of floating-point numbers.

    Args:
        measurement: A tensor [C, h, w] or [B, C, h, w] may have any number of channels and any
            finite values, and is not changed.

    Raises:
        BadArgument: As `open_picture`.
    """
    if not isinstance(measurement, Tensor) or not measurement.is_floating_point():
        return open_picture(measurement)
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

    return Opened(values if measurement.ndim == 4 else values[None], None, False, pack)


def _open_pil(image: Image) -> Opened:
    from PIL import Image as pillow

    if image.mode.startswith("I;16"):
        return _open_array(np.asarray(image, dtype=np.uint16), _pil_of_16_bits)

    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")

    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise BadArgument(
            f"a PIL image of mode {image.mode} is not supported; convert it to L, LA, RGB or RGBA"
        )

    return _open_array(
        np.asarray(image), lambda a: pillow.fromarray(a[..., 0] if a.shape[2:] == (1,) else a)
    )


def _pil_of_16_bits(array: NDArray[np.uint16]) -> Image:
    """Grey of 16 bits, or colour of 8: Pillow has no colour picture of 16 bits."""
    from PIL import Image as pillow

    return pillow.fromarray(array if array.ndim == 2 else np.rint(array / 257).astype(np.uint8))


def _open_array(array: NDArray[Any], finish: Callable[[NDArray[Any]], Any]) -> Opened:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        raise BadArgument(f"an array must be [H, W] or [H, W, 1 to 4], not {list(array.shape)}")

    dtype = array.dtype
    flat = array.ndim == 2
    scale = _FULL_SCALE.get(dtype)
    if scale is None and dtype.kind != "f":
        raise BadArgument(f"an array must be uint8, uint16 or float in [0, 1], not {dtype}")

    values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    channels = (values[..., None] if flat else values).permute(2, 0, 1)[None]
    # Contiguous, since Fourier transforms round by the order in memory.
    stacked = channels.contiguous() / (scale or 1)

    def pack(result: Tensor) -> Any:
        values = result[0].permute(1, 2, 0).cpu().numpy()
        if scale:
            values = np.rint(values.astype(np.float64).clip(0, 1) * scale)
        values = np.ascontiguousarray(values.astype(dtype))
        return finish(values[..., 0] if flat and values.shape[-1] == 1 else values)

    return _open_stacked(stacked, pack)


def _open_tensor(tensor: Tensor) -> Opened:
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

    return _open_stacked(values if tensor.ndim == 4 else values[None], pack)


def _open_stacked(stacked: Tensor, pack: Callable[[Tensor], Any]) -> Opened:
    """Split [B, 1 … 4, H, W] into colour and alpha."""
    if not bool(torch.isfinite(stacked).all()):
        raise BadArgument("the picture has values that are not finite (NaN or infinity)")
    if float(stacked.min()) < -1e-6 or float(stacked.max()) > 1 + 1e-6:
        raise BadArgument(
            f"float pictures have values in [0, 1]; this one reaches from {float(stacked.min()):g} "
            f"to {float(stacked.max()):g}"
        )

    channels = stacked.shape[1]
    gray = channels < 3
    has_alpha = channels in (2, 4)
    alpha = stacked[:, -1:] if has_alpha else None
    color = (stacked[:, :-1] if has_alpha else stacked).clamp(0, 1)

    def pack_both(color: Tensor, alpha: Tensor | None, gray: bool) -> Any:
        color = color.mean(dim=1, keepdim=True) if gray else color
        return pack(color if alpha is None else torch.cat([color, alpha], dim=1))

    return Opened(color.expand(-1, 3, -1, -1), alpha, gray, pack_both)
