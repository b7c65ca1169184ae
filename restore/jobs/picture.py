"""One picture file in its three stages: read, restored, written; and one that is degraded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import operators
from restore.files import write_atomically
from restore.jobs.manifest import Fingerprint
from restore.jobs.measurement import MEASUREMENT_SUFFIXES, Measurement, read_measurement
from restore.jobs.measurement import encoded as encoded_measurement
from restore.jobs.output import AS_INPUT, OutputOptions
from restore.jobs.plan import Job, refuse_existing_outputs, sample_paths
from restore.methods.report import Result
from restore.methods.settings import Options
from restore.photo.photograph import Photo, read_photo
from restore.photo.photograph import encoded as encoded_photo
from restore.report.comparison import compare, encoded_strip
from restore.restorer import Restorer
from restore.solvers import Step
from restore.tasks import Task
from restore.tasks.degradation import as_picture, degrade

Pixels = tuple[NDArray[Any], NDArray[Any] | None, int | None]
"""Colour, alpha, and the depth where it is not the input's."""

STD_FULL_SCALE = 0.25
"""The standard deviation, in [0, 1] units, that is white in a written map."""


class Shown(NamedTuple):
    """What can be seen of a job that is done.

    Attributes:
        before: the input; of a measurement that is no picture, its pseudo-inverse.
        after: the result, of samples their mean.
        std: the samples' standard deviation, float [H, W, 1 or 3] in [0, 1] units; None for a
            single one.
    """

    before: Photo
    after: Photo
    std: NDArray[Any] | None


class Drawn(NamedTuple):
    """A picture's part of a report."""

    name: str
    before: tuple[int, int]
    """Width and height of the input."""
    views: str
    """HTML; empty where the pictures are not shown."""


Draw = Callable[[Job, Shown, Mapping[str, Any]], Drawn]
"""``draw(job, shown, description)`` is called when a picture is restored and written."""


class Loaded(NamedTuple):
    """An input.

    Attributes:
        photo: for what its file says beside the pixels; without pixels where the input is a
            measurement.
        picture: for `Restorer.run`.
        task: to do, completed by what the files say.
        measurement: None where the input is a picture.
        fingerprint: of the input's file.
        start: the picture to begin with, [H, W, C]; None where there is no file of it.
    """

    photo: Photo
    picture: Any
    task: Task
    measurement: Measurement | None
    fingerprint: Fingerprint
    start: NDArray[Any] | None = None


class Ended(NamedTuple):
    """A picture that is done."""

    fingerprint: Fingerprint
    """Of its input."""
    description: dict[str, Any]
    """For the JSON line: ``outputs`` and what else is told."""
    drawn: Drawn | None = None
    """For the report, if there is one."""


@dataclass(frozen=True)
class Work:
    """What is done to every picture of a run.

    Attributes:
        task: to do; each picture's companion takes the place of the file that it names.
        options: how to restore.
        output: how to write.
        overwrite: whether outputs that exist are replaced.
    """

    task: Task
    options: Options
    output: OutputOptions = AS_INPUT
    overwrite: bool = False

    def load(self, job: Job) -> Loaded:
        """Read the input, its mask and its start.

        Raises:
            RestoreError: one that cannot be used, or an output that exists.
        """
        refuse_existing_outputs(job, self.overwrite, self.options.samples)
        fingerprint = Fingerprint.of(job.source)
        task = self.task if job.companion is None else self.task.accompanied(job.companion)
        start = None if job.start is None else read_photo(job.start).pixels
        if job.source.suffix.lower() in MEASUREMENT_SUFFIXES:
            measurement = read_measurement(job.source)
            photo = Photo(np.empty((0, 0, 3), np.float32), bits=measurement.bits)
            task = task.completed(measurement.operator, measurement.noise, measurement.size)
            return Loaded(photo, measurement.values, task, measurement, fingerprint, start)

        photo = read_photo(job.source, page=job.page)
        task = task.completed(None, None, None)
        return Loaded(photo, _array(photo), task, None, fingerprint, start)

    def solve(
        self, restorer: Restorer, loaded: Loaded, callback: Callable[[Step], None] | None = None
    ) -> Result:
        """Restore; the pictures are arrays [H, W, C]."""
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
        """Restore pictures of one size, without alpha and for the same task, in one batch."""
        pictures = [one.picture for one in loaded]
        task = loaded[0].task
        results = restorer.restore_together(task, pictures, self.options, callback)
        return [_as_arrays(result) for result in results]

    def write(self, job: Job, loaded: Loaded, result: Result, draw: Draw | None = None) -> Ended:
        """Write all outputs, or none, and describe what was done.

        Several samples are written beside the target, which is their mean: ``NAME.sample1.SUFFIX``
        …, and ``NAME.std.png``, white at a standard deviation of 0.25 of full scale. Before and
        after go side by side where the job says so. The target is written last, so that it stands
        for the whole set.

        Args:
            draw: makes the report's part of what was written.
        """
        shown = None
        if job.comparison is not None or draw is not None:
            before = loaded.photo
            if loaded.measurement is not None:
                before = _pictured(loaded.measurement, loaded.task)
            std = None if result.std is None else _split(result.std)[0]
            shown = Shown(before, _with_pixels(loaded.photo, result.mean), std)

        strip = _comparison(job, shown, self.task.title)
        outputs = dict(_outputs(job.target, result))
        _write_all(outputs, self.output.applied(loaded.photo), self.overwrite, strip)
        size = {"width": result.mean.shape[1], "height": result.mean.shape[0]}
        done = {
            "outputs": [str(path) for path in (*outputs, *strip)],
            **size,
            **asdict(result.report),
        }
        drawn = None if draw is None or shown is None else draw(job, shown, done)

        return Ended(loaded.fingerprint, done, drawn)


def unexplained(done: Mapping[str, Any]) -> bool:
    """Whether what `Work.write` tells of a picture says that it does not explain its input: A x − y
    is far too large for the noise."""
    return done["consistency"] > max(0.02, 3 * done["noise"])


def degrade_file(
    job: Job, operator: str, noise: float, seed: int, *, overwrite: bool = False
) -> dict[str, Any]:
    """Degrade one picture file: the measurement goes beside the picture of it, which is written
    last.

    Raises:
        RestoreError: whatever keeps the picture from being degraded or written; nothing is written
            then.
    """
    refuse_existing_outputs(job, overwrite, 1)
    photo = read_photo(job.source)
    degraded = degrade(_array(photo), operator, noise=noise, seed=seed)
    pixels, alpha = _split(degraded.picture)
    size = photo.pixels.shape[1], photo.pixels.shape[0]
    written = str(operators.parse(operator).in_folder(Path.cwd()))
    measurement = Measurement(degraded.measurement[0], written, noise, size, photo.bits)
    assert job.measurement is not None
    shown = encoded_photo(replace(photo, pixels=pixels, alpha=alpha), job.target)
    _write_together(
        {job.target: shown, job.measurement: encoded_measurement(measurement)}, overwrite
    )
    shape = "x".join(str(n) for n in degraded.measurement.shape[1:])

    return {
        "outputs": [str(job.target), str(job.measurement)],
        "operator": operator,
        "noise": noise,
        "measured": shape,
    }


def _as_arrays(result: Result) -> Result:
    """Of tensors [C, H, W], arrays [H, W, C]."""

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
    """Return what a person can see of a measurement."""
    problem = task.problem(measurement.values[None])
    with torch.no_grad():
        picture = as_picture(problem.measurement, problem.operator)[0].clamp(0, 1)
    return Photo(np.ascontiguousarray(picture.permute(1, 2, 0)))


def _with_pixels(photo: Photo, array: NDArray[Any]) -> Photo:
    pixels, alpha = _split(array)
    return replace(photo, pixels=pixels, alpha=alpha)


def _comparison(job: Job, shown: Shown | None, title: str) -> dict[Path, bytes]:
    """The file of before and after, if there is to be one."""
    if job.comparison is None or shown is None:
        return {}
    return {job.comparison: encoded_strip(compare(shown.before, shown.after), title)}


def _write_all(
    outputs: dict[Path, Pixels], like: Photo, overwrite: bool, others: dict[Path, bytes]
) -> None:
    """Write every output, the ready ones too, or none, the first one last."""
    files = {}
    for path, (pixels, alpha, bits) in outputs.items():
        files[path] = encoded_photo(
            replace(like, pixels=pixels, alpha=alpha, bits=bits or like.bits), path
        )
    _write_together(files | others, overwrite)


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


def _outputs(target: Path, result: Result) -> Iterator[tuple[Path, Pixels]]:
    """Every file to write, the target first."""
    yield target, (*_split(result.mean), None)
    if result.std is None:
        return

    _, *numbered, std_path = sample_paths(target, len(result.samples))

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
