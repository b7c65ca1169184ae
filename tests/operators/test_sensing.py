"""Compressed sensing against dense algebra, scipy's Hadamard matrices and loops over blocks."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from operators import SpectralOperator, check, dense_matrix
from operators.sensing import BlockSensing, Hadamard, powers_of_two, sequency_order, walsh_hadamard

SIZES = [(8, 8), (4, 16), (6, 6), (5, 7), (9, 4), (13, 1), (1, 8), (1, 1), (7, 11)]
BUILDERS = {
    **{
        f"hadamard-{fraction}": lambda shape, dtype=torch.float32, fraction=fraction: Hadamard(
            shape, fraction, dtype=dtype
        )
        for fraction in (0.01, 0.3, 1.0)
    },
    **{
        f"block{block}-{fraction}": lambda shape, dtype=torch.float32, part=fraction, block=block: (
            BlockSensing(shape, part, block=block, dtype=dtype)
        )
        for block, fraction in ((32, 0.3), (4, 0.01), (4, 0.5), (3, 1.0), (1, 0.5))
    },
}


def _sequency_matrix(n: int) -> np.ndarray:
    """Orthonormal Hadamard matrix, rows by their number of sign changes."""
    matrix = scipy.linalg.hadamard(n)
    changes = (np.diff(matrix, axis=1) != 0).sum(axis=1)
    assert sorted(changes) == list(range(n))
    return matrix[np.argsort(changes)] / math.sqrt(n)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", BUILDERS)
def test_keeps_every_promise(name: str, size: tuple[int, int]) -> None:
    check(BUILDERS[name]((2, *size)), rtol=1e-5)
    check(BUILDERS[name]((2, *size), torch.float64), rtol=1e-11)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("size", [(8, 8), (5, 7)], ids=str)
def test_against_dense_svd(name: str, size: tuple[int, int]) -> None:
    operator = BUILDERS[name]((3, *size), torch.float64)
    A = dense_matrix(operator).numpy()
    np.testing.assert_allclose(
        np.linalg.svd(A, compute_uv=False), operator.singular_values.flatten(), atol=1e-11
    )
    np.testing.assert_allclose(A @ A.T, np.eye(len(A)), atol=1e-11)
    y = torch.randn(
        2, *operator.output_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    expected = y.flatten(1).numpy() @ np.linalg.pinv(A).T
    np.testing.assert_allclose(operator.pseudo_inverse(y).flatten(1).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 64, 256])
def test_transform_is_scipys(n: int) -> None:
    eye = torch.eye(n, dtype=torch.float64)
    np.testing.assert_allclose(
        walsh_hadamard(eye), scipy.linalg.hadamard(n) / math.sqrt(n), atol=1e-14
    )
    np.testing.assert_allclose(
        walsh_hadamard(eye)[sequency_order(n)], _sequency_matrix(n), atol=1e-14
    )


@pytest.mark.parametrize(("size", "fraction"), [((8, 8), 1.0), ((4, 8), 0.4), ((16, 16), 0.25)])
def test_one_segment_is_scipys_matrix_of_the_shuffled_pixels(
    size: tuple[int, int], fraction: float
) -> None:
    n = math.prod(size)
    operator = Hadamard((2, *size), fraction, seed=5, dtype=torch.float64)
    assert operator.segments == [n]
    x = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    count = round(fraction * n)
    shuffled = x.flatten(2).numpy()[..., operator.order.numpy()]
    np.testing.assert_allclose(
        operator.A(x)[:, :, 0], shuffled @ _sequency_matrix(n)[:count].T, atol=1e-12
    )
    assert operator.output_shape == (2, 1, count)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("size", [(5, 7), (7, 11), (1, 13)])
def test_segments_share_the_rows(size: tuple[int, int], fraction: float) -> None:
    """Block diagonal over powers of two, in each the lowest sequencies, as near to proportional as
    whole rows are.
    """
    operator = Hadamard((1, *size), fraction, dtype=torch.float64)
    pixels = math.prod(size)
    A = dense_matrix(operator).numpy()[:, operator.order.numpy()]
    assert sum(operator.segments) == pixels
    assert len(set(operator.segments)) == len(operator.segments)
    row = 0
    start = 0
    for length in operator.segments:
        inside = np.abs(A[:, start : start + length]).max(axis=1) > 1e-9
        count = int(inside.sum())
        assert abs(count - len(A) * length / pixels) < 1
        expected = np.zeros((count, pixels))
        expected[:, start : start + length] = _sequency_matrix(length)[:count]
        np.testing.assert_allclose(A[row : row + count], expected, atol=1e-12)
        row = row + count
        start = start + length
    assert row == len(A) == max(1, round(fraction * pixels))


def test_powers_of_two() -> None:
    for n in range(1, 200):
        parts = powers_of_two(n)
        assert sum(parts) == n
        assert parts == sorted(set(parts), reverse=True)
        assert all(part & (part - 1) == 0 for part in parts)
    assert powers_of_two(35) == [32, 2, 1]


@pytest.mark.parametrize(("size", "block"), [((8, 12), 4), ((7, 9), 4), ((5, 3), 8), ((9, 8), 3)])
def test_blocks_are_measured_one_by_one(size: tuple[int, int], block: int) -> None:
    """The order of the measurement, and one matrix for all tiles of a shape."""
    fraction, (height, width) = 0.4, size
    operator = BlockSensing((2, *size), fraction, block=block, seed=4, dtype=torch.float64)
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = height - height % block, width - width % block
    groups = [
        (range(top, bottom, tall), range(left, right, wide), tall, wide)
        for top, bottom, tall in ((0, whole[0], block), (whole[0], height, height - whole[0]))
        for left, right, wide in ((0, whole[1], block), (whole[1], width, width - whole[1]))
        if bottom > top and right > left
    ]
    values = []
    for tops, lefts, tall, wide in groups:
        matrix = dense_matrix(
            BlockSensing((1, tall, wide), fraction, block=block, seed=4, dtype=torch.float64)
        ).numpy()
        assert len(matrix) == max(1, round(fraction * tall * wide))
        for top in tops:
            for left in lefts:
                tile = x[:, :, top : top + tall, left : left + wide].flatten(2).numpy()
                values.append(tile @ matrix.T)
    expected = np.concatenate(values, axis=-1)
    assert operator.output_shape == (2, 1, expected.shape[-1])
    np.testing.assert_allclose(operator.A(x)[:, :, 0], expected, atol=1e-12)


def test_random_rows_have_no_preferred_direction() -> None:
    """QR alone would make the signs depend on LAPACK; entries of the rotations have mean 0 and
    variance 1/n.
    """
    rows = [dense_matrix(BlockSensing((1, 2, 2), 1.0, seed=seed)) for seed in range(400)]
    entries = torch.stack(rows)
    assert entries.mean(dim=0).abs().max() < 0.13  # five standard deviations of a mean
    assert (entries.square().mean(dim=0) - 0.25).abs().max() < 0.08


@pytest.mark.parametrize("build", [Hadamard, BlockSensing])
def test_seeds(build) -> None:
    matrices = [dense_matrix(build((1, 7, 6), 0.4, seed=seed)) for seed in (3, 3, 4)]
    assert torch.equal(matrices[0], matrices[1])
    assert not torch.allclose(matrices[0], matrices[2], atol=1e-2)


@pytest.mark.parametrize("build", [Hadamard, BlockSensing])
@pytest.mark.parametrize("fraction", [0, -0.1, 1.001, math.nan, math.inf])
def test_bad_shares_are_refused(build, fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        build((3, 8, 8), fraction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hadamard((3, 0, 8), 0.5), "shape"),
        (lambda: Hadamard((3, 8, 8), 0.5, seed=-1), "negative|expected"),
        (lambda: BlockSensing((3, 8, 0), 0.5), "shape"),
        (lambda: BlockSensing((3, 8, 8), 0.5, seed=-1), "negative|expected"),
        (lambda: BlockSensing((3, 8, 8), 0.5, block=0), "block"),
        (lambda: BlockSensing((3, 8, 8), 0.5, block=65), "block"),
        (lambda: BlockSensing((3, 8, 8), 0.5, block=2.5), "block"),
        (lambda: BlockSensing((3, 8, 8), 0.5, block=math.nan), "block"),
    ],
)
def test_bad_input_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_noise_is_not_amplified_and_more_rows_lose_less() -> None:
    x = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    for build in (Hadamard, BlockSensing):
        lost = []
        for fraction in (0.1, 0.5, 0.9, 1.0):
            operator = build((3, 20, 24), fraction)
            lost.append(float((operator.pseudo_inverse(operator.A(x)) - x).norm()))
        assert lost == sorted(lost, reverse=True)
        assert lost[-1] < 1e-4


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("size", [(8, 8), (5, 7)], ids=str)
def test_devices(name: str, size: tuple[int, int]) -> None:
    """Fake CUDA tensors raise wherever they meet a tensor of the CPU or a value is read from
    them.
    """
    operator = copy.deepcopy(BUILDERS[name]((3, *size)))
    with FakeTensorMode() as mode:
        _to_fake_cuda(operator, mode)
        x, y = (
            torch.empty(2, *shape, device="cuda")
            for shape in (operator.input_shape, operator.output_shape)
        )
        to_y = [operator.A(x), operator.U(y)]
        to_x = [operator.At(y), operator.V(y), operator.pseudo_inverse(y)]
        spectra = [operator.Vt(x), operator.Ut(y)]
    assert {t.device.type for t in to_y + to_x + spectra} == {"cuda"}
    assert {tuple(t.shape) for t in to_x} == {tuple(x.shape)}
    assert {tuple(t.shape) for t in to_y + spectra} == {tuple(y.shape)}


def _to_fake_cuda(operator: SpectralOperator, mode: FakeTensorMode) -> None:
    def moved(t: Tensor) -> Tensor:
        return mode.from_tensor(t, static_shapes=True).to("cuda")

    operator._buffers = {name: moved(t) for name, t in operator._buffers.items()}


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_are_the_adjoint(name: str) -> None:
    """Guided solvers differentiate through A, and through V."""
    operator = BUILDERS[name]((2, 5, 7), torch.float64)
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, *operator.output_shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((operator.A(x) * y.detach()).sum(), x)
    torch.testing.assert_close(gradient, operator.At(y).detach())
    (gradient,) = torch.autograd.grad((operator.At(y) * x.detach()).sum(), y)
    torch.testing.assert_close(gradient, operator.A(x).detach())
