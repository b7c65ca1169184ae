"""Reading a clip with libav: one look at all frames, then the frames one by one.

It runs in a process of its own, see `restore.film.apart`, since a damaged file may crash libav.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from restore.film.clip import UPRIGHT, Clip, Frame, Limits, Look, Tags, Turn
from restore.film.color import RGB, TITLES, WEIGHTS, Coding, assumed_matrix, layout_of
from restore.film.containers import DEMUXERS
from restore.film.planes import planes_of
from restore.photo.refusals import Unreadable

# Pixel formats that swscale puts into planes without loss, by what they become. All others become
# `_WIDEST`.
_SAME = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "p016le": "yuv420p16le",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yuva420p": "yuv420p",
    "yuva422p": "yuv422p",
    "yuva444p": "yuv444p",
    "yuva422p10le": "yuv422p10le",
    "yuva444p10le": "yuv444p10le",
    "yuva444p12le": "yuv444p12le",
    "yuva444p16le": "yuv444p16le",
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "rgb0": "gbrp",
    "bgr0": "gbrp",
    "0rgb": "gbrp",
    "0bgr": "gbrp",
    "rgba": "gbrp",
    "bgra": "gbrp",
    "pal8": "gbrp",
    "gbrap": "gbrp",
    "gbrap10le": "gbrp10le",
    "gbrap12le": "gbrp12le",
}
_WIDEST = "yuv444p16le"

# Side data of packets whose content is encrypted.
_ENCRYPTED = ("encryption_info", "encryption_init_info")
# Tags of tracks that are encrypted, as those of films from shops.
_LOCKED = ("drmi", "drms", "encv")

# Transfer functions of high dynamic range: PQ and HLG.
_HIGH_RANGE = (16, 18)

# Part of its declared length, and frames, that a sound clip may lack at its end.
_SLACK = 0.02
_SLACK_FRAMES = 2

_MATRIX = struct.Struct("<9i")


class Reader:
    """Reads a clip from its beginning.

    Args:
        path: the file.
        limits: what it may ask for.

    Attributes:
        damaged: number of packets or frames with errors so far.

    Raises:
        Unreadable: it is no clip, has no video, or asks for too much.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.limits = limits
        self.damaged = 0
        self._container = _opened(path)
        self._stream = self._chosen()
        self._stream.thread_type = "AUTO"
        self._check_size(self._stream.codec_context.width, self._stream.codec_context.height)
        self._frames = self._decoded()
        self._first: Any = None
        self._last_time: int | None = None
        self._last_duration = 0

    def close(self) -> None:
        self._container.close()

    def look(self) -> Generator[int, None, Look]:
        """Decode all frames, yield the number of each, and return what was found.

        Raises:
            Unreadable: it is encrypted, has no frame, or its frames change their size.
        """
        sampled: list[tuple[int, Frame]] = []
        apart = 1
        count = interlaced = 0
        for frame in self._frames:
            interlaced += bool(frame.interlaced_frame)
            if count % apart == 0:
                sampled.append((count, self._frame(frame)))
            else:
                self._time(frame)
            if len(sampled) > self.limits.samples:
                apart *= 2
                sampled = [one for one in sampled if one[0] % apart == 0]
            count += 1
            yield count

        clip = replace(
            self.clip,
            count=count,
            interlaced=interlaced,
            damaged=self.damaged,
            truncated=self._is_truncated(count),
        )
        return Look(clip, [frame for _, frame in sampled])

    def next(self) -> Frame | None:
        """Return the next frame; None at the end.

        Raises:
            Unreadable: as `look`.
        """
        frame = next(self._frames, None)
        return None if frame is None else self._frame(frame)

    def skip(self, count: int) -> Generator[int, None, None]:
        """Decode so many frames, yield the number of each, and drop them."""
        for number, frame in enumerate(islice(self._frames, count), 1):
            self._time(frame)
            yield number

    @property
    def clip(self) -> Clip:
        """What is known of the clip from its first frame.

        Raises:
            Unreadable: it has no frame, or no colours that are known here.
        """
        frame = self._first
        if frame is None:
            raise Unreadable(self._why_no_frame())

        stream = self._stream
        coding = self._coding(frame)
        aspect = Fraction(stream.sample_aspect_ratio or 0)
        return Clip(
            codec=stream.codec_context.codec.canonical_name,
            format=_planar(frame.format.name),
            coding=coding,
            tags=Tags(
                int(frame.color_primaries),
                int(frame.color_trc),
                coding.matrix,
                coding.full,
            ),
            size=(frame.height, frame.width),
            turn=_turn(frame),
            aspect=aspect,
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            time_base=Fraction(stream.time_base),
            notes=tuple(self._notes(frame)),
        )

    def _chosen(self) -> Any:
        """Return the stream of video that is restored: the first one that is no cover."""
        streams = [one for one in self._container.streams.video if not _is_cover(one)]
        if not streams:
            raise Unreadable("the file has no video")
        stream = streams[0]
        if _tag(stream) in _LOCKED and _tag(stream) != "encv":
            raise Unreadable(_encrypted())
        if stream.codec_context is None:
            raise Unreadable("its video is of a kind that is not known here")
        return stream

    def _decoded(self) -> Iterator[Any]:
        """Yield the frames of libav, each checked."""
        for frame in self._through_errors():
            self._check_size(frame.width, frame.height)
            if self._first is None:
                self._first = frame
            elif (frame.width, frame.height) != (self._first.width, self._first.height):
                raise Unreadable(
                    f"its frames change their size, from {self._first.width}x{self._first.height} "
                    f"to {frame.width}x{frame.height} pixels; cut it there and restore each part"
                )
            elif _planar(frame.format.name) != _planar(self._first.format.name):
                raise Unreadable(
                    f"its frames change their kind, from {self._first.format.name} to "
                    f"{frame.format.name}; cut it there and restore each part"
                )
            self.damaged += bool(frame.is_corrupt)
            yield frame

    def _through_errors(self) -> Iterator[Any]:
        """Yield all frames that can be decoded, and count the errors."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                _raise_of_system(error)
                self.damaged += 1
                return
            if packet is None:
                return
            if self._first is None and any(packet.has_sidedata(kind) for kind in _ENCRYPTED):
                raise Unreadable(_encrypted())
            try:
                yield from packet.decode()
            except FFmpegError as error:
                _raise_of_system(error)
                self.damaged += 1

    def _frame(self, frame: Any) -> Frame:
        time, duration = self._time(frame)
        format = _planar(frame.format.name)
        if format != frame.format.name:
            frame = frame.reformat(format=format, interpolation="BILINEAR")
        return Frame(time, duration, planes_of(frame))

    def _time(self, frame: Any) -> tuple[int, int]:
        """Return time and duration of a frame; times grow from frame to frame."""
        duration = int(frame.duration or 0)
        last = self._last_time
        time = frame.pts
        if time is None or (last is not None and time <= last):
            step = duration or round(1 / (self._stream.time_base * (self._rate() or 25)))
            time = 0 if last is None else last + max(1, step)

        self._last_time = int(time)
        self._last_duration = duration
        return self._last_time, duration

    def _rate(self) -> Fraction:
        return Fraction(self._stream.average_rate or self._stream.guessed_rate or 0)

    def _coding(self, frame: Any) -> Coding:
        """Return what the numbers of the frames mean.

        Raises:
            Unreadable: a matrix that is not known here.
        """
        layout = layout_of(_planar(frame.format.name))
        assert layout is not None
        if layout.kind == "gbr":
            return Coding(layout, RGB, full=True)

        matrix = assumed_matrix(int(frame.colorspace), frame.height)
        if matrix not in WEIGHTS:
            title = TITLES.get(matrix, f"number {matrix}")
            raise Unreadable(
                f"its colours are coded with the matrix {title}; convert it first, for example "
                "with: ffmpeg -i IN -vf scale=out_color_matrix=bt709 OUT.mkv"
            )
        full = int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")
        return Coding(layout, matrix, full, self._stream.codec_context.name == "mjpeg")

    def _notes(self, frame: Any) -> Iterator[str]:
        if any(component.is_alpha for component in frame.format.components):
            yield "its transparency is left out"
        if int(frame.color_trc) in _HIGH_RANGE:
            yield "its high dynamic range is kept, its mastering metadata is not"

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            raise Unreadable(
                f"its frames have {width}x{height} pixels; at most "
                f"{self.limits.max_pixels / 1e6:.0f} million are allowed"
            )

    def _why_no_frame(self) -> str:
        if self.damaged and _tag(self._stream) in _LOCKED:
            return _encrypted()
        if self.damaged:
            return "none of its frames can be decoded: it is damaged or encrypted"
        return "its video has no frame, or the file ends before the first one"

    def _is_truncated(self, count: int) -> bool:
        """Return True if the clip ends far before its header says."""
        stream = self._stream
        declared = _declared_seconds(stream)
        if stream.frames and count < stream.frames * (1 - _SLACK) - _SLACK_FRAMES:
            return True
        if declared is None or self._last_time is None:
            return False

        start = int(stream.start_time or 0)
        seconds = float((self._last_time + self._last_duration - start) * stream.time_base)
        return seconds < declared * (1 - _SLACK) - _SLACK_FRAMES / float(self._rate() or 1)


def _opened(path: Path) -> Any:
    """Open a clip, and no other file that it may name."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except FFmpegError as error:
        _raise_of_system(error)
        if path.stat().st_size == 0:
            raise Unreadable("the file is empty") from None
        raise Unreadable(
            "not a clip that can be read: it is damaged or cut off, or of another kind than "
            "MP4, MOV, Matroska, WebM and AVI"
        ) from None


def _raise_of_system(error: FFmpegError) -> None:
    """Raise an error of the system as such; those of libav have numbers of their own.

    An error of input and output is one that libav makes of damage: the file was read before.
    """
    if isinstance(error, OSError) and error.errno != errno.EIO:
        raise OSError(error.errno, error.strerror)
    if isinstance(error, MemoryError):
        raise error


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _tag(stream: Any) -> str:
    context = stream.codec_context
    return "" if context is None else str(context.codec_tag).strip("\0 ")


def _encrypted() -> str:
    return "it is encrypted; only whoever has its key can restore it"


def _planar(format: str) -> str:
    """Return the format of planes in which frames of a pixel format are read."""
    if layout_of(format) is not None:
        return format
    return _SAME.get(format, _WIDEST)


def _turn(frame: Any) -> Turn:
    """Return how a frame is turned upright, by its display matrix.

    The matrix [[a, b], [c, d]] moves the pixel (x, y) to (a x + c y, b x + d y).
    """
    found = next((one for one in frame.side_data if one.type.name == "DISPLAYMATRIX"), None)
    if found is None:
        return UPRIGHT

    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(found)[: _MATRIX.size])
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _declared_seconds(stream: Any) -> float | None:
    """Return how long the video is by its header; None if it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    text = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = text.strip("\0").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
