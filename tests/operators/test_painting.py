"""What a mask says, for every way in which people paint one."""

from __future__ import annotations

import numpy as np
import pytest
from support.pictures import piece

from operators.painting import to_fill

SIZE = (24, 36)
STROKES = np.zeros(SIZE, bool)
STROKES[5:12, 8:30] = True
PHOTO = np.asarray(piece(SIZE[::-1]).convert("RGB"))


def painted(color, on=(0, 0, 0)) -> np.ndarray:
    return np.where(STROKES[..., None], np.uint8(color), np.uint8(on))


def layer(color, below=(0, 0, 0)) -> np.ndarray:
    return np.dstack([painted(color, below), 255 * STROKES]).astype(np.uint8)


def antialiased(color) -> np.ndarray:
    """Strokes with soft edges on black."""
    soft = STROKES.astype(float)
    for axis in (0, 1):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return (soft[..., None] * color).round().astype(np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        *(STROKES.astype(dtype) for dtype in (bool, "u1", "u2", "i4", "i8", "f2", "f4", "f8")),
        *((255 * STROKES).astype(dtype) for dtype in ("u1", "i4", "i8")),
        (65535 * STROKES).astype("u2"),
        STROKES[..., None],
        painted((255, 255, 255)),
        painted((250, 255, 245)),
        painted((255, 0, 0)),
        painted((0, 0, 255)),
        painted((128, 0, 0)),
        painted((0, 255, 0)),
        layer((255, 255, 255)),
        layer((255, 255, 255), below=(255, 255, 255)),
        layer((255, 0, 0)),
        layer((255, 0, 0), below=(255, 0, 0)),
        np.dstack([PHOTO, 255 * ~STROKES]).astype(np.uint8),
        np.dstack([PHOTO / 255, ~STROKES]).astype(np.float32),
        np.dstack([PHOTO[..., 1], 255 * ~STROKES]).astype(np.uint8),
        np.dstack([PHOTO * ~STROKES[..., None], 255 * ~STROKES]).astype(np.uint8),
        antialiased((255, 255, 255)),
        antialiased((255, 0, 0)),
    ],
)
def test_the_strokes_are_filled(mask):
    before = mask.copy()
    assert np.array_equal(to_fill(mask), STROKES)
    assert np.array_equal(mask, before)


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (PHOTO, "photograph"),
        (PHOTO[..., 1], "photograph"),
        (PHOTO.astype(np.float32) / 255, "photograph"),
        (np.dstack([PHOTO, np.full(SIZE, 255)]).astype(np.uint8), "photograph"),
        (np.where(STROKES[..., None], np.uint8((255, 0, 0)), PHOTO), "photograph"),
        (layer((0, 0, 0)), "opacity"),
        (np.full(SIZE, 300), "300"),
        (-STROKES.astype(int), "-1"),
        (STROKES * 255.0, "0 to 1"),
        (STROKES.astype(complex), "complex"),
    ],
)
def test_what_is_no_mask_is_refused(mask, what):
    with pytest.raises(ValueError, match=what):
        to_fill(mask)


def test_soft_masks_are_cut_at_the_threshold():
    soft = np.zeros((40, 60))
    soft[:, 20:] = 1
    soft[:, 10:20] = np.linspace(0, 1, 12)[1:-1]
    assert to_fill(soft)[0].sum() == 45
    assert to_fill((255 * soft).astype(np.uint8), 0.9)[0].sum() == 41


def test_several_colours_go_by_their_brightness():
    flags = np.uint8([[[255, 255, 0], [255, 0, 0], [255, 255, 255], [0, 0, 0]]])
    assert to_fill(flags).tolist() == [[True, False, True, False]]
