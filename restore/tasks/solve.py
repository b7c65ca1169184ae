"""The task of solving any inverse problem: a measurement and its operator."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from restore.errors import BadArgument, of_option
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.colorize import GREYED
from restore.tasks.deblur import BLURRED, MOVED
from restore.tasks.dejpeg import COMPRESSED
from restore.tasks.denoise import NOISY
from restore.tasks.develop import MOSAICKED
from restore.tasks.inpaint import FILLING, NARROW_HOLES, known_pixels
from restore.tasks.kind import Kind
from restore.tasks.option import (
    AUTO,
    AUTO_SIGNAL,
    JPEG_OPTION,
    Noise,
    Option,
    parse_noise,
    parse_size,
)
from restore.tasks.sr import ENLARGING, ENLARGING_FAR
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from operators import Degradation
    from restore.photo.pictures import Opened, Picture
    from restore.tasks.noise import MeasuredNoise
    from restore.tasks.problem import Operator, Problem

OTHER = Kind(
    "solve",
    method="diffpir",
    sampler="diffpir",
    unconditional="diffpir",
    matches=lambda operator: True,
)

# In the order in which they are tried, since a masked colour operator resembles two kinds.
RESEMBLED = (
    *(COMPRESSED, GREYED, NARROW_HOLES, FILLING, NOISY, MOVED, BLURRED),
    *(ENLARGING_FAR, ENLARGING, MOSAICKED, OTHER),
)


def resembled_kind(operator: Operator) -> Kind:
    """Return the kind of problem whose settings suit an operator."""
    if _is_nonlinear(operator) and operator.linear is not None:
        return OTHER
    return next(kind for kind in RESEMBLED if kind.matches(operator))


@dataclass(frozen=True)
class Solving(Task):
    """Restore the measurement of any operator.

    Noise of None is ``auto`` for blurs, 0 for well-conditioned operators (masks, downsampling,
    colours), and the quantisation noise of 8-bit pictures for the others.
    """

    name: ClassVar[str] = "solve"
    title: ClassVar[str] = "Solving"
    about: ClassVar[str] = (
        "Solve any inverse problem, from a picture or a measurement of restore degrade (.npz)."
    )
    kind: ClassVar[Kind] = OTHER
    uses_file: ClassVar[bool] = True
    takes_measurements: ClassVar[bool] = True
    estimates_noise: ClassVar[bool] = False
    takes_signal_noise: ClassVar[bool] = True

    operator: Annotated[
        str | Degradation | Operator | None,
        Option(
            "Degradation of IN, such as blur:gaussian:2+down:bicubic:4. Default: that of a .npz.",
            parse=str,
            evaluated="Degradation for solve, such as blur:gaussian:2+down:bicubic:4.",
        ),
    ] = None
    noise: Annotated[
        Noise | None,
        Option(
            "Standard deviation of the noise in IN, for pixels in [0, 1]; A:B for the variance "
            "A x + B of a value x; or auto, or auto:signal. Default: that of a .npz; else auto for "
            "blurs, 0 or quantisation noise for others.",
            (AUTO, AUTO_SIGNAL),
            parse_noise,
            float,
        ),
    ] = field(default=None, kw_only=True)
    jpeg: Annotated[str | None, JPEG_OPTION] = field(default=None, kw_only=True)
    size: Annotated[
        tuple[int, int] | None,
        Option(
            "Size of the result, WIDTHxHEIGHT, if IN does not tell it, as for hadamard.",
            parse=parse_size,
        ),
    ] = field(default=None, kw_only=True)

    @property
    def rounded(self) -> list[float]:
        return [one.in_band for one in self.rounding]

    def check(self) -> None:
        super().check()
        if isinstance(self.operator, str):
            with of_option("operator"):
                _parsed(self.operator)
        elif self.operator is not None and not hasattr(self.operator, "input_shape"):
            raise BadArgument(
                "`operator`: does not say its shapes; a NonlinearOperator gets them in a chain: "
                "give NonlinearChain([operator], (3, height, width))"
            )

    def missing_for(self, source: Path) -> str | None:
        measured = source.suffix.lower() == ".npz" or os.path.isdir(source)
        if self.operator is not None or measured:
            return None

        return (
            "`operator` is missing: how was IN made? (restore operators lists what can be written)"
        )

    @property
    def files(self) -> list[Path]:
        return _parsed(self.operator).files if isinstance(self.operator, str) else []

    @property
    def assumed_borders(self) -> list[str]:
        parts = _parsed(self.operator).parts if isinstance(self.operator, str) else ()
        blurs = (part for part in parts if part.word.name.startswith("blur:"))
        return [str(part) for part in blurs if not part.gives("boundary")]

    def completed(
        self, operator: str | None, noise: float | SignalNoise | None, size: tuple[int, int] | None
    ) -> Self:
        """Take the operator from the file if none is given; its noise holds for its operator alone.

        Raises:
            BadArgument: the operator is neither given nor in the file.
        """
        text = self.operator or operator
        if text is None:
            raise BadArgument(
                "`operator` is missing, and this file does not say how it was measured"
            )

        own = operator is None or _parsed(operator) == _parsed(text)
        known = noise if self.noise is None and own else self.noise
        return replace(self, operator=text, noise=known, size=self.size or size)

    def opened(self, picture: Picture) -> Opened:
        from restore.photo.pictures import open_measurement

        return open_measurement(picture, coefficients=self.reads_file)

    def result_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.size is not None and self.operator is not None:
            return self.size[1], self.size[0]
        if self.operator is None:
            return size

        with of_option("operator"):
            operator = _parsed(self.operator)
            if _is_written(operator):
                _, height, width = operator.input_shape((operator.measured_channels, *size))
            else:
                _, height, width = operator.input_shape

        return height, width

    @classmethod
    def kind_of(cls, operator: Operator) -> Kind:
        return resembled_kind(operator)

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that the operator made ``image`` [B, *operator.output_shape]: ``A x + noise``.

        Raises:
            BadArgument: an operator that cannot be read or does not fit the measurement.
        """
        from restore.tasks.problem import Problem

        self.check()
        if self.operator is None:
            raise BadArgument("`operator` is missing: how was the measurement made?")

        with of_option("operator"):
            wanted = _parsed(self.operator)

        measurement = _measured_channels(image, wanted)
        channels, height, width = measurement.shape[1:]
        operator = _moved(self._operator(wanted, (channels, height, width)), device)
        kind = self.kind_of(operator)
        measurement = measurement.to(device)
        noise = self._noise_of(measurement, operator, kind)
        keep = None
        original = None
        if kind.fills_holes:
            known = known_pixels(operator)
            measurement = measurement * known
            keep = known * (noise.level == 0).reshape(-1, 1, 1, 1)
            original = measurement

        return Problem(
            self.name,
            kind,
            operator,
            measurement,
            noise.level,
            None if kind.condition is None else kind.condition(operator, measurement),
            keep,
            original,
            str(wanted) if _is_written(wanted) else "",
            noise_map=noise.map,
            signal_noise=noise.signal,
        )

    def _noise_of(self, measurement: Tensor, operator: Operator, kind: Kind) -> MeasuredNoise:
        """Return the noise of a measurement on the device, as given, estimated or likely.

        Raises:
            BadArgument: it cannot be estimated for this kind of operator.
        """
        import torch

        from restore.tasks.noise import measured_noise
        from restore.tasks.problem import QUANTISATION_NOISE

        noise = _likely_noise(operator, kind) if self.noise is None else self.noise
        if isinstance(noise, str) and not kind.estimates_noise:
            raise BadArgument(
                f"`noise`={noise}: it is estimated in whole pictures, and holes, mosaics and "
                "artefacts would count as noise; give a number"
            )

        found = measured_noise(noise, measurement, QUANTISATION_NOISE, self.rounded, operator)
        if self.noise is not None or not self.rounded:
            return found

        level = found.level
        rounded = level.maximum(level.new_tensor(self.rounded))
        return found._replace(level=torch.where(level > 0, rounded, 0.0))

    def _operator(self, operator: Degradation | Operator, shape: tuple[int, int, int]) -> Operator:
        """Return the operator whose measurements have a shape.

        Raises:
            BadArgument: the shapes differ, or the operator does not take three channels.
        """
        import operators
        from restore.tasks.problem import check_pixels

        if isinstance(operator, operators.Degradation):
            with of_option("operator"):
                size = self.size
                picture = operator.input_shape(shape) if size is None else (3, size[1], size[0])
                check_pixels(picture)
                operator = operator.operator(picture)

        if isinstance(operator, operators.NonlinearChain) and not operator.ends_nonlinear:
            raise BadArgument(
                "`operator`: what goes on after quantise or jpeg can be made, but not undone; put "
                "them last"
            )
        if tuple(operator.output_shape) != shape:
            raise BadArgument(
                f"the measurement has the shape {_as_text(shape)}, but of pictures of "
                f"{_as_text(operator.input_shape)} the operator gives "
                f"{_as_text(operator.output_shape)} (channels x height x width)"
            )
        if operator.input_shape[0] != 3:
            raise BadArgument(
                f"the operator takes pictures of {operator.input_shape[0]} channels; the models "
                "know 3"
            )

        return operator

    def degradation(self, shape: tuple[int, int, int]) -> tuple[Operator, str]:
        with of_option("operator"):
            return _parsed(self.operator).operator(shape), str(self.operator)

    @property
    def degradation_title(self) -> str:
        return str(self.operator)


def _parsed(operator: Any) -> Any:
    import operators

    return operators.parse(operator) if isinstance(operator, str) else operator


def _is_written(operator: Any) -> bool:
    import operators

    return isinstance(operator, operators.Degradation)


def _is_nonlinear(operator: Any) -> bool:
    import operators

    return isinstance(operator, operators.NonlinearChain)


def _measured_channels(measurement: Tensor, operator: Any) -> Tensor:
    """Return one channel of a grey picture, read as three, if the operator measures one.

    Raises:
        BadArgument: the operator measures one, and the picture is in colour.
    """
    one = operator.measured_channels if _is_written(operator) else operator.output_shape[0]
    if measurement.shape[1] != 3 or one != 1:
        return measurement
    if not bool((measurement == measurement[:, :1]).all()):
        raise BadArgument(
            "`operator`: it measures one channel, and this picture is in colour; give a grey one"
        )

    return measurement[:, :1]


def _moved(operator: Operator, device: torch.device | str) -> Operator:
    """Return the operator on the device in single precision.

    An operator in another precision is copied first.
    """
    import torch

    other = any(b.is_floating_point() and b.dtype != torch.float32 for b in operator.buffers())
    return copy.deepcopy(operator).to(device, torch.float32) if other else operator.to(device)


def _likely_noise(operator: Operator, kind: Kind) -> Noise:
    """Return the noise to assume in a measurement in 8 bits if none was added."""
    from operators import BandedAxesOperator, SpectralOperator
    from restore.tasks.problem import QUANTISATION_NOISE

    if kind.rounding_is_noise:
        return "auto"
    if _is_nonlinear(operator):
        return 0.0
    if isinstance(operator, BandedAxesOperator):
        s = operator.typical_singular_values()
    elif isinstance(operator, SpectralOperator):
        s = operator.singular_values
    else:
        return QUANTISATION_NOISE

    return 0.0 if bool(s[s > 0].min() > 0.1 * s.max()) else QUANTISATION_NOISE


def _as_text(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
