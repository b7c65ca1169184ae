"""What people want done, as linear inverse problems: the operator, the measurement and what the network is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import operators
from operators import Mask, SpectralOperator
from restore.denoiser import Condition
from restore.errors import BadArgument
from restore.noise import estimate_noise

TASKS = ("sr", "inpaint", "deblur", "denoise", "colorize")

QUANTISATION_NOISE = 1 / 255 / math.sqrt(12)
"""Standard deviation of the rounding to 8 bits, in [0, 1] units: no 8-bit measurement is cleaner than this."""

MAX_SCALE = 16
MAX_OUTPUT_PIXELS = 200_000_000

Noise = float | Sequence[float] | Literal["auto"]
"""A standard deviation for pixels in [0, 1], one for each picture of a batch, or ``auto``: estimated."""


@dataclass(frozen=True)
class Problem:
    """One or more pictures to restore, of equal size.

    Attributes:
        task: its name in `TASKS`.
        operator: A.
        measurement: y = A x + noise with x in [0, 1], float32 [B, *operator.output_shape].
        noise: standard deviation of each measurement's noise in [0, 1] units, float32 [B].
        condition: the degraded picture at full size in [-1, 1], if the networks know this degradation.
        keep: [B or 1, 1, H, W], True where the measurement is the answer and must come through untouched.
    """

    task: str
    operator: SpectralOperator
    measurement: Tensor
    noise: Tensor
    condition: Condition | None
    keep: Tensor | None = None

    @cached_property
    def model_measurement(self) -> Tensor:
        """The measurement of the picture in [-1, 1]: ``A (2x − 1) = 2y − A 1``."""
        operator, y = self.operator, self.measurement
        return 2 * y - operator.A(y.new_ones(1, *operator.input_shape))


def super_resolution(
    image: Tensor, scale: float, noise: Noise = 0.0, kernel: str = "bicubic", device: torch.device | str = "cpu"
) -> Problem:
    """``image`` [B, 3, h, w] in [0, 1] is a picture ``scale`` times as large, down-sampled by ``kernel``.

    Raises:
        BadArgument: a scale that is not above 1 and at most 16, or a result of over 200 million pixels.
    """
    check_arguments({"scale": scale, "kernel": kernel})
    height, width = image.shape[-2:]
    size = round(height * scale), round(width * scale)
    if size[0] * size[1] > MAX_OUTPUT_PIXELS:
        raise BadArgument(
            f"--scale {scale:g}: too large for a picture of {width}x{height} pixels; the result would have "
            f"{size[0] * size[1] / 1e6:.0f} million pixels, at most {MAX_OUTPUT_PIXELS / 1e6:.0f} million are allowed"
        )
    operator = operators.downsample((3, *size), size=(height, width), kernel=kernel).to(device)
    image = image.to(device)
    enlarged = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return Problem("sr", operator, image, _noise(noise, image), _all_known(enlarged))


def inpainting(image: Tensor, mask: Tensor, noise: Noise = 0.0, device: torch.device | str = "cpu") -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] is unknown where ``mask`` [H, W] or [B, 1, H, W] is True.

    Without noise the known pixels come through untouched.

    Raises:
        BadArgument: a mask of another size, without any pixel to fill, or without any known pixel.
    """
    if mask.shape[-2:] != image.shape[-2:]:
        raise BadArgument(
            f"the mask is {mask.shape[-1]}x{mask.shape[-2]} pixels and the picture {image.shape[-1]}x"
            f"{image.shape[-2]}; they must be of the same size"
        )
    if bool(mask.all()):
        raise BadArgument("the mask is white everywhere: no pixel of the picture would be known (white = fill)")
    if not bool(mask.any()):
        raise BadArgument("the mask is black everywhere: there is nothing to fill (white = fill)")
    image, known = image.to(device), ~mask.to(device).reshape(-1, 1, *mask.shape[-2:])
    if len(known) not in (1, len(image)):
        raise BadArgument(f"{len(known)} masks for {len(image)} pictures: give one mask, or one for each picture")
    operator = Mask((3, *image.shape[-2:]), known if len(known) > 1 else known[0]).to(device)
    level = _noise(noise, image)
    condition = Condition((2 * image - 1) * known, known.expand(len(image), -1, -1, -1).to(image))
    return Problem("inpaint", operator, image * known, level, condition, known & (level == 0).reshape(-1, 1, 1, 1))


def deblurring(
    image: Tensor,
    kernel: str,
    noise: Noise = "auto",
    boundary: str = "symmetric",
    device: torch.device | str = "cpu",
) -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] was blurred by ``gaussian:SIGMA`` or ``box:N``.

    Raises:
        BadArgument: unknown kernel or boundary, or a kernel that does not fit the picture.
    """
    check_arguments({"boundary": boundary})
    try:
        operator = operators.parse_blur(kernel, (3, *image.shape[-2:]), boundary=boundary).to(device)
    except ValueError as error:
        raise BadArgument(f"--kernel: {error}") from None
    image = image.to(device)
    level = _noise(noise, image)
    if noise == "auto":
        level = level.clamp_min(QUANTISATION_NOISE)
    return Problem("deblur", operator, image, level, _all_known(image))


def denoising(image: Tensor, noise: Noise = "auto", device: torch.device | str = "cpu") -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] has white Gaussian noise.

    Raises:
        BadArgument: a noise level of 0, which would leave nothing to do.
    """
    image = image.to(device)
    operator = operators.identity((3, *image.shape[-2:])).to(device)
    level = _noise(noise, image)
    if noise != "auto" and not bool(level.all()):
        raise BadArgument("--noise 0: denoising needs the noise's standard deviation, above 0, or auto")
    return Problem("denoise", operator, image, level.clamp_min(QUANTISATION_NOISE), _all_known(image))


def colorization(image: Tensor, noise: Noise = 0.0, device: torch.device | str = "cpu") -> Problem:
    """``image`` [B, 3 or 1, H, W] in [0, 1] is a grey picture; of a colour picture the luma (BT.601) is taken."""
    image = image.to(device)
    operator = operators.gray((3, *image.shape[-2:])).to(device)
    grey = operator.A(image) if image.shape[1] == 3 else image
    return Problem("colorize", operator, grey, _noise(noise, grey), None)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Look at what can be judged without a picture: ``scale``, ``kernel``, ``boundary``, ``noise``.

    Raises:
        BadArgument: a value that cannot be used.
    """
    scale, boundary = arguments.get("scale", 2), arguments.get("boundary", "zero")
    if not (math.isfinite(scale) and 1 < scale <= MAX_SCALE):
        raise BadArgument(f"--scale {scale:g}: must be above 1 and at most {MAX_SCALE}")
    if "kernel" in arguments:
        _check_kernel(arguments["kernel"], of_downsampling="scale" in arguments)
    if boundary not in operators.BOUNDARIES:
        raise BadArgument(f"--boundary {boundary}: unknown; use {', '.join(operators.BOUNDARIES)}")
    if "noise" in arguments:
        _check_noise(arguments["noise"])


def _check_kernel(kernel: str, of_downsampling: bool) -> None:
    if of_downsampling and kernel not in operators.RESAMPLERS:
        raise BadArgument(f"--kernel {kernel}: unknown; use {', '.join(operators.RESAMPLERS)}")
    if not of_downsampling:
        try:
            operators.read_blur(kernel)
        except ValueError as error:
            raise BadArgument(f"--kernel: {error}") from None


def _check_noise(noise: Noise) -> None:
    levels = [] if noise == "auto" else noise if isinstance(noise, Sequence | Tensor) else [noise]
    if isinstance(levels, str) or not all(0 <= float(level) <= 1 for level in levels):
        raise BadArgument(f"--noise {noise}: must be a standard deviation between 0 and 1, or auto")


def _all_known(image: Tensor) -> Condition:
    return Condition(2 * image - 1, torch.ones_like(image[:, :1]))


def _noise(noise: Noise, image: Tensor) -> Tensor:
    """One noise level for each picture, [B].

    Raises:
        BadArgument: a negative, infinite or too large number, or not one for each picture.
    """
    _check_noise(noise)
    if isinstance(noise, str):
        return image.new_tensor([estimate_noise(picture) for picture in image])
    levels = torch.as_tensor(noise, dtype=torch.float32).flatten()
    if len(levels) not in (1, len(image)):
        raise BadArgument(f"{len(levels)} noise levels for {len(image)} pictures: give one, or one for each")
    return levels.expand(len(image)).to(image.device)
