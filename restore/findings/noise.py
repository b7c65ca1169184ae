"""The noise of a photograph, estimated so that its texture does not count."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from restore.findings.finding import Finding

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Side of the patches, and number of them that suffices.
_PATCH = 7
_ENOUGH = 40_000

# Noise of the calmest blocks that is removed: in colours that differ by chance, and in colours that
# go together, as in grey pictures, where noise looks like texture. Of 41 clean crops of CID22 only
# textures in one colour reach 0.004, up to 0.013; noise of 0.02 leaves 0.014 (docs/auto.md).
LEAST_NOISE = 0.01
LEAST_GREY_NOISE = 0.02
# Correlation of the calmest blocks of two channels, above which they go together.
_TOGETHER = 0.5

# Side of blocks, and the fractions of them that are the calmest and that are calm.
_BLOCK = 8
_CALMEST = 0.02
_CALM = 0.1
_FEW_BLOCKS = 15
# Deviation of the calmest blocks of white noise, per that of all.
_OF_CALMEST = 0.7
# Distance of a block from black and white, where noise is clipped.
_CLIPPED = 0.03
# Largest difference of pixels of one colour, the fraction of them in a block of a drawing, and the
# fraction of such blocks that only drawings and text have.
_SAME = 0.001
_ONE_COLOUR = 0.6
_MOST_DRAWN = 0.2

# Second differences in both directions, which white noise leaves its deviation (Immerkær 1996,
# Fast Noise Variance Estimation, CVIU 64(2), equation 2).
_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6

# Sides of a picture below which nothing can be told.
_LEAST_SIDE = 32


def find_noise(image: Array, known: Mask | None = None) -> tuple[float, Finding]:
    """Estimate the noise, and decide whether it is to be removed.

    Args:
        image: [C, H, W] in [0, 1].
        known: [H, W], True at the pixels that count; None is everywhere.

    Returns:
        The standard deviation, small if it is not to be removed, and the finding.
    """
    if min(image.shape[1:]) < _LEAST_SIDE:
        return 0.0, Finding("noise", "", False, "too small to tell noise")
    if known is not None and _whole_blocks(known).sum() < _FEW_BLOCKS:
        return 0.0, Finding("noise", "", False, "too little that is visible to tell noise")

    level = float(np.median([noise_of(channel, known) for channel in image]))
    calmest, correlation = calm_noise(image, known)
    least = LEAST_GREY_NOISE if correlation > _TOGETHER else LEAST_NOISE
    value = f"{level:.4f}"
    if calmest < least:
        words = "no noise that could be told from texture"
        return min(level, calmest / _OF_CALMEST), Finding("noise", value, False, words)
    return level, Finding(
        "noise", value, True, f"noise of {255 * level:.1f} of 255, which is removed"
    )


def calm_noise(image: Array, known: Mask | None = None) -> tuple[float, float]:
    """Return the noise that even the calmest blocks show, and how much channels go together.

    Noise is everywhere and texture is not.

    Args:
        image: [C, H, W] in [0, 1].
        known: [H, W], True at the pixels that count, some whole blocks; None is everywhere.

    Returns:
        The median standard deviation over the channels, and the mean correlation of each two of
        them in calm blocks; 1 for a single channel. 0 and 1 for drawings and text.
    """
    blocks = np.stack([_blocks(channel) for channel in image])
    rough = np.stack([_blocks(scipy.ndimage.convolve(channel, _DIFFERENCES)) for channel in image])
    if known is not None:
        counted = _whole_blocks(known)
        blocks, rough = blocks[:, counted], rough[:, counted]
    if _drawn(blocks).mean() > _MOST_DRAWN:
        return 0.0, 1.0

    means = blocks.mean(axis=(0, 2))
    inside = (means > _CLIPPED) & (means < 1 - _CLIPPED)
    if inside.sum() >= _FEW_BLOCKS:
        rough = rough[:, inside]

    energies = np.square(rough).mean(axis=2)
    calmest = float(np.median(np.sqrt(np.quantile(energies, _CALMEST, axis=1))))
    order = energies.sum(axis=0).argsort()
    calm = rough[:, order[: max(_FEW_BLOCKS, int(_CALM * len(order)))]].reshape(len(image), -1)

    return calmest, _correlation(calm)


def _drawn(blocks: Array) -> NDArray[np.bool_]:
    """Return which blocks [C, N, pixels] have one colour in most pixels, which noise would not."""
    background = np.median(blocks, axis=2, keepdims=True)
    same = (np.abs(blocks - background) < _SAME).all(axis=0)
    return same.mean(axis=1) > _ONE_COLOUR


def _correlation(channels: Array) -> float:
    """Return the mean correlation of each two channels [C, N]; 1 where one is constant."""
    if len(channels) < 2 or not channels.std(axis=1).all():
        return 1.0
    above = np.triu_indices(len(channels), 1)
    return float(np.asarray(np.corrcoef(channels))[above].mean())


def _whole_blocks(known: Mask) -> Mask:
    """Return where a block and the pixels beside it are known, [N]."""
    wide = scipy.ndimage.binary_erosion(known, np.ones((3, 3)), border_value=1)
    return np.asarray(_blocks(wide).all(axis=1))


def _blocks(channel: NDArray[Any]) -> NDArray[Any]:
    """Return the blocks of a channel [H, W], [N, pixels]."""
    height, width = (side // _BLOCK * _BLOCK for side in channel.shape)
    rows = channel[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return rows.transpose(0, 2, 1, 3).reshape(-1, _BLOCK**2)


def noise_of(channel: Array, known: Mask | None = None) -> float:
    """Standard deviation of white noise in one channel [H, W], of the pixels that are known.

    Patches of a picture lie in few dimensions; in the others there is noise alone, and the
    variances along them have a mean that is their median (Chen, Zhu, Heng 2015, An Efficient
    Statistical Method for Image Noise Level Estimation, ICCV, algorithm 1).
    """
    patches = np.lib.stride_tricks.sliding_window_view(channel, (_PATCH, _PATCH))
    step = max(1, int(np.sqrt(patches.shape[0] * patches.shape[1] / _ENOUGH)))
    chosen = patches[::step, ::step].reshape(-1, _PATCH**2).astype(np.float64)
    if known is not None:
        windows = np.lib.stride_tricks.sliding_window_view(known, (_PATCH, _PATCH))
        whole = np.asarray(windows.all(axis=(2, 3)))
        chosen = chosen[whole[::step, ::step].ravel()]
    if len(chosen) < 2:
        return 0.0

    variances = np.linalg.eigvalsh(np.cov(chosen, rowvar=False))

    for count in range(len(variances), 0, -1):
        mean = variances[:count].mean()
        if (variances[:count] > mean).sum() >= (variances[:count] < mean).sum():
            return float(np.sqrt(max(mean, 0.0)))
    return 0.0
