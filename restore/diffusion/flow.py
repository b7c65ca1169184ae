"""The probability flow as an ordinary differential equation in log σ, for solvers that take flat
vectors.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def flow_velocity(u: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """du/d log σ of the probability flow for ``u = x/√(1+σ²)``, from the noise estimate at x: ``q
    (ε̂ − q u)`` with ``q = σ/√(1+σ²)``."""
    q = sigma / math.hypot(1, sigma)
    return q * (noise - q * u)


def as_state(x: Tensor) -> Array:
    """Pictures as the flat vector of a solver, float64 on the CPU."""
    return x.detach().cpu().double().flatten().numpy()


def as_pictures(state: Array, like: Tensor) -> Tensor:
    """The inverse of `as_state`."""
    return torch.from_numpy(state).to(like.dtype).to(like.device).reshape(like.shape)


def check_tolerances(rtol: float, atol: float) -> None:
    """Raises ValueError for tolerances that are not positive."""
    if rtol <= 0 or atol <= 0:
        raise ValueError(f"the solver's tolerances must be positive, not {rtol} and {atol}")
