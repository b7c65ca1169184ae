"""A run of a task on a clip: its frames through the pipeline of pictures, and back into a clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch

from restore import __version__
from restore.errors import BadArgument, UnreadableInput
from restore.files import Fingerprint, opened_once, refuse_existing, refuse_long
from restore.film.apart import Projector, projecting
from restore.film.assembly import Assembly
from restore.film.clip import Clip, Frame, Limits, Look, upright_rgb
from restore.film.color import from_rgb
from restore.film.containers import (
    check_quality,
    codec_for,
)
from restore.film.encoding import Settings, settings_for
from restore.jobs.batches import Batches
from restore.jobs.companions import Companions
from restore.jobs.film_record import notes_on, of_frame, of_frames, of_output, plain, summary
from restore.jobs.film_request import check_request, target_of
from restore.jobs.folder_lock import alone_in_folder
from restore.jobs.journal import SharedFiles
from restore.jobs.picture import Loaded, Work
from restore.jobs.pipeline import Stages, work_through
from restore.jobs.plan import check_writable, identity
from restore.jobs.reel import Reel
from restore.jobs.request import Request
from restore.jobs.selection import check_input
from restore.messages import put, put_json, say
from restore.methods.feed_forward import check_file
from restore.methods.report import Result
from restore.photo.photograph import Photo
from restore.precision import single_precision
from restore.restorer import Restorer, model_digest
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress
from restore.tasks import Task
from restore.tasks.problem import MAX_OUTPUT_PIXELS, check_pixels

# Seconds between two lines about work whose end is not known.
_PATIENCE = 15.0


class FrameJob(NamedTuple):
    """One frame to restore.

    Attributes:
        source: the clip.
        number: number of the frame, from 0.
    """

    source: Path
    number: int

    @property
    def source_name(self) -> str:
        """Name for messages."""
        return f"{self.source} (frame {self.number + 1})"


class Filmed(NamedTuple):
    """What a clip needs before its frames are restored.

    Attributes:
        clip: the clip.
        task: the task, with what is estimated once for all frames.
        settings: how frames are encoded.
        used: SHA-256 of the mask, by the name of its option.
    """

    clip: Clip
    task: Task
    settings: Settings
    used: dict[str, str]


class FilmRun:
    """The run of a request whose input is a clip.

    Args:
        request: as for `restore.jobs.run.Run`.
        restorer: the model of the request, if it was loaded for a clip before.

    Raises:
        BadArgument: options that a clip does not have.
        Unavailable: PyAV is not installed.
    """

    def __init__(self, request: Request, restorer: Restorer | None = None) -> None:
        check_request(request)
        assert isinstance(request.source, Path)
        self.request = request
        self.source = request.source
        self.target = target_of(self.source, request.target, request.task.name)
        self.reel = Reel(self.target)
        self.loaded = restorer
        self._kept: dict[int, Frame] = {}

    def go(self) -> None:
        """Restore all frames, and write the clip and its record.

        Raises:
            RestoreError: with its exit code. What is done stays for the next run.
        """
        check_input(self.source)
        self._check_target()
        if self.request.dry_run:
            self._tell()
            return

        with alone_in_folder(self.reel.journal, self._mention_wait):
            if self.reel.settle():
                self._notice(f"{self.target}: was done already")
            else:
                self._check_free()
                self._restore()
        remove_empty(self.reel.folder)

    def _restore(self) -> None:
        fingerprint = Fingerprint.of(self.source)
        limits = Limits(MAX_OUTPUT_PIXELS)
        try:
            with projecting(self.source.absolute(), str(self.source), limits) as projector:
                look = projector.look(self._patient("looking at {}: {} frames so far"))
                filmed = self._prepared(look)
                self._begin(filmed, fingerprint)
                self._work(projector, filmed, fingerprint)
                done = self._publish(projector, filmed, fingerprint)
        except BaseException:
            self._leave()
            raise

        self._report(done)

    def _prepared(self, look: Look) -> Filmed:
        """Return what the clip needs, and load the model.

        Raises:
            RestoreError: a clip that is not restored, or an output that cannot hold it.
        """
        request = self.request
        clip = look.clip
        self._check_sound(clip)
        codec = codec_for(self.target, clip.codec)
        check_quality(self.target, codec, request.output.quality)
        check_pixels(request.task.result_size(clip.upright))

        used, task = self._accompanied()
        task = task.completed(None, None, None)
        _ = self.restorer
        with single_precision():
            task = task.for_clip(_tensors(look.sampled, clip))
        is_grey = self._stays_grey(task, look)
        size = task.result_size(clip.upright)
        settings = settings_for(clip, codec, size, is_grey, request.output.quality)
        self._mention(clip, settings)

        return Filmed(clip, task, settings, used)

    def _check_sound(self, clip: Clip) -> None:
        """Refuse clips that are damaged or interlaced.

        Raises:
            UnreadableInput: it is.
        """
        if 2 * clip.interlaced > clip.count:
            raise UnreadableInput(
                f"{self.source}: it is interlaced, with two moments in each frame, which no task "
                "takes apart; deinterlace it first, for example with: ffmpeg -i IN -vf bwdif "
                "-crf 10 OUT.mkv"
            )
        if self.request.allow_truncated:
            return
        if clip.damaged:
            raise UnreadableInput(
                f"{self.source}: {clip.damaged} of its frames are damaged; `allow_truncated` "
                "restores what can be decoded"
            )
        if clip.truncated:
            raise UnreadableInput(
                f"{self.source}: the file ends before its clip does; `allow_truncated` restores "
                f"what is there, {clip.count} frames"
            )

    def _accompanied(self) -> tuple[dict[str, str], Task]:
        """Return the task with its mask, which is one for all frames, and the digest of it."""
        task = self.request.task
        if task.companion is None:
            return {}, task
        companions = Companions(getattr(task, task.companion), task.companion, needed=True)
        path = companions.of(self.source, PurePath(self.source.name))
        assert path is not None
        with opened_once(path) as (file, content):
            return {task.companion: content.sha256}, task.accompanied(path, file)

    def _stays_grey(self, task: Task, look: Look) -> bool:
        """Return True if the result of a grey clip is grey."""
        photo = _photo(look.sampled[0], look.clip)
        if photo.pixels.shape[2] == 3:
            return False
        opened = task.opened(photo)
        return self.restorer.problem(task, opened.color).stays_grey(opened)

    @property
    def restorer(self) -> Restorer:
        """The model, loaded at first use."""
        if self.loaded is None:
            request = self.request
            keep_freed_memory()
            self.loaded = Restorer(
                request.model,
                request.device,
                tile=request.tile,
                memory=request.memory,
                notice=self._notice,
            )
            self.loaded.prepare(request.task, request.options)
        return self.loaded

    def _begin(self, filmed: Filmed, fingerprint: Fingerprint) -> None:
        """Find what is done already."""
        if not self.request.resume:
            self.reel.clear()
        options = self._decides(filmed, fingerprint)
        if not self.reel.begin(options, filmed.settings, filmed.clip.count):
            self._notice(
                f"{self.reel.folder} is of other options, or of another clip; it begins again"
            )
        if self.reel.done:
            self._notice(f"{self.reel.done} of {filmed.clip.count} frames are done already")

    def _decides(self, filmed: Filmed, fingerprint: Fingerprint) -> dict[str, Any]:
        """Return everything that decides the result."""
        import av

        request = self.request
        task = request.task
        networks = [check_file(network) for network in request.options.networks]
        files = SharedFiles([*task.files, *networks]).digests
        return {
            "task": task.name,
            "arguments": plain(task.given()),
            "options": plain(asdict(request.options)),
            "noise": plain(getattr(filmed.task, "noise", None)),
            "model": model_digest(request.model),
            "input": {"size": fingerprint.size, "sha256": fingerprint.sha256},
            "files": files,
            **filmed.used,
            "allow_truncated": request.allow_truncated,
            "encoder": plain(asdict(filmed.settings)),
            "version": __version__,
            "pyav": av.__version__,
        }

    def _work(self, projector: Projector, filmed: Filmed, fingerprint: Fingerprint) -> None:
        """Restore the frames that are not done."""
        request = self.request
        count = filmed.clip.count
        first = self.reel.done
        jobs = [FrameJob(self.source, number) for number in range(first, count)]
        if not jobs:
            return

        frames = projector.frames(first, self._patient("{}: passing over {} frames"))
        work = Work(filmed.task, request.options)

        def load(job: FrameJob) -> Loaded:
            frame, _ = next(frames, (None, 0))
            if frame is None:
                raise UnreadableInput(f"{self.source}: cannot be read: it changed meanwhile")
            self._kept[job.number] = frame
            photo = _photo(frame, filmed.clip)
            return Loaded(photo, photo, filmed.task, None, fingerprint)

        def write(job: FrameJob, solved: tuple[Loaded, Result]) -> None:
            frame = self._kept.pop(job.number)
            _, result = solved
            planes = from_rgb(result.mean, filmed.settings.coding)
            self.reel.add(of_frame(frame, result), planes)

        with Progress(len(jobs), quiet=request.quiet, unit="frame") as progress:
            batches = Batches(work, self.restorer, request.batch, progress, self._notice)
            stages: Stages[Any, Any, Any, Any] = Stages(
                load, batches.solve, write, _raised, batches.most, batches.alike, projector.end
            )
            work_through(jobs, stages)

    def _publish(
        self, projector: Projector, filmed: Filmed, fingerprint: Fingerprint
    ) -> dict[str, Any]:
        """Assemble the clip, give it its name, and return its record."""
        if not fingerprint.still_holds(self.source):
            raise UnreadableInput(f"{self.source}: cannot be used: it changed meanwhile")
        parts = list(self.reel.parts())
        assembly = Assembly(
            [part.video for part in parts],
            [part.frames for part in parts],
            filmed.settings,
            filmed.clip.time_base,
            self.source.absolute(),
            self.reel.whole,
            self.target.suffix.lower(),
        )
        notes = projector.assemble(assembly, self._patient("writing {}: {} packets so far"))
        frames = self.reel.known()
        record = {
            "input": str(self.source),
            "status": "done",
            "outputs": [str(self.target)],
            **of_output(filmed.settings),
            **of_frames(frames),
            "notes": [*notes_on(filmed.clip, self.request.allow_truncated), *notes],
            "decided_by": self._decides(filmed, fingerprint),
        }
        return self.reel.publish(record, replace=self.request.overwrite)

    def _report(self, done: dict[str, Any]) -> None:
        """Say what was done."""
        if self.request.as_json:
            put_json({k: v for k, v in done.items() if k != "decided_by"})
        if self.request.quiet:
            return
        for note in done["notes"]:
            self._say(f"{self.source}: {note}")
        self._say(summary(str(self.target), done))

    def _leave(self) -> None:
        """Say what is kept for the next run, after an error or interrupt."""
        done = self.reel.done
        self.reel.drop()
        if done:
            self._notice(
                f"{done} frames are kept in {self.reel.folder}; the same command goes on there"
            )
        else:
            self.reel.remove()

    def _check_target(self) -> None:
        """Refuse an output that cannot be written.

        Raises:
            FileAccess: it is the input, in a folder that cannot be written, or its name too long.
            BadArgument: a quality that its kind never has.
        """
        for path in (self.target, self.reel.record, self.reel.folder / "segment00000.video"):
            refuse_long(path, "give another OUT")
        mask = getattr(self.request.task, self.request.task.companion or "", None)
        inputs = [self.source, *([mask] if isinstance(mask, Path) else [])]
        for path in (self.target, self.reel.record):
            if path.exists() and identity(path) in [identity(p) for p in inputs if p.exists()]:
                raise BadArgument(
                    f"{path}: is an input; an input is never overwritten, choose another output"
                )
        check_writable(self.target.parent)
        if not self.reel.folder.is_dir():
            self._check_free()

    def _check_free(self) -> None:
        for path in (self.target, self.reel.record):
            refuse_existing(path, self.request.overwrite)

    def _tell(self) -> None:
        """Print the plan."""
        if self.request.as_json:
            record = {"input": str(self.source), "status": "planned", "outputs": [str(self.target)]}
            put_json(record)
        else:
            put(f"{self.source} -> {self.target}")
        self._notice("1 clip to restore; nothing was done (`dry_run`)")

    def _mention(self, clip: Clip, settings: Settings) -> None:
        height, width = clip.upright
        rate = float(clip.rate)
        self._notice(
            f"{self.source}: {clip.count} frames of {width}x{height}, {rate:.5g} a second; "
            f"{settings.encoder.title} in {settings.format} will hold them"
        )

    def _mention_wait(self) -> None:
        self._notice(f"another run is at work on {self.target}; waiting for its end")

    def _patient(self, text: str) -> Callable[[int], None]:
        """Return what tells now and then how far work is."""
        told = [time.monotonic()]

        def tell(count: int) -> None:
            if time.monotonic() - told[0] > _PATIENCE:
                told[0] = time.monotonic()
                self._notice(text.format(self.source, count))

        return tell

    def _notice(self, text: str) -> None:
        if not self.request.quiet:
            self._say(f"restore: {text}")

    def _say(self, text: str) -> None:
        say(self.request.wording(text))


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    try:
        folder.rmdir()
    except OSError:
        return


def _raised(job: FrameJob, outcome: Any) -> None:
    """End the work with the error of a frame."""
    if isinstance(outcome, Exception):
        raise outcome


def _photo(frame: Frame, clip: Clip) -> Photo:
    bits = 8 if clip.coding.layout.bits == 8 else 16
    return Photo(upright_rgb(frame, clip), bits=bits, format="clip")


def _tensors(frames: Sequence[Frame], clip: Clip) -> Iterator[torch.Tensor]:
    """Yield frames as [1, 3, H, W] in [0, 1]."""
    for frame in frames:
        picture = torch.from_numpy(upright_rgb(frame, clip)).permute(2, 0, 1)[None]
        yield picture.expand(-1, 3, -1, -1).contiguous()
