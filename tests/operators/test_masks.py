"""Maps of known pixels against their definitions, pixel by pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from operators import Mask
from operators.masks import (
    alternate_lines,
    alternate_pixels,
    border,
    box,
    feather,
    from_picture,
    random_pixels,
    strokes,
)

SIZES = [(8, 8), (7, 5), (1, 9), (11, 1), (13, 6), (1, 1)]
RANDOM = {
    "pixels": lambda seed: random_pixels((30, 41), 0.4, seed),
    "pixels per channel": lambda seed: random_pixels((30, 41), 0.4, seed, channels=3),
    "strokes": lambda seed: strokes((30, 41), seed, count=2, thickness=(1, 5)),
}


def _is_map(known: torch.Tensor, *shape: int) -> None:
    assert known.dtype == torch.bool
    assert known.shape == shape
    assert known.is_contiguous()
    assert known.any()


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_gives_one_map(name: str) -> None:
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    maps = [RANDOM[name](seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    assert not torch.equal(maps[2], maps[3])
    assert np.array_equal(np.random.get_state()[1], state[0]), (
        "numpy's global generator is left alone"
    )
    assert torch.equal(torch.get_rng_state(), state[1]), "torch's global generator is left alone"


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5, 0.97, 1.0])
def test_random_pixels_are_as_many_as_asked_for(size: tuple[int, int], share: float) -> None:
    expected = max(1, round(share * size[0] * size[1]))
    known = random_pixels(size, share, 3)
    _is_map(known, *size)
    assert known.sum() == expected
    for channels in (1, 3):
        known = random_pixels(size, share, 3, channels=channels)
        _is_map(known, channels, *size)
        assert (known.flatten(1).sum(dim=1) == expected).all()
    Mask((3, *size), known)


def test_random_pixels_choose_all_places_and_differ_between_channels() -> None:
    frequency = (
        torch.stack([random_pixels((3, 4), 0.25, seed) for seed in range(2000)]).float().mean(dim=0)
    )
    assert (frequency - 0.25).abs().max() < 0.05  # five standard deviations
    red, green, _ = random_pixels((30, 40), 0.5, 0, channels=3)
    assert not torch.equal(red, green)


@pytest.mark.parametrize("seed", range(5))
def test_strokes_are_as_thick_as_asked_for(seed: int) -> None:
    size, (low, high) = (160, 200), (9, 13)
    known = strokes(size, seed, count=1, thickness=(low, high))
    _is_map(known, *size)
    assert 0 < (~known).sum() < 0.4 * known.numel()
    deepest = cv2.distanceTransform(
        (~known).numpy().astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    ).max()
    assert deepest >= low / 2 - 1
    assert cv2.connectedComponents((~known).numpy().astype(np.uint8))[0] <= 3, (
        "one curve, cut by the picture's edge"
    )


def test_more_and_thicker_strokes_hide_more() -> None:
    def hidden(**options) -> float:
        return (
            sum(float((~strokes((96, 128), seed, **options)).float().mean()) for seed in range(8))
            / 8
        )

    assert hidden(count=2) < hidden(count=8) < 0.6
    assert hidden(count=3, thickness=(1, 2)) < hidden(count=3, thickness=(8, 12))
    assert strokes((96, 128), 0, thickness=(5, 5)).shape == (96, 128)


@pytest.mark.parametrize(("top", "left"), [(None, None), (0, 0), (2, None), (None, 3), (4, 3)])
def test_box(top: int | None, left: int | None) -> None:
    known = box((7, 8), 3, 5, top=top, left=left)
    _is_map(known, 7, 8)
    first = 2 if top is None else top
    start = 1 if left is None else left
    for i in range(7):
        for j in range(8):
            assert known[i, j] == (not (first <= i < first + 3 and start <= j < start + 5))


def test_box_may_reach_the_edges() -> None:
    assert box((4, 6), 4, 5).sum() == 4
    assert box((4, 6), 1, 6, top=3)[:3].all()


@pytest.mark.parametrize(("size", "width"), [((5, 7), 1), ((5, 7), 2), ((9, 8), 3)])
def test_border(size: tuple[int, int], width: int) -> None:
    known = border(size, width)
    _is_map(known, *size)
    for i in range(size[0]):
        for j in range(size[1]):
            assert known[i, j] == (min(i, j, size[0] - 1 - i, size[1] - 1 - j) >= width)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("every", [2, 3, 20])
def test_alternating(size: tuple[int, int], every: int) -> None:
    rows = alternate_lines(size, every)
    columns = alternate_lines(size, every, axis="columns")
    board = alternate_pixels(size, every)
    grid = alternate_pixels(size, every, pattern="grid")
    for known in (rows, columns, board, grid):
        _is_map(known, *size)
    for i in range(size[0]):
        for j in range(size[1]):
            assert rows[i, j] == (i % every == 0)
            assert columns[i, j] == (j % every == 0)
            assert board[i, j] == ((i + j) % every == 0)
            assert grid[i, j] == (i % every == 0 and j % every == 0)


def test_a_picture_is_white_where_it_is_to_be_filled() -> None:
    white = torch.zeros(5, 6, dtype=torch.bool)
    white[1:3, 2:5] = True
    values = white.numpy().astype(np.float32)
    for picture in (
        white,
        white.numpy(),
        values,
        values.astype(np.float64),
        values.astype(np.float16),
        (values * 255).astype(np.uint8),
        (values * 65535).astype(np.uint16),
        values[..., None],
        np.repeat(values[..., None], 3, axis=2),
        np.stack([values, np.ones_like(values)], axis=2),  # grey and opaque
        np.stack(
            [np.ones_like(values)] * 3 + [values], axis=2
        ),  # white strokes on a transparent layer
        values.tolist(),
    ):
        known = from_picture(picture)
        _is_map(known, 5, 6)
        assert torch.equal(known, ~white)
    assert from_picture(np.zeros((3, 4))).all(), "a black picture hides nothing"


def test_the_threshold_belongs_to_the_known_pixels() -> None:
    values = np.array([[0.0, 0.25, 0.5, 1.0]])
    assert from_picture(values, threshold=0.25).tolist() == [[True, True, False, False]]
    assert from_picture(values, threshold=0).tolist() == [[True, False, False, False]]
    assert from_picture(np.array([[127, 128]], dtype=np.uint8)).tolist() == [[True, False]]
    assert from_picture(np.array([[[255, 255, 0], [255, 0, 0]]], dtype=np.uint8)).tolist() == [
        [False, True]
    ]


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5])
def test_dilation_is_by_a_disk(radius: int) -> None:
    unknown = ~random_pixels((14, 17), 0.99, 5).numpy()
    assert unknown.sum() == 2
    found = ~from_picture(unknown, dilate=radius).numpy()
    for i in range(14):
        for j in range(17):
            near = any((i - k) ** 2 + (j - l) ** 2 <= radius**2 for k, l in np.argwhere(unknown))
            assert found[i, j] == near


def test_dilation_is_exact_far_away() -> None:
    """Distances that differ by one in their squares stay apart: 500² = 300² + 400²."""
    unknown = np.zeros((600, 600), dtype=bool)
    unknown[0, 0] = True
    i, j = np.ogrid[:600, :600]
    assert np.array_equal(~from_picture(unknown, dilate=500).numpy(), i**2 + j**2 <= 500**2)


@pytest.mark.parametrize("side", ["hole", "known"])
@pytest.mark.parametrize("radius", [0, 1, 2.5, 4])
def test_feather_is_a_ramp_by_distance(side: str, radius: float) -> None:
    known = strokes((15, 18), 3, count=1, thickness=(4, 7))
    weight = feather(known, radius, side=side)
    assert weight.dtype == torch.float32
    ramp = known if side == "known" else ~known
    others = torch.nonzero(~ramp).tolist()
    for i in range(15):
        for j in range(18):
            distance = min(math.hypot(i - k, j - l) for k, l in others)
            t = min(distance / (radius + 1), 1)
            rise = t * t * (3 - 2 * t)
            assert float(weight[i, j]) == pytest.approx(
                rise if side == "known" else 1 - rise, abs=1e-6
            )


@pytest.mark.parametrize("seed", range(4))
def test_feather_keeps_its_side_exactly(seed: int) -> None:
    known = strokes((40, 50), seed, count=2, thickness=(6, 12))
    hole = feather(known, 3)
    outside = feather(known, 3, side="known")
    assert (hole[known] == 1).all()
    assert (hole[~known] < 1).all()
    assert (outside[~known] == 0).all()
    assert (outside[known] > 0).all()
    assert ((hole >= 0) & (hole <= 1) & (outside >= 0) & (outside <= 1)).all()
    assert torch.equal(feather(known, 0), known.float())
    assert torch.equal(feather(known, 0, side="known"), known.float())
    assert (outside[from_picture(~known, dilate=4)] == 1).all()
    assert (outside[~from_picture(~known, dilate=3)] < 1).all()


@pytest.mark.parametrize("side", ["hole", "known"])
def test_feather_takes_maps_without_a_rim_and_batches(side: str) -> None:
    for value in (0.0, 1.0):
        assert torch.equal(
            feather(torch.full((4, 5), value), 3, side=side), torch.full((4, 5), value)
        )
    assert feather(torch.ones(1, 1, dtype=torch.bool), 2, side=side) == 1
    batch = random_pixels((9, 8), 0.7, 0, channels=4).reshape(2, 2, 9, 8)
    weight = feather(batch, 2, side=side)
    assert weight.shape == batch.shape
    assert torch.equal(weight[1, 0], feather(batch[1, 0], 2, side=side))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_pixels((4, 4), 0, 0), "share_known"),
        (lambda: random_pixels((4, 4), 1.01, 0), "share_known"),
        (lambda: random_pixels((4, 4), math.nan, 0), "share_known"),
        (lambda: random_pixels((4, 4), 0.5, -1), "negative|expected"),
        (lambda: random_pixels((4, 4), 0.5, 0, channels=0), "channels"),
        (lambda: random_pixels((0, 4), 0.5, 0), "size"),
        (lambda: random_pixels((4, 4, 3), 0.5, 0), "size"),
        (lambda: random_pixels((4, 2.5), 0.5, 0), "size"),
        (lambda: strokes((4, 4), 0, count=0), "stroke"),
        (lambda: strokes((4, 4), 0, thickness=(5, 3)), "thickness"),
        (lambda: strokes((4, 4), 0, thickness=(0, 3)), "thickness"),
        (lambda: strokes((4, 4), 0, thickness=(1, math.inf)), "thickness"),
        (lambda: strokes((4, 4), -1), "negative|expected"),
        (lambda: strokes((4, 4), 0, thickness=(30, 30)), "known"),
        (lambda: box((4, 4), 5, 1), "fit"),
        (lambda: box((4, 4), 2, 2, top=3), "fit"),
        (lambda: box((4, 4), 2, 2, left=-1), "fit"),
        (lambda: box((4, 4), 0, 2), "at least one"),
        (lambda: box((4, 4), 1.5, 2), "whole"),
        (lambda: box((4, 4), 4, 4), "known"),
        (lambda: border((4, 9), 2), "known"),
        (lambda: border((4, 9), 5), "known"),
        (lambda: border((4, 9), 0), "border"),
        (lambda: border((4, 9), math.nan), "whole"),
        (lambda: alternate_lines((4, 4), 1), "every"),
        (lambda: alternate_lines((4, 4), 2, axis="height"), "axis"),
        (lambda: alternate_pixels((4, 4), 0), "every"),
        (lambda: alternate_pixels((4, 4), 2, pattern="dots"), "pattern"),
        (lambda: from_picture(np.ones((3, 3))), "known"),
        (lambda: from_picture(np.eye(3), dilate=2), "known"),
        (lambda: from_picture(np.eye(3), dilate=-1), "dilate"),
        (lambda: from_picture(np.eye(3), dilate=0.5), "whole"),
        (lambda: from_picture(np.eye(3), threshold=1), "threshold"),
        (lambda: from_picture(np.eye(3) * 255), "0 to 1"),
        (lambda: from_picture(np.full((3, 3), np.nan)), "0 to 1"),
        (lambda: from_picture(300 * np.eye(3, dtype=np.int64)), "int64"),
        (lambda: from_picture(np.zeros((3, 8, 8))), "shape"),
        (lambda: from_picture(np.zeros(5)), "shape"),
        (lambda: from_picture(np.zeros((0, 5))), "shape"),
        (lambda: from_picture(np.stack([np.zeros((3, 3)), np.eye(3)], axis=2)), "opacity"),
        (lambda: feather(torch.ones(3), 1), "map"),
        (lambda: feather(torch.full((3, 3), 0.5), 1), "map"),
        (lambda: feather(torch.ones(3, 3), -1), "radius"),
        (lambda: feather(torch.ones(3, 3), math.inf), "radius"),
        (lambda: feather(torch.ones(3, 3), 1, side="both"), "side"),
    ],
)
def test_bad_input_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
