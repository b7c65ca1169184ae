"""Unconditional samples of a prior, by any sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.diffusion.guidance import LogProbability, check_scale, classifier_guided
from restore.diffusion.protocol import Denoise, DenoiserLike
from restore.diffusion.schedule import LEVELS, NoiseSchedule, noise_levels
from restore.diffusion.stepping import start, within_pictures
from restore.errors import BadArgument
from restore.precision import single_precision
from restore.samplers import Step
from restore.samplers.analytic_dpm import ScoreNorms
from restore.samplers.catalogue import SAMPLERS, check_variance

# Most pictures, and most pixels, in a batch. The random numbers of some samplers depend on the
# batch, so its size does not depend on the machine.
AT_ONCE, PIXELS_AT_ONCE = 16, 2**20
# Number of estimates along a trajectory that are shown.
SHOWN = 8


@dataclass(frozen=True)
class Sampling:
    """Options of sampling from a prior.

    Attributes:
        count: number of pictures.
        height: height in pixels.
        width: width in pixels.
        sampler: one of `restore.samplers.catalogue.SAMPLERS`.
        steps: number of noise levels.
        levels: grid of noise levels, one of `restore.diffusion.schedule.LEVELS`, or the levels
            themselves without the final 0; None is the sampler's own grid.
        seed: random seed.
        guide: log-probability of what the pictures shall show, such as
            `restore.diffusion.classifier.Classifier.of_class`, or the name of a classifier that
            is yet to be loaded; None is the prior itself.
        guide_scale: factor of its gradient, at least 0, see
            `restore.diffusion.guidance.classifier_guided`; None is 1, Bayes' rule.

    Raises:
        BadArgument: an invalid option.
    """

    count: int = 9
    height: int = 128
    width: int = 128
    sampler: str = "dpmpp-2m"
    steps: int = 20
    levels: str | tuple[float, ...] | None = None
    seed: int = 0
    guide: LogProbability | str | None = None
    guide_scale: float | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise BadArgument(f"`sampler`={self.sampler}: unknown; there are {', '.join(SAMPLERS)}")
        if isinstance(self.levels, str) and self.levels not in LEVELS:
            raise BadArgument(f"`levels`={self.levels}: unknown; there are {', '.join(LEVELS)}")
        if isinstance(self.levels, tuple) and len(self.levels) != self.steps:
            raise BadArgument(
                f"{len(self.levels)} noise levels for {self.steps} steps: must be as many"
            )

        self._check_guide()
        least = SAMPLERS[self.sampler].least_steps
        if not least <= self.steps <= 1000:
            raise BadArgument(
                f"`steps`={self.steps}: must be between {least} and 1000 for {self.sampler}"
            )
        if not 1 <= self.count <= 10_000:
            raise BadArgument(f"`count`={self.count}: must be between 1 and 10000")
        if min(self.height, self.width) < 8 or self.height * self.width > 2**22:
            raise BadArgument(
                f"`size`={self.width}x{self.height}: sides of at least 8, and at most 4 megapixels"
            )

    def _check_guide(self) -> None:
        if self.guide_scale is None:
            return
        if self.guide is None:
            raise BadArgument(
                f"`guide_scale`={self.guide_scale:g}: is that of a classifier; `guide` is missing"
            )
        try:
            check_scale(self.guide_scale)
        except ValueError:
            raise BadArgument(
                f"`guide_scale`={self.guide_scale:g}: must be 0 or more; 1 is Bayes' rule, and "
                "more draws more typical pictures of the class"
            ) from None

    def guided(self, prior: Denoise) -> Denoise:
        """Return a prior that is guided, if there is a guide."""
        if self.guide is None:
            return prior

        assert not isinstance(self.guide, str)
        scale = 1.0 if self.guide_scale is None else self.guide_scale
        return classifier_guided(prior, self.guide, scale)

    def of_distilled(self, own: tuple[float, ...], chosen: Container[str]) -> Sampling:
        """Return the options with the defaults of a distilled model: DDIM at its own levels.

        Any sampler with as many steps gets these levels, since the network knows no others.

        Args:
            own: `ModelConfig.distilled_levels` of the model.
            chosen: names of fields that stay unchanged.
        """
        sampler = self.sampler if "sampler" in chosen else "ddim"
        steps = len(own) if sampler == "ddim" and "steps" not in chosen else self.steps
        levels = own if self.levels is None and steps == len(own) else self.levels
        return replace(self, sampler=sampler, steps=steps, levels=levels)

    @property
    def batches(self) -> list[int]:
        """Number of pictures in each batch."""
        at_once = max(1, min(AT_ONCE, PIXELS_AT_ONCE // (self.height * self.width)))
        whole, rest = divmod(self.count, at_once)
        return [at_once] * whole + [rest] * (rest > 0)


@single_precision()
def sample_pictures(
    denoise: DenoiserLike,
    sampling: Sampling,
    device: torch.device,
    *,
    norms: ScoreNorms | None = None,
    ways: int = 0,
    shown: int = SHOWN,
    callback: Callable[[Step], None] = lambda _: None,
) -> tuple[Tensor, Tensor | None]:
    """Draw samples from a prior; estimates of a network that predicts ε are clipped to [-1, 1].

    A latent model draws latents, which are not clipped, and decodes them.

    Args:
        denoise: the prior.
        sampling: options of sampling.
        device: device of the prior.
        norms: score norms of this prior, for samplers that need them.
        ways: number of pictures of the first batch whose trajectory is kept.
        shown: most estimates along a trajectory that are kept, evenly spaced.
        callback: called with a `Step` after each step of each batch.

    Returns:
        Pictures [count, 3, height, width] and, unless ``ways`` is 0, clean estimates along the
        trajectories [ways, up to ``shown``, 3, height, width], both in [0, 1] on the CPU.

    Raises:
        BadArgument: a sampler that needs score norms or a learned variance, which are missing.
    """
    sampler = SAMPLERS[sampling.sampler]
    _check_needs(sampling.sampler, denoise, norms)
    sigmas = levels_of(denoise.schedule, sampling)
    # estimates are clipped before they are guided, as in the released sampler of ADM
    clipped = denoise.predicts_noise and denoise.autoencoder is None
    prior = sampling.guided(within_pictures(denoise) if clipped else denoise)
    generator = torch.Generator().manual_seed(sampling.seed)
    options: dict[str, Any] = {"generator": generator} if sampler.random else {}
    if sampler.score_norms:
        options["norms"] = norms

    made: list[Tensor] = []
    seen: list[Tensor] = []

    def note(step: Step) -> None:
        if ways and not made and step.index in _evenly(step.steps, shown):
            seen.append(visible(_decoded(denoise, step.clean[:ways], sampling)))
        callback(step)

    with torch.inference_mode():
        for count in sampling.batches:
            shape = (count, *_shape(denoise, sampling))
            x = torch.zeros(shape, dtype=torch.float32, device=device)
            noise = start(x, sigmas[0], generator)
            drawn = sampler.run(prior, noise, sigmas, callback=note, **options)
            made.append(visible(_decoded(denoise, drawn, sampling)))

    return torch.cat(made), torch.stack(seen, dim=1) if seen else None


def _shape(denoise: DenoiserLike, sampling: Sampling) -> tuple[int, int, int]:
    """Return the shape of a picture, or of its latents, [C, h, w]."""
    size = (sampling.height, sampling.width)
    codec = denoise.autoencoder
    return (3, *size) if codec is None else (codec.channels, *codec.latent_size(size))


def _decoded(denoise: DenoiserLike, drawn: Tensor, sampling: Sampling) -> Tensor:
    """Return what was drawn as pictures in [-1, 1]."""
    codec = denoise.autoencoder
    return drawn if codec is None else codec.decode(drawn, (sampling.height, sampling.width))


def _check_needs(name: str, denoise: DenoiserLike, norms: ScoreNorms | None) -> None:
    """Refuse a sampler that needs score norms or a learned variance, which are missing."""
    check_variance(name, denoise)
    if SAMPLERS[name].score_norms and norms is None:
        raise BadArgument(f"`sampler`={name}: it needs the model's score norms")


def levels_of(schedule: NoiseSchedule, sampling: Sampling) -> list[float]:
    """Return the noise levels with a final 0."""
    if isinstance(sampling.levels, tuple):
        return [*sampling.levels, 0.0]
    return noise_levels(
        schedule, sampling.steps, sampling.levels or SAMPLERS[sampling.sampler].levels
    )


def _evenly(steps: int, shown: int) -> list[int]:
    """Return up to ``shown`` evenly spaced steps, the first and the last included."""
    return torch.linspace(0, steps - 1, min(shown, steps)).round().long().tolist()


def grid(pictures: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Arrange pictures [N, 3, H, W] in a grid on white, [3, …, …].

    Args:
        pictures: pictures in [0, 1].
        columns: number of columns; None takes about as many as rows.
        gap: pixels between pictures.
    """
    count = len(pictures)
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    framed = F.pad(pictures, (0, gap, 0, gap), value=1.0)
    missing = -count % columns
    framed = torch.cat([framed, framed.new_ones(missing, *framed.shape[1:])])
    _, channels, height, width = framed.shape
    rows = framed.reshape(-1, columns, channels, height, width)

    whole = rows.permute(2, 0, 3, 1, 4).reshape(channels, -1, columns * width)
    return whole[:, : whole.shape[1] - gap, : whole.shape[2] - gap]


def grid_size(
    count: int, height: int, width: int, columns: int | None = None, gap: int = 2
) -> tuple[int, int]:
    """Return height and width of the `grid` of pictures.

    >>> grid_size(5, 32, 48), tuple(grid(torch.zeros(5, 3, 32, 48)).shape[1:])
    ((66, 148), (66, 148))
    """
    columns = columns or math.ceil(math.sqrt(count))
    return math.ceil(count / columns) * (height + gap) - gap, columns * (width + gap) - gap


def visible(pictures: Tensor) -> Tensor:
    """Return pictures in [-1, 1] as pictures in [0, 1] on the CPU."""
    return ((pictures + 1) / 2).clamp(0, 1).float().cpu().clone()
