"""Steps back along the chain, each followed by one down an objective of the clean estimate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from restore.diffusion.gradient import differentiated
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Generator, ddim_step

# downhill(index, sigma, clean): the gradient of an objective by the clean estimate, times the step
# size, [B, C, H, W].
Downhill = Callable[[int, float, Tensor], Tensor]


def guided(
    denoise: Denoise,
    x: Tensor,
    pairs: Sequence[tuple[float, float]],
    downhill: Downhill,
    *,
    eta: float,
    generator: Generator,
    condition: Condition | None = None,
) -> Tensor:
    """Alternate between a DDIM step and one down an objective f: ``x ← x' − ζ ∇_x f(x0(x))``.

    As in DPS (Chung et al. 2022, arXiv 2209.14687, algorithm 1). The gradient goes through the
    network: one call is one forward and one backward pass. The authors move the state of the
    variance-preserving chain, ``u = x/√(1+σ²)``, by ``ζ ∇_u = ζ √(1+σ²) ∇_x``; in ``x = x0 + σ ε``,
    from σ to ς, that is ``ζ √((1+σ²)(1+ς²)) ∇_x``.

    Args:
        denoise: ``denoise(x, sigma, condition)``, differentiable.
        x: State at the first noise level, [B, C, H, W].
        pairs: Neighbouring noise levels ``(σ, ς)``.
        downhill: ζ times the gradient of f by the clean estimate.
        eta: Fraction of fresh noise in the steps, see `ddim_step`.
        generator: Random generator on the CPU, or one per picture.
        condition: Shown to the network beside the noisy picture, if given.

    Returns:
        The state at the last noise level.
    """
    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction, pull_back = differentiated(denoise, x, sigma, condition)
        gradient = pull_back(downhill(index, sigma, prediction.clean))
        to_exploding = math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        x = ddim_step(prediction, sigma, sigma_next, eta, generator)
        x = x - to_exploding * gradient
        del prediction, pull_back, gradient

    return x


def check_guidance(eta: float, **sizes: float) -> None:
    """Check the parameters of guided steps.

    Args:
        eta: Fraction of fresh noise, in [0, 1].
        **sizes: Sizes of steps by name, finite and not negative.

    Raises:
        ValueError: If one is out of range.
    """
    names = " and ".join(sizes)
    if not 0 <= eta <= 1 or not all(0 <= size < math.inf for size in sizes.values()):
        values = " and ".join(f"{value}" for value in (eta, *sizes.values()))
        raise ValueError(f"eta must be in [0, 1] and {names} not negative, not {values}")
