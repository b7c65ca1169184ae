"""The task of deblurring, with a known kernel or an estimated one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from restore.errors import BadArgument, of_option
from restore.tasks.kind import Kind
from restore.tasks.option import JPEG_OPTION, SIGNAL_NOISE_OPTION, Noise, Option
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from operators import Degradation
    from restore.diffusion.denoiser import Condition
    from restore.tasks.problem import Kernel, Operator, Problem

# Kernels that are estimated from the picture: one of three shapes, or of any form as well.
AUTO = "auto"
AUTO_FREE = "auto:free-form"

BLURS = ("gaussian:2", "motion:15:30", "disk:3", "box:5", "shake:15", "file:kernel.png")
BOUNDARIES = ("unknown", "symmetric", "mirror", "replicate", "circular", "zero")


# A kernel of one pixel.
NO_BLUR = "box:1"

# Options of the estimation, for a kernel that is known.
_NOT_ESTIMATED: dict[str, Any] = {"kernel_size": None, "write_kernel": False}


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
    method="ddrm",
    sampler="ddrm",
    unconditional="ddrm",
    matches=_matches,
    condition=_condition,
    estimates_noise=True,
    rounding_is_noise=True,
    fast="ddrm",
    sharpest="ddrm",
    mean_weights=(0.0, 0.0),
    etas=(0.75, 0.9),
    is_blurred=True,
    predicted=True,
)


# Gain that motion and shake leave some frequency above `FINE`, in cycles per pixel, across their
# path. Disks, boxes and Gaussians from 1 px leave 0.3 at most (docs/methods.md).
KEPT = 0.6
FINE = 0.25


def _matches_motion(operator: Operator) -> bool:
    """Return True for blurs with an unknown border that keep detail in some direction."""
    import numpy as np

    from operators import ValidConvolution

    if not (isinstance(operator, ValidConvolution) and _matches(operator)):
        return False

    size = [max(128, side) for side in operator.kernel.shape[-2:]]
    gains = np.abs(np.fft.fft2(operator.kernel, s=size))
    rows, columns = (np.fft.fftfreq(side) for side in size)
    fine = np.hypot(rows[:, None], columns) > FINE

    return bool((gains[..., fine].max(axis=-1) >= KEPT).all())


MOVED = replace(
    BLURRED, title="motion and shake", matches=_matches_motion, method="dpir", fast="dpir"
)


@dataclass(frozen=True)
class Deblurring(Task):
    """Undo a blur, followed by noise."""

    name: ClassVar[str] = "deblur"
    title: ClassVar[str] = "Deblurring"
    about: ClassVar[str] = "Deblurring: undo a blur of known or unknown kernel."
    kind: ClassVar[Kind] = BLURRED
    takes_signal_noise: ClassVar[bool] = True
    uses_file: ClassVar[bool] = True
    added_noise: ClassVar[float] = 0.01

    kernel: Annotated[
        Kernel,
        Option(
            "Blur kernel: gaussian:SIGMA, motion:LENGTH:ANGLE, disk:RADIUS, box:N or file:PATH, in "
            "pixels (see restore operators); or auto, estimated from IN as a Gaussian, disk or "
            "straight motion; auto:free-form also estimates kernels of any form, less reliably.",
            (AUTO, AUTO_FREE, *BLURS),
            str,
            required=True,
            evaluated="Kernel for deblur: gaussian:SIGMA, …. Default: gaussian:2.",
        ),
    ] = "gaussian:2"
    noise: Annotated[Noise, SIGNAL_NOISE_OPTION] = field(default="auto", kw_only=True)
    jpeg: Annotated[str | None, JPEG_OPTION] = field(default=None, kw_only=True)
    boundary: Annotated[
        str,
        Option(
            "Boundary: unknown, as in every photograph, symmetric, mirror, replicate, circular or "
            "zero.",
            BOUNDARIES,
            evaluated="Boundary for deblur: what lies beyond the border. Default: unknown.",
        ),
    ] = field(default="unknown", kw_only=True)
    kernel_size: Annotated[
        int | None,
        Option(
            "Largest side of the kernel that auto estimates, in pixels. Default: 31.", implied=31
        ),
    ] = field(default=None, kw_only=True)
    write_kernel: Annotated[
        bool, Option("Also write the kernel that auto estimates, to OUT.kernel.npy.")
    ] = field(default=False, kw_only=True)

    @property
    def rounded(self) -> list[float]:
        return [one.in_band for one in self.rounding]

    def check(self) -> None:
        super().check()
        if self.estimates_kernel:
            self._check_estimation()
        elif self.kernel_size is not None or self.write_kernel:
            name = "kernel_size" if self.kernel_size is not None else "write_kernel"
            raise BadArgument(f"`{name}`: is for `kernel`=auto, which estimates the kernel")
        elif isinstance(self.kernel, str) and self.kernel.startswith(f"{AUTO}:"):
            raise BadArgument(
                f"`kernel`={self.kernel}: is not estimated; there are {AUTO}, a Gaussian, disk or "
                f"straight motion, and {AUTO_FREE}, any form"
            )
        elif isinstance(self.kernel, str):
            with of_option("kernel"):
                self._blur(self.kernel)
        if self.boundary not in BOUNDARIES:
            raise BadArgument(f"`boundary`={self.boundary}: unknown; use {', '.join(BOUNDARIES)}")

    def _check_estimation(self) -> None:
        from restore.blind.estimate import LEAST_SIZE, MOST_SIZE

        size = self.kernel_size
        if size is not None and not LEAST_SIZE <= size <= MOST_SIZE:
            raise BadArgument(
                f"`kernel_size`={size}: must be between {LEAST_SIZE} and {MOST_SIZE} pixels"
            )

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        return BLURRED, MOVED

    @classmethod
    def kind_of(cls, operator: Operator) -> Kind:
        return MOVED if MOVED.matches(operator) else BLURRED

    @property
    def estimates_kernel(self) -> bool:
        return isinstance(self.kernel, str) and self.kernel in (AUTO, AUTO_FREE)

    @property
    def writes_kernel(self) -> bool:
        return self.write_kernel

    @property
    def files(self) -> list[Path]:
        if self.estimates_kernel or not isinstance(self.kernel, str):
            return []
        return self._blur(self.kernel).files

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, H, W] in [0, 1] was blurred."""
        import operators
        from restore.tasks.noise import measured_noise
        from restore.tasks.problem import QUANTISATION_NOISE, Problem, shown_blurred

        self.check()
        if self.estimates_kernel:
            return self._estimated_problem(image, device)

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
        noise = measured_noise(self.noise, image, QUANTISATION_NOISE, self.rounded)
        return Problem(
            self.name,
            self.kind_of(operator),
            operator,
            image,
            noise.level,
            shown_blurred(operator, image),
            written=written,
            remedy="`boundary`=circular (ddrm and ddnm take unknown as well), whatever the kernel",
            noise_map=noise.map,
            signal_noise=noise.signal,
        )

    def _estimated_problem(self, image: Tensor, device: torch.device | str) -> Problem:
        """State that ``image`` [1, 3, H, W] was blurred by the kernel that is found in it.

        Without a kernel the problem is answered by the picture itself.
        """
        from restore.blind.estimate import DEFAULT_SIZE, FREE, estimate_kernel
        from restore.tasks.noise import measured_noise
        from restore.tasks.problem import QUANTISATION_NOISE

        if len(image) != 1:
            raise ValueError("kernels are estimated for one picture at a time")

        noise = measured_noise(self.noise, image, QUANTISATION_NOISE, self.rounded)
        level = max(float(noise.level), QUANTISATION_NOISE)
        size = DEFAULT_SIZE if self.kernel_size is None else self.kernel_size
        estimate = estimate_kernel(image[0].cpu().numpy(), level, size, self.kernel == AUTO_FREE)

        kernel: Kernel = NO_BLUR
        if estimate.kernel is not None and estimate.applied:
            kernel = estimate.kernel if estimate.is_free else estimate.finding.kernel
        found = noise.signal or noise.level.tolist()
        known = replace(self, kernel=kernel, noise=found, **_NOT_ESTIMATED)
        problem = known.problem(image, device)
        if estimate.applied:
            written = f"{FREE} blur" if estimate.is_free else problem.written
            return replace(problem, estimate=estimate, written=written)

        original = image.to(device)
        keep = original.new_ones(1, 1, *original.shape[-2:])
        return replace(problem, estimate=estimate, keep=keep, original=original, written="no blur")

    def _blur(self, kernel: str) -> Degradation:
        """Parse ``gaussian:2`` as a degradation; a boundary in the text takes precedence.

        Raises:
            ValueError: the text is no blur kernel, or more than one.
        """
        import operators
        from operators.grammar import brief

        parts = operators.parse(f"blur:{kernel}").parts
        if len(parts) > 1:
            raise ValueError(
                f"{brief(kernel)!r} is more than a blur kernel; restore solve --operator takes "
                "several parts"
            )

        return operators.Degradation((parts[0].unless_given("boundary", self.boundary),))

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        if self.estimates_kernel:
            raise BadArgument(
                "`kernel`=auto: does not say how test images are blurred; give the kernel"
            )
        degradation = self._blur(str(self.kernel))
        with of_option("kernel"):
            return degradation.operator(shape), str(degradation)

    @property
    def degradation_title(self) -> str:
        return f"{self.kernel}, border {self.boundary}"
