"""`restore sample`: write samples of the prior to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.errors import BadArgument
from restore.files import refuse_existing, write_atomically
from restore.jobs.plan import check_writable
from restore.jobs.score_norms import find_score_norms
from restore.methods.sampling import SHOWN, Sampling, grid, grid_size, sample_pictures
from restore.photo.photograph import Photo, check_held, write_photo, written_format
from restore.report.animation import SUFFIX as ANIMATED
from restore.report.animation import animated_webp
from restore.restorer import Restorer, check_prior
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress
from restore.samplers.catalogue import SAMPLERS

# Number of pictures whose trajectory is shown.
TRAJECTORIES = 4
# Most frames of an animated trajectory.
FRAMES = 60


class Request(NamedTuple):
    """Output files and model of a sampling run.

    Attributes:
        target: a picture file; a folder if ``separate``.
        separate: True to write one file per picture.
        trajectory: a picture file for clean estimates along the trajectories, a row each; as WebP
            an animation of them.
        overwrite: True to overwrite existing files.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        label: class label for a class-conditional model.
    """

    target: Path
    separate: bool = False
    trajectory: Path | None = None
    overwrite: bool = False
    model: str = "default"
    device: str = "auto"
    label: int | None = None


def sample_to(request: Request, *, quiet: bool = False, **sampling: Any) -> list[Path]:
    """Draw samples, write them, and return the files.

    Args:
        request: output files and model.
        quiet: True to show no progress.
        sampling: fields of `restore.methods.sampling.Sampling`; None takes the default, or that of
            a distilled model. Without height and width, a model of one size draws that size.

    Raises:
        BadArgument: an invalid option.
        FileAccess: an existing or unwritable file; before any work.
        Unavailable: no such model or device, or unknown score norms.
    """
    chosen = {name: value for name, value in sampling.items() if value is not None}
    wanted = Sampling(**chosen)
    files = _files(request, wanted.count)
    _check_files(files, request)

    needed = SAMPLERS[wanted.sampler].score_norms
    norms = find_score_norms(request.model, request.label) if needed else None
    keep_freed_memory()
    restorer = Restorer(request.model, request.device)
    if (own := restorer.denoiser.distilled_levels) is not None:
        wanted = wanted.of_distilled(own, chosen)

    check_prior(restorer.denoiser, request.model)
    denoise = restorer.of_class(request.label)
    if denoise.size is not None:
        wanted = _at_least(denoise.size, wanted, given="height" in sampling or "width" in sampling)

    ways = 0 if request.trajectory is None else TRAJECTORIES
    shape = (wanted.height, wanted.width)
    size = shape if request.separate else grid_size(wanted.count, *shape)
    for path in files:
        check_held(path, size, None)

    animated = request.trajectory is not None and request.trajectory.suffix.lower() == ANIMATED
    with Progress(1, len(wanted.batches), quiet=quiet) as progress:
        progress.picture(wanted.sampler)
        pictures, seen = sample_pictures(
            denoise,
            wanted,
            restorer.device,
            norms=norms,
            ways=ways,
            shown=FRAMES if animated else SHOWN,
            callback=progress.step,
        )

    shown = list(pictures) if request.separate else [grid(pictures)]
    if seen is not None and not animated and request.trajectory is not None:
        files.append(request.trajectory)
        shown.append(grid(seen.flatten(0, 1), columns=seen.shape[1]))

    for path, picture in zip(files, shown, strict=True):
        save_picture(picture, path, request.overwrite)

    if seen is not None and animated and request.trajectory is not None:
        frames = torch.stack([grid(estimates) for estimates in seen.transpose(0, 1)])
        write_atomically(animated_webp(frames), request.trajectory, request.overwrite)
        files.append(request.trajectory)

    return files


def _check_files(files: list[Path], request: Request) -> None:
    """Check that all files can be written.

    Raises:
        BadArgument: a suffix of no picture format, or one file for two outputs.
        FileAccess: a file that exists or cannot be written.
    """
    for path in [*files, *([request.trajectory] if request.trajectory else [])]:
        written_format(path)
        refuse_existing(path, request.overwrite)
        check_writable(path.parent)

    if request.trajectory is not None and request.trajectory in files:
        raise BadArgument(f"`trajectory`={request.trajectory}: is OUT as well; choose another file")


def _at_least(size: int, wanted: Sampling, *, given: bool) -> Sampling:
    """Return options with the size of the model, or a larger one, which is drawn in tiles.

    Raises:
        BadArgument: a smaller size, which would be a corner of a picture mirrored in itself.
    """
    if not given:
        return replace(wanted, height=size, width=size)
    if min(wanted.height, wanted.width) < size:
        raise BadArgument(
            f"`size`={wanted.width}x{wanted.height}: sides of at least {size}, the size of this "
            "model"
        )

    return wanted


def _files(request: Request, count: int) -> list[Path]:
    if not request.separate:
        return [request.target]
    if request.target.is_file():
        raise BadArgument(f"{request.target}: is a file; with `separate` OUT is a folder")
    digits = len(str(count - 1))
    return [request.target / f"{index:0{digits}}.png" for index in range(count)]


def save_picture(picture: Tensor, path: Path, overwrite: bool) -> None:
    """Write a picture [3, H, W] in [0, 1]."""
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    write_photo(Photo(pixels, format=written_format(path)), path, overwrite=overwrite)
