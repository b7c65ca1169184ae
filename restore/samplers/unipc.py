"""UniPC: a corrector for multistep solvers that takes no further network calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, falling_pairs_for, report
from restore.samplers.dpm_solver_pp import integral


def unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    order: Literal[2, 3] = 3,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """UniPC-2 and UniPC-3, multistep, by clean estimates, with B2 (arXiv 2302.04867, section 3).

    Zhao et al. 2023. A step is predicted from the last ``order`` clean estimates, as in
    DPM-Solver++(2M) or (3M). The network's estimate at its end serves the next step, and first
    corrects this one, which is repeated with the earlier estimates and the new one. This raises the
    order of convergence to ``order`` + 1.

    The first steps are of lower order, for lack of earlier estimates; the step to 0 returns the
    clean estimate.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: At least ``order`` positive noise levels and a final 0; one network call per
            positive level.
        order: Order of the predictor, 2 or 3; 2 is more stable under strong guidance.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` once per step, with the clean estimate at its first level.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, make fewer than ``order`` steps, or the
            order is another one.
    """
    if order not in (2, 3):
        raise ValueError(f"the order of unipc must be 2 or 3, not {order}")

    pairs = falling_pairs_for(f"unipc of order {order}", sigmas, at_least=order)
    known: list[tuple[float, Tensor]] = []
    x_before = x

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            if known:
                x = _step([*known, (sigma, clean)], x_before, known[-1][0], sigma)
            known = [*known, (sigma, clean)][-order:]
            x_before = x
            x = _step(known, x, sigma, sigma_next)

    return clean


def _step(
    known: Sequence[tuple[float, Tensor]], x: Tensor, sigma: float, sigma_next: float
) -> Tensor:
    """Take x from σ to the next level by the polynomial through known clean estimates."""
    return sigma_next / sigma * x + integral(known, sigma, sigma_next)
