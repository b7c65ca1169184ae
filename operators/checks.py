"""One helper that says whether an operator keeps its promises. The tests use it, and so can you."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.base import LinearOperator, SpectralOperator


def dense_matrix(operator: LinearOperator) -> Tensor:
    """``A`` as a float64 matrix [outputs, inputs], column by column. For small pictures only."""
    return _dense(operator.A, operator.input_shape, _dtype(operator))


def check(operator: LinearOperator, rtol: float = 1e-5) -> None:
    """Compare every map of an operator with dense algebra, on a picture small enough for it.

    Checked are linearity, ``⟨A x, y⟩ = ⟨x, Aᵀ y⟩``, and the four Moore–Penrose conditions, which single out
    the pseudo-inverse; with an SVD also ``A = U Σ Vᵀ``, ``UᵀU = I`` and ``VᵀV = I``, non-negative singular
    values, and that Ut and Vt are the transposes of U and V.

    Args:
        operator: with shapes of a few thousand values at most, not batched.
        rtol: allowed error, relative to the norm of the matrix that is compared; times the condition number for
            the Moore–Penrose conditions, since rounding grows with it there (build the operator with
            ``dtype=torch.float64`` to test an ill-conditioned one sharply).

    Raises:
        AssertionError: names the property that fails and by how much.
    """
    dtype = _dtype(operator)
    A = _dense(operator.A, operator.input_shape, dtype)
    At = _dense(operator.At, operator.output_shape, dtype)
    inverse = _dense(operator.pseudo_inverse, operator.output_shape, dtype)
    x = torch.randn(1, *operator.input_shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    _close("A is linear", operator.A(x).reshape(-1, 1).double(), A @ x.reshape(-1, 1).double(), rtol)
    _close("At is the adjoint of A", At, A.mT, rtol)
    if operator.has_svd:
        _check_svd(operator, A, rtol)
    _check_pseudo_inverse(A, inverse, rtol)


def _check_svd(operator: SpectralOperator, A: Tensor, rtol: float) -> None:
    dtype = _dtype(operator)
    s = operator.singular_values
    spectrum_shape = tuple(s.shape)
    U, V = (_dense(f, spectrum_shape, dtype) for f in (operator.U, operator.V))
    Ut, Vt = _dense(operator.Ut, operator.output_shape, dtype), _dense(operator.Vt, operator.input_shape, dtype)
    eye = torch.eye(s.numel(), dtype=torch.float64)
    if not bool((s >= 0).all()):
        raise AssertionError("singular values are not negative")
    _close("Ut is the transpose of U", Ut, U.mT, rtol)
    _close("Vt is the transpose of V", Vt, V.mT, rtol)
    _close("the columns of U are orthonormal", U.mT @ U, eye, rtol)
    _close("the columns of V are orthonormal", V.mT @ V, eye, rtol)
    _close("A = U Σ Vᵀ", U @ torch.diag(s.double().flatten().cpu()) @ V.mT, A, rtol)


def _check_pseudo_inverse(A: Tensor, P: Tensor, rtol: float) -> None:
    condition = float(torch.linalg.matrix_norm(A, 2) * torch.linalg.matrix_norm(P, 2))
    _close("A A⁺ A = A", A @ P @ A, A, rtol * condition)
    _close("A⁺ A A⁺ = A⁺", P @ A @ P, P, rtol * condition)
    _close("A A⁺ is symmetric", A @ P, (A @ P).mT, rtol * condition)
    _close("A⁺ A is symmetric", P @ A, (P @ A).mT, rtol * condition)


def _dense(function, input_shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = torch.Size(input_shape).numel()
    basis = torch.eye(size, dtype=dtype).reshape(size, *input_shape)
    return function(basis).reshape(size, -1).mT.double()


def _dtype(operator: LinearOperator) -> torch.dtype:
    return next((b.dtype for b in operator.buffers() if b.is_floating_point()), torch.float32)


def _close(what: str, actual: Tensor, expected: Tensor, rtol: float) -> None:
    error, allowed = float((actual - expected).norm()), rtol * float(expected.norm())
    if not error <= allowed:
        raise AssertionError(f"{what}: off by {error:.3g}, allowed are {allowed:.3g}")
