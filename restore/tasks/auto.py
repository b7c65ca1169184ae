"""The task that looks at a picture, and undoes what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from restore.errors import BadArgument
from restore.tasks.deblur import BLURRED, Deblurring
from restore.tasks.dejpeg import COMPRESSED, Dejpeg
from restore.tasks.denoise import NOISY, Denoising
from restore.tasks.kind import Kind
from restore.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from operators import JpegFile
    from restore.findings.finding import Finding
    from restore.metrics.signal_noise import SignalNoise
    from restore.photo.pictures import Opened
    from restore.photo.stored import StoredJpeg
    from restore.tasks.problem import Operator, Problem

# Ratio of the noise of white to that of black from which noise depends on the signal.
_DEPENDS = 1.5
# Largest ratio of two estimates of the same noise.
_AGREES = 1.5


@dataclass(frozen=True)
class Automatic(Task):
    """Restore a picture at its size from the noise, the blur and the compression that it shows.

    A picture that shows none is returned as it is.
    """

    name: ClassVar[str] = "auto"
    title: ClassVar[str] = "Automatic restoration"
    about: ClassVar[str] = "Look for noise, blur and JPEG compression, and undo what is found."
    kind: ClassVar[Kind] = NOISY
    estimates_noise: ClassVar[bool] = False
    uses_file: ClassVar[bool] = True

    # where a picture with transparency is visible, bool [1, 1, H, W]
    visible: Tensor | None = field(default=None, kw_only=True, repr=False, compare=False)
    # False if the chosen method cannot use the tables of a JPEG, which are then only mentioned
    uses_tables: bool = field(default=True, kw_only=True, repr=False)

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        return (NOISY, BLURRED, COMPRESSED)

    @property
    def one_by_one(self) -> bool:
        return True

    @property
    def examines(self) -> bool:
        return True

    @property
    def reads_file(self) -> bool:
        return self.uses_tables

    def of_file(self, stored: StoredJpeg | None, usable: bool) -> Self:
        return replace(self, stored=(stored,), uses_tables=usable)

    def check_clip(self) -> None:
        raise BadArgument(
            "auto: is for pictures; what it finds must not change from frame to frame of a clip: "
            "look at one frame with restore auto FRAME --dry-run, and give the clip to the task "
            "that undoes it"
        )

    def apart(self, color: Tensor) -> Iterator[tuple[Self, Tensor]]:
        for index, picture in enumerate(color.split(1)):
            own = None if self.visible is None else self.visible[index : index + 1]
            yield replace(self, visible=own), picture

    def of_visible(self, opened: Opened) -> tuple[Tensor, Self]:
        from restore.photo.alpha import hidden

        color, task = super().of_visible(opened)
        if opened.alpha is None:
            return color, task
        return color, replace(task, visible=~hidden(opened.alpha))

    def examined(self, image: Tensor) -> tuple[tuple[Finding, ...], Task | None]:
        """Return what a picture [1, 3, H, W] shows, and the task that undoes it; None for nothing.

        Raises:
            ValueError: there are several pictures.
        """
        from restore.findings.blur import find_blur
        from restore.findings.noise import find_noise

        if len(image) != 1:
            raise ValueError("pictures are examined one at a time")

        pixels = image[0].cpu().double().numpy()
        jpeg = self._jpeg(image)
        level, noise = find_noise(pixels, self._known())
        # blocks and ringing look like anything
        blur = None if self._is_coarse_jpeg() else find_blur(pixels, level)
        findings = (noise, jpeg) if blur is None else (noise, blur, jpeg)

        if blur is not None and blur.treated:
            return findings, Deblurring(blur.value, noise=level)
        if noise.treated:
            return findings, Denoising(self._noise(image, level))
        if jpeg.treated:
            return findings, Dejpeg(stored=self.stored)
        return findings, None

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State the problem of what ``image`` [1, 3, H, W] in [0, 1] shows.

        A picture that shows nothing answers its problem itself.
        """
        findings, task = self.examined(image)
        if task is not None:
            task = replace(task, rounding=self.rounding)
            return replace(task.problem(image, device), task=self.name, findings=findings)

        problem = Denoising(1.0).problem(image, device)
        original = image.to(device)
        keep = original.new_ones(1, 1, *original.shape[-2:])
        return replace(
            problem,
            task=self.name,
            noise=problem.noise.new_zeros(1),
            keep=keep,
            original=original,
            findings=findings,
        )

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        raise BadArgument("`task`=auto: does not say how test images are degraded; give their task")

    def _jpeg(self, image: Tensor) -> Finding:
        """Return the compression of the picture's file, or the one before it was another file."""
        from restore.findings.finding import Finding
        from restore.findings.jpeg import find_earlier_jpeg
        from restore.tasks.compression import file_of, in_words

        file: JpegFile | None = file_of(self.stored)
        stored = self.stored[0] if len(self.stored) == 1 else None
        if stored is not None and stored.is_ink:
            said = in_words(stored)
            words = f"saved as a JPEG of {said}, which is left as it is (restore dejpeg)"
            return Finding("jpeg", said, False, words)
        if file is None or stored is None:
            found = find_earlier_jpeg(image[0].cpu().numpy())
            if found.value or not any(one.error for one in self.rounding):
                return found
            words = "saved as a JPEG whose coefficients cannot be used, so it is left as it is"
            return Finding("jpeg", "", False, words)

        said = in_words(stored)
        if self._is_coarse_jpeg() and not self.uses_tables:
            words = f"saved as a JPEG of {said}, which is left as it is: `method` cannot undo it"
            return Finding("jpeg", said, False, words)
        if self._is_coarse_jpeg():
            return Finding("jpeg", said, True, f"saved as a JPEG of {said}, which is undone")
        return Finding("jpeg", said, False, f"saved as a JPEG of {said}, too little to undo")

    def _is_coarse_jpeg(self) -> bool:
        """Return True if the file of the picture is a JPEG that is worth undoing."""
        from restore.tasks.compression import file_of, is_coarse

        file: JpegFile | None = file_of(self.stored)
        ink = any(one is not None and one.is_ink for one in self.stored)
        return file is not None and not ink and is_coarse(file)

    def _known(self) -> NDArray[np.bool_] | None:
        """Return where a picture is visible, [H, W]; None for everywhere."""
        return None if self.visible is None else self.visible[0, 0].cpu().numpy()

    def _noise(self, image: Tensor, level: float) -> float | SignalNoise:
        """Return the noise as a standard deviation, or as a function of the signal if it is one."""
        import torch

        from restore.metrics.noise import estimate_signal_noise

        where = None if self.visible is None else self.visible[0, 0]
        signal = estimate_signal_noise(image[0], where)
        black, white = signal.std(torch.tensor([0.1, 0.9])).tolist()
        mean = float(signal.std(image.mean()))
        depends = white > _DEPENDS * black
        return signal if depends and level / _AGREES < mean < level * _AGREES else level
