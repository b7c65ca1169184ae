"""JPEG restoration of files in CMYK and YCCK, whose parts are restored before they become sRGB."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.pictures import piece
from support.profiles import cmyk_profile

import restore
from restore.methods.options import Options
from restore.photo.photograph import read_photo
from restore.photo.stored import StoredJpeg
from restore.restorer import examine, restorer
from restore.tasks import Dejpeg, SuperResolution, compression
from restore.tasks.compression import file_of

FEW = Options(steps=2)
Inks = NDArray[np.uint8]


def printed() -> Inks:
    """Inks [61, 75, 4] of a photograph; black takes most of what the others have in common."""
    wanted = 1 - np.asarray(piece((75, 61)).convert("RGB"), np.float64) / 255
    black = 0.8 * wanted.min(axis=2, keepdims=True) ** 1.5
    inks = np.concatenate([(wanted - black) / (1 - black), black], axis=2)
    return np.rint(255 * inks.clip(0, 1)).astype(np.uint8)


INKS = printed()


def encoded(colour: str, inks: Inks = INKS, **options) -> bytes:
    """A file as Pillow writes it; for YCCK with planes that are YCbCr, and marked as such."""
    if colour == "YCCK":
        ycc = np.asarray(Image.fromarray(inks[..., :3], "RGB").convert("YCbCr"))
        inks = np.concatenate([255 - ycc, inks[..., 3:]], axis=2)
    file = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(file, "JPEG", **options)
    data = file.getvalue()
    mark = data.index(b"Adobe") + 11

    return data[:mark] + bytes([2 * (colour == "YCCK")]) + data[mark + 1 :]


def stored_in(path: Path) -> StoredJpeg:
    stored = read_photo(path, coefficients=True).stored
    assert stored is not None
    return stored


def psnr(a: object, b: object) -> float:
    error = np.asarray(a, float) - np.asarray(b, float)
    return float(-10 * np.log10(np.square(error).mean() / 255**2))


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("colour", ["CMYK", "YCCK"])
def test_it_is_nearer_to_what_was_printed_and_still_the_file(
    colour: str, sampling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(encoded(colour, quality=20, subsampling=sampling))
    parts = []
    together = compression.picture_of_inks
    monkeypatch.setattr(
        compression, "picture_of_inks", lambda *found: parts.append(found[0]) or together(*found)
    )
    result = restorer().run(Dejpeg(), Image.open(path), steps=4)

    truth = Image.fromarray(INKS, "CMYK").convert("RGB")
    assert result.mean.mode == "RGB"
    assert psnr(result.mean, truth) > psnr(Image.open(path).convert("RGB"), truth) + 0.9
    assert result.report.jpeg == f"quality 20, {sampling}, CMYK"
    assert result.report.inside > 0.998

    [[colours, black]] = parts[0]
    light = torch.cat([colours, black.mean(dim=0, keepdim=True)]).permute(1, 2, 0)
    inks = 255 - (255 * light).round().byte().numpy()
    assert np.array_equal(np.asarray(result.mean), Image.fromarray(inks, "CMYK").convert("RGB"))
    again = tmp_path / "again.jpg"
    again.write_bytes(encoded(colour, inks, quality=20, subsampling=sampling))
    same = [
        (a.coefficients == b.coefficients).mean()
        for a, b in zip(stored_in(path).components, stored_in(again).components, strict=True)
    ]
    assert min(same) > 0.985


@pytest.mark.parametrize("colour", ["CMYK", "YCCK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_parts_show_what_pillow_decodes(colour: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "in.jpg"
    path.write_bytes(encoded(colour, quality=80, subsampling="4:4:4", exif=exif))
    inks = np.asarray(Image.open(path))
    inks = inks if orientation == 1 else np.rot90(inks, -1)

    colours, black = (file_of([part]) for part in stored_in(path).parted())
    shown = torch.cat([colours.decoded(), black.decoded(1)], dim=1)[0].clamp(0, 1)
    error = np.abs(255 - 255 * shown.permute(1, 2, 0).numpy() - inks)
    assert error[..., :3].max() < 4
    assert error[..., 3].max() < 1.5


def test_the_profile_of_the_file_makes_srgb(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    flat = np.broadcast_to(np.array((200, 40, 90, 30), np.uint8), (16, 24, 4))
    path.write_bytes(encoded("CMYK", flat, quality=90, icc_profile=cmyk_profile()))
    photo = read_photo(path, coefficients=True)
    result = restorer().restore(Dejpeg(), photo, FEW)
    plain = np.array(Image.fromarray(flat, "CMYK").convert("RGB").getpixel((0, 0))) / 255

    assert np.abs(result.mean - photo.pixels).max() < 5 / 255
    assert np.abs(result.mean.mean((0, 1)) - plain).max() > 0.1


def test_samples_differ_in_srgb(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(encoded("CMYK", quality=20))
    found = restore.dejpeg(Image.open(path), method="diffpir", steps=2, samples=2)
    assert [one.size for one in (found.mean, found.std, *found.samples)] == [(75, 61)] * 4
    pixels = np.stack([np.asarray(one, float) for one in found.samples])
    assert np.abs(np.asarray(found.std) - pixels.std(axis=0, ddof=1)).max() <= 1


def test_a_quality_that_is_said_is_that_of_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(encoded("CMYK", quality=20))
    photo = read_photo(path, coefficients=True)
    said = restorer().restore(Dejpeg(saved_quality=20), photo, FEW)
    assert said.report.jpeg is None
    pixels = restorer().restore(Dejpeg(saved_quality=20), photo.pixels, FEW)
    assert np.array_equal(said.mean, pixels.mean)


def test_other_tasks_take_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(encoded("YCCK", quality=20))
    photo = read_photo(path, coefficients=True)
    assert restorer().restore(SuperResolution(2), photo, FEW).report.jpeg is None
    [jpeg] = [one for one in examine(photo) if one.about == "jpeg"]
    assert jpeg.words.startswith(
        "saved as a JPEG of quality 20, 4:4:4, CMYK, which is left as it is"
    )


def test_the_command_writes_rgb_and_says_where_it_looked(command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ink.jpg").write_bytes(encoded("CMYK", quality=20))
    done = command("dejpeg", "--steps", 2, "--json", folder, tmp_path / "out")
    assert done.code == 0, done.err
    record = json.loads(done.out.splitlines()[0])
    assert record["jpeg"] == "quality 20, 4:4:4, CMYK"
    [note] = record["notes"]
    assert note.endswith("are in the intervals of the file, before CMYK becomes sRGB")
    with Image.open(tmp_path / "out" / "ink.jpg") as image:
        assert (image.mode, image.size) == ("RGB", (75, 61))


def test_the_negative_of_a_file() -> None:
    """Saving a negative as it is, or its positive as a negative, gives the same coefficients."""
    file = io.BytesIO()
    image = Image.fromarray(INKS[..., :3], "RGB")
    image.save(file, "JPEG", quality=30)
    file.seek(0)
    stored = read_photo(Path("in.jpg"), file=file, coefficients=True).stored
    x = torch.rand(1, 3, 61, 75, generator=torch.Generator().manual_seed(0))
    plain = file_of([stored])
    negative = type(plain)(plain.components, (61, 75), negative=True)

    for one, other in zip(plain.spectra(x), negative.spectra(1 - x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    torch.testing.assert_close(1 - plain.decoded(), negative.decoded())
    found = plain.nearest(x, x), negative.nearest(1 - x, x)
    torch.testing.assert_close(1 - found[0], found[1], atol=1e-5, rtol=0)
