"""Annealed Langevin dynamics of NCSN: as published, and with consistent noise levels."""

from __future__ import annotations

from collections.abc import Sequence

import scipy
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report


def annealed_langevin(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    steps_each: int = 5,
    step_size: float | None = None,
    final_denoising: bool = True,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Annealed Langevin dynamics (NCSN: Song, Ermon 2019, arXiv 1907.05600, algorithm 1).

    In the form of Song, Ermon 2020 (arXiv 2006.09011, algorithm 1): at each positive level σ,
    ``steps_each`` times ``x ← x + α s(x, σ) + √(2α) z`` with the score ``s = −ε̂/σ`` and ``α = η
    σ²``. η is ε/σ_L² of the 2020 paper for its ε and last level σ_L, and ε/(2σ_L²) of the 2019
    paper, which writes α/2 for this α. The last state is a sample with noise of the last positive
    level; the denoising step of 2020 then takes ``x + σ_L² s(x, σ_L)``, the clean estimate.

    Each level must remove the spread that the one above leaves, so the levels should be close: the
    2020 paper takes hundreds in geometric progression (technique 2), from the largest distance
    between two pictures (technique 1).

    The state always has more noise than the network is told: for close levels of ratio γ and small
    steps its variance is larger by about ``η/2 + log γ/(η T)``. With technique 4 and T = 5 that is
    11 % however close the levels are; with the best η, ``√(2 log γ/T)``, it falls only as one over
    the root of the number of calls. `consistent_langevin` has no such excess.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0.
        steps_each: T of the paper, Langevin steps per level, at least 1; one network call each.
        step_size: η in (0, 1]; None takes that of `langevin_step_size`.
        final_denoising: Return the clean estimate, by one more network call, instead of the last
            state.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after each level, with the clean estimate of its last call.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, ``steps_each`` is below 1, or the step size
            is outside (0, 1].
    """
    pairs = falling_pairs(sigmas)
    _check_steps(steps_each)
    if step_size is None:
        step_size = langevin_step_size(sigmas, steps_each)
    if not 0 < step_size <= 1:
        raise ValueError(
            f"the step size must be in (0, 1], in units of the squared noise level, not {step_size}"
        )

    for index, (sigma, _) in enumerate(pairs):
        for _ in range(steps_each):
            prediction = denoise(x, sigma, condition)
            spread = sigma * (2 * step_size) ** 0.5
            x = x - step_size * sigma * prediction.noise + spread * noise_like(x, generator)
        report(callback, index, len(pairs), sigma, prediction.clean)

    return denoise(x, pairs[-1][0], condition).clean if final_denoising else x


def consistent_langevin(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    step_size: float | None = None,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Consistent annealed sampling: ``x ← x + η σ² s(x, σ) + β ς z`` from σ to the next level ς.

    Jolicoeur-Martineau et al. 2021, arXiv 2009.05475, algorithm 2, with ``β² = 1 − (1−η)² σ²/ς²``.
    The step keeps (1−η) σ of the noise, and the fresh noise fills it up to exactly ς, so the
    network always sees the level that it is told, which `annealed_langevin` misses. The last step
    takes the clean estimate, as their denoising step.

    The default η is ``1 − ς²/σ²``, which technique 4 of Song, Ermon 2020 (`langevin_step_size`)
    gives for one step a level. With it the step is that of `restore.samplers.ancestral.ancestral`:
    annealed Langevin dynamics whose noise is consistent is DDPM. The smallest η, ``1 − ς/σ``, draws
    no noise and is `restore.samplers.ddim.ddim`.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        step_size: η of every step, at least 1 − ς/σ of each and at most 1; None as above.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or the step size is out of range.
    """
    pairs = falling_pairs(sigmas)
    least = max((1 - sigma_next / sigma for sigma, sigma_next in pairs[:-1]), default=0.0)
    if step_size is not None and not least * (1 - 1e-9) <= step_size <= 1:
        raise ValueError(
            f"the step size must be in [{least:.4g}, 1] for these noise levels, not {step_size}"
        )

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        if sigma_next > 0:
            eta = 1 - (sigma_next / sigma) ** 2 if step_size is None else step_size
            kept = (1 - eta) * sigma
            fresh = max(sigma_next**2 - kept**2, 0.0) ** 0.5
            x = prediction.clean + kept * prediction.noise + fresh * noise_like(x, generator)

    return prediction.clean


def langevin_step_size(sigmas: Sequence[float], steps_each: int) -> float:
    """Step size that best keeps the variance from level to level (arXiv 2006.09011, technique 4).

    For data at a point, T steps at a level turn the variance γ² that the level above leaves, in
    units of the level's own, into ``(1−η)^{2T} (γ² − v) + v`` with ``v = 2η/(1 − (1−η)²)`` (their
    eq. 4, η = ε/σ_L²). It should be 1 and is always more; this η minimises it. γ is the largest
    ratio of neighbouring levels.

    Args:
        sigmas: Decreasing noise levels, at least two positive ones, and a final 0.
        steps_each: T, at least 1.

    Returns:
        η, in (0, 1).

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0 or have a single positive level, or
            ``steps_each`` is below 1.
    """
    _check_steps(steps_each)
    ratios = [sigma / sigma_next for sigma, sigma_next in falling_pairs(sigmas)[:-1]]
    if not ratios:
        raise ValueError(
            "the step size follows from the ratio of neighbouring levels: at least two positive "
            "levels"
        )

    def variance(eta: float) -> float:
        stationary = 2 / (2 - eta)
        return (1 - eta) ** (2 * steps_each) * (max(ratios) ** 2 - stationary) + stationary

    least = scipy.optimize.minimize_scalar(
        variance, bounds=(0, 1), method="bounded", options={"xatol": 1e-8}
    )
    return float(least.x)


def _check_steps(steps_each: int) -> None:
    """Check the number of Langevin steps per level.

    Raises:
        ValueError: If it is below 1.
    """
    if steps_each < 1:
        raise ValueError(
            f"Langevin dynamics needs at least one step at each level, not {steps_each}"
        )
