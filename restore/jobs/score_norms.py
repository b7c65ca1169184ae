"""`restore score-norms`: estimate score norms of models, and find them for sampling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pretrained
from pretrained.store import cache_folder
from restore.diffusion.schedule import noise_levels
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError, Unavailable
from restore.files import refuse_existing
from restore.jobs.plan import check_writable
from restore.jobs.walk import pictures_in
from restore.photo.apart import decoding_apart
from restore.photo.photograph import SUFFIXES, read_photo
from restore.precision import single_precision
from restore.restorer import load_denoiser, model_digest
from restore.runtime.devices import choose_device, keep_freed_memory
from restore.runtime.progress import Progress
from restore.samplers.analytic_dpm import ScoreNorms, estimate_score_norms

# Side of a crop in pixels, for models of any size.
SIDE = 96


@dataclass(frozen=True)
class Estimate:
    """Options of an estimate.

    Attributes:
        folder: folder of photographs like those of the model's training.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        label: class label for a class-conditional model.
        count: number of random crops.
        size: side of a crop in pixels; None is the model's own size, or `SIDE`.
        levels: number of noise levels, evenly spaced in log σ over the model's schedule; at most as
            many as that has.
        seed: random seed for crops and noise.

    Raises:
        BadArgument: an invalid option.
    """

    folder: Path
    model: str = "default"
    device: str = "auto"
    label: int | None = None
    count: int = 64
    size: int | None = None
    levels: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 100_000:
            raise BadArgument(f"`count`={self.count}: must be between 1 and 100000")
        if not 2 <= self.levels <= 1000:
            raise BadArgument(f"`levels`={self.levels}: must be between 2 and 1000")
        if self.size is not None and not 8 <= self.size <= 1024:
            raise BadArgument(f"`size`={self.size}: must be between 8 and 1024 pixels")


@single_precision()
def estimate_to(
    wanted: Estimate, target: Path | None = None, *, overwrite: bool = False, quiet: bool = False
) -> Path:
    """Estimate the score norms of a model, write them, and return the file.

    Args:
        wanted: options of the estimate.
        target: the file; None overwrites the one that `find_score_norms` finds.
        overwrite: True to overwrite ``target``.
        quiet: True to show no progress.

    Raises:
        BadArgument: an invalid option.
        NothingToDo: no readable photograph that is large enough.
        FileAccess: an unreadable folder, or an existing or unwritable file; before any work.
        Unavailable: no such model or device.
    """
    identity = _identity(wanted.model, wanted.label)
    path = _kept(identity) if target is None else target
    refuse_existing(path, overwrite or target is None)
    check_writable(path.parent)
    keep_freed_memory()
    denoise = load_denoiser(wanted.model, choose_device(wanted.device), torch.float32).of_class(
        wanted.label
    )
    side = wanted.size or denoise.config.size or SIDE
    only = denoise.config.size
    if only not in (None, side):
        raise BadArgument(f"`size`={side}: must be {only}, the only size that this model knows")

    generator = torch.Generator().manual_seed(wanted.seed)
    with decoding_apart():
        pictures = random_squares(wanted.folder, wanted.count, side, generator).to(denoise.device)
    sigmas = noise_levels(denoise.schedule, min(wanted.levels, len(denoise.schedule)), "log-snr")

    with Progress(1, quiet=quiet) as progress, torch.inference_mode():
        progress.picture("score norms")
        norms = estimate_score_norms(
            denoise, pictures, sigmas, model=identity, generator=generator, callback=progress.step
        )

    norms.save(path)

    return path


def find_score_norms(model: str, label: int | None = None) -> ScoreNorms:
    """Return score norms estimated here, else those in ``NAME.norms.json`` beside the weights.

    Raises:
        Unavailable: no such model, or no score norms of it.
        BadArgument: the file is damaged.
        FileAccess: the file cannot be read.
    """
    identity = _identity(model, label)
    for path in (_kept(identity), _beside(model, label)):
        if path.is_file():
            return ScoreNorms.load(path, identity)

    options = ("" if model == "default" else f" --model {model}") + (
        "" if label is None else f" --class {label}"
    )
    raise Unavailable(
        f"`model`={model}: its score norms are not known yet; restore score-norms DIR{options} "
        "estimates them on a folder of photographs"
    )


def random_squares(folder: Path, count: int, side: int, generator: torch.Generator) -> Tensor:
    """Return random crops of photographs, taken in turn in random order.

    Returns:
        Crops [count, 3, side, side] in [-1, 1].

    Raises:
        NothingToDo: no readable photograph that is large enough.
        FileAccess: the folder cannot be read.
    """
    if not folder.is_dir():
        raise FileAccess(f"{folder}: no such folder of photographs")

    paths = list(pictures_in(folder, SUFFIXES))
    waiting = [paths[index] for index in torch.randperm(len(paths), generator=generator).tolist()]
    squares: list[Tensor] = []

    while waiting and len(squares) < count:
        path = waiting.pop(0)
        if (square := _square(path, side, generator)) is not None:
            squares.append(square)
            waiting.append(path)

    if not squares:
        raise NothingToDo(
            f"{folder}: no readable picture of at least {side}x{side} pixels in this folder"
        )

    return 2 * torch.stack(squares) - 1


def _square(path: Path, side: int, generator: torch.Generator) -> Tensor | None:
    """Return a random crop [3, side, side] in [0, 1]; None if the file has none."""
    try:
        pixels = read_photo(path).pixels
    except RestoreError:
        return None

    room = [size - side for size in pixels.shape[:2]]
    if min(room) < 0:
        return None

    top, left = (int(torch.randint(n + 1, (1,), generator=generator)) for n in room)
    square = np.broadcast_to(pixels[top : top + side, left : left + side], (side, side, 3))

    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float()


def _identity(model: str, label: int | None) -> str:
    """Return the identity of a model and its class, for the name of a file."""
    digest = model_digest(model)
    return digest if label is None else f"{digest}-class-{label}"


def _kept(identity: str) -> Path:
    return cache_folder() / "score-norms" / f"{identity}.json"


def _beside(model: str, label: int | None) -> Path:
    ending = ".norms.json" if label is None else f".class-{label}.norms.json"
    return pretrained.checkpoint_path(model).with_suffix(ending)
