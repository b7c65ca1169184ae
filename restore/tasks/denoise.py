"""The task of denoising."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from restore.errors import BadArgument
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.kind import Kind
from restore.tasks.option import JPEG_OPTION, SIGNAL_NOISE_OPTION, Noise
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.diffusion.denoiser import Condition
    from restore.tasks.problem import Operator, Problem


def _matches(operator: Operator) -> bool:
    """Return True for the identity."""
    from operators import AxesOperator

    return isinstance(operator, AxesOperator) and all(m is None for m in operator.matrices)


def _condition(operator: Operator, measurement: Tensor) -> Condition | None:
    from restore.tasks.problem import shown_blurred

    return shown_blurred(operator, measurement)


NOISY = Kind(
    "denoise",
    method="one-step",
    sampler="ddrm",
    unconditional="one-step",
    fast="one-step",
    sharpest="ddrm",
    etas=(0.6, 0.6),
    fast_steps=1,
    matches=_matches,
    condition=_condition,
    estimates_noise=True,
    rounding_is_noise=True,
    is_noisy_picture=True,
    predicted=True,
)


@dataclass(frozen=True)
class Denoising(Task):
    """Remove white Gaussian noise, of one level or one that depends on the signal."""

    name: ClassVar[str] = "denoise"
    title: ClassVar[str] = "Denoising"
    about: ClassVar[str] = "Denoising: remove white noise, also where it depends on the signal."
    kind: ClassVar[Kind] = NOISY
    takes_signal_noise: ClassVar[bool] = True
    uses_file: ClassVar[bool] = True
    added_noise: ClassVar[float] = 25 / 255

    noise: Annotated[Noise, SIGNAL_NOISE_OPTION] = "auto"
    jpeg: Annotated[str | None, JPEG_OPTION] = field(default=None, kw_only=True)

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, H, W] in [0, 1] has white Gaussian noise.

        Raises:
            BadArgument: a noise level of 0, which would leave nothing to do.
        """
        import operators
        from restore.tasks.noise import measured_noise
        from restore.tasks.problem import QUANTISATION_NOISE, Problem, all_known

        image = image.to(device)
        operator = operators.identity((3, *image.shape[-2:])).to(device)
        noise = measured_noise(self.noise, image, rounded=self.rounded)
        if self.noise != "auto" and not bool(noise.level.all()):
            raise BadArgument(
                "`noise`=0: denoising needs the noise's standard deviation, above 0, or auto"
            )

        noise = noise.at_least(QUANTISATION_NOISE)
        return Problem(
            self.name,
            self.kind,
            operator,
            image,
            noise.level,
            all_known(image),
            written="identity",
            noise_map=noise.map,
            signal_noise=noise.signal,
        )

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        import operators

        return operators.identity(shape), "identity"

    @property
    def degradation_title(self) -> str:
        if isinstance(self.noise, SignalNoise):
            return f"variance {self.noise.a:g} x + {self.noise.b:g}"
        return f"σ = {255 * float(self.noise):.3g} of 255"  # type: ignore[arg-type]
