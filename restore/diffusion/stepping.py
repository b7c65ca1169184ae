"""What all reverse processes share: pairs of noise levels, reproducible noise, callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.schedule import posterior_variance


class Step(NamedTuple):
    """Report to a callback after a network call.

    Attributes:
        index: 0, 1, …
        steps: Number of reports in the whole process.
        sigma: Noise level of the call.
        clean: [B, C, H, W], current estimate of the clean picture.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    steps: int
    sigma: float
    clean: Tensor


Callback = Callable[[Step], None]


def report(callback: Callback | None, index: int, steps: int, sigma: float, clean: Tensor) -> None:
    """Report a network call to the callback, if there is one; arguments as in `Step`."""
    if callback is not None:
        callback(Step(index, steps, sigma, clean))


# Random generators on the CPU: one for a whole batch, or one per picture, which then gets the same
# numbers as it would alone; None is PyTorch's global generator.
Generator = torch.Generator | Sequence[torch.Generator] | None


def falling_pairs(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """Pairs of neighbouring noise levels ``(σ, σ_next)``.

    Raises:
        ValueError: If there are fewer than two levels, or they do not decrease to 0.
    """
    levels = [float(sigma) for sigma in sigmas]
    if len(levels) < 2 or levels[-1] != 0:
        raise ValueError(
            f"noise levels must be at least one positive number and a final 0, not {levels}"
        )
    if any(high <= low for high, low in pairwise(levels)):
        raise ValueError("noise levels must fall")

    return list(pairwise(levels))


def gaussian_noise(
    shape: Sequence[int],
    generator: Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """White Gaussian noise, drawn on the CPU so that a seed gives the same noise on every device.

    Args:
        shape: [B, …].
        generator: Random generator on the CPU, or one per picture.
        device: Device of the result.
        dtype: Type of the result.

    Raises:
        ValueError: If there are several generators, but not one per picture.
    """

    def drawn(count: int, source: torch.Generator | None) -> Tensor:
        return torch.randn((count, *shape[1:]), generator=source, dtype=dtype, device="cpu")

    if not isinstance(generator, Sequence):
        return drawn(shape[0], generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(
            f"{len(generator)} generators for {shape[0]} pictures: give one, or one for each"
        )

    return torch.cat([drawn(1, own) for own in generator]).to(device)


def per_picture(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a number, one per picture, or a map, as [B or 1, …] of device and type ``like``.

    Args:
        value: A number or [B], which become [B or 1, 1, 1, 1]; or a map [B or 1, 1 or C, h, w] of
            the values of ``like``.
        like: [B, C, h, w].

    Raises:
        ValueError: If a map does not fit ``like``.
    """
    if isinstance(value, Tensor) and is_map(value):
        check_map(value, like.shape)
        return value.to(like.device, like.dtype)
    if isinstance(value, Tensor):
        return value.to(like.device, like.dtype).reshape(-1, 1, 1, 1)
    return torch.full((1, 1, 1, 1), float(value), device=like.device, dtype=like.dtype)


def is_map(value: Tensor | float) -> bool:
    """Return True for a value at every pixel, [B, C, h, w], and not one per picture."""
    return isinstance(value, Tensor) and value.ndim == 4 and value[0].numel() > 1


def check_map(value: Tensor, shape: Sequence[int]) -> None:
    """Refuse a map that has not one value for every measured one, or for all channels of a pixel.

    Raises:
        ValueError: If its shape is not [B or 1, 1 or C, h, w].
    """
    pictures, channels, *size = shape
    fits = value.shape[0] in (1, pictures) and value.shape[1] in (1, channels)
    if not fits or list(value.shape[2:]) != size:
        raise ValueError(
            f"a noise map of shape {tuple(value.shape)} does not fit a measurement of "
            f"{tuple(shape)}; it is [B or 1, 1 or C, h, w]"
        )


def noise_like(x: Tensor, generator: Generator) -> Tensor:
    """White Gaussian noise with shape, type and device of x, see `gaussian_noise`."""
    return gaussian_noise(x.shape, generator, x.device, x.dtype)


def ddim_step(
    prediction: Prediction, sigma: float, sigma_next: float, eta: float, generator: Generator
) -> Tensor:
    """Step from σ to the next level ς: ``x0 + √(ς² − η² β̃) ε + η √β̃ z``.

    Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12, with ``β̃ = ς² (1 − ς²/σ²)`` (eq. 16). η = 0
    is deterministic, η = 1 the ancestral step of DDPM.

    Args:
        prediction: Estimates of the network at σ.
        sigma, sigma_next: Noise levels of the step.
        eta: Fraction of fresh noise, in [0, 1].
        generator: Random generator on the CPU, or one per picture; not used for η = 0.
    """
    variance = eta**2 * posterior_variance(sigma, sigma_next)
    x = prediction.clean + (sigma_next**2 - variance) ** 0.5 * prediction.noise
    return x + variance**0.5 * noise_like(x, generator) if variance > 0 else x


def start(x: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Initial state of sampling, ``σ z`` at the highest noise level.

    Clean pictures would add a spread that is negligible there.
    """
    return sigma * noise_like(x, generator)


def falling_pairs_for(
    method: str, sigmas: Sequence[float], at_least: int
) -> list[tuple[float, float]]:
    """Pairs of neighbouring noise levels for a method that needs several steps.

    Raises:
        ValueError: If the levels do not decrease to 0, or are too few.
    """
    pairs = falling_pairs(sigmas)
    if len(pairs) < at_least:
        raise ValueError(f"{method} needs at least {at_least} steps, not {len(pairs)}")
    return pairs


def corrected(denoise: Denoise, correct: Callable[[Tensor], Tensor]) -> Denoise:
    """Apply a correction to every clean estimate of a denoiser.

    The noise estimate becomes what is left, ``(x − corrected clean estimate)/σ``.

    Args:
        denoise: Any denoiser.
        correct: Map from clean estimates [B, C, H, W] to corrected ones.
    """

    def denoise_and_correct(
        x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        prediction = denoise(x, sigma, condition)
        clean = correct(prediction.clean)
        return prediction._replace(clean=clean, noise=(x - clean) / per_picture(sigma, x))

    return denoise_and_correct


def within_pictures(denoise: Denoise) -> Denoise:
    """Clip every clean estimate to the range of pictures, [-1, 1].

    As in the released samplers of DDPM (Ho et al. 2020, arXiv 2006.11239) and ADM (Dhariwal, Nichol
    2021, arXiv 2105.05233). A network that predicts ε needs it: its estimate ``x − σ ε̂`` multiplies
    its error by σ, 150 where their processes begin.

    Args:
        denoise: Any denoiser.
    """
    return corrected(denoise, lambda clean: clean.clamp(-1, 1))


def dynamically_thresholded(denoise: Denoise, quantile: float, most: float) -> Denoise:
    """Threshold every clean estimate by a quantile s of its absolute values, and divide it by s.

    Dynamic thresholding (Imagen: Saharia et al. 2022, arXiv 2205.11487, section 2.3): clipping
    alone saturates pictures under strong guidance. s is at least 1, where it is clipping.

    Args:
        denoise: Any denoiser.
        quantile: In (0, 1], over all values of a picture.
        most: Largest s; 1 is clipping.
    """

    def within(clean: Tensor) -> Tensor:
        size = torch.quantile(clean.flatten(1).abs().float(), quantile, dim=1)
        limit = size.clamp(1, most).to(clean.dtype).reshape(-1, 1, 1, 1)
        return clean.clamp(-limit, limit) / limit

    return corrected(denoise, within)


def reported(
    denoise: Denoise,
    callback: Callback | None,
    steps: int,
    visible: Callable[[Tensor], Tensor] = lambda clean: clean,
) -> Denoise:
    """Report every call of a denoiser, for methods with inner loops.

    Args:
        denoise: Any denoiser.
        callback: Called with a `Step` after each network call, if given.
        steps: Number of calls in the whole process.
        visible: Crop of an estimate to what is shown.
    """
    calls = count()

    def denoise_and_report(
        x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        prediction = denoise(x, sigma, condition)
        report(callback, next(calls), steps, float(sigma), visible(prediction.clean))
        return prediction

    return denoise_and_report
