"""PNGs of the wild: large texts, wrong checksums, colour chunks, and ends that are missing."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_photo import SRGB, image, noise, photo_of, samples_of
from test_photo_metadata import packet

from restore.errors import UnreadableInput
from restore.photo.color_chunks import lost_color
from restore.photo.photograph import count_pages, notes_on_writing, read_photo, write_photo

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# A rendering of gamma 1, a screen in PQ, and what an ordinary program writes.
LINEAR = {"gAMA": struct.pack(">I", 100_000)}
PQ = {"cICP": bytes([9, 16, 0, 1]), "mDCV": bytes(range(24)), "cLLI": bytes(8)}
WHITE_AND_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
DISPLAY_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
ORDINARY = {
    "gAMA": struct.pack(">I", 45455),
    "cHRM": struct.pack(">8I", *WHITE_AND_PRIMARIES),
    "sRGB": b"\0",
}


def chunk(name: bytes, content: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(name + content) ^ (not sound)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(SIGNATURE)
    while place < len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        found.append((name, data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png(samples: np.ndarray, *extra: bytes) -> bytes:
    """A PNG of 8 or 16 bits with more chunks behind its header."""
    if samples.dtype == np.uint16:
        order = [2, 1, 0] if samples.shape[2] == 3 else [0]
        data = cv2.imencode(".png", samples[..., order])[1].tobytes()
    else:
        file = io.BytesIO()
        image(samples).save(file, "PNG")
        data = file.getvalue()
    return data[:33] + b"".join(extra) + data[33:]


def read(folder: Path, data: bytes, **options):
    (folder / "in.png").write_bytes(data)
    return read_photo(folder / "in.png", **options)


# --- texts and profiles
# --------------------------------------------------------------------------------------------


LONG = b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"zTXt", LONG),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"tEXt", b"workflow\0" + b"x" * 3_000_000),
        chunk(b"zTXt", LONG) * 30,
        chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(300_000_000), 1)),
    ],
    ids=["zTXt", "iTXt", "tEXt", "many", "bomb"],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_long_texts_do_not_cost_the_picture(tmp_path, bits, text) -> None:
    samples = noise(3, bits)
    photo = read(tmp_path, png(samples, text))
    assert np.array_equal(samples_of(photo), samples)
    assert photo.notes == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_profile_of_some_megabytes_is_kept(tmp_path, bits) -> None:
    profile = SRGB[:128] + np.random.default_rng(0).bytes(3_000_000)
    packed = b"scanner\0\0" + zlib.compress(profile)
    photo = read(tmp_path, png(noise(3, bits), chunk(b"iCCP", packed)))
    assert photo.icc_profile == profile
    write_photo(photo, tmp_path / "b.png")
    assert read_photo(tmp_path / "b.png").icc_profile == profile


@pytest.mark.parametrize("content", [b"a\0\0damaged", b"a\0\0" + zlib.compress(bytes(2**24 + 1))])
def test_a_profile_that_is_not_kept_is_noted(tmp_path, content) -> None:
    photo = read(tmp_path, png(noise(3), chunk(b"iCCP", content)))
    assert photo.icc_profile is None
    assert photo.notes == (
        "its colour profile is damaged, or has more than 16 MiB, and is left out",
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_xmp_and_exif_in_texts(tmp_path, compressed) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    raw = exif.tobytes()
    hexadecimal = f"\nexif\n{len(raw):8d}\n{raw.hex()}\n".encode()
    text = zlib.compress(hexadecimal) if compressed else hexadecimal
    xmp = zlib.compress(packet()) if compressed else packet()
    photo = read(
        tmp_path,
        png(
            noise(3),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + xmp),
            chunk(
                b"zTXt" if compressed else b"tEXt",
                b"Raw profile type exif\0" + b"\0" * compressed + text,
            ),
        ),
    )
    assert photo.xmp == packet()
    assert b"Maker" in photo.exif


# --- checksums
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["tIME", "pHYs", "gAMA", "iCCP", "eXIf", "tEXt", "prVt"])
def test_a_wrong_checksum_costs_an_ancillary_chunk_alone(tmp_path, name, bits) -> None:
    samples = noise(3, bits)
    content = {"pHYs": struct.pack(">IIB", 3000, 3000, 1), "gAMA": LINEAR["gAMA"]}
    wrong = chunk(name.encode(), content.get(name, b"content"), sound=False)
    photo = read(tmp_path, png(samples, wrong, wrong))
    assert np.array_equal(samples_of(photo), samples)
    assert photo.notes == (f"the checksum of its chunk {name} is wrong: what it says is left out",)
    assert (photo.dpi, photo.exif, photo.color_chunks) == (None, None, {})


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_a_critical_chunk_is_named(tmp_path, name, bits) -> None:
    data = bytearray(png(noise(3, bits)))
    length = struct.unpack_from(">I", data, data.index(name) - 4)[0]
    data[data.index(name) + 4 + length] ^= 1
    with pytest.raises(UnreadableInput, match=f"the checksum of its chunk {name.decode()} is wro"):
        read(tmp_path, bytes(data))


def test_a_note_is_told_and_recorded(command, tmp_path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(png(noise(3), chunk(b"tIME", bytes(7), sound=False)))
    options = ("--noise", 0.1, "--method", "one-step")
    outcome = command("denoise", path, tmp_path / "out.png", "--json", *options)
    assert outcome.code == 0
    assert "in.png: the checksum of its chunk tIME is wrong" in outcome.err
    assert '"notes": ["the checksum of its chunk tIME is wrong' in outcome.out
    assert command("denoise", path, tmp_path / "2.png", "--quiet", *options).err == ""


# --- colour
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [LINEAR, PQ, ORDINARY], ids=["linear", "PQ", "sRGB"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour_chunks_are_kept(tmp_path, bits, channels, chunks) -> None:
    samples = noise(channels, bits)
    extra = [chunk(name.encode(), content) for name, content in chunks.items()]
    photo = read(tmp_path, png(samples, *extra))
    assert photo.color_chunks == chunks
    write_photo(photo, tmp_path / "b.png")
    assert np.array_equal(samples_of(read_photo(tmp_path / "b.png")), samples)
    written = chunks_of((tmp_path / "b.png").read_bytes())
    names = [name for name, _ in written]
    assert {k.decode(): v for k, v in written if k.decode() in chunks} == chunks
    assert max(names.index(name.encode()) for name in chunks) < names.index(b"IDAT")
    with Image.open(tmp_path / "b.png") as im:  # another reader agrees
        im.load()
        if "gAMA" in chunks:
            assert im.info["gamma"] == struct.unpack(">I", chunks["gAMA"])[0] / 1e5


def test_a_profile_stands_for_srgb(tmp_path) -> None:
    write_photo(photo_of(noise(3), icc_profile=SRGB, color_chunks=ORDINARY), tmp_path / "a.png")
    names = [name for name, _ in chunks_of((tmp_path / "a.png").read_bytes())]
    assert b"iCCP" in names
    assert b"sRGB" not in names


def test_colour_chunks_of_a_wrong_length_are_left_out(tmp_path) -> None:
    wrong = [chunk(name.encode(), b"12") for name in ("gAMA", "cHRM", "sRGB", "cICP")]
    assert read(tmp_path, png(noise(3), *wrong)).color_chunks == {}


@pytest.mark.parametrize(
    ("chunks", "has_profile", "lost"),
    [
        ({}, False, None),
        (ORDINARY, False, None),
        ({k: ORDINARY[k] for k in ("gAMA", "cHRM")}, False, None),
        (LINEAR, False, "gAMA"),
        (LINEAR, True, None),
        (PQ, False, "cICP"),
        (PQ, True, "cICP"),
        ({"cICP": bytes([1, 13, 0, 1])}, False, None),
        ({"cHRM": DISPLAY_P3}, False, "cHRM"),
    ],
)
def test_which_chunks_another_format_loses(chunks, has_profile, lost) -> None:
    assert lost_color(chunks, has_profile) == lost


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_what_another_format_cannot_hold_is_noted(tmp_path, suffix) -> None:
    photo = read(tmp_path, png(noise(3), chunk(b"gAMA", LINEAR["gAMA"])))
    (note,) = notes_on_writing(photo, tmp_path / f"a{suffix}")
    assert "no place for its colour space (gAMA)" in note
    assert notes_on_writing(photo, tmp_path / "a.png") == ()


# --- missing ends
# --------------------------------------------------------------------------------------------


def interlaced(samples: np.ndarray) -> bytes:
    """An interlaced PNG of RGB by the specification, rows without a filter."""
    height, width, channels = samples.shape
    depth = 8 * samples.itemsize
    rows = b"".join(
        b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes()
        for x, y, across, down in (
            *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)),
            *((1, 0, 2, 2), (0, 1, 1, 2)),
        )
        for row in samples[y::down, x::across]
        if row.size
    )
    header = struct.pack(">IIBBBBB", width, height, depth, {1: 0, 3: 2}[channels], 0, 0, 1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("filled", [False, True])
def test_what_is_there_of_a_truncated_png(tmp_path, bits, filled) -> None:
    samples = noise(3, bits)
    data = png(samples)
    cut = data[: int(0.6 * len(data))]
    if filled:  # a copy that was interrupted, on a disk where its place was reserved
        end = cut.index(b"IDAT") - 4
        whole = [*chunks_of(data)]
        packed = b"".join(content for name, content in whole if name == b"IDAT")
        cut = data[:end] + chunk(b"IDAT", packed[: int(0.6 * len(packed))]) + bytes(500)
    with pytest.raises(UnreadableInput, match="ends before its picture does; `allow_truncated`"):
        read(tmp_path, cut, allow_truncated=False)
    with pytest.raises(UnreadableInput, match=r"ends before its picture does\."):
        read(tmp_path, cut)

    photo = read(tmp_path, cut, allow_truncated=True)
    got = samples_of(photo)
    (note,) = photo.notes
    missing = int(note.split("last ")[1].split()[0])
    assert f"the last {missing} of {len(samples)} rows are missing" in note
    there = len(samples) - missing
    assert 0.4 * len(samples) < there < 0.8 * len(samples)
    assert np.array_equal(got[:there], samples[:there])
    assert not got[there + 1 :].any()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_truncated_interlaced_png(tmp_path, bits) -> None:
    samples = noise(3, bits)
    data = interlaced(samples)
    assert np.array_equal(samples_of(read(tmp_path, data)), samples)
    photo = read(tmp_path, data[: len(data) // 2], allow_truncated=True)
    assert np.array_equal(samples_of(photo)[::8, ::8], samples[::8, ::8])
    assert "details are missing" in photo.notes[0]


def test_a_png_that_lacks_only_its_last_chunk(tmp_path) -> None:
    samples = noise(3)
    photo = read(tmp_path, png(samples)[:-12], allow_truncated=True)
    assert np.array_equal(samples_of(photo), samples)
    assert photo.notes == ("the file ends behind its picture, but before its last chunk",)
    assert read(tmp_path, png(samples), allow_truncated=True).notes == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_too_few_pixels_between_whole_chunks(tmp_path, bits) -> None:
    samples = noise(3, bits)
    data = interlaced(samples)
    header, (_, packed), end = chunks_of(data)
    few = zlib.compress(zlib.decompress(packed)[:2000])
    hurt = packed[:500] + bytes([packed[500] ^ 255]) + packed[501:]
    files = {
        name: SIGNATURE + b"".join(chunk(*part) for part in (header, (b"IDAT", content), end))
        for name, content in (("few", few), ("hurt", hurt))
    }
    photo = read(tmp_path, files["few"], allow_truncated=True)
    assert "details are missing" in photo.notes[0]
    for name, allowed in (("few", False), ("hurt", False), ("hurt", True)):
        with pytest.raises(UnreadableInput):
            read(tmp_path, files[name], allow_truncated=allowed)


def test_nothing_of_a_png_is_not_restored(tmp_path) -> None:
    for end in (8, 20, 33, 41):
        with pytest.raises(UnreadableInput, match="ends before its picture does"):
            read(tmp_path, png(noise(3))[:end], allow_truncated=True)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_there_of_a_truncated_jpeg(tmp_path, channels, filled) -> None:
    file = io.BytesIO()
    image(np.kron(noise(channels), np.ones((8, 8, 1), np.uint8))).save(file, "JPEG", quality=95)
    whole = read(tmp_path, file.getvalue())
    cut = file.getvalue()[: int(0.6 * len(file.getvalue()))] + bytes(9999 * filled)
    with pytest.raises(UnreadableInput, match="ends before its picture does; `allow_truncated`"):
        read(tmp_path, cut, allow_truncated=False)
    photo = read(tmp_path, cut, allow_truncated=True)
    height = len(whole.pixels)
    assert np.array_equal(photo.pixels[: height // 2], whole.pixels[: height // 2])
    assert np.ptp(photo.pixels[-8:]) == 0
    assert photo.notes == (
        "the file ends before its picture does: what is missing is filled with grey",
    )
    strict = read(tmp_path, file.getvalue(), allow_truncated=True)
    assert strict.notes == ()
    assert np.array_equal(strict.pixels, whole.pixels)


def test_a_truncated_progressive_jpeg(tmp_path) -> None:
    file = io.BytesIO()
    image(noise(3)).save(file, "JPEG", progressive=True, quality=95)
    whole = read(tmp_path, file.getvalue()).pixels
    photo = read(tmp_path, file.getvalue()[: int(0.9 * len(file.getvalue()))], allow_truncated=True)
    assert 0 < np.abs(photo.pixels - whole).mean() < 0.1
    assert "ends before its picture does" in photo.notes[0]


def test_zeros_behind_the_end_of_a_jpeg_do_not_matter(tmp_path) -> None:
    file = io.BytesIO()
    image(noise(3)).save(file, "JPEG")
    photo = read(tmp_path, file.getvalue() + bytes(5000), allow_truncated=False)
    assert np.array_equal(photo.pixels, read(tmp_path, file.getvalue()).pixels)
    assert photo.notes == ()


def test_the_limit_holds_before_a_png_is_completed(tmp_path) -> None:
    header = struct.pack(">IIBBBBB", 10**6, 10**6, 16, 6, 0, 0, 0)
    data = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))[:20]
    with pytest.raises(UnreadableInput, match="more than the limit"):
        read(tmp_path, data, allow_truncated=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_pictures_through_the_command(command, picture, tmp_path, suffix) -> None:
    data = picture(f"whole{suffix}", size=(64, 64)).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/a{suffix}").write_bytes(data[: int(0.7 * len(data))])
    options = ("--noise", 0.1, "--method", "one-step")
    refused = command("denoise", tmp_path / f"in/a{suffix}", tmp_path / "out.png", *options)
    assert refused.code == 2
    assert "--allow-truncated restores what is there" in refused.err
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--allow-truncated", *options)
    assert outcome.code == 0
    assert f"a{suffix}: the file ends before its picture does" in outcome.err
    assert read_photo(tmp_path / f"out/a{suffix}").pixels.shape == (64, 64, 3)


def test_frames_keep_what_is_said_beside_them(tmp_path) -> None:
    frames = [image(noise(3, seed=k)) for k in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], icc_profile=SRGB)
    data = (tmp_path / "a.png").read_bytes()
    data = data[:33] + chunk(b"zTXt", LONG) + data[33:]
    (tmp_path / "b.png").write_bytes(data)
    assert count_pages(tmp_path / "b.png") == 3
    photo = read_photo(tmp_path / "b.png", page=2)
    assert photo.icc_profile == SRGB
    assert np.array_equal(samples_of(photo), np.asarray(frames[1]))
