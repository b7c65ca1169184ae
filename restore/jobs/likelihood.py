"""`restore likelihood`: how many bits a model needs for a photograph's pixels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.denoiser import Denoiser
from restore.diffusion.likelihood import bits_per_dimension, log_likelihood
from restore.errors import BadArgument, RestoreError, SomeFailed, Unavailable, UnreadableInput
from restore.jobs.run import complain
from restore.photo.encode import quantise
from restore.photo.photograph import read_photo
from restore.restorer import check_prior, load_denoiser
from restore.runtime.budget import SOLVER_BYTES, Budget, check_sizes, derivative_bytes
from restore.runtime.devices import choose_device, is_out_of_memory

SMALLEST, LARGEST = 8, 1024
"""Sides in pixels of the squares: the network's derivative keeps some kilobytes for each pixel."""


class Likelihood(NamedTuple):
    """Of one picture.

    Attributes:
        bits: a number of a pixel, by the exact likelihood with uniform dequantisation; 8 says
            nothing at all.
        size: side of the square in pixels.
        seconds: it took.
    """

    bits: float
    size: int
    seconds: float


class Estimator:
    """A model that tells how likely pictures are.

    Args:
        model, device: as for `restore.Restorer`.
        size: side of the square from the middle of each picture.
        probes: of Hutchinson's estimate.
        seed: of the dequantisation's noise and of the probes.
        memory: as for `restore.Restorer`.
        label: the class, of a class-conditional model.

    Raises:
        BadArgument: a size, number of probes, memory or class that cannot be used.
        Unavailable: no such model or device, or squares of this size take more than the memory.
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
        if not SMALLEST <= size <= LARGEST:
            raise BadArgument(f"`size`={size}: must be between {SMALLEST} and {LARGEST} pixels")
        if not 1 <= probes <= 1000:
            raise BadArgument(f"`probes`={probes}: must be between 1 and 1000")

        check_sizes(None, memory)
        self.size = size
        self.probes = probes
        self.seed = seed
        self.device = choose_device(device)
        self.denoise: Denoiser = load_denoiser(model, self.device, torch.float32).of_class(label)
        check_prior(self.denoise, model)
        if self.denoise.config.size not in (None, size):
            raise BadArgument(
                f"`size`={size}: must be {self.denoise.config.size}, the only size that this model "
                "knows"
            )

        _check_fits(
            size,
            SOLVER_BYTES + derivative_bytes(self.denoise),
            Budget.of(self.denoise, memory).memory,
        )

    def __call__(self, path: Path) -> Likelihood:
        """The likelihood of the middle of a picture.

        Raises:
            UnreadableInput, FileAccess: no picture, or one smaller than the square.
            Unavailable: not enough memory.
        """
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        values = _middle(path, self.size)
        pictures = (values + torch.rand(values.shape, generator=generator)) / 128 - 1
        levels = self.denoise.schedule.sigmas

        try:
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
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise Unavailable(
                f"{path}: not enough memory for {self.size}x{self.size}; take a smaller `size`"
            ) from None

        bits = bits_per_dimension(nats, pictures[0].numel())

        return Likelihood(float(bits), self.size, time.perf_counter() - start)


def _check_fits(size: int, per_pixel: float, memory: int) -> None:
    """Raises Unavailable where a square of ``size`` takes more than the memory in bytes."""
    needed = size**2 * per_pixel
    largest = int((memory / per_pixel) ** 0.5)
    if needed > memory:
        raise Unavailable(
            f"`size`={size}: a square of {size}x{size} pixels takes about {needed / 1e6:.0f} MB, "
            f"and there are {memory / 1e6:.0f} MB for it; "
            + (f"at most `size`={largest} fits" if largest >= SMALLEST else "close other programs")
        )


def tell_all(
    estimator: Estimator,
    pictures: Sequence[Path],
    *,
    as_json: bool = False,
    wording: Callable[[str], str] = str,
) -> None:
    """A line on stdout for each picture; one that cannot be used is told on stderr, and the others
    follow.

    Raises:
        RestoreError: of a single picture.
        SomeFailed: some of several could not be used.
    """
    failed = []
    for path in pictures:
        try:
            found = estimator(path)
        except RestoreError as error:
            if len(pictures) == 1:
                raise
            complain(f"{wording(str(error))} (going on)")
            failed.append(str(path))
            continue
        shown = (
            f"{path}: {found.bits:.3f} bits per dimension ({found.size}x{found.size}, "
            f"{found.seconds:.1f} s)"
        )
        print(json.dumps({"input": str(path), **found._asdict()}) if as_json else shown, flush=True)

    if failed:
        raise SomeFailed(f"{len(failed)} of {len(pictures)} pictures failed: {', '.join(failed)}")


def _middle(path: Path, size: int) -> Tensor:
    """8-bit values of the middle square in three channels, [1, 3, size, size]."""
    pixels = quantise(read_photo(path).pixels, 8)
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise UnreadableInput(f"{path}: {width}x{height} pixels, smaller than `size`={size}")

    top = (height - size) // 2
    left = (width - size) // 2
    square = np.broadcast_to(pixels[top : top + size, left : left + size], (size, size, 3))

    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1)[None].float()
