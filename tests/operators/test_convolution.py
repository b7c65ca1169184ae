"""Convolution operators against dense algebra, scipy and one another."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
from operators import border_convolution, check, dense_matrix, kernels
from operators.border_convolution import ValidConvolution
from operators.convolution import CONVOLUTION_BOUNDARIES, convolution
from operators.cosine_transform import CosineTransform
from operators.spectral_convolution import CircularConvolution, SymmetricConvolution

SIZES = [(6, 6), (5, 7), (7, 11), (9, 4), (8, 8), (1, 8), (7, 1), (1, 1), (2, 3), (4, 2)]
SCIPY_MODES = {
    "zero": "constant",
    "symmetric": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
}
DTYPES = {torch.float32: 1e-5, torch.float64: 1e-11}


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


EVEN = {
    "gaussian": kernels.gaussian(0.6)[1:-1, 1:-1],
    "delta": np.ones((1, 1)),
    "box": kernels.box((3, 5)),
    "disk": kernels.disk(1.3),
    "ringing": np.outer([-0.2, 1.0, -0.2], [0.1, -0.4, 1.7, -0.4, 0.1]),
}
ANY = {
    **EVEN,
    "asymmetric": _random(3, 3),
    "asymmetric-wide": _random(1, 5, seed=1),
    "even-sided": _random(4, 2, seed=2),
    "even-and-odd": _random(3, 4, seed=3),
    "two": np.array([[0.3, 0.7]]),
    "motion": kernels.motion(4, 30),
    "spectral-zeros": kernels.box(4),
    "derivative": np.array([[1.0, -1.0]]),
}


def _cut(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As much of a kernel as the picture allows, with odd sides where they were odd."""
    sides = [n if n <= m else m - (m + n) % 2 for n, m in zip(kernel.shape, size, strict=True)]
    sides = [max(1, side) for side in sides]
    first = [(n - side) // 2 for n, side in zip(kernel.shape, sides, strict=True)]
    return kernel[first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]


def _picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at_size(size: tuple[int, int]) -> list[tuple[torch.dtype, float]]:
    """Return the types to check with their errors: float32 at the first sizes only."""
    return [(t, rtol) for t, rtol in DTYPES.items() if t == torch.float64 or size in SIZES[:3]]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ANY)
def test_circular_keeps_every_promise(name: str, size: tuple[int, int]) -> None:
    for dtype, rtol in at_size(size):
        check(CircularConvolution((2, *size), _cut(ANY[name], size), dtype=dtype), rtol)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", EVEN)
def test_symmetric_keeps_every_promise(name: str, size: tuple[int, int]) -> None:
    for dtype, rtol in at_size(size):
        check(SymmetricConvolution((2, *size), _cut(EVEN[name], size), dtype=dtype), rtol)


@pytest.mark.parametrize("name", [name for name in ANY if name != "spectral-zeros"])
def test_valid_keeps_every_promise(name: str) -> None:
    for size in ((6, 6), (3, 7), (1, 1)):
        for dtype, rtol in DTYPES.items():
            check(ValidConvolution((2, *size), ANY[name], dtype=dtype, tolerance=rtol / 100), rtol)


@pytest.mark.parametrize("size", [(9, 12), (7, 11), (8, 8), (5, 4)], ids=str)
@pytest.mark.parametrize("name", ANY)
def test_circular_is_scipys(name: str, size: tuple[int, int]) -> None:
    x = _random(*size)
    kernel = _cut(ANY[name], size)
    found = CircularConvolution((1, *size), kernel, dtype=torch.float64).A(
        torch.from_numpy(x)[None, None]
    )
    np.testing.assert_allclose(
        found[0, 0], scipy.ndimage.convolve(x, kernel, mode="wrap"), atol=1e-13
    )


@pytest.mark.parametrize("size", [(9, 12), (7, 11), (8, 8), (5, 5)], ids=str)
@pytest.mark.parametrize("name", EVEN)
def test_symmetric_is_scipys(name: str, size: tuple[int, int]) -> None:
    x = _random(*size)
    kernel = _cut(EVEN[name], size)
    found = SymmetricConvolution((1, *size), kernel, dtype=torch.float64).A(
        torch.from_numpy(x)[None, None]
    )
    np.testing.assert_allclose(
        found[0, 0], scipy.ndimage.convolve(x, kernel, mode="reflect"), atol=1e-13
    )


@pytest.mark.parametrize("size", [(9, 12), (7, 11), (1, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ANY)
def test_valid_is_scipys(name: str, size: tuple[int, int]) -> None:
    operator = ValidConvolution((1, *size), ANY[name], dtype=torch.float64)
    canvas = _random(*operator.input_shape[1:])
    expected = scipy.signal.convolve2d(canvas, ANY[name], mode="valid")
    assert expected.shape == size
    np.testing.assert_allclose(
        operator.A(torch.from_numpy(canvas)[None, None])[0, 0], expected, atol=1e-13
    )


@pytest.mark.parametrize(
    ("rows", "columns"), [((0.5, 0.3, 0.2), (0.1, 0.9)), ((0.1, 0.2, 0.3, 0.4), (1.0,))]
)
def test_circular_is_the_separable_blur(
    rows: tuple[float, ...], columns: tuple[float, ...]
) -> None:
    """Even kernels have the centre of `operators.blur_matrix`."""
    shape = (2, 7, 6)
    separable = operators.separable_blur(
        shape, rows, columns, boundary="circular", dtype=torch.float64
    )
    found = CircularConvolution(shape, np.outer(rows, columns), dtype=torch.float64)
    x = _picture(2, *shape)
    torch.testing.assert_close(found.A(x), separable.A(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        found.singular_values.flatten().sort().values,
        separable.singular_values.flatten().sort().values,
        rtol=0,
        atol=1e-13,
    )


def test_symmetric_is_the_separable_blur() -> None:
    shape = (3, 20, 31)
    separable = operators.gaussian_blur(shape, 1.7, dtype=torch.float64)
    found = SymmetricConvolution(shape, kernels.gaussian(1.7), dtype=torch.float64)
    x = _picture(2, *shape)
    torch.testing.assert_close(found.A(x), separable.A(x), rtol=0, atol=1e-13)


def test_exact_spectral_zeros_are_zero() -> None:
    """A box of 4 on 8 pixels wipes out the frequencies 2, 4 and 6 along each axis."""
    operator = CircularConvolution((1, 8, 8), kernels.box(4), dtype=torch.float64)
    assert int((operator.singular_values == 0).sum()) == 64 - 5 * 5
    x = _picture(1, 1, 8, 8)
    assert float(operator.pseudo_inverse(operator.A(x)).norm()) <= float(x.norm())


@pytest.mark.parametrize(
    ("boundary", "name"),
    [
        (boundary, name)
        for boundary in CONVOLUTION_BOUNDARIES
        for name in (EVEN if boundary == "symmetric" else ANY)
    ],
)
def test_pseudo_inverse_is_numpys(boundary: str, name: str) -> None:
    kernel = ANY[name] if boundary == "unknown" else _cut(ANY[name], (6, 7))
    operator = convolution((1, 6, 7), kernel, boundary, dtype=torch.float64)
    A = dense_matrix(operator).numpy()
    y = _picture(3, *operator.output_shape)
    expected = y.flatten(1).numpy() @ np.linalg.pinv(A, rcond=operators.RANK_TOLERANCE).T
    found = operator.pseudo_inverse(y).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("boundary", CONVOLUTION_BOUNDARIES)
def test_a_kernel_per_picture_is_one_picture_at_a_time(boundary: str) -> None:
    batch = np.stack([kernels.gaussian(0.5), np.eye(5), kernels.box(5)])
    if boundary == "symmetric":
        batch[1] = EVEN["ringing"][1] / 5
    together = convolution((2, 9, 8), batch, boundary, dtype=torch.float64)
    x = _picture(3, *together.input_shape)
    y = _picture(3, *together.output_shape, seed=1)
    maps = ["A", "At"] + (["V", "Vt", "U", "Ut", "pseudo_inverse"] if together.has_svd else [])
    for i in range(3):
        alone = convolution((2, 9, 8), batch[i], boundary, dtype=torch.float64)
        for name in maps:
            given = x if name in ("A", "Vt") else y
            expected = getattr(alone, name)(given[i : i + 1])
            found = getattr(together, name)(given)[i : i + 1]
            torch.testing.assert_close(
                found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()), msg=name
            )
        if together.has_svd:
            torch.testing.assert_close(together.singular_values[i], alone.singular_values)


def test_channels_share_their_singular_values() -> None:
    for kernel, shape in ((np.eye(3), (3, 8, 9)), (np.stack([np.eye(3)] * 2), (2, 3, 8, 9))):
        s = CircularConvolution((3, 8, 9), kernel).singular_values
        assert s.shape == shape
        assert s.stride(-3) == 0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 11, 12, 97, 210])
@pytest.mark.parametrize("height", [1, 2, 3, 8, 31, 60])
def test_cosine_transform_is_scipys(height: int, width: int) -> None:
    transform = CosineTransform(height, width, dtype=torch.float64)
    x = _picture(2, 3, height, width)
    found = transform(x)
    axes = {"axes": (2, 3), "norm": "ortho"}
    np.testing.assert_allclose(found, scipy.fft.dctn(x.numpy(), **axes), atol=1e-12)
    np.testing.assert_allclose(transform.inverse(x), scipy.fft.idctn(x.numpy(), **axes), atol=1e-12)
    torch.testing.assert_close(transform.inverse(found), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 11), (6, 1), (1, 1), (12, 10)], ids=str)
def test_right_singular_vectors_are_known_transforms(size: tuple[int, int]) -> None:
    x = _picture(2, 3, *size)
    found = SymmetricConvolution((3, *size), np.ones((1, 1)), dtype=torch.float64).Vt(x)
    np.testing.assert_allclose(
        found, scipy.fft.dctn(x.numpy(), axes=(2, 3), norm="ortho"), atol=1e-13
    )
    found = CircularConvolution((3, *size), np.ones((1, 1)), dtype=torch.float64).Vt(x)
    fourier = scipy.fft.fft2(x.numpy(), norm="ortho")
    np.testing.assert_allclose(found, fourier.real - fourier.imag, atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 999),
)
def test_any_size_and_kernel(size: tuple[int, int], sides: tuple[int, int], seed: int) -> None:
    kernel = _random(*sides, seed=seed) - 0.3
    valid = ValidConvolution((2, *size), kernel, dtype=torch.float64)
    for operator in (valid, valid.circular):
        x = _picture(2, *operator.input_shape, seed=seed)
        y = _picture(2, *operator.output_shape, seed=seed + 1)
        scale = float(x.norm() * y.norm()) * np.abs(kernel).sum()
        assert abs(float((operator.A(x) * y).sum() - (x * operator.At(y)).sum())) < 1e-13 * scale
    circular = valid.circular
    spectrum = x
    for there, back in ((circular.V, circular.Vt), (circular.U, circular.Ut)):
        torch.testing.assert_close(back(there(spectrum)), spectrum, rtol=0, atol=1e-12)
        torch.testing.assert_close(there(back(spectrum)), spectrum, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(700, 300), (256, 257), (40, 900), (512, 512), (1, 1000)])
@pytest.mark.parametrize("sides", [(1, 1), (13, 13), (4, 31), (1, 90)])
def test_blocks_are_seamless(size: tuple[int, int], sides: tuple[int, int]) -> None:
    """Of pictures that take several: the convolution and the correlation of scipy."""
    kernel = _random(*sides) - 0.3
    operator = ValidConvolution((2, *size), kernel, dtype=torch.float64)
    if sides == (13, 13):
        assert math.prod(operator.blocks.sides) < 256 * 300
    x = _picture(1, *operator.input_shape)
    y = _picture(1, *operator.output_shape, seed=1)
    expected = [scipy.signal.fftconvolve(channel, kernel, mode="valid") for channel in x[0].numpy()]
    np.testing.assert_allclose(operator.A(x)[0], expected, rtol=0, atol=1e-11)
    expected = [
        scipy.signal.fftconvolve(channel, kernel[::-1, ::-1], mode="full")
        for channel in y[0].numpy()
    ]
    np.testing.assert_allclose(operator.At(y)[0], expected, rtol=0, atol=1e-11)


def test_blocks_of_pictures_with_kernels_of_their_own() -> None:
    each = _random(3, 9, 5)
    together = ValidConvolution((2, 400, 300), each, dtype=torch.float64)
    x = _picture(3, *together.input_shape)
    y = _picture(3, *together.output_shape)
    for index, kernel in enumerate(each):
        alone = ValidConvolution((2, 400, 300), kernel, dtype=torch.float64)
        torch.testing.assert_close(together.A(x)[[index]], alone.A(x[[index]]), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            together.At(y)[[index]], alone.At(y[[index]]), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", ANY)
def test_the_canvas_holds_the_measurement(name: str) -> None:
    operator = ValidConvolution((3, 8, 7), ANY[name], dtype=torch.float64)
    x = _picture(2, *operator.input_shape)
    y = _picture(2, 3, 8, 7, seed=1)
    measured = operator.circular.A(x) * operator.measured
    torch.testing.assert_close(measured, operator.embed(operator.A(x)), rtol=0, atol=1e-13)
    assert torch.equal(operator.crop(operator.embed(y)), y)
    assert torch.equal(operator.embed(operator.crop(x)), x * operator.measured)
    assert operator.measured.shape == (1, 1, *operator.input_shape[1:])
    assert operator.measured.dtype == torch.bool


def test_unknown_border_finds_the_picture_inside() -> None:
    """A photograph's inside is explained exactly by a canvas; a circular boundary rings from the
    border.
    """
    operator = ValidConvolution(
        (1, 24, 30), kernels.disk(2.3), dtype=torch.float64, max_iterations=3000
    )
    y = operator.A(_picture(1, *operator.input_shape))
    found = operator.pseudo_inverse(y)
    assert float((operator.A(found) - y).norm()) < 1e-9 * float(y.norm())


def test_conjugate_gradients_stop_for_each_picture() -> None:
    operator = ValidConvolution((1, 9, 8), ANY["asymmetric"], dtype=torch.float64)
    y = _picture(3, 1, 9, 8)
    y[1] = 0
    y[2] *= 1e-6
    found = operator.pseudo_inverse(y)
    assert torch.equal(found[1], torch.zeros_like(found[1]))
    for i in (0, 2):
        expected = operator.pseudo_inverse(y[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-9, atol=0)
    coarse = ValidConvolution((1, 9, 8), ANY["asymmetric"], dtype=torch.float64, max_iterations=1)
    assert float((coarse.pseudo_inverse(y) - found).norm()) > 1e-3 * float(found.norm())


@pytest.mark.parametrize("boundary", CONVOLUTION_BOUNDARIES)
def test_survives_a_change_of_dtype_and_its_gradient_is_the_adjoint(boundary: str) -> None:
    operator = convolution((2, 8, 9), kernels.disk(1.5), boundary, dtype=torch.float64)
    x = torch.rand(1, *operator.input_shape, requires_grad=True)
    y = operator.to(torch.float32).A(x)
    assert y.dtype == torch.float32
    weights = torch.rand_like(y)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(gradient, operator.At(weights), rtol=0, atol=1e-6)


def test_kernels_as_tensors_and_lists() -> None:
    expected = CircularConvolution((1, 5, 6), np.array([[0.1, 0.2]]), dtype=torch.float64)
    for kernel in (torch.tensor([[0.1, 0.2]], dtype=torch.float64), [[0.1, 0.2]]):
        found = CircularConvolution((1, 5, 6), kernel, dtype=torch.float64)
        assert torch.equal(found.transfer_pairs, expected.transfer_pairs)


def _fake(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    module = copy.copy(module)
    module._modules = {name: _fake(child, mode) for name, child in module._modules.items()}
    module._buffers = {
        name: None if buffer is None else mode.from_tensor(buffer, static_shapes=True).to("cuda")
        for name, buffer in module._buffers.items()
    }
    return module


@pytest.mark.parametrize("boundary", CONVOLUTION_BOUNDARIES)
@pytest.mark.parametrize("per_picture", [False, True])
def test_stays_on_the_device(boundary: str, per_picture: bool) -> None:
    """Fake CUDA tensors raise wherever two devices meet or a value decides."""
    kernel = kernels.gaussian(0.7)
    operator = convolution((3, 12, 9), np.stack([kernel] * 2) if per_picture else kernel, boundary)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        operator = _fake(operator, mode)
        operator.iterations = 3  # without values no iteration ends early
        operator.max_iterations = 3
        x = torch.empty(2, *operator.input_shape, device="cuda")
        y = torch.empty(2, *operator.output_shape, device="cuda")
        results = [(operator.A(x), y), (operator.At(y), x)]
        if operator.has_svd:
            results += [
                (operator.Vt(x), x),
                (operator.Ut(y), x),
                (operator.V(x), x),
                (operator.U(x), x),
            ]
            results += [(operator.pseudo_inverse(y), x)]
        else:
            results += [(operator.pseudo_inverse(y), x)]
        if boundary == "unknown":
            results += [(operator.embed(y), x), (operator.crop(x), y)]
        for found, expected in results:
            assert (found.device.type, found.shape, found.dtype) == (
                "cuda",
                expected.shape,
                torch.float32,
            )


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (7, 11), (4, 5), (3, 3)], ids=str)
@pytest.mark.parametrize("boundary", operators.BOUNDARIES)
@pytest.mark.parametrize("name", ["asymmetric", "even-sided", "even-and-odd", "two", "motion"])
def test_padded_is_scipys_convolution(name: str, boundary: str, size: tuple[int, int]) -> None:
    """Any kernel with any boundary, also those whose convolution has no SVD; the adjoint and the
    inverse as well.
    """
    kernel = _cut(ANY[name], size)
    operator = convolution((2, *size), kernel, boundary, dtype=torch.float64)
    x = torch.randn(1, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [
        scipy.ndimage.convolve(plane, kernel, mode=SCIPY_MODES[boundary]) for plane in x[0].numpy()
    ]
    np.testing.assert_allclose(operator.A(x)[0].numpy(), np.stack(expected), rtol=0, atol=1e-12)
    matrix = dense_matrix(operator)
    adjoint = dense_matrix(
        operators.FunctionOperator(operator.At, operator.output_shape, dtype=torch.float64)
    )
    torch.testing.assert_close(adjoint, matrix.mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CircularConvolution((3, 8, 4), np.ones((5, 5))),
            r"\(5x5, height x width\) is larger .* \(8x4\)",
        ),
        (lambda: SymmetricConvolution((3, 4, 8), np.ones((5, 5))), "larger than the picture"),
        (lambda: SymmetricConvolution((3, 8, 8), _random(3, 3)), "'circular' or 'unknown'"),
        (lambda: SymmetricConvolution((3, 8, 8), np.ones((4, 3))), "odd sides"),
        (
            lambda: SymmetricConvolution((3, 8, 8), np.stack([np.ones((3, 3)), _random(3, 3)])),
            "mirror images",
        ),
        (lambda: CircularConvolution((3, 8, 8), np.zeros((3, 3))), "not all zero"),
        (
            lambda: CircularConvolution((3, 8, 8), np.stack([np.ones((3, 3)), np.zeros((3, 3))])),
            "not all zero",
        ),
        (lambda: ValidConvolution((3, 8, 8), [[1, float("nan")]]), "finite"),
        (lambda: ValidConvolution((3, 8, 8), [1.0, 2.0]), r"\[h, w\]"),
        (lambda: ValidConvolution((3, 8, 8), np.ones((0, 3))), r"\[h, w\]"),
        (lambda: ValidConvolution((3, 0, 8), np.ones((3, 3))), "positive"),
        (
            lambda: convolution((3, 8, 8), np.ones((3, 3)), "reflect"),
            "symmetric, mirror, replicate, circular, unknown",
        ),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("kernel", [kernels.gaussian(1.0), kernels.motion(5, angle=30)])
@pytest.mark.parametrize("shift", [1.0, 1e-2, 1e-5])
def test_the_ridge_of_a_canvas_is_that_of_dense_algebra(kernel, shift: float, monkeypatch) -> None:
    """At any number of iterations its error in x is no larger than that of nothing."""
    operator = ValidConvolution((1, 7, 6), kernel, dtype=torch.float64)
    A = dense_matrix(operator)
    y = torch.rand((2, 1, 7, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratio = torch.full((1, 1, 1, 1), shift, dtype=torch.float64)
    identity = torch.eye(len(A), dtype=torch.float64)
    expected = (A.T @ torch.linalg.solve(A @ A.T + shift * identity, y.flatten(1).T)).T

    def solved(gain: float, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(border_convolution, "RIDGE_GAIN", gain)
        monkeypatch.setattr(border_convolution, "RIDGE_ITERATIONS", iterations)
        multipliers = operator.multipliers(y, ratio)
        return operator.At(multipliers), operator.explained(multipliers, ratio)

    x, explained = solved(1e-12, 300)
    torch.testing.assert_close(x.flatten(1), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(explained, y, rtol=1e-5, atol=1e-7)

    for iterations in (1, 3, 10):
        early, _ = solved(0.0, iterations)
        assert (early.flatten(1) - expected).norm() <= 1.001 * expected.norm()


@pytest.mark.parametrize("kernel", [kernels.motion(5, 30), np.random.rand(2, 3, 4)])
@pytest.mark.parametrize("size", [(9, 7), (1, 6), (5, 1)])
def test_one_transform_is_the_blur_and_its_adjoint(kernel, size: tuple[int, int]) -> None:
    operator = ValidConvolution((3, *size), kernel, dtype=torch.float64)
    y = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    expected = operator.A(operator.At(y))
    torch.testing.assert_close(operator.gram(y, operator.gram.power), expected)
