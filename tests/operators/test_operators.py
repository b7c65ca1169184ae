"""Every operator against dense algebra and against libraries that others wrote."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.processes import value_of
from torch import Tensor

import operators
from operators import (
    AxesOperator,
    IterativeOperator,
    Mask,
    SpectralOperator,
    check,
    dense_matrix,
    kernels,
)

SIZES = [(6, 6), (5, 7), (9, 4), (1, 8), (7, 1), (1, 1)]
SCIPY_MODE = {
    "zero": "constant",
    "symmetric": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
}
SCIPY_SYNONYM = {"zero": "grid-constant", "symmetric": "grid-mirror", "circular": "grid-wrap"}
PILLOW = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}

BUILDERS = {
    "identity": lambda shape, dtype: AxesOperator(shape, dtype=dtype),
    "gray": lambda shape, dtype: operators.gray(shape, dtype=dtype),
    "gray-mean": lambda shape, dtype: operators.gray(shape, (1 / 3, 1 / 3, 1 / 3), dtype=dtype),
    "mask": lambda shape, dtype: Mask(shape, _random_mask(shape[1:]), dtype=dtype),
    "mask-per-channel": lambda shape, dtype: Mask(shape, _random_mask(shape), dtype=dtype),
    **{
        f"gaussian-{boundary}": lambda shape, dtype, boundary=boundary: operators.gaussian_blur(
            shape, 0.8, boundary=boundary, dtype=dtype
        )
        for boundary in operators.BOUNDARIES
    },
    **{
        f"box{size}-{boundary}": lambda shape, dtype, size=size, boundary=boundary: (
            operators.box_blur(shape, size, boundary=boundary, dtype=dtype)
        )
        for boundary in operators.BOUNDARIES
        for size in (3, 4)
    },
    **{
        f"down-{kernel}-{factor}": lambda shape, dtype, kernel=kernel, factor=factor: (
            operators.downsample(shape, factor, kernel=kernel, dtype=dtype)
        )
        for kernel in operators.RESAMPLERS
        for factor in (2, 3, 1.7)
    },
    "down-two-factors": lambda shape, dtype: operators.downsample(shape, (1.0, 2.5), dtype=dtype),
    "blur+down": lambda shape, dtype: (
        operators.downsample(shape, 2, dtype=dtype)
        @ operators.gaussian_blur(shape, 1.2, dtype=dtype)
    ),
    "blur+down+gray": lambda shape, dtype: (
        operators.gray((3, -(-shape[1] // 2), -(-shape[2] // 2)), dtype=dtype)
        @ operators.downsample(shape, 2, kernel="area", dtype=dtype)
        @ operators.gaussian_blur(shape, 0.6, boundary="replicate", dtype=dtype)
    ),
    "enlarging": lambda shape, dtype: AxesOperator(
        shape, None, operators.resample_matrix(shape[1], 2 * shape[1] + 1), None, dtype=dtype
    ),
    "asymmetric-taps": lambda shape, dtype: operators.separable_blur(
        shape, [0.5, 0.3, 0.2], [0.1, 0.9], boundary="symmetric", dtype=dtype
    ),
}


def _random_mask(shape: tuple[int, ...]) -> torch.Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.4
    mask.view(-1)[0] = True
    return mask


def _picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", BUILDERS)
def test_keeps_every_promise(name: str, size: tuple[int, int]) -> None:
    """SVD, orthogonality, adjoint and Moore–Penrose in float32 as used, and sharply in float64."""
    if size in SIZES[:3]:  # rounding grows with the size
        check(BUILDERS[name]((3, *size), torch.float32), rtol=1e-5)
    check(BUILDERS[name]((3, *size), torch.float64), rtol=1e-12)


@pytest.mark.parametrize("name", BUILDERS)
def test_against_dense_svd(name: str) -> None:
    """Singular values and pseudo-inverse are those of numpy's decomposition of the dense matrix."""
    operator = BUILDERS[name]((3, 6, 9), torch.float64)
    A = dense_matrix(operator).numpy()
    expected = np.linalg.svd(A, compute_uv=False)
    found = np.sort(operator.singular_values.numpy().ravel())[::-1]
    length = max(len(found), len(expected))
    found, expected = (np.pad(v, (0, length - len(v))) for v in (found, expected))
    np.testing.assert_allclose(found, expected, atol=2e-6 * expected[0])
    y = _picture(2, *operator.output_shape)
    inverse = y.flatten(1).numpy() @ np.linalg.pinv(A, rcond=operators.RANK_TOLERANCE).T
    np.testing.assert_allclose(
        operator.pseudo_inverse(y).flatten(1).numpy(), inverse, atol=1e-7 * np.abs(inverse).max()
    )


class Dense(SpectralOperator):
    """A random matrix 9×12 of rank 6, every map by itself, so that any of them can be replaced by a
    wrong one.
    """

    def __init__(self, **wrong) -> None:
        super().__init__((1, 3, 4), (1, 3, 3))
        draw = torch.Generator().manual_seed(7)
        left, right = (
            torch.linalg.qr(torch.randn(n, n, generator=draw).double())[0] for n in (9, 12)
        )
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.register_buffer(
            "singular_values",
            torch.tensor([3.0, 2, 2, 1, 0.7, 0.5, 0, 0, 0]).double().view(1, 3, 3),
        )
        self.register_buffer("matrix", left * self.singular_values.flatten() @ right[:, :9].mT)
        for name, make in wrong.items():
            setattr(self, name, partial(make, self))

    def A(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.mT).view(-1, 1, 3, 3)

    def At(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.matrix).view(-1, 1, 3, 4)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return Dense.V(self, self.inverse_singular_values() * Dense.Ut(self, y))

    def V(self, spectrum: Tensor) -> Tensor:
        return (spectrum.flatten(1) @ self.right[:, :9].mT).view(-1, 1, 3, 4)

    def Vt(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.right[:, :9]).view(-1, 1, 3, 3)

    def U(self, spectrum: Tensor) -> Tensor:
        return (spectrum.flatten(1) @ self.left.mT).view(-1, 1, 3, 3)

    def Ut(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.left).view(-1, 1, 3, 3)

    def into_null_space(self, y: Tensor) -> Tensor:
        """From the range to the null space: invisible behind A, not minimal."""
        return (y.flatten(1) @ self.left[:, :3] @ self.right[:, -3:].mT).view(-1, 1, 3, 4)

    def from_beyond_the_range(self, y: Tensor) -> Tensor:
        """From what A never gives to the row space: invisible before A, not least squares."""
        return (y.flatten(1) @ self.left[:, -3:] @ self.right[:, :3].mT).view(-1, 1, 3, 4)


WRONG = {
    "At is the adjoint": {"At": lambda op, y: 1.01 * Dense.At(op, y)},
    "At is linear": {"At": lambda op, y: Dense.At(op, y.clamp(-1, 1))},
    "A is linear": {"A": lambda op, x: Dense.A(op, x) + 1e-3},
    "A is linear, each": {"A": lambda op, x: Dense.A(op, x - 0.01 * x.mean(dim=0, keepdim=True))},
    r"A is linear, .*off by": {"A": lambda op, x: Dense.A(op, x.clamp(-100, 100))},
    r"A gives a batch of shape \(12, 1, 3, 3\): it gave": {
        "A": lambda op, x: Dense.A(op, x).flatten(1)
    },
    r"pseudo_inverse gives a batch of shape \(9, 1, 3, 4\)": {"pseudo_inverse": lambda op, y: y},
    "A = U Σ Vᵀ": {"U": lambda op, s: -Dense.U(op, s), "Ut": lambda op, y: -Dense.Ut(op, y)},
    "A = U Σ Vᵀ: off": {
        "U": lambda op, s: Dense.U(op, s.flip(-1)),
        "Ut": lambda op, y: Dense.Ut(op, y).flip(-1),
    },
    "the columns of U are orthonormal": {
        "U": lambda op, s: 1.01 * Dense.U(op, s),
        "Ut": lambda op, y: 1.01 * Dense.Ut(op, y),
    },
    "the columns of V are orthonormal": {
        "V": lambda op, s: Dense.V(op, s + 0.1 * s.flip(-1)),
        "Vt": lambda op, x: Dense.Vt(op, x) + 0.1 * Dense.Vt(op, x).flip(-1),
    },
    "Ut is the transpose of U": {"Ut": lambda op, y: Dense.Ut(op, y.flip(-1))},
    "Vt is the transpose of V": {"Vt": lambda op, x: Dense.Vt(op, x.flip(-1))},
    "V is linear": {"V": lambda op, s: Dense.V(op, s.clamp(-1, 1))},
    "A A⁺ A = A": {"pseudo_inverse": Dense.At},
    "A⁺ A A⁺ = A⁺": {
        "pseudo_inverse": lambda op, y: (
            Dense.pseudo_inverse(op, y) + Dense.into_null_space(op, y.flip(-1))
        )
    },
    "A A⁺ is symmetric": {
        "pseudo_inverse": lambda op, y: (
            Dense.pseudo_inverse(op, y) + Dense.from_beyond_the_range(op, y)
        )
    },
    "A⁺ A is symmetric": {
        "pseudo_inverse": lambda op, y: Dense.pseudo_inverse(op, y) + Dense.into_null_space(op, y)
    },
    "pseudo_inverse is linear": {
        "pseudo_inverse": lambda op, y: Dense.pseudo_inverse(op, y.clamp(-1, 1))
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_check_names_what_is_wrong(message: str) -> None:
    operator = Dense(**WRONG[message])
    with pytest.raises(AssertionError, match=message):
        check(operator)


def test_check_refuses_negative_singular_values() -> None:
    operator = Dense()
    operator.singular_values[0, 0, 2] *= -1
    with pytest.raises(
        AssertionError, match="singular values are not negative: the smallest is -2"
    ):
        check(operator)


def test_check_passes_what_is_right() -> None:
    check(Dense(), rtol=1e-12)
    check(Dense().float(), rtol=1e-5)


class Rolled(IterativeOperator):
    """Made for three pictures, of which it shifts each by another amount; it has no SVD that tells
    how many.
    """

    mixes = False

    def A(self, x: Tensor) -> Tensor:
        x = x.roll(1, 0) if self.mixes else x
        return torch.stack(
            [picture.roll(amount, -1) for picture, amount in zip(x, range(3), strict=True)]
        )

    def At(self, y: Tensor) -> Tensor:
        x = torch.stack(
            [picture.roll(-amount, -1) for picture, amount in zip(y, range(3), strict=True)]
        )
        return x.roll(-1, 0) if self.mixes else x


BATCHES = {
    "masks": lambda dtype: Mask((2, 3, 4), _random_mask((3, 2, 3, 4)), dtype=dtype),
    "one mask of a batch": lambda dtype: Mask((2, 3, 4), _random_mask((1, 1, 3, 4)), dtype=dtype),
    "kernels": lambda dtype: operators.CircularConvolution(
        (2, 3, 4), np.stack([np.eye(3), kernels.box(3)]), dtype=dtype
    ),
    "even kernels": lambda dtype: operators.SymmetricConvolution(
        (2, 3, 4), np.stack([np.ones((3, 3)), kernels.gaussian(0.3)]), dtype=dtype
    ),
    "kernels, valid": lambda dtype: operators.ValidConvolution(
        (1, 3, 4), np.stack([np.eye(3), kernels.gaussian(0.3)]), tolerance=1e-8, dtype=dtype
    ),
    "blurs": lambda dtype: operators.batch_of(
        [operators.gaussian_blur((2, 3, 4), sigma, dtype=dtype) for sigma in (0.4, 0.6)]
    ),
    "one blur": lambda dtype: operators.batch_of(
        [operators.gaussian_blur((2, 3, 4), 0.4, dtype=dtype)]
    ),
    "without an SVD": lambda dtype: operators.batch_of(
        [
            Mask((2, 3, 4), _random_mask((3, 4)), dtype=dtype)
            @ operators.gaussian_blur((2, 3, 4), 0.4, dtype=dtype),
            operators.FunctionOperator(lambda x: x.cumsum(-1), (2, 3, 4), dtype=dtype),
        ]
    ),
    "composed": lambda dtype: (
        Mask((2, 3, 4), _random_mask((3, 1, 3, 4)), dtype=dtype)
        @ operators.gaussian_blur((2, 3, 4), 0.4, dtype=dtype)
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_check_takes_operators_made_for_a_batch(name: str) -> None:
    check(BATCHES[name](torch.float32), rtol=1e-5)
    check(BATCHES[name](torch.float64), rtol=1e-7)


def test_check_is_told_how_many_pictures_there_are() -> None:
    operator = Rolled((1, 2, 3), (1, 2, 3))
    check(operator, pictures=3)
    matrices = dense_matrix(operator, pictures=3)
    assert matrices.shape == (3, 6, 6)
    torch.testing.assert_close(matrices[0], torch.eye(6).double())
    operator.mixes = True
    with pytest.raises(
        AssertionError, match=r"A is linear, each picture of a batch on its own .picture 0 of 3"
    ):
        check(operator, pictures=3)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_check_names_the_picture(wrong: int) -> None:
    parts = [Dense(**(WRONG["At is the adjoint"] if i == wrong else {})) for i in range(3)]
    with pytest.raises(
        AssertionError, match=f"At is the adjoint of A .picture {wrong} of 3.: off by"
    ):
        check(operators.batch_of(parts))


def test_dense_matrix_of_a_batch_is_one_for_each_picture() -> None:
    sigmas = (0.4, 0.6, 0.9)
    parts = [operators.gaussian_blur((1, 4, 3), sigma, dtype=torch.float64) for sigma in sigmas]
    found = dense_matrix(operators.batch_of(parts))
    torch.testing.assert_close(
        found, torch.stack([dense_matrix(part) for part in parts]), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("size", "new_size"),
    [((40, 60), (10, 15)), ((41, 59), (11, 15)), ((37, 50), (15, 20)), ((9, 7), (1, 2))],
)
@pytest.mark.parametrize("kernel", PILLOW)
def test_downsampling_is_pillows(
    kernel: str, size: tuple[int, int], new_size: tuple[int, int]
) -> None:
    x = np.random.default_rng(0).random(size, dtype=np.float32)
    expected = np.asarray(Image.fromarray(x).resize(new_size[::-1], PILLOW[kernel]))
    operator = operators.downsample((1, *size), size=new_size, kernel=kernel)
    found = operator.A(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("size", "new_size"), [((40, 60), (10, 15)), ((41, 59), (11, 15)), ((37, 50), (15, 20))]
)
def test_area_is_opencvs(size: tuple[int, int], new_size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random(size, dtype=np.float32)
    expected = cv2.resize(x, new_size[::-1], interpolation=cv2.INTER_AREA)
    operator = operators.downsample((1, *size), size=new_size, kernel="area")
    found = operator.A(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("boundary", operators.BOUNDARIES)
@pytest.mark.parametrize("size", [(20, 31), (3, 4), (1, 7)])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 3.3])
def test_gaussian_blur_is_scipys(sigma: float, size: tuple[int, int], boundary: str) -> None:
    x = np.random.default_rng(1).random(size)
    expected = scipy.ndimage.gaussian_filter(x, sigma, mode=SCIPY_MODE[boundary])
    operator = operators.gaussian_blur((1, *size), sigma, boundary=boundary, dtype=torch.float64)
    np.testing.assert_allclose(
        operator.A(torch.from_numpy(x)[None, None])[0, 0], expected, atol=1e-12
    )


@pytest.mark.parametrize("boundary", operators.BOUNDARIES)
@pytest.mark.parametrize(
    "taps", [[0.5, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4], [1.0], [0.2] * 5, [0.1] * 9]
)
def test_separable_blur_is_scipys_convolution(taps: list[float], boundary: str) -> None:
    x = np.random.default_rng(2).random((7, 6))
    expected = x
    for axis in (0, 1):
        expected = scipy.ndimage.convolve1d(expected, taps, axis=axis, mode=SCIPY_MODE[boundary])
    operator = operators.separable_blur((1, 7, 6), taps, boundary=boundary, dtype=torch.float64)
    np.testing.assert_allclose(
        operator.A(torch.from_numpy(x)[None, None])[0, 0], expected, atol=1e-12
    )


@pytest.mark.parametrize("boundary", operators.BOUNDARIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (5, 7), (11, 4)], ids=str)
def test_kernels_longer_than_the_picture_are_scipys(size: tuple[int, int], boundary: str) -> None:
    """Odd, even and lopsided kernels that reach round the picture several times.

    Those that reach further than four times its side are left to scipy's convolution along one
    axis: its ``convolve`` (1.17) then has other values for ``reflect`` than its own ``convolve1d``
    and than numpy's ``pad``.
    """
    rng = np.random.default_rng(4)
    x = rng.random(size)
    modes = [
        SCIPY_MODE[boundary],
        *([SCIPY_SYNONYM[boundary]] if boundary in SCIPY_SYNONYM else []),
    ]
    for lengths in ((1, 2), (7, 8), (14, 3), (50, 3), (23, 36)):
        rows, columns = (rng.standard_normal(length) for length in lengths)
        operator = operators.separable_blur(
            (1, *size), rows, columns, boundary=boundary, dtype=torch.float64
        )
        found = operator.A(torch.from_numpy(x)[None, None])[0, 0]
        for mode in modes:
            along_rows = scipy.ndimage.convolve1d(x, rows, axis=0, mode=mode)
            expected = scipy.ndimage.convolve1d(along_rows, columns, axis=1, mode=mode)
            np.testing.assert_allclose(found, expected, atol=1e-11)
            if all(length <= 8 * side for length, side in zip(lengths, size, strict=True)):
                expected = scipy.ndimage.convolve(x, np.outer(rows, columns), mode=mode)
                np.testing.assert_allclose(found, expected, atol=1e-11)


def test_a_mirror_at_the_centre_of_the_outermost_pixel() -> None:
    """Written out by hand: a shift by two pixels to the right shows what lies on the left."""
    shift = operators.blur_matrix(4, [0, 0, 0, 0, 1], "mirror")
    np.testing.assert_array_equal(shift @ [10, 20, 30, 40], [30, 20, 10, 20])
    np.testing.assert_array_equal(operators.blur_matrix(1, [0.25] * 4, "mirror"), [[1]])


def test_gray_is_pillows() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(rgb).convert("L")).astype(float)
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].double()
    found = operators.gray((3, 12, 9), dtype=torch.float64).A(x)[0, 0]
    assert np.abs(found.numpy() - expected).max() < 1.01  # Pillow truncates to whole numbers


def test_mask_zeroes_unknown_pixels_per_channel_and_per_picture() -> None:
    known = torch.zeros(2, 3, 4, 5)
    known[0, 0], known[1, 2] = 1, 1
    x = torch.rand(2, 3, 4, 5)
    operator = Mask((3, 4, 5), known)
    assert torch.equal(operator.A(x), x * known)
    assert torch.equal(operator.pseudo_inverse(operator.A(x)), x * known)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    factor=st.floats(1, 8),
    kernel=st.sampled_from(operators.RESAMPLERS),
    boundary=st.sampled_from(operators.BOUNDARIES),
    sigma=st.floats(0.3, 5),
)
def test_composition_is_one_after_the_other(height, width, factor, kernel, boundary, sigma) -> None:
    shape = (2, height, width)
    blur = operators.gaussian_blur(shape, sigma, boundary=boundary, dtype=torch.float64)
    down = operators.downsample(shape, factor, kernel=kernel, dtype=torch.float64)
    both = down @ blur
    x = _picture(1, *shape)
    y = _picture(1, *both.output_shape, seed=1)
    torch.testing.assert_close(both.A(x), down.A(blur.A(x)), rtol=0, atol=1e-11)
    torch.testing.assert_close((both.A(x) * y).sum(), (x * both.At(y)).sum(), rtol=1e-9, atol=1e-10)
    if boundary != "zero":
        torch.testing.assert_close(both.A(torch.ones_like(x)), torch.ones_like(y))


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc"
)
def test_large_blur_and_downsampling_fit_in_memory() -> None:
    """Gaussian blur and ×4: less than 20 pictures beyond the given one, set-up included."""
    side = 1024
    picture = 3 * side**2 * 4
    assert picture < value_of(_used_by_blur_and_downsampling, side) < 20 * picture


def _used_by_blur_and_downsampling(side: int) -> int:
    """Return by how many bytes the process grows at most."""

    def peak() -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    shape = (3, side, side)
    x = torch.rand(1, *shape)
    before = peak()
    operator = operators.downsample(shape, 4) @ operators.gaussian_blur(shape, 2.0)
    y = operator.A(x)
    assert y.shape[1:] == (3, side // 4, side // 4)

    operator.pseudo_inverse(y)
    operator.U(operator.Ut(y))
    operator.V(operator.Vt(x))

    return (peak() - before) * 1024


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: operators.downsample((3, 8, 8), 0), "at least 1"),
        (lambda: operators.downsample((3, 8, 8), 0.5), "at least 1"),
        (lambda: operators.downsample((3, 8, 8), float("nan")), "at least 1"),
        (lambda: operators.downsample((3, 8, 8)), "either"),
        (lambda: operators.downsample((3, 8, 8), size=(9, 8)), "8x8"),
        (lambda: operators.downsample((3, 8, 8), size=(0, 8)), "8x8"),
        (lambda: operators.downsample((3, 8, 8), 2, kernel="spline"), "bicubic, area, lanczos"),
        (lambda: operators.gaussian_blur((3, 8, 8), 0), "positive"),
        (
            lambda: operators.gaussian_blur((3, 8, 8), 1, boundary="reflect"),
            "zero, symmetric, mirror, replicate, circular",
        ),
        (lambda: operators.box_blur((3, 8, 8), 0), "at least 1"),
        (lambda: operators.separable_blur((3, 8, 8), []), "non-empty"),
        (lambda: operators.separable_blur((3, 8, 8), [1, float("inf")]), "finite"),
        (lambda: operators.separable_blur((3, 8, 8), [0, 0]), "not all zero"),
        (lambda: operators.gray((3, 8, 8), (1, 1)), "3 channels"),
        (lambda: AxesOperator((3, 0, 8)), "positive"),
        (lambda: AxesOperator((3, 4, 8), None, np.eye(5)), r"\[m, 4\]"),
        (lambda: Mask((3, 8, 8), torch.ones(7, 8)), "does not fit"),
        (lambda: Mask((3, 8, 8), torch.ones(2, 8, 8)), "1 or 3 channels"),
        (lambda: Mask((3, 8, 8), torch.full((8, 8), 0.5)), "0 .unknown. or 1"),
        (lambda: operators.identity((3, 8, 8)) @ operators.identity((3, 8, 9)), "first one gives"),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_an_svd_computed_in_inference_mode_serves_gradients_later() -> None:
    operator = operators.downsample((1, 6, 6), 2)
    with torch.inference_mode():
        operator.Vt(torch.rand(1, 1, 6, 6))
    x = torch.rand(1, 1, 6, 6, requires_grad=True)
    operator.Vt(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * operator.V(operator.Vt(x.detach())))


# --- inverses along the axes
# ------------------------------------------------------------------------------

WELL_CONDITIONED = {
    "bicubic by 2": lambda dtype: operators.downsample((1, 300, 320), 2, dtype=dtype),
    "bicubic by 4": lambda dtype: operators.downsample((1, 800, 640), 4, dtype=dtype),
    "area by 3": lambda dtype: operators.downsample((1, 303, 300), 3, kernel="area", dtype=dtype),
    "lanczos by 1.5": lambda dtype: operators.downsample(
        (1, 450, 480), 1.5, kernel="lanczos", dtype=dtype
    ),
    "one axis": lambda dtype: operators.downsample((3, 300, 41), (2, 1), dtype=dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", WELL_CONDITIONED)
def test_the_inverse_of_a_resampling_has_bands(name: str, dtype: torch.dtype) -> None:
    """And is, to rounding, the one that the whole decomposition gives; so is the projection onto
    what is seen.
    """
    operator = WELL_CONDITIONED[name](dtype)
    x = torch.randn(
        2, *operator.input_shape, generator=torch.Generator().manual_seed(0), dtype=dtype
    )
    y = operator.A(x)
    atol = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(
        operator.pseudo_inverse(y), SpectralOperator.pseudo_inverse(operator, y), rtol=0, atol=atol
    )
    torch.testing.assert_close(
        operator.onto_row_space(x), SpectralOperator.onto_row_space(operator, x), rtol=0, atol=atol
    )
    assert operator._inverts_by_axes or dtype == torch.float64  # whose rounding wants wider bands
    if operator._inverts_by_axes:
        inverse = operator.inverse_1
        rows = torch.from_numpy(operator.matrices[1])
        assert (inverse == 0).float().mean() > 0.5
        atol = 1e-6 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(inverse.double(), torch.linalg.pinv(rows), rtol=0, atol=atol)


def test_a_blur_that_hides_something_is_inverted_by_its_spectrum() -> None:
    taps = kernels.gaussian(3.0).sum(axis=0)
    operator = operators.separable_blur((1, 200, 200), taps)
    projected = operator.onto_row_space(torch.rand(1, 1, 200, 200))
    assert not operator._inverts_by_axes
    assert (operator.singular_values == 0).any()
    torch.testing.assert_close(operator.onto_row_space(projected), projected, rtol=0, atol=1e-4)
