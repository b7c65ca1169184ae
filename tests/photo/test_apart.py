"""Pictures that are decoded in a process of their own: the same values, and one lost at most."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.crashing import ABORTS, EXITS, HANGS, PRINTS, SEGFAULTS

from restore.errors import RestoreError, UnreadableInput
from restore.photo import apart
from restore.photo.apart import DECODER, decoding_apart, end_decoding
from restore.photo.photograph import count_pages, read_mask, read_photo, write_photo


def read_apart(path: Path, **options):
    with decoding_apart():
        return read_photo(path, **options)


def error_of(function, *arguments, **options) -> tuple[type, str]:
    with pytest.raises(RestoreError) as caught:
        function(*arguments, **options)
    return type(caught.value), str(caught.value)


def process_id() -> int:
    assert DECODER._process is not None
    return DECODER._process._popen.pid


FORMATS = [
    ("a.png", "RGBA", {"dpi": (72, 72)}),
    ("deep.png", "RGB;16", {}),
    ("a.jpg", "RGB", {"quality": 80, "dpi": (300, 300), "comment": b"c"}),
    ("a.tif", "CMYK", {}),
    ("deep.tif", "I;16", {}),
    ("a.webp", "RGB", {"quality": 70}),
    ("a.bmp", "L", {}),
    ("a.gif", "P", {}),
    ("a.jp2", "RGB", {}),
    ("a.ppm", "RGB", {}),
]


def test_threads_get_their_own_pictures(tmp_path) -> None:
    """They share one process; the lock of `libraries_silent` keeps their requests apart."""
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (200, 300, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    here = [read_photo(tmp_path / f"{seed}.png").pixels for seed in range(4)]

    def are_right(seed: int) -> bool:
        paths = [tmp_path / f"{seed}.png"] * 20
        return all(np.array_equal(read_photo(path).pixels, here[seed]) for path in paths)

    with decoding_apart(), ThreadPoolExecutor(4) as threads:
        assert list(threads.map(are_right, range(4))) == [True] * 4


@pytest.mark.parametrize(("name", "mode", "options"), FORMATS, ids=[name for name, *_ in FORMATS])
def test_everything_of_a_picture_is_the_same(picture, name, mode, options) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif} if name.endswith((".jpg", ".webp")) else {}
    path = picture(name, mode, **options, **more)
    here = read_photo(path)
    there = read_apart(path)
    assert DECODER._process is not None
    assert not DECODER._process.is_fresh
    for field, value in vars(here).items():
        other = getattr(there, field)
        if isinstance(value, np.ndarray):
            assert value.dtype == other.dtype
            assert np.array_equal(value, other), field
        else:
            assert value == other, field


def test_floats_masks_and_pages_are_the_same(tmp_path, picture) -> None:
    photo = read_photo(picture("a.png"))
    photo.bits = 32
    photo.pixels = photo.pixels / 3
    write_photo(photo, tmp_path / "float.tif")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    mask = picture("mask.png", "1")
    with decoding_apart():
        assert np.array_equal(read_photo(tmp_path / "float.tif").pixels, photo.pixels)
        assert count_pages(tmp_path / "a.gif") == 3
        assert read_photo(tmp_path / "a.gif", page=3).pixels[0, 0].tolist() == [0, 0, 1]
        there = read_mask(mask)
    assert np.array_equal(there, read_mask(mask))


def test_errors_are_the_same(tmp_path, picture) -> None:
    whole = picture("whole.png", size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.png").write_bytes(whole[:60] + b"nothing" + whole[67:])
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "head.webp").write_bytes(b"RIFF\x10\x00\x00\x00WEBPVP8 ")
    cases = [(path, {}) for path in sorted(tmp_path.iterdir()) if path.name != "whole.png"]
    cases += [
        (tmp_path / "whole.png", {"max_pixels": 100}),
        (tmp_path / "whole.png", {"page": 2}),
        (tmp_path / "cut.png", {"allow_truncated": False}),
        (tmp_path / "missing.png", {}),
    ]
    for path, options in cases:
        assert error_of(read_apart, path, **options) == error_of(read_photo, path, **options)
    cut = read_apart(tmp_path / "cut.png", allow_truncated=True)
    assert cut.notes == read_photo(tmp_path / "cut.png", allow_truncated=True).notes != ()


@pytest.mark.skipif(sys.platform == "win32", reason="has no signals")
@pytest.mark.parametrize(("fault", "name"), [(ABORTS, "SIGABRT"), (SEGFAULTS, "SIGSEGV")])
def test_a_crash_costs_one_picture(crashing, picture, fault: int, name: str) -> None:
    bad = picture("bad.png", dpi=(fault, fault))
    good = picture("good.png")
    kind, text = error_of(read_apart, bad)
    assert (kind, text) == (
        UnreadableInput,
        f"{bad}: the decoder crashed on it ({name}): the picture is damaged, or a library has a "
        "bug.",
    )
    assert np.array_equal(read_apart(good).pixels, read_photo(good).pixels)


def test_a_process_that_exits_costs_one_picture(crashing, picture) -> None:
    bad = picture("bad.png", dpi=(EXITS, EXITS))
    assert "the decoder crashed on it (exit code 0)" in error_of(read_apart, bad)[1]


def test_a_hang_costs_one_picture(crashing, picture, monkeypatch) -> None:
    monkeypatch.setattr(apart, "LONGEST_SECONDS", 0.5)
    bad = picture("bad.png", dpi=(HANGS, HANGS))
    _, text = error_of(read_apart, bad)
    assert text == f"{bad}: decoding it takes more than 0.5 seconds; it may be damaged."
    monkeypatch.setattr(apart, "LONGEST_SECONDS", 60.0)
    assert read_apart(picture("good.png")).pixels.shape == (16, 24, 3)


def test_what_libraries_print_reaches_nobody(crashing, picture, capfd) -> None:
    path = picture("a.png", dpi=(PRINTS, PRINTS))
    assert np.array_equal(read_apart(path).pixels, read_photo(path).pixels)
    assert capfd.readouterr() == ("", "")


def test_a_process_that_somebody_killed_costs_nothing(picture) -> None:
    path = picture()
    with decoding_apart():
        first = read_photo(path).pixels
        os.kill(process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
        assert np.array_equal(read_photo(path).pixels, first)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_keeps_nothing_of_a_picture(tmp_path) -> None:
    """Its memory is free while the network works."""
    Image.new("RGB", (4000, 2500)).save(tmp_path / "large.png", compress_level=1)
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")

    def kilobytes() -> int:
        status = Path(f"/proc/{process_id()}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    with decoding_apart():
        read_photo(tmp_path / "small.png")
        before = kilobytes()
        read_photo(tmp_path / "large.png")
        end = time.monotonic() + 20
        while kilobytes() - before > 15_000:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_work_that_is_given_up_ends_the_process(crashing, picture) -> None:
    """As by Ctrl-C, while another thread reads."""
    bad = picture("bad.png", dpi=(HANGS, HANGS))
    read_apart(picture("good.png"))
    timer = threading.Timer(0.3, end_decoding)
    timer.start()
    start = time.monotonic()
    assert "the decoder was killed on it" in error_of(read_apart, bad)[1]
    assert time.monotonic() - start < 30
    assert DECODER._process is None


def test_where_no_process_can_be_started_pictures_are_decoded_here(picture, monkeypatch) -> None:
    path = picture()
    decoder = apart._Decoder()
    monkeypatch.setattr(apart, "DECODER", decoder)
    monkeypatch.setattr(apart, "MODULE", "restore.no_such_module")
    assert np.array_equal(read_apart(path).pixels, read_photo(path).pixels)
    assert decoder._process is None
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setattr(decoder, "_is_possible", True)
    assert np.array_equal(read_apart(path).pixels, read_photo(path).pixels)


def test_the_process_ends_with_the_work(picture, monkeypatch) -> None:
    decoder = apart._Decoder()
    monkeypatch.setattr(apart, "DECODER", decoder)
    with decoding_apart():
        read_photo(picture())
        process = decoder._process
        assert process is not None
        assert process._popen.poll() is None
    assert process._popen.poll() is not None
    assert decoder._process is None


def test_a_killed_caller_leaves_no_folder() -> None:
    """The decoding process notices that nobody asks any more, and removes its folder."""
    process = apart.Process()
    assert process.is_ready()
    folder = Path(process._folder)
    assert folder.is_dir()
    process._popen.stdin.close()  # as the system does for a process that is killed
    process._popen.wait(30)
    assert not folder.exists()
