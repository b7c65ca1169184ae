"""Floating-point TIFF in and out; AVIF and HEIC in."""

from __future__ import annotations

import importlib.util
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.pictures import files, piece
from test_photo import HEIGHT, SRGB, WIDTH, noise, photo_of, tiff

from restore.errors import Unavailable, UnreadableInput
from restore.jobs.walk import pictures_in
from restore.photo.formats.avif import opencv_has_avif
from restore.photo.photograph import SUFFIXES, Photo, read_photo, write_photo

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
needs_heif = pytest.mark.skipif(not HAS_HEIF, reason="pillow-heif is not installed")
knows_avif = opencv_has_avif()


def floats(channels: int, dtype: type = np.float32) -> np.ndarray:
    """Values [HEIGHT, WIDTH, channels] in [0, 1], with both ends in them."""
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, channels)).astype(dtype)
    values[0, 0], values[0, 1] = 0, 1
    return values


def pixels_and_alpha(photo: Photo) -> np.ndarray:
    return photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])


# --- floating-point TIFF in
# ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}], ids=str
)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_reads_floats_of_tifffile(tmp_path, options, channels, dtype):
    values = floats(channels, dtype)
    photo = read_photo(tiff(tmp_path / "a.tif", values, **options))
    assert (photo.bits, photo.format) == (32, "TIFF")
    assert photo.pixels.dtype == np.float32
    assert np.array_equal(pixels_and_alpha(photo), values.astype(np.float32))


def test_reads_grey_floats_with_alpha(tmp_path):
    values = floats(2)
    tiff(tmp_path / "a.tif", values, planarconfig="contig", extrasamples=["unassalpha"])
    assert np.array_equal(pixels_and_alpha(read_photo(tmp_path / "a.tif")), values)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_reads_floats_in_separate_planes(tmp_path, bigtiff):
    values = floats(3)
    planes = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    tifffile.imwrite(
        tmp_path / "a.tif",
        planes,
        photometric="rgb",
        planarconfig="separate",
        metadata=None,
        bigtiff=bigtiff,
    )
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, values)


@pytest.mark.parametrize("compression", [1, 5, 8])  # none, LZW, deflate
@pytest.mark.parametrize("channels", [1, 3])
def test_reads_floats_of_opencv(tmp_path, compression, channels):
    values = floats(channels)
    stored = values[..., ::-1] if channels == 3 else values
    cv2.imwrite(str(tmp_path / "a.tif"), stored, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, values)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}], ids=str
)
@pytest.mark.parametrize("predictor", [1, 3])
def test_reads_floats_of_pillow(tmp_path, options, predictor):
    values = floats(1)
    said = {317: predictor} if options else {}
    Image.fromarray(values[..., 0]).save(tmp_path / "a.tif", tiffinfo=said, **options)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, values)


def test_premultiplied_float_alpha_is_divided_out(tmp_path):
    values = floats(4)
    values[..., 3] = np.maximum(values[..., 3], 0.1)
    values[3, 3] = 0
    stored = values.copy()
    stored[..., :3] *= values[..., 3:]
    photo = read_photo(tiff(tmp_path / "a.tif", stored, extrasamples=["assocalpha"]))
    assert np.allclose(pixels_and_alpha(photo), values, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_float_files(tmp_path, orientation):
    values = floats(3)
    tiff(tmp_path / "a.tif", values, extratags=[(0x0112, 3, 1, orientation, True)])
    tiff(
        tmp_path / "b.tif",
        np.rint(values * 65535).astype(np.uint16),
        extratags=[(0x0112, 3, 1, orientation, True)],
    )
    assert np.allclose(
        read_photo(tmp_path / "a.tif").pixels, read_photo(tmp_path / "b.tif").pixels, atol=1e-5
    )


def test_overshoots_are_cut_and_other_ranges_refused(tmp_path):
    values = floats(3)
    values[5, 5], values[6, 6] = -0.009, 1.009
    photo = read_photo(tiff(tmp_path / "a.tif", values))
    assert np.array_equal(photo.pixels, values.clip(0, 1))
    for wrong in (values * 255, values - 0.5, values + 0.02):
        with pytest.raises(
            UnreadableInput,
            match=rf"from {wrong.min():g} to {wrong.max():g}; they must lie between 0",
        ):
            read_photo(tiff(tmp_path / "a.tif", wrong))
    for wrong in (np.nan, np.inf):
        values[7, 7] = wrong
        with pytest.raises(UnreadableInput, match="not finite"):
            read_photo(tiff(tmp_path / "a.tif", values))


def test_float_limits(tmp_path):
    tiff(tmp_path / "a.tif", floats(3))
    with pytest.raises(UnreadableInput, match="more than the limit"):
        read_photo(tmp_path / "a.tif", max_pixels=HEIGHT * WIDTH - 1)
    tifffile.imwrite(
        tmp_path / "b.tif", np.stack([floats(3)] * 2), photometric="rgb", metadata=None
    )
    with pytest.raises(UnreadableInput, match="several pages"):
        read_photo(tmp_path / "b.tif")
    whole = (tmp_path / "a.tif").read_bytes()
    for part in (0.05, 0.5, 0.9):
        (tmp_path / "c.tif").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "c.tif")


# --- floating-point TIFF out
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_float_round_trip_is_exact(tmp_path, channels):
    values = floats(channels)
    alpha = values[..., -1] if channels in (2, 4) else None
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    said = {
        "icc_profile": SRGB if channels > 2 else None,
        "exif": exif.tobytes(),
        "dpi": (300.0, 150.0),
    }
    write_photo(
        Photo(values[..., : 1 if channels < 3 else 3], alpha, 32, "TIFF", **said),
        tmp_path / "a.tif",
    )
    back = read_photo(tmp_path / "a.tif")
    assert (back.bits, back.icc_profile, back.dpi) == (32, said["icc_profile"], said["dpi"])
    assert b"Maker" in back.exif
    order = [0, 0, 0, 1] if channels == 2 else slice(None)  # grey with alpha becomes RGB
    assert np.array_equal(pixels_and_alpha(back), values[..., order])
    seen = tifffile.imread(tmp_path / "a.tif")
    assert seen.dtype == np.float32
    assert np.array_equal(seen.reshape(HEIGHT, WIDTH, -1), values[..., order])
    first = (tmp_path / "a.tif").read_bytes()
    write_photo(back, tmp_path / "b.tif")
    assert channels == 2 or (tmp_path / "b.tif").read_bytes() == first


def test_opencv_reads_float_files(tmp_path):
    values = floats(3)
    write_photo(Photo(values, bits=32), tmp_path / "a.tif")
    assert np.array_equal(
        cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)[..., ::-1], values
    )


def test_floats_are_rounded_where_a_format_has_none(tmp_path):
    values = floats(3)
    for suffix, bits in ((".png", 16), (".webp", 8), (".bmp", 8)):
        write_photo(Photo(values, bits=32), tmp_path / f"a{suffix}")
        back = read_photo(tmp_path / f"a{suffix}")
        assert back.bits == bits
        assert np.abs(back.pixels - values).max() <= 0.5001 / (2**bits - 1)


def test_floats_through_the_command(command, tmp_path):
    values = np.asarray(piece((24, 16))).astype(np.float32) / 255
    tiff(tmp_path / "in.tif", values)
    outcome = command(
        "sr", tmp_path / "in.tif", tmp_path / "out.tif", "--scale", 2, "--method", "one-step"
    )
    assert outcome.code == 0, outcome.err
    assert tifffile.imread(tmp_path / "out.tif").shape == (32, 48, 3)
    assert tifffile.imread(tmp_path / "out.tif").dtype == np.float32


# --- AVIF
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_reads_avif_and_writes_png(command, picture, tmp_path, mode):
    path = picture("in/a.avif", mode, (32, 24), quality=100, subsampling="4:4:4", icc_profile=SRGB)
    photo = read_photo(path)
    assert (photo.format, photo.bits, photo.icc_profile) == ("AVIF", 8, SRGB)
    assert np.abs(photo.pixels * 255 - np.asarray(piece((32, 24)))).mean() < 3
    assert (photo.alpha is None) == (mode == "RGB")
    assert command("denoise", path, "--noise", 0.1, "--method", "one-step").code == 0
    assert (
        command(
            "denoise", tmp_path / "in", tmp_path / "out", "--noise", 0.1, "--method", "one-step"
        ).code
        == 0
    )
    assert sorted(files(tmp_path)) == [
        "in/a-denoise.png",
        "in/a.avif",
        "out/a-denoise.png",
        "out/a.png",
    ]
    with Image.open(tmp_path / "out" / "a.png") as im:
        assert (im.mode, im.format, im.info["icc_profile"]) == (mode, "PNG", SRGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_avif(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.avif", "a.jpg"):
        piece((32, 24)).save(tmp_path / name, exif=exif.tobytes(), quality=100)
    photo = read_photo(tmp_path / "a.avif")
    same = read_photo(tmp_path / "a.jpg")
    assert np.abs(photo.pixels - same.pixels).mean() < 0.02


@pytest.mark.skipif(not knows_avif, reason="this build of OpenCV has no AVIF")
@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_avif_is_read_in_16_bits(tmp_path, depth, channels):
    rows = np.linspace(0, 2**depth - 1, 64 * 64).reshape(64, 64)
    values = np.dstack([rows, rows.T, rows[::-1], rows[:, ::-1]][:channels]).astype(np.uint16)
    settings = [cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_DEPTH, depth]
    cv2.imwrite(str(tmp_path / "a.avif"), values[..., [2, 1, 0, 3][:channels]], settings)
    photo = read_photo(tmp_path / "a.avif")
    assert photo.bits == 16
    assert len(np.unique(photo.pixels)) > 256
    assert np.abs(pixels_and_alpha(photo) - values / (2**depth - 1)).mean() < 0.01
    assert photo.pixels.max() > 0.995


def test_animated_avif_is_refused(tmp_path):
    frames = [Image.new("RGB", (16, 16), name) for name in ("red", "blue")]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableInput, match=r"animated or has several pages \(2\)"):
        read_photo(tmp_path / "a.avif")


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_formats_that_are_only_read_are_not_written(command, picture, tmp_path, suffix):
    outcome = command("denoise", picture("in.png"), tmp_path / f"out{suffix}", "--noise", 0.1)
    assert outcome.code == 1
    assert ".png" in outcome.err
    assert list(files(tmp_path)) == ["in.png"]


# --- HEIC
# ------------------------------------------------------------------------------------------------


def test_without_the_package_heic_says_what_to_install(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(Unavailable, match=r"a\.heic: .*pip install 'restore-diffusion\[heic\]'"):
        read_photo(tmp_path / "a.heic")
    outcome = command("denoise", tmp_path / "a.heic", "--noise", 0.1)
    assert outcome.code == 3
    assert "pip install" in outcome.err


def test_heic_counts_in_folders_only_where_it_can_be_read(picture, tmp_path):
    for name in ("a.heic", "b.HEIF"):
        (tmp_path / name).write_bytes(b"x")
    picture("c.png")
    found = [path.name for path in pictures_in(tmp_path, SUFFIXES)]
    assert found == (["a.heic", "b.HEIF", "c.png"] if HAS_HEIF else ["c.png"])


@needs_heif
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_reads_heic_and_writes_png(command, tmp_path, mode):
    import pillow_heif

    im = piece((64, 48)).convert(mode)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    heif = pillow_heif.from_pillow(im)
    heif.save(tmp_path / "a.heic", quality=95, chroma=444, exif=exif.tobytes(), icc_profile=SRGB)
    photo = read_photo(tmp_path / "a.heic")
    assert (photo.format, photo.bits) == ("HEIF", 8)
    assert b"Maker" in photo.exif
    kept = Image.Exif()
    kept.load(photo.exif)
    assert kept.get(0x0112, 1) == 1
    upright = im.transpose(Image.Transpose.ROTATE_270) if photo.pixels.shape[0] == 64 else im
    expected = np.asarray(upright.convert("RGB")) / 255
    assert np.abs(photo.pixels - expected).mean() < 0.03
    assert command("denoise", tmp_path / "a.heic", "--noise", 0.1, "--method", "one-step").code == 0
    assert read_photo(tmp_path / "a-denoise.png").pixels.shape[:2] == photo.pixels.shape[:2]


@needs_heif
def test_deep_heic_is_read_in_16_bits(tmp_path):
    import pillow_heif

    rows = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    values = np.dstack([rows, rows.T, rows[::-1]]).astype(np.uint16)
    heif = pillow_heif.from_bytes("RGB;16", (64, 64), values.tobytes())
    heif.save(tmp_path / "a.heic", quality=-1, chroma=444)
    photo = read_photo(tmp_path / "a.heic")
    assert photo.bits == 16
    assert len(np.unique(photo.pixels)) > 256
    assert np.abs(photo.pixels - values / 65535).mean() < 0.01
    assert photo.pixels.max() > 0.995


@needs_heif
def test_bad_heic(tmp_path):
    import pillow_heif

    pillow_heif.from_pillow(piece((64, 48))).save(tmp_path / "a.heic")
    with pytest.raises(UnreadableInput, match="more than the limit"):
        read_photo(tmp_path / "a.heic", max_pixels=64 * 48 - 1)
    whole = (tmp_path / "a.heic").read_bytes()
    for part in (0.1, 0.5, 0.9):
        (tmp_path / "b.heic").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "b.heic")


def test_a_photo_of_floats_is_not_changed_by_writing(tmp_path):
    photo = photo_of(noise(4, 16))
    photo.bits = 32
    before = photo.pixels.copy(), photo.alpha.copy()
    write_photo(photo, tmp_path / "a.tif")
    assert np.array_equal(photo.pixels, before[0])
    assert np.array_equal(photo.alpha, before[1])
