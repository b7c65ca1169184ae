"""The inverse problem that a task states: operator, measurement and condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import JpegFile, LinearOperator, MaskedColor, NonlinearChain, ValidConvolution
from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import GREY, QUANTISATION_NOISE
from restore.errors import BadArgument
from restore.findings.finding import Finding
from restore.metrics.noise import estimate_noise
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.kind import Kind
from restore.tasks.option import Noise, check_noise

if TYPE_CHECKING:
    from restore.blind.estimate import Estimate
    from restore.blind.scratches import Scratches
    from restore.photo.pictures import Opened

__all__ = [
    "MAX_OUTPUT_PIXELS",
    "QUANTISATION_NOISE",
    "Kernel",
    "Operator",
    "Problem",
    "all_known",
    "check_pixels",
    "measurement_noise",
    "shown_blurred",
    "shown_grey",
]

MAX_OUTPUT_PIXELS = 200_000_000

Operator = LinearOperator | NonlinearChain
Kernel = str | NDArray[Any] | Tensor


@dataclass(frozen=True)
class Problem:
    """One or more pictures to restore, of equal size.

    Attributes:
        task: name of the task that states the problem.
        kind: kind of the problem, which decides the settings.
        operator: A; a nonlinear one takes pictures in [0, 1].
        measurement: y = A x + noise with x in [0, 1], float32 [B, *operator.output_shape].
        noise: standard deviation of each measurement's noise in [0, 1] units, float32 [B]; its mean
            where there is a map.
        condition: the degraded picture at full size in [-1, 1]; None if networks are not trained
            on this degradation.
        keep: [B or 1, 1 or 3, H, W] in [0, 1], the fraction of ``original`` in the result: 1 keeps
            it exactly.
        original: [B, 3, H, W] in [0, 1].
        written: the operator as text, see `operators.text`; the name of its class if it has none.
        remedy: advice for an error on how to get an operator with an SVD.
        estimate: the estimated kernel of a blur; None if it is known.
        noise_map: standard deviation of the noise of every value of the measurement, in the same
            units, [B, 1 or C', h, w]; None if it is that of ``noise`` everywhere.
        signal_noise: how the noise of each picture depends on the signal; empty if it does not, or
            if a map alone is known.
        file: the JPEG file that the measurement was saved as; None for others.
        saved: quality and chroma subsampling of that file in words.
        damage: the scratches that were found; None if they were not sought.
        findings: what was found out about a picture that was examined.
    """

    task: str
    kind: Kind
    operator: Operator
    measurement: Tensor
    noise: Tensor
    condition: Condition | None
    keep: Tensor | None = None
    original: Tensor | None = None
    written: str = ""
    remedy: str = ""
    estimate: Estimate | None = None
    noise_map: Tensor | None = None
    signal_noise: tuple[SignalNoise, ...] = ()
    file: JpegFile | None = None
    saved: str = ""
    damage: Scratches | None = None
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "written", self.written or type(self.operator).__name__)

    @property
    def is_answered(self) -> bool:
        """True if ``original`` is the result, because nothing was found that could be undone."""
        if self.findings and not any(one.treated for one in self.findings):
            return True
        found = (self.estimate, self.damage)
        return any(one is not None and not one.applied for one in found)

    def stays_grey(self, opened: Opened) -> bool:
        """Return True if the solution of a grey picture is grey.

        It is not where the operator mixes or loses colours: the colours are then what is sought.
        """
        operator = self.operator
        if operator.output_shape[0] != operator.input_shape[0]:
            return False

        if opened.gray:
            return True
        return bool(opened.equal.any()) and self._keeps_colours_apart

    @property
    def _keeps_colours_apart(self) -> bool:
        """True if red is measured in the first channel alone, as by every blur."""
        kind, operator = self.kind, self.operator
        linear = operator if isinstance(operator, LinearOperator) else operator.linear
        if kind.is_noisy_picture or kind.is_blurred or kind.enlarges or kind.fills_holes:
            return True
        if linear is None:
            return True

        red = self.measurement.new_zeros(len(self.measurement), *linear.input_shape)
        red[:, 0] = torch.rand(
            red[:, 0].shape, generator=torch.Generator().manual_seed(0), dtype=red.dtype
        ).to(red)
        return bool(linear.A(red)[:, 1:].abs().max() < 1e-5)

    @cached_property
    def model_operator(self) -> Operator:
        """A for pictures in [-1, 1]."""
        if isinstance(self.operator, LinearOperator):
            return self.operator
        return self.operator.between(-1.0, 1.0)

    @cached_property
    def model_measurement(self) -> Tensor:
        """The measurement of the picture in [-1, 1]: ``A (2x − 1) = 2y − A 1``."""
        operator = self.operator
        y = self.measurement
        if not isinstance(operator, LinearOperator):
            return 2 * y - 1

        return 2 * y - operator.A(y.new_ones(len(y), *operator.input_shape))


def measurement_noise(
    noise: Noise | Tensor, image: Tensor, least: float = 0.0, rounded: Sequence[float] = ()
) -> Tensor:
    """Return one noise level for each picture, [B] on the picture's device.

    Args:
        noise: a standard deviation for pixels in [0, 1], one for each picture, or ``auto``.
        image: [B, C, H, W] in [0, 1].
        least: lower bound of an estimate.
        rounded: lower bound of each picture's estimate; may be empty.

    Raises:
        BadArgument: a negative, infinite or too large number, or not one for each picture.
    """
    check_noise(noise)
    if isinstance(noise, str):
        estimates = image.new_tensor([estimate_noise(picture) for picture in image])
        return estimates.maximum(image.new_tensor(rounded or [0.0])).clamp_min(least)

    levels = torch.as_tensor(noise, dtype=torch.float32).flatten()
    if len(levels) not in (1, len(image)):
        raise BadArgument(
            f"`noise`: {len(levels)} noise levels for {len(image)} pictures: give one, or one for "
            "each"
        )

    return levels.expand(len(image)).to(image.device)


def check_pixels(shape: tuple[int, ...]) -> None:
    """Refuse a picture of too many pixels.

    Raises:
        BadArgument: more than `MAX_OUTPUT_PIXELS`.
    """
    if shape[-1] * shape[-2] > MAX_OUTPUT_PIXELS:
        raise BadArgument(
            f"a picture of {shape[-1]}x{shape[-2]} pixels is too large: at most "
            f"{MAX_OUTPUT_PIXELS / 1e6:.0f} million are allowed"
        )


def all_known(image: Tensor) -> Condition:
    """Return pictures [B, 3, H, W] in [0, 1] as a condition whose pixels are all known."""
    return Condition(2 * image - 1, torch.ones_like(image[:, :1]))


def shown_blurred(operator: Operator, image: Tensor) -> Condition | None:
    """Return blurred pictures as a condition, unknown beyond an unknown border.

    Returns:
        The condition at the size of the sharp pictures; None for a blur that changes the size.
    """
    if isinstance(operator, ValidConvolution):
        known = torch.ones_like(image[:, :1])
        return Condition(operator.embed(2 * image - 1), operator.embed(known))

    return all_known(image) if operator.input_shape == operator.output_shape else None


def shown_grey(operator: Operator, grey: Tensor) -> Condition:
    """Return grey pictures as a condition of three equal channels, unknown where masked."""
    known = torch.ones_like(grey)
    if isinstance(operator, MaskedColor):
        known = known * operator.known

    return Condition(((2 * grey - 1) * known).expand(-1, 3, -1, -1), GREY * known)
