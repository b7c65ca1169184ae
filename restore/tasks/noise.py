"""The noise of a measurement: a level for each picture, and a map where it depends on the signal.

The variance of Poisson-Gaussian noise depends on the picture that is sought. It is taken from the
measurement, smoothed so that its noise hardly counts: what is sought is the square root of a
variance, which an edge that is smoothed as well moves by little. `docs/noise.md` has the
measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from operators import LinearOperator, NonlinearChain, SpectralOperator
from restore.errors import BadArgument
from restore.metrics.noise import estimate_signal_noise
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.option import AUTO_SIGNAL, Noise, check_noise, is_signal
from restore.tasks.problem import measurement_noise

# Standard deviation in pixels of the Gaussian that smooths a measurement.
SMOOTHING = 1.0

# Lowest standard deviation in a map: weights by its inverse square must be finite.
LEAST_STD = 1e-4


class MeasuredNoise(NamedTuple):
    """What is assumed about the noise of a measurement.

    Attributes:
        level: [B], standard deviation for pixels in [0, 1]; the mean of the map where there is one.
        map: [B, C, h, w], that of every value of the measurement; None if it is ``level``.
        signal: how the noise of each picture depends on the signal; empty if it does not.
    """

    level: Tensor
    map: Tensor | None = None
    signal: tuple[SignalNoise, ...] = ()

    def at_least(self, std: float) -> MeasuredNoise:
        """Return the noise with this standard deviation as its lower bound."""
        if self.map is None:
            return self._replace(level=self.level.clamp_min(std))

        raised = self.map.clamp_min(std)
        return self._replace(level=raised.mean(dim=(1, 2, 3)), map=raised)


def measured_noise(
    noise: Noise | Tensor,
    image: Tensor,
    least: float = 0.0,
    rounded: Sequence[float] = (),
    operator: LinearOperator | NonlinearChain | None = None,
) -> MeasuredNoise:
    """Return the noise of measurements, on their device.

    Args:
        noise: noise as tasks take it, or estimated if it is ``auto`` or ``auto:signal``.
        image: the measurement, [B, C, h, w] in [0, 1].
        least: lower bound of an estimate.
        rounded: lower bound of each picture's estimate; may be empty.
        operator: the operator that measured, whose mask or colour filter array says which values
            are neighbours; None for a whole picture.

    Raises:
        BadArgument: an impossible noise, or not one for each picture.
    """
    check_noise(noise, signal=True)
    if not is_signal(noise):
        return MeasuredNoise(measurement_noise(noise, image, least, rounded))

    signal = _signals(noise, image, least, rounded)
    level_map = noise_map(signal, smoothed(image, operator))
    return MeasuredNoise(level_map.mean(dim=(1, 2, 3)), level_map, signal)


def noise_map(signal: Sequence[SignalNoise], x: Tensor) -> Tensor:
    """Return the standard deviation of every value of noiseless measurements, [B, C, h, w].

    Args:
        signal: the noise of each picture.
        x: [B, C, h, w]; values below 0 count as black.
    """
    maps = [own.std(one) for own, one in zip(signal, x, strict=True)]
    return torch.stack(maps).clamp_min(LEAST_STD)


def smoothed(image: Tensor, operator: LinearOperator | NonlinearChain | None = None) -> Tensor:
    """Return measurements with little noise, each value averaged with those of its own colour.

    Args:
        image: [B, C, h, w].
        operator: see `measured_noise`.
    """
    if not (isinstance(operator, SpectralOperator) and operator.has_own_values):
        return _gaussian(image)

    known = operator.At(image.new_ones(len(image), *operator.output_shape))
    if not bool(((known == 0) | (known == 1)).all()):
        return image  # sums of pixels, whose neighbours have nothing in common

    return operator.A(_filled(operator.At(image), known))


def _filled(x: Tensor, known: Tensor) -> Tensor:
    """Return the weighted mean of the known values around each, and 0 where there are none."""
    weight = _gaussian(known)
    return torch.where(weight > 1e-6, _gaussian(known * x) / weight.clamp_min(1e-6), 0.0)


def _gaussian(x: Tensor) -> Tensor:
    """Smooth by a Gaussian, with a border that is replicated; [B, C, h, w]."""
    reach = round(3 * SMOOTHING)
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    taps = torch.exp(-0.5 * (offsets / SMOOTHING) ** 2)
    taps = taps / taps.sum()

    channels = x.reshape(-1, 1, *x.shape[-2:])
    padded = F.pad(channels, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, taps.reshape(1, 1, -1, 1))
    return F.conv2d(rows, taps.reshape(1, 1, 1, -1)).reshape(x.shape)


def _signals(
    noise: Noise | Tensor, image: Tensor, least: float, rounded: Sequence[float]
) -> tuple[SignalNoise, ...]:
    """Return the noise of each picture, given or estimated."""
    if isinstance(noise, SignalNoise):
        return (noise,) * len(image)
    if isinstance(noise, str):
        assert noise == AUTO_SIGNAL
        lowest = [max(least, one) for one in rounded] or [least] * len(image)
        found = [estimate_signal_noise(picture) for picture in image]
        return tuple(own.at_least(std) for own, std in zip(found, lowest, strict=True))

    several: Any = noise
    given: tuple[SignalNoise, ...] = tuple(several)
    if len(given) not in (1, len(image)):
        raise BadArgument(
            f"`noise`: {len(given)} pairs of noise for {len(image)} pictures: give one, or one for "
            "each"
        )

    return given * len(image) if len(given) == 1 else given
