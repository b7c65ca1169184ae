"""The task of removing the artefacts of JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from restore.errors import BadArgument
from restore.tasks.kind import Kind
from restore.tasks.option import Option
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.photo.stored import StoredJpeg
    from restore.tasks.problem import Operator, Problem

SUBSAMPLINGS = ("4:2:0", "4:4:4")

# Quality of the test images of evaluations.
TESTED_QUALITY = 20


def _matches(operator: Operator) -> bool:
    """Return True for JPEG and quantisation alone."""
    from operators import NonlinearChain

    return isinstance(operator, NonlinearChain) and operator.linear is None


COMPRESSED = Kind(
    "compressed",
    method="dpir",
    sampler="diffpir",
    unconditional="dpir",
    fast="dpir",
    sharpest="diffpir",
    mean_weights=(0.0, 0.0),
    etas=(0.5, 1.0),
    matches=_matches,
    is_linear=False,
)


@dataclass(frozen=True)
class Dejpeg(Task):
    """Find the picture that was saved as a JPEG.

    The quantisation tables of the file say in which interval every DCT coefficient of the original
    lay. The result has its coefficients in these intervals: saved with the tables of the file, it
    gives the file again.
    """

    name: ClassVar[str] = "dejpeg"
    title: ClassVar[str] = "JPEG restoration"
    about: ClassVar[str] = "JPEG restoration: remove blocks and ringing, within what the file says."
    kind: ClassVar[Kind] = COMPRESSED
    estimates_noise: ClassVar[bool] = False
    uses_file: ClassVar[bool] = True

    saved_quality: Annotated[
        int | None,
        Option(
            "Quality, 1 to 100, that IN was saved with, if it is no JPEG any more, but neither "
            "resized nor cropped. Default: that of IN.",
            evaluated=f"Quality for dejpeg, 1 to 100. Default: {TESTED_QUALITY}.",
        ),
    ] = field(default=None, kw_only=True)
    subsampling: Annotated[
        str | None,
        Option(
            "Chroma subsampling beside a quality: 4:2:0 or 4:4:4.",
            SUBSAMPLINGS,
            evaluated="Chroma subsampling for dejpeg: 4:2:0 or 4:4:4. Default: 4:2:0.",
            implied=SUBSAMPLINGS[0],
        ),
    ] = field(default=None, kw_only=True)

    def check(self) -> None:
        super().check()
        if self.saved_quality is not None and not 1 <= self.saved_quality <= 100:
            raise BadArgument(
                f"`saved_quality`={self.saved_quality}: must be a whole number from 1 to 100"
            )
        if self.subsampling not in (None, *SUBSAMPLINGS):
            raise BadArgument(
                f"`subsampling`={self.subsampling}: unknown; use {', '.join(SUBSAMPLINGS)}"
            )
        if self.subsampling is not None and self.saved_quality is None:
            raise BadArgument("`subsampling`: is for `saved_quality`; a JPEG file says its own")

    def check_clip(self) -> None:
        raise BadArgument(
            "dejpeg: is for JPEG files, whose tables say how each was rounded, and not for clips; "
            "frames of Motion JPEG are JPEG files: `ffmpeg -i CLIP -codec:v copy %06d.jpg` makes "
            "a folder of them, and restore denoise takes clips of any codec"
        )

    def of_test_images(self) -> Self:
        quality = TESTED_QUALITY if self.saved_quality is None else self.saved_quality
        return replace(self, saved_quality=quality)

    @property
    def reads_file(self) -> bool:
        return self.saved_quality is None

    def check_file(self, stored: StoredJpeg | None) -> None:
        if self.saved_quality is None and stored is None:
            raise BadArgument(
                "`saved_quality` is missing: the input is no JPEG file whose coefficients can be "
                "read, or it was changed, or loaded from memory, since; give the quality that it "
                "was saved with"
            )

    @property
    def one_by_one(self) -> bool:
        return self._inks is not None

    @property
    def _inks(self) -> StoredJpeg | None:
        """The file of a picture in CMYK, if it is of use."""
        stored = self.stored[0] if self.reads_file and len(self.stored) == 1 else None
        return stored if stored is not None and stored.is_ink else None

    def apart(self, color: Tensor) -> Iterator[tuple[Self, Tensor]]:
        """Yield the three colours of inks, and the black one; their file has the pixels."""
        if self._inks is None:
            yield from super().apart(color)
            return
        for part in self._inks.parted():
            yield replace(self, stored=(part,)), color

    def together(self, solutions: Tensor) -> Tensor:
        """Make sRGB of the two solutions of a file in CMYK."""
        from restore.tasks.compression import picture_of_inks

        return solutions if self._inks is None else picture_of_inks(solutions, self._inks)

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, H, W] in [0, 1] was saved as a JPEG.

        Without a quality the file says how, see `restore.tasks.compression.stated`.

        Raises:
            BadArgument: the file is no JPEG, and no quality is given.
        """
        import operators
        from restore.tasks.problem import Problem

        self.check()
        self.check_file(next(iter(self.stored), None))
        image = image.to(device)
        shape = (3, image.shape[-2], image.shape[-1])
        operator: Operator = operators.identity(shape)
        written = "identity"
        if self.saved_quality is not None:
            operator, written = self.degradation(shape)

        exact = image.new_zeros(len(image))
        return Problem(
            self.name, self.kind, operator.to(device), image, exact, None, written=written
        )

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        import operators

        quality = TESTED_QUALITY if self.saved_quality is None else self.saved_quality
        chroma = (self.subsampling or SUBSAMPLINGS[0]).replace(":", "")
        written = f"jpeg:{quality}:{chroma}"
        return operators.parse(written).operator(shape), written

    @property
    def degradation_title(self) -> str:
        return (
            f"quality {self.saved_quality or TESTED_QUALITY}, {self.subsampling or SUBSAMPLINGS[0]}"
        )
