"""The task of deblurring with a known kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from restore.errors import BadArgument, of_option
from restore.tasks.kind import Kind
from restore.tasks.option import NOISE_OPTION, Noise, Option
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from operators import Degradation
    from restore.diffusion.denoiser import Condition
    from restore.tasks.problem import Kernel, Operator, Problem

BLURS = ("gaussian:2", "motion:15:30", "disk:3", "box:5", "shake:15", "file:kernel.png")
BOUNDARIES = ("unknown", "symmetric", "mirror", "replicate", "circular", "zero")


def _matches(operator: Operator) -> bool:
    """Return True for a convolution, or rows and columns mixed without a change of size."""
    from operators import (
        AlongAxes,
        CircularConvolution,
        PaddedConvolution,
        SymmetricConvolution,
        ValidConvolution,
    )

    convolutions = (CircularConvolution, SymmetricConvolution, PaddedConvolution, ValidConvolution)
    if isinstance(operator, convolutions):
        return operator.input_shape[0] == operator.output_shape[0] == 3
    if not isinstance(operator, AlongAxes):
        return False

    channel, height, width = operator.matrices
    mixes = not (height is None and width is None)
    return channel is None and mixes and operator.output_shape == operator.input_shape


def _condition(operator: Operator, measurement: Tensor) -> Condition | None:
    from restore.tasks.problem import shown_blurred

    return shown_blurred(operator, measurement)


BLURRED = Kind(
    "deblur",
    method="diffpir",
    sampler="ddrm",
    unconditional="diffpir",
    matches=_matches,
    condition=_condition,
    estimates_noise=True,
    rounding_is_noise=True,
    is_blurred=True,
    predicted=True,
)


@dataclass(frozen=True)
class Deblurring(Task):
    """Undo a blur of known kernel, followed by noise."""

    name: ClassVar[str] = "deblur"
    title: ClassVar[str] = "Deblurring"
    about: ClassVar[str] = "Deblurring: undo a blur of known kernel."
    kind: ClassVar[Kind] = BLURRED
    added_noise: ClassVar[float] = 0.01

    kernel: Annotated[
        Kernel,
        Option(
            "Blur kernel: gaussian:SIGMA, motion:LENGTH:ANGLE, disk:RADIUS, box:N or file:PATH, in "
            "pixels (see restore operators).",
            BLURS,
            str,
            required=True,
            evaluated="Kernel for deblur: gaussian:SIGMA, …. Default: gaussian:2.",
        ),
    ] = "gaussian:2"
    noise: Annotated[Noise, NOISE_OPTION] = field(default="auto", kw_only=True)
    boundary: Annotated[
        str,
        Option(
            "Boundary: unknown, as in every photograph, symmetric, mirror, replicate, circular or "
            "zero.",
            BOUNDARIES,
            evaluated="Boundary for deblur: what lies beyond the border. Default: unknown.",
        ),
    ] = field(default="unknown", kw_only=True)

    @property
    def rounded(self) -> list[float]:
        return [one.in_band for one in self.rounding]

    def check(self) -> None:
        super().check()
        if isinstance(self.kernel, str):
            with of_option("kernel"):
                self._blur(self.kernel)
        if self.boundary not in BOUNDARIES:
            raise BadArgument(f"`boundary`={self.boundary}: unknown; use {', '.join(BOUNDARIES)}")

    @property
    def files(self) -> list[Path]:
        return self._blur(self.kernel).files if isinstance(self.kernel, str) else []

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, H, W] in [0, 1] was blurred."""
        import operators
        from restore.tasks.problem import (
            QUANTISATION_NOISE,
            Problem,
            measurement_noise,
            shown_blurred,
        )

        self.check()
        shape = (3, *image.shape[-2:])
        written = ""
        with of_option("kernel"):
            if isinstance(self.kernel, str):
                degradation = self._blur(self.kernel)
                operator = degradation.operator_for(shape)
                written = str(degradation)
            else:
                taps = operators.kernels.from_array(self.kernel)
                operator = operators.convolution(shape, taps, self.boundary)

        operator = operator.to(device)
        image = image.to(device)
        return Problem(
            self.name,
            self.kind,
            operator,
            image,
            measurement_noise(self.noise, image, QUANTISATION_NOISE, self.rounded),
            shown_blurred(operator, image),
            written=written,
            remedy="`boundary`=unknown or circular, whatever the kernel",
        )

    def _blur(self, kernel: str) -> Degradation:
        """Parse ``gaussian:2`` as a degradation; a boundary in the text takes precedence.

        Raises:
            ValueError: the text is no blur kernel, or more than one.
        """
        import operators

        parts = operators.parse(f"blur:{kernel}").parts
        if len(parts) > 1:
            raise ValueError(
                f"{kernel!r} is more than a blur kernel; restore solve --operator takes several "
                "parts"
            )

        return operators.Degradation((parts[0].unless_given("boundary", self.boundary),))

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        degradation = self._blur(str(self.kernel))
        with of_option("kernel"):
            return degradation.operator(shape), str(degradation)

    @property
    def degradation_title(self) -> str:
        return f"{self.kernel}, border {self.boundary}"
