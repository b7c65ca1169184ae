"""JPEG restoration and other tasks behind the JPEG of a file, from Python and by the command."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import piece

import restore
from restore.errors import BadArgument, UnreadableInput
from restore.methods.options import Options
from restore.photo.photograph import read_photo
from restore.restorer import Restorer, restorer
from restore.tasks import Deblurring, Dejpeg, Denoising, Solving, SuperResolution
from restore.tasks.compression import GONE

ORIGINAL = piece((96, 80)).convert("RGB")
FEW = Options(steps=2)


def saved(folder: Path, quality: int = 20, name: str = "in.jpg", **options) -> Path:
    path = folder / name
    ORIGINAL.save(path, quality=quality, **options)
    return path


def psnr(a: Image.Image | np.ndarray, b: Image.Image = ORIGINAL) -> float:
    error = np.asarray(a, float) - np.asarray(b.convert("RGB"), float)
    return float(-10 * np.log10(np.square(error).mean() / 255**2))


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_it_is_nearer_to_the_original_and_still_the_file(tmp_path: Path, sampling: str) -> None:
    image = Image.open(saved(tmp_path, subsampling=sampling))
    result = restorer().run(Dejpeg(), image, steps=4)

    assert psnr(result.mean) > psnr(image) + 1
    assert result.report.jpeg == f"quality 20, {sampling}"
    assert result.report.inside is not None
    assert result.report.inside > 0.998
    again = tmp_path / "again.jpg"
    result.mean.save(again, quality=20, subsampling=sampling)
    first, second = (read_photo(path, coefficients=True).stored for path in (image.filename, again))
    same = [
        (a.coefficients == b.coefficients).mean()
        for a, b in zip(first.components, second.components, strict=True)
    ]
    assert min(same) > 0.995


def test_a_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    ORIGINAL.convert("L").save(path, quality=15)
    result = restorer().run(Dejpeg(), Image.open(path), steps=3)
    assert result.mean.mode == "L"
    assert result.report.jpeg == "quality 15, grey"
    grey = ORIGINAL.convert("L")
    assert psnr(result.mean.convert("RGB"), grey) > psnr(Image.open(path).convert("RGB"), grey)


def test_files_with_next_to_no_error(tmp_path: Path) -> None:
    """An empty picture, and the finest tables: levels of noise begin above the model's lowest."""
    white = Image.new("RGB", (24, 16), "white")
    for picture, mode, quality in [(white, "RGB", 50), (white, "L", 95), (ORIGINAL, "L", 100)]:
        path = tmp_path / "in.jpg"
        picture.convert(mode).save(path, quality=quality)
        result = restorer().restore(Dejpeg(), Image.open(path), FEW)
        moved = np.asarray(result.mean, float) - np.asarray(Image.open(path), float)
        assert np.square(moved).mean() < 1.5


def test_an_upright_picture_of_a_turned_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(tmp_path, exif=exif)
    photo = read_photo(turned, coefficients=True)
    result = restorer().restore(Dejpeg(), photo, FEW)
    assert result.mean.shape == (96, 80, 3)
    plain = restorer().restore(
        Dejpeg(), read_photo(saved(tmp_path, name="plain.jpg"), coefficients=True), FEW
    )
    assert result.report.inside == pytest.approx(plain.report.inside, abs=0.01)


def test_pictures_of_a_quality_that_is_said(tmp_path: Path) -> None:
    """Pixels of a JPEG that became another file, against the file itself."""
    path = saved(tmp_path)
    pixels = np.asarray(Image.open(path))
    said = restore.dejpeg(pixels, saved_quality=20, steps=4)
    assert psnr(said) > psnr(pixels) + 1
    with pytest.raises(BadArgument, match="`saved_quality` is missing"):
        restore.dejpeg(pixels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"saved_quality": 0}, "from 1 to 100"),
        ({"saved_quality": 101}, "from 1 to 100"),
        ({"subsampling": "4:2:0"}, "is for `saved_quality`"),
        ({"saved_quality": 50, "subsampling": "4:1:1"}, "use 4:2:0, 4:4:4"),
    ],
)
def test_invalid_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        restore.dejpeg(ORIGINAL, **options)


TASKS = [
    SuperResolution(2),
    Denoising(0.02),
    Deblurring("gaussian:1", noise=0.01),
    Solving("down:area:2"),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_other_tasks_use_the_file(task: object, tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    used = restorer().restore(task, image, FEW)
    assert used.report.jpeg == "quality 20, 4:2:0"
    assert used.report.operator.endswith("jpeg")
    assert used.report.inside > 0.5

    off = restorer().restore(replace(task, jpeg="off"), image, FEW)
    assert off.report.jpeg is None
    assert off.report.inside is None
    pixels = restorer().restore(task, np.asarray(image), FEW)
    assert "jpeg" not in pixels.report.operator
    assert not np.array_equal(np.asarray(used.mean), np.asarray(off.mean))


def test_a_fine_jpeg_is_taken_as_it_is(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path, quality=100, subsampling="4:4:4"))
    assert restorer().restore(SuperResolution(2), image, FEW).report.jpeg is None
    assert restorer().restore(Dejpeg(), image, FEW).report.inside > 0.9


def test_a_picture_that_was_changed_has_no_file(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    image.load()
    image.paste((255, 0, 0), (10, 10, 40, 40))
    assert restorer().restore(SuperResolution(2), image, FEW).report.jpeg is None


def from_memory(quality: int) -> Image.Image:
    file = io.BytesIO()
    ORIGINAL.save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_images_from_memory_are_files_as_often_as_they_are_asked(tmp_path: Path) -> None:
    task = SuperResolution(2)
    images = [from_memory(20), from_memory(60)]
    together = restorer().restore_together(task, images, FEW)
    assert [one.report.jpeg for one in together] == ["quality 20, 4:2:0", "quality 60, 4:2:0"]

    file = restorer().restore(task, Image.open(saved(tmp_path)), FEW)
    alone = restorer().restore(task, images[0], FEW)
    assert np.array_equal(np.asarray(alone.mean), np.asarray(file.mean))


def test_a_jpeg_without_its_file_is_told_of() -> None:
    image, fine = from_memory(20), from_memory(100)
    image.load()
    fine.load()
    told: list[str] = []
    model = Restorer(notice=told.append)
    task = SuperResolution(2)
    model.restore(task, fine, FEW)
    model.restore(replace(task, jpeg="off"), image, FEW)
    model.restore(task, image, Options("ddrm", steps=2))
    assert told == []

    result = model.restore(task, image, FEW)
    assert result.report.jpeg is None
    model.restore_together(task, [image, image], FEW)
    assert told == [GONE, GONE]
    with pytest.raises(BadArgument, match="or it was changed, or loaded from memory, since"):
        model.restore(Dejpeg(), image, FEW)


def test_neither_auto_nor_off() -> None:
    with pytest.raises(BadArgument, match="`jpeg`=on: must be auto or off"):
        restore.sr(ORIGINAL, jpeg="on")


def test_a_batch_of_files_and_pixels(tmp_path: Path) -> None:
    images = [read_photo(saved(tmp_path, q, f"{q}.jpg"), coefficients=True) for q in (15, 60)]
    ORIGINAL.save(tmp_path / "c.png")
    images.append(read_photo(tmp_path / "c.png"))
    task = SuperResolution(2)
    together = restorer().restore_together(task, images, FEW)
    assert [one.report.jpeg for one in together] == [
        "quality 15, 4:2:0", "quality 60, 4:2:0", None,
    ]  # fmt: skip
    alone = restorer().restore(task, images[1], FEW)
    assert torch.equal(torch.tensor(together[1].mean), torch.tensor(alone.mean))


def test_the_command_says_what_it_used_and_keeps_the_result(command, tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    out = tmp_path / "out.jpg"
    done = command("dejpeg", path, out, "--steps", 2, "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["jpeg"] == "quality 20, 4:2:0"
    assert record["inside"] > 0.998
    [note] = record["notes"]
    assert note.startswith("saved as a JPEG of quality 20, 4:2:0: ")
    assert path.read_bytes() == before
    # with the tables of the input it would be the input again
    assert psnr(np.asarray(Image.open(out)), Image.open(path)) < 45
    assert np.mean(Image.open(out).quantization[0]) < 10


def test_the_command_names_its_option(command, tmp_path: Path) -> None:
    done = command("sr", "--scale", 2, "--steps", 2, saved(tmp_path), tmp_path / "out.png")
    assert done.code == 0, done.err
    assert "--jpeg off takes its pixels as they are" in done.err
    assert done.err.count("saved as a JPEG") == 1


def test_no_advice_names_an_option_that_the_task_lacks(command, tmp_path: Path) -> None:
    path = saved(tmp_path)
    done = command("dejpeg", "--method", "ddrm", path, tmp_path / "out.png")
    assert done.code == 1
    assert "these can" in done.err or "without one work" in done.err
    assert "jpeg`" not in done.err

    done = command("auto", "--steps", 1, path, tmp_path / "auto.png")
    assert done.code == 0, done.err
    assert done.err.count("saved as a JPEG of quality 20") == 2
    assert "takes its pixels as they are" not in done.err


def test_a_file_without_coefficients_is_named(command, tmp_path: Path) -> None:
    """A PNG, and a JPEG with a step of 0, which once gave pixels that were not finite."""
    ORIGINAL.save(tmp_path / "a.png")
    data = saved(tmp_path, name="b.jpg").read_bytes()
    table = data.index(b"\xff\xdb") + 5
    (tmp_path / "b.jpg").write_bytes(data[:table] + b"\0" + data[table + 1 :])
    for name in ("a.png", "b.jpg"):
        done = command("dejpeg", tmp_path / name, "--steps", 1)
        assert done.code == 1
        assert done.err.startswith(f"restore: error: {tmp_path / name}: --saved-quality is missing")
        assert done.err.count("\n") == 1

    image = Image.open(tmp_path / "b.jpg")
    large = restorer().restore(SuperResolution(2, noise="auto"), image, FEW)
    assert large.report.jpeg is None
    assert np.isfinite(large.report.consistency)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UnreadableInput) as refused:
        restore.dejpeg(Image.open(path))
    reason = "the image cannot be decoded: the file ends before its picture does"
    assert str(refused.value) == f"{path}: {reason}"


def test_a_folder_of_jpegs(command, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for quality in (10, 30):
        saved(folder, quality, f"{quality}.jpg")
    ORIGINAL.save(folder / "no.png")
    done = command("dejpeg", "--steps", 2, folder, out)
    assert done.code == 10
    assert "no.png: --saved-quality is missing" in done.err
    assert sorted(path.name for path in out.glob("*.jpg")) == ["10.jpg", "30.jpg"]


@pytest.mark.parametrize(
    "options",
    [
        Options(method="ddrm", steps=2),
        Options(method="one-step"),
        Options(sampler="ddim", steps=2),
    ],
    ids=["ddrm", "one-step", "sampler"],
)
def test_methods_without_intervals_take_the_pixels(tmp_path: Path, options: Options) -> None:
    image = Image.open(saved(tmp_path))
    found = restorer().restore(SuperResolution(2), image, options)
    assert found.report.jpeg is None
    pixels = restorer().restore(SuperResolution(2), np.asarray(image), options)
    assert np.array_equal(np.asarray(found.mean), pixels.mean)


def test_a_cascade_takes_the_pixels(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    task = SuperResolution(4, cascade=(2, 2))
    assert restorer().restore(task, image, Options(steps=1)).report.jpeg is None


def test_asked_for_with_a_method_that_cannot(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    with pytest.raises(BadArgument, match=r"needs an operator with an SVD.*diffpir.*or `jpeg`=off"):
        restore.sr(image, 2, jpeg="auto", method="ddrm")


def test_an_evaluation_saves_its_test_images(tmp_path: Path) -> None:
    from restore.evaluate import Settings, evaluate

    ORIGINAL.save(tmp_path / "a.png")
    settings = Settings("dejpeg", methods=("input", "tv", "dpir"), steps=2)
    [picture] = evaluate(tmp_path, settings).pictures
    scores = {name: score.psnr for name, score in picture.scores.items()}
    assert scores["input"] < scores["tv"] < scores["dpir"]

    with pytest.raises(BadArgument, match="dejpeg has no noise"):
        evaluate(tmp_path, replace(settings, noise=0.1))


@pytest.mark.parametrize("task", [SuperResolution(2), Dejpeg()], ids=lambda task: task.name)
def test_fidelity_is_a_fraction_of_fresh_noise(task: object, tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    sharp, near, again = (
        restorer().run(task, image, steps=4, fidelity=fidelity, eta=eta)
        for fidelity, eta in ((0.0, None), (1.0, None), (None, 1.0))
    )
    assert sharp.report.jpeg == near.report.jpeg == "quality 20, 4:2:0"
    assert not np.array_equal(np.asarray(sharp.mean), np.asarray(near.mean))
    assert np.array_equal(np.asarray(near.mean), np.asarray(again.mean))


def test_a_blur_has_no_such_fraction(tmp_path: Path) -> None:
    image = Image.open(saved(tmp_path))
    found = restorer().run(Deblurring("gaussian:1", noise=0.02), image, steps=2, fidelity=0.5)
    assert found.report.jpeg is None
