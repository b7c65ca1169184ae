"""The settings of a method for a kind of problem."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple


class Defaults(NamedTuple):
    """Default settings of a method for a kind of problem.

    Attributes:
        steps: number of network calls.
        levels: grid of noise levels, see `restore.diffusion.schedule.LEVELS`.
        highest: highest noise level; None is that of the schedule. ``holes`` and ``filled holes``
            rise with the width of the holes of a mask, which are initially empty or filled by a
            classical method. ``rounding`` rises with what JPEG and quantisation changed.
        eta: fraction of fresh noise in each step, η.
        noisy_eta: η for a noisy measurement; a smaller one keeps more of the measurement.
        classical_start: True to start unmeasured parts from a classical estimate instead of
            mid-grey.
        sampler: sampler of SR3, one of `restore.samplers.catalogue.SAMPLERS`; None is its own.
        sigmas: noise levels of SR3 instead of a grid, without the final 0.
        predicted: highest noise, in [0, 1] units, up to which the prediction is used if the model
            has a predictor: as the start, as the result of ``one-step``, or as the condition of
            ``sr3`` if the denoiser takes such conditions
            (`restore.diffusion.denoiser.ModelConfig.condition_picture`). None is never.
        guidance: guidance scale of SR3, see `restore.diffusion.guidance.classifier_free`; 1 is
            none.
        mean_weight: weight of the posterior mean in the result, see `restore.methods.fidelity`.
        lowest: lowest noise level; None is that of the schedule, ``noise`` that of the measurement,
            ``rounding`` a fraction of what JPEG and quantisation changed.
        parameters: values of the method's own parameters, by name; in a run, of all of them.
        above_noise: the highest noise level is at least so many times the noise of the
            measurement, in [0, 1] units, unless a start is given: a picture that is known less well
            than the measurement would lose information.
    """

    steps: int
    levels: str = "log-snr"
    highest: float | Literal["holes", "filled holes", "rounding"] | None = None
    eta: float = 1.0
    noisy_eta: float = 0.85
    classical_start: bool = False
    sampler: str | None = None
    sigmas: tuple[float, ...] = ()
    predicted: float | None = None
    guidance: float = 1.0
    mean_weight: float = 0.0
    lowest: Literal["noise", "rounding"] | None = None
    parameters: Mapping[str, float] = MappingProxyType({})
    above_noise: float = 10.0
