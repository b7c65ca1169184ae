"""Degraded pictures for tests and benchmarks, which `restore solve` restores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

import operators
from operators import Degradation, LinearOperator, NonlinearChain, NonlinearOperator
from restore.diffusion.seeds import seed_of
from restore.errors import BadArgument, of_option
from restore.metrics.signal_noise import SignalNoise
from restore.photo.pictures import open_picture
from restore.precision import single_precision
from restore.tasks.option import number, parse_added_noise
from restore.tasks.problem import Operator

if TYPE_CHECKING:
    from restore.photo.pictures import Picture


# Stream of random numbers for the noise, apart from that of the solvers for the same seed.
_STREAM = 0x64656772

# What rounding, and resampling beside an edge, leave below black.
_TOLERANCE = 0.5


class Degraded(NamedTuple):
    """A degraded picture.

    Attributes:
        measurement: [B, *operator.output_shape], ``A x + noise`` for x in [0, 1]; neither clipped
            nor rounded.
        picture: the measurement, or its pseudo-inverse if it is not a picture, in the type of the
            input.
    """

    measurement: Tensor
    picture: Any


@single_precision()
def degrade(
    picture: Picture,
    operator: str | Degradation | Operator,
    *,
    noise: float | str | SignalNoise = 0.0,
    seed: int = 0,
) -> Degraded:
    """Degrade a picture.

    >>> image = torch.rand(1, 3, 16, 24)
    >>> degrade(image, "blur:gaussian:2+down:bicubic:4", noise=0.01).measurement.shape
    torch.Size([1, 3, 4, 6])

    Args:
        picture: a PIL image, array or tensor, see `restore.photo.pictures.open_picture`; grey ones
            get three equal channels.
        operator: text (see `operators.text`), or an operator for the picture's shape.
        noise: standard deviation of white Gaussian noise for pixels in [0, 1], added to the
            measurement, or before the first nonlinear part; or Poisson-Gaussian noise of the
            variance ``a x + b``, as `SignalNoise` or as text, ``"0.01:0.0004"``.
        seed: random seed for the noise; a solver with the same seed draws other numbers.

    Raises:
        BadArgument: an operator that cannot be read or does not fit the picture, an impossible
            noise level, or a negative seed.
    """
    if seed < 0:
        raise BadArgument(f"`seed`={seed}: must be 0 or more")
    noise = parse_added_noise(noise) if isinstance(noise, str) else noise
    if not isinstance(noise, SignalNoise):
        noise = _level(noise)

    opened = open_picture(picture)
    built = operator_of(operator, opened.color)
    generator = torch.Generator().manual_seed(seed_of(seed, _STREAM))

    with torch.no_grad():
        measurement = _measure(built, opened.color, noise, generator)
        if not bool(torch.isfinite(measurement).all()):
            raise BadArgument("`operator`: its measurement of this picture is not finite")
        shown = as_picture(measurement, built)

    alpha = opened.alpha
    if alpha is not None and alpha.shape[-2:] != shown.shape[-2:]:
        alpha = torch.nn.functional.interpolate(alpha, size=tuple(shown.shape[-2:]), mode="area")

    gray = opened.gray or shown.shape[1] == 1

    return Degraded(measurement, opened.pack(shown.clamp(0, 1), alpha, gray))


def operator_of(operator: str | Degradation | Operator, color: Tensor) -> Operator:
    """Return the operator for pictures of this shape [B, 3, H, W].

    Raises:
        BadArgument: an operator that cannot be read or does not fit the picture.
        FileAccess: a file that it names cannot be read.
    """
    channels, height, width = color.shape[1:]
    shape = (channels, height, width)
    with of_option("operator"):
        parsed = operators.parse(operator) if isinstance(operator, str) else operator
        built = parsed.operator(shape) if isinstance(parsed, Degradation) else parsed

    if tuple(built.input_shape) != shape:
        raise BadArgument(
            f"the operator takes pictures of {built.input_shape} (C, H, W), not of {shape}"
        )

    return built


def as_picture(measurement: Tensor, operator: LinearOperator | NonlinearChain) -> Tensor:
    """Return the measurement if it is a picture, else its pseudo-inverse, [B, 1 or 3, h, w]."""
    row = operator.output_shape[1] == 1 < operator.input_shape[1]
    if measurement.shape[1] in (1, 3) and not row:
        return measurement
    return operator.visible(operator.pseudo_inverse(measurement))


def _measure(
    operator: LinearOperator | NonlinearChain,
    x: Tensor,
    noise: float | SignalNoise,
    generator: torch.Generator,
) -> Tensor:
    parts: list[Any] = [operator]
    if isinstance(operator, NonlinearChain):
        parts = list(operator.operators)

    before = next(
        (i for i, part in enumerate(parts) if isinstance(part, NonlinearOperator)), len(parts)
    )
    for part in parts[:before]:
        x = part.A(x)

    if isinstance(noise, SignalNoise):
        x = _exposed(x, noise, generator)
    elif noise:
        x = x + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    for part in parts[before:]:
        x = part.A(x)

    return x


def _level(noise: Any) -> float:
    """Return a standard deviation.

    Raises:
        BadArgument: it is none between 0 and 1.
    """
    level = number(noise)
    if level is None or not 0 <= level <= 1:
        said = noise if level is None else f"{level:g}"
        raise BadArgument(f"`noise`={said}: must be a standard deviation between 0 and 1, or A:B")
    return level


def _exposed(x: Tensor, noise: SignalNoise, generator: torch.Generator) -> Tensor:
    """Return what a sensor records of x: photons, of which 1/a make white, and Gaussian noise.

    Raises:
        BadArgument: values below black, of which there are no photons.
    """
    if float(x.min()) < -_TOLERANCE and noise.a > 0:
        raise BadArgument(
            f"`noise`={noise}: its variance grows with the signal, and this operator measures "
            "values below 0; give a standard deviation"
        )

    white = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    signal = x
    if noise.a > 0:
        signal = noise.a * torch.poisson(x.clamp_min(0) / noise.a, generator=generator)
    exposed: Tensor = signal + noise.b**0.5 * white
    return exposed
