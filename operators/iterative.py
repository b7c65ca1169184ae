"""Linear systems without a decomposition: conjugate gradients, each picture of a batch on its
own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

CHECK_EVERY = 5
"""Iterations between two looks at whether all pictures are done; each look makes a GPU wait."""


def conjugate_gradient(
    apply: Map,
    b: Tensor,
    *,
    precondition: Map | None = None,
    rtol: float = 1e-6,
    iterations: int = 200,
) -> Tensor:
    """Solve ``K x = b`` for a symmetric positive semi-definite ``K`` (Hestenes & Stiefel 1952).

    Started from zero, so a singular ``K`` with a ``b`` in its range gives the solution of least
    norm. A ``b`` outside the range has no solution; use `least_squares`.

    Args:
        apply: ``K`` on a batch ``[B, …]``, one picture not seeing another.
        b: ``[B, …]``. Every picture has its own step lengths and is frozen when it is done.
        precondition: a symmetric positive map near ``K⁻¹``; where ``K`` is singular, with the same
            range.
        rtol: a picture is done when its residual has fallen to this share of ``‖b‖``.
        iterations: at most so many applications of ``K``.
    """
    x = torch.zeros_like(b)
    r = b
    z = r if precondition is None else precondition(r)
    p = z
    rho = _dot(r, z)
    goal = rtol**2 * _dot(b, b)

    for iteration in range(iterations):
        q = apply(p)
        curvature = _dot(p, q)
        active = (_dot(r, r) > goal) & (curvature > 0)
        if iteration % CHECK_EVERY == 0 and _all_done(active):
            break
        alpha = torch.where(active, rho / curvature, 0)
        x = torch.addcmul(x, alpha, p)
        r = torch.addcmul(r, alpha, q, value=-1)
        z = r if precondition is None else precondition(r)
        previous = rho
        rho = _dot(r, z)
        p = torch.addcmul(z, torch.where(active, rho / previous, 0), p)

    return x


def least_squares(
    A: Map,
    At: Map,
    y: Tensor,
    *,
    precondition: Map | None = None,
    rtol: float = 1e-6,
    iterations: int = 200,
) -> Tensor:
    """``A⁺ y``, the least-squares solution of least norm, by CGLS (Björck, Numerical Methods for
    Least Squares, 7.4).

    Conjugate gradients on ``AᵀA x = Aᵀ y`` which never forms ``AᵀA``. The iterates stay in the
    range of ``Aᵀ``, so that any ``A`` will do: wide, tall, rank-deficient, and a ``y`` outside its
    range.

    Args:
        A, At: the operator and its adjoint on batches.
        y: ``[B, …]``.
        precondition: a symmetric positive map near ``(AᵀA)⁺`` whose range is that of ``Aᵀ``.
        rtol: a picture is done when ``‖Aᵀ(y − A x)‖`` has fallen to this share of ``‖Aᵀ y‖``.
        iterations: at most so many applications of ``A`` and of ``At``.
    """
    r = y
    gradient = At(y)
    x = torch.zeros_like(gradient)
    z = gradient if precondition is None else precondition(gradient)
    p = z
    rho = _dot(gradient, z)
    goal = rtol**2 * _dot(gradient, gradient)

    for iteration in range(iterations):
        q = A(p)
        curvature = _dot(q, q)
        active = (_dot(gradient, gradient) > goal) & (curvature > 0)
        if iteration % CHECK_EVERY == 0 and _all_done(active):
            break
        alpha = torch.where(active, rho / curvature, 0)
        x = torch.addcmul(x, alpha, p)
        r = torch.addcmul(r, alpha, q, value=-1)
        gradient = At(r)
        z = gradient if precondition is None else precondition(gradient)
        previous = rho
        rho = _dot(gradient, z)
        p = torch.addcmul(z, torch.where(active, rho / previous, 0), p)

    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each picture, with ones behind it so that it multiplies pictures: ``[B, 1,
    …]``.
    """
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def _all_done(active: Tensor) -> bool:
    """Never true of a fake tensor, which has no values to look at."""
    return type(active) is Tensor and not bool(active.any())
