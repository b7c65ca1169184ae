"""What the colour chunks of a PNG say, and whether another format would lose it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

# Values of sRGB: the gamma of files, white point and primaries in units of 1e-5 (PNG, 11.3.2), and
# primaries and transfer function by code (ITU-T H.273).
_SRGB_GAMMA = 45455
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_SRGB_PRIMARIES, _SRGB_TRANSFER = 1, 13

# What programs round to, in the same units.
_TOLERANCE = 500


def lost_color(chunks: Mapping[str, bytes], has_profile: bool) -> str | None:
    """Names of the chunks without which colours would look different; None if there are none.

    A file without such chunks and without a profile is taken for sRGB. cICP stands above a profile,
    and a profile above the others.

    Args:
        chunks: Contents by name, of the lengths that the specification gives.
        has_profile: True if the picture has an ICC profile, too.
    """
    if "cICP" in chunks:
        is_srgb = tuple(chunks["cICP"][:2]) == (_SRGB_PRIMARIES, _SRGB_TRANSFER)
        return None if is_srgb else "cICP"
    if has_profile or "sRGB" in chunks:
        return None

    expected = {"gAMA": (_SRGB_GAMMA,), "cHRM": _SRGB_CHROMATICITIES}
    differing = [
        name
        for name, values in expected.items()
        if name in chunks and not _close(struct.unpack(f">{len(values)}I", chunks[name]), values)
    ]
    return " and ".join(differing) or None


def _close(numbers: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= _TOLERANCE for a, b in zip(numbers, expected, strict=True))
