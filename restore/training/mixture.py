"""How often each degradation is drawn in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from restore.errors import BadArgument


@dataclass(frozen=True)
class Mixture:
    """Weights of the degradations, and fractions of what comes along with them.

    The weights, ``bicubic`` to ``photograph``, are relative to their sum. The rest are fractions.

    Attributes:
        bicubic: Bicubic downsampling by ×2 to ×8, enlarged again by bicubic interpolation.
        area: The same with block averages.
        gaussian_sampling: The same with a Gaussian filter.
        gaussian: Isotropic Gaussian blur.
        anisotropic: Anisotropic Gaussian blur.
        motion: Straight motion blur.
        curved_motion: Curved motion blur.
        disk: Blur by a disk.
        random_kernel: Blur by a small random kernel.
        noise: White Gaussian noise alone.
        jpeg: JPEG alone.
        boxes: Masks of up to three boxes.
        strokes: Masks of brush strokes.
        random_pixels: Masks of random pixels.
        halves: Masks of one half of the picture.
        border: Masks of the border.
        grey: Loss of colour, shown in three equal channels.
        photograph: Blur, downsampling, noise that grows with brightness, and JPEG, one after the
            other.
        noisy: Fraction of blurred and of downsampled pictures with noise.
        noisy_masks: Fraction of masked and of grey pictures with noise.
        compressed: Fraction of blurred, downsampled and noisy pictures saved as JPEG.
        softened: Fraction of downsampled pictures whose low-resolution picture is blurred a little,
            so that the network tolerates the output of a previous stage of a cascade: SR3's
            Gaussian blur augmentation (Saharia et al. 2021, arXiv 2104.07636), of half of the
            pictures in CDM (Ho et al. 2021, arXiv 2106.15282). CDM's other augmentation, noise on
            the low-resolution picture, is ``noisy``.
        bordered: Fraction of blurred and of downsampled pictures whose crop lies at the
            photograph's border, on each axis independently.

    Raises:
        BadArgument: A weight is negative or none is above 0, or a fraction is outside [0, 1].
    """

    bicubic: float = 34
    area: float = 6
    gaussian_sampling: float = 4
    gaussian: float = 6
    anisotropic: float = 2
    motion: float = 5
    curved_motion: float = 2
    disk: float = 3
    random_kernel: float = 1
    noise: float = 4
    jpeg: float = 3
    boxes: float = 4
    strokes: float = 5
    random_pixels: float = 6
    halves: float = 1
    border: float = 1
    grey: float = 6
    photograph: float = 7
    noisy: float = field(default=0.4, metadata={"fraction": True})
    noisy_masks: float = field(default=0.15, metadata={"fraction": True})
    compressed: float = field(default=0.1, metadata={"fraction": True})
    softened: float = field(default=0.0, metadata={"fraction": True})
    bordered: float = field(default=0.25, metadata={"fraction": True})

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= (1 if entry.metadata else 1e9):
                allowed = "a fraction from 0 to 1" if entry.metadata else "a weight of at least 0"
                raise BadArgument(f"degradations: {entry.name} = {value!r}: must be {allowed}")
        if not any(self.fractions.values()):
            raise BadArgument("degradations: every weight is 0; give at least one above 0")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Mixture:
        """Make a mixture from names and numbers, as a recipe has them.

        What is left out keeps its default.

        Raises:
            BadArgument: A name is unknown, or see `Mixture`.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(settings.keys() - set(known)):
            raise BadArgument(
                f"degradations: unknown: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        return cls(**settings)

    @classmethod
    def only(cls, *names: str, **settings: float) -> Mixture:
        """Make a mixture of these degradations in equal parts."""
        weights = {
            entry.name: float(entry.name in names) for entry in fields(cls) if not entry.metadata
        }
        return cls.of({**weights, **dict.fromkeys(names, 1.0), **settings})

    @property
    def fractions(self) -> dict[str, float]:
        """Each degradation's fraction of all degraded pictures; they sum to 1."""
        weights = {
            entry.name: float(getattr(self, entry.name))
            for entry in fields(self)
            if not entry.metadata
        }
        total = sum(weights.values())
        return {name: weight / total if total else 0.0 for name, weight in weights.items()}
