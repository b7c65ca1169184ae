"""Interpolation of mosaics against OpenCV's, and the noise that is estimated in them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.pictures import piece
from support.raws import X_TRANS

from operators import BAYER_PATTERNS, Bayer, ColorFilterArray
from restore.metrics.bayer import along_edges, takes
from restore.metrics.demosaicking import demosaicked, estimate_sensor_noise, interpolated
from restore.metrics.regularized import Roughness, descended, regularized

QUAD = ("RRGG", "RRGG", "GGBB", "GGBB")

CODES = {
    "RGGB": cv2.COLOR_BayerRGGB2RGB,
    "BGGR": cv2.COLOR_BayerBGGR2RGB,
    "GRBG": cv2.COLOR_BayerGRBG2RGB,
    "GBRG": cv2.COLOR_BayerGBRG2RGB,
}


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_bayer_is_bilinear(pattern: str) -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (12, 14)).astype(np.uint16)
    theirs = cv2.demosaicing(counts, CODES[pattern]).astype(np.float64)
    mosaic = torch.from_numpy(counts.astype(np.float32))[None, None]
    ours = interpolated(mosaic, Bayer((3, 12, 14), pattern))[0].permute(1, 2, 0)
    assert np.abs(ours.numpy() - theirs)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize("size", [(9, 13), (6, 6), (3, 4)], ids=str)
@pytest.mark.parametrize("pattern", [("RG", "GB"), X_TRANS], ids=["Bayer", "X-Trans"])
def test_measured_values_stay_and_flat_colors_are_exact(pattern: Any, size: Any) -> None:
    operator = ColorFilterArray((3, *size), pattern)
    color = torch.tensor([0.2, 0.5, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, *size)
    mosaic = operator.A(color)
    found = interpolated(mosaic, operator)
    assert torch.equal(operator.A(found), mosaic)
    if min(size) >= 6:
        torch.testing.assert_close(found, color)


@pytest.mark.parametrize("noise", [(0.0, 1e-4), (1e-3, 1e-6), (1e-3, 1e-4)])
@pytest.mark.parametrize("pattern", [("RG", "GB"), X_TRANS], ids=["Bayer", "X-Trans"])
def test_estimates_the_noise_of_a_smooth_picture(pattern: Any, noise: Any) -> None:
    ramp = np.tile(np.linspace(0.02, 0.85, 600), (240, 1))
    random = np.random.default_rng(1).standard_normal(ramp.shape)
    a, b = estimate_sensor_noise(ramp + np.sqrt(noise[0] * ramp + noise[1]) * random, pattern)
    for signal in (0.1, 0.4, 0.8):
        assert a * signal + b == pytest.approx(noise[0] * signal + noise[1], rel=0.15)


def test_without_noise_or_without_pixels_the_noise_is_zero() -> None:
    assert estimate_sensor_noise(np.full((64, 64), 0.3), ("RG", "GB")) == (0, 0)
    assert estimate_sensor_noise(np.full((2, 2), 0.3), ("RG", "GB")) == (0, 0)
    assert estimate_sensor_noise(np.full((64, 64), 1.0), ("RG", "GB")) == (0, 0)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_along_edges_is_better_and_keeps_what_was_measured(pattern: str) -> None:
    """On stripes as narrow as two pixels in each direction, where bilinear interpolation fails."""
    rows, columns = np.meshgrid(np.arange(40), np.arange(44), indexing="ij")
    stripes = np.where(rows < 20, columns // 2 % 2, rows // 2 % 2)
    truth = torch.from_numpy(np.stack([0.2 + 0.5 * stripes, 0.1 + 0.5 * stripes, 0.4 * stripes]))
    truth = truth.float()[None]
    operator = Bayer((3, 40, 44), pattern)
    mosaic = operator.A(truth)
    errors = []
    for method in (along_edges, interpolated):
        found = method(mosaic, operator)
        assert torch.equal(operator.A(found), mosaic)
        errors.append(float((found - truth)[..., 4:16, 4:-4].square().mean()))
    assert errors[0] < 0.2 * errors[1]


def test_along_edges_of_a_batch_and_of_the_patterns_are_alike() -> None:
    x = torch.rand(2, 3, 22, 26, generator=torch.Generator().manual_seed(0))
    operator = Bayer((3, 22, 26), "RGGB")
    both = along_edges(operator.A(x), operator)
    torch.testing.assert_close(both[1:], along_edges(operator.A(x[1:]), operator))
    # the same mosaic read from right to left, and with red and blue exchanged
    flipped = along_edges(operator.A(x).flip(-1), Bayer((3, 22, 26), "GRBG"))
    torch.testing.assert_close(flipped.flip(-1), both)
    exchanged = along_edges(operator.A(x), Bayer((3, 22, 26), "BGGR"))
    torch.testing.assert_close(exchanged.flip(1), both)


def test_the_method_follows_the_pattern_and_the_size() -> None:
    large, small = Bayer((3, 16, 16)), Bayer((3, 12, 40))
    other, tiny = (ColorFilterArray((3, side, 16), X_TRANS) for side in (16, 11))
    assert (takes(large), takes(small), takes(other)) == (True, False, False)
    for operator, method in ((large, along_edges), (other, _regularized), (tiny, interpolated)):
        mosaic = torch.rand(1, *operator.output_shape)
        assert torch.equal(demosaicked(mosaic, operator), method(mosaic, operator))


def _regularized(mosaic: torch.Tensor, operator: ColorFilterArray) -> torch.Tensor:
    return regularized(mosaic, operator, interpolated(mosaic, operator))


@pytest.mark.parametrize("pattern", [X_TRANS, QUAD], ids=["X-Trans", "quad Bayer"])
def test_regularised_is_better_and_keeps_what_was_measured(pattern: Any) -> None:
    truth = torch.from_numpy(np.asarray(piece((64, 48)), np.float32) / 255)
    truth = truth.permute(2, 0, 1)[None]
    operator = ColorFilterArray(tuple(truth.shape[1:]), pattern)
    mosaic = operator.A(truth)
    errors = []
    for method in (_regularized, interpolated):
        found = method(mosaic, operator)
        assert torch.equal(operator.A(found), mosaic)
        errors.append(float((found - truth)[..., 6:-6, 6:-6].square().mean()))
    assert errors[0] < 0.4 * errors[1]


def test_regularised_is_the_minimum_that_a_dense_matrix_finds() -> None:
    """Of a round, for a batch whose pictures do not touch each other."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    operator = ColorFilterArray((3, 6, 7), X_TRANS)
    is_free = operator.V(torch.ones(1, 1, 6, 7)) == 0
    roughness = Roughness.of(picture)

    def energy(x: torch.Tensor) -> torch.Tensor:
        mean, colors = x.mean(dim=1, keepdim=True), x[:, ::2] - x[:, 1:2]
        bends = (w * mean.diff(n=2, dim=i + 2) ** 2 for i, w in enumerate(roughness.luminance))
        slopes = (w * colors.diff(dim=i + 2) ** 2 for i, w in enumerate(roughness.colors))
        return sum(part.sum() for part in (*bends, *slopes))

    matrix = torch.autograd.functional.hessian(energy, picture)[0, :, :, :, 0] / 2
    matrix = matrix.reshape(126, 126)
    gradient = torch.autograd.functional.jacobian(energy, picture) / 2
    torch.testing.assert_close(roughness.gradient(picture), gradient)
    torch.testing.assert_close(roughness.diagonal()[0].flatten(), matrix.diagonal())

    free = is_free.flatten()
    change = torch.linalg.solve(matrix[free][:, free], gradient[0].flatten()[free])
    found = descended(picture, is_free.double(), roughness, steps=100)
    torch.testing.assert_close(found[0].flatten()[free], picture[0].flatten()[free] - change)
    assert torch.equal(found[0].flatten()[~free], picture[0].flatten()[~free])
