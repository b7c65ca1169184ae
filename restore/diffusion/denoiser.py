"""Denoiser: a network with its noise schedule and parameterization.

See `restore.diffusion.protocol` for the coordinates, which are the same for every network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Self, cast

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
    """Enlarge a picture as the condition of super-resolution was in training.

    Args:
        picture: [B, C, h, w].
        size: (height, width) of the result.
        resampling: ``bicubic`` (Keys' cubic with a = −3/4), ``pil-bicubic`` (a = −1/2, as in
            Pillow) or ``bilinear``.
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
    """A network with the description of its training.

    Pictures may have any height and width; sides that the network cannot divide are extended by
    mirroring. A network with a ``config.size`` takes no larger ones, and always sees pictures of
    that size (`restore.runtime.tiles` shows it larger ones).

    A call raises ValueError for a condition that the network cannot see, a missing one that it
    cannot do without, or a picture above its size; BadArgument for a class-conditional network
    without a class.

    Args:
        network: Anything callable as `Backbone` is.
        config: Its description.
        label: Class of a class-conditional network; `of_class` selects another one.
        predictor: The second network of the checkpoint, if it has one.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        config: ModelConfig,
        label: int | None = None,
        predictor: Predictor | None = None,
    ) -> None:
        self.network = cast(Backbone, network)  # of which functions have the call alone
        self.config = config
        self.label = label
        self.predictor = predictor
        _ = (
            self.schedule
        )  # a description that names none is refused here, not in the middle of work

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        sigma = _per_picture(sigma, x)
        if self.config.parameterization == "edm":
            prediction, second = self._preconditioned(x, sigma, condition)
        elif self.config.parameterization == "flow":
            prediction, second = self._on_a_line(x, sigma, condition)
        else:
            prediction, second = self._variance_preserving(x, sigma, condition)
        if second is None:
            return prediction
        if self.config.noise_variance is None:
            return prediction._replace(variance_fraction=(second + 1) / 2)

        squared = F.softplus(second)
        if self.config.noise_variance == "sn":
            squared = (squared - prediction.noise**2).clamp_min(0)
        return prediction._replace(noise_variance=squared)

    def _variance_preserving(
        self, x: Tensor, sigma: Tensor, condition: Condition | None
    ) -> tuple[Prediction, Tensor | None]:
        """Predict from ``x/√(1+σ²)``; also return the second half of the outputs, if any."""
        alpha = torch.rsqrt(1 + sigma**2)
        s = sigma * alpha
        scaled = alpha * x
        output, second = self._run(scaled, self._time(sigma, alpha), condition)
        if self.config.parameterization == "epsilon":
            return Prediction(x - sigma * output, output), second
        if self.config.parameterization == "x0":
            return Prediction(output, (x - output) / sigma), second
        if self.config.condition_skip and condition is not None:
            output = torch.addcmul(output, s, condition.picture, value=-1)

        clean = torch.addcmul(alpha * scaled, s, output, value=-1)
        return Prediction(clean, torch.addcmul(s * scaled, alpha, output)), second

    def in_float32(self) -> Denoiser:
        """Return the same network in float32, with the values its weights were rounded to."""
        network = copy.deepcopy(self.network).set_compute_dtype(torch.float32)
        return Denoiser(network, self.config, self.label, self.predictor)

    def of_class(self, label: int | None) -> Self:
        _check_label(label, self.config.backbone.classes)
        if label == self.label:
            return self

        other = copy.copy(self)
        other.label = label
        return other

    def _preconditioned(
        self, x: Tensor, sigma: Tensor, condition: Condition | None
    ) -> tuple[Prediction, Tensor | None]:
        """Predict as EDM: ``clean = c_skip x + c_out F(c_in x)``, see `edm_scales`."""
        skip, out, scale = edm_scales(sigma, self.config.sigma_data)
        output, second = self._run(
            scale * x, self._time(sigma, torch.rsqrt(1 + sigma**2)), condition
        )
        clean = skip * x + out * output
        return Prediction(clean, (x - clean) / sigma), second

    def _on_a_line(
        self, x: Tensor, sigma: Tensor, condition: Condition | None
    ) -> tuple[Prediction, Tensor | None]:
        """Predict from ``x_t = (1 − t) x0 + t ε``, σ = t/(1 − t), by the velocity ``ε − x0``."""
        t = sigma / (1 + sigma)
        scaled = x / (1 + sigma)
        time = self.config.time_scale * t.flatten()
        velocity, second = self._run(scaled, time, condition)
        return Prediction(scaled - t * velocity, scaled + (1 - t) * velocity), second

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    def _time(self, sigma: Tensor, alpha: Tensor) -> Tensor:
        """Time input of the network, [B] or [1]."""
        if self.config.time == "sqrt_alphas_cumprod":
            return alpha.flatten()
        if self.config.time == "log_sigma":
            return sigma.flatten().log() / 4
        return self.config.time_scale * self.schedule.time_at(sigma.flatten())

    def _run(
        self, scaled: Tensor, time: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs of the network for the picture and, if it has them, for the variance."""
        _, channels, height, width = scaled.shape
        size = self.config.size
        if size is not None and max(height, width) > size:
            raise ValueError(
                f"this network knows pictures of {size}x{size} pixels alone, not {width}x{height}"
            )

        parts = [scaled, *self._condition_inputs(scaled, condition)]
        multiple = size or self.config.backbone.size_multiple
        network_input = mirror_to_multiple(torch.cat(parts, dim=1), multiple)
        output = self.network(network_input, time, *self._labels(scaled))
        output = output[..., :height, :width].float()
        if not self.config.backbone.learned_variance:
            return output[:, :channels], None

        return output[:, :channels], output[:, channels:]

    def _labels(self, scaled: Tensor) -> list[Tensor]:
        """Class input of the network, none for networks without classes."""
        _check_label(self.label, self.config.backbone.classes)
        if self.label is None:
            return []
        return [torch.full((len(scaled),), self.label, device=scaled.device)]

    def _condition_inputs(self, scaled: Tensor, condition: Condition | None) -> list[Tensor]:
        """Channels of the condition, zero without one; none for unconditional networks."""
        config = self.config.backbone
        if condition is not None and not self.conditional:
            raise ValueError("this network is unconditional: it takes no condition")
        if not config.condition_channels:
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
    """c_skip, c_out and c_in of EDM (Karras et al. 2022, arXiv 2206.00364, table 1)."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data * torch.rsqrt(total), torch.rsqrt(total)


def _check_label(label: int | None, count: int) -> None:
    """Check a label for a network of ``count`` classes.

    Raises:
        BadArgument: If the network does not take it.
    """
    if label is None and count:
        raise BadArgument(
            f"`label` is missing: this model draws one of {count} classes, 0 to {count - 1}"
        )
    if label is not None and not count:
        raise BadArgument(f"`label`={label}: this model knows no classes")
    if label is not None and not 0 <= label < count:
        raise BadArgument(f"`label`={label}: must be between 0 and {count - 1} for this model")


def build_denoiser(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Denoiser:
    """Build a denoiser for inference.

    Args:
        config: Description of the checkpoint.
        state: Its tensors, of any float type.
        device: Device of the weights.
        dtype: Type of convolutions and projections; norms and embeddings are always float32.

    Raises:
        ValueError: If the tensors do not fit the description, for example because one of two
            networks is missing; the message lists their names.
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
        check_state({}, {name: tuple(t.shape) for name, t in of_predictor.items()}, PREFIX)

    return Denoiser(network, config, predictor=predictor)


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split tensors into those of the denoiser and the predictor's, without their prefix."""
    own = {name: t for name, t in state.items() if not name.startswith(PREFIX)}
    return own, {
        name.removeprefix(PREFIX): t for name, t in state.items() if name.startswith(PREFIX)
    }


def joined_state(
    own: Mapping[str, Tensor], of_predictor: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Join the tensors of both networks, the inverse of `split_state`."""
    return {**own, **{PREFIX + name: t for name, t in of_predictor.items()}}


def _loaded(
    config: BackboneConfig,
    state: Mapping[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
    prefix: str = "",
) -> Backbone:
    """Build a network and load its weights, see `build_denoiser`."""
    with torch.device("meta"):
        network = build_backbone(config)

    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    check_state(expected, {name: tuple(t.shape) for name, t in state.items()}, prefix)
    network.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)
    network.requires_grad_(False).eval().set_compute_dtype(dtype)
    return network.to(device).to(memory_format=torch.channels_last)


def check_state(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> None:
    """Check names and shapes of a network's tensors.

    Args:
        expected: Shapes by name, of the description.
        found: Shapes by name, of the checkpoint.
        prefix: Prefix of the names in the message.

    Raises:
        ValueError: If they differ.
    """
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
    """Noise levels as float32 [B, 1, 1, 1], or [1, 1, 1, 1] for one number.

    A number is embedded once, with the same result for any batch size.
    """
    if not isinstance(sigma, Tensor):
        return torch.full((1, 1, 1, 1), float(sigma), device=x.device, dtype=torch.float32)
    return sigma.to(x.device, torch.float32).reshape(-1, 1, 1, 1).expand(x.shape[0], 1, 1, 1)
