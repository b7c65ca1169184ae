"""Camera raws: what is read of DNGs with known truth, and what is refused, in plain words."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support import crashing
from support.raws import MATRIX, X_TRANS, camera, light, raw_file

from restore.errors import FileAccess, Unavailable, UnreadableInput
from restore.photo import apart, libraw
from restore.photo.metadata import exif_tags
from restore.photo.photograph import read_photo
from restore.photo.raw_reading import read_raw


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: starting another one costs seconds."""
    monkeypatch.setattr(apart.DECODER, "call", lambda function, *given: function(*given))
    monkeypatch.setattr(apart.DECODER, "start", lambda: None)


@pytest.mark.parametrize("pattern", [("RG", "GB"), ("GB", "RG"), ("BG", "GR"), X_TRANS], ids=str)
def test_reads_what_the_camera_wrote(tmp_path: Path, here: None, pattern: Any) -> None:
    own = camera(pattern=pattern, black=600, white=16000, noise=(1e-4, 1e-6), orientation=6)
    counts = own.exposed(light((40, 28)))
    raw = read_raw(own.write(tmp_path / "a.dng", counts))

    assert np.array_equal(raw.counts, counts)
    assert raw.pattern == pattern
    assert (raw.black == 600).all()
    assert (raw.white, raw.orientation, raw.shape, raw.notes) == (16000, 6, (40, 28), ())
    assert raw.gains == pytest.approx((2, 1, 1.6), rel=1e-5)
    assert raw.to_srgb == pytest.approx(MATRIX, abs=1e-4)
    assert raw.noise == ((1e-4, 1e-6),) * 3
    assert raw.signal == pytest.approx((counts - 600.0) / 15400, abs=1e-6)
    assert exif_tags(raw.exif).main[271].value == b"Example\0"


def test_black_levels_of_each_color(tmp_path: Path, here: None) -> None:
    levels = (500, 510, 520, 530)
    tags = {"tag_50713": ("H", (2, 2)), "tag_50714": ("H", levels)}
    raw = read_raw(raw_file(tmp_path / "a.dng", **tags))
    assert raw.black.ravel().tolist() == list(levels)
    assert raw.signal[0, 0] == pytest.approx((raw.counts[0, 0] - 500.0) / (raw.white - 500))
    assert raw.signal[1, 1] == pytest.approx((raw.counts[1, 1] - 530.0) / (raw.white - 530))


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"tag_50728": ("2I", (0, 1) * 3)}, "no white balance; that of daylight"),
        ({"tag_50728": None}, "no white balance; that of daylight"),
        ({"tag_50721": None}, "no colour matrix"),
    ],
)
def test_says_what_is_missing(tmp_path: Path, here: None, tags: Any, note: str) -> None:
    raw = read_raw(raw_file(tmp_path / "a.dng", **tags))
    assert note in raw.notes[0]
    assert min(raw.gains) == 1
    assert raw.to_srgb.sum(axis=1) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("profile", [(-1e-4, 1e-5), (0.0, 0.0), (float("nan"), 0.0)])
def test_a_noise_profile_without_sense_is_none(tmp_path: Path, here: None, profile: Any) -> None:
    assert read_raw(raw_file(tmp_path / "a.dng", tag_51041=("d", profile))).noise is None


def test_a_noise_profile_of_each_color(tmp_path: Path, here: None) -> None:
    values = (1e-4, 1e-6, 2e-4, 2e-6, 3e-4, 3e-6)
    raw = read_raw(raw_file(tmp_path / "a.dng", tag_51041=("d", values)))
    assert raw.noise == ((1e-4, 1e-6), (2e-4, 2e-6), (3e-4, 3e-6))


@pytest.mark.parametrize("values", [(2.0, 0.0), (1e-4, 1e-6, 1e-4), (float("inf"), 1.0)])
def test_a_noise_profile_of_no_picture_is_none(tmp_path: Path, here: None, values: Any) -> None:
    assert read_raw(raw_file(tmp_path / "a.dng", tag_51041=("d", values))).noise is None


def test_active_area_and_default_crop(tmp_path: Path, here: None) -> None:
    """The crop counts from the active area, whose first pixel has the pattern's first colour."""
    own = camera()
    counts = own.exposed(light((48, 32)))
    area = {"tag_50829": ("I", (4, 6, 30, 44))}
    active = read_raw(own.write(tmp_path / "a.dng", counts, **area))
    assert np.array_equal(active.counts, counts[4:30, 6:44])
    assert active.pattern == ("RG", "GB")

    crop = {"tag_50719": ("2I", (2, 1, 4, 1)), "tag_50720": ("2I", (30, 1, 20, 1))}
    cropped = read_raw(own.write(tmp_path / "b.dng", counts, **area, **crop))
    assert np.array_equal(cropped.counts, counts[8:28, 8:38])
    assert cropped.pattern == ("RG", "GB")

    outside = {"tag_50719": ("2I", (9, 1, 4, 1)), "tag_50720": ("2I", (90, 1, 20, 1))}
    assert read_raw(own.write(tmp_path / "c.dng", counts, **area, **outside)).shape == (26, 38)


@pytest.mark.parametrize(
    ("value", "stops"), [((15, 10), 1.5), ((-1, 2), -0.5), ((1, 0), 0.0), ((99, 1), 0.0)]
)
def test_the_baseline_exposure(tmp_path: Path, here: None, value: Any, stops: float) -> None:
    raw = read_raw(raw_file(tmp_path / "a.dng", tag_50730=("2i", value)))
    assert raw.exposure == stops


def test_says_that_pixels_are_not_square(tmp_path: Path, here: None) -> None:
    raw = read_raw(raw_file(tmp_path / "a.dng", tag_50718=("2I", (2, 1, 1, 1))))
    assert "pixels are 2 times as wide as high" in raw.notes[0]


def test_many_full_pixels_below_the_white_level_are_white(tmp_path: Path, here: None) -> None:
    own = camera(white=16383)
    counts = own.exposed(light())
    counts[:4] = 15000
    raw = read_raw(own.write(tmp_path / "a.dng", counts.clip(0, 15000)))
    assert raw.full == 15000
    assert raw.signal.max() == 1
    one = raw.counts.copy()
    one[:4] = 9000
    one[0, 0] = 15000
    alone = replace(raw, counts=np.tile(one, (40, 40)))  # a share of 1/1536 is many still
    assert alone.full == 15000
    assert replace(raw, counts=np.pad(one, (0, 200))).full == 16383


# --- refusals


def _linear(path: Path) -> None:
    own = camera()
    own.write(path, (light() * 9999).astype(np.uint16), tag_33421=None, tag_33422=None)


def _cut(path: Path, kept: float) -> None:
    data = raw_file(path).read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])


REFUSED: dict[str, tuple[Any, str]] = {
    "linear": (_linear, "three colours at each pixel.*no mosaic"),
    "monochrome": (lambda p: raw_file(p, tag_33422=("B", (0,) * 4)), "a monochrome sensor"),
    "four colours": (
        lambda p: raw_file(p, tag_33422=("B", (3, 4, 5, 1)), tag_50710=("B", (3, 4, 5, 1))),
        "other colours than red, green and blue",
    ),
    "no pattern": (lambda p: raw_file(p, tag_33421=None, tag_33422=None), "pattern is not known"),
    "white below black": (lambda p: raw_file(p, tag_50717=("H", 100)), "white level, 100, is not"),
    "cut in half": (lambda p: _cut(p, 0.5), "ends before its picture does"),
    "cut at the end": (lambda p: _cut(p, 0.999), "ends before its picture does"),
    "header alone": (lambda p: _cut(p, 0.2), "ends|damaged|not a camera raw"),
    "noise": (
        lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)),
        "not a camera raw",
    ),
    "text": (lambda p: p.write_text("hello " * 99), "not a camera raw"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "PNG": (lambda p: Image.new("RGB", (8, 8)).save(p, "PNG"), "a PNG picture, not a camera raw"),
    "TIFF": (
        lambda p: tifffile.imwrite(p, np.zeros((8, 8, 3), np.uint8), photometric="rgb"),
        "not a camera raw",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_in_plain_words(tmp_path: Path, here: None, name: str) -> None:
    write, message = REFUSED[name]
    path = tmp_path / "a.dng"
    write(path)
    with pytest.raises(UnreadableInput, match=message) as refused:
        read_raw(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_refuses_too_many_pixels_before_decoding(tmp_path: Path, here: None) -> None:
    with pytest.raises(UnreadableInput, match="declares 48 x 32 pixels"):
        read_raw(raw_file(tmp_path / "a.dng"), max_pixels=1535)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileAccess, match="a folder"):
        read_raw(tmp_path)


def test_says_what_to_install(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *given, **more)

    path = raw_file(tmp_path / "a.dng")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pip install 'restore-diffusion\[raw\]'"):
        read_raw(path)
    with pytest.raises(UnreadableInput, match=r"camera.s raw file \(DNG\), which is not read"):
        read_photo(path)


def test_a_crash_of_the_decoder_costs_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, which ends; the value of the next file is right."""
    path = raw_file(tmp_path / "a.dng")
    monkeypatch.setattr(libraw, "decode", crashing.abort)
    with apart.decoding_apart():
        with pytest.raises(UnreadableInput, match="the decoder crashed on it"):
            read_raw(path)
        monkeypatch.undo()
        assert read_raw(path).gains == pytest.approx((2, 1, 1.6), rel=1e-5)
