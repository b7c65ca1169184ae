"""Progress of a run, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from restore.solvers import Step
from restore.text import visible

# Columns, so that a line fits into 80.
_NAME_WIDTH = 24
_BAR_WIDTH = 14


class Progress:
    """Steps of a picture and, for several, pictures, each with its rate and the time left.

    On a terminal they are bars. A log gets a line now and then instead, besides those of `say`.

    Args:
        pictures: Number of pictures.
        samples: Number of times that the steps of a picture are taken.
        quiet: Show nothing.
        every: Seconds between two lines in a log.
        clock: Returns the time in seconds.
        unit: What a picture is called.
    """

    def __init__(
        self,
        pictures: int,
        samples: int = 1,
        *,
        quiet: bool = False,
        every: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "picture",
    ) -> None:
        self.quiet = quiet
        self.samples = samples
        self.every = every
        self.clock = clock
        terminal = sys.stderr.isatty()
        short = Column(max_width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        # Without markup, since file names may look like it.
        name = TextColumn("{task.description}", markup=False, table_column=short)
        columns = (
            name,
            BarColumn(_BAR_WIDTH),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _PaceColumn(),
        )
        console = Console(file=sys.stderr, emoji=False)
        hidden = quiet or not terminal
        self.bars = Bars(*columns, console=console, transient=True, disable=hidden, get_time=clock)
        self.whole = (
            self.bars.add_task(f"{unit}s", total=pictures, unit=unit, at=0.0)
            if pictures > 1
            else None
        )
        self.part = self.bars.add_task("", total=None, unit="step", at=0.0)
        self.begun = 0
        self.next_line = clock() + every if not quiet and not terminal else float("inf")

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ):
        if kind is None:
            self._picture_done()
        self.bars.stop()

    def picture(self, name: str, count: int = 1) -> None:
        """Begin a picture, or so many together; those before are done."""
        self._picture_done()
        self.begun = count
        self.bars.reset(self.part, description=visible(name), total=None)
        self._line()

    def drop(self) -> None:
        """Drop what has begun, which is going to begin again."""
        self.begun = 0

    def step(self, step: Step) -> None:
        """Count a call of the network; the callback of a solver."""
        if self.bars.tasks[self.part].finished:  # the next part of pictures that began together
            self.bars.reset(self.part, total=None)
        self._advance(self.part, total=step.steps * self.samples)
        self._line()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if not self.quiet:
            self.bars.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    def _picture_done(self) -> None:
        if self.begun and self.whole is not None:
            self._advance(self.whole, self.begun)

    def _advance(self, bar: TaskID, count: int = 1, total: int | None = None) -> None:
        self.bars.update(bar, advance=count, total=total, at=self.bars.tasks[bar].elapsed)

    def _line(self) -> None:
        """Write a line to a log, if it is time for one."""
        if self.clock() < self.next_line:
            return

        self.next_line = self.clock() + self.every
        tasks = [self.bars.tasks[bar] for bar in (self.whole, self.part) if bar is not None]
        counts = [f"{task.description}: {_count(task)}" for task in tasks if task.completed]
        if counts:
            self.say("; ".join(counts))


class _PaceColumn(ProgressColumn):
    """The column of `pace` beside a bar."""

    def render(self, task: Task) -> Text:
        return Text(pace(task))


def _count(task: Task) -> str:
    """Text like `3 of 20, 1.5 steps/s, 0:11 left`."""
    return ", ".join(
        text for text in (f"{task.completed:.0f} of {task.total:.0f}", pace(task)) if text
    )


def pace(task: Task) -> str:
    """Text like `1.5 steps/s, 0:11 left`, by the mean rate so far; empty before the first is done.

    Args:
        task: Its field `at` is the time in seconds from its beginning to the last one done, its
            field `unit` the name of what is counted.
    """
    unit = task.fields["unit"]
    at = task.fields["at"]
    if not task.completed or not at or task.total is None:
        return ""

    each = at / task.completed
    rate = f"{_number(1 / each)} {unit}s/s" if each < 1 else f"{_number(each)} s/{unit}"
    left = each * task.remaining - (task.elapsed - at)

    return f"{rate}, {_duration(max(0.0, left))} left"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _duration(seconds: float) -> str:
    """Text like `0:11`, or with hours `2:00:11`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
