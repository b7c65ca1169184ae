"""Photographs survive being read and written: every depth, mode and format, and every way to
fail.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin

import restore.files
import restore.photo.photograph
from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.photo.photograph import SUFFIXES, Photo, read_mask, read_photo, write_photo

FIXTURES = Path(__file__).parents[1] / "fixtures"
HEIGHT, WIDTH = 23, 37  # odd and unequal, so that a swapped axis shows
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = [".png", ".tif", ".tiff", ".bmp", ".webp"]


def noise(channels: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    """Unsigned samples [HEIGHT, WIDTH, channels] over the whole range, with both ends in them."""
    top = 2**bits - 1
    samples = np.random.default_rng(seed).integers(0, top + 1, (HEIGHT, WIDTH, channels))
    samples[0, 0], samples[0, 1] = 0, top
    return samples.astype(np.uint8 if bits == 8 else np.uint16)


def image(samples: np.ndarray) -> Image.Image:
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def photo_of(samples: np.ndarray, **fields) -> Photo:
    """A photo of unsigned samples; with 2 or 4 channels the last is alpha."""
    bits = 8 * samples.itemsize
    values = samples.astype(np.float32) / np.float32(2**bits - 1)
    if samples.shape[2] in (2, 4):
        return Photo(values[..., :-1], values[..., -1], bits, **fields)
    return Photo(values, None, bits, **fields)


def samples_of(photo: Photo) -> np.ndarray:
    """The unsigned samples a photo stands for; float values must lie on them exactly."""
    values = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    samples = np.rint(values.astype(np.float64) * (2**photo.bits - 1))
    assert np.array_equal(values, samples.astype(np.float32) / np.float32(2**photo.bits - 1))
    return samples.astype(np.uint8 if photo.bits == 8 else np.uint16)


def tiff(path: Path, samples: np.ndarray, **options) -> Path:
    """A TIFF by tifffile, whose own defaults are not relied upon."""
    channels = samples.shape[2]
    defaults = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None}
    if channels == 4:
        defaults["extrasamples"] = ["unassalpha"]
    if channels == 1:
        samples = samples[..., 0]
    tifffile.imwrite(path, samples, **(defaults | options))
    return path


# --- what is read
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [
        pair
        for pair in itertools.product(LOSSLESS, [1, 3, 4])
        if pair not in [(".bmp", 4), (".webp", 1)]
    ],
)
def test_reads_8_bit_of_pillow(tmp_path, suffix, channels):
    samples = noise(channels)
    image(samples).save(tmp_path / f"a{suffix}", lossless=True, exact=True)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.bits == 8
    assert photo.format == restore.photo.photograph.FORMATS[suffix]
    assert np.array_equal(samples_of(photo), samples)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_reads_files_of_opencv(tmp_path, suffix, channels, bits):
    samples = noise(channels, bits)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    cv2.imwrite(str(tmp_path / f"a{suffix}"), samples[..., order])  # TIFF: LZW with a predictor
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.bits == bits
    assert np.array_equal(samples_of(photo), samples)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"rowsperstrip": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_reads_files_of_tifffile(tmp_path, options, channels, bits):
    samples = noise(channels, bits)
    photo = read_photo(tiff(tmp_path / "a.tif", samples, **options))
    assert photo.bits == bits
    assert np.array_equal(samples_of(photo), samples)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_reads_tiff_with_separate_planes(tmp_path, channels, bits):
    samples = noise(channels, bits)
    extra = ["unassalpha"] if channels == 4 else None
    planes = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    tifffile.imwrite(
        tmp_path / "a.tif",
        planes,
        photometric="rgb",
        planarconfig="separate",
        extrasamples=extra,
        metadata=None,
    )
    assert np.array_equal(samples_of(read_photo(tmp_path / "a.tif")), samples)


@pytest.mark.parametrize("bits", [8, 16])
def test_reads_tiff_where_zero_is_white(tmp_path, bits):
    samples = noise(1, bits)
    photo = read_photo(tiff(tmp_path / "a.tif", samples, photometric="miniswhite"))
    assert np.array_equal(samples_of(photo), 2**bits - 1 - samples)


def test_premultiplied_16_bit_alpha_is_divided_out(tmp_path):
    samples = noise(4, 16)
    samples[..., 3] = np.maximum(samples[..., 3], 20_000)
    stored = samples.copy()
    stored[..., :3] = np.rint(samples[..., :3] * (samples[..., 3:] / 65535.0))
    photo = read_photo(tiff(tmp_path / "a.tif", stored, extrasamples=["assocalpha"]))
    got = samples_of(photo).astype(int)
    assert np.abs(got - samples).max() <= 2  # half a level divided by an alpha of 0.3
    assert np.array_equal(got[..., 3], samples[..., 3])


def test_depth_is_of_the_file_not_of_the_brightest_value(tmp_path):
    dark = noise(3, 8).astype(np.uint16)  # at most 255 of 65535
    cv2.imwrite(str(tmp_path / "dark.png"), dark[..., ::-1])
    photo = read_photo(tmp_path / "dark.png")
    assert photo.bits == 16
    assert photo.pixels.max() < 0.004
    assert np.array_equal(samples_of(photo), dark)


def test_one_row_and_one_column(tmp_path):
    for shape, bits in itertools.product([(1, 9, 3), (9, 1, 3), (1, 1, 1), (1, 1, 4)], (8, 16)):
        samples = np.full(shape, 2**bits - 7, np.uint8 if bits == 8 else np.uint16)
        for suffix in (".png", ".tif"):
            write_photo(photo_of(samples), tmp_path / f"a{suffix}", overwrite=True)
            assert np.array_equal(samples_of(read_photo(tmp_path / f"a{suffix}")), samples)


def test_palette_becomes_rgb(tmp_path):
    paletted = Image.open(FIXTURES / "crop_a.png").quantize(200)
    paletted.save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert photo.alpha is None
    assert np.array_equal(samples_of(photo), np.asarray(paletted.convert("RGB")))


def test_palette_with_transparency(tmp_path):
    indices = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    indices.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    indices.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    expected = [[[255, 0, 0, 0], [0, 255, 0, 128]], [[0, 0, 255, 255], [9, 8, 7, 255]]]
    assert np.array_equal(samples_of(read_photo(tmp_path / "a.png")), expected)


def test_one_bit(tmp_path):
    bits = noise(1)[..., 0] > 127
    for suffix in (".png", ".tif", ".bmp"):
        Image.fromarray(bits).save(tmp_path / f"a{suffix}")
        photo = read_photo(tmp_path / f"a{suffix}")
        assert photo.pixels.shape == (HEIGHT, WIDTH, 1)
        assert np.array_equal(samples_of(photo)[..., 0], bits * 255)


def test_grey_with_alpha(tmp_path):
    samples = noise(2)
    for suffix in (".png", ".tif"):
        Image.fromarray(samples, "LA").save(tmp_path / f"a{suffix}")
        assert np.array_equal(samples_of(read_photo(tmp_path / f"a{suffix}")), samples)


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (8, 3), (16, 1), (16, 3)])
def test_one_transparent_colour_in_png(tmp_path, bits, channels):
    samples = noise(channels, bits)
    write_photo(photo_of(samples), tmp_path / "a.png")
    key = struct.pack(f">{channels}H", *samples[4, 5].tolist())
    data = (tmp_path / "a.png").read_bytes()
    chunk = struct.pack(">I", len(key)) + b"tRNS" + key
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    start = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:start] + chunk + data[start:])
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.alpha == 0, (samples == samples[4, 5]).all(axis=2))
    assert np.array_equal(samples_of(photo)[..., :-1], samples)


def test_cmyk(tmp_path):
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    flat.save(tmp_path / "a.jpg", quality=95)
    flat.save(tmp_path / "a.tif")
    for name in ("a.jpg", "a.tif"):
        photo = read_photo(tmp_path / name)
        assert photo.pixels.shape == (16, 16, 3)
        assert np.allclose(photo.pixels, [1, 0, 0], atol=0.02)


def test_a_cmyk_profile_does_not_stay_on_rgb(tmp_path):
    profile = SRGB[:16] + b"CMYK" + SRGB[20:]
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg", icc_profile=profile)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.icc_profile is None
    assert np.allclose(photo.pixels, 1, atol=0.02)


def test_name_outside_ascii_and_wrong_suffix(tmp_path):
    samples = noise(3, 16)
    path = tmp_path / "Büro 写真 é.png"
    write_photo(photo_of(samples), path)
    assert np.array_equal(samples_of(read_photo(path)), samples)
    wrong = path.rename(tmp_path / "really_png.jpg")
    assert read_photo(wrong).format == "PNG"


def test_first_frame_of_a_phones_multi_picture_jpeg(tmp_path):
    first = image(noise(3))
    preview = Image.new("RGB", (8, 8))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview], quality=95)
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.format == "JPEG"
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3)


# --- orientation
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_orientation_of_8_bit_files(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    path = tmp_path / f"a{suffix}"
    image(noise(3)).save(path, exif=exif, lossless=True)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    photo = read_photo(path)
    assert np.array_equal(samples_of(photo), expected)
    kept = Image.Exif()
    kept.load(photo.exif)
    assert kept[0x0112] == 1
    assert kept[0x010F] == "Maker"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "deflate", "lzw"])
def test_orientation_of_16_bit_files(tmp_path, kind, orientation):
    samples = noise(3, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "png":
        write_photo(photo_of(samples, exif=exif.tobytes()), path)
    elif kind == "deflate":
        tiff(path, samples, compression="zlib", extratags=[(0x0112, 3, 1, orientation, True)])
    else:
        lzw = cv2.imencode(".tif", samples[..., ::-1])[1].tobytes()
        path.write_bytes(with_tiff_orientation(lzw, orientation))
    small = Image.fromarray((samples >> 8).astype(np.uint8))
    small.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(small))
    got = samples_of(read_photo(path))
    assert np.array_equal(got >> 8, expected)
    assert got.size == samples.size
    assert np.array_equal(np.sort(got, axis=None), np.sort(samples, axis=None))


def with_tiff_orientation(data: bytes, orientation: int) -> bytes:
    """The same TIFF with an orientation: its directory copied to the end, one entry longer."""
    assert data[:4] == b"II*\0"
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    entries = [data[start + 2 + 12 * k : start + 14 + 12 * k] for k in range(count)]
    entries = [e for e in entries if struct.unpack("<H", e[:2])[0] != 0x0112]
    entries.append(struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0))
    entries.sort(key=lambda e: struct.unpack("<H", e[:2])[0])
    data += b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def test_orientation_is_not_applied_again(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for k, (first, second) in enumerate(
        itertools.product((".jpg", ".png", ".tif", ".webp"), repeat=2)
    ):
        source = tmp_path / f"{k}{first}"
        target = tmp_path / f"{k}out{second}"
        image(noise(3)).save(source, exif=exif, lossless=True)
        photo = read_photo(source)
        assert photo.pixels.shape == (WIDTH, HEIGHT, 3)
        write_photo(photo, target)
        assert read_photo(target).pixels.shape == (WIDTH, HEIGHT, 3)
        assert ImageOps.exif_transpose(Image.open(target)).size == (HEIGHT, WIDTH)


# --- what is written
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [
        pair
        for pair in itertools.product(LOSSLESS, [1, 2, 3, 4])
        if pair not in [(".bmp", 2), (".bmp", 4)]
    ],
)
def test_8_bit_round_trip_is_exact(tmp_path, suffix, channels):
    samples = noise(channels)
    write_photo(photo_of(samples), tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    if suffix == ".webp" and channels < 3:  # WebP knows no grey
        samples = samples[..., [0, 0, 0, 1][: channels + 2]]
    assert back.bits == 8
    assert np.array_equal(samples_of(back), samples)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_round_trip_is_exact(tmp_path, suffix, channels):
    samples = noise(channels, 16)
    assert len(np.unique(samples)) > 256
    write_photo(photo_of(samples), tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    if suffix == ".tif" and channels == 2:
        samples = samples[..., [0, 0, 0, 1]]
    assert back.bits == 16
    assert np.array_equal(samples_of(back), samples)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_other_programs_read_what_is_written(tmp_path, channels, bits):
    samples = noise(channels, bits)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    for suffix in (".png", ".tif"):
        write_photo(photo_of(samples), tmp_path / f"a{suffix}")
        if (suffix, samples.itemsize, channels) != (".tif", 1, 4):  # which OpenCV premultiplies
            seen = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED).reshape(
                samples.shape
            )
            assert np.array_equal(seen[..., order], samples)
        with Image.open(tmp_path / f"a{suffix}") as seen:
            assert bits == 16 or np.array_equal(np.asarray(seen).reshape(samples.shape), samples)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif").reshape(samples.shape), samples)


def test_tiff_of_many_strips(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (700, 900, 3)).astype(np.uint16)
    write_photo(photo_of(samples), tmp_path / "a.tif")
    assert tifffile.TiffFile(tmp_path / "a.tif").pages[0].tags["StripOffsets"].count > 2
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), samples)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".jfif"])
def test_jpeg_is_close(tmp_path, suffix):
    photo = read_photo(FIXTURES / "crop_a.png")
    write_photo(photo, tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    assert back.format == "JPEG"
    assert np.abs(back.pixels - photo.pixels).mean() < 0.02


def test_16_bits_are_rounded_to_8_not_cut(tmp_path):
    samples = noise(3, 16)
    for suffix in (".bmp", ".webp"):
        write_photo(photo_of(samples), tmp_path / f"a{suffix}")
        back = read_photo(tmp_path / f"a{suffix}")
        assert back.bits == 8
        assert np.array_equal(samples_of(back), np.rint(samples / 257).astype(np.uint8))


def test_values_are_rounded_and_clipped(tmp_path):
    values = np.array(
        [-3.0, -0.001, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.001, 7.0], np.float32
    )
    write_photo(Photo(values.reshape(1, 8, 1)), tmp_path / "a.png")
    assert samples_of(read_photo(tmp_path / "a.png")).ravel().tolist() == [
        0,
        0,
        0,
        1,
        254,
        255,
        255,
        255,
    ]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_profile_exif_and_dpi_are_kept(tmp_path, suffix, bits):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "Maker", "2024:01:02 03:04:05"
    exif.get_ifd(0x8769).update(
        {0x829A: 0.004, 0x9003: "2024:01:02 03:04:05", 0xA002: 999, 0x927C: b"note" * 9}
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0)})
    image(noise(3)).save(tmp_path / "in.jpg", exif=exif, icc_profile=SRGB, dpi=(300, 150))
    photo = read_photo(tmp_path / "in.jpg")
    assert photo.icc_profile == SRGB
    assert photo.dpi == (150, 300)  # turned with the picture
    photo.bits = bits
    write_photo(photo, tmp_path / f"out{suffix}")
    back = read_photo(tmp_path / f"out{suffix}")
    assert back.icc_profile == SRGB
    assert suffix == ".webp" or back.dpi == pytest.approx((150, 300), abs=0.02)
    kept = Image.open(tmp_path / f"out{suffix}").getexif()
    assert kept[0x0112] == 1
    assert kept[0x010F] == "Maker"
    assert kept[0x0132] == "2024:01:02 03:04:05"
    details = kept.get_ifd(0x8769)
    assert details[0x9003] == "2024:01:02 03:04:05"
    assert details[0x927C] == b"note" * 9
    assert float(details[0x829A]) == pytest.approx(0.004)
    assert 0xA002 not in details  # the old width
    assert kept.get_ifd(0x8825)[1] == "N"
    assert [float(v) for v in kept.get_ifd(0x8825)[2]] == [52, 30, 0]


def test_the_old_thumbnail_is_left_out(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumbnail, "JPEG")
    head = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 1, 0, 26)
    size = len(thumbnail.getvalue())
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, size, 0)
    exif = b"Exif\0\0" + head + second + thumbnail.getvalue()
    image(noise(3)).save(tmp_path / "a.jpg", exif=exif)
    assert (
        Image.open(tmp_path / "a.jpg").getexif().get_ifd(ExifTags.IFD.IFD1)
    )  # Pillow sees it in the source
    write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    assert not Image.open(tmp_path / "b.jpg").getexif().get_ifd(ExifTags.IFD.IFD1)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    image(noise(3)).save(tmp_path / "clean.jpg")
    expected = read_photo(tmp_path / "clean.jpg").pixels
    for k, exif in enumerate(
        [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
    ):
        image(noise(3)).save(tmp_path / f"{k}.jpg", exif=exif)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            photo = read_photo(tmp_path / f"{k}.jpg")
        assert np.array_equal(photo.pixels, expected)

        write_photo(photo, tmp_path / f"{k}.out.png")
        assert np.array_equal(read_photo(tmp_path / f"{k}.out.png").pixels, expected)


def test_exif_too_long_for_jpeg_is_left_out(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    write_photo(photo_of(noise(3), exif=exif.tobytes()), tmp_path / "a.jpg")
    write_photo(photo_of(noise(3), exif=exif.tobytes()), tmp_path / "a.png")
    assert read_photo(tmp_path / "a.jpg").exif is None
    assert read_photo(tmp_path / "a.png").exif is not None


def test_a_profile_of_other_pixels_is_left_out(tmp_path):
    write_photo(photo_of(noise(1), icc_profile=SRGB), tmp_path / "grey.png")
    assert read_photo(tmp_path / "grey.png").icc_profile is None


@pytest.mark.parametrize(("quality", "kept"), [(96, True), (80, True), (25, False)])
def test_jpeg_keeps_its_quality_unless_coarse(tmp_path, quality, kept):
    Image.open(FIXTURES / "crop_a.png").save(
        tmp_path / "a.jpg", quality=quality, subsampling="4:2:2"
    )
    write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    before = Image.open(tmp_path / "a.jpg").quantization
    after = Image.open(tmp_path / "b.jpg").quantization
    assert (before == after) == kept
    assert sum(after[0]) <= sum(before[0])


def test_a_coloured_picture_of_a_grey_jpeg(tmp_path):
    image(noise(1)).save(tmp_path / "a.jpg", quality=90)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape[2] == 1
    write_photo(photo, tmp_path / "grey.jpg")
    assert read_photo(tmp_path / "grey.jpg").pixels.shape[2] == 1
    photo.pixels = np.full((HEIGHT, WIDTH, 3), [0.9, 0.1, 0.1], np.float32)
    write_photo(photo, tmp_path / "colour.jpg")
    assert np.allclose(read_photo(tmp_path / "colour.jpg").pixels, photo.pixels, atol=0.03)


def test_lossy_webp_stays_lossy_and_lossless_stays_lossless(tmp_path):
    picture = Image.open(FIXTURES / "crop_a.png")
    for lossless in (True, False):
        picture.save(tmp_path / "a.webp", lossless=lossless, icc_profile=SRGB)
        photo = read_photo(tmp_path / "a.webp")
        write_photo(photo, tmp_path / "b.webp", overwrite=True)
        assert np.array_equal(read_photo(tmp_path / "b.webp").pixels, photo.pixels) == lossless


@pytest.mark.parametrize(
    ("source", "lossless"), [("a.png", True), ("a.tif", True), ("a.jpg", False), ("a.avif", False)]
)
def test_webp_is_lossless_unless_the_source_was_lossy(tmp_path, source, lossless):
    Image.open(FIXTURES / "crop_a.png").save(tmp_path / source)
    photo = read_photo(tmp_path / source)
    write_photo(photo, tmp_path / "b.webp")

    kept = read_photo(tmp_path / "b.webp")
    assert kept.encoding == {"lossless": lossless}
    assert np.array_equal(kept.pixels, photo.pixels) == lossless
    assert np.abs(kept.pixels - photo.pixels).mean() < 0.02


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_transparency_is_not_lost_silently(tmp_path, suffix):
    photo = photo_of(noise(4))
    with pytest.raises(BadArgument, match=r"\.png"):
        write_photo(photo, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []
    photo.alpha = np.ones((HEIGHT, WIDTH), np.float32)  # nothing to lose
    write_photo(photo, tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "photo",
    [
        Photo(np.full((4, 4, 3), np.nan, np.float32)),
        Photo(np.full((4, 4, 3), np.inf, np.float32)),
        Photo(np.zeros((4, 4, 3), np.float32), np.full((4, 4), np.nan, np.float32)),
        Photo(np.zeros((4, 4), np.float32)),
        Photo(np.zeros((4, 4, 2), np.float32)),
        Photo(np.zeros((0, 4, 3), np.float32)),
        Photo(np.zeros((4, 4, 3), np.float32), np.zeros((4, 5), np.float32)),
        Photo(np.zeros((4, 4, 3), np.float32), bits=12),
    ],
)
def test_what_is_no_picture_is_not_written(tmp_path, photo):
    with pytest.raises(BadArgument):
        write_photo(photo, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.gif", "a", "a.txt"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(BadArgument, match=r"\.webp"):
        write_photo(photo_of(noise(3)), tmp_path / name)


def test_too_large_for_the_format(tmp_path):
    with pytest.raises(BadArgument, match="WEBP"):
        write_photo(Photo(np.zeros((1, 17_000, 3), np.float32)), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


# --- files
# ------------------------------------------------------------------------------------------------


def test_parents_are_made_and_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_photo(photo_of(noise(3)), tmp_path / "x" / "y" / "a.png")
    finally:
        os.umask(old)
    assert (tmp_path / "x" / "y" / "a.png").stat().st_mode & 0o777 == 0o640
    assert [p.name for p in (tmp_path / "x" / "y").iterdir()] == ["a.png"]


def test_existing_target_needs_overwrite(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(FileAccess, match="`overwrite`"):
        write_photo(photo_of(noise(3)), path)
    assert path.read_bytes() == b"precious"
    write_photo(photo_of(noise(3)), path, overwrite=True)
    assert np.array_equal(samples_of(read_photo(path)), noise(3))


def break_encoder(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("encoder error -2")

    monkeypatch.setattr(Image.Image, "save", fail)


def break_replace(monkeypatch):
    def fail(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(restore.files.os, "replace", fail)


def break_disk(monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(restore.files.os, "fsync", fail)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(break_encoder, BadArgument), (break_replace, FileAccess), (break_disk, FileAccess)],
)
def test_a_failure_leaves_the_old_file_whole(tmp_path, monkeypatch, fault, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    fault(monkeypatch)
    with pytest.raises(error, match=r"a\.png"):
        write_photo(photo_of(noise(3)), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(("call", "overwrite"), [("link", False), ("replace", True)])
def test_interruption_leaves_no_temporary(tmp_path, monkeypatch, call, overwrite):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(restore.files.os, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(photo_of(noise(3)), tmp_path / "a.png", overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    fsync = os.fsync

    def someone_else_writes(descriptor):
        path.write_bytes(b"theirs")
        fsync(descriptor)

    monkeypatch.setattr(restore.files.os, "fsync", someone_else_writes)
    with pytest.raises(FileAccess):
        write_photo(photo_of(noise(3)), path)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_unwritable_targets(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FileAccess):
        write_photo(photo_of(noise(3)), tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileAccess):
        write_photo(photo_of(noise(3)), tmp_path / "folder.png", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


def test_unreachable_inputs(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "file" / "a.png", Path("a\0.png")):
        with pytest.raises(FileAccess):
            read_photo(path)


# --- bad pictures
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture at all", "not a picture of a known format. Accepted are PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "the file ends before its picture does"),
        (b"II*\0\x08\0\0\0", "a TIFF without a picture"),
        (b"\xff\xd8", "its JPEG header is damaged"),
    ],
)
def test_not_a_picture(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableInput, match=rf"a\.png: {reason}"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp", ".webp"])
def test_truncated_anywhere(tmp_path, suffix, bits):
    write_photo(photo_of(noise(3, bits)), tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    for part in (0.05, 0.3, 0.6, 0.9, 0.98):
        (tmp_path / f"a{suffix}").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableInput, match=rf"a\{suffix}"):
            read_photo(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_flipped_bit_in_png_is_noticed(tmp_path, bits):
    write_photo(photo_of(noise(3, bits)), tmp_path / "a.png")
    hurt = bytearray((tmp_path / "a.png").read_bytes())
    hurt[len(hurt) // 2] ^= 4
    (tmp_path / "a.png").write_bytes(hurt)
    with pytest.raises(UnreadableInput):
        read_photo(tmp_path / "a.png")


def test_truncated_lzw_tiff(tmp_path):
    samples = noise(3, 16)
    whole = cv2.imencode(".tif", samples[..., ::-1])[1].tobytes()
    for part in (0.3, 0.6, 0.95):
        (tmp_path / "a.tif").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "a.tif")


def test_lzw_tiff_whose_directory_comes_first(tmp_path):
    samples = noise(3, 16)
    last = cv2.imencode(".tif", samples[..., ::-1])[1].tobytes()
    with tifffile.TiffFile(io.BytesIO(last)) as file:
        page = file.pages[0]
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        strips = [last[start : start + size] for start, size in places]
        values = {c: page.tags[c].value for c in (256, 257, 258, 259, 262, 277, 278, 284)}
        values[317] = int(page.predictor)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for code, value in values.items():
        tags[code] = int(value) if np.isscalar(value) else value
    sizes = [len(strip) for strip in strips]
    tags[273], tags[279] = tuple(np.cumsum([0, *sizes[:-1]]).tolist()), tuple(sizes)
    whole = io.BytesIO()
    tags.save(whole)
    whole = whole.getvalue() + b"".join(strips)
    (tmp_path / "a.tif").write_bytes(whole)
    assert np.array_equal(samples_of(read_photo(tmp_path / "a.tif")), samples)
    for missing in (1, 100, len(whole) // 2):
        (tmp_path / "a.tif").write_bytes(whole[:-missing])
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_damage_never_escapes_as_another_error(tmp_path, suffix):
    rng = np.random.default_rng(0)
    for bits in (8, 16):
        write_photo(photo_of(noise(3, bits)), tmp_path / f"whole{suffix}", overwrite=True)
        whole = np.frombuffer((tmp_path / f"whole{suffix}").read_bytes(), np.uint8)
        for _ in range(40):
            hurt = whole.copy()
            hurt[rng.integers(0, min(len(hurt), 400), 3)] = rng.integers(0, 256, 3)
            (tmp_path / f"a{suffix}").write_bytes(hurt.tobytes())
            with contextlib.suppress(UnreadableInput):
                read_photo(tmp_path / f"a{suffix}", max_pixels=10**6)


def test_animated_and_multi_page(tmp_path):
    frames = [image(noise(3, seed=k)) for k in range(3)]
    for name in ("a.png", "a.webp", "a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableInput, match=r"several pages \(3\)"):
            read_photo(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint32, np.int16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_other_numbers(tmp_path, dtype, channels):
    tiff(tmp_path / "a.tif", noise(channels).astype(dtype))
    with pytest.raises(UnreadableInput, match="which is not read: convert it to unsigned"):
        read_photo(tmp_path / "a.tif")


def test_pixel_limit_is_checked_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    (tmp_path / "bomb.png").write_bytes(bomb + b"\0\0\0\x04IDAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableInput, match=r"100000 x 100000 .* limit of 200000000"):
            read_photo(tmp_path / "bomb.png")
    write_photo(photo_of(noise(3)), tmp_path / "a.png")
    read_photo(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH)
    with pytest.raises(UnreadableInput):
        read_photo(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH - 1)


def test_pillows_own_limit_neither_warns_nor_refuses_nor_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 10
    )  # 20 and more would be refused, 10 to 20 warned about
    for suffix in (".png", ".tif", ".webp"):
        write_photo(photo_of(noise(3)), tmp_path / f"a{suffix}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ThreadPoolExecutor(4) as pool:
                photos = list(pool.map(read_photo, [tmp_path / f"a{suffix}"] * 8))
            assert all(np.array_equal(samples_of(photo), noise(3)) for photo in photos)
    assert Image.MAX_IMAGE_PIXELS == 10


# --- masks
# ------------------------------------------------------------------------------------------------


def test_mask_is_true_where_white(tmp_path):
    Image.fromarray(np.array([[0, 127], [128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, False], [True, True]]
    assert read_mask(tmp_path / "m.png", 0.0).tolist() == [[False, True], [True, True]]
    assert read_mask(tmp_path / "m.png", 0.9).tolist() == [[False, False], [False, True]]
    assert read_mask(tmp_path / "m.png").dtype == bool


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(tmp_path, mode):
    white = np.zeros((HEIGHT, WIDTH), bool)
    white[3:9, 20:30] = True
    if mode == "I;16":
        cv2.imwrite(str(tmp_path / "m.png"), white * np.uint16(65535))
    else:
        Image.fromarray(white * np.uint8(255)).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), white)


def test_mask_painted_on_a_transparent_layer(tmp_path):
    strokes = np.full((2, 2, 4), 255, np.uint8)
    strokes[0, :, 3] = 0  # white, but transparent
    Image.fromarray(strokes).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[False, False], [True, True]]


def test_mask_with_its_shape_only_in_alpha_is_refused(tmp_path):
    black = np.zeros((2, 2, 4), np.uint8)
    black[0, :, 3] = 255
    Image.fromarray(black).save(tmp_path / "m.png")
    with pytest.raises(UnreadableInput, match="transparency"):
        read_mask(tmp_path / "m.png")
    black[..., 3] = 255
    Image.fromarray(black).save(tmp_path / "empty.png")
    assert not read_mask(tmp_path / "empty.png").any()


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 128, float("nan")])
def test_mask_threshold_out_of_range(tmp_path, threshold):
    with pytest.raises(BadArgument):
        read_mask(tmp_path / "m.png", threshold)


# --- the committed crops
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crop_a.png", "crop_b.png"])
def test_fixtures(name):
    photo = read_photo(FIXTURES / name)
    assert photo.pixels.shape == (128, 128, 3)
    assert photo.bits == 8
    assert photo.pixels.std() > 0.1
    assert photo.alpha is None


def test_suffixes():
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
