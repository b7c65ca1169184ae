"""The kinds of clips: their suffixes, the encoders for each, and what a quality means to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from restore.errors import BadArgument

# Where the scale from 1 to 100 stands without a choice: x264 then has a CRF of 15.
DEFAULT_QUALITY = 70


@dataclass(frozen=True)
class Container:
    """A kind of file that holds a clip.

    Attributes:
        muxer: its name in libav.
        codecs: codecs of video that it holds and that can be written, by their names in libav; the
            first one replaces any other.
        options: options of the muxer.
    """

    muxer: str
    codecs: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """How libav writes a codec.

    Attributes:
        name: name of the encoder in libav.
        title: name of the codec for people.
        worst: the number of the encoder that stands for a quality of 0, where 100 is 0: a CRF, or a
            quantiser; None if it has no quality.
        option: name of that number among the encoder's options; empty for a fixed quantiser.
        options: other options.
        even: True if chroma at half the resolution needs even sides.
        tagged: False if the codec says nothing about its colours.
        segments: muxer of its segments.
    """

    name: str
    title: str
    worst: int | None = None
    option: str = "crf"
    options: Mapping[str, str] = field(default_factory=dict)
    even: bool = False
    tagged: bool = True
    segments: str = "nut"


_FAST_START = {"movflags": "+faststart"}
_MP4 = Container("mp4", ("h264", "hevc", "av1", "vp9", "mpeg4"), _FAST_START)

CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "hevc", "prores", "mpeg4", "mjpeg"), _FAST_START),
    ".mkv": Container(
        "matroska",
        ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mjpeg", "prores", "ffv1"),
    ),
    ".webm": Container("webm", ("vp9", "vp8", "av1")),
    ".avi": Container("avi", ("mpeg4", "mjpeg", "ffv1")),
}
SUFFIXES = frozenset(CONTAINERS)

# Constant quality of libvpx, and all cores on large frames.
_VPX = {"b": "0", "row-mt": "1"}

ENCODERS = {
    "h264": Encoder("libx264", "H.264", 51, even=True),
    "hevc": Encoder("libx265", "H.265", 51, options={"x265-params": "log-level=error"}, even=True),
    "av1": Encoder("libsvtav1", "AV1", 63, options={"preset": "6"}, even=True),
    "vp9": Encoder("libvpx-vp9", "VP9", 63, options=_VPX),
    # libvpx takes the CRF of VP8 for a lower bound, beneath the rate of `b`
    "vp8": Encoder("libvpx", "VP8", 63, options={"b": "1G"}, tagged=False),
    "mpeg4": Encoder("mpeg4", "MPEG-4", 31, option="", tagged=False),
    "mjpeg": Encoder("mjpeg", "Motion JPEG", 31, option=""),
    "prores": Encoder("prores_ks", "ProRes", segments="mov"),
    "ffv1": Encoder("ffv1", "FFV1", options={"level": "3"}),
}

# What libav may open, so that no text that looks like a playlist leads to other files.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"


def is_clip(path: Path) -> bool:
    """Return True if the suffix of a file is that of a clip."""
    return path.suffix.lower() in SUFFIXES


def codec_for(target: Path, codec: str) -> str:
    """Return the codec of an output: that of the input if the file can hold it and it is written.

    Args:
        target: the output file.
        codec: the codec of the input, by its name in libav.
    """
    held = CONTAINERS[target.suffix.lower()].codecs
    return codec if codec in held else held[0]


def check_target(target: Path) -> None:
    """Refuse an output that is no clip.

    Raises:
        BadArgument: another suffix.
    """
    if not is_clip(target):
        raise BadArgument(
            f"{target}: a clip is written as {', '.join(sorted(SUFFIXES))}, not as "
            f"{target.suffix or 'a file without a suffix'}"
        )


def check_quality(target: Path, codec: str, quality: int | None) -> None:
    """Refuse a quality that a codec does not have.

    Raises:
        BadArgument: a quality for a codec whose quality is fixed.
    """
    encoder = ENCODERS[codec]
    if quality is not None and encoder.worst is None:
        raise BadArgument(
            f"{target}: `quality`={quality}: {encoder.title} has no quality to choose; leave it out"
        )


def strength(encoder: Encoder, quality: int | None) -> float | None:
    """Return the CRF or quantiser of an encoder for a quality from 1 to 100; None without one.

    >>> strength(ENCODERS["h264"], None)
    15.3
    >>> strength(ENCODERS["h264"], 100)
    0.0
    """
    if encoder.worst is None:
        return None
    chosen = DEFAULT_QUALITY if quality is None else quality
    return round(encoder.worst * (100 - chosen) / 100, 1)
