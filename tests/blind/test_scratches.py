"""Scratches and dust that are painted on pictures, found again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from restore.blind.scratches import find_scratches

SIDE = 160


def scene(channels: int = 3) -> np.ndarray:
    """A smooth picture with an edge and fine grain, [C, SIDE, SIDE]."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    light = 0.35 + 0.2 * rows + 0.2 * (columns + 0.3 * rows > 0.6)
    light = light + 0.01 * np.random.default_rng(0).normal(size=light.shape)
    return np.repeat(light[None].astype(np.float32), channels, axis=0)


def scratched(tone: float, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a line from the top to the bottom, and where that is."""
    line = np.zeros((SIDE, SIDE), np.uint8)
    cv2.line(line, (30, 5), (50, SIDE - 5), 255, 2)
    picture = scene(channels)
    picture[:, line > 0] = tone
    return picture, line > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tone", [0.97, 0.03])
def test_a_scratch_is_found_with_its_rim(tone: float, channels: int) -> None:
    picture, line = scratched(tone, channels)
    found = find_scratches(picture)

    assert found.applied
    assert found.finding.scratches >= 1
    assert found.mask[line].mean() > 0.95
    near = cv2.dilate(line.astype(np.uint8), np.ones((7, 7))) > 0
    assert found.mask[~near].sum() == 0
    assert found.finding.fraction == pytest.approx(found.mask.mean(), abs=1e-6)


def test_dust_is_found() -> None:
    picture = scene()
    places = [(30, 120), (80, 40), (130, 130)]
    for row, column in places:
        picture[:, row : row + 4, column : column + 4] = 0.98
    found = find_scratches(picture)

    assert found.finding.dust == len(places)
    assert all(found.mask[row : row + 4, column : column + 4].all() for row, column in places)
    assert found.mask.sum() <= len(places) * 8 * 8


def test_nothing_is_found_in_a_clean_picture() -> None:
    for picture in (scene(), np.full((3, 40, 50), 0.5, np.float32)):
        found = find_scratches(picture)
        assert not found.applied
        assert found.mask is None
        assert found.finding.words == "no scratches and no dust were found; it is left alone"


def test_texture_of_lines_is_no_damage() -> None:
    columns = np.arange(SIDE)
    stripes = np.broadcast_to(0.5 + 0.4 * (columns % 8 < 2), (3, SIDE, SIDE))
    assert not find_scratches(stripes.astype(np.float32)).applied


def test_a_coloured_line_is_no_scratch() -> None:
    picture, line = scratched(0.5)
    picture[:, line] = np.array([[0.9], [0.3], [0.1]])
    assert not find_scratches(picture).applied


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (15, 15)])
def test_tiny_pictures_are_left_alone(size: tuple[int, int]) -> None:
    found = find_scratches(np.random.default_rng(0).random((3, *size)))
    assert not found.applied
    assert "too small" in found.finding.words


def test_a_large_scan_is_searched_at_half_size_too() -> None:
    picture = np.full((1, 200, 1600), 0.4, np.float32)
    picture[:, 20:180, 700:706] = 0.95
    found = find_scratches(picture)
    assert found.mask[20:180, 700:706].mean() > 0.95
    assert found.mask.sum() < 160 * 14
