"""Analytic-DPM: ancestral and DDIM steps with the best variance there is, from the mean size of the
score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import posterior_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report
from restore.errors import BadArgument, FileAccess
from restore.files import write_atomically


@dataclass(frozen=True)
class ScoreNorms:
    """How large a model's score is on noisy pictures, level by level (Γ_n of arXiv 2201.06503,
    section 3).

    Attributes:
        sigmas: noise levels, falling, all above 0.
        values: Γ = E‖∇ log p_σ(x)‖²/d at each, for ``x = x0 + σ ε`` of d dimensions. The paper's,
            for ``x/√(1+σ²)``, is larger by 1 + σ².
        model: digest of the model that they belong to, as `restore.restorer.model_digest` says it.

    Raises:
        ValueError: levels that do not fall or are not positive, not as many values, or values that
            are no number.
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
        """E‖ε̂‖²/d = σ² Γ, a share of 1, linear in log σ between the levels where it was estimated.

        Raises:
            ValueError: σ outside these levels.
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
        """Write them as JSON, over what is there.

        Raises:
            FileAccess: it cannot be written.
        """
        write_atomically((json.dumps(asdict(self), indent=1) + "\n").encode(), path, overwrite=True)

    @classmethod
    def load(cls, path: Path, model: str) -> ScoreNorms:
        """The inverse of `save`, for the model of that digest.

        Raises:
            BadArgument: they are damaged, or belong to another model.
            FileAccess: the file cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
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
    """Γ at every noise level, from pictures (Bao et al. 2022, arXiv 2201.06503, section 3).

    The mean of ``ε̂²`` is taken as ``1 − mean(ε² − ε̂²)``: the mean of ε² is known to be 1, and
    where the network sees nearly all of the noise the chance in both falls out.

    Args:
        denoise: ``denoise(x, sigma, condition)``.
        pictures: [N, C, H, W] in [-1, 1], as those that the network was trained on.
        sigmas: falling noise levels with a final 0. Those of the grid that will be walked, or of a
            finer one.
        model: digest of the model, kept beside the norms.
        batch: pictures a call; N/batch calls of the network for each level but the 0.
        condition: of as many pictures, for the norms of a conditional network.
        generator: of the random numbers, on the CPU.
        callback: called with a `Step` after each level, with the last batch's clean estimate.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, no pictures, a batch below 1, or not as many
            conditions as pictures.
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
    """The variance of a step from σ to ς that is nearest to the true reverse process in
    Kullback–Leibler divergence.

    ``σ*² = λ² + (σ − √(ς² − λ²))² (1 − σ² Γ)`` with ``λ² = η² β̃`` (arXiv 2201.06503, theorem 1, in
    VE coordinates, where their ``√(β̄_n/α_n)`` is σ). ``σ² (1 − σ² Γ)`` is the mean variance of a
    pixel of x0 given x: it is cut to [0, 1], the bounds of theorem 2 for pictures in [-1, 1].

    Raises:
        ValueError: σ outside the levels of ``norms``.
    """
    variance = eta**2 * posterior_variance(sigma, sigma_next)
    of_clean = min(max(sigma**2 * (1 - norms.noise(sigma)), 0.0), 1.0)
    return variance + (1 - (sigma_next**2 - variance) ** 0.5 / sigma) ** 2 * of_clean


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
    """Analytic-DPM (Bao, Li, Zhu, Zhang 2022, arXiv 2201.06503): ``x ← x0 + √(ς² − η² β̃) ε + σ*
    z``.

    The mean is that of `restore.samplers.ddim.ddim`, the variance is `optimal_variance`:
    Analytic-DDPM for η = 1, Analytic-DDIM for η = 0. The fixed variances are right for many steps,
    this one for few. The last step, to 0, has no noise: it ends at the clean estimate.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        norms: see `estimate_score_norms`, at levels that enclose all of ``sigmas`` but the 0.
        eta: in [0, 1].
        last_noise: the last noise that is added, by the step to the lowest level but the 0, is cut
            to this mean size E|σ* z| in levels of 8 bits, since it is seen in the picture (the
            paper's appendix; its authors take 2 for η = 1 with the linear schedule, 1 with the
            cosine schedule and for η = 0). None cuts nothing.
        condition: shown to the network beside the noisy picture, if given.
        generator: of the random numbers, on the CPU; or one for each picture.
        callback: called with a `Step` after each call of the network.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: ``sigmas`` do not fall to 0 or leave the levels of ``norms``, η outside [0, 1],
            or a negative ``last_noise``.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")
    if last_noise is not None and last_noise < 0:
        raise ValueError(f"last_noise must not be negative, not {last_noise}")

    pairs = falling_pairs(sigmas)
    spreads = [optimal_variance(norms, *pair, eta) ** 0.5 for pair in pairs[:-1]]
    if spreads and last_noise is not None:
        spreads[-1] = min(spreads[-1], last_noise * 2 / 255 * math.sqrt(math.pi / 2))

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        variance = eta**2 * posterior_variance(sigma, sigma_next)
        x = prediction.clean + (sigma_next**2 - variance) ** 0.5 * prediction.noise
        if sigma_next > 0:
            x = x + spreads[index] * noise_like(x, generator)

    return x
