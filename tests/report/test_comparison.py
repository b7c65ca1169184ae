"""`--compare`: before and after side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.pictures import files, piece, pixels_16bit

from restore.photo.photograph import Photo
from restore.report.comparison import compare, strip

pytestmark = pytest.mark.usefixtures("light_network")

FAST = ["--steps", "2"]


def halves(path, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures left and right of the line, without captions."""
    sheet = np.asarray(Image.open(path)).astype(int)
    return sheet[:height, :width], sheet[:height, -width:]


def test_strip_of_an_enlarged_picture(command, picture, tmp_path):
    source = picture(size=(64, 48))
    target = tmp_path / "out.png"
    outcome = command("sr", source, target, "--scale", 2, *FAST, "--compare", "--json")
    assert outcome.code == 0, outcome.err
    strip_file = tmp_path / "out.compare.png"
    assert json.loads(outcome.out)["outputs"] == [str(target), str(strip_file)]
    sheet = Image.open(strip_file)
    assert sheet.width == 2 * 128 + 2
    assert sheet.height > 96  # captions
    before, after = halves(strip_file, 128, 96)
    assert np.array_equal(after, np.asarray(Image.open(target)))
    bicubic = np.asarray(Image.open(source).resize((128, 96), Image.BICUBIC)).astype(int)
    assert np.abs(before - bicubic)[4:-4, 4:-4].mean() < 1.5
    bar = np.asarray(sheet)[96:]
    assert len(np.unique(bar[:, :128])) > 2  # something is written in both
    assert len(np.unique(bar[:, -128:])) > 2


def test_both_halves_as_they_are_where_the_size_stays(command, picture, tmp_path):
    source = picture(size=(40, 30))
    target = tmp_path / "out.png"
    assert command("denoise", source, target, "--noise", 0.1, "--compare").code == 0
    before, after = halves(tmp_path / "out.compare.png", 40, 30)
    assert np.array_equal(before, np.asarray(Image.open(source)))
    assert np.array_equal(after, np.asarray(Image.open(target)))
    assert not np.array_equal(before, after)


def test_it_is_not_written_unasked_and_never_over_another_file(command, picture, tmp_path):
    source = picture()
    in_the_way = picture("out.compare.png", crop="b")
    before = files(tmp_path)
    outcome = command("denoise", source, tmp_path / "out.png", "--compare")
    assert outcome.code == 5
    assert str(in_the_way) in outcome.err
    assert files(tmp_path) == before
    assert command("denoise", source, tmp_path / "out.png").code == 0
    assert files(tmp_path)["out.compare.png"] == before["out.compare.png"]
    assert command("denoise", source, tmp_path / "out.png", "--compare", "--overwrite").code == 0
    assert files(tmp_path)["out.compare.png"] != before["out.compare.png"]


def test_a_strip_that_cannot_be_written_leaves_no_output(command, picture, tmp_path, monkeypatch):
    import restore.report.comparison

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(restore.report.comparison, "encoded_strip", fail)
    assert command("denoise", picture(), tmp_path / "out.png", "--compare").code == 15
    assert sorted(files(tmp_path)) == ["in.png"]


def test_every_picture_of_a_folder(command, picture, tmp_path):
    picture("in/a.png")
    picture("in/sub/b.jpg")
    assert command("denoise", tmp_path / "in", tmp_path / "out", "--compare").code == 0
    assert sorted(files(tmp_path / "out")) == [
        "a.compare.png",
        "a.png",
        "sub/b.compare.png",
        "sub/b.jpg",
    ]


def test_two_pictures_whose_strips_would_be_one(command, picture, tmp_path):
    picture("in/a.png")
    picture("in/a.jpg")
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--compare")
    assert outcome.code == 1
    assert "a.compare.png" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_measurement_that_is_no_picture_shows_its_pseudo_inverse(command, picture, tmp_path):
    command("degrade", picture(size=(32, 32)), tmp_path / "y.png", "--operator", "hadamard:0.5")
    outcome = command("solve", tmp_path / "y.npz", tmp_path / "out.png", *FAST, "--compare")
    assert outcome.code == 0, outcome.err
    before, after = halves(tmp_path / "out.compare.png", 32, 32)
    assert np.abs(before - np.asarray(Image.open(tmp_path / "y.png")).astype(int)).max() <= 1
    assert np.array_equal(after, np.asarray(Image.open(tmp_path / "out.png")))


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB;16"])
def test_other_kinds_of_pictures(command, picture, tmp_path, mode):
    assert command("denoise", picture(mode=mode), tmp_path / "out.png", "--compare").code == 0
    strip_file = Image.open(tmp_path / "out.compare.png")
    assert strip_file.mode == "RGB"
    before, _ = halves(tmp_path / "out.compare.png", 24, 16)
    if mode == "RGB;16":
        assert np.abs(before - pixels_16bit((24, 16))[..., ::-1] / 257).max() <= 0.51
    elif mode == "L":
        assert np.array_equal(before, np.asarray(piece().convert("L").convert("RGB")))
    else:
        assert np.array_equal(
            before[:, -1], np.asarray(piece().convert("RGB"))[:, -1]
        )  # opaque there
        assert np.abs(before[:8, 0] - 0.7 * 255).max() <= 1  # a dark square of the board
        assert np.abs(before[8:, 0] - 0.9 * 255).max() <= 1


def test_the_colour_profile_goes_along(command, picture, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    command("denoise", picture(icc_profile=profile), tmp_path / "out.png", "--compare")
    assert Image.open(tmp_path / "out.compare.png").info["icc_profile"] == profile


def test_captions_are_as_long_as_there_is_room():
    """A tiny picture has no captions, and no bar for them."""
    pixels = np.full((20, 20, 3), 0.5, np.float32)
    for width, is_written in ((20, False), (400, True)):
        wide = np.broadcast_to(pixels[:, :1], (20, width, 3))
        sheet = strip(compare(Photo(wide), Photo(wide)), "Denoising")
        assert (sheet.shape[0] > 20) == is_written
        line = sheet[:20, width : width + 2]
        assert set(np.unique(line)) == {0, 255}
