"""Files of several pictures: each page by itself, told apart in names, records and resuming."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from restore.errors import UnreadableInput
from restore.photo.photograph import count_pages, read_photo

pytestmark = pytest.mark.usefixtures("light_network")

DENOISE = ("--noise", 0.1)


def pages(count: int = 3, dtype: type = np.uint8) -> list[np.ndarray]:
    """Pictures of different sizes and values."""
    full = np.iinfo(dtype).max
    random = np.random.default_rng(0)
    return [random.integers(0, full, (16 + 2 * n, 24, 3), dtype=dtype) for n in range(count)]


def tiff(path: Path, pictures: list[np.ndarray], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, **options) as file:
        for picture in pictures:
            file.write(picture, photometric="rgb")
    return path


def animation(path: Path, pictures: list[np.ndarray]) -> Path:
    first, *rest = (Image.fromarray(p[:16]) for p in pictures)
    first.save(path, save_all=True, append_images=rest, lossless=True)
    return path


def as_saved(pixels: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(pixels * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_page_of_a_tiff(tmp_path, dtype, options) -> None:
    expected = pages(3, dtype)
    path = tiff(tmp_path / "scan.tif", expected, **options)
    assert count_pages(path) == 3
    for number, picture in enumerate(expected, start=1):
        photo = read_photo(path, page=number)
        assert photo.format == "TIFF"
        assert np.array_equal(as_saved(photo.pixels, photo.bits), picture)


def test_a_page_of_floating_point_numbers(tmp_path) -> None:
    expected = [np.float32(p) / 255 for p in pages()]
    path = tiff(tmp_path / "scan.tif", expected)
    assert np.array_equal(read_photo(path, page=2).pixels, expected[1])


def preview(file: tifffile.TiffWriter, picture: np.ndarray) -> None:
    file.write(picture[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("order", ["before", "behind", "both"])
def test_previews_are_no_pages(tmp_path, order, dtype, options) -> None:
    (whole,) = pages(1, np.uint8 if dtype == np.float32 else dtype)
    picture = np.float32(whole / 255) if dtype == np.float32 else whole
    with tifffile.TiffWriter(tmp_path / "a.tif", **options) as file:
        if order != "behind":
            preview(file, picture)
        file.write(picture, photometric="rgb", metadata=None)
        if order != "before":
            preview(file, picture)
    assert count_pages(tmp_path / "a.tif") == 1
    for page in (None, 1):
        photo = read_photo(tmp_path / "a.tif", page=page)
        if dtype == np.float32:
            assert np.array_equal(photo.pixels, picture)
        else:
            assert np.array_equal(as_saved(photo.pixels, photo.bits), picture)
    with pytest.raises(UnreadableInput, match="has no page 2; it has 1"):
        read_photo(tmp_path / "a.tif", page=2)


def test_pages_between_previews_and_masks(tmp_path) -> None:
    expected = pages()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for picture in expected:
            preview(file, picture)
            file.write(picture, photometric="rgb", subfiletype=2, metadata=None)
            mask = np.zeros(picture.shape[:2], bool)
            file.write(mask, photometric="mask", subfiletype=4, metadata=None)
    assert count_pages(tmp_path / "a.tif") == 3
    for number, picture in enumerate(expected, start=1):
        photo = read_photo(tmp_path / "a.tif", page=number)
        assert np.array_equal(as_saved(photo.pixels, 8), picture)


@pytest.mark.parametrize("pages_option", [(), ("--pages",)])
def test_a_picture_with_previews_through_the_command(command, tmp_path, pages_option) -> None:
    (picture,) = pages(1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        preview(file, picture)
        file.write(picture, photometric="rgb", metadata=None)
    outcome = command("denoise", tmp_path / "a.tif", tmp_path / "b.tif", *pages_option, *DENOISE)
    assert outcome.code == 0, outcome.err
    assert tifffile.imread(tmp_path / "b.tif").shape == picture.shape


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_every_frame_of_an_animation(tmp_path, suffix) -> None:
    expected = pages()
    path = animation(tmp_path / f"a{suffix}", expected)
    assert count_pages(path) == 3
    for number, picture in enumerate(expected, start=1):
        assert np.array_equal(as_saved(read_photo(path, page=number).pixels, 8), picture[:16])


@pytest.mark.parametrize("page", [0, 4])
def test_a_page_that_is_not_there(tmp_path, page) -> None:
    path = tiff(tmp_path / "scan.tif", pages())
    with pytest.raises(
        UnreadableInput, match=rf"scan.tif \(page {page}\): has no page {page}; it has 3"
    ):
        read_photo(path, page=page)


def test_a_file_that_is_none_counts_as_one_page(tmp_path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(20))
    assert count_pages(tmp_path / "a.tif") == 1


def test_without_the_option_a_file_of_pages_is_refused(command, tmp_path) -> None:
    path = tiff(tmp_path / "scan.tif", pages())
    outcome = command("denoise", path, *DENOISE)
    assert outcome.code == 2
    assert "several pages (3); --pages takes them one by one" in outcome.err
    assert list(tmp_path.iterdir()) == [path]


def test_pages_of_one_file(command, tmp_path) -> None:
    path = tiff(tmp_path / "scan.tif", pages(11))
    outcome = command("denoise", path, tmp_path / "out.png", "--pages", "--json", *DENOISE)
    assert outcome.code == 0
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [(r["input"], r["page"]) for r in records] == [(str(path), n) for n in range(1, 12)]
    for number, picture in enumerate(pages(11), start=1):
        with Image.open(tmp_path / f"out.page{number:02}.png") as written:
            assert written.size == picture.shape[1::-1]


def test_a_file_of_one_page_keeps_its_name(command, picture, tmp_path) -> None:
    source = picture()
    assert command("denoise", source, tmp_path / "plain.png", *DENOISE).code == 0
    assert command("denoise", source, tmp_path / "out.png", "--pages", *DENOISE).code == 0
    assert np.array_equal(
        read_photo(tmp_path / "out.png").pixels, read_photo(tmp_path / "plain.png").pixels
    )


def test_pages_in_a_folder_are_resumed_one_by_one(command, picture, tmp_path) -> None:
    picture("in/a.png")
    tiff(tmp_path / "in/scan.tif", pages())
    assert command("denoise", tmp_path / "in", tmp_path / "out", "--pages", *DENOISE).code == 0
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert made == {"a.png", "scan.page1.tif", "scan.page2.tif", "scan.page3.tif", "restore.jsonl"}
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    (tmp_path / "out/scan.page2.tif").unlink()
    assert command("denoise", tmp_path / "in", tmp_path / "out", "--pages", *DENOISE).code == 0
    changed = {
        p.name for p in (tmp_path / "out").iterdir() if p.stat().st_mtime_ns != before[p.name]
    }
    assert changed == {"scan.page2.tif", "restore.jsonl"}
    names = [
        json.loads(line)["input"]
        for line in (tmp_path / "out/restore.jsonl").read_text().splitlines()
    ]
    assert names == [
        "a.png",
        "scan.tif#page=1",
        "scan.tif#page=2",
        "scan.tif#page=3",
        "scan.tif#page=2",
    ]


def test_a_damaged_page_does_not_end_the_folder(command, tmp_path) -> None:
    path = tiff(tmp_path / "in/scan.tif", pages())
    with tifffile.TiffFile(path) as file:
        place = file.pages[1].tags["PhotometricInterpretation"].valueoffset
    data = bytearray(path.read_bytes())
    data[place] = 77
    path.write_bytes(data)
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--pages", *DENOISE)
    assert outcome.code == 10
    assert f"{path} (page 2): " in outcome.err
    assert {p.name for p in (tmp_path / "out").glob("*.tif")} == {
        "scan.page1.tif",
        "scan.page3.tif",
    }


def test_pages_that_share_a_name_are_found_before_any_work(command, picture, tmp_path) -> None:
    picture("in/scan.page1.tif")
    tiff(tmp_path / "in/scan.tif", pages())
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--pages", *DENOISE)
    assert outcome.code == 1
    assert "would both be written to" in outcome.err
    assert not (tmp_path / "out").exists()


def test_the_original_is_not_touched(command, tmp_path) -> None:
    path = tiff(tmp_path / "scan.tif", pages())
    before = path.read_bytes()
    assert command("denoise", path, "--pages", *DENOISE).code == 0
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_read_is_told_when_its_turn_comes(command, tmp_path) -> None:
    tiff(tmp_path / "in/scan.tif", pages())
    (tmp_path / "in/empty.tif").touch()
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--pages", *DENOISE)
    assert outcome.code == 10
    assert "empty.tif: the file is empty" in outcome.err
    assert len(list((tmp_path / "out").glob("scan.page*.tif"))) == 3


def test_stdout_takes_no_pages(command, tmp_path) -> None:
    outcome = command("denoise", tiff(tmp_path / "scan.tif", pages()), "-", "--pages", *DENOISE)
    assert outcome.code == 1
    assert "--pages: stdout takes the one picture" in outcome.err
