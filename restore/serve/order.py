"""What a request asks for, and how it is read, checked and carried out, all in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from restore.errors import BadArgument, UnreadableInput
from restore.files import Fingerprint
from restore.jobs.output import OutputOptions
from restore.jobs.picture import Loaded, Work
from restore.jobs.plan import Job
from restore.methods import METHODS
from restore.methods.feed_forward import is_feed_forward
from restore.methods.options import Options
from restore.methods.settings import unknown_method
from restore.photo.formats import format_of
from restore.photo.formats.record import HEAD
from restore.photo.photograph import FORMATS, Photo, read_photo
from restore.restorer import Restorer, check
from restore.serve.fields import Form
from restore.serve.messages import File, Restored
from restore.serve.settings import Limits
from restore.serve.view import VIEWED, picture_type, view
from restore.serve.words import in_words
from restore.solvers import Step
from restore.tasks import Task

# Name of the part of a request that brings an initial picture, see `Options.start`.
START = "start"


@dataclass(frozen=True)
class Order:
    """A picture to restore and how.

    Attributes:
        task: the task without its companion.
        options: options of the restoration; without a start.
        output: options of the output.
        allow_truncated: True to complete a picture whose file ends too early.
        picture: the file to restore.
        companion: the file of the companion, such as a mask; None without one.
        start: the file of the initial picture; None without one.
        max_pixels: largest number of pixels of a file.
    """

    task: Task
    options: Options
    output: OutputOptions
    allow_truncated: bool
    picture: bytes
    companion: bytes | None = None
    start: bytes | None = None
    max_pixels: int = Limits.pixels

    @property
    def work(self) -> Work:
        return Work(
            self.task,
            self.options,
            self.output,
            allow_truncated=self.allow_truncated,
            max_pixels=self.max_pixels,
        )

    @property
    def job(self) -> Job:
        """Names of input and outputs, of which no file exists.

        The output has the format of the input, as the command gives it by the input's name.
        """
        source = _named("picture", self.picture)
        target = Path(f"restored{self.output.suffix(source)}")
        kernel = Path("restored.kernel.npy") if self.task.writes_kernel else None
        mask = Path("restored.mask.png") if self.task.finds_mask else None
        return Job(source, target, kernel=kernel, mask=mask)

    def load(self) -> tuple[Work, Loaded]:
        """Decode the uploads.

        Raises:
            RestoreError: an unusable picture, or options that do not fit it.
        """
        work = self.work
        job = self.job
        task = self.task
        work.output.check(job.target)
        start = None
        if self.companion is not None:
            name = Path(str(task.companion))
            # refuses one of too many pixels
            self._read(name, self.companion)
            task = task.accompanied(name, io.BytesIO(self.companion))
        if self.start is not None:
            start = self._read(Path(START), self.start).pixels

        photo, picture, task, measurement = work.read(job, task, io.BytesIO(self.picture))
        return work, Loaded(photo, picture, task, measurement, Fingerprint(0, 0, ""), start)

    def _read(self, name: Path, data: bytes) -> Photo:
        return read_photo(name, max_pixels=self.max_pixels, file=io.BytesIO(data))

    def check(self, limits: Limits) -> None:
        """Check everything that can be checked without a model.

        Raises:
            RestoreError: an unusable picture, invalid options, or a result that is too large.
        """
        options = self.options
        if self.start is not None:
            options = replace(options, start=np.zeros((1, 1, 3), np.float32))  # stands for it
        check(self.task, options)

        _, loaded = self.load()
        height, width = loaded.task.result_size(loaded.photo.pixels.shape[:2])
        pixels = height * width * options.samples
        if pixels > limits.result_pixels:
            times = f" times {options.samples} samples" if options.samples > 1 else ""
            raise BadArgument(
                f"the result has {width}x{height} pixels{times}, and this server makes at most "
                f"{limits.result_pixels / 1e6:.0f} million"
            )

    def carry_out(self, restorer: Restorer, callback: Callable[[Step], None]) -> Restored:
        """Restore the picture.

        Args:
            restorer: the model.
            callback: called with each `Step`; what it raises ends the work.

        Raises:
            RestoreError: as `check`, or options that do not fit the model.
        """
        work, loaded = self.load()
        restorer.prepare(loaded.task, replace(self.options, start=loaded.start))
        result = work.solve(restorer, loaded, callback)
        made = work.contents(self.job, loaded, result)
        files = [File(path.name, picture_type(path), data) for path, data in made.files.items()]

        report = {name: value for name, value in made.description.items() if name != "outputs"}
        report["model"] = Path(report["model"]).name  # not where it lies on the server
        views = {file.name: view(file.data)[0] for file in files if file.type in VIEWED}
        return Restored(files, views, report, in_words(report))


def order_of(
    form: Form, options: str, uploads: Mapping[str, bytes], max_pixels: int = Limits.pixels
) -> Order:
    """Read an order from the parts of a request.

    Args:
        form: what a request for the task may say.
        options: an object of JSON.
        uploads: ``picture``, and the other files of the form.
        max_pixels: largest number of pixels of a file.

    Raises:
        BadArgument: invalid options, a missing file, or one that would be read on the server.
        UnreadableInput: an empty file.
    """
    task, restoring, output, allow_truncated = form.read(options)
    _refuse_server_files(task, restoring)
    if restoring.method not in ("auto", *METHODS):
        raise BadArgument(unknown_method(restoring.method))
    _check_uploads(form, task, uploads)

    return Order(
        task,
        restoring,
        output,
        allow_truncated,
        uploads["picture"],
        companion=None if task.companion is None else uploads.get(task.companion),
        start=uploads.get(START),
        max_pixels=max_pixels,
    )


def _check_uploads(form: Form, task: Task, uploads: Mapping[str, bytes]) -> None:
    """Refuse a request without its files, or with others.

    Raises:
        BadArgument: a file is missing, unknown, or there besides an option that stands for it.
        UnreadableInput: an empty file.
    """
    named = task.companion if task.companion and getattr(task, task.companion) is not None else None
    for name in ("picture", *(name for name, one in form.uploads.items() if one.required)):
        if name not in uploads and name != named:
            words = form.uploads[name].words if name in form.uploads else ()
            also = f", or the option {' or '.join(f'{name}={word}' for word in words)}"
            raise BadArgument(
                f"the part `{name}` is missing; send it as a file{also if words else ''}"
            )

    for name, data in uploads.items():
        if name != "picture" and name not in form.uploads:
            raise BadArgument(f"{task.name} takes no file `{name[:60]}`")
        if name == named:
            raise BadArgument(f"`{name}` is there twice, as a file and as an option; send one")
        if not data:
            raise UnreadableInput(f"{name}: the file is empty.")


def _refuse_server_files(task: Task, options: Options) -> None:
    """Refuse options that name files, which would be read on the server.

    Raises:
        BadArgument: one does.
    """
    try:
        files = task.files
    except ValueError:
        task.check()  # says which option is wrong
        raise
    if files or options.networks or is_feed_forward(options.method):
        raise BadArgument(
            "options: files cannot be named here, since they would be those of the server; use "
            "the command for kernels, masks and networks from files"
        )


def _named(stem: str, data: bytes) -> Path:
    """Return a name with the suffix of the format that a file has by its content."""
    format = format_of(data[:HEAD])
    if format is None:
        return Path(stem)
    suffix = next((one for one, name in FORMATS.items() if name == format.name), "")
    return Path(f"{stem}{suffix or format.suffixes[0]}")
