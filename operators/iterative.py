"""Conjugate gradients: linear systems without a decomposition.

Pictures of a batch are systems of their own: each has its own step lengths and stops on its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

# Iterations between two looks at whether all pictures are done; each look makes a GPU wait.
CHECK_EVERY = 5


def conjugate_gradient(
    apply: Map,
    b: Tensor,
    *,
    precondition: Map | None = None,
    rtol: float = 1e-6,
    gain: float = 0.0,
    iterations: int = 200,
) -> Tensor:
    """Solve ``K x = b`` for a symmetric positive semi-definite ``K`` (Hestenes & Stiefel 1952).

    It starts from zero, so a singular ``K`` with a ``b`` in its range gives the solution of least
    norm. A ``b`` outside the range has no solution; use `least_squares`.

    >>> weights = torch.tensor([[1.0, 2.0, 4.0]])
    >>> conjugate_gradient(lambda x: weights * x, torch.tensor([[1.0, 1.0, 1.0]]))
    tensor([[1.0000, 0.5000, 0.2500]])

    Args:
        apply: ``K`` on a batch ``[B, …]``, each picture on its own.
        b: Right-hand sides ``[B, …]``.
        precondition: A symmetric positive map near ``K⁻¹``; where ``K`` is singular, with the same
            range.
        rtol: A picture is done when ``‖b − K x‖`` has fallen to this fraction of ``‖b‖``.
        gain: A picture is also done when a step was so small a fraction of all before it, both
            measured by ``‖x‖² = xᵀ K x``. The steps are orthogonal in this norm, in which the error
            is the sum of all to come (Hestenes & Stiefel 1952, theorem 6:1).
        iterations: Largest number of applications of ``K``.

    Returns:
        Solutions ``[B, …]``.
    """
    x = torch.zeros_like(b)
    r = b
    z = r if precondition is None else precondition(r)
    p = z
    rho = _dot(r, z)
    goal = rtol**2 * _dot(b, b)
    active = goal >= 0
    square = torch.zeros_like(goal)

    for iteration in range(iterations):
        q = apply(p)
        curvature = _dot(p, q)
        active = active & (_dot(r, r) > goal) & (curvature > 0)
        if iteration % CHECK_EVERY == 0 and _all_done(active):
            break

        alpha = torch.where(active, rho / curvature, 0)
        x = torch.addcmul(x, alpha, p)
        if gain:
            square = torch.addcmul(square, alpha, rho)
            active = active & (alpha * rho > gain**2 * square)
            if _all_done(active):
                break
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
    """Return ``A⁺ y``, the least-squares solution of least norm, by CGLS.

    Björck, "Numerical Methods for Least Squares Problems" (1996), algorithm 7.4.1: conjugate
    gradients on ``AᵀA x = Aᵀ y`` without forming ``AᵀA``. The iterates stay in the range of ``Aᵀ``,
    so that any ``A`` will do: wide, tall, rank-deficient, and a ``y`` outside its range.

    >>> twice = lambda x: torch.cat([x, x], dim=1)
    >>> mean = least_squares(twice, lambda y: y[:, :1] + y[:, 1:], torch.tensor([[1.0, 3.0]]))
    >>> mean.tolist()
    [[2.0]]

    Args:
        A: The operator on batches.
        At: Its adjoint on batches.
        y: Measurements ``[B, …]``.
        precondition: A symmetric positive map near ``(AᵀA)⁺`` whose range is that of ``Aᵀ``.
        rtol: A picture is done when ``‖Aᵀ(y − A x)‖`` has fallen to this fraction of ``‖Aᵀ y‖``.
        iterations: Largest number of applications of ``A`` and of ``At``.

    Returns:
        Solutions ``[B, …]``.
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
    """Inner product of each picture, ``[B, 1, …]`` so that it multiplies pictures."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def _all_done(active: Tensor) -> bool:
    """Return True if no picture is active; never for a fake tensor, which has no values."""
    return type(active) is Tensor and not bool(active.any())
