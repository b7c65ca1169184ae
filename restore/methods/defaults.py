"""The settings of a method on a kind of problem."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Defaults(NamedTuple):
    """How a method is run on a kind of problem unless told otherwise.

    Attributes:
        steps: calls of the network.
        levels: the grid of noise levels, see `restore.diffusion.schedule.LEVELS`.
        highest: highest noise level; None is the schedule's. ``holes`` and ``filled holes`` rise
            with the width of a mask's holes, these being empty at the start or filled by a
            classical method.
        eta: fraction of fresh noise in each step, η.
        noisy_eta: η where the measurement has noise: a smaller one forgets less of it below its
            noise.
        classical_start: begin what the measurement does not tell at a classical estimate instead of
            at mid-grey.
        sampler: of SR3: one of `restore.samplers.catalogue.SAMPLERS` instead of its own.
        sigmas: of SR3: these noise levels instead of a grid, without the final 0.
        predicted: where the model has a predictor and the measurement no more noise than this, in
            [0, 1] units, use its answer: as the start, as the answer of ``one-step``, or as the
            condition of ``sr3`` if the denoiser takes such conditions
            (`restore.diffusion.denoiser.ModelConfig.condition_picture`). None is never.
        guidance: of SR3: the scale of `restore.diffusion.guidance.classifier_free`; 1 is none.
    """

    steps: int
    levels: str = "log-snr"
    highest: float | Literal["holes", "filled holes"] | None = None
    eta: float = 1.0
    noisy_eta: float = 0.85
    classical_start: bool = False
    sampler: str | None = None
    sigmas: tuple[float, ...] = ()
    predicted: float | None = None
    guidance: float = 1.0
