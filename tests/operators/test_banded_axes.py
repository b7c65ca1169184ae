"""Axes operators of long pictures, against dense algebra, scipy and the operator with an SVD."""

from __future__ import annotations

import math
import resource
import time

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

import operators
from operators import AxesOperator, BandedAxesOperator, along_axes, check, dense_matrix, downsample
from operators.blur import blur_weights
from operators.resample import resample_weights
from operators.sparse import SparseMatrix, dense

F64 = torch.float64


def banded(operator: AxesOperator) -> BandedAxesOperator:
    """The same map without an SVD."""
    return BandedAxesOperator(operator.input_shape, *operator.matrices, dtype=F64)


SMALL = {
    "down": lambda: downsample((3, 12, 17), 2),
    "down, one axis": lambda: downsample((2, 5, 16), (1.0, 4.0)),
    "fraction": lambda: downsample((1, 9, 20), 2.7, kernel="lanczos"),
    "area": lambda: downsample((3, 1, 31), (1.0, 3.0), kernel="area"),
    "narrow": lambda: downsample((1, 24, 1), (4.0, 1.0)),
    "gray": lambda: operators.gray((3, 4, 10)) @ downsample((3, 8, 30), (2.0, 3.0)),
    "blur": lambda: operators.gaussian_blur((2, 6, 15), 0.5),
    "circular": lambda: operators.box_blur((1, 5, 12), 2, boundary="circular"),
    "tall": lambda: AxesOperator((1, 4, 9), None, None, operators.resample_matrix(9, 20)),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("typical", [4, 512])
def test_every_map_is_that_of_dense_algebra(name, typical, monkeypatch) -> None:
    """Short axes have dense inverses; with a low limit every axis has a banded one."""
    monkeypatch.setattr("operators.banded_axes.TYPICAL", typical)
    monkeypatch.setattr("operators.banded_axes.WIDEST", 0.5)
    operator = SMALL[name]()
    long = banded(operator)
    check(long, rtol=1e-6)
    assert torch.allclose(dense_matrix(long), dense_matrix(operator), atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("ratio", [1e-3, 0.3])
def test_the_regularised_inverse_is_that_of_dense_algebra(name, ratio, monkeypatch) -> None:
    monkeypatch.setattr("operators.banded_axes.WIDEST", 0.5)
    monkeypatch.setattr("operators.base.RIDGE_TOLERANCE", 1e-12)
    monkeypatch.setattr("operators.base.RIDGE_ITERATIONS", 500)
    operator = SMALL[name]()
    A = dense_matrix(operator)
    y = torch.randn(2, *operator.output_shape, dtype=F64, generator=torch.manual_seed(0))
    ratios = torch.tensor([ratio, 2 * ratio]).reshape(2, 1, 1, 1)

    expected = [
        A.T @ torch.linalg.solve(A @ A.T + r * torch.eye(len(A), dtype=F64), one.flatten())
        for one, r in zip(y, ratios.flatten(), strict=True)
    ]
    expected = torch.stack(expected).reshape(2, *operator.input_shape)
    assert torch.allclose(banded(operator).regularised_inverse(y, ratios), expected, atol=1e-6)
    with_svd = AxesOperator(operator.input_shape, *operator.matrices, dtype=F64)
    assert torch.allclose(with_svd.regularised_inverse(y, ratios), expected, atol=1e-6)


@pytest.mark.parametrize("kernel", operators.RESAMPLERS)
@pytest.mark.parametrize(("size", "new"), [(17, 5), (5, 17), (40, 40), (9, 1), (1, 3)])
def test_weights_are_the_entries_of_the_matrix(kernel, size, new) -> None:
    weights = resample_weights(size, new, kernel)
    assert weights.shape == (new, size)
    assert (np.count_nonzero(weights, axis=1) <= 6 * max(1, math.ceil(size / new)) + 2).all()
    assert np.allclose(weights.sum(axis=1), 1)
    x = np.random.default_rng(0).random(size)
    product = SparseMatrix(weights, dtype=F64)(torch.from_numpy(x))
    assert np.allclose(product, operators.resample_matrix(size, new, kernel) @ x)


@pytest.mark.parametrize("boundary", operators.BOUNDARIES)
@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_sparse_matrices_add_what_a_boundary_folds(boundary, size) -> None:
    """Kernels longer than the axis fold several times onto the same pixel."""
    taps = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    matrix = np.zeros((size, size))
    padded = {"zero": None, "circular": "wrap", "replicate": "edge"}.get(boundary, boundary)
    for column in range(size):
        unit = np.eye(size)[column]
        mode = {"mirror": "reflect"}.get(padded, padded)
        extended = np.pad(unit, 2) if mode is None else np.pad(unit, 2, mode=mode)
        matrix[:, column] = np.convolve(extended, taps, "valid")
    assert np.allclose(blur_weights(size, taps, boundary), matrix)


@pytest.mark.parametrize(
    "make", [lambda: resample_weights(3000, 700), lambda: blur_weights(3000, [0.3, 0.7])]
)
def test_matrices_of_long_axes_are_sparse_with_the_same_entries(make, monkeypatch) -> None:
    sparse = make()
    assert isinstance(sparse, csr_array)
    assert sparse.nnz <= 20 * max(sparse.shape)
    monkeypatch.setattr("operators.sparse.DENSE", math.inf)
    assert np.allclose(dense(sparse), make(), rtol=0, atol=1e-15)


def test_a_row_without_entries_gives_zero() -> None:
    matrix = csr_array(np.array([[0.0, 0.0], [0.0, 2.0]]))
    assert SparseMatrix(matrix)(torch.tensor([3.0, 4.0])).tolist() == [0.0, 8.0]


@pytest.mark.parametrize(
    ("shape", "factor", "svd"),
    [
        ((3, 2160, 3840), 4, True),
        ((3, 400, 400), 4, True),
        ((3, 40, 16000), 4, False),
        ((3, 80000, 40), 4, False),
        ((3, 1, 2000), (1.0, 2.0), False),
        ((3, 1, 1200), (1.0, 2.0), True),
    ],
)
def test_an_svd_is_kept_where_the_picture_affords_it(shape, factor, svd) -> None:
    assert downsample(shape, factor).has_svd is svd


@pytest.mark.parametrize("make", [downsample, lambda s, f: operators.gaussian_blur(s, 0.5)])
def test_a_long_picture_is_inverted_exactly_and_cheaply(make) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    operator = make((3, 6, 60000), 2.0)
    x = torch.rand(1, *operator.input_shape)
    y = operator.A(x)

    assert torch.allclose(operator.A(operator.pseudo_inverse(y)), y, atol=1e-5)
    ridge = operator.regularised_inverse(y, torch.tensor(1e-2).reshape(1, 1, 1, 1))
    gradient = operator.At(operator.A(ridge) - y) + 1e-2 * ridge
    assert float(gradient.abs().max()) < 1e-5

    # a dense matrix of this side has 14 GB or more
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000
    assert time.process_time() - started < 60


def test_typical_singular_values_are_distributed_as_the_operators() -> None:
    """The mean of s²/(s² + r), which the predictor is told, and the extremes."""
    rows, columns = (operators.resample_matrix(n, n // 3) for n in (12, 3000))
    s = AxesOperator((3, 12, 3000), None, rows, columns).singular_values
    typical = BandedAxesOperator((3, 12, 3000), None, rows, columns).typical_singular_values()
    assert typical.shape == (1, 4, 512)
    for ratio in (1e-4, 1e-2, 1.0):
        known = [float((v**2 / (v**2 + ratio)).mean()) for v in (s, typical)]
        assert known[0] == pytest.approx(known[1], abs=2e-3)
    assert float(typical.max()) == pytest.approx(float(s.max()), rel=1e-2)


def test_products_of_long_operators_stay_sparse_and_short_ones_get_their_svd() -> None:
    blur = operators.gaussian_blur((3, 4, 40000), 1.0)
    both = downsample(blur.output_shape, 4) @ blur
    assert isinstance(both, BandedAxesOperator)
    x = torch.rand(1, 3, 4, 40000)
    expected = downsample(blur.output_shape, 4).A(blur.A(x))
    assert torch.allclose(both.A(x), expected, atol=1e-5)

    small = along_axes((1, 8, 8), width=csr_array(np.eye(8)))
    assert isinstance(small, AxesOperator)


def test_moves_and_copies_keep_the_map() -> None:
    import copy

    operator = banded(downsample((3, 8, 12), 2))
    x = torch.rand(1, 3, 8, 12)
    other = copy.deepcopy(operator).to(torch.float32)
    assert torch.allclose(other.A(x), operator.A(x.double()).float(), atol=1e-6)
    assert other.pseudo_inverse(other.A(x)).dtype == torch.float32
