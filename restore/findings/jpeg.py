"""The JPEG compression that a photograph without a JPEG file has gone through."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from restore.findings.finding import Finding
from restore.photo.history import earlier_compression

# Sides of a picture below which there are too few blocks.
_LEAST_SIDE = 64


def find_earlier_jpeg(image: NDArray[Any]) -> Finding:
    """Find out whether pixels were a JPEG; that is mentioned, because their file is lost.

    Args:
        image: [C, H, W] in [0, 1].
    """
    nothing = Finding("jpeg", "", False, "no JPEG compression")
    if min(image.shape[1:]) < _LEAST_SIDE:
        return nothing

    found = earlier_compression(image.transpose(1, 2, 0))
    if not found.confident or found.quality is None:
        return nothing

    value = f"quality {found.quality}"
    advice = ""
    if found.grid == (0, 0):
        advice = f" (restore dejpeg --saved-quality {found.quality})"
    words = f"was a JPEG of {value}, whose file is lost, so it is left as it is{advice}"
    return Finding("jpeg", value, False, words)
