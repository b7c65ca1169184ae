"""What was done to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from restore.tasks.cascade import Cascade


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        task: its name.
        operator: as text, see `operators.text`, or the name of its class where it has none.
        method: its name.
        steps: of every sample.
        samples: how many were drawn.
        seed: random seed.
        noise: standard deviation of the measurement's noise that was assumed, in [0, 1] units; the
            mean over a batch.
        consistency: RMS of A x − y of the result (of the mean, for samples), in [0, 1] units.
        seconds: time in the solver.
        model: its name.
        device: that computed.
        dtype: number format of the network.
        cascade: the stages, if there were any; ``steps`` are those of all of them.
    """

    task: str
    operator: str
    method: str
    steps: int
    samples: int
    seed: int
    noise: float
    consistency: float
    seconds: float
    model: str
    device: str
    dtype: str
    cascade: Cascade | None = None


class Samples(NamedTuple):
    """Several samples of the posterior; pictures of the kind that came in.

    Attributes:
        mean: of the samples.
        std: standard deviation over the samples, in the same units (255 of a uint8 picture is 1).
        samples: one by one.
    """

    mean: Any
    std: Any
    samples: list[Any]


class Result(NamedTuple):
    """A restored picture of the kind that came in, and what was done.

    Attributes:
        mean: the picture itself where one sample was drawn, else the mean.
        std: standard deviation over the samples; None where one was drawn.
        samples: one by one.
        report: what was done.
    """

    mean: Any
    std: Any | None
    samples: list[Any]
    report: Report
