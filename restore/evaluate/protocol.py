"""The protocol of an evaluation: truth, degradation, and the information of the methods.

- The truth is the picture, or its centre crop, in 8 bits. For super-resolution it is cropped to a
  size that the scale reproduces; for a blur with an unknown border, to the visible part.
- The degradation is one of this package's operators. Noise and random masks have a seed made of the
  file's name and the run's seed, on the CPU, so that they are the same on every machine.
- The measurement is clipped and rounded to 8 bits, like a file. One that is not a picture (sums of
  pixels, as of ``hadamard``) stays in floating point.
- Every method knows the operator and the standard deviation of the noise.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import operators
from operators import LinearOperator, Mask, NonlinearChain, ValidConvolution
from operators.grammar import Part
from restore.errors import BadArgument
from restore.evaluate.settings import Settings, mask_words
from restore.metrics.signal_noise import SignalNoise
from restore.photo.encode import quantise
from restore.photo.photograph import read_mask
from restore.report.html import printable
from restore.tasks import TASKS, SuperResolution, Task
from restore.tasks.degradation import as_picture, degrade, operator_of
from restore.tasks.inpaint import fitted
from restore.tasks.kind import Kind
from restore.tasks.option import Noise, options_of
from restore.tasks.problem import QUANTISATION_NOISE

EightBit = NDArray[np.uint8]
Operator = LinearOperator | NonlinearChain


@dataclass(frozen=True)
class Case:
    """One degraded picture.

    Attributes:
        name: printable name of its file.
        truth: [H, W, 3].
        file: the measurement for the methods: 8 bits [h, w, 3] or grey [h, w], or float32 [C, h, w]
            if it is not a picture.
        measurement: the same as float32 [1, C, h, w], with pictures in [0, 1].
        operator: A.
        noise: standard deviation of the added noise in [0, 1] units; its mean if it depends on the
            signal.
        kind: kind of the problem, see `restore.tasks.solve.resembled_kind`.
        task: the task for `restore.restorer.Restorer.run`.
        written: the operator as text; empty for masks from files.
    """

    name: str
    truth: EightBit
    file: EightBit | Tensor
    measurement: Tensor
    operator: Operator
    noise: float
    kind: Kind
    task: Task
    written: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the truth."""
        return self.truth.shape[0], self.truth.shape[1]

    @property
    def photo(self) -> NDArray[np.float32]:
        """The measurement for classical methods, [h, w, C] in [0, 1]."""
        return np.ascontiguousarray(self.measurement[0].permute(1, 2, 0).numpy())

    @property
    def comparable(self) -> bool:
        """True if the measurement is a picture of the size of the truth, which can be scored."""
        return isinstance(self.file, np.ndarray) and self.file.shape == self.truth.shape

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Pixels [H, W] with an unknown channel, for an operator that is a mask."""
        return _missing(self.operator)

    @cached_property
    def shown(self) -> EightBit:
        """The measurement, or its pseudo-inverse if it is not a picture, [h, w, 3]."""
        picture = as_picture(self.measurement, self.operator)[0].expand(3, -1, -1)
        return to_eight_bit(picture.permute(1, 2, 0).numpy())

    @cached_property
    def taps(self) -> NDArray[np.float32] | None:
        """Kernel [h, w] with odd sides; None if the operator is not a single blur."""
        parts = operators.parse(self.written).parts if self.written else ()
        return (
            kernel_of(parts[0])
            if len(parts) == 1 and parts[0].word.name.startswith("blur:")
            else None
        )

    @cached_property
    def explained(self) -> tuple[Operator, Tensor] | None:
        """Operator and measurement for the consistency A x − y of a result.

        For a blur with an unknown border it is the part of the measurement that depends on the
        visible pixels only; None if there is none.
        """
        if tuple(self.operator.input_shape[1:]) == self.size:
            return self.operator, self.measurement

        kernel = self.taps
        if kernel is None or not isinstance(self.operator, ValidConvolution):
            return None

        (height, width), (rows, columns) = self.size, kernel.shape
        if rows > height or columns > width:
            return None

        inside = ValidConvolution((3, height - rows + 1, width - columns + 1), kernel)
        top, bottom, left, right = inside.margins

        return inside, self.measurement[..., top : height - bottom, left : width - right]


def degraded(settings: Settings, name: str, picture: EightBit, mask: Path | None = None) -> Case:
    """Degrade a picture, in the same way in every run.

    Args:
        settings: settings from `Settings.completed`.
        name: name of the picture, which decides the random seed.
        picture: [H, W, 3].
        mask: file of its mask.

    Raises:
        BadArgument: the picture is too small, or the operator or mask does not fit it.
        RestoreError: a mask or kernel that cannot be read.
    """
    seed = seed_of(name, settings.seed)
    part = middle(picture, *_sides(settings, name, picture))
    color = to_tensor(part)
    operator, written = _operator(settings, color, seed, mask, (picture.shape[0], picture.shape[1]))
    measurement = degrade(color, operator, noise=settings.noise or 0.0, seed=seed).measurement
    if isinstance(operator, Mask):
        measurement = measurement * operator.singular_values.reshape(1, *operator.input_shape)

    _refuse_small(operator, part)
    truth = to_eight_bit(operator.visible(color)[0].permute(1, 2, 0).numpy())
    file: EightBit | Tensor = measurement[0]
    if as_picture(measurement, operator) is measurement:
        file = to_eight_bit(measurement[0].permute(1, 2, 0).numpy())
        measurement = to_tensor(file)
        file = file[..., 0] if file.shape[2] == 1 else file

    known = TASKS[settings.task]
    kind = known.kind_of(operator)
    of_picture: dict[str, Any] = {}
    if kind.fills_holes and settings.mask:
        of_picture |= {"mask": _missing(operator), "invert_mask": False, "fit_mask": False}
    if known.takes_measurements:
        of_picture["size"] = (operator.input_shape[2], operator.input_shape[1])

    task = settings.stated(_told_noise(settings, kind), **of_picture)
    return Case(
        printable(name),
        truth,
        file,
        measurement,
        operator,
        _mean_level(settings, operator, color),
        kind,
        task,
        written,
    )


def seed_of(name: str, seed: int) -> int:
    """Return the random seed for noise and mask of a picture, 32 bits."""
    return zlib.crc32(f"{seed}:".encode() + os.fsencode(name))


def middle(picture: EightBit, height: int, width: int) -> EightBit:
    """Return the centre crop of a picture [H, W, …]."""
    top = (picture.shape[0] - height) // 2
    left = (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def to_eight_bit(photo: NDArray[np.floating]) -> EightBit:
    """Clip a photo to [0, 1] and quantise it to 8 bits."""
    return quantise(photo, 8)


def to_tensor(picture: EightBit) -> Tensor:
    """Convert [H, W, C] in 8 bits to float32 [1, C, H, W] in [0, 1]."""
    return torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def kernel_of(part: Part) -> NDArray[np.float32]:
    """Return the kernel [h, w] of a ``blur:`` word, its impulse response.

    Sides are padded at the end to odd lengths, which keeps the centre.
    """
    values = {**part.values, "boundary": "unknown"}
    far = 1 << 14
    height, width = (side - far + 1 for side in part.word.grow((1, far, far), **values)[1:])
    point = torch.zeros(1, 1, 2 * height - 1, 2 * width - 1, dtype=torch.float32)
    point[..., height - 1, width - 1] = 1
    taps = part.word.build(tuple(point.shape[1:]), **values).A(point)[0, 0].numpy()
    taps = np.pad(taps, ((0, 1 - height % 2), (0, 1 - width % 2)))

    return taps / taps.sum()


def _missing(operator: Operator) -> NDArray[np.bool_]:
    """Return True at pixels [H, W] with a channel that a mask hides."""
    assert isinstance(operator, Mask)
    known = operator.singular_values.reshape(-1, *operator.input_shape[1:])
    return (known == 0).any(dim=0).numpy()


def _refuse_small(operator: Operator, picture: EightBit) -> None:
    """Refuse a blurred picture that is smaller than its kernel."""
    if isinstance(operator, ValidConvolution):
        height, width = (1 + a + b for a, b in (operator.margins[:2], operator.margins[2:]))
        if height > operator.output_shape[1] or width > operator.output_shape[2]:
            raise BadArgument(
                f"{picture.shape[1]}x{picture.shape[0]} pixels are too few for a kernel of "
                f"{width}x{height}: what is inside the blur's border must not be smaller than the "
                "kernel"
            )


def _sides(settings: Settings, name: str, picture: EightBit) -> tuple[int, int]:
    """Height and width of the truth."""
    height, width = picture.shape[:2]
    if settings.size > min(height, width):
        raise BadArgument(f"{name}: {width}x{height} pixels, smaller than `size`={settings.size}")

    height = settings.size or height
    width = settings.size or width
    if settings.scale:
        task = SuperResolution(settings.scale)
        height, width = (round(task.reduced(side) * task.factor) for side in (height, width))
        if min(height, width) == 0:
            raise BadArgument(
                f"{name}: {picture.shape[1]}x{picture.shape[0]} pixels, too small for a scale of "
                f"{settings.scale:g}"
            )

    return height, width


def _operator(
    settings: Settings, color: Tensor, seed: int, mask: Path | None, whole: tuple[int, int]
) -> tuple[Operator, str]:
    """Return the operator for pictures ``color`` [1, 3, H, W], and its text."""
    if not settings.mask:
        return settings.stated(settings.noise).degradation(_shape(color))

    words = mask_words(settings)
    if words is None:
        assert mask is not None
        return _mask(settings, mask, color, whole), ""

    part = words.parts[0]
    seeded = any(parameter.name == "seed" for parameter in part.word.parameters)
    text = str(part.unless_given("seed", seed) if seeded else part)
    return operator_of(text, color), text


def _shape(color: Tensor) -> tuple[int, int, int]:
    return color.shape[1], color.shape[2], color.shape[3]


def _mask(settings: Settings, path: Path, color: Tensor, whole: tuple[int, int]) -> Mask:
    """Return the operator of a mask file in the size of the picture or of its crop."""
    missing: np.ndarray = read_mask(path) ^ bool(settings.invert_mask)
    if settings.fit_mask:
        missing = fitted(torch.from_numpy(missing), whole).numpy()

    sides = color.shape[-2], color.shape[-1]
    if missing.shape == whole:
        missing = middle(missing, *sides)
    if missing.shape != sides:
        raise BadArgument(
            f"the mask {path} is {missing.shape[1]}x{missing.shape[0]} pixels and the picture "
            f"{whole[1]}x{whole[0]}; they must be of the same size; `fit_mask` resizes the mask"
        )

    if missing.all() or not missing.any():
        where = (
            "everywhere: nothing would be known"
            if missing.all()
            else "nowhere: there is nothing to fill"
        )
        raise BadArgument(f"the mask {path} is white {where} (white = fill)")

    return Mask(_shape(color), torch.from_numpy(~missing))


def _mean_level(settings: Settings, operator: Operator, color: Tensor) -> float:
    """Return the standard deviation of the added noise, the mean of a measurement's values."""
    noise = settings.noise or 0.0
    if not isinstance(noise, SignalNoise):
        return noise

    linear = operator if isinstance(operator, LinearOperator) else operator.linear
    exposed = color if linear is None else linear.A(color)
    return float(noise.std(exposed).mean())


def _told_noise(settings: Settings, kind: Kind) -> Noise | None:
    """Return the noise that the methods know.

    For blurs it includes the quantisation to 8 bits. None leaves it to
    `restore.tasks.solve.Solving`, for a measurement without added noise.
    """
    noise = settings.noise or 0.0
    if isinstance(noise, SignalNoise):
        return noise.at_least(QUANTISATION_NOISE) if kind.rounding_is_noise else noise
    if kind.rounding_is_noise:
        return max(noise, QUANTISATION_NOISE)
    option = options_of(TASKS[settings.task]).get("noise")
    if option is not None and option.default is None and not noise:
        return None

    return noise
