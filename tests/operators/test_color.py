"""Mixed colours, mixed colours with holes, and the colour filter array, against dense algebra and
loops.
"""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
from operators import Mask, SpectralOperator, check, dense_matrix
from operators.bayer import BAYER_PATTERNS, Bayer
from operators.color import LUMA_BT601, MaskedColor, color_mix
from operators.masks import random_pixels

SIZES = [(6, 6), (5, 7), (9, 4), (13, 1), (1, 8), (1, 1)]
MATRICES = {
    "1x3": [LUMA_BT601],
    "2x3": [[0.5, 0.5, 0.0], [0.0, 0.3, 0.7]],
    "3x3": [[1.6, -0.4, -0.2], [-0.3, 1.5, -0.2], [0.1, -0.6, 1.5]],
    "4x3": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]],
    "rank 1": [[1, 2, 3], [2, 4, 6]],
    "rank 2": [[1, 0, 0], [0, 1, 0], [1, 1, 0]],
}
BUILDERS = {
    **{
        f"mix {name}": lambda shape, dtype=torch.float32, m=matrix: color_mix(shape, m, dtype=dtype)
        for name, matrix in MATRICES.items()
    },
    **{
        f"masked {name}": lambda shape, dtype=torch.float32, m=matrix: MaskedColor(
            shape, m, random_pixels(shape[1:], 0.6, 0), dtype=dtype
        )
        for name, matrix in MATRICES.items()
    },
    **{
        pattern: lambda shape, dtype=torch.float32, p=pattern: Bayer(shape, p, dtype=dtype)
        for pattern in BAYER_PATTERNS
    },
}


def _picture(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", BUILDERS)
def test_keeps_every_promise(name: str, size: tuple[int, int]) -> None:
    check(BUILDERS[name]((3, *size)), rtol=1e-5)
    check(BUILDERS[name]((3, *size), torch.float64), rtol=1e-11)


@pytest.mark.parametrize("name", BUILDERS)
def test_against_dense_svd(name: str) -> None:
    operator = BUILDERS[name]((3, 4, 5), torch.float64)
    A = dense_matrix(operator).numpy()
    expected = np.linalg.svd(A, compute_uv=False)
    found = np.sort(operator.singular_values.numpy().ravel())[::-1]
    length = max(len(found), len(expected))
    found, expected = (np.pad(v, (0, length - len(v))) for v in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-11)
    y = _picture(2, *operator.output_shape)
    inverse = y.flatten(1).numpy() @ np.linalg.pinv(A, rcond=operators.RANK_TOLERANCE).T
    np.testing.assert_allclose(operator.pseudo_inverse(y).flatten(1).numpy(), inverse, atol=1e-10)


@pytest.mark.parametrize("name", MATRICES)
def test_color_mix_is_the_matrix_at_every_pixel(name: str) -> None:
    matrix = np.asarray(MATRICES[name], dtype=np.float64)
    x = _picture(2, 3, 4, 5)
    y = color_mix((3, 4, 5), matrix, dtype=torch.float64).A(x).numpy()
    for i in range(4):
        for j in range(5):
            np.testing.assert_allclose(y[:, :, i, j], x[:, :, i, j].numpy() @ matrix.T, atol=1e-12)


def test_color_mix_takes_any_number_of_channels_and_any_array() -> None:
    x = _picture(1, 2, 3, 4)
    for matrix in ([[1, 2]], ((1.0, 2.0),), np.array([[1, 2]]), torch.tensor([[1.0, 2.0]])):
        assert torch.allclose(
            color_mix((2, 3, 4), matrix, dtype=torch.float64).A(x)[:, 0], x[:, 0] + 2 * x[:, 1]
        )
    x = _picture(1, 3, 3, 4)
    gray, mix = (
        f((3, 3, 4), m, dtype=torch.float64)
        for f, m in ((operators.gray, LUMA_BT601), (color_mix, [LUMA_BT601]))
    )
    assert torch.equal(gray.A(x), mix.A(x))


def test_masked_color_is_the_mask_after_the_mix() -> None:
    shape = (3, 4, 5)
    known = random_pixels((4, 5), 0.5, 1)
    matrix = MATRICES["2x3"]
    x = _picture(2, *shape)
    mixed = color_mix(shape, matrix, dtype=torch.float64)
    expected = Mask(mixed.output_shape, known, dtype=torch.float64).A(mixed.A(x))
    for form in (known, known[None], known[None, None], known.float(), known.numpy()):
        y = MaskedColor(shape, matrix, form, dtype=torch.float64).A(x)
        torch.testing.assert_close(y, expected)
        assert (y[:, :, ~known] == 0).all(), "exactly zero where nothing was measured"


def test_masked_color_with_a_map_per_picture() -> None:
    shape = (3, 4, 5)
    matrix = MATRICES["2x3"]
    known = random_pixels((4, 5), 0.5, 1, channels=2)[:, None]
    operator = MaskedColor(shape, matrix, known, dtype=torch.float64)
    assert operator.singular_values.shape == (2, 2, 4, 5)
    x = _picture(2, *shape)
    y = _picture(2, *operator.output_shape)
    for index in range(2):
        single = MaskedColor(shape, matrix, known[index, 0], dtype=torch.float64)
        for name, argument in (("A", x), ("At", y), ("pseudo_inverse", y)):
            found = getattr(operator, name)(argument)[index : index + 1]
            torch.testing.assert_close(found, getattr(single, name)(argument[index : index + 1]))


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bayer_picks_one_color_per_pixel(pattern: str, size: tuple[int, int]) -> None:
    x = _picture(2, 3, *size)
    operator = Bayer((3, *size), pattern, dtype=torch.float64)
    y = operator.A(x)
    assert y.shape == (2, 1, *size)
    for i in range(size[0]):
        for j in range(size[1]):
            color = "RGB".index(pattern[2 * (i % 2) + j % 2])
            assert torch.equal(y[:, 0, i, j], x[:, color, i, j])
            back = operator.pseudo_inverse(y)[:, :, i, j]
            assert torch.equal(back[:, color], y[:, 0, i, j])
            assert back.count_nonzero() == 2


def test_bayer_patterns_are_shifts_of_each_other() -> None:
    x = _picture(1, 3, 7, 8)
    bggr = Bayer((3, 7, 8), "BGGR", dtype=torch.float64).A(x)
    assert torch.equal(
        bggr[..., 1:, 1:], Bayer((3, 6, 7), "RGGB", dtype=torch.float64).A(x[..., 1:, 1:])
    )
    assert torch.equal(
        bggr[..., 1:, :], Bayer((3, 6, 8), "GRBG", dtype=torch.float64).A(x[..., 1:, :])
    )
    assert torch.equal(bggr[..., 1:], Bayer((3, 7, 7), "GBRG", dtype=torch.float64).A(x[..., 1:]))


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("RGGB", cv2.COLOR_BayerRGGB2RGB),
        ("BGGR", cv2.COLOR_BayerBGGR2RGB),
        ("GRBG", cv2.COLOR_BayerGRBG2RGB),
        ("GBRG", cv2.COLOR_BayerGBRG2RGB),
    ],
)
def test_bayer_is_what_opencv_develops(pattern: str, code: int) -> None:
    """A flat colour survives the mosaic and OpenCV's demosaicking, so the patterns have the same
    meaning.
    """
    color = torch.tensor([200.0, 120.0, 30.0])[:, None, None].expand(3, 8, 10)
    mosaic = Bayer((3, 8, 10), pattern).A(color[None])[0, 0].numpy().astype(np.uint8)
    assert np.array_equal(
        cv2.cvtColor(mosaic, code), color.permute(1, 2, 0).numpy().astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: color_mix((3, 4, 5), [[1, 2]]), r"\[m, 3\]"),
        (lambda: color_mix((3, 4, 5), [1, 2, 3]), r"\[m, 3\]"),
        (lambda: color_mix((3, 4, 5), np.zeros((0, 3))), r"\[m, 3\]"),
        (lambda: color_mix((3, 4, 5), np.eye(3)[None]), r"\[m, 3\]"),
        (lambda: color_mix((3, 4, 5), np.zeros((1, 3))), "zero"),
        (lambda: color_mix((3, 4, 5), [[1, 2, np.nan]]), "finite"),
        (lambda: color_mix((3, 0, 5), np.eye(3)), "shape"),
        (lambda: MaskedColor((3, 4, 5), np.eye(4), torch.ones(4, 5)), r"\[m, 3\]"),
        (lambda: MaskedColor((3, 4, 5), np.eye(3), torch.ones(5, 4)), "fit"),
        (lambda: MaskedColor((3, 4, 5), np.eye(3), torch.ones(5)), "fit"),
        (lambda: MaskedColor((3, 4, 5), np.eye(3), torch.ones(3, 4, 5)), "same for all channels"),
        (
            lambda: MaskedColor((3, 4, 5), np.eye(3), torch.ones(2, 3, 4, 5)),
            "same for all channels",
        ),
        (lambda: MaskedColor((3, 4, 5), np.eye(3), torch.full((4, 5), 0.5)), "0 .unknown. or 1"),
        (lambda: Bayer((3, 4, 5), "RGBG"), "RGGB, BGGR, GRBG, GBRG"),
        (lambda: Bayer((3, 4, 5), "rggb"), "RGGB"),
        (lambda: Bayer((1, 4, 5)), "3 channels"),
        (lambda: Bayer((3, 0, 5)), "shape"),
    ],
)
def test_bad_input_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["mix 2x3", "masked 1x3", "masked 4x3", "GRBG"])
def test_devices(name: str) -> None:
    """Fake CUDA tensors raise wherever they meet a tensor of the CPU or a value is read from
    them.
    """
    operator: SpectralOperator = copy.deepcopy(BUILDERS[name]((3, 5, 6)))
    with FakeTensorMode() as mode:
        _to_fake_cuda(operator, mode)
        x, y = (
            torch.empty(2, *shape, device="cuda")
            for shape in (operator.input_shape, operator.output_shape)
        )
        spectra = [operator.Vt(x), operator.Ut(y)]
        to_y = [operator.A(x), operator.U(spectra[0])]
        to_x = [operator.At(y), operator.V(spectra[0]), operator.pseudo_inverse(y)]
    assert {t.device.type for t in to_y + to_x + spectra} == {"cuda"}
    assert {tuple(t.shape) for t in to_x} == {tuple(x.shape)}
    assert {tuple(t.shape) for t in to_y} == {tuple(y.shape)}


def _to_fake_cuda(module: nn.Module, mode: FakeTensorMode) -> None:
    for part in module.modules():
        part._buffers = {
            name: None if t is None else mode.from_tensor(t, static_shapes=True).to("cuda")
            for name, t in part._buffers.items()
        }
