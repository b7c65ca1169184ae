"""The rounds of a progressive distillation: their numbers of steps, noise levels and lengths."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from restore.diffusion.denoiser import ModelConfig
from restore.diffusion.schedule import LEVELS, NoiseSchedule, noise_levels

Weighting = Literal["truncated-snr", "snr+1"]


@dataclass(frozen=True)
class DistillationRecipe:
    """Rounds that each halve the steps of DDIM (Salimans, Ho 2022, arXiv 2202.00512, algorithm 2).

    Attributes:
        start: Steps of the first teacher, the model that the run starts from.
        end: Steps of the last student; ``start`` is that times 2, 4, 8, …
        levels: Grid of the first teacher's noise levels, one of
            `restore.diffusion.schedule.LEVELS`; None is ``karras``, or, for a model that is
            distilled already, its own levels. Every student has every second level of its teacher.
        lengths: Relative lengths of the rounds, one number for each; none means equally long.
        weighting: Weighting of the clean picture's squared error, see
            `restore.training.distillation.loss_weight`.

    Raises:
        ValueError: Settings contradict each other.
    """

    start: int = 64
    end: int = 4
    levels: str | None = None
    lengths: tuple[float, ...] = ()
    weighting: Weighting = "truncated-snr"

    def __post_init__(self) -> None:
        ratio = self.start // max(self.end, 1)
        if self.end < 1 or self.end * ratio != self.start or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"from {self.start} to {self.end} steps: start must be end times 2, 4, 8, …, as "
                "every round halves the steps"
            )
        if self.levels is not None and self.levels not in LEVELS:
            raise ValueError(f"levels = {self.levels!r}: must be one of {', '.join(LEVELS)}")
        if self.lengths and (len(self.lengths) != self.rounds or min(self.lengths) <= 0):
            raise ValueError(f"lengths must be {self.rounds} positive numbers, one for each round")

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return (self.start // self.end).bit_length() - 1

    @property
    def borders(self) -> list[float]:
        """Fractions of the run at which the rounds end, the last one 1."""
        lengths = self.lengths or (1.0,) * self.rounds
        total = sum(lengths)
        return [*(end / total for end in itertools.accumulate(lengths[:-1])), 1.0]

    @property
    def shortest(self) -> float:
        """The shortest round as a fraction of the run."""
        return min(end - begin for begin, end in itertools.pairwise([0.0, *self.borders]))

    def round_at(self, fraction: float) -> int:
        """Return the round (0, 1, …) when this fraction of the run is over."""
        return min(bisect_right(self.borders, fraction), self.rounds - 1)

    def fraction_of(self, index: int, fraction: float) -> float:
        """Return the fraction of a round that is over, in [0, 1], from that of the run."""
        begin, end = ([0.0, *self.borders])[index : index + 2]
        return min(max((fraction - begin) / (end - begin), 0.0), 1.0)

    def grid(self, model: ModelConfig, index: int) -> list[float]:
        """Return the noise levels of a round's teacher, falling, with a final 0.

        Its student has those with even indices.

        Raises:
            ValueError: The chain has fewer levels, or the model is distilled for others.
        """
        own = model.distilled_levels
        if own is not None and (len(own) != self.start or self.levels is not None):
            raise ValueError(
                f"the model is distilled for {len(own)} steps at its own levels: start must be "
                f"{len(own)}, and levels left out"
            )

        if own is not None:
            first = [*own, 0.0]
        else:
            first = noise_levels(
                NoiseSchedule.named(**model.schedule), self.start, self.levels or "karras"
            )

        return first[:: 2**index]

    def student_levels(self, model: ModelConfig, index: int) -> tuple[float, ...]:
        """Return the levels of a round's student, see `ModelConfig.distilled_levels`."""
        return tuple(self.grid(model, index)[:-1:2])
