"""Centre crops of pictures, and the priors that something is estimated with on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.denoiser import Denoiser
from restore.errors import BadArgument, RestoreError, SomeFailed, Unavailable, UnreadableInput
from restore.messages import complain
from restore.photo.encode import quantise
from restore.photo.photograph import read_photo
from restore.restorer import check_prior, load_denoiser
from restore.runtime.budget import Budget, check_sizes
from restore.runtime.devices import choose_device, is_out_of_memory

# Range of the side of a crop in pixels; the derivative of the network takes kilobytes per pixel.
SMALLEST, LARGEST = 8, 1024


class CropEstimator:
    """A prior that something is estimated with, of the centre crops of pictures.

    Args:
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        size: side of the centre crop of each picture.
        seed: random seed.
        memory: as for `restore.Restorer`.
        label: class label for a class-conditional model.

    Raises:
        BadArgument: an invalid size, memory or class, or a model without a prior for the size.
        Unavailable: no such model or device.
    """

    def __init__(
        self,
        model: str = "default",
        device: str = "auto",
        *,
        size: int = 64,
        seed: int = 0,
        memory: str | None = None,
        label: int | None = None,
    ) -> None:
        check_crop(size)
        check_sizes(None, memory)
        self.size = size
        self.seed = seed
        self.device = choose_device(device)
        self.denoise = load_prior(model, self.device, size, label)
        self.budget = Budget.of(self.denoise, memory)

    def generator(self) -> torch.Generator:
        """Return random numbers that are the same for each picture."""
        return torch.Generator().manual_seed(self.seed)

    @contextmanager
    def enough_memory(self, path: Path) -> Iterator[None]:
        """Turn an out-of-memory error of a picture into an error for users.

        Raises:
            Unavailable: memory ran out.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise Unavailable(
                f"{path}: not enough memory for {self.size}x{self.size}; take a smaller `size`"
            ) from None


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
