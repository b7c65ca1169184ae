"""`restore likelihood`: the bits that a model needs for the pixels of a photograph."""

from __future__ import annotations

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
from restore.messages import complain, put, put_json
from restore.photo.encode import quantise
from restore.photo.photograph import read_photo
from restore.restorer import check_prior, load_denoiser
from restore.runtime.budget import SOLVER_BYTES, Budget, check_sizes, derivative_bytes
from restore.runtime.devices import choose_device, is_out_of_memory

# Range of the side of a crop in pixels; the derivative of the network takes kilobytes per pixel.
SMALLEST, LARGEST = 8, 1024


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


class Estimator:
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
        check_crop(size)
        if not 1 <= probes <= 1000:
            raise BadArgument(f"`probes`={probes}: must be between 1 and 1000")

        check_sizes(None, memory)
        self.size = size
        self.probes = probes
        self.seed = seed
        self.device = choose_device(device)
        self.denoise = load_prior(model, self.device, size, label)
        check_fits(
            size,
            SOLVER_BYTES + derivative_bytes(self.denoise),
            Budget.of(self.denoise, memory).memory,
        )

    def __call__(self, path: Path) -> Likelihood:
        """Return the likelihood of the centre crop of a picture.

        Raises:
            UnreadableInput: not a picture, or one smaller than the crop.
            FileAccess: the file cannot be read.
            Unavailable: not enough memory.
        """
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        values = middle_square(path, self.size)
        dither = torch.rand(values.shape, generator=generator, dtype=values.dtype)
        pictures = (values + dither) / 128 - 1
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


def check_crop(size: int) -> None:
    """Check the side of a crop.

    Raises:
        BadArgument: it is out of range.
    """
    if not SMALLEST <= size <= LARGEST:
        raise BadArgument(f"`size`={size}: must be between {SMALLEST} and {LARGEST} pixels")


def load_prior(model: str, device: torch.device, size: int, label: int | None) -> Denoiser:
    """Load the prior of a model for crops of a size.

    Raises:
        BadArgument: the model knows another size only, has no prior, or no such class.
        Unavailable: no such model.
    """
    denoise: Denoiser = load_denoiser(model, device, torch.float32).of_class(label)
    check_prior(denoise, model)
    if denoise.config.size not in (None, size):
        raise BadArgument(
            f"`size`={size}: must be {denoise.config.size}, the only size that this model knows"
        )
    return denoise


def check_fits(size: int, per_pixel: float, memory: int) -> None:
    """Refuse a crop that takes more than the memory in bytes.

    Raises:
        Unavailable: it does.
    """
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


def for_each(
    pictures: Sequence[Path], work: Callable[[Path], None], wording: Callable[[str], str] = str
) -> None:
    """Work on each picture, and print an error on stderr for each that failed.

    Raises:
        RestoreError: the only picture failed.
        SomeFailed: some of several pictures failed; after the work on all others.
    """
    failed = []
    for path in pictures:
        try:
            work(path)
        except RestoreError as error:
            if len(pictures) == 1:
                raise
            complain(f"{wording(str(error))} (going on)")
            failed.append(str(path))

    if failed:
        raise SomeFailed(f"{len(failed)} of {len(pictures)} pictures failed: {', '.join(failed)}")


def middle_square(path: Path, size: int) -> Tensor:
    """Return 8-bit values of the centre crop in three channels, [1, 3, size, size]."""
    pixels = quantise(read_photo(path).pixels, 8)
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise UnreadableInput(f"{path}: {width}x{height} pixels, smaller than `size`={size}")

    top = (height - size) // 2
    left = (width - size) // 2
    square = np.broadcast_to(pixels[top : top + size, left : left + size], (size, size, 3))

    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1)[None].float()
