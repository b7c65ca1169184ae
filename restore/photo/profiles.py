"""ICC profiles of the RGB spaces that developed raws are written in.

Version 4 profiles of three primaries and a curve (ICC.1:2022, 8.3 and 8.4), without dates, so that
the same picture is the same file. Primaries and curves are those of IEC 61966-2-1 (sRGB) and of
SMPTE EG 432-1 with the white D65 and sRGB's curve (Display P3).
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Chromaticities x, y of red, green and blue.
_PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)
# XYZ of the profile connection space's white D50, as the header has it.
_D50 = (0.9642, 1.0, 0.8249)
# Cone responses by Bradford, in which whites are adapted.
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# sRGB's curve as a parametric curve of type 3: exponent, slope and offset, linear slope and limit.
_SRGB_CURVE = (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
_LINEAR_CURVE = (0, (1.0,))

# Spaces by name: the title in the profile, the primaries and the curve.
SPACES = {
    "srgb": ("sRGB", "srgb", _SRGB_CURVE),
    "display-p3": ("Display P3", "display-p3", _SRGB_CURVE),
    "linear": ("Linear sRGB", "srgb", _LINEAR_CURVE),
}


@cache
def profile(space: str) -> bytes:
    """Return the ICC profile of one of `SPACES`."""
    title, primaries, curve = SPACES[space]
    colorants = _adaptation() @ _to_xyz(primaries)
    tags = {
        b"desc": _text(title),
        b"cprt": _text("CC0"),
        b"wtpt": _xyz(np.array(_D50)),
        b"chad": b"sf32\0\0\0\0" + _fixed(_adaptation().ravel()),
        b"rXYZ": _xyz(colorants[:, 0]),
        b"gXYZ": _xyz(colorants[:, 1]),
        b"bXYZ": _xyz(colorants[:, 2]),
        b"rTRC": (shape := _curve(*curve)),
        b"gTRC": shape,
        b"bTRC": shape,
    }
    return _assembled(tags)


def from_srgb(space: str) -> NDArray[np.float64]:
    """Return the matrix [3, 3] from linear sRGB to the linear values of a space."""
    return np.linalg.inv(_to_xyz(SPACES[space][1])) @ _to_xyz("srgb")


def is_linear(space: str) -> bool:
    """Return True if the values of a space are proportional to light."""
    return SPACES[space][2] is _LINEAR_CURVE


def _to_xyz(primaries: str) -> NDArray[np.float64]:
    """Return the matrix from linear RGB to XYZ at D65."""
    columns = np.array([_xyz_of(*point) for point in _PRIMARIES[primaries]]).T
    return columns * np.linalg.solve(columns, _xyz_of(*_D65))


def _xyz_of(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation() -> NDArray[np.float64]:
    """Return the matrix that adapts XYZ from D65 to D50."""
    gains = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ _xyz_of(*_D65))
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD


def _fixed(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    """Return numbers of 16 bits before the point and 16 behind it."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _curve(kind: int, parameters: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(parameters)


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return (
        b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28) + content
    )


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    """Return the file: header, table of tags, and their contents, equal ones once."""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    body = b""
    for content in tags.values():
        if content not in places:
            places[content] = start + len(body)
            body += content + b"\0" * (-len(content) % 4)

    table = b"".join(
        struct.pack(">4sII", name, places[content], len(content)) for name, content in tags.items()
    )
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4s8sI12s4s16s28s",
        start + len(body),
        b"\0\0\0\0",
        0x04400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        struct.pack(">6H", 2000, 1, 1, 0, 0, 0),
        b"acsp",
        b"\0\0\0\0",
        0,
        b"\0\0\0\0",
        b"\0\0\0\0",
        b"\0" * 8,
        0,
        _fixed(_D50),
        b"\0\0\0\0",
        b"\0" * 16,
        b"\0" * 28,
    )
    return header + struct.pack(">I", len(tags)) + table + body
