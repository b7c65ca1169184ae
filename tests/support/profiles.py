"""ICC profiles, made byte by byte."""

from __future__ import annotations

import itertools
import struct


def profile(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2.4 (ICC.1:2001-04, 6)."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    place = 128 + 4 + 12 * len(tags)
    directory = struct.pack(">I", len(tags))
    body = b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        directory += struct.pack(">4sII", name, place + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", place + len(body), bytes(4), 0x02400000, kind, space, pcs
    ) + bytes(12)
    head += b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + directory + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def ink(c: float, m: float, y: float, k: float) -> tuple[float, float, float]:
    """Lab of inks on paper, made up but plausible."""
    paper = 1 - k
    return (
        (96 - 40 * c - 45 * m - 8 * y) * paper + 4 * k,
        (-35 * c + 70 * m) * paper,
        (-45 * c + 85 * y) * paper,
    )


def cmyk_profile() -> bytes:
    """A table of the 16 corners (lut8Type, ICC.1:2001-04, 6.5.8)."""
    ramp = bytes(range(256))
    corners = [ink(*corner) for corner in itertools.product((0, 1), repeat=4)]
    grid = b"".join(bytes((round(L * 2.55), round(a + 128), round(b + 128))) for L, a, b in corners)
    identity = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return profile(b"CMYK", b"prtr", b"Lab ", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"A2B0": table})
