"""What a JPEG stores, against Pillow's decoding and the tables that files were written with."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import jpeglib
import numpy as np
import pytest
from PIL import Image
from support.pictures import piece

from operators.jpeg import CHROMA_TABLE, LUMA_TABLE
from restore.errors import UnreadableInput
from restore.photo import apart
from restore.photo.apart import DECODER, decoding_apart
from restore.photo.decode import turned
from restore.photo.formats.jpeg_agreement import agrees
from restore.photo.formats.jpeg_coefficients import stored_jpeg
from restore.photo.formats.jpeg_segments import Malformed, layout
from restore.photo.photograph import Photo, read_photo
from restore.photo.pictures import open_picture
from restore.photo.stored import DCT, Component, StoredJpeg, libjpeg_table

PICTURE = piece((112, 96)).convert("RGB")
LUMA, CHROMA = np.array(LUMA_TABLE), np.array(CHROMA_TABLE)


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def read(data: bytes) -> StoredJpeg | None:
    """Read a sound file here: it will not end this process."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return stored_jpeg(image, data, 1)


def written(folder: Path, pixels: np.ndarray, factors: object, *flags: str) -> bytes:
    """A file as Pillow does not write it, of quality 70."""
    jpeg = jpeglib.from_spatial(np.ascontiguousarray(pixels))
    jpeg.samp_factor = factors if isinstance(factors, str) else np.array(factors)
    jpeglib.version.set("turbo210")
    jpeg.write_spatial(str(folder / "a.jpg"), qt=70, flags=list(flags))
    return (folder / "a.jpg").read_bytes()


def samples(component: Component) -> np.ndarray:
    """Dequantised and transformed back, [8 rows, 8 columns]."""
    blocks = DCT.T @ (component.coefficients * component.table.astype(float)) @ DCT
    rows, columns = blocks.shape[:2]
    return blocks.swapaxes(1, 2).reshape(8 * rows, 8 * columns).round().clip(-128, 127) + 128


def first_of(data: bytes, is_transformed: bool) -> np.ndarray:
    """The first component as libjpeg decodes it, which no conversion of colours has rounded."""
    image = Image.open(io.BytesIO(data))
    if is_transformed:
        image.draft("YCbCr", image.size)
    return np.asarray(image.getchannel(0)).astype(int)


def first_is_right(data: bytes) -> StoredJpeg:
    """Check the first component, where it has full resolution."""
    stored = read(data)
    assert stored is not None
    expected = first_of(data, stored.colour == "YCbCr")
    assert expected.shape == (stored.height, stored.width)
    found = samples(stored.components[0])[: stored.height, : stored.width]
    assert np.abs(found - expected).max() <= 1
    return stored


SIZES = [(112, 96), (83, 61), (1, 40), (40, 1), (1, 1), (9, 17), (3, 5)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "grey"])
def test_luma_is_what_pillow_decodes(size, subsampling):
    picture = PICTURE.crop((0, 0, *size))
    grey = subsampling == "grey"
    options = {} if grey else {"subsampling": subsampling}
    for quality, more in [(30, {}), (95, {"progressive": True}), (60, {"restart_marker_rows": 1})]:
        data = encoded(
            picture.convert("L") if grey else picture, quality=quality, **options, **more
        )
        stored = first_is_right(data)
        assert stored.quality == quality
        assert (stored.height, stored.width) == size[::-1]
        assert stored.colour == ("grey" if grey else "YCbCr")
        assert np.array_equal(stored.components[0].table, libjpeg_table(LUMA, quality))
        if grey:
            continue
        factors = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}[subsampling]
        assert (stored.vertical, stored.horizontal) == factors
        rows, columns = stored.components[1].coefficients.shape[:2]
        assert (rows, columns) == (
            -(-size[1] // (8 * factors[0])),
            -(-size[0] // (8 * factors[1])),
        )
        assert np.array_equal(stored.components[2].table, libjpeg_table(CHROMA, quality))


@pytest.mark.parametrize(
    "factors",
    [
        *("4:1:1", "4:4:0", "4:1:0"),
        *([[2, 2], [2, 1], [1, 2]], [[2, 4], [1, 1], [1, 1]], [[1, 2], [1, 1], [1, 1]]),
    ],
    ids=str,
)
def test_other_sampling(tmp_path, factors):
    first_is_right(written(tmp_path, np.asarray(PICTURE)[:61, :83], factors))


def test_luma_of_less_resolution_than_chroma(tmp_path):
    data = written(tmp_path, np.asarray(PICTURE)[:61, :83], [[1, 1], [2, 1], [1, 1]])
    stored = read(data)
    assert stored is not None
    assert [one.coefficients.shape[:2] for one in stored.components] == [(4, 11), (8, 11), (4, 11)]


@pytest.mark.parametrize("flags", [["+ARITH_CODE"], ["+ARITH_CODE", "+PROGRESSIVE_MODE"]])
def test_arithmetic_coding(tmp_path, flags):
    first_is_right(written(tmp_path, np.asarray(PICTURE), "4:2:0", *flags))


@pytest.mark.parametrize("quality", [5, 75, 100])
def test_components_without_a_transform(quality):
    rgb = first_is_right(encoded(PICTURE, quality=quality, keep_rgb=True))
    assert rgb.colour == "RGB"
    assert all(np.array_equal(one.table, libjpeg_table(LUMA, quality)) for one in rgb.components)

    data = encoded(PICTURE.convert("CMYK"), quality=quality)
    ink = read(data)
    assert ink is not None
    assert ink.colour == "CMYK"
    for number, component in enumerate(ink.components):
        pillow = np.asarray(Image.open(io.BytesIO(data)))[..., number].astype(int)
        assert np.abs(255 - samples(component)[:96, :112] - pillow).max() <= 1


def test_ycck():
    """Adobe's kind of CMYK: the same planes, marked as transformed, are other colours."""
    data = encoded(PICTURE.convert("CMYK"), quality=80)
    place = data.index(b"Adobe") + 11
    stored = read(data[:place] + b"\2" + data[place + 1 :])
    assert stored is not None
    assert stored.colour == "YCCK"


def test_tables_of_other_families():
    table = [1 + (3 * place) % 40 for place in range(64)]
    stored = first_is_right(encoded(PICTURE, qtables=[table, [90] * 64], subsampling="4:2:0"))
    assert stored.quality is None
    assert stored.components[0].table.ravel().tolist() == table
    assert (stored.components[1].table == 90).all()


def test_tables_of_16_bits():
    data = encoded(PICTURE.convert("L"), quality=50)
    place = data.index(b"\xff\xdb") + 4
    steps = data[place + 1 : place + 65]
    wide = b"\xff\xdb" + struct.pack(">HB64H", 131, 0x10, *steps)
    stored = read(data[: place - 4] + wide + data[place + 65 :])
    assert stored is not None
    assert stored.quality == 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_the_way_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE.convert("L"), quality=90, exif=exif)
    (tmp_path / "a.jpg").write_bytes(data)
    photo = read_photo(tmp_path / "a.jpg", coefficients=True)
    stored = photo.stored
    assert stored is not None
    assert stored.orientation == orientation
    assert (stored.height, stored.width) == (96, 112)
    upright = turned(samples(stored.components[0])[..., None], orientation)
    assert np.abs(photo.pixels * 255 - upright).max() < 1.5


def test_what_is_read_does_not_depend_on_where(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(PICTURE, quality=77))
    (tmp_path / "a.png").write_bytes(b"")
    PICTURE.save(tmp_path / "a.png")
    here = read((tmp_path / "a.jpg").read_bytes())
    assert read_photo(tmp_path / "a.jpg").stored is None
    with decoding_apart():
        there = read_photo(tmp_path / "a.jpg", coefficients=True).stored
        assert read_photo(tmp_path / "a.jpg").stored is None
        assert read_photo(tmp_path / "a.png", coefficients=True).stored is None
    assert here is not None
    assert there is not None
    assert (there.colour, there.height, there.width, there.quality) == ("YCbCr", 96, 112, 77)
    for one, other in zip(here.components, there.components, strict=True):
        assert other.coefficients.dtype == np.int16
        assert np.array_equal(one.coefficients, other.coefficients)
        assert np.array_equal(one.table, other.table)
        assert (one.vertical, one.horizontal) == (other.vertical, other.horizontal)


def test_a_photo_brings_it_along(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(PICTURE, quality=77))
    photo = read_photo(tmp_path / "a.jpg", coefficients=True)
    assert open_picture(photo).stored is photo.stored is not None
    assert open_picture(Photo(photo.pixels)).stored is None
    assert open_picture(photo.pixels, coefficients=True).stored is None


class TestImagesOfPillow:
    """Only an image that is still what its file holds has it."""

    @pytest.fixture
    def path(self, tmp_path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / "a.jpg").write_bytes(encoded(PICTURE, quality=77, exif=exif))
        return tmp_path / "a.jpg"

    def stored(self, image: Image.Image) -> StoredJpeg | None:
        return open_picture(image, coefficients=True).stored

    def test_of_a_path(self, path):
        with Image.open(path) as image:
            assert open_picture(image).stored is None
            first = self.stored(image)
            second = self.stored(image)  # loaded now
        assert first is not None
        assert second is not None
        assert (first.quality, first.orientation) == (77, 6)

    def test_in_memory(self, path):
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert open_picture(image).stored is None
        first = open_picture(image, coefficients=True)
        second = open_picture(image, coefficients=True)
        assert first.stored is not None
        assert second.stored is not None
        assert (first.stored.quality, second.stored.quality) == (77, 77)
        assert (first.gone, second.gone) == (False, False)

    def test_in_memory_and_changed(self, path):
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert self.stored(image) is not None
        image.putpixel((3, 4), (1, 2, 3))
        assert self.stored(image) is None

    @pytest.mark.parametrize("save", ["JPEG", "PNG"])
    def test_in_memory_and_loaded(self, save):
        file = io.BytesIO()
        PICTURE.save(file, save)
        image = Image.open(file)
        image.load()  # Pillow gives the file up
        opened = open_picture(image, coefficients=True)
        assert opened.stored is None
        assert opened.gone == (save == "JPEG")
        assert not open_picture(image).gone

    def test_ink(self, path):
        PICTURE.convert("CMYK").save(path)
        stored = self.stored(Image.open(path))
        assert stored is not None
        assert stored.colour == "CMYK"

    def test_changed(self, path):
        image = Image.open(path)
        image.putpixel((3, 4), (1, 2, 3))
        assert self.stored(image) is None
        reduced = Image.open(path)
        reduced.draft("RGB", (50, 40))
        assert self.stored(reduced) is None
        for other in (Image.open(path).copy(), Image.open(path).convert("L"), Image.open(path)):
            if other.mode == "RGB" and hasattr(other, "filename"):
                other.getexif()[0x0112] = 1
            assert self.stored(other) is None

    def test_of_a_file_that_is_gone_or_another(self, path):
        image = Image.open(path)
        image.load()
        PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
        assert self.stored(image) is None
        path.write_bytes(b"no picture")
        assert self.stored(image) is None
        path.unlink()
        assert self.stored(image) is None
        assert open_picture(image, coefficients=True).color.shape == (1, 3, 112, 96)


def test_the_main_picture_of_an_mpo(tmp_path):
    small = PICTURE.resize((56, 48))
    PICTURE.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[small], quality=66)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    stored = read_photo(tmp_path / "a.jpg", coefficients=True).stored
    assert stored is not None
    assert (stored.height, stored.width, stored.quality) == (96, 112, 66)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
        assert open_picture(image, coefficients=True).stored is not None


FRAME = b"\xff\xc0\0\x11\x08\0\x60\0\x70\x03"
# What is replaced in a sound file, and by what.
BAD = {
    "no quantisation tables": (b"\xff\xdb", b"\xff\xec"),
    "12 bits": (FRAME, FRAME.replace(b"\x08", b"\x0c")),
    "lossless": (FRAME, FRAME.replace(b"\xff\xc0", b"\xff\xc3")),
    "hierarchical": (FRAME, FRAME.replace(b"\xff\xc0", b"\xff\xc5")),
    "huge": (FRAME, FRAME.replace(b"\0\x60\0\x70", b"\xff\xff\xff\xff")),
    "no rows": (FRAME, FRAME.replace(b"\0\x60", b"\0\0")),
    "two components": (FRAME, FRAME[:-1] + b"\x02"),
}


class TestDamage:
    """The picture is read as without the coefficients, or refused in the same words."""

    def test_completed_files_have_none(self, tmp_path):
        data = encoded(PICTURE, quality=90)
        for name, cut in [("a.jpg", data[:2000]), ("b.jpg", data[:2000] + bytes(3000))]:
            (tmp_path / name).write_bytes(cut)
            photo = read_photo(tmp_path / name, allow_truncated=True, coefficients=True)
            assert photo.notes
            assert photo.stored is None

    def test_garbage_between_segments_and_metadata_are_passed_over(self):
        data = encoded(PICTURE, quality=90, comment=b"\xff\xd9 no end", exif=b"Exif\0\0" + bytes(9))
        place = data.index(b"\xff\xdb")
        expected = read(encoded(PICTURE, quality=90))
        found = read(data[:place] + b"gap\xff\0\xff\xff" + data[place:] + b"behind it\xff\xd8")
        assert found is not None
        assert expected is not None
        assert np.array_equal(found.components[0].coefficients, expected.components[0].coefficients)

    def test_bits_that_flipped(self, tmp_path):
        """Whatever libjpeg makes of them, both readings of the file are the same."""
        data = encoded(PICTURE, quality=90)
        random = np.random.default_rng(0)
        with decoding_apart():
            for _ in range(40):
                damaged = bytearray(data)
                damaged[random.integers(2, len(data))] ^= 1 << random.integers(8)
                (tmp_path / "a.jpg").write_bytes(damaged)
                outcomes = []
                for coefficients in (False, True):
                    try:
                        photo = read_photo(tmp_path / "a.jpg", coefficients=coefficients)
                        outcomes.append(photo.pixels.tobytes())
                    except Exception as error:
                        outcomes.append(str(error))
                assert outcomes[0] == outcomes[1]

    @pytest.mark.parametrize("fault", ["exits", "wrong", "missing"])
    def test_coefficients_that_cannot_be_had(self, tmp_path, monkeypatch, fault):
        path = tmp_path / "a.jpg"
        path.write_bytes(encoded(PICTURE, quality=90))
        before = read_photo(path)
        monkeypatch.setattr(apart, "MODULE", "support.no_coefficients")
        monkeypatch.setenv("FAULT", fault)
        monkeypatch.setattr(apart, "DECODER", apart._Decoder())
        for is_folder in [False, True][: 2 if fault == "exits" else 1]:
            with decoding_apart(is_folder):
                photo = read_photo(path, coefficients=True)
                assert np.array_equal(photo.pixels, before.pixels)
                assert photo.stored is None
        apart.end_decoding()

    @pytest.mark.parametrize("fault", [*BAD, "cut"])
    def test_refusals_are_the_same(self, tmp_path, fault):
        data = encoded(PICTURE, quality=90)
        bad = data[:3000] if fault == "cut" else data.replace(*BAD[fault], 1)
        assert bad != data
        (tmp_path / "a.jpg").write_bytes(bad)
        texts = []
        for coefficients in (False, True):
            with pytest.raises(UnreadableInput) as caught:
                read_photo(tmp_path / "a.jpg", coefficients=coefficients)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]

    def test_where_no_process_can_be_started(self, tmp_path, monkeypatch):
        (tmp_path / "a.jpg").write_bytes(encoded(PICTURE, quality=90))
        monkeypatch.setattr(apart, "DECODER", apart._Decoder())
        monkeypatch.setattr(apart, "MODULE", "restore.no_such_module")
        photo = read_photo(tmp_path / "a.jpg", coefficients=True)
        assert photo.stored is None
        assert photo.pixels.shape == (96, 112, 3)

    def test_nothing_stays_in_the_temporary_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        (tmp_path / "a.jpg").write_bytes(encoded(PICTURE, quality=90))
        monkeypatch.setattr(apart, "DECODER", apart._Decoder())
        assert read_photo(tmp_path / "a.jpg", coefficients=True).stored is not None
        apart.end_decoding()
        assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-2],
        lambda data: data.replace(b"\xff\xdb", b"\xff\xee", 1),
        lambda data: data.replace(b"\xff\xc0", b"\xff\xee"),
        lambda data: data[:2] + data[data.index(b"\xff\xda") :],
        lambda data: data[: data.index(b"\xff\xc0") + 12] + data[data.index(b"\xff\xda") :],
        lambda data: data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        lambda data: data.replace(b"\x03\x01\x22\0", b"\x03\x01\x02\0"),
        lambda data: b"\xff\xd8" + data[2:40] * 2,
        lambda data: b"",
    ],
)
def test_segments_of_no_whole_jpeg(change):
    data = encoded(PICTURE, quality=90, subsampling="4:2:0")
    layout(data)
    with pytest.raises(Malformed):
        layout(change(data))


def test_coefficients_of_another_picture_are_none_of_this():
    data = encoded(PICTURE, quality=90)
    stored = read(data)
    assert stored is not None
    image = Image.open(io.BytesIO(data))
    assert agrees(stored, image)
    assert not agrees(stored, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert not agrees(stored, image.transpose(Image.Transpose.ROTATE_90))
    assert not agrees(stored, image.convert("L"))
    assert not agrees(stored, image.point(lambda value: value + 6))
    first, *others = stored.components
    swapped = StoredJpeg((first, *reversed(others)), "YCbCr", 96, 112)
    assert not agrees(swapped, image)
    coarse = Component(first.coefficients, first.table * 2, first.vertical, first.horizontal)
    assert not agrees(StoredJpeg((coarse, *others), "YCbCr", 96, 112), image)


def test_a_fork_leaves_the_process_to_its_parent():
    with decoding_apart():
        process = DECODER._process
        DECODER.forget()
        assert DECODER._process is None
        DECODER._process = process
