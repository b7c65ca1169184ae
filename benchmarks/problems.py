"""Test pictures and their degradations, for benchmarks of settings and of cost.

benchmarks/quality.py has its own. The truth is the top-left crop of a picture in 8 bits, its sides
cut to multiples of 4. Noise and masks come from a seed made of the file's name. Every measurement,
noisy ones too, is what people have as a file: clipped and rounded to 8 bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
from restore.tasks import Colorization, Deblurring, Denoising, Inpainting, SuperResolution, Task

EightBit = NDArray[np.uint8]
Missing = NDArray[np.bool_]
Random = np.random.Generator

# Sides are cut to multiples of it, so that down- and upsampling give the old size again.
MULTIPLE = 4


@dataclass(frozen=True)
class Case:
    """One degraded picture.

    Attributes:
        name: Name of the picture's file.
        truth: [1, 3, H, W] in [0, 1].
        operator: Degradation without its noise.
        file: Measurement in 8 bits, [h, w, 3], or [h, w] if it is grey.
        task: Record for `Restorer.run`, with the noise level and the mask of this picture.
    """

    name: str
    truth: Tensor
    operator: LinearOperator
    file: EightBit
    task: Task

    @property
    def photo(self) -> Photo:
        """The measurement as the classical methods take it, in [0, 1]."""
        return self.file.astype(np.float32) / 255


@dataclass(frozen=True)
class Problem:
    """A degradation, and the task that undoes it.

    Attributes:
        name: Name in tables and on the command line.
        task: Record for `Restorer.run`; its ``noise`` is the standard deviation that `degrade`
            adds, for pixels in [0, 1], without the rounding.
        operator: Makes the operator for a picture's shape; the random numbers are for masks.
    """

    name: str
    task: Task
    operator: Callable[[Shape, Random], LinearOperator]

    def degrade(self, name: str, picture: EightBit) -> Case:
        """Measure a picture [H, W, 3]; the result is the same in every run.

        The noise is NumPy's: the solvers draw theirs with PyTorch, so equal seeds cannot make the
        two equal.
        """
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        truth = to_tensor(picture.astype(np.float32) / 255)
        operator = self.operator(tuple(truth.shape[1:]), rng)
        measured = from_tensor(operator.A(truth))
        noise = self.task.noise * rng.standard_normal(measured.shape, np.float32)
        file = eight_bit(measured + noise)
        file = file[..., 0] if file.shape[2] == 1 else file

        return Case(name, truth, operator, file, _masked(self.task, operator))


def _masked(task: Task, operator: LinearOperator) -> Task:
    """Return the task with the pixels that the operator loses as its mask, if it takes one."""
    if not isinstance(task, Inpainting):
        return task
    return replace(task, mask=operator.singular_values[0].numpy() == 0)


def load_pictures(folder: Path, size: int, count: int | None = None) -> dict[str, EightBit]:
    """Read the first pictures of a folder in name order.

    Args:
        size: Side of the top-left crop; 0 is the whole picture.
        count: Number of pictures; None is all.

    Returns:
        RGB [H, W, 3] by file name.
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
    """Lose half of the pixels."""
    return rng.random((height, width)) < 0.5


def random_strokes(height: int, width: int, rng: Random) -> Missing:
    """Draw thick bent lines until they cover more than a tenth of the picture (10 to 15 %)."""
    canvas = np.zeros((height, width), np.uint8)
    side = min(height, width)
    while canvas.mean() < 0.1:
        steps = rng.normal(0, side / 10, (4, 2)).cumsum(axis=0)
        points = np.rint(rng.random(2) * (width, height) + steps).astype(np.int32)
        cv2.polylines(canvas, [points], isClosed=False, color=1, thickness=max(2, side // 20))

    return canvas > 0


def super_resolution(name: str, scale: int, noise: float = 0.0) -> Problem:
    """Bicubic downsampling, with noise."""
    task = SuperResolution(scale, kernel="bicubic", noise=noise)
    return Problem(name, task, lambda shape, _: operators.downsample(shape, scale))


def _deblurring(name: str, kernel: str, noise: float) -> Problem:
    """Blur of a picture that goes on as its mirror image, which the methods are not told.

    benchmarks/real_border.py measures borders that are unknown indeed.
    """
    degradation = operators.parse(f"blur:{kernel}")
    task = Deblurring(kernel, noise=noise)
    return Problem(name, task, lambda shape, _: degradation.operator(shape))


def _denoising(levels: int) -> Problem:
    task = Denoising(levels / 255)
    return Problem(f"denoise-{levels}", task, lambda shape, _: operators.identity(shape))


def _inpainting(name: str, missing: Callable[[int, int, Random], Missing]) -> Problem:
    def mask(shape: Shape, rng: Random) -> LinearOperator:
        return Mask(shape, torch.from_numpy(~missing(*shape[1:], rng)))

    # each picture has its own mask, see `_masked`
    return Problem(name, Inpainting(np.zeros((1, 1), bool)), mask)


_ALL = (
    super_resolution("sr2", 2),
    super_resolution("sr4", 4),
    super_resolution("sr4-noise", 4, noise=0.05),
    _deblurring("deblur-gaussian", "gaussian:2", 0.01),
    _deblurring("deblur-motion", "motion:15:30", 0.01),
    _denoising(25),
    _inpainting("inpaint-random", random_pixels),
    _inpainting("inpaint-strokes", random_strokes),
    Problem("colorize", Colorization(noise=0.0), lambda shape, _: operators.gray(shape)),
)
PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in _ALL}
