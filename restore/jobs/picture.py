"""The three stages of a picture file: read, restore and write."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from restore.errors import BadArgument
from restore.files import Fingerprint, opened_once
from restore.jobs.measurement import MEASUREMENT_SUFFIXES, Measurement, read_measurement
from restore.jobs.output import AS_INPUT, OutputOptions
from restore.jobs.plan import Job, refuse_existing_outputs, sample_paths
from restore.jobs.staging import Staged, stage
from restore.methods.options import Options
from restore.methods.report import Report, Result, is_doubtful
from restore.photo.photograph import MAX_PIXELS, Photo, check_held, notes_on_writing, read_photo
from restore.photo.photograph import encoded as encoded_photo
from restore.photo.raw_reading import read_raw
from restore.restorer import Restorer
from restore.solvers import Step
from restore.tasks import Developing, Task
from restore.tasks.degradation import as_picture

# Colour, alpha, and the bits per channel if they are not those of the input.
Pixels = tuple[NDArray[Any], NDArray[Any] | None, int | None]

NOTHING: Mapping[str, str] = MappingProxyType({})

# Standard deviation, in [0, 1] units, that is white in a written map.
STD_FULL_SCALE = 0.25


class Shown(NamedTuple):
    """Pictures of a finished job for a report.

    Attributes:
        before: the input, its pseudo-inverse if it is a measurement but not a picture, or the
            interpolated mosaic of a camera raw.
        after: the result, or the mean of samples.
        std: standard deviation of the samples, float [H, W, 1 or 3] in [0, 1] units; None for a
            single one.
    """

    before: Photo
    after: Photo
    std: NDArray[Any] | None


class Drawn(NamedTuple):
    """The part of a picture in a report.

    Attributes:
        name: name of the picture.
        before: width and height of the input.
        views: HTML of the pictures; empty if they are not shown.
    """

    name: str
    before: tuple[int, int]
    views: str


# ``draw(job, shown, description)`` is called when a picture is restored and written.
Draw = Callable[[Job, Shown, Mapping[str, Any]], Drawn]


class Loaded(NamedTuple):
    """An input that was read.

    Attributes:
        photo: the photo with its metadata; without pixels for a measurement.
        picture: the input of `Restorer.restore`.
        task: the task, completed from the files.
        measurement: the measurement; None for a picture.
        fingerprint: fingerprint of the input file.
        start: the initial picture [H, W, C]; None without a file of it.
        used: SHA-256 of the companion and of the initial picture, by the names of the manifest.
    """

    photo: Photo
    picture: Any
    task: Task
    measurement: Measurement | None
    fingerprint: Fingerprint
    start: NDArray[Any] | None = None
    used: Mapping[str, str] = NOTHING


class Contents(NamedTuple):
    """The outputs of a picture before they are written.

    Attributes:
        files: content by path, the target first.
        description: record for the JSON line, with ``outputs``.
        drawn: its part of the report; None without a report.
    """

    files: dict[Path, bytes]
    description: dict[str, Any]
    drawn: Drawn | None = None


class Ended(NamedTuple):
    """A finished picture.

    Attributes:
        fingerprint: fingerprint of the input.
        description: record for the JSON line, with ``outputs``.
        drawn: its part of the report; None without a report.
        used: as in `Loaded`.
        staged: the outputs, which are on the disk and wait for their names; None if they have them.
    """

    fingerprint: Fingerprint
    description: dict[str, Any]
    drawn: Drawn | None = None
    used: Mapping[str, str] = NOTHING
    staged: Staged | None = None


@dataclass(frozen=True)
class Work:
    """The work on every picture of a run.

    Attributes:
        task: the task; the companion of each picture replaces the file that it names.
        options: options of the restoration.
        output: options of output files.
        overwrite: True to overwrite existing outputs.
        allow_truncated: True to complete pictures whose files end too early.
        max_pixels: largest number of pixels that an input may declare.
    """

    task: Task
    options: Options
    output: OutputOptions = AS_INPUT
    overwrite: bool = False
    allow_truncated: bool = False
    max_pixels: int = MAX_PIXELS

    def load(self, job: Job) -> Loaded:
        """Read the input, its mask and its start.

        Raises:
            RestoreError: an unusable file, an existing output, or one that cannot hold the result.
        """
        refuse_existing_outputs(job, self.overwrite or job.replaces, self.options.samples)
        task = self.task
        used: dict[str, str] = {}
        if job.companion is not None:
            with opened_once(job.companion) as (file, content):
                task = task.accompanied(job.companion, file)
            used["mask"] = content.sha256

        start = None
        if job.start is not None:
            with opened_once(job.start) as (file, content):
                start = read_photo(job.start, file=file).pixels
            used["start"] = content.sha256

        with opened_once(job.source) as (file, fingerprint):
            photo, picture, task, measurement = self.read(job, task, file)

        return Loaded(photo, picture, task, measurement, fingerprint, start, used)

    def read(
        self, job: Job, task: Task, file: BinaryIO
    ) -> tuple[Photo, Any, Task, Measurement | None]:
        """Read the input from an open file; `load` opens that of the job.

        Args:
            job: names of the input and the outputs.
            task: the task with its companion.
            file: the input at its start.

        Returns:
            The first fields of `Loaded`.

        Raises:
            RestoreError: an unusable input, or an output that cannot hold the result.
        """
        if job.source.suffix.lower() in MEASUREMENT_SUFFIXES:
            measurement = read_measurement(job.source, file)
            photo = Photo(np.empty((0, 0, 3), np.float32), bits=measurement.bits)
            task = task.completed(measurement.operator, measurement.noise, measurement.size)
            height, width = measurement.values.shape[-2:]
            self._check_held(job, task, (height, width), None)
            return photo, measurement.values, task, measurement
        if isinstance(task, Developing):
            raw = read_raw(job.source, file=file)
            self._check_held(job, task, raw.shape, None)
            return task.photo_of(raw), raw, task, None

        photo = read_photo(
            job.source,
            page=job.page,
            max_pixels=self.max_pixels,
            allow_truncated=self.allow_truncated,
            file=file,
            coefficients=task.reads_file,
        )
        task = task.completed(None, None, None)
        try:
            task.check_file(photo.stored)
        except BadArgument as error:
            raise BadArgument(f"{job.source_name}: {error}") from error
        self._check_held(job, task, photo.pixels.shape[:2], photo.alpha)
        return photo, photo, task, None

    def _check_held(
        self, job: Job, task: Task, size: tuple[int, int], alpha: NDArray[Any] | None
    ) -> None:
        """Refuse outputs whose format cannot hold the result, before it is computed.

        Args:
            job: paths of the outputs.
            task: the task with all options.
            size: height and width of the input.
            alpha: its transparency.

        Raises:
            BadArgument: transparency or sides that a format does not have.
        """
        target, *others = sample_paths(job.target, self.options.samples)
        check_held(target, task.result_size(size), alpha)
        for path in others:
            check_held(path, task.result_size(size), None)

    def solve(
        self, restorer: Restorer, loaded: Loaded, callback: Callable[[Step], None] | None = None
    ) -> Result:
        """Restore a picture; the results are arrays [H, W, C]."""
        options = self.options
        if loaded.start is not None:
            options = replace(options, start=loaded.start)

        return _as_arrays(restorer.restore(loaded.task, loaded.picture, options, callback))

    def solve_together(
        self,
        restorer: Restorer,
        loaded: Sequence[Loaded],
        callback: Callable[[Step], None] | None = None,
    ) -> list[Result]:
        """Restore pictures of one size and task, without alpha, in one batch."""
        pictures = [one.picture for one in loaded]
        task = loaded[0].task
        results = restorer.restore_together(task, pictures, self.options, callback)
        return [_as_arrays(result) for result in results]

    def write(self, job: Job, loaded: Loaded, result: Result, draw: Draw | None = None) -> Ended:
        """Write all outputs under temporary names, or none, and describe what was done.

        Args:
            job: paths of the outputs.
            loaded: the input.
            result: the restored picture.
            draw: draws the part of the picture in a report.
        """
        made = self.contents(job, loaded, result, draw)
        staged = stage(made.files)
        return Ended(loaded.fingerprint, made.description, made.drawn, loaded.used, staged)

    def contents(
        self, job: Job, loaded: Loaded, result: Result, draw: Draw | None = None
    ) -> Contents:
        """Encode all outputs, and describe what was done; no file is written.

        Several samples are beside the target, which is their mean: ``NAME.sample1.SUFFIX`` …, and
        ``NAME.std.png``, white at a standard deviation of 0.25 of full scale. The target comes
        first: written last, its existence implies that of the other outputs.

        Args:
            job: paths of the outputs.
            loaded: the input.
            result: the restored picture.
            draw: draws the part of the picture in a report.
        """
        shown = None
        if job.comparison is not None or draw is not None:
            before = loaded.photo
            if loaded.measurement is not None:
                before = _pictured(loaded.measurement, loaded.task)
            if isinstance(loaded.task, Developing):
                before = with_pixels(loaded.photo, loaded.task.plain(loaded.picture))
            std = None if result.std is None else _split(result.std)[0]
            shown = Shown(before, with_pixels(loaded.photo, result.mean), std)

        strip = _comparison(job, shown, self.task.title)
        outputs = dict(_outputs(job.target, result))
        found = _kernel(job, result) | _mask(job, result)
        like = self.output.applied(_without_tables(loaded.photo, result.report))
        files = _encoded(outputs, like) | strip | found
        size = {"width": result.mean.shape[1], "height": result.mean.shape[0]}
        done = {
            "outputs": [str(path) for path in (*outputs, *strip, *found)],
            **size,
            **asdict(result.report),
            **notes_of(loaded.photo, job.target, result.report),
        }
        drawn = None if draw is None or shown is None else draw(job, shown, done)

        return Contents(files, done, drawn)


def unexplained(done: Mapping[str, Any]) -> bool:
    """Return True if operator and noise cannot explain the input, in the record of a picture."""
    return is_doubtful(done.get("unexplained", done["consistency"]), done["noise"])


def notes_of(
    photo: Photo, target: Path, report: Report | None = None
) -> dict[str, tuple[str, ...]]:
    """Return what the record of a picture says about losses and about what was found in it."""
    findings = () if report is None else report.notes
    notes = (*photo.notes, *notes_on_writing(photo, target), *findings, *_of_file(report))
    return {"notes": notes} if notes else {}


def _of_file(report: Report | None) -> Iterator[str]:
    """Yield what is to be said once about a JPEG whose coefficients were used."""
    if report is None or report.jpeg is None:
        return
    inside = math.floor(1e4 * (report.inside or 0)) / 100  # never 100 if one is outside
    has_option = report.task not in ("dejpeg", "auto")
    off = "; `jpeg`=off takes its pixels as they are" if has_option else ""
    before = ", before CMYK becomes sRGB" if report.jpeg.endswith("CMYK") else ""
    yield (
        f"saved as a JPEG of {report.jpeg}: {inside:g} % of the result's DCT coefficients are in "
        f"the intervals of the file{before}{off}"
    )


def _without_tables(photo: Photo, report: Report) -> Photo:
    """Return the photo without the encoding of its file, if the result is more than it holds.

    A result that explains a JPEG would become that JPEG again if it were saved with its tables.
    """
    return photo if report.jpeg is None else replace(photo, encoding={})


def _as_arrays(result: Result) -> Result:
    """Return the result with arrays [H, W, C] instead of tensors [C, H, W]."""

    def array(picture: Any) -> Any:
        return (
            np.ascontiguousarray(picture.permute(1, 2, 0))
            if isinstance(picture, torch.Tensor)
            else picture
        )

    return result._replace(
        mean=array(result.mean), std=array(result.std), samples=[array(s) for s in result.samples]
    )


def _pictured(measurement: Measurement, task: Task) -> Photo:
    """Return a measurement as a picture."""
    problem = task.problem(measurement.values[None])
    with torch.no_grad():
        picture = as_picture(problem.measurement, problem.operator)[0].clamp(0, 1)
    return Photo(np.ascontiguousarray(picture.permute(1, 2, 0)))


def with_pixels(photo: Photo, array: NDArray[Any]) -> Photo:
    """Return the photo with the colour and alpha of an array [H, W, 1 … 4]."""
    pixels, alpha = _split(array)
    return replace(photo, pixels=pixels, alpha=alpha)


def _comparison(job: Job, shown: Shown | None, title: str) -> dict[Path, bytes]:
    """Return path and content of the before-and-after picture, if the job has one."""
    if job.comparison is None or shown is None:
        return {}

    from restore.report.comparison import compare, encoded_strip

    return {job.comparison: encoded_strip(compare(shown.before, shown.after), title)}


def _kernel(job: Job, result: Result) -> dict[Path, bytes]:
    """Return path and content of the estimated kernel, if it was found and is to be written.

    It is written if it was not applied, too.
    """
    if job.kernel is None or not result.kernels or result.kernels[0] is None:
        return {}
    buffer = io.BytesIO()
    np.save(buffer, result.kernels[0], allow_pickle=False)
    return {job.kernel: buffer.getvalue()}


def _mask(job: Job, result: Result) -> dict[Path, bytes]:
    """Return path and content of the mask of scratches, white where they were filled, if any."""
    if job.mask is None or not result.masks or result.masks[0] is None:
        return {}
    white = Photo(result.masks[0][..., None].astype(np.float32), bits=8)
    return {job.mask: encoded_photo(white, job.mask)}


def _encoded(outputs: Mapping[Path, Pixels], like: Photo) -> dict[Path, bytes]:
    """Return the content of all outputs."""
    return {
        path: encoded_photo(replace(like, pixels=pixels, alpha=alpha, bits=bits or like.bits), path)
        for path, (pixels, alpha, bits) in outputs.items()
    }


def _outputs(target: Path, result: Result) -> Iterator[tuple[Path, Pixels]]:
    """Yield each file to write, the target first."""
    yield target, (*_split(result.mean), None)
    if result.std is None:
        return

    _, *numbered, std_path = sample_paths(target, len(result.samples))

    for path, sample in zip(numbered, result.samples, strict=True):
        yield path, (*_split(sample), None)

    std, _ = _split(result.std)
    yield std_path, (np.clip(std / STD_FULL_SCALE, 0, 1), None, 8)


def _split(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Split an array [H, W, 1 … 4] into colour and alpha."""
    if array.shape[2] in (2, 4):
        return array[..., :-1], array[..., -1]
    return array, None
