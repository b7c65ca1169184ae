"""Inpainting of scratches that are found in the picture, from Python and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restore
from restore.errors import BadArgument
from restore.jobs.companions import Companions
from restore.methods.options import Options
from restore.restorer import restorer
from restore.tasks import Inpainting

SIDE = 64
TASK = Inpainting("auto:scratches")
OPTIONS = Options(method="ddrm", steps=2)


def clean() -> np.ndarray:
    columns = np.linspace(0.3, 0.6, SIDE)[:, None] + np.array([0.0, 0.01, 0.02])
    return np.broadcast_to(columns, (SIDE, SIDE, 3)).astype(np.float32)


def scratched() -> np.ndarray:
    picture = clean().copy()
    picture[6:58, 30:32] = 1.0
    return picture


def test_a_scratch_is_filled_as_by_its_mask() -> None:
    result = restorer().restore(TASK, scratched(), OPTIONS)
    (mask,) = result.masks
    (damage,) = result.report.damage

    assert damage.applied
    assert damage.scratches == 1
    assert mask[6:58, 30:32].all()
    assert np.array_equal(result.mean[~mask], scratched()[~mask])
    assert np.abs(result.mean - clean())[mask].mean() < 0.1
    by_mask = restorer().restore(Inpainting(mask), scratched(), OPTIONS)
    assert np.array_equal(result.mean, by_mask.mean)


def test_a_clean_picture_is_returned_as_it_is() -> None:
    for task in (TASK, Inpainting("auto:scratches", noise=0.02, dilate=2)):
        result = restorer().restore(task, clean(), Options(samples=2))
        assert np.array_equal(result.mean, clean())
        assert result.masks == (None,)
        assert result.report.method == "none"
        assert not result.report.damage[0].applied


def test_the_mask_grows_by_dilate() -> None:
    grown = Inpainting("auto:scratches", dilate=3, feather=1.0)
    masks = [restorer().restore(task, scratched(), OPTIONS).masks[0] for task in (TASK, grown)]
    assert masks[1][masks[0]].all()
    assert masks[1].sum() > masks[0].sum()


def test_pictures_of_a_batch_are_restored_as_each_alone() -> None:
    images = [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in (scratched(), clean())]
    stacked = restorer().restore(TASK, torch.stack(images), OPTIONS)
    for index, image in enumerate(images):
        assert torch.equal(stacked.mean[index], restorer().restore(TASK, image, OPTIONS).mean)
    assert restorer().pictures_at_once(TASK, (SIDE, SIDE), 8) == 1


@pytest.mark.parametrize("kind", ["L", "LA", "RGBA", "uint16"])
def test_every_kind_of_picture_keeps_its_kind(kind: str) -> None:
    eight = np.rint(255 * scratched()).astype(np.uint8)
    if kind == "uint16":
        image = eight[..., 0].astype(np.uint16) * 257
        found = restore.inpaint(image, "auto:scratches", method="ddrm", steps=2)
        assert found.dtype == np.uint16
        assert found.shape == image.shape
        assert found[20, 30] < 60000 < image[20, 30]
        return

    image = Image.fromarray(eight).convert(kind)
    found = restore.inpaint(image, "auto:scratches", method="ddrm", steps=2)
    assert found.mode == kind
    assert found.getpixel((30, 20)) != image.getpixel((30, 20))
    assert found.getpixel((5, 20)) == image.getpixel((5, 20))


@pytest.mark.parametrize("shape", [(1, SIDE), (SIDE, 1, 3), (4, 4)])
def test_tiny_pictures_are_left_alone(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 100, np.uint8)
    assert np.array_equal(restore.inpaint(image, "auto:scratches"), image)


def test_options_of_a_given_mask_are_refused() -> None:
    for name, value in {"invert_mask": True, "fit_mask": True, "threshold": 0.2}.items():
        with pytest.raises(BadArgument, match=f"`{name}`: is for a mask that is given"):
            Inpainting("auto:scratches", **{name: value}).check()
    with pytest.raises(BadArgument, match="`mask`=auto:dust: must be a picture"):
        Inpainting("auto:dust").check()


def test_no_mask_is_looked_for_beside_the_picture() -> None:
    assert not TASK.takes_companion
    assert Companions(None, needed=TASK.takes_companion).of(Path("a.png"), Path("a.png")) is None


def test_a_folder_run_writes_the_masks(command, tmp_path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, picture in (("scratched", scratched()), ("clean", clean())):
        Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(source / f"{name}.png")
    (tmp_path / "mine.toml").write_text('[inpaint]\nmask = "auto:scratches"\nsteps = 2\n')

    done = command("inpaint", "--config", tmp_path / "mine.toml", "--json", source, target)
    assert done.code == 0, done.err
    records = {Path(r["input"]).name: r for r in map(json.loads, done.out.splitlines())}

    mask = np.asarray(Image.open(target / "scratched.mask.png"))
    before, after = (np.asarray(Image.open(f / "scratched.png")) for f in (source, target))
    assert mask.shape == (SIDE, SIDE)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert not np.array_equal(before, after)
    assert records["scratched.png"]["outputs"][-1] == str(target / "scratched.mask.png")
    assert records["scratched.png"]["damage"][0]["scratches"] == 1
    assert records["scratched.png"]["notes"] == [records["scratched.png"]["damage"][0]["words"]]
    assert not (target / "clean.mask.png").exists()
    assert np.array_equal(*(np.asarray(Image.open(f / "clean.png")) for f in (source, target)))

    again = command("inpaint", "--mask", "auto:scratches", "--steps", 2, source, target)
    assert again.code == 6
    assert "2 pictures" in again.err


def test_unknown_words_of_the_mask_are_refused(command, tmp_path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    done = command("inpaint", "--mask", "auto:dust", tmp_path / "a.png")
    assert done.code == 1
    assert "--mask auto:dust: finds nothing; there is auto:scratches" in done.err
