"""Options of a restoration, and what is known of the model and the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restore.methods.feed_forward import is_feed_forward

if TYPE_CHECKING:
    from restore.photo.pictures import Picture

# Defaults of CLIP guidance.
CLIP_SCALE = 1000.0
CUTOUTS = 16


@dataclass(frozen=True)
class Options:
    """Options of a restoration for any task.

    Attributes:
        method: ``auto`` (the best for the kind of problem), a name of `restore.methods.METHODS`, or
            ``spandrel:FILE``, see `restore.methods.feed_forward`.
        steps: number of network calls; None is the method's default.
        eta: fraction of fresh noise in each step, in [0, 1]; None is the method's default.
        seed: random seed.
        samples: number of posterior samples.
        sampler: sampler of ``sr3``, one of `restore.samplers.catalogue.SAMPLERS`; None is its own.
        start: initial picture in the size of the result for methods that take one, or
            ``spandrel:FILE``, whose output it is (Chung et al. 2022, arXiv 2112.05146); None starts
            from noise.
        start_noise: standard deviation of the noise added to the start, in [0, 1] units; None is
            `restore.methods.settings.START_NOISE`.
        label: class label for a class-conditional model.
        prompt: what the picture shows, for a model with text.
        negative_prompt: what guidance by the prompt leads away from.
        clip: CLIP model that guides a model of pixels to the prompt, a folder or ``hf:OWNER/REPO``,
            see `restore.latent.clip`; None is no guidance.
        clip_scale: factor of its gradient, at least 0; None is `CLIP_SCALE`.
        cutouts: pieces of the picture that CLIP sees in each call; None is `CUTOUTS`.
        levels: decreasing noise levels for ``sr3``, σ for pictures in [-1, 1], without a final 0;
            see `restore.evaluate.tune`. None is its own grid.
        guidance: scale of the classifier-free guidance of ``sr3``, at least 0, see
            `restore.diffusion.guidance`; None and 1 are none. For a model with text, scale of the
            guidance by the prompt; None is the model's own with a prompt, and 1 without.
        fidelity: 0 is the sharpest result, 1 the nearest to the original in PSNR, see
            `restore.methods.fidelity`; None is the method's own result.
        fast: True for the best method and settings of at most 8 calls of the network.
        parameters: values of the method's own parameters by name, see `Method.parameters`.
    """

    method: str = "auto"
    steps: int | None = None
    eta: float | None = None
    seed: int = 0
    samples: int = 1
    sampler: str | None = None
    start: Picture | str | None = None
    start_noise: float | None = None
    label: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    clip: str | None = None
    clip_scale: float | None = None
    cutouts: int | None = None
    levels: Sequence[float] | None = None
    guidance: float | None = None
    fidelity: float | None = None
    fast: bool = False
    parameters: Mapping[str, float] | None = None

    @property
    def networks(self) -> list[str]:
        """Feed-forward networks among the options, as ``spandrel:FILE``."""
        named = (self.method, self.start)
        return [text for text in named if isinstance(text, str) and is_feed_forward(text)]


@dataclass(frozen=True)
class Knowledge:
    """Capabilities of a model and of the operator of a problem.

    Attributes:
        conditional: True if the model is conditional.
        prior: True if it has an unconditional prior.
        bridge: True if it is a bridge from the degraded picture; None if that is not known yet.
        latent: True if it is a model of latents, with an autoencoder; None if that is not known.
        enlarges_only: True if a model without a prior does super-resolution only.
        predictor: True if it has a predictor for the problem and its noise.
        svd: True if the operator has an SVD, or is a blur with an unknown border.
        noise_map: True if the level of the noise differs between measured values.
    """

    conditional: bool = True
    prior: bool = True
    predictor: bool = False
    svd: bool = True
    noise_map: bool = False
    bridge: bool | None = None
    latent: bool | None = None
    enlarges_only: bool = True


ANY_MODEL = Knowledge()
