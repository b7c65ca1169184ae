"""The probability-flow ODE in log σ, for solvers that take flat vectors."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def flow_velocity(u: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """du/d log σ of the probability flow for ``u = x/√(1+σ²)``.

    It is ``q (ε̂ − q u)`` with ``q = σ/√(1+σ²)``, from ``dx/dσ = ε̂`` (Song et al. 2021, arXiv
    2011.13456, eq. 13).

    Args:
        u: [B, C, H, W].
        noise: ε̂ at x and σ.
        sigma: Noise level.
    """
    q = sigma / math.hypot(1, sigma)
    return q * (noise - q * u)


def as_state(x: Tensor) -> Array:
    """Flatten pictures to the state of a solver, float64 on the CPU."""
    return x.detach().cpu().double().flatten().numpy()


def as_pictures(state: Array, like: Tensor) -> Tensor:
    """Return the pictures of a state, with shape, type and device of ``like``."""
    return torch.from_numpy(state).to(like.dtype).to(like.device).reshape(like.shape)


def check_tolerances(rtol: float, atol: float) -> None:
    """Check the tolerances of a solver.

    Raises:
        ValueError: If one of them is not positive.
    """
    if rtol <= 0 or atol <= 0:
        raise ValueError(f"the solver's tolerances must be positive, not {rtol} and {atol}")
