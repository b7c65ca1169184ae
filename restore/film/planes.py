"""The planes of libav's frames as arrays, and frames of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from restore.film.color import Planes, layout_of

if TYPE_CHECKING:
    from av import VideoFrame


def planes_of(frame: VideoFrame) -> Planes:
    """Return the planes of a frame as arrays of their own.

    Args:
        frame: a frame of a format of `restore.film.color.layout_of`.
    """
    layout = layout_of(frame.format.name)
    assert layout is not None
    planes = []
    for plane, (height, width) in zip(
        frame.planes, layout.sizes(frame.height, frame.width), strict=False
    ):
        content: Any = plane  # has the buffer protocol, as no type says
        rows = np.frombuffer(content, np.uint8).reshape(-1, plane.line_size)
        samples = np.ascontiguousarray(rows[:height, : width * layout.dtype.itemsize])
        planes.append(samples.view(layout.dtype))

    return tuple(planes)


def frame_of(planes: Planes, format: str) -> VideoFrame:
    """Return a frame of libav with these planes."""
    from av import VideoFrame

    height, width = planes[0].shape
    frame = VideoFrame(width, height, format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        data = samples.view(np.uint8).reshape(len(samples), -1)
        rows[: len(data), : data.shape[1]] = data
        plane.update(rows.tobytes())

    return frame
