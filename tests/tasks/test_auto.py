"""Looking at pictures, and undoing what is found."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from support.blurs import blurred

import restore
from operators import kernels
from restore.errors import BadArgument
from restore.findings.noise import find_noise, noise_of
from restore.methods.options import Options
from restore.restorer import restorer
from restore.tasks import Automatic

SIDE = 96
OPTIONS = Options(method="one-step")


def photo(kernel: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A picture with edges, blurred or sharp, and hardly any noise, [SIDE, SIDE, 3]."""
    picture = blurred(np.ones((1, 1)) if kernel is None else kernel, SIDE, seed)
    return np.clip(picture, 0, 1).transpose(1, 2, 0).astype(np.float32)


def noisy(sigma: float = 0.06) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(SIDE, SIDE, 3))
    smooth = np.broadcast_to(np.linspace(0.3, 0.7, SIDE)[:, None], (SIDE, SIDE, 3))
    return (smooth + sigma * noise).clip(0, 1).astype(np.float32)


def shown(image: object) -> dict[str, bool]:
    return {one.about: one.treated for one in restore.examine(image)}


@pytest.mark.parametrize("sigma", [0.02, 0.06, 0.1])
def test_the_noise_of_a_texture_is_that_added_to_it(sigma: float) -> None:
    rows, columns = np.mgrid[:200, :200]
    texture = 0.5 + 0.2 * np.sin(rows / 2) * np.cos(columns / 3)
    found = noise_of(texture + sigma * np.random.default_rng(0).normal(size=texture.shape))
    assert found == pytest.approx(sigma, rel=0.05)
    assert noise_of(texture) < 0.002


def test_noise_is_removed() -> None:
    result = restorer().restore(Automatic(), noisy(), OPTIONS)
    clean = np.broadcast_to(np.linspace(0.3, 0.7, SIDE)[:, None], (SIDE, SIDE, 3))

    assert [one.about for one in result.report.findings if one.treated] == ["noise"]
    assert result.report.noise == pytest.approx(0.06, rel=0.1)
    assert result.report.task == "auto"
    assert np.abs(result.mean - clean).mean() < np.abs(noisy() - clean).mean() / 2


@pytest.mark.parametrize("least", [48, 90])
def test_what_is_transparent_does_not_count(least: int) -> None:
    """Half of a picture, or all but a strip that is too small to tell."""
    image = np.dstack([noisy(), np.ones((SIDE, SIDE))]).astype(np.float32)
    image[:least, :, 3] = 0
    image[:least, :, :3] = 0.2
    (noise, *_) = restore.examine(image)
    assert noise.treated == (least == 48)
    if noise.treated:
        assert float(noise.value) == pytest.approx(0.06, rel=0.1)


def test_a_clear_blur_is_undone() -> None:
    image = photo(kernels.motion(9, 0))
    result = restorer().restore(Automatic(), image, OPTIONS)
    assert shown(image)["blur"]
    assert result.report.operator.startswith("blur:")


def test_a_coarse_jpeg_is_undone() -> None:
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * photo()).astype(np.uint8)).save(file, "JPEG", quality=15)
    image = Image.open(file)
    result = restorer().restore(Automatic(), image, Options(steps=2))

    assert [one.about for one in result.report.findings if one.treated] == ["jpeg"]
    assert result.report.jpeg == "quality 15, 4:2:0"
    assert result.report.inside > 0.9

    again = restorer().restore(Automatic(), image, Options(steps=2))
    assert shown(image)["jpeg"]
    assert np.array_equal(np.asarray(again.mean), np.asarray(result.mean))


def test_a_jpeg_is_mentioned_where_the_method_cannot_undo_it() -> None:
    """It once passed for a JPEG whose file is lost."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * photo()).astype(np.uint8)).save(file, "JPEG", quality=15)
    opened = Automatic().opened(Image.open(file))
    findings, task = Automatic().of_file(opened.stored, usable=False).examined(opened.color)
    assert task is None
    assert [one.words for one in findings if one.about == "jpeg"] == [
        "saved as a JPEG of quality 15, 4:2:0, which is left as it is: `method` cannot undo it"
    ]


def test_a_jpeg_whose_file_is_gone_is_one() -> None:
    """Its tables are of no quality of libjpeg's scale, by which its pixels could show it."""
    file = io.BytesIO()
    pixels = np.rint(255 * photo()).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", qtables=[[30] * 64, [30] * 64])
    assert shown(Image.open(file))["jpeg"]

    image = Image.open(file)
    image.load()  # Pillow gives the file up
    words = [one.words for one in restore.examine(image) if one.about == "jpeg"]
    assert words == ["saved as a JPEG whose coefficients cannot be used, so it is left as it is"]
    words = [one.words for one in restore.examine(pixels) if one.about == "jpeg"]
    assert words == ["no JPEG compression"]


@pytest.mark.parametrize("shape", [(1, 40), (SIDE, SIDE), (5, 5, 3), (40, 40, 4)])
def test_constant_pictures_come_back_as_they_were(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 77, np.uint8)
    assert np.array_equal(restore.auto(image), image)
    assert not any(shown(image).values())


def test_drawings_come_back_as_they_were() -> None:
    drawing = np.full((SIDE, SIDE, 3), 255, np.uint8)
    drawing[10:80:7, 10:80] = 0
    drawing[20:70, 30:60:5] = (200, 0, 0)
    assert np.array_equal(restore.auto(drawing), drawing)


@pytest.mark.parametrize("ink", [0, 120])
def test_text_has_no_noise(ink: int) -> None:
    """Also where each block of it has letters."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    for line in range(8):
        ImageDraw.Draw(page).text((2, 12 * line), "The quick brown fox", fill=(ink, ink, ink))
    assert not any(shown(np.asarray(page)).values())


def test_noise_on_white_is_noise() -> None:
    paper = 1 + 0.1 * np.random.default_rng(0).normal(size=(SIDE, SIDE))
    assert shown(paper.clip(0, 1).astype(np.float32))["noise"]


def test_hidden_pixels_are_no_drawing() -> None:
    image = noisy().transpose(2, 0, 1)
    known = np.ones((SIDE, SIDE), bool)
    known[:40] = False
    image[:, :40] = 0.5
    assert find_noise(image, known)[1].treated


def test_pictures_of_a_batch_are_judged_one_by_one() -> None:
    images = [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in (noisy(), photo())]
    batch = restorer().restore(Automatic(), torch.stack(images), OPTIONS)
    assert torch.equal(batch.mean[1], images[1])
    assert not torch.equal(batch.mean[0], images[0])
    assert restorer().pictures_at_once(Automatic(), (SIDE, SIDE), 8) == 1


def test_test_images_need_another_task() -> None:
    with pytest.raises(BadArgument, match="does not say how test images are degraded"):
        Automatic().degradation((3, 32, 32))


def test_a_dry_run_says_what_a_folder_shows(command, tmp_path) -> None:
    for name, picture in (("noisy", noisy()), ("clean", photo())):
        Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(tmp_path / f"{name}.png")

    done = command("auto", "--dry-run", "--json", tmp_path)
    assert done.code == 0, done.err
    records = {
        line["input"].rpartition("/")[2]: line
        for line in map(json.loads, done.out.split("\n")[:-1])
    }
    treated = {n: [f["about"] for f in r["findings"] if f["treated"]] for n, r in records.items()}
    assert treated == {"noisy.png": ["noise"], "clean.png": []}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.png", "noisy.png"]

    (tmp_path / "a.png").write_bytes((tmp_path / "clean.png").read_bytes()[:200])
    done = command("auto", "--dry-run", "--json", tmp_path)
    assert done.code == 10
    assert [json.loads(line)["status"] for line in done.out.split("\n")[:-1]] == [
        "failed",
        "planned",
        "planned",
    ]
    assert f"1 of 3 pictures failed: {tmp_path / 'a.png'}" in done.err
    assert "\n2 to restore, 1 that cannot be read; nothing was done (--dry-run)" in done.err
    (tmp_path / "a.png").unlink()

    done = command("auto", "--method", "one-step", tmp_path, tmp_path / "out")
    assert done.code == 0, done.err
    assert "which is removed" in done.err + done.out
    before, after = (np.asarray(Image.open(f / "clean.png")) for f in (tmp_path, tmp_path / "out"))
    assert np.array_equal(before, after)


def test_a_small_blur_is_mentioned_alone(monkeypatch) -> None:
    from restore.blind.estimate import Estimate
    from restore.blind.estimate import Finding as Kernel
    from restore.findings import blur

    found = Estimate(kernels.disk(1), Kernel("disk:1", (3, 3), "", 200.0, True, ""))
    monkeypatch.setattr(blur, "estimate_kernel", lambda *_, **__: found)
    finding = blur.find_blur(photo().transpose(2, 0, 1), 0.01)
    assert not finding.treated
    assert "perhaps blurred by disk:1" in finding.words
