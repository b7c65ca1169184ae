"""Backbone + schedule = a denoiser: (clean estimate, noise estimate) at a noise level.

Every network speaks the same coordinates here, whatever it was trained on: ``x = x0 + σ ε``,
    pictures in [-1, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrained.description import BackboneConfig, ModelConfig
from restore.backbone import Backbone, build_backbone, mirror_to_multiple
from restore.diffusion.predictor import PREFIX, Predictor
from restore.diffusion.protocol import Condition, Denoise, DenoiserLike, Prediction
from restore.errors import BadArgument

__all__ = [
    "Condition",
    "Denoise",
    "Denoiser",
    "ModelConfig",
    "Prediction",
    "build_denoiser",
    "edm_scales",
    "enlarged",
    "joined_state",
    "split_state",
]


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


class Denoiser(DenoiserLike):
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

    def _preconditioned(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Prediction:
        skip, out, scale = edm_scales(sigma, self.config.sigma_data)
        output, variance_fraction = self._run(
            scale * x, self._time(sigma, torch.rsqrt(1 + sigma**2)), condition
        )
        clean = skip * x + out * output
        return Prediction(clean, (x - clean) / sigma, variance_fraction)

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
