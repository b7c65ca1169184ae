"""Diffusion Posterior Sampling over the latents of an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import Denoise
from restore.diffusion.stepping import Callback, Generator
from restore.solvers.decoded import DecodedMeasurement, guided_latents
from restore.solvers.guided import check_guidance


def latent_dps(
    denoise: Denoise,
    autoencoder: Autoencoder,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    step_size: float = 0.2,
    eta: float = 1.0,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Latent DPS: step back along the chain, then down the misfit of the decoded clean estimate.

    DPS (Chung et al. 2022, arXiv 2209.14687, algorithm 1) with the operator ``A ∘ D`` of a decoder
    D: ``z ← z' − ζ ∇_z ‖y − A D(z0(z))‖``, as in Rout et al. 2023, arXiv 2307.00619, section 3. One
    call is a forward and a backward pass of network and decoder.

    **Step size.** Over N numbers of a picture and N_z of its latents it is ``ζ = s N_z/√N``, for
    latents and pictures of all sizes: where the decoder keeps the root mean square, and A and the
    network do not stretch, no step moves the latents by more than s in root mean square (see
    `restore.solvers.dps`, whose s this is if D is the identity).

    The result is projected onto the measurement in pixels, see `restore.solvers.consistency`.

    Args:
        denoise: ``denoise(z, sigma, condition)`` of latents, differentiable.
        autoencoder: The autoencoder of the latents.
        operator: A linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units, for the final projection alone; one number, [B], or a
            map of the measurement.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        step_size: s, root mean square over the numbers of a latent; not negative.
        eta: Fraction of fresh noise in the steps, in [0, 1], see `ddim_step`.
        start: [B or 1, *input_shape], picture whose latents the first noise is added to.
        callback: Called with a `Step` after each network call, with decoded pictures.

    Returns:
        Pictures [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], the step size is
            negative, or network or decoder are not differentiable.
    """
    check_guidance(eta, step_size=step_size)
    decoded = DecodedMeasurement(autoencoder, operator, measurement, noise_level)

    def objective(latents: Tensor, pictures: Tensor) -> Tensor:
        return step_size * decoded.misfit(pictures)

    return guided_latents(
        denoise, decoded, objective, sigmas,
        eta=eta, generator=generator, start=start, callback=callback,
    )  # fmt: skip
