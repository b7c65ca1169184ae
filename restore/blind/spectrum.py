"""How well a blur explains the power spectrum of a photograph.

The power of sharp photographs falls with the frequency f like ``exp(a - b log f - c f²)``, by
another factor in each direction, and a blur multiplies it by ``|K(f)|²``. White noise comes on top.
`Spectrum.misfits` compares blurs by Whittle's approximation of the likelihood (P. Whittle,
"Estimation and information in stationary time series", Arkiv för Matematik 2, 1953), each with the
sharp spectrum that suits it best. The blur's phase has no say.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Side of the overlapping blocks whose spectra are averaged.
BLOCK = 128

# Frequencies in cycles per pixel below which a block tells the brightness, not the texture.
LOWEST = 0.02

# Coefficients of the logarithm of the power of sharp photographs: 1, -log f, -f², and cosine and
# sine of two and four times the direction. Mean and standard deviation over 550 crops of 192x192
# pixels of CID22's validation set and of photographs of 0.3 to 12 megapixels; 1 depends on the
# contrast.
USUAL = np.array([0.0, 2.55, 6.5, -0.2, 0.0, 0.4, 0.0])
SPREAD = np.array([1e3, 0.75, 5.0, 0.75, 0.5, 0.7, 0.4])

# Fraction of the power that is found where a blur passes nothing: other frequencies that the window
# mixes in, and rounding.
LEAKAGE = 5e-4

# Shape of the distribution of a power around its mean, whose tail is that of a Lomax distribution:
# regular structures have far more power than the mean. Infinity is Whittle's exponential one.
TAIL = 1.5

# Frequencies in cycles per pixel that hold little but noise, and fraction of its power below which
# the noise was removed from there, as JPEG does.
FINE = 0.35
REMOVED = 0.5

# Power of the window at its own frequency and at both neighbours.
_SMEAR = (2 / 3, 1 / 6)

# Newton steps that fit a sharp spectrum.
_STEPS = 10


class Spectrum:
    """The power spectrum of a blurred photograph.

    Args:
        image: [h, w] in [0, 1], one channel.
        noise: standard deviation of its noise.
        most: number of frequencies to use; None is all.
    """

    def __init__(self, image: Array, noise: float, most: int | None = None) -> None:
        power, rows, columns, blocks = _mean_power(image)
        f = np.hypot(rows, columns)
        half = (columns > 0) | ((columns == 0) & (rows > 0))
        used = np.flatnonzero((f > LOWEST) & (f < 0.5) & half)
        if most is not None and len(used) > most:
            used = np.random.default_rng(0).choice(used, most, replace=False)

        self.size = min(BLOCK, image.shape[0]), min(BLOCK, image.shape[1])
        self.used = used
        self.power = power.ravel()[used]
        self.noise = noise**2
        if np.median(self.power[f.ravel()[used] > FINE]) < REMOVED * self.noise:
            # an encoder removed what was weaker than its rounding, and how weak is not known
            self.power = np.maximum(self.power, self.noise)
        # windows correlate neighbouring frequencies, and overlapping blocks
        self.weight = 0.5 * blocks
        self.basis = _basis(rows.ravel()[used], columns.ravel()[used])
        self.low = f.ravel()[used] < 0.1

    def misfits(self, gains: Array, leakage: float = LEAKAGE) -> Array:
        """Return the negative logarithm of the likelihood of blurs, up to a constant.

        Args:
            gains: [n, h, w], ``|K|²`` at the frequencies of blocks of `size`, as of `rfft2`.
            leakage: fraction of the power that passes every blur; more of it forgives a blur that
                is nearly right.

        Returns:
            [n], in units that grow with the picture; lower is better.
        """
        return self._fit(self._logs(gains, leakage))[0]

    def slope(self, gain: Array, leakage: float = LEAKAGE) -> tuple[float, Array]:
        """Return the misfit of one blur, and its derivative by the gain, as [h, w] like the gain.

        The sharp spectrum that suits the blur best may change with it: at a minimum that makes no
        difference.
        """
        logs = self._logs(gain[None], leakage)
        misfit, theta = self._fit(logs)
        sharp = np.exp(np.clip(theta[0] @ self.basis, -60, 30))
        total = sharp * np.exp(logs[0]) + self.noise
        ratio = self.power / (TAIL * total)

        slope = np.zeros(gain.size)
        slope[self.used] = self.weight / total * (1 - (TAIL + 1) * ratio / (1 + ratio)) * sharp
        # the smear is its own transpose, but for the lowest and the highest column
        return float(misfit[0]), _smeared(slope.reshape(1, *gain.shape))[0]

    def _logs(self, gains: Array, leakage: float) -> Array:
        """Return the logarithm of the fraction of the power that passes, [n, frequencies]."""
        return np.log(_smeared(gains).reshape(len(gains), -1)[:, self.used] + leakage)

    def _fit(self, logs: Array) -> tuple[Array, Array]:
        """Return the misfit [n] and the coefficients [n, 7] of the best sharp spectra."""
        theta = self._begin(logs)
        misfit = self._misfit(theta, logs)
        damping = np.full(len(logs), 1e-3)

        for _ in range(_STEPS):
            tried = theta + self._step(theta, logs, damping)
            found = self._misfit(tried, logs)
            better = found < misfit
            theta = np.where(better[:, None], tried, theta)
            misfit = np.where(better, found, misfit)
            damping = np.where(better, damping / 4, damping * 10)

        return misfit, theta

    def _begin(self, logs: Array) -> Array:
        """Return the usual spectrum with the contrast of the lowest frequencies, [n, 7]."""
        theta = np.tile(USUAL, (len(logs), 1))
        expected = np.exp(USUAL @ self.basis[:, self.low] + logs[:, self.low])
        theta[:, 0] = np.log(np.maximum(self.power[self.low].sum() / expected.sum(axis=1), 1e-12))
        return theta

    def _misfit(self, theta: Array, logs: Array) -> Array:
        total = np.exp(np.clip(theta @ self.basis + logs, -60, 30)) + self.noise
        ratio = self.power / (TAIL * total)
        likelihood = self.weight * (np.log(total) + (TAIL + 1) * np.log1p(ratio)).sum(axis=1)
        prior: Array = 0.5 * (((theta - USUAL) / SPREAD) ** 2).sum(axis=1)
        return likelihood + prior

    def _step(self, theta: Array, logs: Array, damping: Array) -> Array:
        """Return a step of Fisher scoring, [n, 7]."""
        signal = np.exp(np.clip(theta @ self.basis + logs, -60, 30))
        total = signal + self.noise
        fraction = signal / total
        ratio = self.power / (TAIL * total)
        residual = self.weight * fraction * ((TAIL + 1) * ratio / (1 + ratio) - 1)
        slope = residual @ self.basis.T - (theta - USUAL) / SPREAD**2

        count = len(self.basis)
        pairs = (self.basis[:, None] * self.basis[None]).reshape(count * count, -1)
        curvature = (self.weight * fraction**2 @ pairs.T).reshape(-1, count, count)
        curvature += np.diag(1 / SPREAD**2)
        diagonal = np.einsum("nii->ni", curvature)
        diagonal *= 1 + damping[:, None]
        step: Array = np.linalg.solve(curvature, slope[..., None])[..., 0]

        return np.clip(step, -2, 2)


def _mean_power(image: Array) -> tuple[Array, Array, Array, int]:
    """Return the mean power of overlapping blocks, its frequencies, and the number of blocks."""
    height, width = (min(BLOCK, side) for side in image.shape)
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    window /= np.sqrt(np.square(window).mean())
    tops, lefts = (_starts(side, min(BLOCK, side)) for side in image.shape)
    power = np.zeros((height, width // 2 + 1))

    for top in tops:
        for left in lefts:
            block = image[top : top + height, left : left + width]
            block = block - (block * window).sum() / window.sum()
            power += np.square(np.abs(scipy.fft.rfft2(block * window))) / block.size

    blocks = len(tops) * len(lefts)
    rows, columns = np.broadcast_arrays(
        scipy.fft.fftfreq(height)[:, None], scipy.fft.rfftfreq(width)[None]
    )
    return power / blocks, rows, columns, blocks


def _smeared(gains: Array) -> Array:
    """Return gains [n, h, w] as they are seen through the window of a block."""
    middle, beside = _SMEAR
    gains = middle * gains + beside * (np.roll(gains, 1, axis=1) + np.roll(gains, -1, axis=1))
    wide = np.pad(gains, ((0, 0), (0, 0), (1, 1)), mode="reflect")
    return middle * gains + beside * (wide[..., :-2] + wide[..., 2:])


def _starts(side: int, block: int) -> list[int]:
    """Return where blocks begin that overlap by half and cover a side."""
    count = 1 + max(0, -(-2 * (side - block) // block))
    return sorted({int(start) for start in np.linspace(0, side - block, count).round()})


def _basis(rows: Array, columns: Array) -> Array:
    """Return the functions whose sum is the logarithm of a sharp spectrum, [7, frequencies]."""
    f = np.hypot(rows, columns)
    turn = np.arctan2(rows, columns)
    return np.stack(
        [
            np.ones_like(f),
            -np.log(f),
            -(f**2),
            np.cos(2 * turn),
            np.sin(2 * turn),
            np.cos(4 * turn),
            np.sin(4 * turn),
        ]
    )
