"""Small clips for tests, and libav's own conversion of colours."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph

from restore.film.planes import frame_of, planes_of


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Return frames uint8 [H, W, 3]: waves, on which a bright square moves."""
    y, x = np.mgrid[:height, :width]
    still = np.stack([90 + 50 * np.sin(x / (5 + k) + y / 7) for k in range(3)], axis=-1)
    frames = []
    for index in range(count):
        frame = still.astype(np.uint8)
        left = 2 + 2 * index % (width // 2)
        frame[4:14, left : left + 10] = (230, 200, 60)
        frames.append(frame)

    return frames


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    format: str = "yuv420p",
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 24),
    rotation: int | None = None,
    audio: bool = False,
    encoder: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    interlaced: bool = False,
    title: str | None = None,
) -> Path:
    """Write a clip.

    Args:
        path: the file.
        frames: uint8 [H, W, 3].
        codec: encoder of libav.
        format: pixel format.
        times: time of each frame, in units of ``time_base``.
        time_base: seconds of a unit.
        rotation: degrees by which players turn the frames.
        audio: True to add a tone.
        encoder: options of the encoder.
        muxer: options of the muxer.
        tags: attributes of the codec's context, such as ``color_range``.
        interlaced: True to mark the frames as interlaced.
        title: title in the metadata.
    """
    options = {"crf": "12"} if codec == "libx264" else {}
    if interlaced:
        options["flags"] = "+ildct+ilme"
    with av.open(str(path), "w", options=muxer or {}) as out:
        video = out.add_stream(codec, rate=24, options=options | (encoder or {}))
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = format
        video.codec_context.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        sound: Any = None
        if audio:
            sound = out.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000)
            sound.layout = "mono"
        if title is not None:
            out.metadata["title"] = title
        packets: list[Any] = []
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=format)
            frame.pts = index if times is None else times[index]
            frame.time_base = time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio:
            packets += _tone(sound, len(frames) / 24)
        for packet in packets:
            out.mux(packet)

    return path


def _tone(stream: Any, seconds: float) -> list[Any]:
    """Return the packets of a tone."""
    samples = np.sin(2 * np.pi * 440 * np.arange(int(48000 * seconds)) / 48000)
    packets = []
    for start in range(0, len(samples), 960):
        part = (0.3 * samples[None, start : start + 960]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        if stream.codec_context.name == "libopus":
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
        frame.rate = 48000
        frame.pts = start
        packets += stream.encode(frame)

    return packets + stream.encode(None)


def converted(planes: Any, format: str, to: str, options: str) -> Any:
    """Return the planes of a frame in another format, by libav's filter ``scale``.

    Args:
        planes: the planes.
        format: their pixel format.
        to: the other one.
        options: options of the filter, besides those that make it exact.
    """
    exact = "flags=bilinear+accurate_rnd+full_chroma_inp+full_chroma_int"
    frame = frame_of(planes, format)
    frame.pts = 0
    graph = Graph()
    chain = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 24)
        ),
        graph.add("scale", f"{options}:{exact}"),
        graph.add("format", f"pix_fmts={to}"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    graph.push(frame)
    return planes_of(graph.pull())
