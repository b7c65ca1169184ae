"""What a DNG says and LibRaw, through rawpy, does not pass on."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

# Numbers of DNG's tags (DNG specification 1.6).
_VERSION = 50706
_BASELINE_EXPOSURE = 50730
_NOISE_PROFILE = 51041

# Stops beyond which a baseline exposure is no sensible one.
_MOST_STOPS = 6.0


@dataclass(frozen=True)
class Dng:
    """Tags of a DNG; those that are missing or make no sense have their defaults.

    Attributes:
        is_dng: False for any other file.
        exposure: baseline exposure in stops.
        noise: see `restore.photo.raws.Raw.noise`.
    """

    is_dng: bool = False
    exposure: float = 0.0
    noise: tuple[tuple[float, float], ...] | None = None

    @classmethod
    def of(cls, data: bytes) -> Dng:
        """Read the tags of a file."""
        import tifffile

        with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:
            first = file.pages[0]
            pages: list[Any] = [first, *(first.pages or ())]
            tags = [page.aspage().tags for page in pages]
            if _VERSION in tags[0]:
                return cls(True, _exposure(_value(tags, _BASELINE_EXPOSURE)), _noise(tags))
        return cls()


def _value(tags: list[Any], number: int) -> Any:
    """Return the value of a tag in the first directory that has it; None if none has."""
    found = (directory.get(number) for directory in tags)
    return next((tag.value for tag in found if tag is not None), None)


def _exposure(value: Any) -> float:
    if value is None:
        return 0.0
    numerator, denominator = value
    stops = numerator / denominator if denominator else 0.0
    return float(stops) if abs(stops) <= _MOST_STOPS else 0.0


def _noise(tags: list[Any]) -> tuple[tuple[float, float], ...] | None:
    """Return the noise profile: pairs of numbers, one for all colours or one for each."""
    values = np.asarray(_value(tags, _NOISE_PROFILE), np.float64)
    if values.size < 2 or values.size % 2:
        return None

    pairs = values.reshape(-1, 2)
    pairs = pairs if len(pairs) == 3 else np.repeat(pairs[:1], 3, axis=0)
    sums = pairs.sum(axis=1)
    if (pairs >= 0).all() and (sums > 0).all() and (sums <= 1).all():
        return tuple((float(a), float(b)) for a, b in pairs)
    return None
