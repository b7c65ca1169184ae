"""A run of a task on a folder of clips, one after another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from restore.errors import FullDisk, NothingToDo, RestoreError, SomeFailed
from restore.film.containers import SUFFIXES as CLIP_SUFFIXES
from restore.jobs.measurement import MEASUREMENT_SUFFIXES
from restore.jobs.plan import folder_of
from restore.jobs.request import Request
from restore.jobs.walk import pictures_in
from restore.messages import complain, say
from restore.photo.photograph import SUFFIXES
from restore.photo.raws import RAW_SUFFIXES
from restore.restorer import Restorer
from restore.text import visible


def holds_clips_alone(request: Request) -> bool:
    """Return True if the input is a folder with clips and without pictures, in it or below.

    Raises:
        FileAccess: it cannot be read.
    """
    source = request.source
    if not isinstance(source, Path) or not source.is_dir():
        return False

    root, target = _folders(request)
    pictures = pictures_in(root, SUFFIXES | RAW_SUFFIXES | MEASUREMENT_SUFFIXES, [target])
    clips = pictures_in(root, CLIP_SUFFIXES, [target])
    return next(clips, None) is not None and next(pictures, None) is None


class ClipFolderRun:
    """The run of a request whose input is a folder of clips; the outputs mirror it.

    Args:
        request: as for `restore.jobs.film.FilmRun`.

    Raises:
        BadArgument: options that clips do not have.
        Unavailable: PyAV is not installed.
    """

    def __init__(self, request: Request) -> None:
        from restore.jobs.film_request import check_request

        check_request(request)
        self.request = request
        self.root, self.target = _folders(request)
        self._restorer: Restorer | None = None

    def go(self) -> None:
        """Restore the clips that are not done; one that fails does not end the run.

        The model is loaded once.

        Raises:
            NothingToDo: all clips are done.
            SomeFailed: some clips failed.
            FullDisk: no further clip could be written.
        """
        clips = list(pictures_in(self.root, CLIP_SUFFIXES, [self.target]))
        left = [] if self.request.overwrite else [one for one in clips if self._is_done(one)]
        wanted = [one for one in clips if one not in left]
        if not wanted:
            raise NothingToDo(
                f"all {len(left)} clips of {self.root} are in {self.target} already; `overwrite` "
                "makes them anew"
            )

        failures = [clip for clip in wanted if not self._restored(clip)]
        if left and not self.request.quiet:
            self._say(f"{len(left)} done before and left as they are; `overwrite` makes them anew")
        if failures:
            names = ", ".join(str(clip) for clip in failures)
            raise SomeFailed(f"{len(failures)} of {len(wanted)} clips failed: {names}")

    def _restored(self, clip: Path) -> bool:
        """Restore a clip, and return False if that failed."""
        from restore.jobs.film import FilmRun

        target = self._target_of(clip)
        try:
            run = FilmRun(replace(self.request, source=clip, target=target), self._restorer)
            run.go()
        except FullDisk:
            raise
        except RestoreError as error:
            reason = self.request.wording(str(error))
            about = "" if visible(str(clip)) in reason else f"{clip}: "
            complain(f"{about}{reason} (going on)")
            return False

        self._restorer = run.loaded
        return True

    def _target_of(self, clip: Path) -> Path:
        return self.target / clip.relative_to(self.root)

    def _is_done(self, clip: Path) -> bool:
        return self._target_of(clip).exists()

    def _say(self, text: str) -> None:
        say(self.request.wording(text))


def _folders(request: Request) -> tuple[Path, Path]:
    """Return input folder and output folder."""
    folders = folder_of(request.source, request.target, request.task.name)
    assert folders is not None
    return folders
