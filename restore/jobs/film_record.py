"""The record of a restored clip: of each frame, of all of them, and in a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from restore.film.clip import Clip, Frame
from restore.film.containers import ENCODERS
from restore.film.encoding import Settings
from restore.methods.report import Result, is_doubtful


def summary(target: str, done: dict[str, Any]) -> str:
    """Return a line about a finished clip."""
    doubt = ""
    if is_doubtful(done["unexplained"], done["noise"]):
        doubt = " (this does not explain the input: are the assumed degradation and noise right?)"
    return (
        f"{target}: {done['frames']} frames of {done['width']}x{done['height']}, "
        f"{done['method']}, {done['steps']} step(s), noise {done['noise']:.4f}, consistency "
        f"{done['consistency']:.5f}, {done['seconds']:.1f} s{doubt}"
    )


def of_frame(frame: Frame, result: Result) -> dict[str, Any]:
    """Return what the record of a frame says."""
    report = result.report
    return {
        "time": frame.time,
        "duration": frame.duration,
        "method": report.method,
        "operator": report.operator,
        "steps": report.steps,
        "noise": report.noise,
        "consistency": report.consistency,
        "unexplained": report.unexplained,
        "seconds": report.seconds,
    }


def of_output(settings: Settings) -> dict[str, Any]:
    """Return what the record says about the output."""
    height, width = settings.size
    return {
        "width": width,
        "height": height,
        "codec": settings.codec,
        "encoder": ENCODERS[settings.codec].name,
        "pixel_format": settings.format,
    }


def of_frames(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the record says about all frames."""
    first = frames[0]
    return {
        "frames": len(frames),
        "method": first["method"],
        "operator": first["operator"],
        "steps": first["steps"],
        "noise": fmean(frame["noise"] for frame in frames),
        "consistency": fmean(frame["consistency"] ** 2 for frame in frames) ** 0.5,
        "unexplained": fmean(frame["unexplained"] ** 2 for frame in frames) ** 0.5,
        "seconds": sum(frame["seconds"] for frame in frames),
    }


def notes_on(clip: Clip, is_allowed: bool) -> Iterator[str]:
    """Yield what the record remarks of the input; ``is_allowed`` if damage is."""
    yield from clip.notes
    if clip.damaged and is_allowed:
        yield f"{clip.damaged} of its frames are damaged; what can be decoded was restored"
    if clip.truncated and is_allowed:
        yield f"the file ends before its clip does; {clip.count} frames were restored"
    if clip.interlaced:
        yield f"{clip.interlaced} of its frames are interlaced, and were restored as they are"


def plain(value: Any) -> Any:
    """Return a value as JSON has it; all others as their text."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    return str(value)
