"""The intervals of a JPEG's coefficients, against Pillow and sampling."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.pictures import piece

import operators
from operators import Jpeg, JpegComponent, JpegFile, NonlinearChain
from restore.photo.formats.jpeg_coefficients import stored_jpeg
from restore.tasks.compression import file_of

PICTURE = piece((75, 61)).convert("RGB")  # no whole blocks
SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


def saved(image: Image.Image, **options) -> tuple[JpegFile, Image.Image]:
    """Save by Pillow; return the operator of the file, and what Pillow decodes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    decoded = Image.open(buffer)
    decoded.load()
    orientation = decoded.getexif().get(0x0112, 1)
    file = file_of([stored_jpeg(decoded, buffer.getvalue(), orientation)])
    assert file is not None
    return file, ImageOps.exif_transpose(decoded)


def tensor(image: Image.Image) -> torch.Tensor:
    array = np.asarray(image.convert("RGB"), np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()


def picture(x: torch.Tensor) -> Image.Image:
    return Image.fromarray((255 * x[0]).round().byte().permute(1, 2, 0).numpy())


def luma(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor((0.299, 0.587, 0.114)).reshape(3, 1, 1)).sum(dim=1)


def guess(like: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    return (like + 0.1 * noise).clamp(0, 1)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("quality", [10, 50, 95])
def test_it_shows_what_pillow_decodes(sampling: str, quality: int) -> None:
    file, decoded = saved(PICTURE, quality=quality, subsampling=sampling)
    difference = file.decoded().clamp(0, 1) - tensor(decoded)
    if sampling == "4:4:4":
        assert float(difference.abs().max()) <= 6 / 255  # rounding of planes and of colours
    # chroma is enlarged by repetition, and colours are clipped after it
    assert float(luma(difference).abs().median()) < 0.5 / 255
    assert float(difference.abs().mean()) < 4 / 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_pictures_of_every_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file, decoded = saved(PICTURE, quality=60, subsampling="4:2:0", exif=exif)
    assert file.orientation == orientation
    x = tensor(decoded)
    assert file.decoded().shape == x.shape
    assert float(luma(file.decoded().clamp(0, 1) - x).abs().median()) < 0.5 / 255
    moved = file.nearest(guess(x), x)
    assert float(file.inside(moved)) > 0.99


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("quality", [10, 60, 92])
def test_the_nearest_picture_saved_again_is_the_file(sampling: str, quality: int) -> None:
    file, decoded = saved(PICTURE, quality=quality, subsampling=sampling)
    result = picture(file.nearest(guess(tensor(decoded)), file.decoded()))
    again, shown = saved(result, quality=quality, subsampling=sampling)

    same = [
        (a.coefficients == b.coefficients).float().mean()
        for a, b in zip(file.components, again.components, strict=True)
    ]
    assert min(same) > 0.985
    assert np.abs(np.asarray(shown, int) - np.asarray(decoded, int)).mean() < 0.8
    assert np.abs(np.asarray(result, int) - np.asarray(decoded, int)).mean() > 0.5


def test_grey_pictures() -> None:
    file, decoded = saved(PICTURE.convert("L"), quality=30)
    x = tensor(decoded)
    assert float((file.decoded(1).clamp(0, 1) - x[:, :1]).abs().max()) <= 1.01 / 255
    moved = file.nearest(guess(x), x)
    assert float(file.inside(moved)) > 0.999
    assert file.A(moved[:, :1]).shape == (1, 1, 61, 75)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (200, 1), (8, 8), (17, 16)])
def test_small_and_narrow_pictures(size: tuple[int, int]) -> None:
    file, decoded = saved(piece(size).convert("RGB"), quality=40, subsampling="4:2:0")
    x = tensor(decoded)
    moved = file.nearest(guess(x), x)
    assert moved.shape == x.shape
    assert float(file.inside(moved)) > 0.99


def test_a_is_the_file_where_all_coefficients_are_inside() -> None:
    file, _decoded = saved(PICTURE.crop((0, 0, 64, 48)), quality=35, subsampling="4:2:0")
    original = tensor(PICTURE.crop((0, 0, 64, 48)))
    # the original is inside but for ties of libjpeg's whole numbers
    assert float(file.inside(original)) > 0.998
    exact = file.nearest(original, original)
    assert float(file.inside(exact)) == 1
    torch.testing.assert_close(file.A(exact), file.decoded(), atol=1e-5, rtol=0)


def test_the_nearest_picture_is_a_projection() -> None:
    """No other picture of the intervals is nearer, in luma: the condition of Kolmogorov."""
    file, decoded = saved(PICTURE.convert("L").crop((0, 0, 32, 24)), quality=20)
    x = guess(tensor(decoded))[:, :1]
    zero = (torch.zeros(1),)
    projected = file.explained(x, x, zero)
    torch.testing.assert_close(file.explained(projected, x, zero), projected, atol=1e-6, rtol=0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        other = file.explained(torch.rand(x.shape, generator=generator), x, zero)
        assert float(((x - projected) * (other - projected)).sum()) <= 1e-4


def test_an_uncertain_estimate_gives_the_decoded_picture() -> None:
    file, decoded = saved(PICTURE, quality=40, subsampling="4:4:4")
    far = tuple(torch.tensor(1e6) for _ in range(3))
    found = file.explained(guess(tensor(decoded)), tensor(decoded), far)
    inner = (..., slice(0, 48), slice(0, 64))  # blocks at the border have hidden pixels
    torch.testing.assert_close(found[inner], file.decoded()[inner], atol=2e-4, rtol=0)


def test_the_expected_picture_is_that_of_sampling() -> None:
    """Pictures drawn around an estimate, of which those that become the file are kept."""
    generator = torch.Generator().manual_seed(0)
    table = torch.full((8, 8), 4000.0)  # nothing is known of these coefficients
    table[0, 0], table[0, 1], table[2, 0] = 60, 45, 50
    coefficients = torch.zeros(1, 1, 1, 8, 8)
    coefficients[..., 0, 0], coefficients[..., 0, 1], coefficients[..., 2, 0] = 1, -1, 1
    file = JpegFile([JpegComponent(coefficients, table)], (8, 8), "grey")

    estimate = 0.5 + 0.05 * torch.randn(1, 1, 8, 8, generator=generator)
    deviation = 25 / 255
    drawn = estimate + deviation * torch.randn(400_000, 1, 8, 8, generator=generator)
    kept = drawn[file.inside(drawn) == 1]
    assert len(kept) > 1500

    deviations = tuple(255 * deviation * one for one in file.spread(torch.ones(1, 1, 8, 8)))
    assert deviations[0].shape == (1, 1, 1, 8, 8)
    found = file.explained(estimate, estimate, (torch.tensor(25.0),))
    error = 4 * deviation / len(kept) ** 0.5
    assert float((kept.mean(dim=0) - found[0]).abs().max()) < error
    assert float((found - estimate).abs().max()) > 3 * error


def test_the_spread_of_white_noise_is_its_standard_deviation() -> None:
    file, _ = saved(piece((256, 256)).convert("RGB"), quality=50, subsampling="4:2:0")
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    luma, blue, red = file.spread(noise.expand(-1, 3, -1, -1))
    np.testing.assert_allclose(luma.numpy() / 255, 1, atol=0.15)
    np.testing.assert_allclose(blue.numpy(), red.numpy())
    np.testing.assert_allclose(blue.mean() / 255, 1, atol=0.05)


def test_a_blur_narrows_what_a_file_can_change() -> None:
    shape = (3, 64, 64)
    file, decoded = saved(piece((64, 64)).convert("RGB"), quality=50, subsampling="4:4:4")
    blur = operators.gaussian_blur(shape, sigma=2.0)
    chain = NonlinearChain([blur, file], shape)
    z, y = blur.A(guess(tensor(decoded))), file.decoded()
    moved = chain.explained(z, y, 0.1, 0.0) - z
    free = NonlinearChain([file], shape).explained(z, y, 0.1, 0.0) - z
    high = [to[0][..., 5:, 5:].abs().mean() for to in (file.spectra(moved), file.spectra(free))]
    assert high[0] < 0.3 * high[1]


def test_jpeg_of_a_quality_has_the_file_of_what_it_made() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 40, 32, generator=generator)
    jpeg = Jpeg(30)
    y = jpeg.A(x)
    near = jpeg.nearest(x, y)
    file = jpeg.file_of(x)
    assert float(file.inside(file.nearest(x, y)).min()) > 0.99
    assert near.shape == x.shape
    assert float((near - y).norm()) < float((x - y).norm())
    assert float((near - x).norm()) < 0.8 * float((x - y).norm())


def test_the_expected_error_of_a_file() -> None:
    original = tensor(PICTURE)
    for quality in (15, 40, 75):
        file, decoded = saved(PICTURE, quality=quality, subsampling="4:4:4")
        real = float((tensor(decoded) - original).square().mean().sqrt())
        assert 0.6 * real < float(file.error(original)) < 1.5 * real


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": (9, 8)}, "do not cover"),
        ({"colour": "YCbCr"}, "1 components"),
        ({"orientation": 9}, "from 1 to 8"),
        ({"low": 1.0}, "black must be below white"),
    ],
)
def test_what_does_not_fit(wrong: dict[str, object], words: str) -> None:
    plane = JpegComponent(torch.zeros(1, 1, 1, 8, 8), torch.ones(8, 8))
    given = {"size": (8, 8), "colour": "grey"} | wrong
    with pytest.raises(ValueError, match=words):
        JpegFile([plane], **given)


def test_the_nearest_picture_behind_a_linear_operator_is_not_known() -> None:
    chain = operators.parse("blur:gaussian:1+jpeg:50").operator((3, 16, 16))
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="linear operator"):
        chain.nearest(x, x)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantised_pictures(bits: int) -> None:
    quantise = operators.Quantise(bits)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 8, 8, generator=generator)
    y = quantise.A(x)
    z = x + 0.2 * torch.randn(x.shape, generator=generator)
    assert torch.equal(quantise.A(quantise.nearest(z, y)), y)
    assert torch.equal(quantise.nearest(x, y).sub(x).abs() < 0.02 / (2**bits - 1), x == x)
    middle = quantise.explained(z, y, (torch.full((1, 1, 1, 1), 1e6),))
    torch.testing.assert_close(middle, y, atol=1e-4, rtol=0)
