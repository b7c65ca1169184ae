"""Check an operator against dense algebra. The tests use it, and so can you."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.base import LinearOperator, SpectralOperator
from operators.batch import BatchOperator
from operators.overlap_save import OverlapSave

# Brightness of the random pictures on which linearity is tried: clipping and offsets show at one of
# them.
_SCALES = (1e-3, 1.0, 1e3)


def dense_matrix(operator: LinearOperator, *, pictures: int | None = None) -> Tensor:
    """Build ``A`` as a float64 matrix, column by column. For small pictures only.

    >>> from operators import gray
    >>> dense_matrix(gray((3, 1, 1), (0.25, 0.5, 0.25))).tolist()
    [[0.25, 0.5, 0.25]]

    Args:
        operator: An operator with shapes of a few thousand values at most.
        pictures: Number of pictures that it takes, see `check`.

    Returns:
        ``[outputs, inputs]``; for an operator that is made for a batch ``[B, outputs, inputs]``,
        each picture's own.
    """
    pictures = _pictures(operator) if pictures is None else pictures
    matrices = _dense(operator, "A", pictures)
    return matrices[0] if pictures is None else matrices


def check(operator: LinearOperator, rtol: float = 1e-5, *, pictures: int | None = None) -> None:
    """Compare every map of an operator with dense algebra, on a picture small enough for it.

    Checked are the shapes; that every map is linear and does not mix the pictures of a batch;
    ``⟨A x, y⟩ = ⟨x, Aᵀ y⟩``; and the four Moore–Penrose conditions, which single out the
    pseudo-inverse; with an SVD also ``A = U Σ Vᵀ``, ``UᵀU = I`` and ``VᵀV = I``, non-negative
    singular values, and that Ut and Vt are the transposes of U and V. An operator that is made for
    a batch is checked picture by picture.

    >>> from operators import downsample
    >>> check(downsample((3, 7, 10), 2))

    Args:
        operator: An operator with shapes of a few thousand values at most.
        rtol: Allowed error, relative to the norm of the matrix that is compared; times the
            condition number for the Moore–Penrose conditions, since rounding grows with it there
            (build the operator with ``dtype=torch.float64`` to test an ill-conditioned one
            sharply).
        pictures: Number of pictures that the operator takes at once. None finds it out; give it
            only for an operator of your own that is made for a batch and has no SVD.

    Raises:
        AssertionError: A property fails; the message names it, the picture, and by how much.
    """
    pictures = _pictures(operator) if pictures is None else pictures
    A, At, inverse = (_dense(operator, name, pictures) for name in ("A", "At", "pseudo_inverse"))

    _check_linear(operator, "A", A, pictures, rtol)
    _close("At is the adjoint of A", At, A.mT, rtol)
    _check_linear(operator, "At", At, pictures, rtol)
    if isinstance(operator, SpectralOperator):
        _check_svd(operator, A, pictures, rtol)

    _check_pseudo_inverse(operator, A, inverse, pictures, rtol)


def _check_svd(operator: SpectralOperator, A: Tensor, pictures: int | None, rtol: float) -> None:
    s = operator.singular_values.cpu().double()
    if not bool((s >= 0).all()):
        raise AssertionError(
            f"singular values are not negative: the smallest is {float(s.min()):.3g}"
        )

    U, Ut, V, Vt = (_dense(operator, name, pictures) for name in ("U", "Ut", "V", "Vt"))
    identity = torch.eye(U.shape[-1]).to(U)
    for name, matrix in (("U", U), ("V", V)):
        _close(f"the columns of {name} are orthonormal", matrix.mT @ matrix, identity, rtol)

    _close("Ut is the transpose of U", Ut, U.mT, rtol)
    _close("Vt is the transpose of V", Vt, V.mT, rtol)

    for name, matrix in (("U", U), ("Ut", Ut), ("V", V), ("Vt", Vt)):
        _check_linear(operator, name, matrix, pictures, rtol)

    sigma = torch.diag_embed(s.flatten(-3).reshape(-1, U.shape[-1]))
    _close("A = U Σ Vᵀ", U @ sigma @ V.mT, A, rtol)


def _check_pseudo_inverse(
    operator: LinearOperator, A: Tensor, P: Tensor, pictures: int | None, rtol: float
) -> None:
    condition = float((torch.linalg.matrix_norm(A, 2) * torch.linalg.matrix_norm(P, 2)).max())
    _close("A A⁺ A = A", A @ P @ A, A, rtol * condition)
    _close("A⁺ A A⁺ = A⁺", P @ A @ P, P, rtol * condition)
    _close("A A⁺ is symmetric", A @ P, (A @ P).mT, rtol * condition)
    _close("A⁺ A is symmetric", P @ A, (P @ A).mT, rtol * condition)
    _check_linear(operator, "pseudo_inverse", P, pictures, rtol * condition)


def _check_linear(
    operator: LinearOperator, name: str, matrices: Tensor, pictures: int | None, rtol: float
) -> None:
    """Try a map on random pictures against its matrices ``[B or 1, m, n]``.

    Two pictures are tried at once if it takes any number.
    """
    shape, _ = _ends(operator, name)
    count = pictures or 2
    like = _like(operator)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(like.dtype)
    expected = matrices @ x.double().reshape(count, -1, 1)

    for scale in _SCALES:
        found = getattr(operator, name)((scale * x).to(like.device))
        found = found.cpu().double().reshape(count, -1, 1) / scale
        _close(f"{name} is linear, each picture of a batch on its own", found, expected, rtol)


def _dense(operator: LinearOperator, name: str, pictures: int | None) -> Tensor:
    """Build the float64 matrices ``[B, m, n]`` of a map on the CPU, one for each picture.

    B is 1 for an operator that takes any number of pictures. An operator for B pictures sees B
    different basis vectors at once, so that pictures that see one another cannot look as if they
    did not.
    """
    shape, wanted = _ends(operator, name)
    function = getattr(operator, name)
    like = _like(operator)

    size = torch.Size(shape).numel()
    basis = torch.eye(size, dtype=like.dtype, device=like.device).reshape(size, *shape)
    if pictures is None:
        return _checked_result(name, function(basis), (size, *wanted)).reshape(1, size, -1).mT

    number = (torch.arange(size)[:, None] + torch.arange(pictures)) % size
    rows = torch.stack(
        [_checked_result(name, function(basis[row]), (pictures, *wanted)) for row in number]
    )
    columns = torch.empty(pictures, size, torch.Size(wanted).numel(), dtype=torch.float64)
    columns[torch.arange(pictures), number] = rows.flatten(2)

    return columns.mT


def _checked_result(name: str, result: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what a map gave in float64 on the CPU if it has the right shape."""
    if tuple(result.shape) != shape:
        raise AssertionError(
            f"{name} gives a batch of shape {shape}: it gave {tuple(result.shape)}"
        )
    return result.cpu().double()


def _ends(operator: LinearOperator, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a picture before and after a map."""
    pair: tuple[tuple[int, ...], tuple[int, ...]]
    if isinstance(operator, SpectralOperator) and name in ("U", "Ut", "V", "Vt"):
        picture = operator.input_shape if name in ("V", "Vt") else operator.output_shape
        pair = tuple(operator.singular_values.shape[-3:]), picture
        forwards = name in ("U", "V")
    else:
        pair = operator.input_shape, operator.output_shape
        forwards = name == "A"

    return pair if forwards else (pair[1], pair[0])


def _pictures(operator: LinearOperator) -> int | None:
    """Number of pictures that an operator or one of its parts is made for; None is any number."""
    count = 1
    for part in operator.modules():
        if isinstance(part, BatchOperator):
            return len(part.operators)
        if isinstance(part, SpectralOperator) and part.singular_values.ndim == 4:
            count = max(count, len(part.singular_values))
        if isinstance(part, OverlapSave):
            count = max(count, part.pictures)

    return count if count > 1 else None


def _like(operator: LinearOperator) -> Tensor:
    """Return a tensor of the type and on the device of the pictures that an operator takes."""
    return next((b for b in operator.buffers() if b.is_floating_point()), torch.empty(0))


def _close(what: str, actual: Tensor, expected: Tensor, rtol: float) -> None:
    """Compare matrices ``[B or 1, m, n]`` one by one."""
    actual, expected = torch.broadcast_tensors(actual, expected)
    for picture, (a, e) in enumerate(zip(actual, expected, strict=True)):
        error = float((a - e).norm())
        allowed = rtol * float(e.norm())
        if not error <= allowed:
            where = f" (picture {picture} of {len(actual)})" if len(actual) > 1 else ""
            raise AssertionError(f"{what}{where}: off by {error:.3g}, allowed are {allowed:.3g}")
