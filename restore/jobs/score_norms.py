"""Score norms of models: estimated on photographs by `restore score-norms`, kept, and found again
for sampling.
"""

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
from restore.jobs.plan import check_writable, pictures_in
from restore.photo.photograph import SUFFIXES, read_photo
from restore.restorer import load_denoiser, model_digest
from restore.runtime.devices import choose_device, keep_freed_memory
from restore.runtime.progress import Progress
from restore.samplers.analytic_dpm import ScoreNorms, estimate_score_norms

SIDE = 96
"""Of the squares that are taken from photographs, for models that take any size."""


@dataclass(frozen=True)
class Estimate:
    """What is estimated.

    Attributes:
        folder: of photographs like those that the model was trained on.
        model, device: as for `restore.Restorer`.
        label: the class, of a class-conditional model.
        count: of squares, from random places of the photographs.
        size: their side in pixels; None is the model's own, or `SIDE`.
        levels: of noise, evenly in log σ over the model's schedule; at most as many as that has.
        seed: of the places and of the noise.

    Raises:
        BadArgument: what cannot be used, and what would be right.
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


def estimate_to(
    wanted: Estimate, target: Path | None = None, *, overwrite: bool = False, quiet: bool = False
) -> Path:
    """Estimate a model's score norms and write them; returns the file.

    Args:
        target: the file; None is where `find_score_norms` looks, over what is there.
        overwrite: whether ``target`` may be replaced.

    Raises:
        BadArgument: what cannot be used, and what would be right.
        NothingToDo: no photograph that is readable and large enough.
        FileAccess: a folder that cannot be read, or a file that exists or cannot be written; before
            any work.
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
    """Those that were estimated here, else those that came with the weights, ``NAME.norms.json``
    beside them.

    Raises:
        Unavailable: there are none, or no such model.
        BadArgument: they are damaged.
        FileAccess: they cannot be read.
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
    """Squares from random places of photographs, of all in turn in random order: [count, 3, side,
    side] in [-1, 1].

    Raises:
        NothingToDo: no photograph that is readable and large enough.
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
    """[3, side, side] in [0, 1]; None of a file that is no picture, or smaller."""
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
    """Whose norms they are: the model's digest and the class, if there is one."""
    digest = model_digest(model)
    return digest if label is None else f"{digest}-class-{label}"


def _kept(identity: str) -> Path:
    return cache_folder() / "score-norms" / f"{identity}.json"


def _beside(model: str, label: int | None) -> Path:
    ending = ".norms.json" if label is None else f".class-{label}.norms.json"
    return pretrained.checkpoint_path(model).with_suffix(ending)
