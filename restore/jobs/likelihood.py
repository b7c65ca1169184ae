"""`restore likelihood`: the bits that a model needs for the pixels of a photograph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from restore.diffusion.likelihood import bits_per_dimension, log_likelihood
from restore.errors import BadArgument
from restore.jobs.crops import CropEstimator, check_fits, for_each, middle_square
from restore.messages import put, put_json
from restore.runtime.budget import SOLVER_BYTES, derivative_bytes


class Likelihood(NamedTuple):
    """Likelihood of one picture.

    Attributes:
        bits: bits per dimension by the exact likelihood with uniform dequantisation; 8 is that of a
            uniform distribution.
        size: side of the crop in pixels.
        seconds: computing time.
    """

    bits: float
    size: int
    seconds: float


class Estimator(CropEstimator):
    """A model that estimates the likelihood of pictures.

    Args:
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        size: side of the centre crop of each picture.
        probes: number of random probes of Hutchinson's estimate.
        seed: random seed for the noise of dequantisation and the probes.
        memory: as for `restore.Restorer`.
        label: class label for a class-conditional model.

    Raises:
        BadArgument: an invalid size, number of probes, memory or class.
        Unavailable: no such model or device, or crops of this size do not fit the memory.
    """

    def __init__(
        self,
        model: str = "default",
        device: str = "auto",
        *,
        size: int = 64,
        probes: int = 1,
        seed: int = 0,
        memory: str | None = None,
        label: int | None = None,
    ) -> None:
        if not 1 <= probes <= 1000:
            raise BadArgument(f"`probes`={probes}: must be between 1 and 1000")

        super().__init__(model, device, size=size, seed=seed, memory=memory, label=label)
        self.probes = probes
        per_pixel = SOLVER_BYTES + derivative_bytes(self.denoise)
        check_fits(size, per_pixel, self.budget.memory)

    def __call__(self, path: Path) -> Likelihood:
        """Return the likelihood of the centre crop of a picture.

        Raises:
            UnreadableInput: not a picture, or one smaller than the crop.
            FileAccess: the file cannot be read.
            Unavailable: not enough memory.
        """
        start = time.perf_counter()
        generator = self.generator()
        values = middle_square(path, self.size)
        dither = torch.rand(values.shape, generator=generator, dtype=values.dtype)
        pictures = (values + dither) / 128 - 1
        levels = self.denoise.schedule.sigmas

        with self.enough_memory(path):
            nats = log_likelihood(
                self.denoise,
                pictures.to(self.device),
                float(levels[0]),
                float(levels[-1]),
                probes=self.probes,
                rtol=1e-3,
                atol=1e-3,
                generator=generator,
            )

        bits = bits_per_dimension(nats, pictures[0].numel())

        return Likelihood(float(bits), self.size, time.perf_counter() - start)


def tell_all(
    estimator: Estimator,
    pictures: Sequence[Path],
    *,
    as_json: bool = False,
    wording: Callable[[str], str] = str,
) -> None:
    """Print a line on stdout for each picture, and an error on stderr for each that failed.

    Args:
        estimator: the model.
        pictures: picture files.
        as_json: True to print JSON objects.
        wording: puts error texts into the words of the caller.

    Raises:
        RestoreError: the only picture failed.
        SomeFailed: some of several pictures failed.
    """

    def tell(path: Path) -> None:
        found = estimator(path)
        if as_json:
            put_json({"input": str(path), **found._asdict()})
            return
        put(
            f"{path}: {found.bits:.3f} bits per dimension ({found.size}x{found.size}, "
            f"{found.seconds:.1f} s)"
        )

    for_each(pictures, tell, wording)
