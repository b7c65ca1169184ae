"""Results and reports of restorations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore.findings.finding import Finding as Shown
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.cascade import Cascade

if TYPE_CHECKING:
    from restore.blind.estimate import Finding
    from restore.blind.scratches import Damage


@dataclass(frozen=True)
class Report:
    """How a picture was restored.

    Attributes:
        task: name of the task.
        operator: the operator as text, see `operators.text`, or the name of its class.
        method: name of the method.
        steps: number of steps taken for every sample, over all stages of a cascade; fewer than
            were chosen for methods that cannot use every number.
        samples: number of samples.
        seed: random seed.
        noise: assumed standard deviation of the noise of the measurement, in [0, 1] units; the mean
            over a batch, and over a picture where it depends on the signal.
        consistency: RMS of A x − y for the result (the mean of samples), in [0, 1] units.
        unexplained: the same for the best picture in [0, 1], if black and white of the measurement
            may have been clipped: what operator and noise cannot explain. The consistency itself
            unless that is doubtful.
        seconds: time in the solver.
        model: name of the model.
        device: name of the device.
        dtype: number format of the network.
        prompt: what the picture was said to show; None without a text.
        negative_prompt: what guidance led away from; None without one.
        cascade: stages of the enlargement; None without a cascade.
        kernels: what was found about the unknown blur of each picture; empty if it was known.
        signal_noise: how the noise of each picture was assumed to depend on the signal, given or
            estimated; empty if it was constant.
        jpeg: quality and chroma subsampling of a JPEG input whose coefficients were used, in words;
            None if none were.
        inside: fraction of the DCT coefficients of a JPEG input that the result, in 8 bits, has in
            their intervals; None if its file was not used.
        damage: what was found of scratches in each picture; empty if they were not sought.
        findings: what was found out about pictures that were examined.
    """

    task: str
    operator: str
    method: str
    steps: int
    samples: int
    seed: int
    noise: float
    consistency: float
    unexplained: float
    seconds: float
    model: str
    device: str
    dtype: str
    prompt: str | None = None
    negative_prompt: str | None = None
    cascade: Cascade | None = None
    kernels: tuple[Finding, ...] = ()
    signal_noise: tuple[SignalNoise, ...] = ()
    jpeg: str | None = None
    inside: float | None = None
    damage: tuple[Damage, ...] = ()
    findings: tuple[Shown, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found in the picture, in words."""
        kernels = [found.words for found in self.kernels]
        damage = [found.words for found in self.damage]
        return (*kernels, *damage, *(found.words for found in self.findings))


def is_doubtful(misfit: float, noise: float) -> bool:
    """Return True if an RMS of A x − y is far too large for the noise."""
    return misfit > max(0.02, 3 * noise)


class Samples(NamedTuple):
    """Posterior samples, pictures of the type of the input.

    Attributes:
        mean: mean of the samples.
        std: standard deviation over the samples, in the same units (255 of a uint8 picture is 1).
        samples: the samples.
    """

    mean: Any
    std: Any
    samples: list[Any]


class Result(NamedTuple):
    """A restored picture of the type of the input, and its report.

    Attributes:
        mean: mean of the samples; the picture itself for a single one.
        std: standard deviation over the samples; None for a single one.
        samples: the samples.
        report: how the picture was restored.
        kernels: the estimated blur kernel [h, w] of each picture, None where none was found; empty
            if it was known.
        masks: bool [H, W], True where scratches of each picture were filled, None where none were
            found; empty if they were not sought.
    """

    mean: Any
    std: Any | None
    samples: list[Any]
    report: Report
    kernels: tuple[NDArray[np.float64] | None, ...] = ()
    masks: tuple[NDArray[np.bool_] | None, ...] = ()
