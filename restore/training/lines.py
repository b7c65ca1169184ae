"""Progress of a training run, as lines of text."""

from __future__ import annotations

from collections.abc import Callable

from restore.training.run import Progress


class TrainingLines:
    """Prints a line about a training run now and then.

    Args:
        say: Takes a line.
        quiet: Say nothing.
        every: Seconds between two lines.
    """

    def __init__(
        self, say: Callable[[str], None], *, quiet: bool = False, every: float = 10.0
    ) -> None:
        self.say = say
        self.quiet = quiet
        self.every = every
        self.next = 0.0

    def __call__(self, progress: Progress) -> None:
        """Take the progress after a step, and print a line if one is due."""
        if self.quiet or (progress.seconds < self.next and progress.fraction < 1):
            return

        self.next = progress.seconds + self.every
        left = progress.seconds * (1 / progress.fraction - 1) if progress.fraction > 0 else 0.0
        loss = "predictor loss" if progress.of_predictor else "loss"
        self.say(
            f"step {progress.step}: {100 * progress.fraction:.0f} %, {loss} {progress.loss:.4f}, "
            f"{progress.pixels_per_second / 1e3:.0f} thousand pixels/s, {left / 60:.1f} min left"
        )
