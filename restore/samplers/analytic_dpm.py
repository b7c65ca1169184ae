"""Analytic-DPM: ancestral and DDIM steps with the optimal variance, from mean score norms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretrained.tables import read_json
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.schedule import posterior_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report
from restore.errors import BadArgument, FileAccess
from restore.files import write_atomically


@dataclass(frozen=True)
class ScoreNorms:
    """Mean squared norms of a model's score, by noise level (Γ_n of arXiv 2201.06503, section 3).

    Attributes:
        sigmas: Noise levels, decreasing, all above 0.
        values: Γ = E‖∇ log p_σ(x)‖²/d at each, for ``x = x0 + σ ε`` in d dimensions. The paper's,
            for ``x/√(1+σ²)``, is larger by 1 + σ².
        model: Digest of the model, see `restore.restorer.model_digest`.

    Raises:
        ValueError: If the levels do not decrease or are not positive, or there are not as many
            finite values.
    """

    sigmas: tuple[float, ...]
    values: tuple[float, ...]
    model: str

    def __post_init__(self) -> None:
        falling_pairs([*self.sigmas, 0.0])
        if len(self.values) != len(self.sigmas) or not all(
            math.isfinite(value) for value in self.values
        ):
            raise ValueError(
                f"{len(self.sigmas)} noise levels need as many finite score norms, not "
                f"{self.values}"
            )

    def noise(self, sigma: float) -> float:
        """E‖ε̂‖²/d = σ² Γ, at most about 1, linear in log σ between the levels.

        Raises:
            ValueError: If σ is outside the levels.
        """
        low = self.sigmas[-1]
        high = self.sigmas[0]
        if not low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6):
            raise ValueError(
                f"the score norms were estimated for noise levels from {low:.4g} to {high:.4g}, "
                f"not {sigma}"
            )

        sigmas = np.array(self.sigmas[::-1])

        return float(
            np.interp(math.log(sigma), np.log(sigmas), sigmas**2 * np.array(self.values[::-1]))
        )

    def save(self, path: Path) -> None:
        """Write them as JSON; an existing file is replaced.

        Raises:
            FileAccess: If the file cannot be written.
        """
        write_atomically((json.dumps(asdict(self), indent=1) + "\n").encode(), path, overwrite=True)

    @classmethod
    def load(cls, path: Path, model: str) -> ScoreNorms:
        """Read the score norms of a model.

        Args:
            path: File written by `save`.
            model: Digest of the model.

        Raises:
            BadArgument: If the file is damaged, or belongs to another model.
            FileAccess: If the file cannot be read.
        """
        try:
            data = read_json(path)
            norms = cls(tuple(data["sigmas"]), tuple(data["values"]), data["model"])
        except OSError as error:
            raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise BadArgument(f"{path}: holds no score norms: {error!r}") from error

        if norms.model != model:
            raise BadArgument(
                f"{path}: these score norms are of another model ({norms.model}); estimate them "
                "anew"
            )

        return norms


def estimate_score_norms(
    denoise: Denoise,
    pictures: Tensor,
    sigmas: Sequence[float],
    *,
    model: str,
    batch: int = 16,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> ScoreNorms:
    """Estimate Γ at every noise level from pictures (Bao et al. 2022, arXiv 2201.06503, section 3).

    The mean of ``ε̂²`` is estimated as ``1 − mean(ε² − ε̂²)``, since the mean of ε² is known to be
    1: where the network finds nearly all of the noise, the two errors cancel.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        pictures: [N, C, H, W] in [-1, 1], from the training distribution.
        sigmas: Decreasing noise levels and a final 0: those of the sampling grid, or of a finer
            one.
        model: Digest of the model, stored with the norms.
        batch: Pictures per network call.
        condition: N conditions, for the norms of a conditional network.
        generator: Random generator on the CPU.
        callback: Called with a `Step` after each level, with the last batch's clean estimate.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, there are no pictures, the batch is below 1,
            or there are not as many conditions as pictures.
    """
    if batch < 1 or len(pictures) < 1:
        raise ValueError(
            f"at least one picture is needed, in batches of at least 1, not {len(pictures)} in "
            f"{batch}"
        )
    if condition is not None and any(len(tensor) != len(pictures) for tensor in condition):
        raise ValueError(
            f"{len(pictures)} pictures need as many conditions, not {len(condition.picture)}"
        )

    levels = [sigma for sigma, _ in falling_pairs(sigmas)]
    values = []

    for index, sigma in enumerate(levels):
        explained = 0.0
        for first in range(0, len(pictures), batch):
            part = slice(first, first + batch)
            noise = noise_like(pictures[part], generator)
            shown = (
                None if condition is None else Condition(*(tensor[part] for tensor in condition))
            )
            prediction = denoise(pictures[part] + sigma * noise, sigma, shown)
            explained += float((noise**2 - prediction.noise**2).mean()) * len(noise)
        values.append((1 - explained / len(pictures)) / sigma**2)
        report(callback, index, len(levels), sigma, prediction.clean)

    return ScoreNorms(tuple(levels), tuple(values), model)


def optimal_variance(norms: ScoreNorms, sigma: float, sigma_next: float, eta: float = 1.0) -> float:
    """Variance of a step from σ to ς that is nearest to the true reverse process in KL divergence.

    ``σ*² = λ² + (σ − √(ς² − λ²))² (1 − σ² Γ)`` with ``λ² = η² β̃`` (Bao et al. 2022, arXiv
    2201.06503, theorem 1, in variance-exploding coordinates, where their ``√(β̄_n/α_n)`` is σ).
    ``σ² (1 − σ² Γ)``, the mean variance of a pixel of x0 given x, is clipped to [0, 1], the bounds
    of theorem 2 for pictures in [-1, 1].

    Raises:
        ValueError: If σ is outside the levels of ``norms``.
    """
    variance = eta**2 * posterior_variance(sigma, sigma_next)
    variance_of_clean = min(max(sigma**2 * (1 - norms.noise(sigma)), 0.0), 1.0)
    return variance + (1 - math.sqrt(sigma_next**2 - variance) / sigma) ** 2 * variance_of_clean


def analytic_dpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    norms: ScoreNorms,
    *,
    eta: float = 1.0,
    last_noise: float | None = 2.0,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Analytic-DPM: ``x ← x0 + √(ς² − η² β̃) ε + σ* z`` from σ to the next level ς.

    Bao, Li, Zhu, Zhang 2022, arXiv 2201.06503. The mean is that of `restore.samplers.ddim.ddim`,
    the variance is `optimal_variance`: Analytic-DDPM for η = 1, Analytic-DDIM for η = 0. It
    improves on fixed variances where there are few steps. The last step, to 0, returns the clean
    estimate.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        norms: See `estimate_score_norms`; their levels enclose the positive levels of ``sigmas``.
        eta: η in [0, 1].
        last_noise: Upper bound of the mean size E|σ* z| of the last noise, in 8-bit levels, since
            it remains visible (appendix of the paper; its authors take 2 for η = 1 with the linear
            schedule, and 1 with the cosine schedule or η = 0). None is no bound.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0 or leave the levels of ``norms``, η is
            outside [0, 1], or ``last_noise`` is negative.
    """
    _check(eta, last_noise)
    spreads = {
        pair: optimal_variance(norms, *pair, eta) ** 0.5 for pair in falling_pairs(sigmas)[:-1]
    }
    return with_spread(
        denoise,
        x,
        sigmas,
        lambda _, sigma, sigma_next: spreads[sigma, sigma_next],
        eta=eta,
        last_noise=last_noise,
        condition=condition,
        generator=generator,
        callback=callback,
    )


def with_spread(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    spread: Callable[[Prediction, float, float], float | Tensor],
    *,
    eta: float,
    last_noise: float | None,
    condition: Condition | None,
    generator: Generator,
    callback: Callback | None,
) -> Tensor:
    """DDIM's mean ``x0 + √(ς² − η² β̃) ε``, and noise of another standard deviation σ*.

    Args:
        denoise, x, sigmas, eta, last_noise, condition, generator, callback: See `analytic_dpm`.
        spread: ``spread(prediction, sigma, sigma_next)`` is σ*, one number or [B, C, H, W].

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], or ``last_noise`` is
            negative.
    """
    _check(eta, last_noise)
    pairs = falling_pairs(sigmas)
    most = math.inf if last_noise is None else last_noise * 2 / 255 * math.sqrt(math.pi / 2)

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        variance = eta**2 * posterior_variance(sigma, sigma_next)
        mean: Tensor = prediction.clean + (sigma_next**2 - variance) ** 0.5 * prediction.noise
        if sigma_next == 0:
            return mean

        std = spread(prediction, sigma, sigma_next)
        if index == len(pairs) - 2:
            std = std.clamp(max=most) if isinstance(std, Tensor) else min(std, most)
        x = mean + std * noise_like(x, generator)

    return x


def _check(eta: float, last_noise: float | None) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")
    if last_noise is not None and last_noise < 0:
        raise ValueError(f"last_noise must not be negative, not {last_noise}")
