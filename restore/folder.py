"""Picture files in, picture files out: one, or a folder mirrored into another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import operators
from restore.degradation import degrade
from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.files import write_atomically
from restore.measurement import MEASUREMENT_SUFFIXES, Measurement, complete, read_measurement
from restore.measurement import encoded as encoded_measurement
from restore.photo import SUFFIXES, Photo, read_mask, read_photo
from restore.photo import encoded as encoded_photo
from restore.restorer import Options, Restorer, Result
from restore.solvers import Step

Pixels = tuple[NDArray[Any], NDArray[Any] | None, int | None]
"""Colour, alpha, and the depth where it is not the input's."""

STD_FULL_SCALE = 0.25
"""The standard deviation, in [0, 1] units, that is white in a written map."""


@dataclass(frozen=True)
class Job:
    """One picture to restore, or to degrade."""

    source: Path
    target: Path
    mask: Path | None = None
    measurement: Path | None = None
    """Where the numbers of a degraded picture go."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        jobs: the pictures to restore.
        done: targets that exist already and stay as they are.
        is_folder: whether a folder was given, so that one bad file does not end the run.
    """

    jobs: list[Job]
    done: list[Path]
    is_folder: bool


def plan_run(
    source: Path, target: Path | None, task: str, *, mask: Path | None = None, overwrite: bool = False, samples: int = 1
) -> Plan:
    """Find the pictures and where they go, before any work.

    A file goes to ``target``, or into it if that is a folder, or to ``NAME-TASK.SUFFIX`` beside itself. A folder is
    walked and mirrored into ``target``, or into ``NAME-TASK`` beside it; pictures whose target exists are left out
    unless ``overwrite``. For the task ``solve`` measurements count as pictures, and a picture beside the measurement of
    its name is left out; of the task ``degrade`` every picture has its measurement beside it.

    Raises:
        FileAccess: no such input, an existing or unwritable target, or a target that is an input.
        BadArgument: a target of an unknown format, or a mask that is missing.
        NothingToDo: no picture in the folder, or all done already.
    """
    if not source.exists():
        raise FileAccess(f"{source}: no such file or folder")
    if source.is_dir():
        place = Path(os.path.abspath(source))
        return _plan_folder(source, target or place.with_name(f"{place.name}-{task}"), task, mask, overwrite, samples)
    suffix = source.suffix if source.suffix.lower() in SUFFIXES else ".png"
    if target is None:
        target = source.with_name(f"{source.stem}-{task}{suffix}")
    elif target.is_dir():
        target = target / f"{source.stem}{suffix}"
    job = Job(source, target, mask_for(mask, source, source.parent), _measurement_file(target, task))
    _check_target(job, overwrite, samples)
    return Plan([job], [], is_folder=False)


def restore_file(
    restorer: Restorer,
    job: Job,
    task: str,
    arguments: dict[str, Any],
    options: Options,
    *,
    overwrite: bool = False,
    callback: Callable[[Step], None] | None = None,
) -> dict[str, Any]:
    """Restore one picture file and describe what was done.

    Several samples are written beside the target, which is their mean: ``NAME.sample1.SUFFIX`` …, and
    ``NAME.std.png``, white at a standard deviation of 0.25 of full scale. The target is written last, so that
    it stands for the whole set.

    Raises:
        RestoreError: whatever keeps the picture from being restored or written; nothing is written then.
    """
    _refuse_existing(job, overwrite, options.samples)
    if job.mask is not None:
        arguments = {**arguments, "mask": read_mask(job.mask, arguments.get("threshold", 0.5))}
    if job.source.suffix.lower() in MEASUREMENT_SUFFIXES:
        measurement = read_measurement(job.source)
        photo, picture = Photo(np.empty((0, 0, 3), np.float32), bits=measurement.bits), measurement.values
        arguments = complete(arguments, measurement)
    else:
        photo = read_photo(job.source)
        picture = _array(photo)
        if task == "solve":
            arguments = complete(arguments, Measurement(torch.empty(0)))
    result = _as_arrays(restorer.run(task, picture, arguments, callback=callback, **asdict(options)))
    outputs = dict(_outputs(job.target, result))
    _write_all(outputs, photo, overwrite)
    size = {"width": result.mean.shape[1], "height": result.mean.shape[0]}
    return {"outputs": [str(path) for path in outputs], **size, **asdict(result.report)}


def degrade_file(job: Job, operator: str, noise: float, seed: int, *, overwrite: bool = False) -> dict[str, Any]:
    """Degrade one picture file: the measurement goes beside the picture of it, which is written last.

    Raises:
        RestoreError: whatever keeps the picture from being degraded or written; nothing is written then.
    """
    _refuse_existing(job, overwrite, 1)
    photo = read_photo(job.source)
    degraded = degrade(_array(photo), operator, noise=noise, seed=seed)
    pixels, alpha = _split(degraded.picture)
    size = photo.pixels.shape[1], photo.pixels.shape[0]
    written = str(operators.parse(operator).in_folder(Path.cwd()))
    measurement = Measurement(degraded.measurement[0], written, noise, size, photo.bits)
    assert job.measurement is not None
    shown = encoded_photo(replace(photo, pixels=pixels, alpha=alpha), job.target)
    _write_together({job.target: shown, job.measurement: encoded_measurement(measurement)}, overwrite)
    shape = "x".join(str(n) for n in degraded.measurement.shape[1:])
    return {"outputs": [str(job.target), str(job.measurement)], "operator": operator, "noise": noise, "measured": shape}


def _as_arrays(result: Result) -> Result:
    """Of tensors [C, H, W], arrays [H, W, C]."""

    def array(picture: Any) -> Any:
        return np.ascontiguousarray(picture.permute(1, 2, 0)) if isinstance(picture, torch.Tensor) else picture

    return result._replace(mean=array(result.mean), std=array(result.std), samples=[array(s) for s in result.samples])


def _write_all(outputs: dict[Path, Pixels], like: Photo, overwrite: bool) -> None:
    """Write every output, or none, the first one last."""
    files = {}
    for path, (pixels, alpha, bits) in outputs.items():
        files[path] = encoded_photo(replace(like, pixels=pixels, alpha=alpha, bits=bits or like.bits), path)
    _write_together(files, overwrite)


def _write_together(files: dict[Path, bytes], overwrite: bool) -> None:
    """Write every file, or no new one, the first one last."""
    written: list[Path] = []
    try:
        for path, data in reversed(files.items()):
            new = not path.exists()
            write_atomically(data, path, overwrite)
            if new:
                written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise


def _plan_folder(source: Path, target: Path, task: str, mask: Path | None, overwrite: bool, samples: int) -> Plan:
    if target.exists() and not target.is_dir():
        raise FileAccess(f"{target}: the input is a folder, so the output must be one too, and this is a file")
    check_writable(target)
    found = []
    for path in pictures_in(source, SUFFIXES | MEASUREMENT_SUFFIXES if task == "solve" else SUFFIXES, leave_out=target):
        place = target / path.relative_to(source)
        place = place.with_suffix(".png") if path.suffix.lower() in MEASUREMENT_SUFFIXES else place
        found.append(Job(path, place, mask_for(mask, path, source), _measurement_file(place, task)))
    _refuse_inputs(found, samples)
    _refuse_shared(found, samples)
    jobs = [job for job in found if overwrite or not job.target.exists()]
    done = [] if overwrite else [job.target for job in found if job.target.exists()]
    if not jobs and done:
        raise NothingToDo(f"all {len(done)} pictures of {source} are in {target} already; --overwrite redoes them")
    if not jobs:
        raise NothingToDo(f"{source}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return Plan(jobs, done, is_folder=True)


def _measurement_file(target: Path, task: str) -> Path | None:
    return target.with_suffix(".npz") if task == "degrade" else None


def pictures_in(folder: Path, suffixes: frozenset[str], leave_out: Path | None = None) -> Iterator[Path]:
    """Files of these suffixes below a folder in name order; links to folders, and out of the folder, are not followed.

    A picture beside the measurement of its name is left out where measurements count.

    Raises:
        FileAccess: a sub-folder cannot be read.
    """
    root, skipped = folder.resolve(), None if leave_out is None else leave_out.resolve()
    for parent, folders, files in os.walk(folder, onerror=_unreadable_folder):
        folders[:] = sorted(name for name in folders if (Path(parent) / name).resolve() != skipped)
        for name in sorted(files):
            path = Path(parent) / name
            inside = not path.is_symlink() or path.resolve().is_relative_to(root)
            shadowed = ".npz" in suffixes and path.suffix != ".npz" and path.with_suffix(".npz").name in files
            if path.suffix.lower() in suffixes and not name.startswith(".") and inside and not shadowed:
                yield path


def _unreadable_folder(error: OSError) -> None:
    raise FileAccess(f"{error.filename}: cannot be read: {error.strerror}") from error


def mask_for(mask: Path | None, picture: Path, root: Path) -> Path | None:
    """The mask itself, or the one in a folder of masks with the picture's place and stem."""
    if mask is None or not mask.is_dir():
        if mask is not None and not mask.exists():
            raise FileAccess(f"--mask {mask}: no such file or folder")
        return mask
    place = mask / picture.relative_to(root).parent
    found = sorted(p for p in place.glob("*") if p.stem == picture.stem and p.suffix.lower() in SUFFIXES)
    if len(found) != 1:
        raise BadArgument(f"--mask {mask}: {'several masks' if found else 'no mask'} for {picture} there")
    return found[0]


def _check_target(job: Job, overwrite: bool, samples: int) -> None:
    if job.target.suffix.lower() not in SUFFIXES:
        raise BadArgument(f"{job.target}: its suffix must be one of {', '.join(sorted(SUFFIXES))}")
    _refuse_inputs([job], samples)
    _refuse_existing(job, overwrite, samples)
    check_writable(job.target.parent)


def _refuse_inputs(jobs: list[Job], samples: int) -> None:
    """No output is a picture or a mask of the run, under whatever name."""
    inputs = {identity(path) for job in jobs for path in (job.source, job.mask) if path and path.exists()}
    for job in jobs:
        for path in _output_paths(job, samples):
            if path.exists() and identity(path) in inputs:
                raise FileAccess(f"{path}: is an input; an input is never overwritten, choose another output")


def _refuse_shared(jobs: list[Job], samples: int) -> None:
    """No two pictures have an output in common."""
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in _output_paths(job, samples):
            if path in owners:
                raise BadArgument(f"{owners[path]} and {job.source} would both be written to {path}; rename one")
            owners[path] = job.source


def _refuse_existing(job: Job, overwrite: bool, samples: int) -> None:
    existing = [path for path in _output_paths(job, samples) if path.exists()]
    if existing and not overwrite:
        raise FileAccess(f"{existing[0]}: exists already; --overwrite replaces it")


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_writable(folder: Path) -> None:
    """The folder, or the nearest one above it that exists, takes new files.

    Raises:
        FileAccess: it does not.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise FileAccess(f"{folder}: cannot be written to, because {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileAccess(f"{folder}: cannot be written to; no permission for {place}")


def _output_paths(job: Job, samples: int) -> list[Path]:
    """The target and what is written beside it."""
    if job.measurement is not None:
        return [job.target, job.measurement]
    return _sample_paths(job.target, samples)


def _sample_paths(target: Path, samples: int) -> list[Path]:
    """The target and, for several samples, what is written beside it."""
    if samples < 2:
        return [target]
    numbered = [target.with_name(f"{target.stem}.sample{k}{target.suffix}") for k in range(1, samples + 1)]
    return [target, *numbered, target.with_name(f"{target.stem}.std.png")]


def _outputs(target: Path, result: Result) -> Iterator[tuple[Path, Pixels]]:
    """Every file to write, the target first."""
    yield target, (*_split(result.mean), None)
    if result.std is None:
        return
    _, *numbered, std_path = _sample_paths(target, len(result.samples))
    for path, sample in zip(numbered, result.samples, strict=True):
        yield path, (*_split(sample), None)
    std, _ = _split(result.std)
    yield std_path, (np.clip(std / STD_FULL_SCALE, 0, 1), None, 8)


def _array(photo: Photo) -> NDArray[Any]:
    if photo.alpha is None:
        return photo.pixels
    return np.concatenate([photo.pixels, photo.alpha[..., None]], axis=2)


def _split(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colour and alpha of [H, W, 1 … 4]."""
    if array.shape[2] in (2, 4):
        return array[..., :-1], array[..., -1]
    return array, None
