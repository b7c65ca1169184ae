"""PSLD: DPS over latents that decoder and encoder agree on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import Denoise
from restore.diffusion.stepping import Callback, Generator
from restore.solvers.consistency import project
from restore.solvers.decoded import DecodedMeasurement, guided_latents
from restore.solvers.guided import check_guidance


def psld(
    denoise: Denoise,
    autoencoder: Autoencoder,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    step_size: float = 0.2,
    gluing: float = 0.05,
    eta: float = 1.0,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """PSLD: latent DPS, with latents that are a fixed point of decoder, projection and encoder.

    Rout et al. 2023, arXiv 2307.00619, algorithm 2. After a step back along the chain,

        ``z ← z' − ∇_z (ω ‖y − A D(z0)‖ + γ ‖z0 − E(Aᵀy + (I − AᵀA) D(z0))‖)``,

    with decoder D, encoder E and the clean estimate z0 at z. Many latents decode to pictures that
    explain y equally well; the second term, gluing, prefers those that are the latents of their
    picture, and lets seams between measured and invented parts heal.

    **Step sizes.** ``ω = s N_z/√N`` as for `latent_dps`, and ``γ = g √N_z``: no step moves the
    latents by more than about s + g in root mean square. The authors' ω = γ = 0.1 for Stable
    Diffusion at 512×512 pixels are s = 0.005 and g = 0.0008, over 1000 steps.

    As in the authors' code, norms are not squared (they are in the paper) and their gradients are
    taken at once. Three things differ from it. ``Aᵀy + (I − AᵀA) x`` is the projection onto the
    measurement only where the singular values of A are 0 or 1; here it is that projection for every
    A, weighed against the noise, see `restore.solvers.consistency.project`. E returns the mean of
    the latents, where theirs draws them. And no noise is added to A D(z0) before it is compared
    with y. The gluing of JPEG and quantisation takes the move of the projection for constant.

    The result is projected onto the measurement in pixels.

    Args:
        denoise: ``denoise(z, sigma, condition)`` of latents, differentiable.
        autoencoder: The autoencoder of the latents.
        operator: A linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units; one number, [B], or a map of the measurement.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        step_size: s, root mean square over the numbers of a latent; not negative.
        gluing: g, likewise.
        eta: Fraction of fresh noise in the steps, in [0, 1], see `ddim_step`.
        start: [B or 1, *input_shape], picture whose latents the first noise is added to.
        callback: Called with a `Step` after each network call, with decoded pictures.

    Returns:
        Pictures [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], a step size is
            negative, or network, decoder or encoder are not differentiable.
    """
    check_guidance(eta, step_size=step_size, gluing=gluing)
    decoded = DecodedMeasurement(autoencoder, operator, measurement, noise_level)

    def objective(latents: Tensor, pictures: Tensor) -> Tensor:
        glued = autoencoder.encode(_projected(decoded, pictures))
        distances = (latents - glued).flatten(1).norm(dim=1)
        length = latents[0].numel() ** 0.5
        glue: Tensor = gluing * length * distances.sum()
        return step_size * decoded.misfit(pictures) + glue

    return guided_latents(
        denoise, decoded, objective, sigmas,
        eta=eta, generator=generator, start=start, callback=callback,
    )  # fmt: skip


def _projected(decoded: DecodedMeasurement, pictures: Tensor) -> Tensor:
    """Project pictures onto the measurement, differentiably."""
    operator = decoded.operator
    if isinstance(operator, LinearOperator):
        return project(operator, pictures, decoded.measurement, decoded.noise_level)

    known = pictures.detach()
    moved = project(operator, known, decoded.measurement, decoded.noise_level)
    return pictures + (moved - known)
