"""The task of super-resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from restore.errors import BadArgument
from restore.tasks.cascade import Cascade, Factors, read_cascade
from restore.tasks.enlargement import DEFAULT_SCALE, Enlargement
from restore.tasks.kind import Kind
from restore.tasks.option import JPEG_OPTION, NOISE_OPTION, Noise, Option
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore.diffusion.denoiser import Condition
    from restore.tasks.problem import Operator, Problem

KERNELS = ("bicubic", "area", "lanczos")


def _matches(operator: Operator) -> bool:
    """Return True for a change of size that keeps the colours."""
    from operators import AlongAxes

    if not isinstance(operator, AlongAxes):
        return False

    channel, height, width = operator.matrices
    resized = operator.input_shape != operator.output_shape
    colours = operator.input_shape[0] == operator.output_shape[0] == 3
    return channel is None and not (height is None and width is None) and resized and colours


def _condition(operator: Operator, measurement: Tensor) -> Condition:
    """Return the low-resolution pictures, enlarged bicubically."""
    from torch.nn.functional import interpolate

    from restore.tasks.problem import all_known

    size = operator.input_shape[1:]
    return all_known(interpolate(measurement, size=size, mode="bicubic", align_corners=False))


ENLARGING = Kind(
    "sr",
    method="ddrm",
    sampler="daps",
    unconditional="ddrm",
    matches=_matches,
    condition=_condition,
    estimates_noise=True,
    fast="ddrm",
    sharpest="ddrm",
    mean_weights=(0.0, 0.0),
    etas=(0.75, 1.0),
    enlarges=True,
    predicted=True,
    needs_prior=False,
)


# Factor from which the predictor and SR3 are better than DDRM: at 3 they are not, at 4 and 8 they
# are (docs/methods.md).
FAR = 3.5


def _matches_far(operator: Operator) -> bool:
    """Return True for an enlargement by `FAR` or more."""
    pixels = math.prod(operator.input_shape[1:]) / math.prod(operator.output_shape[1:])
    return _matches(operator) and pixels >= FAR**2


ENLARGING_FAR = replace(
    ENLARGING,
    title=f"factors from {FAR}",
    matches=_matches_far,
    predicted_method="sr3",
    sharpest="sr3",
    mean_weights=(0.0, 0.5),
    etas=None,
    fast="sr3",
    fast_steps=5,
)


@dataclass(frozen=True)
class SuperResolution(Task):
    """Enlarge a picture that was downsampled by a kernel.

    The operator is the downsampling from the size of the result to that of the input, also where
    that size is given in pixels: it is reached exactly, and the result is not resized.

    >>> SuperResolution(2).result_size((48, 64)), SuperResolution(width=100).result_size((48, 64))
    ((96, 128), (75, 100))
    """

    name: ClassVar[str] = "sr"
    title: ClassVar[str] = "Super-resolution"
    about: ClassVar[str] = "Super-resolution: enlarge a picture and restore its detail."
    kind: ClassVar[Kind] = ENLARGING
    uses_file: ClassVar[bool] = True

    scale: Annotated[
        float | None,
        Option(
            "Scale factor, above 1 and up to 16; fractions are allowed. Default: 4.",
            evaluated="Scale factor for sr, above 1 and up to 16. Default: 4.",
            implied=DEFAULT_SCALE,
        ),
    ] = None
    width: Annotated[
        int | None,
        Option("Width of the result in pixels instead of a scale; its shape is that of IN."),
    ] = field(default=None, kw_only=True)
    height: Annotated[
        int | None,
        Option("Height of the result in pixels; with a width, the largest size within both."),
    ] = field(default=None, kw_only=True)
    megapixels: Annotated[
        float | None, Option("Size of the result in millions of pixels instead of a scale.")
    ] = field(default=None, kw_only=True)
    noise: Annotated[Noise, NOISE_OPTION] = field(default=0.0, kw_only=True)
    jpeg: Annotated[str | None, JPEG_OPTION] = field(default=None, kw_only=True)
    kernel: Annotated[
        str,
        Option(
            "Downsampling kernel of IN, antialiased: bicubic, area or lanczos.",
            KERNELS,
            evaluated="Kernel for sr: bicubic, area or lanczos. Default: bicubic.",
        ),
    ] = field(default="bicubic", kw_only=True)
    cascade: Annotated[
        Factors | None,
        Option(
            "Enlarge in stages by these factors, such as 4x4; auto takes factors up to 4.",
            ("auto", "2x2", "4x2", "4x4"),
            str,
        ),
    ] = field(default=None, kw_only=True)
    cascade_noise: Annotated[
        float | None,
        Option(
            "Standard deviation of the noise between two stages, for pixels in [0, 1]. Default: "
            "the method's."
        ),
    ] = field(default=None, kw_only=True)
    # (width, height) of the result if it is not the size of the input times the scale, rounded
    size: tuple[int, int] | None = field(default=None, kw_only=True)

    def check(self) -> None:
        super().check()
        self.enlargement.check()
        if self.cascade is not None and self.enlargement.in_pixels:
            raise BadArgument(
                f"`cascade` and {self.enlargement.asked}: its factors make a scale; give `scale`"
            )
        if self.kernel not in KERNELS:
            raise BadArgument(f"`kernel`={self.kernel}: unknown; use {', '.join(KERNELS)}")

        read_cascade(self.factor, self.cascade, self.cascade_noise)

    @property
    def enlargement(self) -> Enlargement:
        """The options that decide the size of the result."""
        return Enlargement(self.scale, self.width, self.height, self.megapixels)

    @property
    def factor(self) -> float:
        """The scale if no size in pixels is given."""
        return self.enlargement.factor

    @property
    def cascade_stages(self) -> Cascade | None:
        return read_cascade(self.factor, self.cascade, self.cascade_noise)

    def given(self) -> dict[str, Any]:
        """Return the options that have a value, and the scale where it has its default."""
        default = {} if self.enlargement.in_pixels else {"scale": self.factor}
        return default | super().given()

    def result_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.size is not None:
            return self.size[1], self.size[0]
        return self.enlargement.size(size)

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        return ENLARGING, ENLARGING_FAR

    @classmethod
    def kind_of(cls, operator: Operator) -> Kind:
        return ENLARGING_FAR if ENLARGING_FAR.matches(operator) else ENLARGING

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, h, w] in [0, 1] is a downsampled larger picture."""
        import operators
        from restore.tasks.problem import MAX_OUTPUT_PIXELS, Problem, measurement_noise

        self.check()
        height, width = image.shape[-2:]
        size = self.result_size((height, width))
        if math.prod(size) > MAX_OUTPUT_PIXELS:
            raise BadArgument(
                f"{self.enlargement.asked}: too large for a picture of {width}x{height} pixels; "
                f"the result would have {math.prod(size) / 1e6:.0f} million pixels, at most "
                f"{MAX_OUTPUT_PIXELS / 1e6:.0f} million are allowed"
            )

        operator = operators.downsample((3, *size), size=(height, width), kernel=self.kernel)
        operator = operator.to(device)
        image = image.to(device)
        return Problem(
            self.name,
            self.kind_of(operator),
            operator,
            image,
            measurement_noise(self.noise, image, rounded=self.rounded),
            _condition(operator, image),
            written=f"down:{self.kernel}:{self.enlargement.text((height, width))}",
            remedy="" if operator.has_svd else "a picture whose sides are less unequal",
        )

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        """Downsample to the size that `problem` enlarges back to this one."""
        import operators

        small = (self.reduced(shape[1]), self.reduced(shape[2]))
        operator = operators.downsample(shape, size=small, kernel=self.kernel)
        return operator, f"down:{self.kernel}:{self.factor:.12g}"

    def reduced(self, side: int) -> int:
        """Return the largest side whose enlargement is at most this one."""
        candidates = range(int(side / self.factor) + 1, 0, -1)
        return next((n for n in candidates if round(n * self.factor) <= side), 0)

    @property
    def degradation_title(self) -> str:
        return f"×{self.factor:g}, {self.kernel}"
