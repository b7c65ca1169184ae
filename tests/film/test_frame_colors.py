"""Colours of frames: the formulas of the standards, and libav's own conversion."""

from __future__ import annotations

import numpy as np
import pytest
from support.clips import converted

from restore.film.color import (
    BT601,
    BT709,
    RGB,
    Coding,
    Layout,
    assumed_matrix,
    from_rgb,
    layout_of,
    to_rgb,
)

# Names of the matrices in swscale.
SWSCALE = {BT709: "bt709", BT601: "bt601"}


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth picture [H, W, 3] in [0.1, 0.9], whose chroma loses little."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(9, 20) + y / rng.uniform(9, 20) + k) for k in range(3)]
    return (0.5 + 0.4 * np.stack(waves, axis=-1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("yuv420p", Layout("yuv", 8, 2, 2)),
        ("yuvj422p", Layout("yuv", 8, 2, 1)),
        ("yuv444p10le", Layout("yuv", 10)),
        ("gbrp12le", Layout("gbr", 12)),
        ("gray", Layout("gray", 8)),
        ("nv12", None),
        ("rgb24", None),
    ],
)
def test_planes_of_formats(name, layout):
    assert layout_of(name) == layout


def test_numbers_of_the_standards():
    """Saturated red of BT.601 and BT.709, as in their tables for 8 bits: (81, 90, 240) and (63,
    102, 240)."""
    red = np.array([[[1.0, 0, 0]]])
    for matrix, expected in ((BT601, (81, 90, 240)), (BT709, (63, 102, 240))):
        planes = from_rgb(red, Coding(Layout("yuv", 8), matrix))
        assert tuple(int(plane[0, 0]) for plane in planes) == expected

    white = from_rgb(np.ones((1, 1, 3)), Coding(Layout("yuv", 10), BT709))
    assert [int(plane[0, 0]) for plane in white] == [940, 512, 512]
    black = from_rgb(np.zeros((1, 1, 3)), Coding(Layout("yuv", 8), BT601, full=True))
    assert [int(plane[0, 0]) for plane in black] == [0, 128, 128]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_colours_are_those_of_libav(name, matrix, full, centred):
    """swscale at its most exact, which computes in integers and cuts off what is below a level:
    planes within 2 levels of 255, colours within one.
    """
    coding = Coding(layout_of(name), matrix, full, centred)
    wide = Coding(Layout("gbr", 16), RGB, full=True)
    rgb = smooth(48, 64)

    def said(side: str) -> str:
        names = {
            "color_matrix": SWSCALE[matrix],
            "range": "pc" if full else "tv",
            "chroma_loc": "center" if centred else "left",
        }
        return ":".join(f"{side}_{name}={value}" for name, value in names.items())

    theirs = converted(from_rgb(rgb, wide), "gbrp16le", name, said("out"))
    level = 2 ** (coding.layout.bits - 8)
    for mine, other in zip(from_rgb(rgb, coding), theirs, strict=True):
        assert np.abs(mine.astype(int) - other.astype(int))[2:-2, 2:-2].max() <= 2 * level

    colours = to_rgb(converted(theirs, name, "gbrp16le", f"{said('in')}:out_range=pc"), wide)
    assert 255 * np.abs(to_rgb(theirs, coding) - colours)[2:-2, 2:-2].max() < 1


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (2, 5), (48, 64)])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv440p", "gbrp", "gbrp10le"])
def test_there_and_back(name, size, centred):
    """A smooth picture comes back within the rounding, at odd sizes, too."""
    layout = layout_of(name)
    coding = Coding(layout, RGB if layout.kind == "gbr" else BT709, True, centred)
    rgb = smooth(*size)
    planes = from_rgb(rgb, coding)
    assert [plane.shape for plane in planes] == layout.sizes(*size)
    assert planes[0].dtype == layout.dtype
    apart = np.abs(to_rgb(planes, coding) - rgb)
    assert apart.mean() < 0.01
    assert apart.max() < 0.1


def test_grey_stays_grey():
    coding = Coding(layout_of("gray10le"))
    planes = from_rgb(np.full((3, 4, 1), 0.5), coding)
    assert to_rgb(planes, coding).shape == (3, 4, 1)
    np.testing.assert_allclose(to_rgb(planes, coding), 0.5, atol=1e-3)


def test_a_clip_without_a_matrix_is_taken_as_players_take_it():
    assert assumed_matrix(2, 1080) == BT709
    assert assumed_matrix(2, 576) == BT601
    assert assumed_matrix(9, 576) == 9
