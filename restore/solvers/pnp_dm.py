"""PnP-DM: the split Gibbs sampler with a diffusion model as its prior."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import karras_between
from restore.diffusion.stepping import Callback, Generator, falling_pairs, reported
from restore.samplers.dpm_solver_pp import sde_dpm_solver_pp_2m
from restore.solvers.consistency import project
from restore.solvers.likelihood_draw import check_langevin, draw_near


def pnp_dm(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    reverse_steps: int = 5,
    sweeps: int = 1,
    lowest: float = 0.01,
    langevin_steps: int = 10,
    step_size: float = 0.3,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """PnP-DM: sample pictures that explain a measurement ``y = A x0 + σ_y n``.

    Wu et al. 2024, arXiv 2405.18782, algorithm 1: Gibbs sampling of ``p(y | z) exp(−‖x − z‖²/2ρ²)
    p(x)`` over x and z, in turn (their eq. 4 and 5)

    - the likelihood step ``z ~ p(y | z) N(z; x, ρ² I)``, see `draw_near`, exact for a linear A;
    - the prior step ``x ~ p(x) N(x; z, ρ² I)``, the reverse diffusion from z at noise level ρ to 0,
      which is exact for an exact network and many steps. The paper takes Euler steps of EDM's SDE;
      here it is SDE-DPM-Solver++(2M), of second order.

    The coupling ρ falls along ``sigmas``. At a constant ρ the stationary distribution of x is the
    posterior ``p(x) N(y; A x, σ_y² + ρ² A Aᵀ)``, as if the noise of the measurement were larger,
    and tends to p(x | y) for ρ → 0.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A linear operator, or one that ends with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing couplings ρ, noise levels for pictures in [-1, 1], and a final 0.
        generator: Random generator on the CPU, or one per picture.
        reverse_steps: Network calls of a prior step. With one, x is the mean of its distribution
            instead of a draw.
        sweeps: Gibbs sweeps at each coupling.
        lowest: Noise level at which a prior step takes the clean estimate; at couplings that are
            not above, it takes a single call.
        langevin_steps: Langevin steps of a likelihood step, for nonlinear operators.
        step_size: Fraction of the way that a Langevin step goes, in (0, 1].
        start: [B or 1, *input_shape], the first x, instead of mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the result onto the measurement where it is linear and has no
            noise.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or a parameter is out of range.
    """
    check_langevin(langevin_steps, step_size)
    if min(reverse_steps, sweeps) < 1 or not lowest > 0:
        raise ValueError(
            "reverse_steps and sweeps must be at least 1, and lowest above 0, not "
            f"{reverse_steps}, {sweeps} and {lowest}"
        )

    couplings = [rho for rho, _ in falling_pairs(sigmas) for _ in range(sweeps)]
    plans = [reverse_levels(rho, lowest, reverse_steps) for rho in couplings]
    calls = sum(len(levels) - 1 for levels in plans)
    denoise = reported(denoise, callback, calls, operator.visible)
    shape = (measurement.shape[0], *operator.input_shape)
    x = measurement.new_zeros(shape) if start is None else start.expand(shape)
    del start  # makes room for the network, for large pictures

    for rho, levels in zip(couplings, plans, strict=True):
        z = draw_near(
            operator, x, measurement, noise_level,
            spread=rho, generator=generator, langevin_steps=langevin_steps, step_size=step_size,
        )  # fmt: skip
        if len(levels) == 2:
            x = denoise(z, rho, condition).clean
        else:
            x = sde_dpm_solver_pp_2m(denoise, z, levels, condition=condition, generator=generator)
        del z

    noiseless = not isinstance(noise_level, Tensor) and noise_level == 0
    if final_projection and noiseless and isinstance(operator, LinearOperator):
        return project(operator, x, measurement)

    return x


def reverse_levels(rho: float, lowest: float, calls: int) -> list[float]:
    """Return the noise levels of a prior step from ρ, and a final 0."""
    if calls == 1 or rho <= lowest:
        return [rho, 0.0]
    return [*(float(level) for level in karras_between(rho, lowest, calls, rho=7.0)), 0.0]
