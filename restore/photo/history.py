"""What pixels say about earlier JPEG compressions, of which their file does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.jpeg import LUMA_TABLE
from restore.photo.rounding import LUMA
from restore.photo.stored import DCT, StoredJpeg, libjpeg_table

Array = NDArray[np.float64]

# Standard deviation, in levels, that rounding luma and then R, G and B leaves in a coefficient.
_ROUNDING = 0.35
# Pixels of a side that are looked at, in the middle of a picture.
_SIDE = 1024
# Blocks that are looked at to find the grid, and to find the table.
_FEW, _MANY = 1500, 8000
# Frequencies of which most pictures have coefficients that are not rounded to 0.
_LOW = [(row, column) for row in range(5) for column in range(5) if 0 < row + column <= 4]
# Share of coefficients that clipping and conversions of colour have moved anywhere.
_OUTLIERS = 0.05
# Qualities that are told apart: beyond, the steps of low frequencies are no more than rounding.
_QUALITIES = range(10, 97)
# Largest step that is looked for.
_STEPS = 120
# A coefficient is near 0, and a block has content, by these multiples of the error since.
_NEAR, _CONTENT = 3.0, 6.0
# Excess of coefficients near 0 from which there is a grid, even if no steps are seen.
_MARGIN = 0.05
# Evidence, in nats, from which a frequency supports a compression, and what each coefficient must
# add to it; and how many frequencies of `_LOW` must do so.
_CERTAIN, _EACH = 12.0, 0.02
_SUPPORTS = 4
# Part of the evidence for any steps that those of libjpeg's scale must have to be meant.
_FAMILY = 0.8
# Steps of the frequencies `_LOW` by quality, [Q, F].
_TABLES = np.array(
    [[libjpeg_table(np.array(LUMA_TABLE), quality)[at] for at in _LOW] for quality in _QUALITIES]
).clip(max=_STEPS)
# Blocks without which histograms are not compared, and their largest coefficient.
_FEWEST, _LEVELS = 200, 60


class Compression(NamedTuple):
    """An earlier JPEG compression that pixels show.

    Attributes:
        grid: Row and column, 0 to 7, at which a block of 8x8 pixels begins; None if there is none.
        quality: Of libjpeg's scale; None if the steps are not to be seen, or of another family.
        confident: True if steps are seen, too: benchmarks/jpeg_history.py measures how often it
            is wrong.
    """

    grid: tuple[int, int] | None = None
    quality: int | None = None
    confident: bool = False


@dataclass
class Evidence:
    """How much more likely coefficients are by an earlier compression than without.

    Attributes:
        gain: Nats for each of the frequencies `_LOW` and each step, [F, 1 + largest step].
        number: Numbers of coefficients that they are the sums of.
    """

    gain: Array
    number: Array

    def judged(self, grid: tuple[int, int]) -> Compression:
        """Decide whether there was a compression, and whether its steps are of libjpeg's scale."""
        of_any = self.gain.max(axis=1)
        number = np.take_along_axis(self.number, self.gain.argmax(axis=1)[:, None], axis=1)[:, 0]
        supports = of_any > np.maximum(_CERTAIN, _EACH * number)
        if supports.sum() < _SUPPORTS:
            return Compression()

        total = of_any[supports].sum()
        of_quality = self.gain[np.arange(len(_LOW)), _TABLES][:, supports].sum(axis=1)
        best = _usual(np.flatnonzero(of_quality == of_quality.max()))
        is_of_scale = of_quality[best] > _FAMILY * total

        return Compression(grid, _QUALITIES[best] if is_of_scale else None, True)


def _usual(places: NDArray[np.intp]) -> int:
    """One of several qualities with the same steps: a multiple of 5, or that in the middle."""
    usual = [place for place in places if _QUALITIES[place] % 5 == 0]
    return int(usual[0] if usual else np.median(places))


def earlier_compression(
    pixels: NDArray[np.floating], stored: StoredJpeg | None = None, error: float = 0.0
) -> Compression:
    """Find the JPEG compression that a picture has gone through before it was stored.

    A picture stored without loss, perhaps cropped, shows the grid and the steps of its latest
    compression, and a JPEG those of one before: a coarser one on its own grid by the gaps in the
    histograms of its coefficients, one on another grid by the blocks of its pixels. A picture that
    was resized since, or to which noise was added, shows neither.

    Args:
        pixels: [H, W, 1 or 3] in [0, 1], upright.
        stored: What the file stores, for a JPEG.
        error: Standard deviation of the error that a JPEG's own tables imply, see
            `restore.photo.rounding.Rounding.error`.
    """
    if min(pixels.shape[:2]) < 24:
        return Compression()

    own = None if stored is None else _own_grid(stored, pixels.shape)
    pixels = pixels[_middle(pixels.shape[0], 8), _middle(pixels.shape[1], 8)]
    luma = _luma(pixels)
    is_clipped = np.any((pixels <= 0) | (pixels >= 1), axis=2)
    if stored is None or own is None:
        return _by_blocks(luma, is_clipped, _ROUNDING)

    before = _by_gaps(stored, own)
    if before.grid is not None:
        return before
    return _by_blocks(luma, is_clipped, float(np.hypot(_ROUNDING, 255 * error)), own)


def _luma(pixels: NDArray[np.floating]) -> Array:
    """Luma [H, W] in levels less 128."""
    values = np.asarray(pixels, np.float64)
    return 255 * (values @ LUMA if values.shape[2] == 3 else values[..., 0]) - 128


def _middle(length: int, unit: int) -> slice:
    """The middle of a side of so many pixels or blocks, from the beginning of a block on."""
    most = _SIDE * unit // 8
    start = max(0, length - most) // 2 // unit * unit
    return slice(start, start + most)


def _own_grid(stored: StoredJpeg, size: tuple[int, ...]) -> tuple[int, int]:
    """Where the blocks of a file lie in its upright picture."""
    from_below = stored.orientation in (3, 4, 7, 8)
    from_right = stored.orientation in (2, 3, 6, 7)
    return size[0] % 8 if from_below else 0, size[1] % 8 if from_right else 0


def _blocks(luma: Array, grid: tuple[int, int], most: int) -> Array:
    """Coefficients [N, 8, 8] of blocks evenly over a picture, less those with a value missing."""
    row, column = grid
    rows, columns = (luma.shape[0] - row) // 8, (luma.shape[1] - column) // 8
    whole = luma[row : row + 8 * rows, column : column + 8 * columns]
    blocks = whole.reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    blocks = blocks[np.isfinite(blocks).all(axis=(1, 2))]
    if len(blocks) > most:
        blocks = blocks[np.linspace(0, len(blocks) - 1, most).astype(int)]

    return DCT @ blocks @ DCT.T


def _by_blocks(
    luma: Array,
    is_clipped: NDArray[Any],
    deviation: float,
    own: tuple[int, int] | None = None,
) -> Compression:
    """Find a grid, and the steps on it.

    Args:
        luma: [H, W] in levels.
        is_clipped: Bool [H, W], True where black or white may have been cut off, after which the
            coefficients of a block are no multiples any more.
        deviation: Standard deviation of what was added to a coefficient since.
        own: A grid that is known, whose rows and columns are left out.
    """
    grid, margin = _grid(luma, deviation, own)
    blocks = _blocks(np.where(is_clipped, np.nan, luma), grid, _MANY)
    found = _evidence_of_steps(blocks, deviation).judged(grid)
    if found.confident and margin > 0:
        return found
    return Compression(grid) if margin > _MARGIN else Compression()


def _grid(
    luma: Array, deviation: float, own: tuple[int, int] | None
) -> tuple[tuple[int, int], float]:
    """Find the grid on which most coefficients are near 0, as those that were rounded to it are.

    Returns:
        The grid, and by how much its share of such coefficients surpasses that of all grids that
        have neither its rows nor its columns.
    """
    shares = np.full((8, 8), -1.0)
    for row, column in np.ndindex(8, 8):
        if own is not None and (row == own[0] or column == own[1]):
            continue
        sizes = np.abs(_blocks(luma, (row, column), _FEW)).reshape(-1, 64)[:, 1:]
        has_content = sizes.max(axis=1) > _CONTENT * deviation
        if has_content.any():
            shares[row, column] = (sizes[has_content] < _NEAR * deviation).mean()

    row, column = divmod(int(shares.argmax()), 8)
    others = np.delete(np.delete(shares, row, 0), column, 1)
    return (row, column), float(shares[row, column] - others.max())


def _evidence_of_steps(blocks: Array, deviation: float) -> Evidence:
    """Compare steps by their likelihoods.

    A coefficient beyond half a step is a multiple of the step and a normal error; its likelihood is
    compared with that of any value (Fan and de Queiroz, Identification of Bitmap Compression
    History, IEEE Transactions on Image Processing 12, 2003, equation 8, without their prior).
    Patterns that repeat, as in drawings, count once.
    """
    gain = np.zeros((len(_LOW), _STEPS + 1))
    number = np.zeros_like(gain)
    for which, (row, column) in enumerate(_LOW):
        values = np.unique(np.abs(blocks[:, row, column]).round(3))
        for step in range(1, _STEPS + 1):
            beyond = values[np.searchsorted(values, step / 2) :] / step
            likelihood = _wrapped_normal(beyond - np.rint(beyond), deviation / step)
            gain[which, step] = np.log((1 - _OUTLIERS) * likelihood + _OUTLIERS).sum()
            number[which, step] = len(beyond)

    return Evidence(gain, number)


def _wrapped_normal(distance: Array, deviation: float) -> Array:
    """Density of a normal error in steps, in [-1/2, 1/2] round the circle; 1 if it is wide."""
    if deviation > 1:
        return np.ones_like(distance)
    turns = np.arange(-3, 4)[:, None]
    density = np.exp(-0.5 * ((distance + turns) / deviation) ** 2).sum(axis=0)
    return np.asarray(density / (deviation * np.sqrt(2 * np.pi)))


def _by_gaps(stored: StoredJpeg, own: tuple[int, int]) -> Compression:
    """Find a coarser compression on a file's own grid by the histograms of its coefficients.

    Values that were multiples of a larger step leave gaps. Histograms of what a file of this
    picture would have are estimated from its pixels on a grid moved by half a block (Lukáš and
    Fridrich, Estimation of Primary Quantization Matrix in Double Compressed JPEG Images, 2003),
    with and without each earlier compression.
    """
    component = stored.components[0]
    rows, columns = component.coefficients.shape[:2]
    coefficients = component.coefficients[_middle(rows, 1), _middle(columns, 1)]
    moved = _blocks(_decoded(coefficients, component.table), (4, 4), _MANY)
    coefficients = coefficients.reshape(-1, 8, 8)
    if len(moved) < _FEWEST:
        return Compression()

    gain = np.zeros((len(_LOW), _STEPS + 1))
    number = np.zeros_like(gain)
    error = np.random.default_rng(0).normal(0, _ROUNDING, len(moved))
    for which, (row, column) in enumerate(_LOW):
        step = int(component.table[row, column])
        found = _histogram(coefficients[:, row, column])
        values = moved[:, row, column]
        single = _share(values / step)
        for earlier in range(step + 1, _STEPS + 1):
            double = _share((np.rint(values / earlier) * earlier + error) / step)
            gain[which, earlier] = float(found @ np.log(double / single))
            number[which, earlier] = found.sum()

    return Evidence(gain, number).judged(own)


def _decoded(coefficients: NDArray[np.int16], table: NDArray[np.uint16]) -> Array:
    """Samples less 128, as decoders round and clip them."""
    blocks = DCT.T @ (coefficients * table.astype(np.float64)) @ DCT
    rows, columns = blocks.shape[:2]
    samples = blocks.swapaxes(1, 2).reshape(8 * rows, 8 * columns)
    return samples.round().clip(-128, 127)


def _histogram(levels: NDArray[np.integer] | Array) -> Array:
    """Numbers of the coefficients that are 1 to `_LEVELS` steps large."""
    sizes = np.abs(np.rint(levels)).astype(np.int64)
    counts = np.bincount(sizes[(sizes > 0) & (sizes <= _LEVELS)], minlength=_LEVELS + 1)
    return counts[1:].astype(np.float64)


def _share(levels: Array) -> Array:
    """Smoothed shares of a histogram."""
    counts = _histogram(levels)
    counts = counts + _OUTLIERS * np.convolve(counts, np.ones(5) / 5, "same") + 0.1
    return counts / counts.sum()
