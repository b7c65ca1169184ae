"""`restore sample`: write samples of the prior to files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.diffusion.seeds import seed_of
from restore.errors import BadArgument
from restore.files import write_atomically
from restore.jobs.place import Place
from restore.jobs.score_norms import find_score_norms
from restore.latent.denoiser import LatentDenoiser
from restore.methods.options import Options
from restore.methods.sampling import SHOWN, Sampling, grid, grid_size, sample_pictures
from restore.methods.text_cascade import check_stage, enlarged_by
from restore.photo.photograph import check_held, written_format
from restore.report.animation import SUFFIX as ANIMATED
from restore.report.animation import animated_webp
from restore.restorer import Restorer, check_prior, is_latent, load_classifier
from restore.restorer.binding import LoadedDenoiser, told
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress
from restore.samplers.catalogue import SAMPLERS

# Number of pictures whose trajectory is shown.
TRAJECTORIES = 4
# Most frames of an animated trajectory.
FRAMES = 60


def sample_to(
    place: Place,
    *,
    texts: Options | None = None,
    cascade: Sequence[str] = (),
    cascade_noise: float | None = None,
    trajectory: Path | None = None,
    quiet: bool = False,
    **sampling: Any,
) -> list[Path]:
    """Draw samples, write them, and return the files.

    Args:
        place: output files and model.
        texts: prompt, negative prompt and guidance, for a model with text; the options of CLIP for
            one of pixels, with the seed of its cut-outs.
        cascade: further models, each of which enlarges what the one before drew.
        cascade_noise: see `restore.methods.text_cascade.enlarged_by`.
        trajectory: a picture file for clean estimates along the trajectories, a row each; as WebP
            an animation of them.
        quiet: True to show no progress.
        sampling: fields of `restore.methods.sampling.Sampling`; None takes the default, or that of
            a distilled model. Without height and width, a model of one size draws that size.
            ``guide`` is the name of a classifier, which gets the class of ``place``.

    Raises:
        BadArgument: an invalid option.
        FileAccess: an existing or unwritable file; before any work.
        Unavailable: no such model, classifier or device, or unknown score norms.
    """
    _check_cascade(cascade, cascade_noise)
    chosen = {name: value for name, value in sampling.items() if value is not None}
    wanted = Sampling(**chosen)
    files = place.files(wanted.count)
    _check_files(files, trajectory, place)

    needed = SAMPLERS[wanted.sampler].score_norms
    norms = None
    if needed and wanted.guide is None:  # told before any work
        norms = find_score_norms(place.model, place.label)
    restorer, denoise, wanted = _prior(place, wanted, chosen, sampling.keys(), texts or Options())
    if needed and norms is None:
        norms = find_score_norms(place.model, _label_of(restorer, place, wanted))

    shape = (wanted.height, wanted.width)
    for path in files:
        check_held(path, shape if place.separate else grid_size(wanted.count, *shape), None)

    animated = trajectory is not None and trajectory.suffix.lower() == ANIMATED
    with Progress(1, len(wanted.batches), quiet=quiet) as progress:
        progress.picture(wanted.sampler)
        pictures, seen = sample_pictures(
            denoise,
            wanted,
            restorer.device,
            norms=norms,
            ways=0 if trajectory is None else TRAJECTORIES,
            shown=FRAMES if animated else SHOWN,
            callback=progress.step,
        )

    del denoise, restorer
    for number, stage in enumerate(cascade, 1):
        options = replace(wanted, guide=None, guide_scale=None, seed=seed_of(wanted.seed, number))
        pictures = _enlarged(stage, place, pictures, options, texts, cascade_noise, quiet=quiet)

    place.save(list(pictures) if place.separate else [grid(pictures)], files)
    if seen is None or trajectory is None:
        return files

    if animated:
        frames = torch.stack([grid(estimates) for estimates in seen.transpose(0, 1)])
        write_atomically(animated_webp(frames), trajectory, place.overwrite)
    else:
        place.save([grid(seen.flatten(0, 1), columns=seen.shape[1])], [trajectory])
    return [*files, trajectory]


def _check_cascade(cascade: Sequence[str], cascade_noise: float | None) -> None:
    """Check the stages before any work.

    Raises:
        BadArgument: a model that is no pipeline of several networks, or noise without a stage.
        Unavailable: there is no such model.
    """
    if cascade_noise is not None and not cascade:
        raise BadArgument(
            f"`cascade_noise`={cascade_noise:g}: between stages; `cascade` is missing"
        )
    for stage in cascade:
        if not is_latent(stage):
            raise BadArgument(f"`cascade`={stage}: no pipeline of diffusers")


def _enlarged(
    name: str,
    place: Place,
    pictures: Tensor,
    options: Sampling,
    texts: Options | None,
    noise: float | None,
    *,
    quiet: bool,
) -> Tensor:
    """Return pictures that a further stage of a cascade draws above those of the one before.

    Raises:
        BadArgument: the model enlarges no pictures.
        Unavailable: no such model.
    """
    restorer = Restorer(name, place.device)
    stage = check_stage(restorer.denoiser, name)
    if texts is not None and stage.texts is not None:
        stage = stage.of_prompt(texts.prompt, texts.negative_prompt, texts.guidance)

    with Progress(1, 1, quiet=quiet) as progress:
        progress.picture(name)
        return enlarged_by(
            stage, pictures, options, restorer.device, noise=noise, callback=progress.step
        )


def _prior(
    place: Place,
    wanted: Sampling,
    chosen: Collection[str],
    given: Collection[str],
    texts: Options,
) -> tuple[Restorer, LoadedDenoiser, Sampling]:
    """Load the prior of a model, and return the options that suit it.

    Args:
        place: the model.
        wanted: options of sampling.
        chosen: names of options that the user chose.
        given: names of options that are set, among them a size.
        texts: prompt, negative prompt and guidance.

    Raises:
        BadArgument: the model has no prior, no text or no such class, or knows larger pictures
            only; a classifier for a latent model.
        Unavailable: no such model or device.
    """
    keep_freed_memory()
    restorer = Restorer(place.model, place.device)
    if (own := restorer.denoiser.distilled_levels) is not None:
        wanted = wanted.of_distilled(own, chosen)

    check_prior(restorer.denoiser, place.model)
    denoise = told(restorer.of_class(_label_of(restorer, place, wanted)), texts)
    has_size = "height" in given or "width" in given
    if isinstance(denoise, LatentDenoiser):
        return restorer, denoise, _of_latent(denoise, wanted, given=has_size)
    if denoise.config.size is not None:
        wanted = _at_least(denoise.config.size, wanted, given=has_size)
        has_size = True
    if isinstance(wanted.guide, str):
        wanted = _with_classifier(wanted.guide, place, restorer.device, wanted, sized=has_size)

    return restorer, denoise, wanted


def _of_latent(denoise: LatentDenoiser, wanted: Sampling, *, given: bool) -> Sampling:
    """Return options that suit a latent model, with the size of its training pictures.

    Raises:
        BadArgument: a classifier, which knows noisy pictures and no latents.
    """
    if wanted.guide is not None:
        raise BadArgument(
            f"`guide`={wanted.guide}: sees noisy pictures, and this is a latent model; a `prompt` "
            "guides one with text"
        )
    if given:
        return wanted
    side = denoise.picture_side
    return replace(wanted, height=side, width=side)


def _label_of(restorer: Restorer, place: Place, wanted: Sampling) -> int | None:
    """Return the class for the model; beside a guide, one that knows no classes gets none."""
    classes = restorer.denoiser.config.backbone.classes
    return place.label if classes or wanted.guide is None else None


def _with_classifier(
    name: str, place: Place, device: torch.device, wanted: Sampling, *, sized: bool
) -> Sampling:
    """Return options with the loaded classifier.

    Args:
        name: the classifier.
        place: the class.
        device: device of the model.
        wanted: options of sampling.
        sized: True if their size is chosen; else it becomes that of the classifier.

    Raises:
        BadArgument: no class, one that the classifier does not know, or another size than its own.
        Unavailable: no such classifier.
    """
    classifier = load_classifier(name, device)
    guide = classifier.of_class(place.label)
    size = classifier.config.size
    if size is not None and not sized:
        wanted = replace(wanted, height=size, width=size)
    try:
        classifier.check_size(wanted.height, wanted.width)
    except BadArgument as error:
        raise BadArgument(f"`guide`={name}: {error}") from None

    return replace(wanted, guide=guide)


def _check_files(files: Sequence[Path], trajectory: Path | None, place: Place) -> None:
    """Check that all files can be written.

    Raises:
        BadArgument: a suffix of no picture format, or one file for two outputs.
        FileAccess: a file that exists or cannot be written.
    """
    for path in [*files, *([] if trajectory is None else [trajectory])]:
        written_format(path)
        place.check([path])

    if trajectory is not None and trajectory in files:
        raise BadArgument(f"`trajectory`={trajectory}: is OUT as well; choose another file")


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
