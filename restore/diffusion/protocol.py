"""The interface of a denoiser: all that samplers, solvers and methods know of a network.

Denoisers take variance-exploding coordinates, whatever their network was trained on:
``x = x0 + σ ε`` with pictures in [-1, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from pretrained.description import ModelConfig, PredictorConfig
from restore.diffusion.evidence import Evidence
from restore.diffusion.latents import Autoencoder
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument


class Prediction(NamedTuple):
    """Estimates of a network for ``x = x0 + σ ε``, all [B, C, H, W] in float32.

    Attributes:
        clean: Estimate of x0, E[x0 | x].
        noise: Estimate of ε, such that ``x = clean + σ noise``.
        variance_fraction: v of a network with a learned variance: where log Σ of a reverse step
            lies between log β̃_t (0) and log β_t (1) (Improved DDPM: Nichol, Dhariwal 2021, arXiv
            2102.09672, eq. 15). It may leave [0, 1].
        noise_variance: E[(ε − noise)² | x] of a network that predicts it, at least 0 (Bao et al.
            2022, arXiv 2206.07309).
    """

    clean: Tensor
    noise: Tensor
    variance_fraction: Tensor | None = None
    noise_variance: Tensor | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """Return the prediction with each of its parts changed."""
        fraction, variance = (None if part is None else change(part) for part in self[2:])
        return Prediction(change(self.clean), change(self.noise), fraction, variance)


class Condition(NamedTuple):
    """A degraded picture at full size, which a conditional network sees beside the noisy one.

    Attributes:
        picture: [B, C, H, W] in [-1, 1]; 0 where nothing is known.
        known: [B, 1, H, W], 1 where ``picture`` shows a pixel, `restore.diffusion.evidence.GREY`
            where it shows only the brightness, else 0. The output of a predictor is all 1.
    """

    picture: Tensor
    known: Tensor


# denoise(x, sigma, condition): x is [B, C, H, W], sigma one noise level or [B].
Denoise = Callable[[Tensor, "Tensor | float", "Condition | None"], Prediction]


class PredictorLike(Protocol):
    """A predictor of whole pictures, see `restore.diffusion.predictor`.

    Attributes:
        config: Description of its network.
    """

    config: PredictorConfig

    def __call__(self, evidence: Evidence) -> Tensor:
        """Return the least-squares estimate of the picture, [B, 3, H, W] in about [-1, 1]."""


class DenoiserLike(Protocol):
    """A denoiser with its description; in one piece, or of large pictures in tiles.

    A class that inherits from it sets the attributes and gets the properties, which follow from
    the description.

    Attributes:
        config: Description of the checkpoint.
        predictor: The second network of the checkpoint; None if there is none.
        autoencoder: Autoencoder of a latent model, whose denoiser takes latents instead of
            pictures; None for models of pixels.
    """

    config: ModelConfig
    predictor: PredictorLike | None
    autoencoder: Autoencoder | None = None

    @abstractmethod
    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        """Estimate clean picture and noise.

        Args:
            x: [B, C, H, W].
            sigma: Noise level, one number or [B].
            condition: See `Condition`; None is the unconditional prior.
        """

    @abstractmethod
    def of_class(self, label: int | None) -> Self:
        """Return the denoiser of one class, 0 to ``config.backbone.classes − 1``.

        Args:
            label: Class; None for networks without classes.

        Raises:
            BadArgument: If there is no such class, or a class-conditional network gets None.
        """

    def of_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, guidance: float | None = None
    ) -> Self:
        """Return the denoiser of a text, for models with text.

        Args:
            prompt: What the picture shows.
            negative_prompt: What guidance leads away from.
            guidance: Scale of classifier-free guidance by the prompt.

        Raises:
            BadArgument: The model knows no text.
        """
        for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            if value is not None:
                raise BadArgument(f"`{name}`: this model knows no text")
        return self

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """Noise schedule that the network was trained on."""
        return NoiseSchedule.named(**self.config.schedule)

    @property
    def learned_variance(self) -> bool:
        """Whether predictions come with a `Prediction.variance_fraction`."""
        return self.config.backbone.learned_variance and not self.noise_variance

    @property
    def noise_variance(self) -> bool:
        """Whether predictions come with a `Prediction.noise_variance`."""
        return self.config.noise_variance is not None

    @property
    def conditional(self) -> bool:
        """Whether the model can restore from a condition, which its network sees or begins at."""
        return self.config.backbone.condition_channels > 0 or self.bridge

    @property
    def predicts_noise(self) -> bool:
        """Whether the network predicts ε, whose error its estimates at high noise multiply by σ."""
        return self.config.parameterization == "epsilon" and not self.bridge

    @property
    def bridge(self) -> bool:
        """Whether the process begins at the degraded picture, see `ModelConfig.bridge`."""
        return self.config.bridge is not None

    @property
    def enlarges_only(self) -> bool:
        """Whether the network was trained for super-resolution by one factor alone."""
        return self.config.condition_required and self.config.scale is not None

    @property
    def prior(self) -> bool:
        """Whether the network can be used without a condition."""
        return not self.config.condition_required

    @property
    def one_step_from_zeros(self) -> bool:
        """Whether the network restores in one step from zeros instead of noise."""
        return self.config.one_step == "zeros"

    @property
    def distilled_levels(self) -> tuple[float, ...] | None:
        """Noise levels that the network was distilled for, see `ModelConfig.distilled_levels`."""
        return self.config.distilled_levels
