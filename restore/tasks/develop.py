"""The task of developing camera raws: demosaicking and denoising in one inverse problem."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from restore.errors import BadArgument
from restore.metrics.signal_noise import SignalNoise
from restore.photo.profiles import SPACES
from restore.tasks.kind import Kind
from restore.tasks.option import Noise, Option, check_noise, check_within, parse_noise
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from restore.photo.photograph import Photo
    from restore.photo.pictures import Opened
    from restore.photo.raws import Raw
    from restore.tasks.problem import Operator, Problem

# Stops by which a picture may be made brighter or darker.
_MOST_STOPS = 10.0
# Largest factor of a white balance.
_LARGEST_GAIN = 100.0


def _matches(operator: Operator) -> bool:
    """Return True for a colour filter array."""
    from operators import ColorFilterArray

    return isinstance(operator, ColorFilterArray)


MOSAICKED = Kind(
    "demosaic",
    method="dpir",
    sampler="diffpir",
    unconditional="dpir",
    fast="dpir",
    fast_steps=4,
    matches=_matches,
)


def parse_white_balance(text: str) -> tuple[float, ...] | str:
    """Read three factors joined by commas, or ``camera``.

    Raises:
        BadArgument: the text is neither.
    """
    if text == "camera":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadArgument(_BALANCE_NEEDS.format(text)) from None


_BALANCE_NEEDS = (
    "`white_balance`={}: must be camera, or the factors of red, green and blue above 0, as in "
    "2.1,1,1.6"
)


@dataclass(frozen=True)
class Developing(Task):
    """Develop a camera raw to a picture in colour."""

    name: ClassVar[str] = "develop"
    title: ClassVar[str] = "Developing"
    about: ClassVar[str] = (
        "Develop camera raws: demosaick and denoise them, and render the colours."
    )
    kind: ClassVar[Kind] = MOSAICKED
    takes_raws: ClassVar[bool] = True
    takes_signal_noise: ClassVar[bool] = True
    estimates_noise: ClassVar[bool] = False

    noise: Annotated[
        Noise,
        Option(
            "Noise of the sensor: A:B for the variance A x + B of a signal x between black (0) and "
            "white (1), a standard deviation, or auto: that of the file, else estimated.",
            ("auto",),
            parse_noise,
            float,
        ),
    ] = field(default="auto", kw_only=True)
    white_balance: Annotated[
        tuple[float, ...] | str,
        Option(
            "White balance: camera, or the factors of red, green and blue, as in 2.1,1,1.6.",
            ("camera",),
            parse_white_balance,
        ),
    ] = field(default="camera", kw_only=True)
    exposure: Annotated[float, Option("Brightness in stops: 1 is twice as bright, -1 half.")] = (
        field(default=0.0, kw_only=True)
    )
    space: Annotated[
        str,
        Option("Colour space of the result: srgb, display-p3, or linear (sRGB).", tuple(SPACES)),
    ] = field(default="srgb", kw_only=True)
    raw: Raw | None = field(default=None, kw_only=True, repr=False)

    def check(self) -> None:
        if self.noise != "auto" and not isinstance(self.noise, float | int | SignalNoise):
            raise BadArgument(
                f"`noise`={self.noise}: must be a standard deviation, A:B, or auto, which takes "
                "the noise of the file or estimates how it depends on the signal"
            )
        check_noise(self.noise, signal=True)
        check_within("exposure", self.exposure, -_MOST_STOPS, _MOST_STOPS, " stops")
        if self.space not in SPACES:
            raise BadArgument(f"`space`={self.space}: must be {', '.join(SPACES)}")
        self._check_balance()

    def _check_balance(self) -> None:
        balance: Any = self.white_balance
        if balance == "camera":
            return
        is_three = not isinstance(balance, str) and len(balance) == 3
        if not (is_three and all(0 < gain <= _LARGEST_GAIN for gain in balance)):
            given = balance if isinstance(balance, str) else ",".join(f"{n:g}" for n in balance)
            raise BadArgument(_BALANCE_NEEDS.format(given))

    def opened(self, picture: Any) -> Opened:
        """Open a `Raw`, or the file of one, as its encoded mosaic [1, 1, H, W].

        Raises:
            BadArgument: it is something else.
            RestoreError: the file cannot be read.
        """
        import torch

        from restore.photo.pictures import Opened
        from restore.photo.raw_reading import read_raw
        from restore.photo.raws import Raw
        from restore.tasks.sensor import balanced, encoded

        raw = read_raw(Path(picture)) if isinstance(picture, str | Path) else picture
        if not isinstance(raw, Raw):
            raise BadArgument(
                "develop takes a camera raw: the path of its file, or what "
                f"restore.photo.raw_reading.read_raw returns, not a {type(picture).__name__}"
            )

        mosaic = encoded(balanced(raw, self._gains(raw), self._stops(raw)))

        def pack(color: Tensor, alpha: Tensor | None, gray: bool) -> NDArray[Any]:
            return self.finished(raw, color)

        return Opened(mosaic, None, False, pack, torch.zeros(1, dtype=torch.bool), source=raw)

    def of_visible(self, opened: Opened) -> tuple[Tensor, Self]:
        return opened.color, replace(self, raw=opened.source)

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that a sensor measured ``image`` [1, 1, H, W], the encoded mosaic of `raw`."""
        import operators
        from restore.tasks.problem import Problem

        raw = self.raw
        if raw is None:
            raise BadArgument("develop takes one camera raw at a time")

        operator = operators.ColorFilterArray((3, *image.shape[-2:]), raw.pattern)
        noise = self._noise_map(raw, operator)
        return Problem(
            self.name,
            self.kind,
            operator.to(device),
            image.to(device),
            image.new_zeros(1, device=device)
            if noise is None
            else noise.mean().reshape(1).to(device),
            None,
            written="cfa:" + "/".join(raw.pattern),
            noise_map=None if noise is None else noise.to(device),
        )

    def _noise_map(self, raw: Raw, operator: Any) -> Tensor | None:
        """Return the standard deviation of each encoded value, [1, 1, H, W]; None without noise."""
        from restore.tasks.noise import LEAST_STD
        from restore.tasks.sensor import balanced, factors, noise_of_encoded

        noise = self._sensor_noise(raw)
        if noise is None:
            return None

        gains = self._gains(raw)
        linear = balanced(raw, gains, self._stops(raw))
        factor = factors(raw, gains, self._stops(raw))
        return noise_of_encoded(raw, linear, factor, noise, operator).clamp_min(LEAST_STD)

    def _sensor_noise(self, raw: Raw) -> tuple[tuple[float, float], ...] | None:
        """Return (a, b) of red, green and blue; None without noise."""
        from restore.metrics.demosaicking import estimate_sensor_noise

        noise: Any = self.noise
        if isinstance(noise, SignalNoise):
            return ((noise.a, noise.b),) * 3
        if noise == "auto" and raw.noise is not None:
            return raw.noise

        pair = (
            estimate_sensor_noise(raw.signal, raw.pattern)
            if noise == "auto"
            else (0.0, float(noise) ** 2)
        )
        return (pair,) * 3 if any(pair) else None

    def _gains(self, raw: Raw) -> tuple[float, ...]:
        return raw.gains if isinstance(self.white_balance, str) else self.white_balance

    def _stops(self, raw: Raw) -> float:
        """Return the exposure: a file may ask for more light, not for less, or white were grey."""
        return self.exposure + max(0.0, raw.exposure)

    def finished(self, raw: Raw, color: Tensor) -> NDArray[Any]:
        """Return the upright picture [H, W, 3] of a restored mosaic [1, 3, H, W]."""
        from restore.tasks.sensor import finished

        return finished(color[0].cpu(), raw.to_srgb, self.space, raw.orientation)

    def plain(self, raw: Raw) -> NDArray[Any]:
        """Return the picture [H, W, 3] of a classical demosaicking, to compare with."""
        import operators
        from restore.metrics.demosaicking import demosaicked

        opened = self.opened(raw)
        operator = operators.ColorFilterArray((3, *raw.counts.shape), raw.pattern)
        return self.finished(raw, demosaicked(opened.color, operator).clamp(0, 1))

    def photo_of(self, raw: Raw) -> Photo:
        """Return what a result's file is written with, without its pixels: they are all 0."""
        import numpy as np

        from restore.photo.photograph import Photo
        from restore.photo.profiles import profile

        return Photo(
            np.broadcast_to(np.float32(0), (*raw.shape, 3)),
            bits=16,
            icc_profile=profile(self.space),
            exif=raw.exif,
            notes=(*raw.notes, *_note_on_stops(raw)),
        )


def _note_on_stops(raw: Raw) -> tuple[str, ...]:
    if raw.exposure <= 0:
        return ()
    return (f"it asks for an exposure of {raw.exposure:+.2g} stops, which it gets",)
