"""The sharp edges behind a blurred picture whose kernel is nearly known."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

Single = NDArray[np.float32]
Gradients = tuple[Single, Single]

# Weight of the number of edges, for pictures in [0, 1].
SPARSITY = 4e-3

# Weights of the gradients in the steps of the half-quadratic splitting: from twice `SPARSITY` by
# this factor up to the last.
_GROWTH = 3.0
_LAST = 10.0

# Edges in each of four directions that a kernel is estimated from, per pixel of its side, in
# pictures of at most `_USUAL_SIDE`; more in larger ones.
_EDGES = 40
_USUAL_SIDE = 192

# Fraction of its value that the least edge has in the next turn.
_MORE_EDGES = 1 / 1.1


def periodic(image: Single, rim: int) -> Single:
    """Extend a picture [h, w] below and to the right by at least ``rim``, so that it has no border.

    What is added goes from the mirrored end of the picture to its mirrored beginning.
    """
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        count = scipy.fft.next_fast_len(len(lines) + rim, real=True) - len(lines)
        inside = np.arange(count) % len(lines)
        beginning = np.sin(0.5 * math.pi * np.arange(1, count + 1) / (count + 1))[:, None] ** 2
        added = (1 - beginning) * lines[::-1][inside] + beginning * lines[inside][::-1]
        image = np.moveaxis(np.concatenate([lines, added]), 0, axis)

    return np.ascontiguousarray(image, dtype=np.float32)


def transfer(kernel: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Return the transfer function of a kernel with its centre in the middle, as of `rfft2`."""
    canvas = np.zeros(shape, np.float32)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    centre = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    result: NDArray[np.complex64] = scipy.fft.rfft2(np.roll(canvas, centre, (0, 1)))
    return result


def sparse_picture(image: Single, kernel: NDArray[np.floating]) -> Single:
    """Return the picture with few edges that a kernel blurred into a given one.

    It minimises ``‖k ∗ x − y‖² + λ ‖∇x‖₀``, the number of pixels with an edge, by half-quadratic
    splitting (L. Xu, S. Zheng, J. Jia, "Unnatural L0 sparse representation for natural image
    deblurring", CVPR 2013; J. Pan, Z. Hu, Z. Su, M.-H. Yang, "Deblurring text images via
    L0-regularized intensity and gradient prior", CVPR 2014, equations 6 to 11).

    Args:
        image: [h, w] in [0, 1], periodic.
        kernel: its kernel, with odd sides.
    """
    blur = transfer(kernel, image.shape)
    data = blur.conj() * scipy.fft.rfft2(image)
    power = np.abs(blur) ** 2
    steps = (np.array([[1, -1, 0]]), np.array([[1], [-1], [0]]))
    roughness = sum(np.abs(transfer(step, image.shape)) ** 2 for step in steps)

    weight = 2 * SPARSITY
    while weight < _LAST:
        right, down = np.roll(image, -1, 1) - image, np.roll(image, -1, 0) - image
        faint = right**2 + down**2 < SPARSITY / weight
        right[faint] = down[faint] = 0
        inwards = np.roll(right, 1, 1) - right + np.roll(down, 1, 0) - down
        spectrum = (data + weight * scipy.fft.rfft2(inwards)) / (power + weight * roughness)
        image = scipy.fft.irfft2(spectrum, s=image.shape)
        weight *= _GROWTH

    return image


def gradients(image: Single) -> Gradients:
    """Return the differences to the right and below, [h - 1, w - 1] each."""
    corner = image[:-1, :-1]
    return image[:-1, 1:] - corner, image[1:, :-1] - corner


def strongest(edges: Gradients, side: int, least: float | None) -> tuple[Gradients, float]:
    """Keep the strongest gradients, and set the others to zero.

    Edges of every direction are needed to see the whole kernel (S. Cho, S. Lee, "Fast motion
    deblurring", SIGGRAPH Asia 2009, section 4).

    Args:
        edges: the gradients.
        side: side of the kernel in pixels.
        least: magnitude of the least edge; None decides by the number of edges.

    Returns:
        The gradients, and the magnitude of the least edge for the next turn.
    """
    right, down = edges
    strength = np.hypot(right, down)
    if least is None:
        count = int(_EDGES * side * max(1.0, math.sqrt(strength.size) / _USUAL_SIDE))
        octant = np.floor(np.arctan2(down, right) * (4 / math.pi)).astype(int) % 4
        least = min(_largest(strength[octant == one], count) for one in range(4))

    kept = strength >= least
    return (right * kept, down * kept), least * _MORE_EDGES


def _largest(values: Single, count: int) -> float:
    """Return the value that ``count`` values exceed; the least if there are fewer."""
    if not values.size:
        return 0.0

    place = max(0, values.size - 1 - count)
    return float(np.partition(values, place)[place])
