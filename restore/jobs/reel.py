"""The folder of an unfinished clip: what is done of it, until the whole of it has its name.

It lies beside the output, ``clip-sr.mp4.unfinished``, and holds finished segments, and each
finished frame of the next one. A run that ends early leaves it, and the next one goes on there. It
is gone when the clip has its name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pretrained.disk import put_in_place, sync_folder
from restore.errors import FileAccess
from restore.files import Fingerprint, not_written, write_atomically
from restore.film.color import Planes, layout_of
from restore.film.encoding import SEGMENT, Segment, Settings

SUFFIX = ".unfinished"
_OPTIONS = "options.json"
_RECORD = "record.json"
_WHOLE = "whole"


class Part(NamedTuple):
    """The files of a segment.

    Attributes:
        video: its encoded frames.
        frames: JSON with what is known of each frame.
    """

    video: Path
    frames: Path


class Reel:
    """What is done of a clip.

    Args:
        target: the output.

    Attributes:
        folder: the folder.
        done: number of finished frames.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(target.name + SUFFIX)
        self.record = record_of(target)
        self.done = 0
        self._count = 0
        self._settings: Settings | None = None
        self._segment: Segment | None = None
        self._known: list[dict[str, Any]] = []

    @property
    def journal(self) -> Path:
        """File that a run locks."""
        return self.folder / "restore.journal"

    @property
    def whole(self) -> Path:
        """Where the clip is assembled."""
        return self.folder / f"{_WHOLE}{self.target.suffix}"

    def settle(self) -> bool:
        """Finish what a run that was killed has only not told; return whether the clip is done.

        Raises:
            FileAccess: the record cannot be written.
        """
        record = self.folder / _RECORD
        try:
            table = json.loads(record.read_text(encoding="utf-8"))
            is_done = Fingerprint(**table["written"]).still_holds(self.target)
        except (OSError, ValueError, TypeError, KeyError):
            return False
        if not is_done:
            return False

        self._place(record, self.record, replace=True)
        self.remove()
        return True

    def begin(self, options: Mapping[str, Any], settings: Settings, count: int) -> bool:
        """Go on where a run with the same options ended, or begin.

        Args:
            options: everything that decides the result.
            settings: how frames are encoded.
            count: number of frames of the clip.

        Returns:
            False if frames that were made with other options were dropped.

        Raises:
            FileAccess: the folder cannot be written.
        """
        self._settings = settings
        self._count = count
        known = self._read_options()
        is_same = known is None or known == json.loads(json.dumps(options))
        if not is_same:
            self.clear()
        if known is None or not is_same:
            write_atomically(json.dumps(options).encode(), self.folder / _OPTIONS, True)

        self.done = len(self.known())
        while self.done < count and (found := self._read_frame(self.done)) is not None:
            with _errors_about(self.target):
                self._encode(*found)
        return is_same

    def add(self, known: dict[str, Any], planes: Planes) -> None:
        """Keep the next frame.

        Args:
            known: what is known of it, with its ``time`` and ``duration``.
            planes: its planes.

        Raises:
            FileAccess: it cannot be written; `FullDisk` if no file could.
        """
        data = b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)
        head = json.dumps(known).encode() + b"\n"
        write_atomically(head + data, self._frame(self.done), True)
        with _errors_about(self.target):
            self._encode(known, planes)

    def parts(self) -> Iterator[Part]:
        """Yield the finished segments."""
        number = 0
        while (part := self._part(number)).video.is_file() and part.frames.is_file():
            yield part
            number += 1

    def known(self) -> list[dict[str, Any]]:
        """Return what is known of the frames of all finished segments."""
        texts = (part.frames.read_text(encoding="utf-8") for part in self.parts())
        return [one for text in texts for one in json.loads(text)]

    def publish(self, record: Mapping[str, Any], *, replace: bool) -> dict[str, Any]:
        """Give the assembled clip its name, and write its record beside it.

        Args:
            record: what was done.
            replace: True to replace existing files.

        Returns:
            The record, with the fingerprint of the clip.

        Raises:
            FileAccess: a name is taken, or a file cannot be written.
        """
        with _errors_about(self.target), open(self.whole, "r+b") as file:
            os.fsync(file.fileno())
        written = Fingerprint.of(self.whole)
        table = {**record, "written": vars(written)}
        text = json.dumps(table, indent=2, default=str) + "\n"
        write_atomically(text.encode(), self.folder / _RECORD, True)

        self._place(self.whole, self.target, replace=replace)
        self._place(self.folder / _RECORD, self.record, replace=True)
        self.remove()
        return table

    def clear(self) -> None:
        """Remove what is done."""
        self.drop()
        for path in self._own_files():
            with _errors_about(path):
                path.unlink()
        self.done = 0

    def remove(self) -> None:
        """Remove the folder; what cannot be removed stays."""
        self.drop()
        for path in self._own_files():
            with contextlib.suppress(OSError):
                path.unlink()

    def drop(self) -> None:
        """Close the segment that grows; its frames stay."""
        if self._segment is not None:
            with contextlib.suppress(Exception):  # nothing of it is used
                self._segment.drop()
            self._segment = None
        with contextlib.suppress(OSError):
            self._growing.unlink()

    def _encode(self, known: dict[str, Any], planes: Planes) -> None:
        """Add a frame to the segment that grows, and close that at its end."""
        assert self._settings is not None
        if self._segment is None:
            self._known = []
            self._segment = Segment(self._growing, self._settings)
        self._segment.add(planes)
        self._known.append(known)
        self.done += 1
        if self.done % SEGMENT == 0 or self.done == self._count:
            self._finish_segment(self._segment)

    def _finish_segment(self, segment: Segment) -> None:
        """Close the segment that grows, and remove the frames that it holds."""
        first = self.done - len(self._known)
        part = self._part(first // SEGMENT)
        segment.finish()
        self._segment = None
        write_atomically(json.dumps(self._known).encode(), part.frames, True)
        with open(self._growing, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(self._growing, part.video)
        sync_folder(self.folder)

        for number in range(first, self.done):
            with contextlib.suppress(OSError):
                self._frame(number).unlink()

    def _read_options(self) -> Any:
        """Return the options of the run before; None if there was none."""
        try:
            return json.loads((self.folder / _OPTIONS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _read_frame(self, number: int) -> tuple[dict[str, Any], Planes] | None:
        """Return a frame that was kept; None if it was not, or not all of it."""
        assert self._settings is not None
        layout = layout_of(self._settings.format)
        assert layout is not None
        try:
            head, _, data = self._frame(number).read_bytes().partition(b"\n")
            known = json.loads(head)
        except (OSError, ValueError):
            return None

        planes = []
        for height, width in layout.sizes(*self._settings.size):
            size = height * width * layout.dtype.itemsize
            if len(data) < size:
                return None
            planes.append(np.frombuffer(data[:size], layout.dtype).reshape(height, width))
            data = data[size:]
        return known, tuple(planes)

    def _place(self, path: Path, target: Path, *, replace: bool) -> None:
        with _errors_about(target):
            put_in_place(path, target, replace=replace)
            sync_folder(target.parent)

    def _part(self, number: int) -> Part:
        name = f"segment{number:05}"
        return Part(self.folder / f"{name}.video", self.folder / f"{name}.json")

    def _frame(self, number: int) -> Path:
        return self.folder / f"{number:08}.frame"

    @property
    def _growing(self) -> Path:
        return self.folder / "segment.growing"

    def _own_files(self) -> list[Path]:
        """Return the files that this class makes, which alone are removed."""
        patterns = ("*.frame", "segment*.video", "segment*.json", "segment.growing", f"{_WHOLE}.*")
        found = [path for pattern in patterns for path in self.folder.glob(pattern)]
        return [*found, *(p for n in (_OPTIONS, _RECORD) if (p := self.folder / n).exists())]


def record_of(target: Path) -> Path:
    """Return the file of the record of a clip: ``NAME.mp4.json`` beside it."""
    return target.with_name(target.name + ".json")


@contextlib.contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    """Turn errors of the system, those that libav hands on included, into those of a file."""
    try:
        yield
    except FileAccess:
        raise
    except OSError as error:
        raise not_written(path, error) from error
