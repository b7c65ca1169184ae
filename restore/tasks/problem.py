"""What people want done, as linear inverse problems: the operator, the measurement and what the
network is shown.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import operators
from operators import (
    AxesOperator,
    Degradation,
    LinearOperator,
    Mask,
    MaskedColor,
    NonlinearChain,
    kernels,
)
from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import GREY, QUANTISATION_NOISE
from restore.errors import BadArgument, of_option
from restore.metrics.noise import estimate_noise

TASKS = ("sr", "inpaint", "deblur", "denoise", "colorize", "solve")

MAX_SCALE = 16
MAX_OUTPUT_PIXELS = 200_000_000
MAX_RADIUS = 1000

CONVOLUTIONS = (
    operators.CircularConvolution,
    operators.SymmetricConvolution,
    operators.PaddedConvolution,
    operators.ValidConvolution,
)
Operator = LinearOperator | NonlinearChain
Kernel = str | NDArray[Any] | Tensor
Noise = float | Sequence[float] | Literal["auto"]
"""A standard deviation for pixels in [0, 1], one for each picture of a batch, or ``auto``:
estimated.
"""


@dataclass(frozen=True)
class Problem:
    """One or more pictures to restore, of equal size.

    Attributes:
        task: its name in `TASKS`.
        operator: A, for pictures in [0, 1] where it is not linear.
        measurement: y = A x + noise with x in [0, 1], float32 [B, *operator.output_shape].
        noise: standard deviation of each measurement's noise in [0, 1] units, float32 [B].
        condition: the degraded picture at full size in [-1, 1], if the networks know this
            degradation.
        keep: [B or 1, 1 or 3, H, W] in [0, 1], the share of ``original`` in the answer: 1 where it
            must come through untouched.
        original: [B, 3, H, W] in [0, 1].
        kind: the task that it resembles, whose settings suit it: see `resembled_task`.
        written: the operator as text, see `operators.text`; the name of its class where it has
            none.
    """

    task: str
    operator: Operator
    measurement: Tensor
    noise: Tensor
    condition: Condition | None
    keep: Tensor | None = None
    original: Tensor | None = None
    kind: str = ""
    written: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.task)
        object.__setattr__(self, "written", self.written or type(self.operator).__name__)

    @cached_property
    def model_operator(self) -> Operator:
        """A for pictures in [-1, 1]."""
        return (
            self.operator
            if isinstance(self.operator, LinearOperator)
            else self.operator.between(-1.0, 1.0)
        )

    @cached_property
    def model_measurement(self) -> Tensor:
        """The measurement of the picture in [-1, 1]: ``A (2x − 1) = 2y − A 1``."""
        operator = self.operator
        y = self.measurement
        if not isinstance(operator, LinearOperator):
            return 2 * y - 1
        return 2 * y - operator.A(y.new_ones(len(y), *operator.input_shape))


def super_resolution(
    image: Tensor,
    scale: float,
    noise: Noise = 0.0,
    kernel: str = "bicubic",
    size: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> Problem:
    """``image`` [B, 3, h, w] in [0, 1] is a picture ``scale`` times as large, down-sampled by
    ``kernel``.

    Args:
        size: (width, height) of that picture, where it is not ``scale`` times that of ``image``,
            rounded.

    Raises:
        BadArgument: a scale that is not above 1 and at most 16, or a result of over 200 million
            pixels.
    """
    check_arguments({"scale": scale, "kernel": kernel})
    height, width = image.shape[-2:]
    size = (round(height * scale), round(width * scale)) if size is None else size[::-1]
    if size[0] * size[1] > MAX_OUTPUT_PIXELS:
        raise BadArgument(
            f"--scale {scale:g}: too large for a picture of {width}x{height} pixels; the result "
            f"would have {size[0] * size[1] / 1e6:.0f} million pixels, at most "
            f"{MAX_OUTPUT_PIXELS / 1e6:.0f} million are allowed"
        )

    operator = operators.downsample((3, *size), size=(height, width), kernel=kernel).to(device)
    image = image.to(device)
    enlarged = F.interpolate(image, size=size, mode="bicubic", align_corners=False)

    return Problem(
        "sr",
        operator,
        image,
        _noise(noise, image),
        _all_known(enlarged),
        written=f"down:{kernel}:{scale:g}",
    )


def inpainting(
    image: Tensor,
    mask: Tensor,
    noise: Noise = 0.0,
    dilate: int = 0,
    feather: float = 0.0,
    device: torch.device | str = "cpu",
) -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] is unknown where ``mask`` [H, W] or [B, 1, H, W] is True.

    Without noise the known pixels come through untouched.

    Args:
        dilate: grow what is unknown by this many whole pixels.
        feather: blend the fill with what ``image`` shows inside the mask, over so many pixels from
            its rim.

    Raises:
        BadArgument: a mask of another size, without any pixel to fill, or without any known pixel.
    """
    if mask.shape[-2:] != image.shape[-2:]:
        raise BadArgument(
            f"the mask is {mask.shape[-1]}x{mask.shape[-2]} pixels and the picture "
            f"{image.shape[-1]}x{image.shape[-2]}; they must be of the same size"
        )
    if bool(mask.all()):
        raise BadArgument(
            "the mask is white everywhere: no pixel of the picture would be known (white = fill)"
        )
    if not bool(mask.any()):
        raise BadArgument("the mask is black everywhere: there is nothing to fill (white = fill)")

    check_arguments({"dilate": dilate, "feather": feather})
    known = ~mask.cpu().reshape(-1, 1, *mask.shape[-2:])
    if len(known) not in (1, len(image)):
        raise BadArgument(
            f"{len(known)} masks for {len(image)} pictures: give one mask, or one for each picture"
        )

    if dilate:
        with of_option("--dilate"):
            known = torch.stack(
                [
                    operators.masks.from_picture(~one[0].numpy(), dilate=dilate)[None]
                    for one in known
                ]
            )

    weights = operators.masks.feather(known, feather) if feather else known.float()
    image = image.to(device)
    known = known.to(device)
    weights = weights.to(device)
    operator = Mask((3, *image.shape[-2:]), known if len(known) > 1 else known[0]).to(device)
    if noise == "auto":
        raise BadArgument(
            "--noise auto: holes would count as noise; give a number, 0 if IN is clean"
        )

    level = _noise(noise, image)
    if feather and bool(level.any()):
        raise BadArgument(
            f"--feather {feather:g}: it blends with what IN shows, and its noise; leave it out, or "
            "--noise 0"
        )

    condition = Condition((2 * image - 1) * known, known.expand(len(image), -1, -1, -1).to(image))
    keep = weights * (level == 0).reshape(-1, 1, 1, 1)

    return Problem("inpaint", operator, image * known, level, condition, keep, image)


def deblurring(
    image: Tensor,
    kernel: Kernel,
    noise: Noise = "auto",
    boundary: str = "unknown",
    device: torch.device | str = "cpu",
) -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] was blurred by a kernel.

    Args:
        kernel: as text, ``gaussian:2`` (see `operators.vocabulary`), or as an array [h, w].
        boundary: what lay beyond the border: one of `operators.CONVOLUTION_BOUNDARIES`. ``unknown``
            is right for photographs, whose camera saw more than it kept.

    Raises:
        BadArgument: unknown kernel or boundary, or a kernel that does not fit the picture.
    """
    check_arguments({"boundary": boundary, "kernel": kernel})
    shape = (3, *image.shape[-2:])
    written = ""

    with of_option("--kernel"):
        if isinstance(kernel, str):
            degradation = _blur(kernel, boundary)
            operator = degradation.operator_for(shape)
            written = str(degradation)
        else:
            operator = operators.convolution(shape, kernels.from_array(kernel), boundary)

    operator = operator.to(device)
    image = image.to(device)
    level = _noise(noise, image)
    if noise == "auto":
        level = level.clamp_min(QUANTISATION_NOISE)

    return Problem(
        "deblur", operator, image, level, _shown_blurred(operator, image), written=written
    )


def denoising(image: Tensor, noise: Noise = "auto", device: torch.device | str = "cpu") -> Problem:
    """``image`` [B, 3, H, W] in [0, 1] has white Gaussian noise.

    Raises:
        BadArgument: a noise level of 0, which would leave nothing to do.
    """
    image = image.to(device)
    operator = operators.identity((3, *image.shape[-2:])).to(device)
    level = _noise(noise, image)
    if noise != "auto" and not bool(level.all()):
        raise BadArgument(
            "--noise 0: denoising needs the noise's standard deviation, above 0, or auto"
        )

    level = level.clamp_min(QUANTISATION_NOISE)

    return Problem("denoise", operator, image, level, _all_known(image), written="identity")


def colorization(image: Tensor, noise: Noise = 0.0, device: torch.device | str = "cpu") -> Problem:
    """``image`` [B, 3 or 1, H, W] in [0, 1] is a grey picture; of a colour picture the luma
    (BT.601) is taken.
    """
    image = image.to(device)
    operator = operators.gray((3, *image.shape[-2:])).to(device)
    grey = operator.A(image) if image.shape[1] == 3 else image
    return Problem(
        "colorize", operator, grey, _noise(noise, grey), _shown_grey(operator, grey), written="gray"
    )


def solving(
    measurement: Tensor,
    operator: str | Degradation | Operator,
    noise: Noise | None = None,
    size: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> Problem:
    """``measurement`` is what some operator made of a picture.

    Args:
        measurement: [B, *operator.output_shape]: ``A x + noise`` for pictures x in [0, 1].
        operator: as text (see `operators.text`), as one that was read, or an operator of your own
            with pictures of 3 channels, which is moved to the device.
        noise: None is ``auto`` for blurs, 0 for operators that can be inverted where they measure
            (masks, down-sampling, colours), and the rounding of 8-bit pictures for the others.
        size: (width, height) of the picture, where the measurement does not tell.

    Raises:
        BadArgument: an operator that cannot be read or does not fit the measurement.
    """
    if isinstance(operator, str):
        with of_option("--operator"):
            operator = operators.parse(operator)

    written = str(operator) if isinstance(operator, Degradation) else ""
    measurement = _measured_channels(measurement, operator)
    operator = _moved(_operator_for(operator, tuple(measurement.shape[1:]), size), device)
    kind = resembled_task(operator)
    measurement = measurement.to(device)
    noise = _likely_noise(operator, kind) if noise is None else noise
    if noise == "auto" and kind not in ("deblur", "denoise", "sr"):
        raise BadArgument(
            "--noise auto: it is estimated in whole pictures, and holes, mosaics and artefacts "
            "would count as noise; give a number"
        )

    level = _noise(noise, measurement)
    if noise == "auto":
        level = level.clamp_min(QUANTISATION_NOISE)

    keep = None
    original = None
    if isinstance(operator, Mask):
        known = operator.singular_values.reshape(-1, *operator.input_shape)
        measurement = measurement * known
        keep = known * (level == 0).reshape(-1, 1, 1, 1)
        original = measurement

    condition = _shown(kind, operator, measurement)

    return Problem("solve", operator, measurement, level, condition, keep, original, kind, written)


def _shown(kind: str, operator: Operator, measurement: Tensor) -> Condition | None:
    """What a conditional network is shown, if it knows the degradation."""
    if kind == "inpaint":
        known = operator.singular_values.reshape(-1, *operator.input_shape)
        if not bool((known == known[:, :1]).all()):
            return None
        return Condition(
            (2 * measurement - 1) * known, known[:, :1].expand(len(measurement), -1, -1, -1)
        )

    if kind == "sr":
        return _all_known(F.interpolate(measurement, size=operator.input_shape[1:], mode="bicubic"))
    if kind == "colorize":
        return _shown_grey(operator, measurement)

    return _shown_blurred(operator, measurement) if kind in ("deblur", "denoise") else None


def _likely_noise(operator: Operator, kind: str) -> Noise:
    """What a measurement in 8 bits has if nobody added any."""
    if kind in ("deblur", "denoise"):
        return "auto"
    if not isinstance(operator, LinearOperator):
        return 0.0
    s = operator.singular_values if operator.has_svd else None
    return 0.0 if s is not None and bool(s[s > 0].min() > 0.1 * s.max()) else QUANTISATION_NOISE


def assumed_borders(operator: str) -> list[str]:
    """The blurs of a text that leave their border to the default, which is not that of a
    photograph.
    """
    return [
        str(part)
        for part in operators.parse(operator).parts
        if part.word.name.startswith("blur:") and not part.gives("boundary")
    ]


def resembled_task(operator: Operator) -> str:
    """The task whose settings suit an operator: ``solve`` where it is like none of the others,
    ``compressed`` where it is not linear.
    """
    if not isinstance(operator, LinearOperator):
        return "compressed" if operator.linear is None else "solve"
    if isinstance(operator, MaskedColor) and _is_grey(operator.matrix):
        return "colorize"
    if isinstance(operator, Mask):
        return "inpaint"

    keeps_channels = operator.input_shape[0] == operator.output_shape[0] == 3
    if isinstance(operator, AxesOperator):
        channel, height, width = operator.matrices
        if channel is not None:
            return "colorize" if height is None and width is None and _is_grey(channel) else "solve"
        if height is None and width is None:
            return "denoise"
        return (
            "deblur"
            if operator.output_shape == operator.input_shape
            else "sr"
            if keeps_channels
            else "solve"
        )

    return "deblur" if keeps_channels and isinstance(operator, CONVOLUTIONS) else "solve"


def _is_grey(matrix: NDArray[Any]) -> bool:
    """Whether a colour matrix makes one channel that shows grey as it is."""
    return matrix.shape[0] == 1 and abs(float(matrix.sum()) - 1) < 1e-3


def _measured_channels(measurement: Tensor, operator: Degradation | Operator) -> Tensor:
    """Pictures are read as three channels; a grey one is the measurement of an operator that gives
    one.
    """
    channels = (
        operator.measured_channels
        if isinstance(operator, Degradation)
        else operator.output_shape[0]
    )
    if measurement.shape[1] != 3 or channels != 1:
        return measurement
    if not bool((measurement == measurement[:, :1]).all()):
        raise BadArgument(
            "--operator: it measures one channel, and this picture is in colour; give a grey one"
        )

    return measurement[:, :1]


def _check_pixels(shape: tuple[int, ...]) -> None:
    pixels = shape[-1] * shape[-2]
    if pixels > MAX_OUTPUT_PIXELS:
        raise BadArgument(
            f"a picture of {shape[-1]}x{shape[-2]} pixels is too large: at most "
            f"{MAX_OUTPUT_PIXELS / 1e6:.0f} million are allowed"
        )


def _moved(operator: Operator, device: torch.device | str) -> Operator:
    """On the device and in single precision; an operator in another one stays as it is, and a copy
    is moved.
    """
    other = any(b.is_floating_point() and b.dtype != torch.float32 for b in operator.buffers())
    return copy.deepcopy(operator).to(device, torch.float32) if other else operator.to(device)


def _operator_for(
    operator: Degradation | Operator, shape: tuple[int, ...], size: tuple[int, int] | None
) -> Operator:
    if isinstance(operator, Degradation):
        with of_option("--operator"):
            picture = operator.input_shape(shape) if size is None else (3, size[1], size[0])
            _check_pixels(picture)
            operator = operator.operator(picture)

    if isinstance(operator, NonlinearChain) and not operator.ends_nonlinear:
        raise BadArgument(
            "--operator: what goes on after quantise or jpeg can be made, but not undone; put them "
            "last"
        )
    if tuple(operator.output_shape) != shape:
        raise BadArgument(
            f"the measurement has the shape {_as_text(shape)}, but of pictures of "
            f"{_as_text(operator.input_shape)} the operator gives "
            f"{_as_text(operator.output_shape)} (channels x height x width)"
        )
    if operator.input_shape[0] != 3:
        raise BadArgument(
            f"the operator takes pictures of {operator.input_shape[0]} channels; the models know 3"
        )

    return operator


def _blur(kernel: str, boundary: str) -> Degradation:
    """``gaussian:2`` as a degradation; a boundary in the text itself counts."""
    parts = operators.parse(f"blur:{kernel}").parts
    if len(parts) > 1:
        raise ValueError(
            f"{kernel!r} is more than a blur kernel; restore solve --operator takes several parts"
        )
    return Degradation((parts[0].unless_given("boundary", boundary),))


def _shown_blurred(operator: LinearOperator, image: Tensor) -> Condition | None:
    """The blurred picture at the size of the sharp one; beyond an unknown border nothing is
    known.
    """
    if isinstance(operator, operators.ValidConvolution):
        return Condition(
            operator.embed(2 * image - 1), operator.embed(torch.ones_like(image[:, :1]))
        )
    return _all_known(image) if operator.input_shape == operator.output_shape else None


def _shown_grey(operator: Operator, grey: Tensor) -> Condition:
    """A grey picture in three equal channels; where a mask hides pixels of it, nothing is known."""
    known = torch.ones_like(grey)
    if isinstance(operator, MaskedColor):
        known = known * operator.known
    return Condition(((2 * grey - 1) * known).expand(-1, 3, -1, -1), GREY * known)


def _as_text(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Look at what can be judged without a picture: ``scale``, ``kernel``, ``boundary``,
    ``operator``, ``noise``.

    Raises:
        BadArgument: a value that cannot be used.
    """
    scale = arguments.get("scale", 2)
    boundary = arguments.get("boundary", "zero")
    if not (math.isfinite(scale) and 1 < scale <= MAX_SCALE):
        raise BadArgument(f"--scale {scale:g}: must be above 1 and at most {MAX_SCALE}")
    if not 0 <= arguments.get("threshold", 0) < 1:
        raise BadArgument(f"--threshold {arguments['threshold']:g}: must be at least 0 and below 1")

    for name in ("dilate", "feather"):
        if not 0 <= arguments.get(name, 0) <= MAX_RADIUS:
            raise BadArgument(
                f"--{name} {arguments[name]:g}: must be between 0 and {MAX_RADIUS} pixels"
            )

    if "kernel" in arguments:
        _check_kernel(arguments["kernel"], of_downsampling="scale" in arguments)
    if boundary not in operators.CONVOLUTION_BOUNDARIES:
        raise BadArgument(
            f"--boundary {boundary}: unknown; use {', '.join(operators.CONVOLUTION_BOUNDARIES)}"
        )

    if isinstance(arguments.get("operator"), str):
        with of_option("--operator"):
            operators.parse(arguments["operator"])
    if arguments.get("noise") is not None:
        _check_noise(arguments["noise"])


def files_named(arguments: Mapping[str, Any]) -> list[Path]:
    """The files of kernels and masks that the text of ``kernel`` or ``operator`` names."""
    kernel = arguments.get("kernel")
    operator = arguments.get("operator")
    if isinstance(kernel, str) and "boundary" in arguments:
        return _blur(kernel, "unknown").files
    return operators.parse(operator).files if isinstance(operator, str) else []


def _check_kernel(kernel: Kernel, of_downsampling: bool) -> None:
    if of_downsampling and kernel not in operators.RESAMPLERS:
        raise BadArgument(f"--kernel {kernel}: unknown; use {', '.join(operators.RESAMPLERS)}")
    if not of_downsampling and isinstance(kernel, str):
        with of_option("--kernel"):
            _blur(kernel, "unknown")


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
        raise BadArgument(
            f"{len(levels)} noise levels for {len(image)} pictures: give one, or one for each"
        )

    return levels.expand(len(image)).to(image.device)
