"""`restore invert`, `restore sample --from` and `--interpolate`: DDIM's noise of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from restore.diffusion.protocol import DenoiserLike
from restore.diffusion.stepping import falling_pairs
from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.files import write_atomically
from restore.jobs.place import Place
from restore.messages import put, say
from restore.methods.sampling import Sampling, grid, grid_size, levels_of, visible
from restore.metrics.quality import psnr
from restore.photo.apart import decoding_apart
from restore.photo.photograph import check_held, read_photo, written_format
from restore.precision import single_precision
from restore.restorer import Restorer, check_prior, model_digest
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress
from restore.samplers.catalogue import SAMPLERS
from restore.samplers.ddim import ddim, ddim_invert, spherical_interpolation

# Defaults: noise levels, and network calls at each during the inversion.
STEPS = 20
ITERATIONS = 3
MOST_ITERATIONS = 100
MOST_BETWEEN = 1000
# Suffix of a file of noise, and what its metadata says that it is.
SUFFIX = ".safetensors"
KIND = "restore-ddim-noise"


class Noise(NamedTuple):
    """The noise from which DDIM draws a picture.

    Attributes:
        x: [1, 3, H, W] at the first level.
        sigmas: noise levels with a final 0.
        model: digest of the model.
        label: class of the model.
    """

    x: Tensor
    sigmas: tuple[float, ...]
    model: str
    label: int | None

    def save(self, path: Path, overwrite: bool) -> None:
        """Write it as safetensors.

        Raises:
            FileAccess: the file exists or cannot be written.
        """
        tensors = {
            "noise": self.x[0].contiguous(),
            "sigmas": torch.tensor(self.sigmas, dtype=torch.float64),
        }
        label = "" if self.label is None else str(self.label)
        about = {"kind": KIND, "model": self.model, "class": label}
        write_atomically(save(tensors, about), path, overwrite)

    @classmethod
    def load(cls, path: Path) -> Noise:
        """Read it.

        Raises:
            FileAccess: there is no such file, or it cannot be read.
            UnreadableInput: it holds no noise.
        """
        if not path.is_file():
            raise FileAccess(f"{path}: no such file of noise; restore invert writes one")
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                if about.get("kind") != KIND:
                    raise UnreadableInput(f"{path}: holds no noise of restore invert")
                noise = file.get_tensor("noise").float()
                sigmas = tuple(file.get_tensor("sigmas").tolist())
            falling_pairs(sigmas)
            label = int(about["class"]) if about.get("class") else None
        except OSError as error:
            raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
        except (SafetensorError, ValueError, TypeError) as error:
            if isinstance(error, UnreadableInput):
                raise
            raise UnreadableInput(f"{path}: holds no noise of restore invert: {error}") from error

        if noise.ndim != 3 or noise.shape[0] != 3 or not bool(noise.isfinite().all()):
            raise UnreadableInput(f"{path}: its noise is no picture of three channels")
        return cls(noise[None], sigmas, about.get("model", ""), label)


@single_precision()
def invert_to(
    place: Place,
    source: Path,
    *,
    steps: int | None = None,
    levels: str | None = None,
    iterations: int = ITERATIONS,
    size: tuple[int, int] | None = None,
    quiet: bool = False,
) -> float:
    """Invert a picture, write its noise, and print the PSNR of the way there and back.

    Args:
        place: output file and model.
        source: picture file.
        steps: number of noise levels; None takes `STEPS`, or those of a distilled model.
        levels: grid of noise levels, one of `restore.diffusion.schedule.LEVELS`.
        iterations: network calls at each level.
        size: width and height of the centre crop; None takes the whole picture.
        quiet: True to show no progress.

    Returns:
        The PSNR in dB.

    Raises:
        BadArgument: an invalid option, or a picture that does not suit the model.
        UnreadableInput: not a picture.
        FileAccess: a file that exists, or cannot be read or written.
        Unavailable: no such model or device.
    """
    if place.target.suffix.lower() != SUFFIX:
        raise BadArgument(f"{place.target}: a file of noise must end with {SUFFIX}")
    if place.target.resolve() == source.resolve():
        raise BadArgument(f"{place.target}: is IN")

    _check_iterations(iterations)
    place.check([place.target])
    picture = _picture(source, size)
    sampling = _sampling(picture, steps, levels)
    restorer, denoise, sampling = _prior(place, sampling)
    sigmas = levels_of(denoise.schedule, sampling)

    with Progress(1, quiet=quiet) as progress, torch.inference_mode():
        progress.picture("invert")
        shown = picture.to(restorer.device)
        x = ddim_invert(
            denoise, 2 * shown - 1, sigmas, iterations=iterations, callback=progress.step
        )
        progress.picture("reconstruct")
        again = visible(ddim(denoise, x, sigmas, callback=progress.step))

    found = float(psnr(again, picture))
    Noise(x.cpu(), tuple(sigmas), model_digest(place.model), place.label).save(
        place.target, place.overwrite
    )
    put(
        f"{place.target}: noise of {source} with standard deviation {float(x.std()):.5g} at noise "
        f"level {sigmas[0]:.5g}; there and back PSNR {found:.2f} dB"
    )
    return found


@single_precision()
def redraw_to(
    place: Place, source: Path, *, sampler: str | None = None, quiet: bool = False
) -> Path:
    """Draw the picture of a noise and write it.

    Args:
        place: output file and model.
        source: file of noise.
        sampler: a deterministic sampler; None is DDIM, which gives the inverted picture back.
        quiet: True to show no progress.

    Raises:
        BadArgument: an invalid option, or a class that is not the noise's.
        UnreadableInput: a file that holds no noise.
        FileAccess: a file that exists, or cannot be read or written.
        Unavailable: no such model or device.
    """
    if place.separate:
        raise BadArgument("`separate`: a noise gives one picture; OUT is its file")

    noise = Noise.load(source)
    place.check([place.target])
    written_format(place.target)
    height, width = noise.x.shape[-2:]
    check_held(place.target, (height, width), None)
    wanted = Sampling(1, height, width, sampler or "ddim", len(noise.sigmas) - 1, noise.sigmas[:-1])
    record = SAMPLERS[wanted.sampler]
    if record.random:
        raise BadArgument(
            f"`sampler`={wanted.sampler}: draws noise of its own; must be deterministic, such as "
            "ddim or dpmpp-2m"
        )

    label = noise.label if place.label is None else place.label
    restorer, denoise, _ = _prior(place._replace(label=label), wanted, own_levels=False)
    if model_digest(place.model) != noise.model:
        say(f"{source}: is noise of another model; the picture will be another one")

    with Progress(1, quiet=quiet) as progress, torch.inference_mode():
        progress.picture(wanted.sampler)
        x = noise.x.to(restorer.device)
        drawn = record.run(denoise, x, list(noise.sigmas), callback=progress.step)

    place.save([visible(drawn)[0]], [place.target])
    return place.target


@single_precision()
def interpolate_to(
    place: Place,
    ends: tuple[Path, Path],
    *,
    between: int = 9,
    steps: int | None = None,
    levels: str | None = None,
    iterations: int = ITERATIONS,
    size: tuple[int, int] | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Draw what lies between two pictures in DDIM's noise, and print the PSNR of the ends.

    Song, Meng, Ermon 2021, arXiv 2010.02502, section 5.3 and appendix D.5: the noises of the
    pictures are interpolated along the great circle, and DDIM draws the picture of each.

    Args:
        place: output, a strip of all pictures in a row or a folder, and model.
        ends: picture files.
        between: number of pictures between the ends.
        steps, levels, iterations, size, quiet: as for `invert_to`.

    Returns:
        The files.

    Raises:
        BadArgument: an invalid option, or pictures of different sizes.
        UnreadableInput: not a picture.
        FileAccess: a file that exists, or cannot be read or written.
        Unavailable: no such model or device.
    """
    if not 1 <= between <= MOST_BETWEEN:
        raise BadArgument(f"`steps_between`={between}: must be between 1 and {MOST_BETWEEN}")

    _check_iterations(iterations)
    pair = _pair(ends, size)
    files = _strip_files(place, ends, between + 2, pair)
    restorer, denoise, sampling = _prior(place, _sampling(pair, steps, levels))
    sigmas = levels_of(denoise.schedule, sampling)

    drawn = []
    with Progress(between + 3, quiet=quiet) as progress, torch.inference_mode():
        progress.picture("invert")
        noises = ddim_invert(
            denoise,
            2 * pair.to(restorer.device) - 1,
            sigmas,
            iterations=iterations,
            callback=progress.step,
        )
        for index in range(between + 2):
            progress.picture(f"picture {index + 1}")
            x = spherical_interpolation(noises[:1], noises[1:], index / (between + 1))
            drawn.append(visible(ddim(denoise, x, sigmas, callback=progress.step)))

    pictures = torch.cat(drawn)
    for path, end, again in zip(ends, pair, (pictures[0], pictures[-1]), strict=True):
        put(f"{path}: there and back PSNR {float(psnr(again[None], end[None])):.2f} dB")

    shown = list(pictures) if place.separate else [grid(pictures, columns=len(pictures))]
    place.save(shown, files)

    return files


def _pair(ends: tuple[Path, Path], size: tuple[int, int] | None) -> Tensor:
    """Return two pictures, or their centres, [2, 3, H, W] in [0, 1].

    Raises:
        BadArgument: pictures of different sizes, or smaller than the crop.
        UnreadableInput: not a picture.
        FileAccess: a file cannot be read.
    """
    with decoding_apart():
        first, second = (_picture(path, size) for path in ends)
    if first.shape != second.shape:
        (h, w), (other_h, other_w) = first.shape[-2:], second.shape[-2:]
        raise BadArgument(
            f"{ends[1]}: {other_w}x{other_h} pixels, and {ends[0]} has {w}x{h}: must be the same; "
            "`size` takes the centre of both"
        )
    return torch.cat([first, second])


def _strip_files(place: Place, ends: tuple[Path, Path], count: int, pictures: Tensor) -> list[Path]:
    """Return the files of a number of pictures, which are a strip unless they are separate.

    Raises:
        BadArgument: a suffix of no picture format, or a file that is an input.
        FileAccess: a file that exists or cannot be written.
    """
    files = place.files(count)
    place.check(files)
    height, width = pictures.shape[-2:]
    shape = (height, width) if place.separate else grid_size(count, height, width, count)
    for path in files:
        written_format(path)
        check_held(path, shape, None)
        if path.resolve() in {end.resolve() for end in ends}:
            raise BadArgument(f"{path}: is an input")

    return files


def _check_iterations(iterations: int) -> None:
    if not 1 <= iterations <= MOST_ITERATIONS:
        raise BadArgument(f"`iterations`={iterations}: must be between 1 and {MOST_ITERATIONS}")


def _sampling(pictures: Tensor, steps: int | None, levels: str | None) -> Sampling:
    """Return the options of DDIM for pictures [B, 3, H, W]; steps None is `STEPS`."""
    height, width = pictures.shape[-2:]
    return Sampling(1, height, width, "ddim", STEPS if steps is None else steps, levels)


def _prior(
    place: Place, sampling: Sampling, *, own_levels: bool = True
) -> tuple[Restorer, DenoiserLike, Sampling]:
    """Load the prior of a model for pictures of a size.

    Args:
        place: the model.
        sampling: options of sampling.
        own_levels: True to give a distilled model its own levels, if none are chosen.

    Raises:
        BadArgument: the model has no prior or no such class, or knows larger pictures only.
        Unavailable: no such model or device.
    """
    keep_freed_memory()
    restorer = Restorer(place.model, place.device)
    if restorer.denoiser.autoencoder is not None:
        raise BadArgument(
            f"`model`={place.model}: a latent model, whose noise is not that of a picture; here a "
            "model of pixels is needed, as the default one is"
        )
    check_prior(restorer.denoiser, place.model)
    denoise: Any = restorer.of_class(place.label)
    if denoise.size is not None and min(sampling.height, sampling.width) < denoise.size:
        raise BadArgument(
            f"`size`={sampling.width}x{sampling.height}: sides of at least {denoise.size}, the "
            "size of this model"
        )

    own = restorer.denoiser.distilled_levels
    if own is not None and own_levels and sampling.levels is None:
        chosen = {"sampler"} if sampling.steps == STEPS else {"sampler", "steps"}
        sampling = sampling.of_distilled(own, chosen)

    return restorer, denoise, sampling


def _picture(path: Path, size: tuple[int, int] | None) -> Tensor:
    """Return a picture in three channels, or its centre, [1, 3, H, W] in [0, 1].

    Raises:
        BadArgument: the picture is smaller than the crop.
        UnreadableInput: not a picture.
        FileAccess: the file cannot be read.
    """
    pixels = read_photo(path).pixels
    height, width = pixels.shape[:2]
    wide, high = (width, height) if size is None else size
    if wide > width or high > height:
        raise BadArgument(f"{path}: {width}x{height} pixels, smaller than `size`={wide}x{high}")

    top = (height - high) // 2
    left = (width - wide) // 2
    part = np.broadcast_to(pixels[top : top + high, left : left + wide], (high, wide, 3))
    return torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].float()
