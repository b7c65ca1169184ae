"""DDRM's published degradations against their definitions, written out as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import operators
from operators import Mask, check, compose, dense_matrix
from operators.reference import REFERENCE_NAMES, ddrm_reference

KERNELS = {
    "deblur_uni": ([1.0] * 9, [1.0] * 9),
    "deblur_gauss": ([math.exp(-0.5 * (x / 10) ** 2) for x in range(-2, 3)],) * 2,
    "deblur_aniso": (
        [math.exp(-0.5 * x**2) for x in range(-4, 5)],
        [math.exp(-0.5 * (x / 20) ** 2) for x in range(-4, 5)],
    ),
}
NAMES = [
    *KERNELS,
    "sr_averagepooling:2",
    "sr_bicubic:2",
    "sr_bicubic:3",
    "inp_random:0.5",
    "color",
    "denoise",
]


def _blur(size: int, kernel: list[float]) -> np.ndarray:
    """The last tap is never reached; pixels beyond the border are 0."""
    matrix = np.zeros((size, size))
    half = len(kernel) // 2
    for i in range(size):
        for offset in range(-half, half):
            if 0 <= i + offset < size:
                matrix[i, i + offset] = kernel[offset + half] / sum(kernel)
    return matrix


def _keys(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def _bicubic(size: int, factor: int) -> np.ndarray:
    taps = [_keys((k - 2 * factor + 0.5) / factor) for k in range(4 * factor)]
    matrix = np.zeros((size // factor, size))
    for row in range(size // factor):
        start = row * factor + factor // 2 - 2 * factor
        for k, tap in enumerate(taps):
            column = start + k
            if column < 0:
                column = -column - 1
            if column > size - 1:
                column = 2 * size - 1 - column
            matrix[row, column] += tap / sum(taps)
    return matrix


def _cut(matrix: np.ndarray) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ np.diag([value if value >= 0.03 else 0.0 for value in s]) @ vt


def _dense(name: str, shape: tuple[int, int, int], cut: bool) -> torch.Tensor:
    channels, height, width = shape
    kind, _, factor = name.partition(":")
    if kind in KERNELS:
        rows, columns = (
            _blur(n, taps) for n, taps in zip((height, width), KERNELS[kind], strict=True)
        )
    elif kind == "sr_bicubic":
        rows = _bicubic(height, int(factor))
        columns = _bicubic(width, int(factor))
    if cut:
        rows = _cut(rows)
        columns = _cut(columns)
    return torch.from_numpy(np.kron(np.eye(channels), np.kron(rows, columns)))


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("name", [*KERNELS, "sr_bicubic:2", "sr_bicubic:3", "sr_bicubic:4"])
def test_against_loops(name: str, cut: bool) -> None:
    shape = (2, 12, 24)
    operator = ddrm_reference(name, shape, cut=cut, dtype=torch.float64)
    torch.testing.assert_close(dense_matrix(operator), _dense(name, shape, cut), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_keeps_every_promise(name: str, cut: bool) -> None:
    check(ddrm_reference(name, (3, 6, 12), cut=cut), rtol=1e-5)
    check(ddrm_reference(name, (3, 6, 12), cut=cut, dtype=torch.float64), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("deblur_uni", (8 / 9) ** 2),
        ("deblur_gauss", 0.6432),
        ("deblur_aniso", 0.8901),
        ("sr_bicubic:4", 1.0),
    ],
)
def test_gain_of_a_flat_picture(name: str, gain: float) -> None:
    operator = ddrm_reference(name, (3, 32, 32), cut=False)
    middle = operator.A(torch.ones(1, 3, 32, 32))[
        0, 0, operator.output_shape[1] // 2, operator.output_shape[2] // 2
    ]
    assert float(middle) == pytest.approx(gain, abs=1e-4)


@pytest.mark.parametrize("name", ["deblur_uni", "deblur_gauss"])
def test_blurs_are_off_centre(name: str) -> None:
    """A pixel's light has its centre of gravity half a pixel further down and to the right."""
    x = torch.zeros(1, 1, 32, 32)
    x[..., 16, 16] = 1
    y = ddrm_reference(name, (1, 32, 32), cut=False).A(x)[0, 0]
    position = torch.arange(32.0)
    assert float((y.sum(1) * position).sum() / y.sum()) == pytest.approx(16.5, abs=0.02)
    assert float((y.sum(0) * position).sum() / y.sum()) == pytest.approx(16.5, abs=0.02)


def test_our_own_blur_has_neither_fault() -> None:
    ours = operators.box_blur((1, 32, 32), 9).A(torch.ones(1, 1, 32, 32))
    torch.testing.assert_close(ours, torch.ones(1, 1, 32, 32))


def test_average_pooling_is_the_mean_of_blocks() -> None:
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    y = ddrm_reference("sr_averagepooling:4", (3, 8, 12)).A(x)
    torch.testing.assert_close(y, torch.nn.functional.avg_pool2d(x, 4))


def test_color_and_denoise() -> None:
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    grey = 0.3333 * x[:, :1] + 0.3334 * x[:, 1:2] + 0.3333 * x[:, 2:]
    torch.testing.assert_close(ddrm_reference("color", (3, 4, 5)).A(x), grey)
    assert ddrm_reference("denoise", (3, 4, 5)).A(x) is x


def test_random_pixels() -> None:
    shape = (3, 9, 7)
    mask = ddrm_reference("inp_random:0.5", shape, seed=4)
    assert isinstance(mask, Mask)
    known = mask.singular_values
    assert int((known[0] == 0).sum()) == 63 // 2
    assert (known == known[:1]).all()
    assert (known == ddrm_reference("inp_random:0.5", shape, seed=4).singular_values).all()
    assert not (known == ddrm_reference("inp_random:0.5", shape, seed=5).singular_values).all()


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_mixed_spectrum_keeps_every_promise(name: str, cut: bool) -> None:
    check(
        ddrm_reference(name, (3, 5, 6), cut=cut, mixed_spectrum=True, dtype=torch.float64),
        rtol=1e-5,
    )


def test_mixed_spectrum_against_loops() -> None:
    """Component by component, as published; no two components have the same singular value here."""
    height = 7
    width = 8
    rows, columns = (
        _blur(n, taps) for n, taps in zip((height, width), KERNELS["deblur_aniso"], strict=True)
    )
    (u1, s1, v1), (u2, s2, v2) = np.linalg.svd(rows), np.linalg.svd(columns)
    components = sorted(
        ((s1[i] * s2[j], i, j) for i in range(height) for j in range(width)), reverse=True
    )
    assert np.diff([value for value, _, _ in components]).max() < -1e-4
    tiled = [value for value, _, _ in components] * 3
    x = np.random.default_rng(0).standard_normal((3, height, width))
    y = np.zeros_like(x)
    for number, (_, i, j) in enumerate(components):
        for colour in range(3):
            amount = tiled[3 * number + colour] * (v1[i] @ x[colour] @ v2[j])
            y[colour] += amount * np.outer(u1[:, i], u2[:, j])
    operator = ddrm_reference(
        "deblur_aniso", (3, height, width), cut=False, mixed_spectrum=True, dtype=torch.float64
    )
    torch.testing.assert_close(
        operator.A(torch.from_numpy(x)[None])[0], torch.from_numpy(y), rtol=1e-9, atol=1e-9
    )


def test_a_mixed_spectrum_is_not_merged_as_a_product_of_matrices() -> None:
    mixed = ddrm_reference("deblur_uni", (3, 5, 6), mixed_spectrum=True, dtype=torch.float64)
    down = operators.downsample((3, 5, 6), 2, dtype=torch.float64)
    composed = compose(down, mixed)
    assert not composed.has_svd
    torch.testing.assert_close(dense_matrix(composed), dense_matrix(down) @ dense_matrix(mixed))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deblur", r"unknown degradation 'deblur'; known are deblur_uni"),
        ("deblur_uni:3", "unknown degradation"),
        ("color:2", "unknown degradation"),
        ("sr_bicubic", r"needs a whole factor .* sr_bicubic:4"),
        ("sr_averagepooling:0", "needs a whole factor"),
        ("sr_averagepooling:2.5", "needs a whole factor"),
        ("sr_averagepooling:5", r"multiples of 5, not 8x12"),
        ("inp_random", "fraction of unknown pixels"),
        ("inp_random:1", "fraction of unknown pixels"),
    ],
)
def test_refusals(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ddrm_reference(name, (3, 8, 12))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="sides of at least 8, not 4x8"):
        ddrm_reference("sr_bicubic:4", (3, 4, 8))
    with pytest.raises(ValueError, match="3 channels, not 1"):
        ddrm_reference("color", (1, 4, 8))


def test_every_name_is_described() -> None:
    assert {name.partition(":")[0] for name in NAMES} == {
        name.partition(":")[0] for name in REFERENCE_NAMES
    }
