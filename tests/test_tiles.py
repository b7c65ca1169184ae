"""Tiles agree with the whole picture."""

from __future__ import annotations

import itertools

import pytest
import torch

import pretrained
from restore.denoiser import Condition, ModelConfig, build_denoiser
from restore.tiles import TiledDenoiser

CHECKPOINT = pretrained.load("default")
DENOISE = build_denoiser(ModelConfig.from_dict(CHECKPOINT.config), CHECKPOINT.state)


@pytest.mark.parametrize("size", [(100, 200), (97, 40)])
@pytest.mark.parametrize(("sigma", "limit"), [(0.1, 1e-3), (5.0, 1e-2)])
def test_tiles_agree_with_the_whole(size: tuple[int, int], sigma: float, limit: float) -> None:
    """With tiles far smaller than those in use; at high noise the network looks furthest."""
    g = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9, generator=g), size=size, mode="bilinear") * 2 - 1
    x = smooth + sigma * torch.randn(1, 3, *size, generator=g)
    condition = Condition(smooth, torch.ones(1, 1, *size))
    for shown in (None, condition):
        with torch.inference_mode():
            whole = DENOISE(x, sigma, shown)
            tiled = TiledDenoiser(DENOISE, tile=96, overlap=48)(x, sigma, shown)
        assert tiled.clean.shape == x.shape
        assert (tiled.clean - whole.clean).abs().mean() < limit
        torch.testing.assert_close(tiled.clean + sigma * tiled.noise, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [97, 100, 191, 192, 193, 500, 1000])
def test_spans_cover_everything_with_enough_overlap(size: int) -> None:
    tiles = TiledDenoiser(DENOISE, tile=96, overlap=24)
    spans = list(tiles._spans(size))
    assert spans[0].start == 0
    assert spans[-1].stop == size
    assert all(span.start % 8 == 0 and span.stop - span.start <= 96 + 8 for span in spans)
    assert all(a.stop - b.start >= 16 for a, b in itertools.pairwise(spans))


def test_a_picture_of_one_tile_goes_through_whole() -> None:
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(TiledDenoiser(DENOISE, tile=64, overlap=8)(x, 0.5).clean, DENOISE(x, 0.5).clean)


def test_refuses_an_overlap_as_large_as_the_tile() -> None:
    with pytest.raises(ValueError, match="overlap"):
        TiledDenoiser(DENOISE, tile=64, overlap=64)
