"""Encoding a clip: the pixel format and settings of its encoder, and segments of encoded frames.

Frames are encoded with their numbers for times, in segments that begin with a whole picture each,
so that a run that was killed goes on behind the last one. `restore.film.assembly` joins them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.errors import BadArgument, Unavailable
from restore.film.clip import Clip, Tags
from restore.film.color import (
    BT601,
    BT709,
    RGB,
    UNKNOWN,
    Coding,
    Layout,
    Planes,
    assumed_matrix,
    layout_of,
)
from restore.film.containers import ENCODERS, Encoder, strength
from restore.film.planes import frame_of

if TYPE_CHECKING:
    from av.container import OutputContainer

# Frames of a segment: as many as x264 puts at most between two whole pictures.
SEGMENT = 250

# Rates that every encoder takes.
_MOST_RATE = 240


@dataclass(frozen=True)
class Settings:
    """Everything that decides how frames are encoded.

    Attributes:
        codec: name of the codec, a key of `restore.film.containers.ENCODERS`.
        format: pixel format.
        coding: what the numbers in the planes mean.
        tags: what the stream says about its colours.
        size: height and width.
        aspect: width of a pixel over its height; 0 if unknown.
        rate: frames in a second, for the encoder's choices; times are kept apart.
        quality: 1 to 100; None is the default.
    """

    codec: str
    format: str
    coding: Coding
    tags: Tags
    size: tuple[int, int]
    aspect: Fraction
    rate: Fraction
    quality: int | None = None

    @property
    def encoder(self) -> Encoder:
        return ENCODERS[self.codec]


def settings_for(
    clip: Clip, codec: str, size: tuple[int, int], is_grey: bool, quality: int | None
) -> Settings:
    """Return the settings that keep as much of a clip as a codec can.

    Args:
        clip: the clip.
        codec: the codec of the output.
        size: height and width of the output.
        is_grey: True if the output has no colours.
        quality: 1 to 100; None is the default.

    Raises:
        BadArgument: a size that the codec does not have.
        Unavailable: the encoder is not in this build of libav.
    """
    encoder = ENCODERS[codec]
    format = _format_for(clip.coding.layout, formats_of(encoder), size, is_grey, encoder)
    layout = layout_of(format)
    assert layout is not None
    coding = _coding_for(clip, layout, codec, size)
    tags = replace_tags(clip.tags, coding)

    rate = min(max(clip.rate, Fraction(1)), Fraction(_MOST_RATE)).limit_denominator(1001)
    return Settings(codec, format, coding, tags, size, clip.upright_aspect, rate, quality)


def replace_tags(tags: Tags, coding: Coding) -> Tags:
    """Return the tags of an output with this coding."""
    return tags._replace(matrix=coding.matrix, full=coding.full)


def formats_of(encoder: Encoder) -> list[str]:
    """Return the pixel formats of an encoder.

    Raises:
        Unavailable: it is not in this build of libav.
    """
    import av

    try:
        found = av.Codec(encoder.name, "w").video_formats
    except ValueError:
        raise Unavailable(
            f"this build of PyAV has no encoder for {encoder.title} ({encoder.name}); the wheels "
            "on PyPI have it: pip install --force-reinstall av"
        ) from None
    return [one.name for one in found or ()]


def _format_for(
    wanted: Layout, names: list[str], size: tuple[int, int], is_grey: bool, encoder: Encoder
) -> str:
    """Return the pixel format that loses least, and needs least.

    Raises:
        BadArgument: none has this size.
    """
    kind = "gray" if is_grey else "yuv" if wanted.kind == "gray" else wanted.kind
    chroma = (2, 2) if wanted.kind == "gray" else (wanted.across, wanted.down)

    def cost(layout: Layout) -> tuple[Any, ...]:
        same = (kind, *chroma) == (layout.kind, layout.across, layout.down)
        loses = layout.kind == "gray" != kind or (
            layout.kind == "yuv" and (layout.across > chroma[0] or layout.down > chroma[1])
        )
        lost_bits = max(0, wanted.bits - layout.bits)
        return loses, lost_bits, not same, layout.kind != kind, layout.bits, -layout.across

    height, width = size
    fitting = [
        (cost(layout), name)
        for name in names
        if not name.startswith("yuvj") or encoder.name == "mjpeg"
        if (layout := layout_of(name)) is not None
        if not encoder.even or (width % layout.across == 0 and height % layout.down == 0)
    ]
    if not fitting:
        raise BadArgument(
            f"{encoder.title} has no frames of {width}x{height} pixels, whose sides are odd; write "
            "a .mkv with another codec, or a .webm"
        )
    return min(fitting)[1]


def _coding_for(clip: Clip, layout: Layout, codec: str, size: tuple[int, int]) -> Coding:
    """Return the coding of an output, as that of the clip as far as the codec has it."""
    if codec == "mjpeg":
        return Coding(layout, BT601, full=True, centred=True)
    if layout.kind == "gbr":
        return Coding(layout, RGB, full=True)
    if not ENCODERS[codec].tagged:  # as players take it
        return Coding(layout, BT601 if codec == "vp8" else assumed_matrix(UNKNOWN, size[0]))
    if clip.coding.layout.kind == "gbr":
        return Coding(layout, BT709)
    return replace(clip.coding, layout=layout, centred=False)


def add_video(out: OutputContainer, settings: Settings) -> Any:
    """Add the stream of video to an output, ready to encode."""
    from av.codec.context import Flags

    encoder = settings.encoder
    stream: Any = out.add_stream(encoder.name, rate=settings.rate)
    context = stream.codec_context
    context.height, context.width = settings.size
    context.pix_fmt = settings.format
    context.time_base = 1 / settings.rate
    if settings.aspect:
        context.sample_aspect_ratio = settings.aspect
    context.color_range = 2 if settings.tags.full else 1
    context.colorspace = settings.tags.matrix
    context.color_primaries = settings.tags.primaries
    context.color_trc = settings.tags.transfer
    # segments must not depend on what comes before, nor their headers on the muxer
    context.flags |= Flags.global_header
    context.options = {**encoder.options, **_strength(context, settings)}

    return stream


def _strength(context: Any, settings: Settings) -> dict[str, str]:
    """Set the quality of an encoder; return the options that say it."""
    number = strength(settings.encoder, settings.quality)
    if number is None:
        return {}
    if settings.encoder.option:
        whole = settings.encoder.name not in ("libx264", "libx265")
        return {settings.encoder.option: f"{round(number) if whole else number:g}"}

    context.qmin = context.qmax = max(1, round(number))
    return {}


class Segment:
    """Encodes the frames of a segment into a file.

    Args:
        path: the file, which exists when all is written.
        settings: how frames are encoded.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        import av

        self._settings = settings
        self._out = av.open(str(path), "w", format=settings.encoder.segments)
        self._stream = add_video(self._out, settings)
        self._count = 0

    def add(self, planes: Planes) -> None:
        """Encode a frame."""
        frame = frame_of(planes, self._settings.format)
        frame.pts = self._count
        frame.time_base = 1 / self._settings.rate
        frame.color_range = 2 if self._settings.tags.full else 1
        frame.colorspace = self._settings.tags.matrix
        self._count += 1
        for packet in self._stream.encode(frame):
            self._out.mux(packet)

    def finish(self) -> None:
        """Write what is left."""
        for packet in self._stream.encode(None):
            self._out.mux(packet)
        self._out.close()

    def drop(self) -> None:
        """Close the file, whatever is in it."""
        self._out.close()
