"""What the header of a picture tells is refused before its restoration."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restore.errors import BadArgument
from restore.jobs.output import OutputOptions
from restore.jobs.picture import Work
from restore.jobs.plan import Job
from restore.methods.options import Options
from restore.photo.photograph import Photo, check_held, encoded
from restore.tasks import Denoising, Solving, SuperResolution


def wide(path: Path, width: int = 8200) -> Path:
    Image.new("L", (width, 1), 90).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "side"), [("a.webp", 16383), ("a.jpg", 65500), ("a.bmp", None), ("a.tif", None)]
)
@pytest.mark.parametrize("upright", [True, False])
def test_the_longest_sides_are_those_that_can_be_written(
    name: str, side: int | None, upright: bool
) -> None:
    longest = (1, side or 70_000)
    size = longest if upright else longest[::-1]
    check_held(Path(name), size, None)
    assert encoded(Photo(np.zeros((*size, 1), np.float32)), Path(name))
    if side is None:
        return
    longer = (1, side + 1) if upright else (side + 1, 1)
    with pytest.raises(BadArgument, match=rf"{name}: .* at most {side} pixels a side"):
        check_held(Path(name), longer, None)
    with pytest.raises(BadArgument, match=rf"{name}: .* at most {side} pixels a side"):
        encoded(Photo(np.zeros((*longer, 1), np.float32)), Path(name))


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        ("out.webp", SuperResolution(2), "WEBP has at most 16383 pixels a side.*16400x2; write"),
        ("out.jpg", SuperResolution(8), "JPEG has at most 65500 pixels a side.*65600x8"),
        ("out.png", SuperResolution(8), None),
        ("out.webp", Denoising(), None),
        ("out.webp", Solving("down:bicubic:2"), "WEBP has at most 16383 pixels a side.*16400x2"),
    ],
)
@pytest.mark.parametrize("samples", [1, 2])
def test_sides_of_the_result_are_checked_when_the_picture_is_read(
    tmp_path, target: str, task, said: str | None, samples: int
) -> None:
    work = Work(task, Options(samples=samples))
    job = Job(wide(tmp_path / "in.png"), tmp_path / target)
    if said is None:
        assert work.load(job).photo.pixels.shape == (1, 8200, 1)
        return
    with pytest.raises(BadArgument, match=rf"{target}: {said}"):
        work.load(job)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("task", [SuperResolution(4), Denoising()])
def test_transparency_is_checked_when_the_picture_is_read(picture, tmp_path, suffix, task) -> None:
    work = Work(task, Options(samples=2))
    job = Job(picture(mode="RGBA"), tmp_path / f"out{suffix}")
    with pytest.raises(BadArgument, match=r"out.* would lose its transparency; write .png"):
        work.load(job)
    assert work.load(replace(job, target=tmp_path / "out.webp")).photo.alpha is not None


def test_an_alpha_that_is_opaque_in_8_bits_is_no_transparency(tmp_path) -> None:
    image = Image.new("RGBA", (8, 8), (9, 9, 9, 255))
    image.save(tmp_path / "in.png")
    job = Job(tmp_path / "in.png", tmp_path / "out.jpg")
    assert Work(SuperResolution(2), Options()).load(job).photo.alpha is not None


def test_in_a_folder_the_others_go_on(command, picture, tmp_path) -> None:
    picture("in/a.png")
    picture("in/b.png", "RGBA")
    wide(tmp_path / "in" / "c.webp", 30)
    words = ("sr", tmp_path / "in", tmp_path / "out", "--scale", 2, "--steps", 1)
    outcome = command(*words, "--format", "jpeg")
    assert outcome.code == 10
    assert "b.jpg: JPEG would lose its transparency" in outcome.err
    assert {p.name for p in (tmp_path / "out").glob("*.jpg")} == {"a.jpg", "c.jpg"}


def test_options_of_the_output_do_not_matter(tmp_path) -> None:
    work = Work(SuperResolution(2), Options(), OutputOptions(format="webp", quality=50))
    with pytest.raises(BadArgument, match="16383"):
        work.load(Job(wide(tmp_path / "in.png"), tmp_path / "out.webp"))


def test_samples_of_the_prior_whose_grid_is_too_large(command, tmp_path) -> None:
    words = ("sample", tmp_path / "out.webp", "--count", 2, "--size", "8200x16", "--steps", 2)
    outcome = command(*words)
    assert outcome.code == 1
    assert "WEBP has at most 16383 pixels a side, and the result has 16402x16" in outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes and links")
@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("pipe.png", ["--overwrite"], "pipe.png: cannot be written: a named pipe"),
        ("gone.png", [], "gone.png: exists already"),
        ("out.png", ["--report", "pipe.html", "--overwrite"], "pipe.html: cannot be written: a na"),
        ("out.png", ["--compare", "--overwrite"], "out.compare.png: cannot be written: a folder"),
    ],
)
def test_what_holds_the_name_of_an_output(
    command, picture, tmp_path, monkeypatch, name: str, more: list[str], said: str
) -> None:
    source = picture("in.png")
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    os.mkfifo("pipe.html")
    Path("gone.png").symlink_to("nowhere.png")
    Path("out.compare.png").mkdir()
    monkeypatch.setattr(Work, "solve", None)
    outcome = command("denoise", source, name, "--noise", 0.1, *more)
    assert outcome.code == 5, outcome.err
    assert said in outcome.err
    assert Path("pipe.png").is_fifo()
    assert Path("gone.png").is_symlink()
    assert not Path("out.png").exists()


def test_a_folder_with_the_name_of_an_output_is_no_finished_picture(
    command, picture, tmp_path
) -> None:
    """The others go on."""
    for name in ("a.png", "b.png"):
        picture(f"in/{name}")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    words = ("denoise", tmp_path / "in", tmp_path / "out", "--noise", 0.1, "--steps", 1)
    for code in (10, 10):
        outcome = command(*words)
        assert outcome.code == code
        assert "a.png: cannot be written: a folder, not a regular file" in outcome.err
    assert (tmp_path / "out" / "b.png").is_file()
