"""Masks from Python: every kind of array and image, with the meaning of a mask's file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import piece

import restore
from restore.errors import BadArgument, UnreadableInput
from restore.photo.photograph import read_mask

WIDTH, HEIGHT = 22, 16
PICTURE = np.asarray(piece((WIDTH, HEIGHT)).convert("RGB"))
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[4:9, 6:13] = True
TENSOR = torch.from_numpy(HOLE)


def layer() -> Image.Image:
    rgba = np.dstack([np.full((HEIGHT, WIDTH, 3), 255), 255 * HOLE])
    return Image.fromarray(rgba.astype(np.uint8))


@pytest.mark.parametrize(
    "mask",
    [
        HOLE,
        HOLE[..., None],
        HOLE[None],
        HOLE[None, None],
        HOLE[None, ..., None],
        HOLE.astype(np.uint8),
        HOLE.astype(np.int64),
        HOLE.astype(np.float64)[..., None],
        HOLE.astype(np.float32)[None],
        np.asfortranarray(HOLE.astype(np.float32)).astype(">f4"),
        TENSOR,
        TENSOR.float(),
        TENSOR.bfloat16(),
        TENSOR.long(),
        TENSOR[None],
        TENSOR.float()[None],
        TENSOR.float()[None, None],
        TENSOR.float()[..., None],
        TENSOR.float().expand(3, -1, -1),
        Image.fromarray(HOLE),
        Image.fromarray(HOLE.astype(np.uint8)),
        layer(),
    ],
)
def test_one_meaning(mask):
    result = restore.inpaint(PICTURE, mask, steps=1)
    assert np.array_equal((result != PICTURE).any(axis=2) | HOLE, HOLE)
    assert (result != PICTURE).any(axis=2)[HOLE].mean() > 0.5


def test_several_masks():
    both = torch.stack([TENSOR, TENSOR.flip(0)])
    pictures = torch.from_numpy(PICTURE.copy()).permute(2, 0, 1).expand(2, -1, -1, -1)
    for masks in (both, both[:, None], both[:, None].float(), both[:, None].long()):
        changed = (restore.inpaint(pictures, masks, steps=1) != pictures).any(dim=1)
        assert not bool((changed & ~both).any())
        assert bool(changed.flatten(1).any(dim=1).all())


@pytest.mark.parametrize(
    "image",
    [
        layer(),
        Image.fromarray(HOLE.astype(np.uint8)),
        Image.fromarray((65535 * HOLE).astype(np.uint16)),
        Image.fromarray(np.uint8([255, 0, 0]) * HOLE[..., None]),
        Image.fromarray(np.dstack([PICTURE, 255 * ~HOLE]).astype(np.uint8)),
    ],
)
def test_the_same_as_a_file(image, tmp_path):
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), HOLE)
    result = restore.inpaint(PICTURE, Image.open(tmp_path / "mask.png"), steps=1)
    assert not (result != PICTURE).any(axis=2)[~HOLE].any()


def test_photographs_are_refused_by_both(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "mask.png")
    with pytest.raises(UnreadableInput, match=r"mask\.png: .*photograph.*white on black"):
        read_mask(tmp_path / "mask.png")
    with pytest.raises(BadArgument, match=r"`mask`: .*photograph.*white on black"):
        restore.inpaint(PICTURE, PICTURE, steps=1)


def test_what_is_no_picture_is_refused():
    with pytest.raises(BadArgument, match="not a list"):
        restore.inpaint(PICTURE, HOLE.tolist(), steps=1)
    with pytest.raises(BadArgument, match="same size"):
        restore.inpaint(PICTURE, HOLE.T, steps=1)
    with pytest.raises(BadArgument, match="shape"):
        restore.inpaint(PICTURE, HOLE[0], steps=1)
