"""Before and after: both pictures as the eye compares them, and side by side as one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restore.photo.encode import quantise
from restore.photo.photograph import Photo

# Side in pixels of the squares behind transparent pictures, and their brightness in [0, 1].
SQUARE = 8
LIGHT = 0.9
DARK = 0.7

# Heights of the captions' letters in pixels, and colours of the bar and of its text.
SMALLEST_TEXT = 12
LARGEST_TEXT = 48
BAR = (32, 32, 32)
TEXT = (235, 235, 235)

if TYPE_CHECKING:
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Comparison(NamedTuple):
    """A picture before and after, both opaque, in the same colours and of the same size.

    Attributes:
        before: uint8 [H, W, 3]; enlarged bicubically if it was smaller.
        after: uint8 [H, W, 3].
        size: (width, height) of the picture before.
        icc_profile: Colour profile of both; None without one for RGB.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    size: tuple[int, int]
    icc_profile: bytes | None


def compare(before: Photo, after: Photo) -> Comparison:
    """Make two pictures comparable; transparent ones are laid over a chequerboard."""
    shown = opaque(after)
    height, width = shown.shape[:2]
    enlarged = resized(opaque(before), (width, height))
    profile = after.icc_profile
    if profile is not None and profile[16:20] != b"RGB ":
        profile = None

    size = before.pixels.shape[1], before.pixels.shape[0]
    return Comparison(quantise(enlarged, 8), quantise(shown, 8), size, profile)


def opaque(photo: Photo) -> NDArray[np.float32]:
    """Colours [H, W, 3] in [0, 1], transparent ones over a chequerboard."""
    colors = np.broadcast_to(photo.pixels, (*photo.pixels.shape[:2], 3)).clip(0, 1)
    if photo.alpha is None:
        return colors

    rows, columns = np.ogrid[: colors.shape[0], : colors.shape[1]]
    squares = np.where((rows // SQUARE + columns // SQUARE) % 2, LIGHT, DARK)
    board = squares[..., None].astype(np.float32)
    shown = board + photo.alpha[..., None].clip(0, 1) * (colors - board)

    return shown.astype(np.float32, copy=False)


def resized(colors: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize [H, W, 3] to (width, height): bicubic to enlarge, the mean over areas to reduce."""
    if colors.shape[1::-1] == size:
        return colors
    method = cv2.INTER_AREA if colors.shape[1] > size[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(colors), size, interpolation=method).clip(0, 1)


def encoded_strip(comparison: Comparison, title: str) -> bytes:
    """Before | after with captions below, as a PNG file that keeps the colour profile.

    Args:
        title: Name of the task, the caption of the right half.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(strip(comparison, title))
    image.save(buffer, "PNG", icc_profile=comparison.icc_profile)
    return buffer.getvalue()


def strip(comparison: Comparison, title: str) -> NDArray[np.uint8]:
    """Before | after, uint8 [H + bar, 2 W + line, 3]; without a bar if no caption fits."""
    height, width = comparison.after.shape[:2]
    line = 2 * max(1, round(min(height, width) / 400))
    letters = min(max(height // 24, SMALLEST_TEXT), LARGEST_TEXT)
    font = ImageFont.load_default(letters)
    captions = [_fitting(texts, font, width - letters) for texts in _captions(comparison, title)]
    bar = 2 * letters if any(captions) else 0
    sheet = np.empty((height + bar, 2 * width + line, 3), np.uint8)
    sheet[:height, :width] = comparison.before
    # A line of two shades, one of which is seen whatever is beside it.
    sheet[:height, width : width + line // 2] = 255
    sheet[:height, width + line // 2 : width + line] = 0
    sheet[:height, width + line :] = comparison.after
    if bar:
        sheet[height:] = _caption_bar(captions, (width, line, bar), font)

    return sheet


def _captions(comparison: Comparison, title: str) -> tuple[Sequence[str], Sequence[str]]:
    """Captions that may stand below each half, the longest first."""
    before = "{}x{}".format(*comparison.size)
    after = "{1}x{0}".format(*comparison.after.shape)
    enlarged = [f"Input, {before}, enlarged"] if before != after else []
    return [*enlarged, f"Input, {before}", "Input"], [f"{title}, {after}", title, "Restored"]


def _fitting(texts: Sequence[str], font: Font, width: int) -> str:
    return next((text for text in texts if font.getlength(text) <= width), "")


def _caption_bar(
    captions: Sequence[str], sizes: tuple[int, int, int], font: Font
) -> NDArray[np.uint8]:
    width, line, bar = sizes
    image = Image.new("RGB", (2 * width + line, bar), BAR)
    draw = ImageDraw.Draw(image)

    for number, caption in enumerate(captions):
        middle = number * (width + line) + width / 2
        draw.text((middle, bar / 2), caption, fill=TEXT, font=font, anchor="mm")

    return np.asarray(image)
