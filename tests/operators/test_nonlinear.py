"""JPEG against Pillow, quantisation, and what their approximate pseudo-inverse keeps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
from operators import Jpeg, NonlinearChain, Quantise

PHOTO = Image.open(Path(__file__).parents[1] / "fixtures" / "crop_a.png").convert("RGB")
SUBSAMPLINGS = ("4:2:0", "4:4:4")


def _pixels(image: Image.Image) -> Tensor:
    """Levels 0 to 255, ``[1, 3, H, W]``."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()


def _by_pillow(image: Image.Image, quality: int, subsampling: str) -> Tensor:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return _pixels(Image.open(file))


def _piece(width: int, height: int) -> Image.Image:
    return PHOTO.crop((5, 7, 5 + width, 7 + height))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [1, 5, 30, 49, 50, 75, 95, 100])
def test_photograph_as_pillow_decodes_it(quality: int, subsampling: str) -> None:
    """Below half a level on average. A coefficient on a tie may go the other way, and then one
    block differs more.
    """
    image = _piece(64, 48)
    ours = Jpeg(quality, subsampling).A(_pixels(image) / 255) * 255
    error = (ours - _by_pillow(image, quality, subsampling)).abs()
    assert float(error.mean()) < 0.5
    assert float((error <= 3).float().mean()) > 0.97
    assert float(error.max()) <= 20


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize(
    "size", [(1, 1), (3, 5), (9, 2), (33, 8), (16, 17), (37, 29), (48, 18)], ids=str
)
def test_any_size_as_pillow_decodes_it(size: tuple[int, int], subsampling: str) -> None:
    image = _piece(*size)
    ours = Jpeg(60, subsampling).A(_pixels(image) / 255) * 255
    error = (ours - _by_pillow(image, 60, subsampling)).abs()
    assert ours.shape == (1, 3, size[1], size[0])
    assert float(error.mean()) < 0.5
    assert float(error.max()) <= 4


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_noise_as_pillow_decodes_it(subsampling: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 35, 3)).astype(np.uint8))
    ours = Jpeg(40, subsampling).A(_pixels(image) / 255) * 255
    assert float((ours - _by_pillow(image, 40, subsampling)).abs().mean()) < 1


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [5, 50, 95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_kind_is_a_projection(quality: int, subsampling: str, dtype: torch.dtype) -> None:
    operator = Jpeg(quality, subsampling, low=-1, high=1, exact=True)
    x = 2 * torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0), dtype=dtype) - 1
    y = operator.A(x)
    assert y.dtype == dtype
    assert float((y - x).abs().max()) > 1e-3
    torch.testing.assert_close(operator.A(operator.pseudo_inverse(y)), y, rtol=0, atol=1e-5)


def test_blocks_cut_by_the_border_are_no_projection() -> None:
    """Whole blocks are; the rest is within some levels, as the docstring says."""
    operator = Jpeg(60, exact=True)
    x = _pixels(_piece(37, 29)) / 255
    y = operator.A(x)
    moved = (operator.A(y) - y).abs() * 255
    assert float(moved[..., :16, :32].max()) < 1e-3
    assert 1 < float(moved.max()) < 20


@pytest.mark.parametrize(("subsampling", "mean"), [("4:2:0", 2.0), ("4:4:4", 0.2)])
def test_a_file_saved_again_moves_little(subsampling: str, mean: float) -> None:
    x = _pixels(_piece(64, 48)) / 255
    for quality in (30, 75, 95):
        operator = Jpeg(quality, subsampling)
        y = operator.A(x)
        assert float((operator.A(y) - y).abs().mean() * 255) < mean


def test_units_do_not_matter() -> None:
    x = _pixels(_piece(20, 20)) / 255
    y = Jpeg(50, low=-1, high=1).A(2 * x - 1)
    torch.testing.assert_close((y + 1) / 2, Jpeg(50).A(x), rtol=0, atol=1e-6)
    assert y.min() >= -1
    assert y.max() <= 1


def test_pictures_of_a_batch_are_on_their_own() -> None:
    x = torch.cat([_pixels(PHOTO.crop((n, n, n + 20, n + 12))) / 255 for n in (0, 30, 60)])
    together = Jpeg(40).A(x)
    torch.testing.assert_close(
        together, torch.cat([Jpeg(40).A(picture[None]) for picture in x]), rtol=0, atol=1e-6
    )


def test_coefficients_are_whole_and_decode_to_the_picture() -> None:
    operator = Jpeg(30)
    x = _pixels(_piece(37, 29)) / 255
    coefficients = operator.encode(x)
    assert [tuple(plane.shape) for plane in coefficients] == [
        (1, 4, 6, 8, 8),
        (1, 2, 3, 8, 8),
        (1, 2, 3, 8, 8),
    ]
    assert all((plane == plane.round()).all() for plane in coefficients)
    torch.testing.assert_close(
        operator.decode(coefficients, (29, 37)), operator.A(x), rtol=0, atol=0
    )


def test_a_worse_quality_loses_more() -> None:
    x = _pixels(_piece(48, 48)) / 255
    errors = [float((Jpeg(quality).A(x) - x).square().mean()) for quality in (5, 20, 50, 80, 95)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("exact", [False, True])
def test_jpeg_on_another_device(exact: bool) -> None:
    operator = Jpeg(50, exact=exact)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for name, buffer in operator._buffers.items():
            operator._buffers[name] = mode.from_tensor(buffer, static_shapes=True).to("cuda")
        y = operator.A(torch.empty(2, 3, 29, 37, device="cuda"))
    assert y.device.type == "cuda"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("bits", range(1, 17))
def test_quantise(bits: int, low: float, high: float) -> None:
    operator = Quantise(bits, low=low, high=high)
    x = torch.linspace(low, high, 997)[None, None, None]
    y = operator.A(x)
    step = (high - low) / (2**bits - 1)
    assert float((y - x).abs().max()) <= step / 2 + 1e-6
    assert torch.equal(operator.A(operator.pseudo_inverse(y)), y)
    assert len(y.unique()) <= 2**bits


def test_quantise_by_hand() -> None:
    x = torch.tensor([-0.3, 0.0, 0.16, 0.17, 0.5, 0.84, 1.0, 1.7])
    expected = torch.tensor([0, 0, 0, 1, 2, 3, 3, 3]) / 3
    torch.testing.assert_close(Quantise(2).A(x[None, None, None])[0, 0, 0], expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jpeg(0), "quality must be a whole number from 1 to 100, not 0"),
        (lambda: Jpeg(101), "not 101"),
        (lambda: Jpeg(50.5), "not 50.5"),
        (lambda: Jpeg(50, "4:1:1"), "unknown chroma subsampling '4:1:1'; known are 4:2:0, 4:4:4"),
        (lambda: Jpeg(50, low=1, high=1), "black must be below white"),
        (lambda: Quantise(0), "bits must be a whole number from 1 to 16, not 0"),
        (lambda: Quantise(17), "not 17"),
        (lambda: Quantise(8, low=2), "black must be below white"),
        (
            lambda: Jpeg(50).A(torch.zeros(1, 1, 8, 8)),
            r"colour pictures \[B, 3, H, W\], not \(1, 1, 8, 8\)",
        ),
    ],
)
def test_refusals(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_gradient_of_rounding_is_that_of_the_identity() -> None:
    """Zero beyond black and white, where values are clipped; the values stay as they were."""
    x = torch.tensor([[-0.2, 0.1, 0.5, 0.93, 1.2]])
    tracked = x.clone().requires_grad_()
    measured = Quantise(3).A(tracked)
    measured.sum().backward()
    assert torch.equal(measured, Quantise(3).A(x))
    assert tracked.grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_the_gradient_of_jpeg_is_that_without_rounding(subsampling: str, exact: bool) -> None:
    """In whole blocks that is the identity; of 4:2:0, which loses chroma, that of the luma."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 16, 16, generator=generator) * 0.2 + 0.4
    weights = torch.rand(2, 3, 16, 16, generator=generator)
    if subsampling == "4:2:0":
        weights = weights[:, :1] * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    jpeg = Jpeg(30, subsampling, exact=exact)
    tracked = x.clone().requires_grad_()
    measured = jpeg.A(tracked)
    (weights * measured).sum().backward()
    assert torch.equal(measured, jpeg.A(x))
    torch.testing.assert_close(tracked.grad, weights, rtol=0, atol=1e-4)


def test_what_a_measurement_says_is_worked_out_once(monkeypatch) -> None:
    """It is found anew for another measurement, and for one that was changed in place."""
    read = []
    file_of = Jpeg.file_of
    monkeypatch.setattr(Jpeg, "file_of", lambda self, y: read.append(1) or file_of(self, y))
    chain = NonlinearChain(
        [operators.parse("down:area:2").operator((3, 32, 32)), Jpeg(30)], (3, 32, 32)
    )
    generator = torch.Generator().manual_seed(0)
    z, first, second = torch.rand(3, 1, 3, 16, 16, generator=generator)

    for y in (first, second):
        fresh = Jpeg(30).file_of(y)
        deviations = tuple(0.1 * one for one in chain._spreads(chain.operators[1], z)[0])
        read.clear()
        for _ in range(3):
            assert torch.equal(chain.explained(z, y, 0.1, 0.0), fresh.explained(z, y, deviations))
            assert torch.equal(chain.error(y), fresh.error(y))
        assert len(read) == 1

    second.mul_(0.5)
    assert torch.equal(chain.error(second), Jpeg(30).file_of(second).error(second))
