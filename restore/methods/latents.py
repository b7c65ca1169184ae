"""What the methods of latents share: settings, refusals and the size of a step."""

from __future__ import annotations

from torch import Tensor

from operators import SpectralOperator
from restore.methods.beginnings import by_kind
from restore.methods.defaults import Defaults
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.solvers import project

SETTINGS = Defaults(steps=50, highest=1.0, noisy_eta=1.0)

BY_KIND = by_kind(SETTINGS, compressed_steps=50)

REFUSALS = {"fidelity": "has no posterior mean of pixels to blend with; leave it out"}

STEP_SIZE = Parameter(
    "step_size", 0.2, 0.0, 1.0, "largest RMS that the misfit moves latents by in a step, s"
)

# Projections onto the range of pictures and onto the measurement, in turn.
TURNS = 20


def within_range(run: Run, pictures: Tensor) -> Tensor:
    """Return pictures that still explain the measurement after they are clipped to [-1, 1].

    Decoders leave the range of pictures, and clipping undoes a part of the solver's projection. So
    both are projected onto in turn (Bregman 1965), without noise, where A has an SVD: with noise
    each turn would fit it further, and without an SVD a turn takes hundreds of iterations.

    Args:
        run: the problem.
        pictures: [B, *input_shape of the operator], projected onto the measurement.
    """
    operator = run.problem.model_operator
    if isinstance(run.noise_level, Tensor) or not isinstance(operator, SpectralOperator):
        return pictures

    for _ in range(TURNS):
        clipped = pictures.clamp(-1, 1)
        if bool((clipped == pictures).all()):
            break
        pictures = project(operator, clipped, run.problem.model_measurement)

    return pictures
