"""Backbone + schedule = a denoiser: (clean estimate, noise estimate) at a noise level.

Every network speaks the same coordinates here, whatever it was trained on: ``x = x0 + σ ε``,
    pictures in [-1, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.backbone import Backbone, BackboneConfig, build_backbone, mirror_to_multiple
from restore.diffusion.predictor import PREFIX, Predictor, PredictorConfig
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument

Parameterization = Literal["epsilon", "v", "x0", "edm"]
PARAMETERIZATIONS: tuple[Parameterization, ...] = ("epsilon", "v", "x0", "edm")


class Prediction(NamedTuple):
    """What a network says of ``x = x0 + σ ε``; all are [B, C, H, W] in float32."""

    clean: Tensor
    """The estimate of x0, E[x0 | x]."""
    noise: Tensor
    """The estimate of ε; ``x = clean + σ noise``."""
    variance_fraction: Tensor | None = None
    """v of a network with a learned variance: where, in the logarithm, the variance of a reverse
    step lies between β̃_t (0) and β_t (1) (Improved DDPM: Nichol, Dhariwal 2021, arXiv 2102.09672,
    eq. 15). Nothing holds it within [0, 1]."""


class Condition(NamedTuple):
    """A degraded picture at full size that the network sees beside the noisy one (SR3)."""

    picture: Tensor
    """[B, C, H, W] in [-1, 1]; zero where nothing is known."""
    known: Tensor
    """[B, 1, H, W]: 1 where the condition picture shows a pixel, `restore.diffusion.evidence.GREY`
    where it shows its brightness alone, else 0. A predictor's answer shows every pixel."""


RESAMPLING = ("bicubic", "bilinear", "pil-bicubic")
"""How a low-resolution picture may be enlarged for a network, see `enlarged`."""


def enlarged(picture: Tensor, size: tuple[int, int], resampling: str = "bicubic") -> Tensor:
    """[B, C, h, w] at a larger ``size`` (height, width), as a network that is conditioned on it
    knows it.
    """
    if resampling == "bilinear":
        return F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
    return F.interpolate(
        picture,
        size=size,
        mode="bicubic",
        align_corners=False,
        antialias=resampling == "pil-bicubic",
    )


Denoise = Callable[[Tensor, "Tensor | float", "Condition | None"], Prediction]
"""``denoise(x, sigma, condition)``: all that solvers know of a network."""


@dataclass(frozen=True)
class ModelConfig:
    """A checkpoint's description, saved beside its weights.

    Attributes:
        backbone: the network.
        schedule: name and options of the chain it was trained on, as for `NoiseSchedule.named`.
        parameterization: what the network's output means: ``epsilon`` (the noise), ``x0`` (the
            clean picture) or ``v = √ᾱ ε − √(1−ᾱ) x0`` (Salimans, Ho 2022, arXiv 2202.00512), or
            ``edm``: what is added to the noisy picture, see `edm_scales`.
        time: the network is told the (interpolated) ``step``, ``√ᾱ`` as SR3's networks are, or ``¼
            ln σ`` as EDM's.
        time_scale: what the step is multiplied by (1000/T in Improved DDPM's chains of T steps).
        sigma_data: standard deviation of clean pictures, of ``edm``.
        size: side in pixels of the pictures it was trained on, if it knows no others; None where
            that does not matter.
        condition_skip: the output is ``F − √(1−ᾱ) · condition``, so that at high noise a
            conditional network only adds to its condition (v-networks only).
        one_step: what a conditional network is shown of the noisy picture when it restores in one
            step at the highest level: the ``noise`` that would be there, or ``zeros``, if it was
            trained so (not epsilon-networks).
        condition_required: the network was trained with its condition alone and is no prior.
        condition_resampling: how the condition of super-resolution was enlarged in training:
            ``bicubic`` is Keys' cubic with a = −3/4, ``pil-bicubic`` with a = −1/2 as in Pillow,
            see `enlarged`.
        scale: the one factor by which it was enlarged; None is any.
        distilled_levels: falling noise levels of the steps of DDIM that the network was distilled
            for, without the final 0 (`restore.training.distillation`); None for a network that is
            to be asked at any level.
        predictor: the second network of the checkpoint, see `restore.diffusion.predictor`; None
            where there is none.
        condition_picture: what the network takes as its condition: the ``degraded`` picture, or
            what the predictor makes of it, ``predicted``, in the tasks whose settings say so.
    """

    backbone: BackboneConfig
    schedule: Mapping[str, Any]
    parameterization: Parameterization = "epsilon"
    time: Literal["step", "sqrt_alphas_cumprod", "log_sigma"] = "step"
    condition_skip: bool = False
    one_step: Literal["noise", "zeros"] = "noise"
    time_scale: float = 1.0
    sigma_data: float = 0.5
    size: int | None = None
    condition_required: bool = False
    condition_resampling: Literal["bicubic", "bilinear", "pil-bicubic"] = "bicubic"
    scale: int | None = None
    distilled_levels: tuple[float, ...] | None = None
    predictor: PredictorConfig | None = None
    condition_picture: Literal["degraded", "predicted"] = "degraded"

    def __post_init__(self) -> None:
        if self.parameterization not in PARAMETERIZATIONS:
            raise ValueError(
                f"unknown parameterization {self.parameterization!r}; known: {PARAMETERIZATIONS}"
            )
        if self.condition_skip and self.parameterization != "v":
            raise ValueError("the condition skip is defined for v-networks only")
        if self.one_step not in ("noise", "zeros"):
            raise ValueError(f"one_step must be noise or zeros, not {self.one_step!r}")
        if self.one_step == "zeros" and self.parameterization == "epsilon":
            raise ValueError("one_step = zeros: an epsilon-network would have nothing to predict")
        if self.time not in ("step", "sqrt_alphas_cumprod", "log_sigma"):
            raise ValueError(
                f"time must be step, sqrt_alphas_cumprod or log_sigma, not {self.time!r}"
            )
        if self.condition_resampling not in RESAMPLING:
            raise ValueError(
                f"condition_resampling must be {', '.join(RESAMPLING)}, not "
                f"{self.condition_resampling!r}"
            )
        if self.condition_required and not self.backbone.condition_channels:
            raise ValueError("condition_required: the network has no condition_channels")
        if self.condition_picture not in ("degraded", "predicted"):
            raise ValueError(
                f"condition_picture must be degraded or predicted, not {self.condition_picture!r}"
            )
        if self.condition_picture == "predicted" and self.predictor is None:
            raise ValueError("condition_picture = predicted: the model has no predictor")
        if not self.backbone.noisy_input or self.backbone.times != 1 or self.backbone.noise_map:
            raise ValueError(
                "a denoiser has a noisy_input, one time and no noise_map; predictors are otherwise"
            )

        multiple = self.backbone.size_multiple
        if self.size is not None and (self.size < 1 or self.size % multiple):
            raise ValueError(
                f"size must be a multiple of {multiple} for this network, not {self.size}"
            )

        levels = self.distilled_levels
        if levels is not None and not (
            levels and min(levels) > 0 and all(a > b for a, b in pairwise(levels))
        ):
            raise ValueError(
                f"distilled_levels must be falling numbers above 0, not {list(levels)}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `dataclasses.asdict`, also after a trip through JSON.

        Raises:
            TypeError: unknown or missing keys.
        """
        predictor = data.get("predictor")
        networks = {
            "backbone": BackboneConfig(**_with_tuples(data["backbone"])),
            "predictor": None if predictor is None else PredictorConfig.from_dict(predictor),
        }
        return cls(**{**_with_tuples(data), **networks})


class Denoiser:
    """A network with the knowledge of what it was trained on.

    Args:
        network: anything callable as `Backbone` is.
        config: its description.
        label: the class of a class-conditional network; `of_class` gives the same network another
            one.
        predictor: the second network of the checkpoint, if it has one.

    Calling it is ``denoise(x, sigma, condition=None)``:
        x: [B, C, H, W], any height and width; sides that the network cannot divide are extended by
            mirroring. A network with a ``config.size`` takes none above it, and always sees
            pictures of that size (`restore.runtime.tiles` shows it larger ones).
        sigma: noise level, one number or [B].
        condition: see `Condition`; None is the unconditional prior.

    It raises ValueError for a class-conditional network without a class, a condition that the
    network cannot see, and pictures above its size.
    """

    def __init__(
        self,
        network: Backbone,
        config: ModelConfig,
        label: int | None = None,
        predictor: Predictor | None = None,
    ) -> None:
        self.network = network
        self.config = config
        self.label = label
        self.predictor = predictor
        self.schedule = NoiseSchedule.named(**config.schedule)

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        sigma = _per_picture(sigma, x)
        if self.config.parameterization == "edm":
            return self._preconditioned(x, sigma, condition)

        alpha = torch.rsqrt(1 + sigma**2)
        s = sigma * alpha
        scaled = alpha * x
        output, variance_fraction = self._run(scaled, self._time(sigma, alpha), condition)
        if self.config.parameterization == "epsilon":
            return Prediction(x - sigma * output, output, variance_fraction)
        if self.config.parameterization == "x0":
            return Prediction(output, (x - output) / sigma, variance_fraction)
        if self.config.condition_skip and condition is not None:
            output = output - s * condition.picture

        return Prediction(
            alpha * scaled - s * output, s * scaled + alpha * output, variance_fraction
        )

    def in_float32(self) -> Denoiser:
        """The same network, whose weights keep the values that they were rounded to."""
        network = copy.deepcopy(self.network).set_compute_dtype(torch.float32)
        return Denoiser(network, self.config, self.label, self.predictor)

    def of_class(self, label: int | None) -> Denoiser:
        """The denoiser of one class, 0 to ``config.backbone.classes − 1``; None is for networks
        without classes.

        Raises:
            BadArgument: there is no such class, or a class-conditional network without one.
        """
        _check_label(label, self.config.backbone.classes)
        return (
            self
            if label == self.label
            else Denoiser(self.network, self.config, label, self.predictor)
        )

    @property
    def learned_variance(self) -> bool:
        """Whether predictions come with a `Prediction.variance_fraction`."""
        return self.config.backbone.learned_variance

    def _preconditioned(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Prediction:
        skip, out, scale = edm_scales(sigma, self.config.sigma_data)
        output, variance_fraction = self._run(
            scale * x, self._time(sigma, torch.rsqrt(1 + sigma**2)), condition
        )
        clean = skip * x + out * output
        return Prediction(clean, (x - clean) / sigma, variance_fraction)

    @property
    def conditional(self) -> bool:
        """Whether the network can see a condition."""
        return self.config.backbone.condition_channels > 0

    @property
    def prior(self) -> bool:
        """Whether the network knows pictures without a condition."""
        return not self.config.condition_required

    @property
    def one_step_from_zeros(self) -> bool:
        """Whether the network restores in one step from zeros instead of from noise."""
        return self.config.one_step == "zeros"

    @property
    def distilled_levels(self) -> tuple[float, ...] | None:
        """See `ModelConfig.distilled_levels`."""
        return self.config.distilled_levels

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _time(self, sigma: Tensor, alpha: Tensor) -> Tensor:
        if self.config.time == "sqrt_alphas_cumprod":
            return alpha.flatten()
        if self.config.time == "log_sigma":
            return sigma.flatten().log() / 4
        return self.config.time_scale * self.schedule.time_at(sigma.flatten())

    def _run(
        self, scaled: Tensor, time: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the network says of the picture, and v = (output + 1)/2 where its variance is
        learned.
        """
        _batch, channels, height, width = scaled.shape
        size = self.config.size
        if size is not None and max(height, width) > size:
            raise ValueError(
                f"this network knows pictures of {size}x{size} pixels alone, not {width}x{height}"
            )

        parts = [scaled, *self._condition_inputs(scaled, condition)]
        network_input = mirror_to_multiple(
            torch.cat(parts, dim=1), size or self.config.backbone.size_multiple
        )
        output = self.network(network_input, time, *self._labels(scaled))[
            ..., :height, :width
        ].float()

        return output[:, :channels], (
            output[:, channels:] + 1
        ) / 2 if self.learned_variance else None

    def _labels(self, scaled: Tensor) -> list[Tensor]:
        if not self.config.backbone.classes:
            return []
        _check_label(self.label, self.config.backbone.classes)
        return [torch.full((len(scaled),), self.label, device=scaled.device)]

    def _condition_inputs(self, scaled: Tensor, condition: Condition | None) -> list[Tensor]:
        config = self.config.backbone
        if condition is not None and not self.conditional:
            raise ValueError("this network is unconditional: it takes no condition")
        if not self.conditional:
            return []
        if condition is None and self.config.condition_required:
            raise ValueError(
                "this network was trained with its condition alone: it cannot do without"
            )

        batch, _, height, width = scaled.shape
        picture = scaled.new_zeros(batch, config.condition_channels, height, width)
        known = scaled.new_zeros(batch, 1, height, width)
        if condition is not None:
            picture = condition.picture.to(scaled).expand_as(picture)
            known = condition.known.to(scaled).expand_as(known)

        return [picture, known] if config.condition_map else [picture]


def edm_scales(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in of ``clean = c_skip x + c_out F(c_in x)`` (EDM: arXiv 2206.00364,
    table 1).
    """
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data * torch.rsqrt(total), torch.rsqrt(total)


def _check_label(label: int | None, count: int) -> None:
    """Raise BadArgument where a network of ``count`` classes does not take the label."""
    if label is None and count:
        raise BadArgument(
            f"--class is missing: this model draws one of {count} classes, 0 to {count - 1}"
        )
    if label is not None and not count:
        raise BadArgument(f"--class {label}: this model knows no classes")
    if label is not None and not 0 <= label < count:
        raise BadArgument(f"--class {label}: must be between 0 and {count - 1} for this model")


def build_denoiser(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Denoiser:
    """A denoiser ready for inference on a device.

    Args:
        config: description of the network.
        state: its weights, of any float type.
        dtype: of convolutions and projections; norms and embeddings are always float32.

    Raises:
        ValueError: weights that do not fit the description, as where one of two networks is
            missing; the message names the keys.
    """
    own, of_predictor = split_state(state)
    network = _loaded(config.backbone, own, device, dtype)
    predictor = None
    if config.predictor is not None:
        predictor = Predictor(
            _loaded(config.predictor.backbone, of_predictor, device, dtype, PREFIX),
            config.predictor,
        )
    elif of_predictor:
        _check_state({}, {name: tuple(t.shape) for name, t in of_predictor.items()}, PREFIX)

    return Denoiser(network, config, predictor=predictor)


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the denoiser, and those of the predictor without their prefix."""
    own = {name: t for name, t in state.items() if not name.startswith(PREFIX)}
    return own, {
        name.removeprefix(PREFIX): t for name, t in state.items() if name.startswith(PREFIX)
    }


def joined_state(
    own: Mapping[str, Tensor], of_predictor: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of `split_state`."""
    return {**own, **{PREFIX + name: t for name, t in of_predictor.items()}}


def _loaded(
    config: BackboneConfig,
    state: Mapping[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
    prefix: str = "",
) -> Backbone:
    with torch.device("meta"):
        network = build_backbone(config)

    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    _check_state(expected, {name: tuple(t.shape) for name, t in state.items()}, prefix)
    network.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)
    network.requires_grad_(False).eval().set_compute_dtype(dtype)
    return network.to(device, memory_format=torch.channels_last)


def _with_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def _check_state(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> None:
    if prefix and expected and not found:
        raise ValueError(
            "the weights lack the predictor that their description has: no tensor begins with "
            "predictor."
        )

    faults = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of the wrong shape": sorted(
            k for k in expected.keys() & found.keys() if expected[k] != found[k]
        ),
    }
    described = [
        f"{len(keys)} {what}: "
        f"{', '.join(prefix + key for key in keys[:3])}{' …' if len(keys) > 3 else ''}"
        for what, keys in faults.items()
        if keys
    ]
    if described:
        raise ValueError(
            "the weights do not fit the network's description; tensors " + "; ".join(described)
        )


def _per_picture(sigma: Tensor | float, x: Tensor) -> Tensor:
    """One noise level per picture as float32 [B, 1, 1, 1]; a number as [1, 1, 1, 1], so that the
    network embeds it once and to the same bits, however many pictures there are."""
    if not isinstance(sigma, Tensor):
        return torch.full((1, 1, 1, 1), float(sigma), device=x.device)
    return sigma.to(x.device, torch.float32).reshape(-1, 1, 1, 1).expand(x.shape[0], 1, 1, 1)
