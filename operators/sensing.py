"""Compressed sensing: fewer measurements than pixels, each a sum over many of them.

Both operators have orthonormal rows, so every singular value is 1, U is the identity, and ``Aᵀ`` is
the pseudo-inverse. No dense matrix of the size of the picture exists.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.base import LinearOperator, Shape, SpectralOperator, composition_rule
from operators.mask import Mask

# Largest side of a block: its matrix has ``fraction · block⁴`` values, at most 17 million.
MAX_BLOCK = 64

# A Walsh–Hadamard transform is made of matrices of at most 2⁵ rows (measured).
FACTOR_BITS = 5


class OrthonormalRows(SpectralOperator):
    """An operator with ``A = Vᵀ`` and ``Aᵀ = A⁺ = V``: a subclass gives `V` and `Vt`.

    Args:
        input_shape: (C, H, W) of the picture.
        output_shape: (C, H, W) of the measurement.
        dtype: Type of the singular values, which are all 1.
    """

    has_own_values = True

    def __init__(self, input_shape: Shape, output_shape: Shape, dtype: torch.dtype) -> None:
        super().__init__(input_shape, output_shape)
        self.register_buffer("singular_values", torch.ones(self.output_shape, dtype=dtype))

    def U(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Ut(self, y: Tensor) -> Tensor:
        return y

    def A(self, x: Tensor) -> Tensor:
        return self.Vt(x)

    def At(self, y: Tensor) -> Tensor:
        return self.V(y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.V(y)


class MaskedRows(SpectralOperator):
    """Some of the measurements of an operator with orthonormal rows: ``y = known · Vᵀ x``.

    Its singular values are the map itself.

    >>> import operators
    >>> known = operators.masks.box((4, 4), 2, 2)
    >>> isinstance(operators.Mask((1, 4, 4), known) @ operators.Bayer((3, 4, 4)), MaskedRows)
    True

    Args:
        rows: The operator.
        known: 1 where a value was measured, else 0: ``[*rows.output_shape]``, or with a batch axis
            in front for one map per picture.
    """

    has_own_values = True

    def __init__(self, rows: OrthonormalRows, known: Tensor) -> None:
        super().__init__(rows.input_shape, rows.output_shape)
        self.rows = rows
        self.register_buffer("singular_values", known)

    def V(self, spectrum: Tensor) -> Tensor:
        return self.rows.V(spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self.rows.Vt(x)

    def U(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Ut(self, y: Tensor) -> Tensor:
        return y


@composition_rule
def _mask_after_rows(second: LinearOperator, first: LinearOperator) -> MaskedRows | None:
    if not isinstance(second, Mask):
        return None
    if isinstance(first, OrthonormalRows):
        return MaskedRows(first, second.singular_values)
    if isinstance(first, MaskedRows):
        return MaskedRows(first.rows, second.singular_values * first.singular_values)
    return None


class Hadamard(OrthonormalRows):
    """Walsh–Hadamard coefficients of the pixels in random order.

    The ``N = H·W`` pixels of each channel are shuffled (alike in all channels), transformed by an
    orthonormal Walsh–Hadamard transform in sequency order, and the first ``m`` coefficients are
    kept.

    A Walsh–Hadamard transform needs a power of two. Padding the pixels with zeros up to one would
    leave rows that are no longer orthonormal, and with that no SVD. Instead the shuffled pixels are
    cut into segments whose lengths are the powers of two that sum to N, longest first (35 = 32 + 2
    + 1), each with a transform of its own. The m rows are distributed in proportion to the lengths,
    remainders to the segments that miss most, and each segment keeps its lowest sequencies. So the
    rows are exactly orthonormal at any size. A short segment may get no row: those few pixels, in
    random places, are then not measured. The measurement holds the segments one after another.

    >>> operator = Hadamard((3, 5, 7), fraction=0.4)
    >>> operator.output_shape
    (3, 1, 14)
    >>> y = torch.rand(1, 3, 1, 14)
    >>> torch.allclose(operator.A(operator.At(y)), y, atol=1e-6)
    True

    Args:
        input_shape: (C, H, W) of the picture.
        fraction: Fraction of the coefficients that is kept, in (0, 1]:
            ``m = max(1, round(fraction · H · W))``.
        seed: Random seed for the order of the pixels.
        dtype: Type of the singular values.

    Raises:
        ValueError: ``fraction`` is outside (0, 1], or the seed is negative.
    """

    rows: Tensor
    order: Tensor
    places: Tensor

    def __init__(
        self,
        input_shape: Shape,
        fraction: float,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        pixels = math.prod(input_shape[1:])
        count = _count(fraction, pixels)
        super().__init__(input_shape, (input_shape[0], 1, count), dtype)
        self.segments = powers_of_two(pixels)
        starts = np.cumsum([0, *self.segments[:-1]])
        kept = [
            start + sequency_order(length, rows)
            for start, length, rows in zip(
                starts, self.segments, _apportion(count, self.segments), strict=True
            )
        ]

        order = np.random.default_rng(seed).permutation(pixels)
        places = np.empty_like(order)
        places[order] = np.arange(pixels)

        self.register_buffer("rows", torch.from_numpy(np.concatenate(kept)))
        self.register_buffer("order", torch.from_numpy(order))
        self.register_buffer("places", torch.from_numpy(places))

    def V(self, spectrum: Tensor) -> Tensor:
        coefficients = spectrum.flatten(2)
        pixels = coefficients.new_zeros(*coefficients.shape[:2], self.order.shape[0])
        pixels.scatter_(-1, self.rows.expand_as(coefficients), coefficients)
        pixels = self._transform(pixels)
        return _take(pixels, self.places).reshape(*spectrum.shape[:2], *self.input_shape[1:])

    def Vt(self, x: Tensor) -> Tensor:
        return _take(self._transform(_take(x.flatten(2), self.order)), self.rows).unsqueeze(-2)

    def _transform(self, pixels: Tensor) -> Tensor:
        """Transform each segment; the transform is its own inverse and transpose."""
        return torch.cat(
            [walsh_hadamard(part) for part in pixels.split(self.segments, dim=-1)], dim=-1
        )


class BlockSensing(OrthonormalRows):
    """Random sums over the pixels of small blocks.

    Each tile of ``block × block`` pixels of each channel is measured by one random matrix with
    orthonormal rows, distributed evenly over all such matrices (the QR decomposition of a Gaussian
    one); L. Gan, "Block compressed sensing of natural images", DSP 2007. Where the block does not
    divide the picture, the tiles at its right and lower edge are smaller and have a matrix of their
    own for each shape. A matrix depends on the seed and the shape of its tile, not on the picture's
    size.

    The measurement of a channel holds first all whole blocks, then the tiles of the right edge, of
    the lower edge, and of the corner; in each group row by row of tiles, each tile's ``max(1,
    round(fraction · pixels))`` values together.

    >>> BlockSensing((3, 64, 64), fraction=0.25).output_shape
    (3, 1, 1024)

    Args:
        input_shape: (C, H, W) of the picture.
        fraction: Measurements per pixel of each tile, in (0, 1].
        block: Side of a tile in pixels, at most `MAX_BLOCK`. A block larger than the picture is one
            tile.
        seed: Random seed for the matrices.
        dtype: Type of the matrices.

    Raises:
        ValueError: ``fraction`` is outside (0, 1], ``block`` outside 1 … `MAX_BLOCK`, or the seed
            is negative.
    """

    def __init__(
        self,
        input_shape: Shape,
        fraction: float,
        *,
        block: int = 32,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 1 <= block <= MAX_BLOCK or block != int(block):
            raise ValueError(
                f"block must be a whole number of pixels, 1 to {MAX_BLOCK}, not {block}"
            )

        bands, columns = (_spans(size, int(block)) for size in input_shape[1:])
        tiles = [(height, width) for _, height in bands for _, width in columns]
        counts = [_count(fraction, height * width) for height, width in tiles]
        numbers = [rows * width for rows, _ in bands for width, _ in columns]
        total = sum(n * m for n, m in zip(numbers, counts, strict=True))
        super().__init__(input_shape, (input_shape[0], 1, total), dtype)
        self.bands = bands
        self.columns = columns

        for index, ((height, width), count) in enumerate(zip(tiles, counts, strict=True)):
            generator = np.random.default_rng([seed, height, width])
            matrix = _orthonormal_rows(count, height * width, generator)
            self.register_buffer(f"matrix_{index}", torch.from_numpy(matrix).to(dtype))

    def V(self, spectrum: Tensor) -> Tensor:
        rest = spectrum.flatten(2)
        index = 0
        bands = []

        for down, height in self.bands:
            parts = []
            for across, width in self.columns:
                matrix = self.get_buffer(f"matrix_{index}")
                used = down * across * matrix.shape[0]
                values = rest[..., :used].unflatten(-1, (down * across, matrix.shape[0]))
                parts.append(_from_tiles(values @ matrix, down, height, across, width))
                rest = rest[..., used:]
                index += 1
            bands.append(torch.cat(parts, dim=-1))

        return torch.cat(bands, dim=-2)

    def Vt(self, x: Tensor) -> Tensor:
        index = 0
        values = []
        bands = x.split([n * h for n, h in self.bands], dim=-2)

        for band, (down, height) in zip(bands, self.bands, strict=True):
            parts = band.split([n * w for n, w in self.columns], dim=-1)
            for part, (across, width) in zip(parts, self.columns, strict=True):
                matrix = self.get_buffer(f"matrix_{index}")
                tiles = _to_tiles(part, down, height, across, width)
                values.append((tiles @ matrix.mT).flatten(2))
                index += 1

        return torch.cat(values, dim=-1).unsqueeze(-2)


def _to_tiles(x: Tensor, down: int, height: int, across: int, width: int) -> Tensor:
    """Cut ``[…, down · height, across · width]`` into tiles ``[…, down, across, pixels]``."""
    tiles: Tensor = x.unflatten(-1, (across, width)).unflatten(-3, (down, height))
    return tiles.transpose(-3, -2).flatten(-2)


def _from_tiles(tiles: Tensor, down: int, height: int, across: int, width: int) -> Tensor:
    """Join tiles ``[…, down · across, pixels]`` to ``[…, down · height, across · width]``."""
    rows: Tensor = tiles.unflatten(-1, (height, width)).unflatten(-3, (down, across))
    return rows.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return ``values[..., index]``; a CPU gathers several times faster than it indexes."""
    return values.gather(-1, index.expand(*values.shape[:-1], -1))


def walsh_hadamard(x: Tensor) -> Tensor:
    """Apply the orthonormal Walsh–Hadamard transform along the last axis, of length n = 2^k.

    Rows are in natural (Hadamard) order: row `sequency_order(n)[i]` changes sign i times. The
    transform is symmetric and its own inverse. Its matrix is a Kronecker product of small ones of
    about the same size, which are applied one after another: k/5 passes over the memory, not k.

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    n = after = x.shape[-1]
    bits = n.bit_length() - 1
    passes = -(-bits // FACTOR_BITS)

    for index in range(passes):
        side = 1 << (bits + index) // passes
        after //= side
        matrix = _hadamard_matrix(side, x)
        parts = x.unflatten(-1, (-1, side, after))
        x = (matrix @ parts if after > 1 else parts[..., 0] @ matrix).reshape(x.shape)

    return x * math.pow(n, -0.5)


def _hadamard_matrix(size: int, like: Tensor) -> Tensor:
    """Make the matrix of ones and minus ones, ``[size, size]``."""
    matrix = like.new_ones(1, 1)
    while len(matrix) < size:
        upper = torch.cat([matrix, matrix], dim=1)
        lower = torch.cat([matrix, -matrix], dim=1)
        matrix = torch.cat([upper, lower])
    return matrix


def sequency_order(length: int, count: int | None = None) -> NDArray[np.int64]:
    """Return the rows of a Hadamard matrix in natural order by their number of sign changes.

    The index of the row with s changes is the Gray code of s with its bits reversed.

    >>> sequency_order(4).tolist()
    [0, 2, 3, 1]

    Args:
        length: Number of rows, a power of two.
        count: Number of rows that are returned; None is all.
    """
    sequency = np.arange(length if count is None else count)
    code = sequency ^ (sequency >> 1)
    order = np.zeros_like(sequency)

    for _ in range(length.bit_length() - 1):
        order = (order << 1) | (code & 1)
        code = code >> 1

    return order


def powers_of_two(n: int) -> list[int]:
    """Return the different powers of two that sum to n, falling.

    >>> powers_of_two(35)
    [32, 2, 1]
    """
    return [1 << bit for bit in reversed(range(n.bit_length())) if n >> bit & 1]


def _count(fraction: float, pixels: int) -> int:
    if not 0 < fraction <= 1:
        raise ValueError(
            f"the fraction of measurements must be above 0 and at most 1, not {fraction}"
        )
    return max(1, round(fraction * pixels))


def _apportion(count: int, lengths: list[int]) -> list[int]:
    """Distribute `count` in proportion to the lengths; the largest remainders are rounded up."""
    total = sum(lengths)
    parts = [count * length // total for length in lengths]
    by_remainder = sorted(range(len(lengths)), key=lambda i: -(count * lengths[i] % total))
    for index in by_remainder[: count - sum(parts)]:
        parts[index] += 1

    return parts


def _spans(size: int, block: int) -> list[tuple[int, int]]:
    """Return (number, length) of the whole blocks along an axis and of the shorter last one."""
    return [(n, length) for n, length in ((size // block, block), (1, size % block)) if n * length]


def _orthonormal_rows(
    count: int, pixels: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw ``[count, pixels]``, distributed evenly over all matrices with orthonormal rows."""
    q, r = np.linalg.qr(generator.standard_normal((count, pixels)).T)
    return np.ascontiguousarray((q * np.where(np.diag(r) < 0, -1.0, 1.0)).T)
