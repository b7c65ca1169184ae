"""Masks of other sizes, of the other meaning, and found beside their pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import piece

from restore.errors import BadArgument
from restore.tasks import Inpainting

IMAGE = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(6, 9, dtype=torch.bool)
MASK[1:3, 2:7] = True


def filled(task: Inpainting, image: torch.Tensor = IMAGE) -> torch.Tensor:
    """Where a task fills, [H, W]."""
    keep = task.problem(image).keep
    assert keep is not None
    return keep[0, 0] == 0


@pytest.mark.parametrize(
    "mask",
    [~MASK, (~MASK).numpy(), Image.fromarray((~MASK).numpy()), (~MASK).numpy().astype(float)],
)
def test_an_inverted_mask_fills_what_is_black(mask) -> None:
    assert torch.equal(filled(Inpainting(mask, invert_mask=True)), MASK)
    assert torch.equal(filled(Inpainting(mask)), ~MASK)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_larger_mask_is_fitted_exactly(factor: int) -> None:
    large = MASK.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    assert torch.equal(filled(Inpainting(large, fit_mask=True)), MASK)
    assert torch.equal(filled(Inpainting(~large, fit_mask=True, invert_mask=True)), MASK)


@pytest.mark.parametrize("size", [(3, 9), (6, 3), (1, 1), (5, 7)])
def test_a_smaller_mask_is_enlarged_by_nearest_neighbour(size: tuple[int, int]) -> None:
    small = torch.zeros(size, dtype=torch.bool)
    small[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = True
    as_picture = Image.fromarray(small.numpy()).resize((9, 6), Image.Resampling.NEAREST)
    expected = torch.from_numpy(np.array(as_picture))
    if bool(expected.all()):
        with pytest.raises(BadArgument, match="white everywhere"):
            filled(Inpainting(small, fit_mask=True))
        return
    assert torch.equal(filled(Inpainting(small, fit_mask=True)), expected)


def test_a_batch_of_masks_is_fitted() -> None:
    masks = torch.stack([MASK, ~MASK])[:, None].float().repeat_interleave(2, 2)
    problem = Inpainting(masks, fit_mask=True).problem(IMAGE.expand(2, -1, -1, -1))
    assert problem.keep is not None
    assert torch.equal(problem.keep[:, 0] == 0, torch.stack([MASK, ~MASK]))


@pytest.mark.parametrize(
    ("mask", "options", "said"),
    [
        (MASK[:, :8], {}, "8x6 pixels and the picture 9x6; .* `fit_mask` resizes"),
        (MASK | True, {}, "white everywhere.*white = fill"),
        (MASK & False, {}, "black everywhere.*white = fill"),
        (MASK | True, {"invert_mask": True}, "white everywhere: there is nothing.*black = fill"),
        (MASK & False, {"invert_mask": True}, "black everywhere: no pixel.*black = fill"),
    ],
)
def test_what_is_refused(mask, options: dict, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        Inpainting(mask, **options).problem(IMAGE)


def test_growing_happens_after_fitting() -> None:
    mask = torch.zeros(12, 18, dtype=torch.bool)
    mask[4:6, 8:10] = True
    grown = filled(Inpainting(mask, fit_mask=True, dilate=1))
    assert grown.nonzero().min(0).values.tolist() == [1, 3]
    assert grown.nonzero().max(0).values.tolist() == [3, 5]


def test_records_name_only_what_is_switched_on() -> None:
    assert "fit_mask" not in Inpainting(MASK).given()
    assert Inpainting(MASK, invert_mask=True).given()["invert_mask"] is True


def test_a_mask_beside_its_picture_through_the_command(command, picture, tmp_path) -> None:
    path = picture()
    mask = np.full((8, 12), 255, np.uint8)
    mask[2:4, 3:6] = 0
    Image.fromarray(mask).save(tmp_path / "in_mask.png")
    (tmp_path / "mine.toml").write_text("[inpaint]\ninvert-mask = true\n")
    words = ("inpaint", path, tmp_path / "out.png", "--steps", 2)
    assert "--fit-mask resizes the mask" in command(*words, "--invert-mask").err
    assert command(*words, "--fit-mask", "--config", tmp_path / "mine.toml").code == 0
    changed = np.asarray(Image.open(tmp_path / "out.png")) != np.asarray(piece((24, 16)))
    assert changed[4:8, 6:12].any()
    changed[4:8, 6:12] = False
    assert not changed.any()


def test_a_mask_that_is_neither_given_nor_beside(command, picture, tmp_path) -> None:
    outcome = command("inpaint", picture())
    assert outcome.code == 1
    assert "Missing option --mask: there is no in_mask.png beside" in outcome.err
    assert "Missing option --mask: stdin brings" in command("inpaint", "-").err
