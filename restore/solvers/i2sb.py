"""I²SB: cross the bridge from the degraded picture to a clean one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import posterior_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report
from restore.solvers.sr3 import Correct


def i2sb(
    denoise: Denoise,
    condition: Condition,
    sigmas: Sequence[float],
    *,
    eta: float = 1.0,
    generator: Generator = None,
    correct: Correct | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """I²SB: sample clean pictures, beginning at the degraded one instead of at noise.

    Liu, Vahdat, Huang, Theodorou, Nie, Anandkumar 2023, arXiv 2302.05872, algorithm 2. A step goes
    from σ to the next level ς by ``x ← x0 + ς²/σ² (x − x0) + η √β̃ z`` with ``β̃ = ς² (1 − ς²/σ²)``:
    for η = 1 DDPM's posterior q(x_ς | x0, x_σ) of the variance-exploding chain (eq. 4), for η = 0
    the step of the OT-ODE (eq. 13).

    Args:
        denoise: ``denoise(x, sigma, condition)`` of a network that was trained on a bridge,
            pictures in [-1, 1].
        condition: The degraded picture at full size, as in training: the state at ``sigmas[0]``.
        sigmas: Decreasing noise levels, the first the bridge's highest, and a final 0; one network
            call per positive level.
        eta: η in [0, 1], fraction of fresh noise.
        generator: Random generator on the CPU, or one per picture.
        correct: Applied to every clean estimate, for example the projection onto the measurement.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or η is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")

    pairs = falling_pairs(sigmas)
    x = condition.picture

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        clean = clean if correct is None else correct(clean)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            x = clean + (sigma_next / sigma) ** 2 * (x - clean)
            if eta > 0:
                spread = eta * posterior_variance(sigma, sigma_next) ** 0.5
                x = x + spread * noise_like(x, generator)

    return clean
