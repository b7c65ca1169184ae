"""The coefficients of a JPEG, read by jpeglib.

libjpeg's handler of errors, which jpeglib leaves as it is, ends the process. So this is called in
the process of `restore.photo.apart` alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restore.photo.formats.jpeg_agreement import agrees
from restore.photo.formats.jpeg_segments import Layout, Malformed, layout
from restore.photo.stored import Component, StoredJpeg

# The newest libjpeg-turbo that jpeglib has; Pillow decodes with libjpeg-turbo, too.
_LIBRARY = "turbo210"
_COLOUR_SPACES = {1: "JCS_GRAYSCALE", 3: "JCS_YCbCr", 4: "JCS_CMYK"}


def stored_jpeg(im: Image.Image, data: bytes, orientation: int) -> StoredJpeg | None:
    """Read what a JPEG stores; the process may end instead.

    Args:
        im: The picture, loaded and not converted.
        data: Its file.
        orientation: By which its pixels are turned upright.

    Returns:
        None without jpeglib, for a file that it cannot read, and where what it reads are not the
        pixels of the picture.
    """
    try:
        stored = _read(layout(data), orientation, im.info.get("icc_profile"))
    except (ImportError, Malformed, OSError, RuntimeError):
        return None

    return stored if agrees(stored, im) else None


def _read(found: Layout, orientation: int, profile: bytes | None) -> StoredJpeg:
    planes = _coefficients(found)
    components = tuple(
        Component(plane, found.tables[layer.id], layer.vertical, layer.horizontal)
        for plane, layer in zip(planes, found.layers, strict=True)
    )
    known = orientation if orientation in range(1, 9) else 1
    stored = StoredJpeg(components, found.colour, found.height, found.width, known)

    return replace(stored, profile=profile) if stored.is_ink else stored


def _coefficients(found: Layout) -> list[NDArray[np.int16]]:
    """Coefficients of the components, [rows, columns, 8, 8]."""
    import jpeglib

    jpeglib.version.set(_LIBRARY)
    down = max(layer.vertical for layer in found.layers)
    across = max(layer.horizontal for layer in found.layers)
    sizes = [
        (
            -(-found.height * layer.vertical // (8 * down)),
            -(-found.width * layer.horizontal // (8 * across)),
        )
        for layer in found.layers
    ]
    # made by hand: `jpeglib.read_dct` would decode the file another time for these sizes
    jpeg = jpeglib.DCTJPEG(
        path="",
        content=found.essence,
        height=found.height,
        width=found.width,
        block_dims=np.array(sizes),
        samp_factor=np.array([(layer.vertical, layer.horizontal) for layer in found.layers]),
        markers=[],
        huffmans=[],
        jpeg_color_space=getattr(jpeglib.Colorspace, _COLOUR_SPACES[len(sizes)]),
        progressive_mode=False,
        num_scans=1,
        **dict.fromkeys(("Y", "Cb", "Cr", "K", "qt", "quant_tbl_no")),
    )
    planes = [jpeg.Y, jpeg.Cb, jpeg.Cr, jpeg.K]

    return planes[: len(sizes)]
