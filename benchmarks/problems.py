"""A few pictures and how they are degraded, for benchmarks of settings and of cost.
benchmarks/quality.py has its own.

- The truth is the top-left crop of a picture in 8 bits, its sides cut to multiples of 4.
- The degradations are this package's operators. Noise and masks come from a seed made of the file's
  name.
- Every measurement, noisy ones too, is what a person would have as a file: clipped, rounded to 8
  bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import operators
from operators import LinearOperator, Mask, Shape
from restore.metrics.classical import Photo
from restore.photo.photograph import SUFFIXES

EightBit = NDArray[np.uint8]
Missing = NDArray[np.bool_]
Random = np.random.Generator

MULTIPLE = 4
"""Sides are cut to it: a picture divided by a scale factor and multiplied by it again has its old
size.
"""


@dataclass(frozen=True)
class Case:
    """One degraded picture.

    Attributes:
        name: of the picture's file.
        truth: [1, 3, H, W] in [0, 1].
        file: the measurement in 8 bits, [h, w, 3] or grey [h, w].
        noise: standard deviation in [0, 1] units, without the rounding.
        arguments: for `Restorer.run`.
    """

    name: str
    truth: Tensor
    operator: LinearOperator
    file: EightBit
    noise: float
    arguments: Mapping[str, Any]

    @property
    def photo(self) -> Photo:
        """The measurement as the classical methods take it, in [0, 1]."""
        return self.file.astype(np.float32) / 255

    @property
    def missing(self) -> Missing:
        """The pixels to fill, where the operator is a mask."""
        return self.operator.singular_values[0].numpy() == 0


@dataclass(frozen=True)
class Task:
    """A degradation, and what `Restorer.run` is told of it.

    Attributes:
        kind: the task's name for `Restorer.run`.
        operator: makes A for a picture's shape; random numbers are for masks.
    """

    name: str
    kind: str
    operator: Callable[[Shape, Random], LinearOperator]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.0

    def degrade(self, name: str, picture: EightBit) -> Case:
        """The measurement of a picture [H, W, 3], the same in every run.

        The noise is NumPy's: the solvers draw theirs with PyTorch, so equal seeds cannot make the
        two equal.
        """
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        truth = to_tensor(picture.astype(np.float32) / 255)
        operator = self.operator(tuple(truth.shape[1:]), rng)
        measured = from_tensor(operator.A(truth))
        file = eight_bit(measured + self.noise * rng.standard_normal(measured.shape, np.float32))
        file = file[..., 0] if file.shape[2] == 1 else file
        case = Case(
            name, truth, operator, file, self.noise, {**self.arguments, "noise": self.noise}
        )
        if self.kind == "inpaint":
            case.arguments["mask"] = case.missing

        return case


def load_pictures(folder: Path, size: int, count: int | None = None) -> dict[str, EightBit]:
    """The first pictures of a folder in name order as RGB [H, W, 3], cropped; size 0 is the whole
    picture.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:count]
    return {path.name: _crop(np.asarray(Image.open(path).convert("RGB")), size) for path in paths}


def _crop(picture: EightBit, size: int) -> EightBit:
    height, width = (min(size or side, side) // MULTIPLE * MULTIPLE for side in picture.shape[:2])
    return picture[:height, :width]


def eight_bit(photo: Photo) -> EightBit:
    return np.rint(photo.clip(0, 1) * 255).astype(np.uint8)


def to_tensor(photo: Photo) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(photo))).permute(2, 0, 1)[None]


def from_tensor(pictures: Tensor) -> Photo:
    return pictures[0].permute(1, 2, 0).numpy()


def random_pixels(height: int, width: int, rng: Random) -> Missing:
    """Half of the pixels."""
    return rng.random((height, width)) < 0.5


def random_strokes(height: int, width: int, rng: Random) -> Missing:
    """Thick bent lines, until more than a tenth of the picture is covered (10 to 15 %)."""
    canvas = np.zeros((height, width), np.uint8)
    side = min(height, width)
    while canvas.mean() < 0.1:
        steps = rng.normal(0, side / 10, (4, 2)).cumsum(axis=0)
        points = np.rint(rng.random(2) * (width, height) + steps).astype(np.int32)
        cv2.polylines(canvas, [points], isClosed=False, color=1, thickness=max(2, side // 20))

    return canvas > 0


def _super_resolution(name: str, scale: int, noise: float = 0.0) -> Task:
    arguments = {"scale": scale, "kernel": "bicubic"}
    return Task(name, "sr", lambda s, _: operators.downsample(s, scale), arguments, noise)


def _deblurring(name: str, kernel: str, noise: float) -> Task:
    """The picture goes on as its mirror image, which the methods are not told; see
    benchmarks/real_border.py, too.
    """
    degradation = operators.parse(f"blur:{kernel}")
    return Task(name, "deblur", lambda s, _: degradation.operator(s), {"kernel": kernel}, noise)


def _denoising(levels: int) -> Task:
    return Task(
        f"denoise-{levels}", "denoise", lambda s, _: operators.identity(s), noise=levels / 255
    )


def _inpainting(name: str, missing: Callable[[int, int, Random], Missing]) -> Task:
    return Task(name, "inpaint", lambda s, rng: Mask(s, torch.from_numpy(~missing(*s[1:], rng))))


_ALL = (
    _super_resolution("sr4", 4),
    _super_resolution("sr4-noise", 4, noise=0.05),
    _deblurring("deblur-gaussian", "gaussian:2", 0.01),
    _deblurring("deblur-motion", "motion:15:30", 0.01),
    _denoising(25),
    _inpainting("inpaint-random", random_pixels),
    _inpainting("inpaint-strokes", random_strokes),
    Task("colorize", "colorize", lambda s, _: operators.gray(s)),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
