"""--format, --quality, --depth: obeyed for pictures and folders, and refused before any work where
they contradict.
"""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.pictures import files

from restore.errors import BadArgument
from restore.jobs.output import OutputOptions
from restore.photo.photograph import Photo, encoded, read_photo

pytestmark = pytest.mark.usefixtures("light_network")

FAST = ("--noise", "0.1", "--method", "one-step")


def sampling(path) -> tuple[int, ...]:
    """Horizontal and vertical factors of a JPEG's luma."""
    with Image.open(path) as im:
        return im.layer[0][1:3]


# --- formats
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format", "suffix"),
    [
        *(
            ("png", "PNG", ".png"),
            ("jpeg", "JPEG", ".jpg"),
            ("jpg", "JPEG", ".jpg"),
            ("WebP", "WEBP", ".webp"),
        ),
        *(("tiff", "TIFF", ".tif"), ("bmp", "BMP", ".bmp")),
    ],
)
def test_format_of_one_picture(command, picture, tmp_path, name, format, suffix):
    source = picture("in.png" if format != "PNG" else "in.webp")
    outcome = command("denoise", source, "--format", name, *FAST)
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / f"in-denoise{suffix}") as im:
        assert im.format == format


def test_a_suffix_of_the_format_asked_for_stays(command, picture, tmp_path):
    assert command("denoise", picture("a.jpeg"), "--format", "jpeg", *FAST).code == 0
    assert sorted(files(tmp_path)) == ["a-denoise.jpeg", "a.jpeg"]
    with Image.open(tmp_path / "a-denoise.jpeg") as im:
        assert (im.format, im.size) == ("JPEG", (24, 16))


def test_into_a_folder_that_exists(command, picture, tmp_path):
    (tmp_path / "out").mkdir()
    assert (
        command("denoise", picture("a.png"), tmp_path / "out", "--format", "webp", *FAST).code == 0
    )
    assert list(files(tmp_path / "out")) == ["a.webp"]


def test_a_folder_changes_its_suffixes(command, picture, tmp_path):
    for name in ("in/a.png", "in/sub/b.jpg", "in/c.webp"):
        picture(name)
    outcome = command(
        "denoise", tmp_path / "in", tmp_path / "out", "--format", "webp", "--quality", 50, *FAST
    )
    assert outcome.code == 0, outcome.err
    assert sorted(files(tmp_path / "out")) == ["a.webp", "c.webp", "sub/b.webp"]
    assert all(b"VP8 " in data for data in files(tmp_path / "out").values())  # lossy


def test_two_pictures_that_would_share_an_output(command, picture, tmp_path):
    picture("in/a.png")
    picture("in/a.jpg")
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--format", "webp", *FAST)
    assert outcome.code == 1
    assert "a.jpg" in outcome.err
    assert "a.png" in outcome.err
    assert "a.webp" in outcome.err
    assert not (tmp_path / "out").exists()


# --- quality
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_quality_is_obeyed(tmp_path, suffix):
    rng = np.random.default_rng(0)
    photo = Photo(
        rng.random((64, 64, 3), np.float32), format="JPEG", encoding={"qtables": [[1] * 64] * 2}
    )
    sizes = [
        len(encoded(OutputOptions(quality=q).applied(photo), tmp_path / f"a{suffix}"))
        for q in (5, 40, 90)
    ]
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]


def test_quality_replaces_the_tables_of_the_input(command, picture, tmp_path):
    source = picture("a.jpg", quality=97, subsampling="4:2:2")
    assert command("denoise", source, tmp_path / "b.jpg", "--quality", 30, *FAST).code == 0
    picture("expected.jpg", quality=30)
    with Image.open(tmp_path / "b.jpg") as got, Image.open(tmp_path / "expected.jpg") as expected:
        assert got.quantization == expected.quantization
    assert sampling(tmp_path / "b.jpg") == (2, 1)


def test_webp_is_lossy_where_a_quality_is_asked_for(command, picture, tmp_path):
    source = picture("a.png")
    assert command("denoise", source, tmp_path / "lossless.webp", *FAST).code == 0
    assert command("denoise", source, tmp_path / "lossy.webp", "--quality", 80, *FAST).code == 0
    assert b"VP8L" in (tmp_path / "lossless.webp").read_bytes()
    assert b"VP8 " in (tmp_path / "lossy.webp").read_bytes()


# --- depth
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".tif", 32)]
)
@pytest.mark.parametrize("mode", ["RGB", "RGB;16"])
def test_depth_is_obeyed(command, picture, tmp_path, mode, suffix, depth):
    source = picture("in.png", mode, size=(48, 32))
    target = tmp_path / f"out{suffix}"
    outcome = command("sr", source, target, "--scale", 2, "--depth", depth, "--method", "one-step")
    assert outcome.code == 0, outcome.err
    photo = read_photo(target)
    assert photo.bits == depth
    assert (len(np.unique(photo.pixels)) > 256) == (depth > 8)  # not 8 bits blown up
    if depth == 32:
        assert tifffile.imread(target).dtype == np.float32


def test_samples_have_the_depth_and_the_map_stays_a_png(command, picture, tmp_path):
    outcome = command(
        *(
            "denoise",
            picture("in.png"),
            tmp_path / "out.tif",
            "--noise",
            0.1,
            "--depth",
            32,
            "--samples",
            2,
        ),
        *("--method", "ddrm", "--steps", 2),
    )
    assert outcome.code == 0, outcome.err
    assert sorted(files(tmp_path)) == [
        "in.png",
        "out.sample1.tif",
        "out.sample2.tif",
        "out.std.png",
        "out.tif",
    ]
    assert {read_photo(tmp_path / name).bits for name in ("out.tif", "out.sample1.tif")} == {32}


# --- contradictions
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (None, ("--format", "gif"), ("--format gif", "webp")),
        (None, ("--quality", 0), ("--quality 0", "100")),
        (None, ("--quality", 101), ("--quality 101", "100")),
        (None, ("--depth", 12), ("--depth 12", "16")),
        (None, ("--quality", 80), ("in-denoise.png", "--quality 80", "JPEG")),
        (None, ("--depth", 32), ("--depth 32", "TIFF")),
        (None, ("--format", "jpeg", "--depth", 16), ("--depth 16", "PNG or TIFF")),
        (None, ("--format", "tiff", "--quality", 80), ("--quality 80", "WebP")),
        ("out.png", ("--format", "jpeg"), ("out.png", ".jpg")),
        ("out.jpg", ("--depth", 16), ("out.jpg", "PNG or TIFF")),
        ("out.gif", ("--format", "png"), ("out.gif", ".png")),
    ],
)
def test_contradictions_are_refused_before_any_work(
    command, picture, tmp_path, monkeypatch, target, options, words
):
    source = picture("in.png")
    monkeypatch.setattr(
        "restore.restorer.Restorer.__init__", None
    )  # would fail otherwise, with another code
    outcome = command("denoise", source, *([tmp_path / target] if target else []), *options, *FAST)
    assert outcome.code == 1
    assert all(word in outcome.err for word in words), outcome.err
    assert list(files(tmp_path)) == ["in.png"]


@pytest.mark.parametrize("options", [("--quality", 80), ("--depth", 16)])
def test_a_folder_is_refused_where_one_of_its_pictures_cannot_be_written_so(
    command, picture, tmp_path, options
):
    picture("in/a.jpg" if options[0] == "--depth" else "in/a.png")
    picture("in/b.jpg" if options[0] == "--quality" else "in/b.png")
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", *options, *FAST)
    assert outcome.code == 1
    assert "a." in outcome.err
    assert not (tmp_path / "out").exists()


def test_options_that_say_nothing_change_nothing(tmp_path):
    photo = Photo(np.zeros((2, 2, 3), np.float32), bits=16, encoding={"lossless": True})
    assert OutputOptions().applied(photo) == photo
    with pytest.raises(BadArgument):
        OutputOptions(format="png", depth=32)
