"""How far a run has come, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from restore.solvers import Step

if TYPE_CHECKING:
    from restore.training.run import Progress as TrainingProgress


class Progress:
    """A bar for the steps of a picture and, for several pictures, one for the pictures, each with its time left.

    Bars are for terminals: a log gets the lines that are said and nothing else.

    Args:
        pictures: how many there are.
        samples: how many times the steps of a picture are walked.
        quiet: show nothing.
    """

    def __init__(self, pictures: int, samples: int = 1, *, quiet: bool = False) -> None:
        self.quiet, self.samples = quiet, samples
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console, hidden = Console(file=sys.stderr), quiet or not sys.stderr.isatty()
        self.bars = Bars(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden)
        self.whole = self.bars.add_task("pictures", total=pictures) if pictures > 1 else None
        self.part = self.bars.add_task("", total=None)
        self.begun = False

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if kind is None and self.whole is not None:
            self.bars.advance(self.whole)
        self.bars.stop()

    def picture(self, name: str) -> None:
        """A picture begins."""
        if self.begun and self.whole is not None:
            self.bars.advance(self.whole)
        self.begun = True
        self.bars.reset(self.part, description=name, total=None)

    def step(self, step: Step) -> None:
        """The network was called: a solver's callback."""
        self.bars.update(self.part, total=step.steps * self.samples, advance=1)

    def say(self, text: str) -> None:
        """A line above the bars."""
        if not self.quiet:
            self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class TrainingLines:
    """A line about a training run now and then.

    Args:
        say: takes a line.
        quiet: say nothing.
        every: seconds between two lines.
    """

    def __init__(self, say: Callable[[str], None], *, quiet: bool = False, every: float = 10.0) -> None:
        self.say, self.quiet, self.every = say, quiet, every
        self.next = 0.0

    def __call__(self, progress: TrainingProgress) -> None:
        """After each step, see `restore.training.run.Progress`."""
        if self.quiet or (progress.seconds < self.next and progress.share < 1):
            return
        self.next = progress.seconds + self.every
        left = progress.seconds * (1 / progress.share - 1) if progress.share > 0 else 0.0
        self.say(
            f"step {progress.step}: {100 * progress.share:.0f} %, loss {progress.loss:.4f}, "
            f"{progress.pixels_per_second / 1e3:.0f} thousand pixels/s, {left / 60:.1f} min left"
        )
