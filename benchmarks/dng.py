"""Write DNG files whose truth is known: the raw of a camera that photographed a given picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

# Linear sRGB to XYZ at D65 (IEC 61966-2-1).
XYZ_OF_SRGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# Numbers of the light that DNG's matrices are for.
D65 = 21
# Types of values and values of tags, as tifffile and DNG 1.6 have them.
_SHORT, _BYTE, _TEXT, _DOUBLE, _RATIONAL, _SIGNED = "H", "B", "s", "d", "2I", "2i"
_DENOMINATOR = 10**6


@dataclass(frozen=True)
class Camera:
    """What a camera does to light.

    Attributes:
        pattern: rows of the colours of its filters.
        black: count without light.
        white: count of a full pixel.
        gains: white balance, the factors of red, green and blue.
        to_srgb: [3, 3], from white-balanced colours of the camera to linear sRGB.
        noise: (a, b), the variance ``a x + b`` for a signal x in [0, 1].
        orientation: as in EXIF.
    """

    pattern: tuple[str, ...] = ("RG", "GB")
    black: int = 512
    white: int = 16383
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    to_srgb: NDArray[np.float64] | None = None
    noise: tuple[float, float] = (0.0, 0.0)
    orientation: int = 1

    def exposed(self, linear: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.uint16]:
        """Return the counts [H, W] for a picture [H, W, 3] of linear sRGB, white at 1."""
        to_srgb = np.eye(3) if self.to_srgb is None else self.to_srgb
        colors = (linear @ np.linalg.inv(to_srgb).T) / np.array(self.gains)
        signal = self.mosaic(colors)
        a, b = self.noise
        random = np.random.default_rng(seed).standard_normal(signal.shape)
        signal = signal + np.sqrt(a * signal.clip(0) + b) * random
        counts = self.black + signal * (self.white - self.black)

        return np.rint(counts).clip(0, self.white).astype(np.uint16)

    def mosaic(self, colors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return one of three colours [H, W, 3] at each pixel."""
        rows, columns = colors.shape[:2]
        indices = np.array([["RGB".index(letter) for letter in row] for row in self.pattern])
        repeats = -(-rows // indices.shape[0]), -(-columns // indices.shape[1])
        chosen = np.tile(indices, repeats)[:rows, :columns, None]
        return np.take_along_axis(colors, chosen, axis=2)[..., 0]

    def write(self, path: Path, counts: NDArray[np.uint16], **changes: Any) -> Path:
        """Write a DNG; changes replace tags by number, or leave them out where they are None."""
        to_srgb = np.eye(3) if self.to_srgb is None else self.to_srgb
        gains = np.array(self.gains)
        of_xyz = np.diag(1 / gains) @ np.linalg.inv(to_srgb) @ np.linalg.inv(XYZ_OF_SRGB)
        letters = ["RGB".index(letter) for row in self.pattern for letter in row]
        size = (len(self.pattern), len(self.pattern[0]))
        tags: dict[int, tuple[str, Any]] = {
            271: (_TEXT, "Example"),
            272: (_TEXT, "Example camera"),
            274: (_SHORT, self.orientation),
            33421: (_SHORT, size),
            33422: (_BYTE, tuple(letters)),
            50706: (_BYTE, (1, 4, 0, 0)),
            50708: (_TEXT, "Example camera"),
            50710: (_BYTE, (0, 1, 2)),
            50711: (_SHORT, 1),
            50713: (_SHORT, (1, 1)),
            50714: (_SHORT, self.black),
            50717: (_SHORT, self.white),
            50721: (_SIGNED, _rational(of_xyz.ravel())),
            50728: (_RATIONAL, _rational(gains.min() / gains)),
            50778: (_SHORT, D65),
        }
        if any(self.noise):
            tags[51041] = (_DOUBLE, self.noise)
        tags |= {int(name.removeprefix("tag_")): value for name, value in changes.items()}

        tifffile.imwrite(
            path,
            counts,
            photometric="cfa" if counts.ndim == 2 else "linear_raw",
            metadata=None,
            extratags=[_extra(code, *tag) for code, tag in sorted(tags.items()) if tag is not None],
        )
        return path


def _rational(values: Sequence[float] | NDArray[np.float64]) -> tuple[int, ...]:
    pairs = ((round(float(value) * _DENOMINATOR), _DENOMINATOR) for value in values)
    return tuple(number for pair in pairs for number in pair)


def _extra(code: int, kind: str, value: Any) -> tuple[int, str, int, Any, bool]:
    if kind == _TEXT:
        return code, kind, 0, value, True
    count = len(value) if isinstance(value, tuple) else 1
    return code, kind, count // 2 if kind in (_RATIONAL, _SIGNED) else count, value, True
