"""A run: a learner, its pictures and its clock, and the files that it writes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from restore.errors import RestoreError
from restore.files import write_atomically
from restore.runtime.devices import copies_from_pinned_memory
from restore.training.batches import Batch
from restore.training.checkpoint import CHECKPOINT, State, load_state, save_state, write_model
from restore.training.learner import Learner, Step, TrainingDiverged
from restore.training.log import BinnedAccuracy, BinnedLosses, Log
from restore.training.pictures import Skipped
from restore.training.processes import Interruption
from restore.training.recipe_file import write_recipe
from restore.training.samples import distillation_sheet, png, sample_sheet

BEFORE_COOLDOWN = "before-cooldown"
MODEL = "model.safetensors"
RECIPE = "recipe.toml"


class BatchSource(Protocol):
    """The part of `restore.training.batches.Batches` that training uses."""

    @property
    def skipped(self) -> Sequence[Skipped]: ...

    def with_size(self, crop: int, batch: int) -> BatchSource: ...

    def stream(
        self,
        first_step: int = 0,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]: ...


class Progress(NamedTuple):
    """Progress of a run after a step.

    Attributes:
        step: Number of steps taken so far, those before resuming included.
        steps: Number of steps in all; None in a run by minutes.
        fraction: Fraction of the run that is over, in [0, 1].
        seconds: Training time so far.
        loss: Mean of the batch, without weights.
        pixels_per_second: Mean since the start or resuming.
        of_predictor: True if the step trained the predictor, whose loss is another one.
    """

    step: int
    steps: int | None
    fraction: float
    seconds: float
    loss: float
    pixels_per_second: float
    of_predictor: bool = False


@dataclass(frozen=True)
class Summary:
    """Result of a run.

    Attributes:
        steps: Number of steps in all.
        seconds: Training time in all.
        loss: Mean of the last steps (as many as between two rows of the log), without weights; of
            the denoiser, or of the predictor if that alone was trained.
        pixels_per_second: Training pixels a second since the start or resuming.
        model: File of the exported weights.
        quality: PSNR of the samples in dB, see `sample_sheet`; of a classifier, the percentage of
            the last pictures whose class it found, by noise level.
    """

    steps: int
    seconds: float
    loss: float
    pixels_per_second: float
    model: Path
    quality: Mapping[str, float]


class Run:
    """A run in its folder.

    Args:
        folder: The run folder.
        learner: The networks, with their recipe.
        batches: The pictures.
        shown: Pictures for the samples, [N, 3, n, n] in [-1, 1]; None takes some of the first
            batch.
        notice: Called with messages for the user.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        learner: Learner,
        batches: BatchSource,
        shown: Tensor | None,
        notice: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.learner = learner
        self.notice = notice
        self.clock = clock
        self.recipe = learner.recipe
        self.processes = learner.processes
        data = self.recipe.data
        self.sources = [
            batches.with_size(*data.size(stage)) for stage in range(len(data.larger_crops) + 1)
        ]

        for (_, side), (before, after) in zip(
            data.larger_crops, pairwise(self.sources), strict=True
        ):
            if more := len(after.skipped) - len(before.skipped):
                notice(
                    f"{more} more picture(s) smaller than the later crops of {side} pixels, "
                    "skipped there"
                )

        self.shown = shown
        if shown is None and self.recipe.classifier is None:
            self.shown = self._first_pictures()
        self.elapsed = 0.0
        self.bins = BinnedLosses()
        self.accuracy = BinnedAccuracy()
        self.last_accuracy: Mapping[str, float] = {}
        self.recent = deque[float](maxlen=self.recipe.run.log_steps)
        self.recent_predictor = deque[float](maxlen=self.recipe.run.log_steps)

    def resume(self, state: State) -> None:
        """Continue from a saved state of the same recipe."""
        self.elapsed = state.elapsed
        self.learner.load(state)
        self.bins.sums = state.log["sums"]
        self.bins.counts = state.log["counts"]
        self.recent.extend(state.log["recent"].tolist())
        if "hits" in state.log:
            self.accuracy.hits = state.log["hits"]
            self.accuracy.counts = state.log["seen"]
        if "recent predictor" in state.log:
            self.recent_predictor.extend(state.log["recent predictor"].tolist())

    def through(self, interruption: Interruption, progress: Callable[[Progress], None]) -> Summary:
        """Train to the end.

        Raises:
            FileAccess: The folder cannot be written.
            TrainingDiverged: A loss, gradient or weight is not finite.
            KeyboardInterrupt: An interruption was noted, and the checkpoint is written.
        """
        if self.processes.first:
            write_atomically(
                write_recipe(self.recipe).encode(), self.folder / RECIPE, overwrite=True
            )
            self.log = Log(self.folder, self.learner.step, self.notice)

        try:
            meter = _Meter(self.clock)
            stopped = self._train(interruption, meter, progress)
            quality = self.checkpoint(last=True, samples=not stopped)
        except TrainingDiverged as error:
            raise self._kept(error) from None
        finally:
            if self.processes.first:
                self.log.close()

        self.processes.wait()
        if stopped:
            raise KeyboardInterrupt

        model = self.folder / MODEL
        loss = _mean(self.recent or self.recent_predictor)

        return Summary(
            self.learner.step,
            self.elapsed,
            math.nan if loss is None else loss,
            meter.overall(),
            model,
            quality,
        )

    def _train(
        self, interruption: Interruption, meter: _Meter, progress: Callable[[Progress], None]
    ) -> bool:
        """Take steps until the run is over (False) or interrupted (True)."""
        started = self.clock() - self.elapsed
        checkpoint_due = self.clock() + 60 * self.recipe.run.checkpoint_minutes
        cooling = self.learner.step > 0 and self.fraction >= self.recipe.schedule.cooldown_start
        cooling = cooling or self.recipe.distillation is not None  # a distillation keeps its length
        stage = None
        stream: Iterator[Batch] = iter(())

        try:
            while True:
                stopped, self.elapsed = self.processes.agree(
                    interruption.wanted, self.clock() - started
                )
                fraction = self.fraction
                if stopped:
                    return True
                self._begin_rounds(fraction)
                if fraction >= 1:
                    return False
                if not cooling and fraction >= self.recipe.schedule.cooldown_start:
                    cooling = True
                    self._quietly(lambda: self._save(self.folder / BEFORE_COOLDOWN))
                wanted = self.recipe.data.stage(fraction)
                if stage is None or stage != wanted:
                    _close(stream)
                    stage = wanted
                    stream = self._stream(stage)
                step = self.learner.learn(next(stream), fraction)
                meter.add(self.recipe.data.size(stage))
                self._note(step, fraction, meter, progress)
                if self.clock() >= checkpoint_due:
                    self.checkpoint()
                    checkpoint_due = self.clock() + 60 * self.recipe.run.checkpoint_minutes
        finally:
            _close(stream)

    def _begin_rounds(self, fraction: float) -> None:
        """Write the student of each distillation round that is over by now, and begin the next."""
        distillation = self.recipe.distillation
        if distillation is None:
            return

        while self.learner.round < distillation.round_at(fraction):
            if self.processes.first:
                steps = len(self.learner.exported_model.distilled_levels or ())
                self._write_model(self.folder / f"model-{steps}.safetensors")
                self.notice(
                    f"step {self.learner.step}: distilled to {steps} steps of DDIM; halving them "
                    "again"
                )
            self.learner.next_round()

    @property
    def fraction(self) -> float:
        """Fraction of the run that is over, in [0, 1]."""
        return self.recipe.schedule.fraction_after(self.learner.step, self.elapsed)

    def checkpoint(self, last: bool = False, samples: bool = True) -> Mapping[str, float]:
        """Save state, model and samples, in the first process; return the samples' quality.

        Args:
            last: True at the end of the run; before, an error becomes a notice.
            samples: False leaves the samples out.

        Raises:
            FileAccess, BadWeights, TrainingDiverged: They cannot be written at the end of the run.
        """

        def write() -> Mapping[str, float]:
            self._save(self.folder)
            self._write_model(self.folder / MODEL)
            return self._sample() if samples else {}

        if not self.processes.first:
            return {}
        return write() if last else self._quietly(write) or {}

    def _write_model(self, target: Path) -> None:
        write_model(self.learner.description, self.learner.exported, target)

    def _quietly(
        self, write: Callable[[], Mapping[str, float] | None]
    ) -> Mapping[str, float] | None:
        """Write files; an error becomes a notice, since training does not need them yet."""
        try:
            return write()
        except RestoreError as error:
            self.notice(
                f"step {self.learner.step}: not everything was saved, training goes on: {error}"
            )
            return None

    def _save(self, folder: Path) -> None:
        if not self.processes.first:
            return
        if not self.learner.finite:
            raise TrainingDiverged(f"step {self.learner.step}: weights are not finite")

        log = {"sums": self.bins.sums, "counts": self.bins.counts}
        log |= {"hits": self.accuracy.hits, "seen": self.accuracy.counts}
        log |= {"recent": torch.tensor(self.recent, dtype=torch.float64)}
        log |= {"recent predictor": torch.tensor(self.recent_predictor, dtype=torch.float64)}
        save_state(self.learner.state(self.elapsed, log), folder)

    def _kept(self, error: TrainingDiverged) -> TrainingDiverged:
        """Return the error with what is left; save the present state only if there is no other."""
        if (
            self.processes.first
            and not (self.folder / CHECKPOINT).is_file()
            and self.learner.finite
        ):
            self.checkpoint(samples=False)

        self.processes.wait()
        kept = "holds no state"
        if (self.folder / CHECKPOINT).is_file():
            step = load_state(self.folder).step
            kept = (
                f"holds the state after step {step}; `init`={self.folder / MODEL} starts a new "
                "run from its model"
            )

        return TrainingDiverged(f"{error}. {self.folder} {kept}. A lower rate may help")

    def _stream(self, stage: int) -> Iterator[Batch]:
        part = (self.processes.rank, self.processes.count)
        pinned = copies_from_pinned_memory(self.processes.device)
        workers = self.recipe.run.workers
        return self.sources[stage].stream(
            self.learner.step, workers=workers, part=part, pinned=pinned
        )

    def _first_pictures(self) -> Tensor:
        stream = self.sources[0].stream(0)
        clean = next(stream).clean[:6]
        _close(stream)
        return clean

    def _sample(self) -> Mapping[str, float]:
        """Write the sheet of samples, made with the exported model; a classifier has none."""
        if self.shown is None:
            return self.accuracy.percentages() or self.last_accuracy

        self.learner.pupil.network.eval()
        shown = self.shown.to(self.processes.device)
        student = self.learner.denoiser()
        teacher = self.learner.teacher
        distillation = self.recipe.distillation
        if teacher is None or distillation is None:
            sheet, quality = sample_sheet(student, shown)
        else:
            grid = distillation.grid(self.learner.model, self.learner.round)
            sheet, quality = distillation_sheet(student, teacher, grid, shown)

        self.learner.pupil.network.train()
        write_atomically(png(sheet), self.folder / "samples.png", overwrite=True)
        self._row({"share": self.fraction, **quality})

        return quality

    def _note(
        self, step: Step, fraction: float, meter: _Meter, progress: Callable[[Progress], None]
    ) -> None:
        """Report and log a step."""
        loss = float(step.losses.mean())
        if step.gamma is None or step.conditional is None:
            self.recent_predictor.append(loss)
        else:
            self.recent.append(loss)
            if step.hits is None:
                self.bins.add(step.gamma, step.conditional, step.losses)
            else:
                self.accuracy.add(step.gamma, step.hits)

        progress(
            Progress(
                self.learner.step,
                self.recipe.schedule.steps,
                fraction,
                self.elapsed,
                loss,
                meter.overall(),
                step.gamma is None,
            )
        )
        if self.learner.step % self.recipe.run.log_steps == 0:
            values: dict[str, float | None] = {
                "share": fraction,
                "rate": step.rate,
                "gradient": step.gradient,
            }
            values |= {"loss": _mean(self.recent), "predictor loss": _mean(self.recent_predictor)}
            binned = {**self.bins.means(), **self.accuracy.percentages()}
            self._row({**values, "pixels_per_second": meter.lap(), **binned})
            self.last_accuracy = self.accuracy.percentages()
            self.bins.reset()
            self.accuracy.reset()

    def _row(self, values: Mapping[str, float | None]) -> None:
        if self.processes.first:
            self._quietly(
                lambda: self.log.row({"step": self.learner.step, "seconds": self.elapsed, **values})
            )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


class _Meter:
    """Measures pixels a second, since the start and since the last lap."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.pixels = 0
        self.lap_pixels = 0
        self.started = self.lap_started = clock()

    def add(self, size: tuple[int, int]) -> None:
        """Add a batch of this (crop, batch)."""
        pixels = size[0] ** 2 * size[1]
        self.pixels += pixels
        self.lap_pixels += pixels

    def lap(self) -> float:
        now = self.clock()
        speed = self.lap_pixels / max(now - self.lap_started, 1e-9)
        self.lap_pixels = 0
        self.lap_started = now
        return speed

    def overall(self) -> float:
        return self.pixels / max(self.clock() - self.started, 1e-9)


def _close(stream: Iterator[Batch]) -> None:
    """End a stream's threads and processes."""
    if hasattr(stream, "close"):
        stream.close()
