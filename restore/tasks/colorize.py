"""The task of colourising."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from restore.tasks.kind import Kind
from restore.tasks.option import NOISE_OPTION, Noise
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.diffusion.denoiser import Condition
    from restore.tasks.problem import Operator, Problem


def _matches(operator: Operator) -> bool:
    """Return True if one channel is made of three, everywhere or where a mask is open."""
    from operators import AxesOperator, MaskedColor

    if isinstance(operator, MaskedColor):
        return _is_grey(operator.matrix)
    if not isinstance(operator, AxesOperator):
        return False

    channel, height, width = operator.matrices
    return channel is not None and height is None and width is None and _is_grey(channel)


def _is_grey(matrix: Any) -> bool:
    """Return True if a colour matrix makes one channel and keeps grey unchanged."""
    return matrix.shape[0] == 1 and abs(float(matrix.sum()) - 1) < 1e-3


def _condition(operator: Operator, measurement: Tensor) -> Condition:
    from restore.tasks.problem import shown_grey

    return shown_grey(operator, measurement)


GREYED = Kind(
    "colorize",
    method="one-step",
    sampler="sr3",
    unconditional="ddrm",
    fast="one-step",
    fast_steps=1,
    matches=_matches,
    condition=_condition,
    predicted=True,
)


@dataclass(frozen=True)
class Colorization(Task):
    """Colour a greyscale picture; the result has three channels."""

    name: ClassVar[str] = "colorize"
    title: ClassVar[str] = "Colourising"
    about: ClassVar[str] = "Colourising: add colours to a greyscale picture."
    kind: ClassVar[Kind] = GREYED

    noise: Annotated[Noise, NOISE_OPTION] = field(default=0.0, kw_only=True)

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that the colours of ``image`` [B, 3 or 1, H, W] in [0, 1] are unknown.

        The luma (ITU-R BT.601) of a colour picture is used.
        """
        import operators
        from restore.tasks.problem import Problem, measurement_noise, shown_grey

        image = image.to(device)
        operator = operators.gray((3, *image.shape[-2:])).to(device)
        grey = operator.A(image) if image.shape[1] == 3 else image
        return Problem(
            self.name,
            self.kind,
            operator,
            grey,
            measurement_noise(self.noise, grey, rounded=self.rounded),
            shown_grey(operator, grey),
            written="gray",
        )

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        import operators

        return operators.gray(shape), "gray"

    @property
    def degradation_title(self) -> str:
        return "grey by BT.601"
