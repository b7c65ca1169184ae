"""Sizes of the result in pixels are reached exactly, by the operator itself."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import operators
from restore.errors import BadArgument
from restore.tasks import SuperResolution

# Heights and widths.
SIZES = [(10, 15), (15, 10), (1, 9), (9, 1), (7, 7), (33, 50)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1.1, 2, 3.3, 7.7, 16])
def test_sides_are_reached_exactly_and_the_shape_is_kept(size, factor: float) -> None:
    height, width = size
    wide = int(width * factor)
    high = int(height * factor)
    if wide > width:
        found = SuperResolution(width=wide).result_size(size)
        assert found == (round(height * wide / width), wide)
        assert abs(found[0] - height * wide / width) <= 0.5
    if high > height:
        assert SuperResolution(height=high).result_size(size)[0] == high
    if wide > width and high > height:
        fitted = SuperResolution(width=wide, height=high + 5).result_size(size)
        assert fitted[0] <= high + 5
        assert fitted[1] <= wide
        assert fitted[0] == high + 5 or fitted[1] == wide


@pytest.mark.parametrize("size", [(30, 45), (400, 300)])
def test_megapixels(size) -> None:
    wanted = 6e6 if size == (400, 300) else 2e5
    height, width = SuperResolution(megapixels=wanted / 1e6).result_size(size)
    assert height * width == pytest.approx(wanted, rel=0.005)
    assert height / width == pytest.approx(size[0] / size[1], rel=0.005)


def test_the_operator_is_that_between_the_two_sizes() -> None:
    image = torch.rand(1, 3, 10, 15)
    problem = SuperResolution(width=38).problem(image)
    assert problem.operator.input_shape == (3, 25, 38)
    assert problem.operator.output_shape == (3, 10, 15)
    exact = operators.downsample((3, 25, 38), size=(10, 15), kernel="bicubic")
    x = torch.rand(1, 3, 25, 38)
    torch.testing.assert_close(problem.operator.A(x), exact.A(x))
    assert operators.parse(problem.written).input_shape((3, 10, 15)) == (3, 25, 38)
    scaled = SuperResolution(2.5).problem(image)
    assert scaled.written == "down:bicubic:2.5"
    assert scaled.operator.input_shape == (3, 25, 38)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 2, "width": 40}, "`scale`=2 and `width`=40: give one"),
        ({"scale": 4, "megapixels": 1}, "`scale`=4 and `megapixels`=1: give one"),
        ({"width": 40, "megapixels": 1}, "`megapixels`=1 and `width`=40: give one"),
        ({"width": 0}, "`width`=0: must be between 1 and"),
        ({"height": -3}, "`height`=-3: must be between"),
        ({"width": 10**9}, "`width`=1e.09: must be between"),
        ({"megapixels": 0.0}, "`megapixels`=0: must be a number above 0"),
        ({"megapixels": float("nan")}, "`megapixels`=nan: must be"),
        ({"width": 40, "cascade": "auto"}, "`cascade` and `width`=40"),
    ],
)
def test_options_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        SuperResolution(**options).check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 15}, "`width`=15: the picture has 15x10 pixels already"),
        ({"width": 99, "height": 10}, "the picture has 15x10 pixels already"),
        ({"megapixels": 1e-4}, "the picture has 15x10 pixels already"),
        ({"height": 161}, "`height`=161: is 16.1 times a picture of 15x10.*at most 16 times"),
    ],
)
def test_sizes_that_a_picture_cannot_have(options: dict, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        SuperResolution(**options).problem(torch.rand(1, 3, 10, 15))


def test_records_name_the_scale_or_the_size() -> None:
    assert SuperResolution().given()["scale"] == 4
    assert SuperResolution(3).given()["scale"] == 3
    assert "scale" not in SuperResolution(width=40).given()
    assert SuperResolution(width=40).given()["width"] == 40


def test_a_folder_of_pictures_of_several_shapes(command, picture, tmp_path) -> None:
    picture("in/a.png", size=(12, 8))
    picture("in/b.png", "RGBA", (8, 12))
    picture("in/c.png", size=(40, 8))
    words = ("sr", tmp_path / "in", tmp_path / "out", "--width", 30, "--height", 30, "--json")
    outcome = command(*words, "--steps", 1)
    assert outcome.code == 10
    assert "--width 30: the picture has 40x8 pixels already" in outcome.err
    records = {json.loads(line)["input"][-5]: json.loads(line) for line in outcome.out.splitlines()}
    assert records["a"]["operator"] == "down:bicubic:2.5"
    assert [Image.open(tmp_path / "out" / f"{n}.png").size for n in "ab"] == [(30, 20), (20, 30)]
    again = command(*words, "--steps", 1)
    assert "2 done before and left as they are (--overwrite" in again.err


def test_a_size_of_a_file_of_options(command, picture, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text("[sr]\nmegapixels = 0.0024\n")
    config = ("--config", tmp_path / "mine.toml", "--steps", 1)
    assert command("sr", picture(size=(12, 8)), tmp_path / "out.png", *config).code == 0
    assert Image.open(tmp_path / "out.png").size == (60, 40)
    both = command("sr", tmp_path / "in.png", tmp_path / "o.png", *config, "--scale", 2)
    assert "--scale 2 and --megapixels 0.0024: give one of them" in both.err
