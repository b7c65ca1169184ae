"""The blur of a photograph, if its traces are clear."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from restore.blind.estimate import SURE, estimate_kernel, radius
from restore.findings.finding import Finding

# Root mean square radius in pixels from which a blur is undone: textures of sharp photographs are
# taken for smaller ones (docs/auto.md).
_LEAST_RADIUS = 1.2

# Standard deviation of rounding to 8 bits.
_ROUNDING = 1 / 255 / 12**0.5


def find_blur(image: NDArray[Any], noise: float) -> Finding:
    """Find the kernel that blurred a picture; a likely one is mentioned, a clear one is undone.

    Args:
        image: [C, H, W] in [0, 1].
        noise: standard deviation of its noise.
    """
    estimate = estimate_kernel(image, max(noise, _ROUNDING), free=False)
    found, kernel = estimate.finding, estimate.kernel
    if kernel is None or not found.applied:
        return Finding("blur", "", False, "no blur to undo")
    if found.evidence < SURE or radius(kernel) < _LEAST_RADIUS:
        words = (
            f"perhaps blurred by {found.kernel}, not sure enough to undo it (restore deblur "
            f"--kernel {found.kernel})"
        )
        return Finding("blur", found.kernel, False, words)

    return Finding("blur", found.kernel, True, f"blur by {found.kernel}, which is undone")
