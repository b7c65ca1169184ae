"""The degradations of `restore.training.degradations` for many pictures at once, on a device.

A `Family` makes the pictures whose tensors have the same shapes. What differs from picture to
picture is a tensor with one entry each: the kind, the scale, the kernel, the noise. Where sizes
differ, all have the largest one, and matrices padded with zeros or clamped indices keep what lies
beyond a picture's own size out of it. Nothing is copied to the host, and no shape depends on a
random number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from operators import LUMA_BT601, Quantise
from restore.diffusion.evidence import (
    GREY,
    Evidence,
    inverse_gain,
    known_fraction,
    noise_ratio,
    shown_noise,
)
from restore.diffusion.predictor import Shown
from restore.training.degradations import CONTEXT, GRID
from restore.training.device_banks import (
    SIGMAS,
    SOFTENINGS,
    InverseBank,
    filters,
    inverse_bank,
    kernel_bank,
    mask_bank,
    photograph_bank,
    sampling_bank,
    scales_and_fractions,
    turned,
)
from restore.training.device_jpeg import JpegFiles
from restore.training.device_pictures import Dice
from restore.training.device_tensors import (
    continued,
    convolved,
    cut,
    each,
    mean_within,
    rows_from,
    sandwiched,
    within,
)
from restore.training.device_wiener import Axis, Canvases
from restore.training.drawing import MAIN_NOISE, QUALITIES, SHOT_NOISE, SIDE_NOISE
from restore.training.mixture import Mixture

# Random squares [n, 3, R, R] in [0, 1] of photographs, from their sides [n] and R; see
# `DevicePictures.squares`.
Squares = Callable[[Tensor, int], Tensor]

# Fraction of 4:2:0 among JPEG files.
HALVED_CHROMA = 0.7
# Blurs of lens and hand.
PHOTOGRAPH_BLURS = ("gaussian", "anisotropic", "motion", "curved_motion", "disk")


@dataclass(frozen=True)
class Setting:
    """Settings that all families of a batch have in common.

    Attributes:
        crop: Side of the crops in pixels.
        mixture: How often each degradation is drawn.
        seed: Random seed for the banks.
        device: Where the pictures are made.
        shown: What a predictor is shown; None if no predictor takes part, and conditions are made.
    """

    crop: int
    mixture: Mixture
    seed: int
    device: torch.device
    shown: Shown | None = None

    @property
    def context(self) -> int:
        """Pixels that are measured around the crop of a blurred picture."""
        return CONTEXT if self.shown else 0


class Made(NamedTuple):
    """Pictures of a family.

    Attributes:
        clean: [n, 3, crop, crop] in [0, 1].
        shown: Evidence; without a predictor its first two parts are the condition.
    """

    clean: Tensor
    shown: Evidence


class Family(ABC):
    """Degradations that are made together.

    Args:
        setting: See `Setting`.

    Attributes:
        kinds: Their names, as in `Mixture`; pictures name them by their place in it.
    """

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def make(self, squares: Squares, kinds: Tensor, dice: Dice) -> Made:
        """Make pictures with their degradations.

        Args:
            squares: Cuts regions out of photographs.
            kinds: Kind of each picture, int64 [n].
            dice: Random numbers for these n pictures.
        """

    def _side_noise(self, fraction: float, dice: Dice) -> Tensor:
        """Draw standard deviations [n], 0 for all but this fraction."""
        return dice.log_uniform(*SIDE_NOISE) * dice.chance(fraction)

    def _starts(self, inside: Tensor, last: Tensor, dice: Dice) -> Tensor:
        """Draw where crops begin on an axis, [n]: ``inside``, or at an end of the region."""
        at_end = torch.where(dice.chance(0.5), last, 0)
        return torch.where(dice.chance(self.setting.mixture.bordered), at_end, inside)


class Pixelwise(Family):
    """Noise alone, JPEG alone, masks, loss of colour, or no condition."""

    kinds = (
        "unconditional",
        "noise",
        "jpeg",
        "grey",
        "boxes",
        "strokes",
        "random_pixels",
        "halves",
        "border",
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._luma = torch.tensor(LUMA_BT601, device=setting.device)[:, None, None]
        self._masks = mask_bank(self.kinds[_MASKED:], setting.crop, setting.seed).to(setting.device)
        self._jpeg = JpegFiles(setting.device)

    def make(self, squares: Squares, kinds: Tensor, dice: Dice) -> Made:
        crop = self.setting.crop
        mixture = self.setting.mixture
        clean = squares(torch.full_like(kinds, crop), crop)
        noisy = kinds == _NOISE
        grey = each(kinds == _GREY)
        masked = each(kinds >= _MASKED)
        level = torch.where(
            noisy, dice.uniform(*MAIN_NOISE), self._side_noise(mixture.noisy_masks, dice)
        )
        level = level * (kinds != _JPEG)
        compressed = (kinds == _JPEG) | (noisy & dice.chance(mixture.compressed))

        noise = dice.normal(3, crop, crop)
        noise = torch.where(grey, noise[:, :1], noise)  # luma has one channel, shown three times
        picture = torch.where(grey, (clean * self._luma).sum(dim=1, keepdim=True), clean)
        measured = _saved(self._jpeg, _file(picture + each(level) * noise), compressed, dice)

        number = dice.whole(self._masks.shape[1])
        mask, _ = turned(self._masks[(kinds - _MASKED).clamp_min(0), number], dice)
        shown = torch.where(masked, mask[:, None], each(kinds > 0))

        return Made(
            clean, self._evidence(2 * measured - 1, shown, torch.where(grey, GREY, 1.0), level)
        )

    def _evidence(self, picture: Tensor, shown: Tensor, known: Tensor, level: Tensor) -> Evidence:
        """Return what is known of pictures in [-1, 1].

        Args:
            picture: [n, 3, crop, crop].
            shown: Which pixels are shown, bool [n, 1, crop, crop].
            known: Known fraction of these without noise, [n, 1, 1, 1].
            level: Standard deviation of the noise for pixels in [0, 1], [n].
        """
        sigma = each(shown_noise(level))
        known = known / (1 + noise_ratio(sigma)) if self.setting.shown else known
        anything = shown.flatten(1).any(dim=1)
        return Evidence(
            picture * shown, known * shown, sigma * each(anything) * torch.ones_like(shown)
        )


# Places in the kinds of `Pixelwise`; masks begin at the last one.
_NOISE, _JPEG, _GREY, _MASKED = 1, 2, 3, 4


class Sampled(Family):
    """Downsampling; the pictures are shown enlarged or inverted."""

    kinds: ClassVar[tuple[str, ...]] = ("bicubic", "area", "gaussian_sampling")

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        fractions = setting.mixture.fractions
        gaussian = "gaussian_sampling" in self.kinds and fractions["gaussian_sampling"] > 0
        softened = setting.mixture.softened > 0
        self._filters = filters(gaussian)
        self._bank = sampling_bank(setting.crop, gaussian=gaussian, softened=softened).to(
            setting.device
        )
        self._inverse: InverseBank | None = (
            inverse_bank(setting.crop).to(setting.device) if setting.shown else None
        )
        self._jpeg = JpegFiles(setting.device)

    def make(self, squares: Squares, kinds: Tensor, dice: Dice) -> Made:
        mixture = self.setting.mixture
        scale = dice.one_of(self._bank.scales)
        top, left = self._corner(scale, dice)
        filter_ = torch.where(kinds < 2, kinds, 2 + dice.whole(len(SIGMAS))).clamp(
            max=len(self._filters) - 1
        )
        softening = (1 + dice.whole(len(SOFTENINGS))) * dice.chance(mixture.softened)
        level = self._side_noise(mixture.noisy, dice)

        region = squares(self._bank.region[scale], self._region)
        small = self._sampled(region, filter_, scale)
        if mixture.softened:
            blur = self._bank.soften[softening, scale]
            small = sandwiched(blur, small, blur)

        measured = self._measured(small, scale, level, None, dice.chance(mixture.compressed), dice)
        known_filter = (kinds == 1).long()

        return Made(
            cut(region, top, left, self.setting.crop),
            self._shown(measured, known_filter, scale, top, left, level),
        )

    @property
    def _region(self) -> int:
        """Side of the largest region."""
        return self._bank.down.shape[-1]

    def _corner(self, scale: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
        """Draw where the crops begin, [n] each."""
        bank = self._bank
        starts = []
        for _ in range(2):
            inside = bank.margin[scale] + GRID * dice.below(bank.places[scale])
            starts.append(self._starts(inside, bank.last[scale], dice))
        return starts[0], starts[1]

    def _sampled(self, region: Tensor, filter_: Tensor, scale: Tensor) -> Tensor:
        """Downsample [n, 3, R, R] to [n, 3, S, S]."""
        matrix = self._bank.down[filter_, scale]
        return sandwiched(matrix, region, matrix)

    def _measured(
        self,
        small: Tensor,
        scale: Tensor,
        level: Tensor,
        shot: Tensor | None,
        compressed: Tensor,
        dice: Dice,
    ) -> Tensor:
        """Return the files of low-resolution pictures, continued by their edges."""
        side = self._bank.small[scale]
        measured = continued(_file(_noised(small, level, shot, dice)), side, side)
        return continued(_saved(self._jpeg, measured, compressed, dice), side, side)

    def _shown(
        self,
        measured: Tensor,
        filter_: Tensor,
        scale: Tensor,
        top: Tensor,
        left: Tensor,
        level: Tensor,
    ) -> Evidence:
        """Return the crops of low-resolution pictures at full size, and what is known of them.

        Args:
            measured: Files [n, 3, S, S] in [0, 1].
            filter_: 0 for the inverse of bicubic sampling and 1 for that of area sampling, [n].
            scale: Number of the scale, [n].
            top: First row of the crop, [n].
            left: First column of the crop, [n].
            level: Standard deviation of the noise for pixels in [0, 1], [n].
        """
        y = 2 * measured - 1
        crop = self.setting.crop
        inverse = self._inverse
        sigma = each(shown_noise(level))
        if inverse is None:
            return _filled(self._enlarged(y, scale, top, left), torch.ones_like(sigma), sigma)

        s = inverse.singular[filter_, scale][:, None]
        ratio = noise_ratio(sigma)
        largest = s.amax(dim=(-2, -1), keepdim=True)
        pixels = each(self._bank.region[scale].square())
        known = known_fraction(s, ratio, pixels, largest)
        if self.setting.shown != "inverse":
            return _filled(self._enlarged(y, scale, top, left), known, sigma)

        left_vectors = inverse.left[filter_, scale].mT
        spectrum = inverse_gain(s, ratio, largest) * sandwiched(left_vectors, y, left_vectors)
        right_vectors = inverse.right[filter_, scale]
        rows, columns = (rows_from(right_vectors, start, crop) for start in (top, left))

        return _filled(sandwiched(rows, spectrum, columns), known, sigma)

    def _enlarged(self, y: Tensor, scale: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return the crops of pictures that are enlarged bicubically."""
        matrix = self._bank.enlarge[scale]
        rows, columns = (rows_from(matrix, start, self.setting.crop) for start in (top, left))
        return sandwiched(rows, y, columns)


class Photograph(Sampled):
    """Blur of lens and hand, down-sampling, noise that grows with brightness, and JPEG."""

    kinds = ("photograph",)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        scales, _ = scales_and_fractions()
        self._kernels = photograph_bank(PHOTOGRAPH_BLURS, scales, setting.crop, setting.seed).to(
            setting.device
        )

    def make(self, squares: Squares, kinds: Tensor, dice: Dice) -> Made:
        scale = dice.one_of(self._bank.scales)
        top, left = self._corner(scale, dice)
        kernel, rows, columns = self._kernels.draw(scale, dice)
        level = dice.log_uniform(*SIDE_NOISE)
        shot = dice.log_uniform(*SHOT_NOISE)
        margin = torch.maximum(rows, columns)

        whole = squares(self._bank.region[scale] + 2 * margin, self._region + kernel.shape[-1] - 1)
        region, blurred = (
            cut(p, margin, margin, self._region) for p in (whole, convolved(whole, kernel))
        )
        small = self._sampled(blurred, dice.whole(2), scale)
        measured = self._measured(
            small, scale, level, shot, torch.ones_like(kinds, dtype=torch.bool), dice
        )

        level = (
            level**2 + shot**2 * mean_within(measured, self._bank.small[scale]).clamp(0, 1)
        ).sqrt()
        shown = self._shown(measured, torch.zeros_like(kinds), scale, top, left, level)

        return Made(cut(region, top, left, self.setting.crop), shown)


class Blurred(Family):
    """Blur, into which light from outside of the picture leaks."""

    kinds = ("gaussian", "anisotropic", "motion", "curved_motion", "disk", "random_kernel")

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._kernels = kernel_bank(self.kinds, setting.crop, setting.seed).to(setting.device)
        self._canvases = Canvases(self._largest + self._kernels.taps.shape[-1] + 1, setting.device)
        self._jpeg = JpegFiles(setting.device)

    def make(self, squares: Squares, kinds: Tensor, dice: Dice) -> Made:
        setting = self.setting
        mixture = self.setting.mixture
        kernel, rows, columns = self._kernels.draw(kinds, dice)
        margin = torch.maximum(rows, columns)
        sides = setting.crop + 2 * (margin + setting.context)
        largest = self._largest
        top, left = (self._start(margin, dice) for _ in range(2))
        level = self._side_noise(mixture.noisy, dice)

        region = squares(sides, largest)
        measured = cut(convolved(region, kernel), rows, columns, largest)
        size = sides - 2 * rows, sides - 2 * columns  # of what needs no pixel beyond the region
        measured = continued(_file(_noised(continued(measured, *size), level, None, dice)), *size)
        measured = continued(
            _saved(self._jpeg, measured, dice.chance(mixture.compressed), dice), *size
        )

        vertical = Axis(size[0], rows, top - rows)
        horizontal = Axis(size[1], columns, left - columns)
        shown = self._shown(2 * measured - 1, kernel, level, vertical, horizontal)

        return Made(cut(region, top, left, setting.crop), shown)

    @property
    def _largest(self) -> int:
        """Side of the largest region."""
        return self.setting.crop + 2 * self.setting.context + self._kernels.taps.shape[-1] - 1

    def _start(self, margin: Tensor, dice: Dice) -> Tensor:
        """Draw where crops begin on an axis, [n]; see `restore.training.drawing.draw`."""
        context = self.setting.context
        beyond = margin if context else 0
        start = self._starts(margin + context, 2 * (margin + context - beyond), dice)
        return torch.where(start == margin + context, start, start + beyond)

    def _shown(
        self, y: Tensor, kernel: Tensor, level: Tensor, vertical: Axis, horizontal: Axis
    ) -> Evidence:
        """Return the crops of blurred pictures in [-1, 1], or of their inverses."""
        crop = self.setting.crop
        sigma = each(shown_noise(level))
        degraded = cut(y, vertical.start, horizontal.start, crop)
        if self.setting.shown is None:
            rows, columns = (within(axis.start, crop, axis.size) for axis in (vertical, horizontal))
            known = (rows[:, None, :, None] & columns[:, None, None, :]).to(y)
            return _filled(degraded * known, known, sigma)

        inverse, known = self._canvases.wiener(
            y, kernel, noise_ratio(sigma), vertical, horizontal, crop
        )

        return _filled(degraded if self.setting.shown == "degraded" else inverse, known, sigma)


# All families, in the order of their slices of a batch.
FAMILIES: tuple[type[Family], ...] = (Pixelwise, Sampled, Photograph, Blurred)

_EIGHT_BIT = Quantise(8)


def _file(pictures: Tensor) -> Tensor:
    return _EIGHT_BIT.A(pictures)


def _filled(picture: Tensor, known: Tensor, sigma: Tensor) -> Evidence:
    """Return evidence with ``known`` and ``sigma`` expanded to maps [n, 1, crop, crop]."""
    one = torch.ones_like(picture[:, :1])
    return Evidence(picture, known * one, sigma * one)


def _noised(pictures: Tensor, level: Tensor, shot: Tensor | None, dice: Dice) -> Tensor:
    """Add Gaussian noise of variance ``level² + shot² · x``, both [n].

    See `restore.training.degradations.Noise`.
    """
    noise = dice.normal(*pictures.shape[1:])
    level = each(level)
    if shot is None:
        return pictures + level * noise
    return pictures + noise * (level**2 + each(shot) ** 2 * pictures.clamp(0, 1)).sqrt()


def _saved(jpeg: JpegFiles, pictures: Tensor, compressed: Tensor, dice: Dice) -> Tensor:
    """Compress the pictures for which ``compressed`` [n] is True, with random JPEG qualities."""
    quality = QUALITIES[0] + dice.whole(QUALITIES[1] - QUALITIES[0] + 1)
    saved = jpeg(pictures, quality, dice.chance(HALVED_CHROMA))
    return torch.where(each(compressed), saved, pictures)
