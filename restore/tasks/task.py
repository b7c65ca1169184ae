"""Base of all tasks: options in a frozen dataclass, and the inverse problem they state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from restore.errors import BadArgument
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.option import (
    AUTO,
    AUTO_SIGNAL,
    JPEG_WORDS,
    check_noise,
    has_noise,
    is_signal,
    number,
    options_of,
    parse_noise,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.photo.pictures import Opened, Picture
    from restore.photo.rounding import Rounding
    from restore.photo.stored import StoredJpeg
    from restore.tasks.cascade import Cascade
    from restore.tasks.kind import Kind
    from restore.tasks.problem import Operator, Problem


@dataclass(frozen=True)
class Task(ABC):
    """One restoration task with its options.

    A subclass is a frozen dataclass in a file of its own. Its fields are the options, documented by
    `restore.tasks.option.Option`; the command, the one-liners of Python and config files all read
    them there. Shell completion reads these files, so they import PyTorch inside functions only.

    Attributes:
        name: name of the sub-command and of the one-liner.
        title: heading of captions and pages.
        about: one line of help.
        kind: kind of the problems that it states; for `solve` the operator decides.
        companion: the option that takes a picture file beside each input, such as a mask.
        takes_measurements: True if measurements (.npz) count as inputs.
        takes_raws: True if camera raws are the inputs, and no pictures, one at a time.
        estimates_noise: True if ``noise="auto"`` is measured where the input is not transparent.
        takes_signal_noise: True if the noise may depend on the signal, as a map of its level.
        added_noise: standard deviation of the noise that evaluations add, for pixels in [0, 1].
        uses_file: True if the intervals of a JPEG file can be part of the problem.
        rounding: what the encoding of each picture's file may have done to it; ``noise="auto"``
            is at least that. Empty if unknown.
        stored: what the JPEG file of each picture says of it. Empty if unknown.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    kind: ClassVar[Kind]
    companion: ClassVar[str | None] = None
    takes_measurements: ClassVar[bool] = False
    takes_raws: ClassVar[bool] = False
    estimates_noise: ClassVar[bool] = True
    takes_signal_noise: ClassVar[bool] = False
    added_noise: ClassVar[float] = 0.0
    uses_file: ClassVar[bool] = False

    rounding: Sequence[Rounding] = field(default=(), kw_only=True, repr=False)
    stored: Sequence[StoredJpeg | None] = field(default=(), kw_only=True, repr=False)

    def __post_init__(self) -> None:
        noise = getattr(self, "noise", None)
        if (level := number(noise)) is not None:
            object.__setattr__(self, "noise", level)
        if not isinstance(noise, str) or ":" not in noise or noise == AUTO_SIGNAL:
            return
        if options_of(type(self))["noise"].option.parse is parse_noise:  # not a task's own texts
            object.__setattr__(self, "noise", SignalNoise.read(noise))

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        """Return the kinds of the problems that it states, the usual one first."""
        return (cls.kind,)

    @classmethod
    def kind_of(cls, operator: Operator) -> Kind:
        """Return the kind of the problem with an operator."""
        return cls.kind

    @abstractmethod
    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State the inverse problem of pictures.

        Args:
            image: [B, 3, H, W] in [0, 1]; a measurement may have other channels.
            device: where the problem is to lie.

        Raises:
            BadArgument: options that do not fit the pictures.
        """

    @property
    def reads_file(self) -> bool:
        """True if what a JPEG file says of its coefficients is of use."""
        return self.uses_file and getattr(self, "jpeg", None) != "off"

    def of_file(self, stored: StoredJpeg | None, usable: bool) -> Self:
        """Return the task with what the JPEG file of its picture says.

        Args:
            stored: None for other files.
            usable: True if the chosen method takes the intervals of its coefficients.
        """
        return replace(self, stored=(stored,)) if usable else self

    def check(self) -> None:
        """Check what can be checked without a picture.

        Raises:
            BadArgument: an invalid option.
        """
        own = options_of(type(self)).get("noise")
        noise = getattr(self, "noise", None)
        if noise is not None or (own is not None and own.default is not None):
            takes = self.takes_signal_noise
            check_noise(noise, signal=takes, task=self.name, others=_signal_tasks())
        if (jpeg := getattr(self, "jpeg", None)) not in (None, *JPEG_WORDS):
            raise BadArgument(f"`jpeg`={jpeg}: must be {' or '.join(JPEG_WORDS)}")

    def of_test_images(self) -> Self:
        """Return the task as it is told for test images, which no file accompanies."""
        return self

    def missing_for(self, source: Path) -> str | None:
        """Return an error if an option is missing that the input needs, else None."""
        return None

    def result_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the result for an input of this (height, width).

        Raises:
            BadArgument: an operator that does not fit the measurement.
        """
        return size

    def check_clip(self) -> None:
        """Refuse what does not suit the frames of a clip.

        Raises:
            BadArgument: it is for camera raws, or estimates a kernel, which would move from frame
                to frame.
        """
        if self.takes_raws:
            raise BadArgument(f"{self.name}: is for camera raws, not for clips")
        if self.estimates_kernel:
            raise BadArgument(
                "`kernel`=auto: is for one picture, and the blur of a clip must not change from "
                "frame to frame; estimate it on a frame with `write_kernel`, and give that file"
            )

    def for_clip(self, frames: Iterable[Tensor]) -> Self:
        """Return the task for all frames of a clip, with what it estimates settled once.

        A noise level is the median of those of the frames that are given, and so is each number of
        a noise that depends on the signal.

        Args:
            frames: some frames of the clip, [1, 3, H, W] in [0, 1].
        """
        noise = getattr(self, "noise", None)
        if not isinstance(noise, str) or noise not in (AUTO, AUTO_SIGNAL):
            return self

        levels: list[float] = []
        signals: list[SignalNoise] = []
        for frame in frames:  # one problem at a time in memory
            problem = self.problem(frame)
            levels.append(float(problem.noise.mean()))
            signals += problem.signal_noise

        found: float | SignalNoise = median(levels)
        if len(signals) == len(levels):
            found = SignalNoise(median(one.a for one in signals), median(one.b for one in signals))
        return replace(self, noise=found)  # type: ignore[call-arg]

    def check_file(self, stored: StoredJpeg | None) -> None:
        """Refuse a picture whose file does not say what the task needs.

        Args:
            stored: what its JPEG file says; None for other files.

        Raises:
            BadArgument: it does not.
        """
        return

    @property
    def files(self) -> list[Path]:
        """Files named by the text of options, such as that of a kernel."""
        return []

    @property
    def assumed_borders(self) -> list[str]:
        """Blurs without a stated boundary, which is assumed to be symmetric."""
        return []

    @property
    def cascade_stages(self) -> Cascade | None:
        """Stages of the enlargement; None for a single one."""
        return None

    @property
    def estimates_kernel(self) -> bool:
        """True if the blur kernel is estimated."""
        return False

    @property
    def finds_mask(self) -> bool:
        """True if what to fill is found in the picture; the mask is written beside the output."""
        return False

    @property
    def one_by_one(self) -> bool:
        """True if each picture states a problem of its own, so that none is batched."""
        return self.estimates_kernel or self.finds_mask

    @property
    def examines(self) -> bool:
        """True if the task decides what to do by what each picture shows."""
        return False

    @property
    def takes_companion(self) -> bool:
        """True if a picture file goes with each input."""
        return self.companion is not None and not self.finds_mask

    def apart(self, color: Tensor) -> Iterator[tuple[Self, Tensor]]:
        """Yield each picture of a batch [B, 3, H, W], with the task of that picture.

        A picture may come as several problems, whose solutions `together` joins.
        """
        noise: Any = getattr(self, "noise", None)
        several = not isinstance(noise, str | int | float | SignalNoise | None)
        for index, picture in enumerate(color.split(1)):
            one = self
            if several and len(noise) == len(color):
                own = noise[index] if is_signal(noise) else float(noise[index])
                one = replace(self, noise=[own])  # type: ignore[call-arg]
            yield one, picture

    def together(self, solutions: Tensor) -> Tensor:
        """Make pictures [K, B, 3, H, W] of the solutions of the problems that `apart` stated."""
        return solutions

    @property
    def writes_kernel(self) -> bool:
        """True if the estimated kernel is to be written beside the output."""
        return False

    @property
    def rounded(self) -> list[float]:
        """Standard deviation of the noise that `rounding` counts as, for each picture."""
        return [one.error for one in self.rounding]

    def given(self) -> dict[str, Any]:
        """Return the options that have a value, or are switched on, for records.

        The companion is left out.
        """
        names = (name for name in options_of(type(self)) if name != self.companion)
        values = {name: _recorded(getattr(self, name)) for name in names}
        return {n: value for n, value in values.items() if value is not None and value is not False}

    def accompanied(self, path: Path, file: BinaryIO | None = None) -> Self:
        """Return the task with the companion's picture read from a file.

        Args:
            path: the file.
            file: the file at its start, if it is open already.

        Raises:
            RestoreError: the file cannot be read.
        """
        raise NotImplementedError(f"{self.name} has no companion")

    def completed(
        self, operator: str | None, noise: float | SignalNoise | None, size: tuple[int, int] | None
    ) -> Self:
        """Return the task with options that are not given taken from a measurement's file."""
        return self

    def opened(self, picture: Picture) -> Opened:
        """Split the input into colour and alpha.

        Colours may lie in [-1, 2] if the task has noise, else in [0, 1].

        Raises:
            BadArgument: the input is not a picture, or has values beyond the range.
        """
        from restore.photo.pictures import open_picture

        noisy = has_noise(getattr(self, "noise", None))
        return open_picture(picture, noisy=noisy, coefficients=self.reads_file)

    def of_visible(self, opened: Opened) -> tuple[Tensor, Self]:
        """Return the colours to restore, continued where they are transparent, and their task.

        Noise is estimated where the picture is not transparent.
        """
        from restore.photo.alpha import continue_colour, hidden, visible_noise, visible_signal_noise
        from restore.tasks.problem import QUANTISATION_NOISE

        if opened.alpha is None or not bool(hidden(opened.alpha).any()):
            return opened.color, self

        task = self
        noise = getattr(self, "noise", None)
        if self.estimates_noise and isinstance(noise, str):
            smallest = QUANTISATION_NOISE if self.kind.rounding_is_noise else 0.0
            found: list[Any]
            if is_signal(noise):
                pairs = visible_signal_noise(opened.color, opened.alpha)
                found = [pair.at_least(smallest) for pair in pairs]
            else:
                levels = visible_noise(opened.color, opened.alpha)
                found = [max(level, smallest) for level in levels]
            task = replace(self, noise=found)  # type: ignore[call-arg]

        return continue_colour(opened.color, opened.alpha), task

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        """Return the operator that degrades pictures [C, H, W] for tests, and its text."""
        raise NotImplementedError(f"{self.name} needs more than its options to degrade a picture")

    @property
    def degradation_title(self) -> str:
        """Description of the degradation, for the heading of an evaluation."""
        return ""


def _signal_tasks() -> str:
    """Return the names of the tasks that take noise that depends on the signal, in words."""
    names = sorted(task.name for task in Task.__subclasses__() if task.takes_signal_noise)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _recorded(value: Any) -> Any:
    """Return a value as records have it: noise that depends on the signal as its text."""
    if isinstance(value, SignalNoise):
        return str(value)
    return [str(one) for one in value] if is_signal(value) and value != AUTO_SIGNAL else value
