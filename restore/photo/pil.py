"""Images of Pillow as arrays, upright, and results as images that keep what was said of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore.errors import BadArgument, UnreadableInput
from restore.photo.decode import COLOUR_MODES, GREY_MODES, cmyk_to_rgb, turned
from restore.photo.libraries import reason
from restore.photo.metadata import orientation_of, profile_for, read_metadata, without_orientation
from restore.photo.pil_stored import keeping_file
from restore.photo.rounding import Rounding, rounding_of

if TYPE_CHECKING:
    from PIL.Image import Image

# Makes an image of an array [H, W] or [H, W, 1 … 4].
Finish = Callable[[NDArray[Any]], "Image"]

# Largest value of a deep grey picture, which Pillow also keeps in 32-bit integers.
_DEEPEST = 65535


def open_pil(image: Image) -> tuple[NDArray[Any], Finish, Rounding]:
    """Open an image as the command opens a file.

    The orientation in its EXIF is applied. 1 becomes L; P, CMYK, YCbCr and HSV become RGB, CMYK by
    its profile; a transparent colour or palette becomes alpha. I;16, I and F, which have no colour,
    stay as they are if the result is grey, and become RGB if it is not. The results have EXIF
    without the orientation, XMP, resolution and the colour profile in their ``info``.

    Args:
        image: An image of one of these modes, or L, LA, RGB or RGBA. It is not changed.

    Returns:
        Array [H, W] or [H, W, 2 … 4], a function that makes an image of a result, and the rounding
        of the image's JPEG.

    Raises:
        BadArgument: Another mode, or integers that are no 16-bit values.
        UnreadableInput: The image's file cannot be decoded.
    """
    try:
        with keeping_file(image):
            image.load()
    except Exception as error:
        name = getattr(image, "filename", "")
        named = f"{os.fsdecode(name)}: " if name else ""
        raise UnreadableInput(f"{named}the image cannot be decoded: {_why(error)}") from error

    # Pillow turns a TIFF upright while it decodes it.
    orientation = orientation_of(image)
    samples = _samples(image)
    rounding = rounding_of(image, samples if samples.ndim == 3 else samples[..., None])
    upright = turned(samples, orientation)
    info = _info(image)

    def finish(array: NDArray[Any]) -> Image:
        result = _image(array, image.mode)
        profile = profile_for(info.get("icc_profile"), 1 if result.mode[0] in "LIF" else 3)
        result.info = {key: value for key, value in info.items() if key != "icc_profile"}
        if profile is not None:
            result.info["icc_profile"] = profile
        return result

    return upright, finish, rounding


def _why(error: Exception) -> str:
    """Return why an image that Pillow opened cannot be decoded."""
    if isinstance(error, AssertionError) or "closed" in str(error):  # of Pillow, without its file
        return "its file was closed before; call its load() while the file is open"
    if isinstance(error, OSError) and error.errno is not None:  # of the system
        return error.strerror or str(error)
    return reason(error)


def _samples(image: Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _DEEPEST:
            raise BadArgument(
                f"a PIL image of mode I has values from 0 to {_DEEPEST}; this one reaches from "
                f"{values.min()} to {values.max()}"
            )
        return values.astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode == "CMYK":
        return np.asarray(cmyk_to_rgb(image))
    if image.mode not in GREY_MODES | COLOUR_MODES | {"HSV"}:
        raise BadArgument(
            f"a PIL image of mode {image.mode} is not supported; convert it to L, LA, RGB or RGBA"
        )

    alpha = "A" if image.has_transparency_data else ""
    return np.asarray(image.convert(("L" if image.mode in GREY_MODES else "RGB") + alpha))


def _image(array: NDArray[Any], mode: str) -> Image:
    """An image of an array, of 8 bits where Pillow has no colour in the array's depth."""
    from PIL import Image as pillow

    array = array[..., 0] if array.shape[2:] == (1,) else array
    if array.dtype == np.uint8:
        return pillow.fromarray(array)
    if array.ndim == 2:
        return pillow.fromarray(array.astype(np.int32) if mode == "I" else array)

    full = 1 if array.dtype.kind == "f" else _DEEPEST
    return pillow.fromarray(np.rint(array.clip(0, full) * (255 / full)).astype(np.uint8))


def _info(image: Image) -> dict[str, Any]:
    metadata = read_metadata(image)
    values = {
        "icc_profile": metadata.icc_profile,
        "exif": without_orientation(metadata.exif),
        "xmp": metadata.xmp,
        "dpi": metadata.dpi,
    }
    return {key: value for key, value in values.items() if value is not None}
