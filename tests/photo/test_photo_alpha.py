"""Transparency: colour under transparent pixels reaches no visible one, and comes back as it
was.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import FIXTURES

import restore
from restore.photo.alpha import HIDDEN_BELOW, continue_colour, visible_noise
from restore.tasks import Denoising

SIDE = 40
COLOUR = np.array([0.9, 0.5, 0.2], np.float32)


def disc(radius: float = 14.0) -> np.ndarray:
    """Alpha float32 [SIDE, SIDE] of a disc with an edge one pixel wide."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)


def on_black(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGBA [H, W, 4]: the colour where alpha is above 0, black where it is not."""
    return np.dstack([colour * (alpha > 0)[..., None], alpha]).astype(np.float32)


def tensors(picture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour [1, 3, H, W] and alpha [1, 1, H, W]."""
    stacked = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    return stacked[:, :3], stacked[:, 3:]


# --- the continuation
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 40), (1, 17), (23, 1), (5, 64), (2, 2)])
def test_a_flat_colour_is_continued_flat(size):
    alpha = torch.zeros(1, 1, *size)
    alpha[..., 0, 0] = 0.5
    color = torch.rand(1, 3, *size)
    color[..., 0, 0] = torch.from_numpy(COLOUR)
    continued = continue_colour(color, alpha)
    assert torch.allclose(
        continued, torch.from_numpy(COLOUR).reshape(1, 3, 1, 1).expand_as(continued), atol=1e-6
    )


def test_visible_pixels_come_through_and_hidden_colours_do_not_count():
    color = torch.rand(2, 3, 31, 45)
    alpha = torch.rand(2, 1, 31, 45)
    alpha[:, :, 8:25, 10:40] = 0
    alpha[:, :, 0, 0] = HIDDEN_BELOW * 0.9
    other = torch.where(alpha < HIDDEN_BELOW, torch.rand_like(color), color)
    continued = continue_colour(color, alpha)
    seen = (alpha >= HIDDEN_BELOW).expand_as(color)
    assert torch.equal(continued[seen], color[seen])
    assert not torch.equal(other, color)
    assert torch.equal(continue_colour(other, alpha), continued)
    assert float(continued.min()) >= float(color[seen].min())
    assert float(continued.max()) <= float(color[seen].max())


def test_the_continuation_is_smooth():
    rows = torch.linspace(0.2, 0.8, 64).reshape(1, 1, 64, 1).expand(1, 3, 64, 64)
    alpha = torch.ones(1, 1, 64, 64)
    alpha[..., 20:44, 20:44] = 0
    continued = continue_colour(rows * alpha, alpha)
    assert float(continued.diff(dim=-2).abs().max()) < 0.12  # black in the hole would step by 0.6
    assert float((continued - rows).abs().max()) < 0.15


def test_hidden_or_visible_everywhere_is_left_alone():
    color = torch.rand(1, 3, 9, 9)
    for level in (0.0, 1.0):
        assert torch.equal(continue_colour(color, torch.full((1, 1, 9, 9), level)), color)


def test_pictures_of_a_batch_do_not_mix():
    color = torch.rand(3, 3, 20, 20)
    alpha = torch.ones(3, 1, 20, 20)
    alpha[0, :, 5:15] = 0
    alpha[1] = 0
    together = continue_colour(color, alpha)
    for k in range(3):
        assert torch.allclose(
            together[k], continue_colour(color[k : k + 1], alpha[k : k + 1])[0], atol=1e-6
        )


def test_noise_is_measured_where_it_is_visible():
    generator = torch.Generator().manual_seed(0)
    noisy = 0.5 + 0.1 * torch.randn(1, 3, 128, 128, generator=generator)
    alpha = torch.zeros(1, 1, 128, 128)
    alpha[..., :40, :] = 1
    for under in (torch.zeros(()), torch.rand(1, 3, 128, 128, generator=generator)):
        level = visible_noise(torch.where(alpha > 0, noisy, under), alpha)
        assert level == pytest.approx([0.1], rel=0.1)


# --- no halo
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
def test_a_cut_out_has_no_halo(scale):
    alpha = disc()
    flat = np.broadcast_to(COLOUR, (SIDE, SIDE, 3))
    cut_out = on_black(flat, alpha)
    settings = {"method": "ddrm", "steps": 3}
    opaque = restore.sr(np.ascontiguousarray(flat), scale, **settings)
    result = restore.sr(cut_out, scale, **settings)
    naive = restore.sr(np.ascontiguousarray(cut_out[..., :3]), scale, **settings)
    weight = result[..., 3:]
    assert np.abs((result[..., :3] - opaque) * weight).max() < 2 / 255
    assert np.abs((naive - opaque) * weight).max() > 30 / 255  # the dark rim


@pytest.mark.parametrize("scale", [2])
def test_a_textured_cut_out_looks_as_on_its_own_ground(scale):
    photo = np.asarray(
        Image.open(FIXTURES / "crop_a.png").convert("RGB").crop((40, 40, 40 + SIDE, 40 + SIDE))
    )
    photo = photo.astype(np.float32) / 255
    cut_out = on_black(photo, disc())
    settings = {"method": "ddrm", "steps": 3}
    whole = restore.sr(photo, scale, **settings)
    result = restore.sr(cut_out, scale, **settings)
    naive = restore.sr(np.ascontiguousarray(cut_out[..., :3]), scale, **settings)
    weight = result[..., 3:]
    error, dark = (
        np.abs((picture - whole) * weight).mean() for picture in (result[..., :3], naive)
    )
    assert error < 0.4 * dark


@pytest.mark.parametrize("task", ["sr", "denoise", "deblur", "colorize"])
def test_what_is_hidden_changes_nothing_that_is_seen(task):
    alpha = disc()
    photo = np.asarray(Image.open(FIXTURES / "crop_b.png").convert("RGB").crop((0, 0, SIDE, SIDE)))
    rng = np.random.default_rng(0)
    results = []
    for under in (0, 255, rng.integers(0, 256, photo.shape)):
        colour = np.where(alpha[..., None] > 0, photo, under)
        picture = np.dstack([colour, np.rint(alpha * 255)]).astype(np.uint8)
        options = {"noise": 0.05} if task in ("denoise", "deblur") else {}
        results.append(getattr(restore, task)(picture, **options, steps=2))
    seen = results[0][..., 3] >= 6
    assert seen.mean() > 0.2
    assert all(np.array_equal(result[seen], results[0][seen]) for result in results)


def test_automatic_noise_of_a_cut_out_does_not_depend_on_its_ground():
    rng = np.random.default_rng(0)
    noisy = np.clip(0.5 + 0.08 * rng.standard_normal((64, 64, 3)), 0, 1)
    alpha = np.zeros((64, 64))
    alpha[:, :24] = 1
    picture = on_black(noisy, alpha.astype(np.float32))
    result = restore.restorer.restorer().run(Denoising("auto"), picture, steps=1)
    assert result.report.noise == pytest.approx(0.08, rel=0.25)


# --- nothing changed
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sr", "denoise", "deblur"])
def test_an_opaque_alpha_changes_nothing(task):
    photo = np.asarray(Image.open(FIXTURES / "crop_b.png").convert("RGB").crop((0, 0, SIDE, SIDE)))
    plain = getattr(restore, task)(photo, steps=2)
    opaque = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    result = getattr(restore, task)(opaque, steps=2)
    assert np.array_equal(result[..., :3], plain)
    assert (result[..., 3] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hidden_colours_come_back_as_they_were(dtype):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, np.iinfo(dtype).max, (SIDE, SIDE, 4), dtype, endpoint=True)
    picture[..., 3] = np.iinfo(dtype).max
    picture[10:30, 10:30, 3] = 0
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2:6, 2:6] = True
    filled = restore.inpaint(picture, mask, steps=2)
    assert np.array_equal(filled[~mask], picture[~mask])
    assert (filled[mask] != picture[mask]).any()
    denoised = restore.denoise(picture, 0.05, steps=1)
    hidden = picture[..., 3] == 0
    assert np.array_equal(denoised[hidden], picture[hidden])
    assert not np.array_equal(denoised[~hidden], picture[~hidden])


def test_what_is_to_be_filled_is_filled_under_transparency_too():
    picture = np.zeros((SIDE, SIDE, 4), np.uint8)
    picture[..., :3], picture[..., 3] = (200, 120, 60), 255
    picture[10:20, 10:20] = 0
    mask = picture[..., 3] == 0
    filled = restore.inpaint(picture, mask, steps=3)
    assert np.abs(filled[mask][:, :3].astype(int) - (200, 120, 60)).max() < 40
    assert (filled[mask][:, 3] == 0).all()
