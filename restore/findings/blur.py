"""The blur of a photograph, if its traces are clear."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from restore.blind.estimate import DEFAULT_SIZE, SURE, estimate_kernel
from restore.findings.finding import Finding

# Standard deviation of rounding to 8 bits.
_ROUNDING = 1 / 255 / 12**0.5


def find_blur(image: NDArray[Any], noise: float) -> Finding:
    """Find the kernel that blurred a picture; a likely one is mentioned, a clear one is undone.

    Args:
        image: [C, H, W] in [0, 1].
        noise: standard deviation of its noise.
    """
    found = estimate_kernel(image, max(noise, _ROUNDING), DEFAULT_SIZE).finding
    if not found.applied:
        return Finding("blur", "", False, "no blur to undo")
    if found.evidence < SURE:
        words = (
            f"perhaps blurred by {found.kernel}, not sure enough to undo it (restore deblur "
            f"--kernel {found.kernel})"
        )
        return Finding("blur", found.kernel, False, words)

    return Finding("blur", found.kernel, True, f"blur by {found.kernel}, which is undone")
