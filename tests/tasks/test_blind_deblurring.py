"""Deblurring with an estimated kernel, from Python and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.blurs import blurred

import restore
from operators import kernels
from restore.errors import BadArgument
from restore.methods.options import Options
from restore.restorer import restorer
from restore.tasks import Deblurring

SIDE = 96
DISK = kernels.disk(4)
SHAKE = kernels.curved_motion(15, seed=3)
TASK = Deblurring("auto", noise=0.01, kernel_size=13)
OPTIONS = Options(method="one-step")


def photo(kernel: np.ndarray, seed: int = 0, side: int = SIDE) -> torch.Tensor:
    return torch.from_numpy(blurred(kernel, side, seed)).float()


def test_an_estimated_kernel_restores_like_a_known_one() -> None:
    image = photo(DISK)
    result = restorer().restore(TASK, image, OPTIONS)
    (finding,) = result.report.kernels
    (kernel,) = result.kernels

    assert finding.applied
    assert result.report.operator == f"blur:{finding.kernel}:boundary=unknown"
    known = restorer().restore(Deblurring(kernel, noise=0.01), image, OPTIONS)
    assert torch.equal(result.mean, known.mean)
    assert float((result.mean - image).abs().mean()) > 0.01


def test_a_kernel_without_a_name_restores_like_the_same_from_an_array() -> None:
    image = photo(SHAKE, seed=2, side=192)
    task = Deblurring("auto:free-form", noise=0.01, kernel_size=13)
    result = restorer().restore(task, image, OPTIONS)
    (finding,), (kernel,) = result.report.kernels, result.kernels

    assert (finding.kernel, finding.applied) == ("free-form", True)
    assert result.report.operator == "free-form blur"
    known = restorer().restore(Deblurring(kernel, noise=0.01), image, OPTIONS)
    assert torch.equal(result.mean, known.mean)


def test_free_form_kernels_are_sought_only_if_asked_for() -> None:
    image = photo(SHAKE, seed=2, side=192)
    result = restorer().restore(TASK, image, OPTIONS)

    assert result.report.kernels[0].kernel != "free-form"


def test_a_sharp_picture_is_returned_as_it_is() -> None:
    image = photo(np.ones((1, 1)))
    result = restorer().restore(TASK, image, OPTIONS)

    assert torch.equal(result.mean, image)
    assert not result.report.kernels[0].applied
    assert (result.report.method, result.report.steps) == ("none", 0)


def test_samples_of_a_sharp_picture_are_the_picture() -> None:
    result = restorer().restore(TASK, torch.full((3, 20, 30), 0.5), Options(samples=3))
    assert len(result.samples) == 3
    assert torch.equal(result.mean, torch.full((3, 20, 30), 0.5))
    assert float(result.std.max()) == 0


def test_pictures_of_a_batch_are_restored_as_each_alone() -> None:
    images = [photo(DISK), photo(np.ones((1, 1)), 1), photo(kernels.motion(9, 0), 2)]
    alone = [restorer().restore(TASK, image, OPTIONS) for image in images]
    together = restorer().restore_together(TASK, images, OPTIONS)
    stacked = restorer().restore(TASK, torch.stack(images), OPTIONS)

    for index, one in enumerate(alone):
        assert torch.equal(together[index].mean, one.mean)
        assert torch.equal(stacked.mean[index], one.mean)
        assert stacked.report.kernels[index] == one.report.kernels[0]
    assert restorer().pictures_at_once(TASK, (SIDE, SIDE), 8) == 1


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (1, SIDE), (SIDE, SIDE, 4)])
def test_every_kind_of_picture_keeps_its_shape(shape) -> None:
    image = np.full(shape, 128, np.uint8)
    result = restore.deblur(image, kernel="auto", method="one-step")
    assert np.array_equal(result, image)


@pytest.mark.parametrize("size", [2, 0, -5, 100])
def test_kernel_sizes_out_of_range_are_refused(size) -> None:
    with pytest.raises(BadArgument, match=f"`kernel_size`={size}: must be between 3 and 99"):
        Deblurring("auto", kernel_size=size).check()


def test_other_estimations_are_refused_with_those_there_are() -> None:
    with pytest.raises(BadArgument, match=r"`kernel`=auto:fre: .* auto, .*, and auto:free-form"):
        Deblurring("auto:fre").check()


def test_options_of_the_estimation_need_it() -> None:
    for options in ({"kernel_size": 9}, {"write_kernel": True}):
        with pytest.raises(BadArgument, match="is for `kernel`=auto"):
            Deblurring("gaussian:2", **options).check()


def test_test_images_need_a_stated_kernel() -> None:
    with pytest.raises(BadArgument, match="does not say how test images are blurred"):
        Deblurring("auto").degradation((3, 32, 32))


def test_a_folder_run_writes_the_kernels(command, tmp_path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, kernel in (("blurred", DISK), ("sharp", np.ones((1, 1)))):
        pixels = (blurred(kernel, SIDE) * 255).round().astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(source / f"{name}.png")

    options = ["--kernel", "auto", "--kernel-size", 14, "--write-kernel"]
    done = command("deblur", *options, "--method", "one-step", "--json", source, target)
    assert done.code == 0, done.err
    records = {
        line["input"].rpartition("/")[2]: line for line in map(json.loads, done.out.splitlines())
    }

    found = records["blurred.png"]["kernels"][0]
    assert found["applied"]
    kernel = kernels.from_file(target / "blurred.kernel.npy")
    assert tuple(found["size"]) == kernel.shape
    assert float((kernel * np.pad(DISK, (kernel.shape[0] - 9) // 2)).sum()) > 0.9 * (DISK**2).sum()
    assert str(target / "blurred.kernel.npy") in records["blurred.png"]["outputs"]

    before, after = (np.asarray(Image.open(folder / "sharp.png")) for folder in (source, target))
    assert np.array_equal(before, after)
    assert any("left alone" in note for note in records["sharp.png"]["notes"])

    lines = map(json.loads, (target / "restore.jsonl").read_text().splitlines())
    recorded = {line["input"]: line["kernels"] for line in lines if "input" in line}
    assert recorded == {name: record["kernels"] for name, record in records.items()}

    again = command("deblur", *options, "--method", "one-step", source, target)
    assert again.code == 6, again.err


def saved(pictures: list[np.ndarray], path: Path, **options: object) -> Path:
    """Pictures [3, H, W] in [0, 1] as a file of 8 bits, a page each."""
    first, *others = (
        Image.fromarray((picture * 255).round().astype(np.uint8).transpose(1, 2, 0))
        for picture in pictures
    )
    first.save(path, **options, **({"save_all": True, "append_images": others} if others else {}))
    return path


def test_pages_and_jpegs_of_a_folder_have_kernels_of_their_own(command, tmp_path) -> None:
    """And the report says what was found in each."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    saved([blurred(DISK, SIDE), blurred(np.ones((1, 1)), SIDE)], source / "scan.tif")
    saved([blurred(DISK, SIDE)], source / "photo.jpg", quality=90)

    options = ["--kernel", "auto", "--kernel-size", 13, "--write-kernel", "--pages"]
    report = tmp_path / "report.html"
    done = command(
        "deblur", *options, "--method", "one-step", "--json", "--report", report, source, target
    )
    assert done.code == 0, done.err
    records = list(map(json.loads, done.out.splitlines()))
    found = {(Path(one["input"]).name, one.get("page")): one["kernels"][0] for one in records}
    applied = {where: finding["applied"] for where, finding in found.items()}
    assert applied == {("photo.jpg", None): True, ("scan.tif", 1): True, ("scan.tif", 2): False}
    for where in (("photo.jpg", None), ("scan.tif", 1)):
        family, radius = found[where]["kernel"].split(":")
        assert family == "disk"
        assert float(radius) == pytest.approx(4, abs=0.2)

    names = ("photo.kernel.npy", "scan.page1.kernel.npy", "scan.page2.kernel.npy")
    assert all((target / name).is_file() for name in names)
    page = report.read_text()
    assert all(finding["words"] in page for finding in found.values())
