"""Assembly of a restored clip: its segments of video with their times, and all other streams.

Packets of sound, subtitles and all else are copied as they are. It runs in a process of its own,
see `restore.film.apart`, since they come from the file of the user.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from restore.film.containers import CONTAINERS, DEMUXERS
from restore.film.encoding import Settings, add_video
from restore.photo.refusals import Unreadable

# Metadata that the writer of a file makes itself, or that is not true of the new one.
_OWN = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "rotate"}


# Kinds of other streams that an output is tried with, until it takes them.
_KINDS = (
    ("video", "audio", "subtitle", "data", "attachment"),
    ("audio", "subtitle"),
    ("audio",),
    (),
)


@dataclass(frozen=True)
class Assembly:
    """What a restored clip is assembled of.

    Attributes:
        segments: the files of its segments, in order.
        times: for each segment, a file of JSON with ``time`` and ``duration`` of each frame.
        settings: how the frames are encoded.
        time_base: seconds of a unit of the times.
        source: the clip that was restored.
        target: the file to write.
        suffix: suffix of the name that it gets.
    """

    segments: Sequence[Path]
    times: Sequence[Path]
    settings: Settings
    time_base: Fraction
    source: Path
    target: Path
    suffix: str


def assemble(assembly: Assembly) -> Generator[int, None, tuple[str, ...]]:
    """Write the clip, yield the number of each packet, and return what could not be kept.

    Raises:
        Unreadable: the source or a segment cannot be read.
        OSError: the target cannot be written.
    """
    import av
    from av.error import FFmpegError

    source = av.open(
        f"file:{assembly.source}",
        options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"},
        metadata_errors="replace",
    )
    try:
        output = _begun(assembly, source)
        notes = yield from _merged(assembly, source, output)
        output.file.close()
    except FFmpegError as error:
        _raise_of_system(error)
        raise Unreadable("its other streams cannot be copied: they are damaged") from None
    finally:
        source.close()

    return (*output.notes, *notes)


class _Output(NamedTuple):
    """A file whose header is written.

    Attributes:
        file: the file.
        video: its stream of video.
        copies: copies of the other streams, by the numbers of those.
        notes: sentences about the streams that it lacks.
    """

    file: Any
    video: Any
    copies: dict[int, Any]
    notes: tuple[str, ...]


def _begun(assembly: Assembly, source: Any) -> _Output:
    """Write the header of the output, with as many of the other streams as it takes."""
    from av.error import FFmpegError

    for kinds in _KINDS:
        try:
            return _with_streams(assembly, source, kinds)
        except (FFmpegError, ValueError) as error:
            _raise_of_system(error)
            if not kinds:
                raise
    raise AssertionError


def _with_streams(assembly: Assembly, source: Any, kinds: Collection[str]) -> _Output:
    """Write the header of the output with other streams of these kinds."""
    import av

    container = CONTAINERS[assembly.suffix]
    out = av.open(
        f"file:{assembly.target}",
        "w",
        format=container.muxer,
        container_options=dict(container.options),
    )
    try:
        video = add_video(out, assembly.settings)
        video.time_base = assembly.time_base
        if assembly.settings.codec == "hevc" and container.muxer in ("mp4", "mov"):
            video.codec_context.codec_tag = "hvc1"  # the one that Apple's players know

        copies, notes = _copied_streams(source, out, assembly.suffix, kinds)
        _describe(source, out, video)
        out.start_encoding()
    except BaseException:
        out.close()
        raise

    return _Output(out, video, copies, notes)


def _merged(
    assembly: Assembly, source: Any, output: _Output
) -> Generator[int, None, tuple[str, ...]]:
    """Write all packets in the order of their times; a copied one that is refused is left out."""
    from av.error import FFmpegError

    refused = 0
    merged = heapq.merge(
        _video_packets(assembly, output.video),
        _other_packets(source, output.copies),
        key=lambda one: one[0],
    )
    for number, (_, packet) in enumerate(merged, 1):
        try:
            output.file.mux_one(packet)
        except (FFmpegError, ValueError) as error:
            _raise_of_system(error)
            if packet.stream is output.video:
                raise
            refused += 1
        yield number

    return (f"{refused} packets of its other streams are damaged, and left out",) * bool(refused)


def _raise_of_system(error: Exception) -> None:
    """Raise an error of the system as such; those of libav have numbers of their own."""
    if isinstance(error, OSError) and not isinstance(error, EOFError):
        raise OSError(error.errno, error.strerror) from None


def _copied_streams(
    source: Any, out: Any, suffix: str, kinds: Collection[str]
) -> tuple[dict[int, Any], tuple[str, ...]]:
    """Add all streams but the video that was restored; return them by their old numbers."""
    copies: dict[int, Any] = {}
    notes: list[str] = []
    main = _main_video(source)
    for stream in source.streams:
        if stream is main:
            continue
        try:
            copy = _copied(stream, out, suffix) if stream.type in kinds else None
        except (ValueError, TypeError, NotImplementedError):
            copy = None
        if copy is None:
            notes.append(
                f"its stream {stream.index} ({_kind(stream)}) is left out, since it cannot be "
                f"copied to {suffix}"
            )
        else:
            copies[stream.index] = copy

    return copies, tuple(notes)


def _copied(stream: Any, out: Any, suffix: str) -> Any:
    """Add a copy of a stream to an output; None if the kind of file has none of its kind."""
    if stream.type in ("data", "attachment") and suffix != ".mkv":
        return None
    if stream.codec_context is None and stream.type not in ("data", "attachment"):
        return None

    copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in _OWN})
    copy.disposition = stream.disposition
    return copy


def _kind(stream: Any) -> str:
    context = stream.codec_context
    return stream.type if context is None else f"{stream.type}, {context.name}"


def _main_video(source: Any) -> Any:
    """Return the stream that `restore.film.reader` restores."""
    from av.stream import Disposition

    return next(
        one for one in source.streams.video if not one.disposition & Disposition.attached_pic
    )


def _describe(source: Any, out: Any, video: Any) -> None:
    """Copy titles and chapters."""
    out.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _OWN})
    main = _main_video(source)
    kept = {k: v for k, v in main.metadata.items() if k.lower() not in _OWN}
    video.metadata.update({k: v for k, v in kept.items() if not k.startswith("_STATISTICS")})
    video.disposition = main.disposition
    chapters = source.chapters()
    if chapters:
        out.set_chapters(chapters)


def _video_packets(assembly: Assembly, stream: Any) -> Iterator[tuple[float, Any]]:
    """Yield the packets of all segments in the order of decoding, with their seconds."""
    shown = [
        known for path in assembly.times for known in json.loads(path.read_text(encoding="utf-8"))
    ]
    times = [known["time"] for known in shown]
    muxer = assembly.settings.encoder.segments
    order = [
        number for path, first in _with_first(assembly) for number in _numbers(path, first, muxer)
    ]
    decoded = decoding_times(times, order)
    unit = float(assembly.time_base)
    packets = (packet for path in assembly.segments for packet in _packets(path, muxer))
    for packet, number, dts in zip(packets, order, decoded, strict=True):
        following = times[number + 1] if number + 1 < len(times) else None
        duration = shown[number]["duration"] if following is None else following - times[number]
        packet.stream = stream
        packet.time_base = assembly.time_base
        packet.pts = times[number]
        packet.dts = dts
        packet.duration = duration
        yield dts * unit, packet


def _with_first(assembly: Assembly) -> Iterator[tuple[Path, int]]:
    """Yield each segment with the number of its first frame."""
    first = 0
    for path, times in zip(assembly.segments, assembly.times, strict=True):
        yield path, first
        first += len(json.loads(times.read_text(encoding="utf-8")))


def _packets(path: Path, muxer: str) -> Iterator[Any]:
    import av

    with av.open(str(path), format=muxer) as segment:
        for packet in segment.demux(video=0):
            if packet.size:
                yield packet


def _numbers(path: Path, first: int, muxer: str) -> Iterator[int]:
    """Yield the number of the frame of each packet of a segment, in the order of decoding.

    The encoder had the numbers for times; a file may have moved all by as much.
    """
    times = [packet.pts for packet in _packets(path, muxer)]
    rank = {time: number for number, time in enumerate(sorted(times))}
    return (first + rank[time] for time in times)


def decoding_times(times: Sequence[int], order: Sequence[int]) -> list[int]:
    """Return the time at which each packet is decoded: growing, and never after it is shown.

    Args:
        times: the time at which each frame is shown, growing.
        order: the number of the frame of each packet.

    >>> decoding_times([0, 10, 20, 30], [0, 2, 1, 3])
    [-10, 0, 10, 20]
    """
    ahead = max((place - number for place, number in enumerate(order)), default=0)
    step = max(1, times[1] - times[0]) if len(times) > 1 else 1
    before = [times[0] - step * (ahead - place) for place in range(ahead)]
    return [*before, *times[: len(times) - ahead]]


def _other_packets(source: Any, copies: dict[int, Any]) -> Iterator[tuple[float, Any]]:
    """Yield the packets of all other streams, with their seconds, up to what cannot be read."""
    from av.error import FFmpegError

    if not copies:
        return
    seconds = float("-inf")
    last: dict[int, int] = {}
    packets = source.demux([source.streams[index] for index in copies])
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            _raise_of_system(error)
            return
        if packet is None:
            return
        dts = packet.pts if packet.dts is None else packet.dts
        index = packet.stream_index
        # a muxer refuses what goes back
        if not packet.size or dts is None or dts < last.get(index, dts):
            continue

        last[index] = dts
        seconds = max(seconds, float(dts * packet.time_base))
        packet.dts = dts
        packet.stream = copies[index]
        yield seconds, packet
