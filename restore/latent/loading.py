"""The denoiser of a pipeline's folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pretrained import pipelines
from pretrained.description import BackboneConfig, ModelConfig, Parameterization
from pretrained.errors import CheckpointError
from pretrained.pipelines import Pipeline, Sees
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import Unavailable
from restore.latent.autoencoder import PictureCodec
from restore.latent.denoiser import LatentDenoiser
from restore.latent.libraries import component
from restore.latent.network import (
    ByImage,
    ByText,
    Inpainting,
    LatentNetwork,
    Transformer,
    Unconditional,
)
from restore.latent.pixels import TextDenoiser, Threshold
from restore.latent.prior import ImagePrior
from restore.latent.text import TextEncoders
from restore.runtime.budget import SHARE
from restore.runtime.devices import free_memory
from restore.runtime.tiles import Notice

# Parameterisations by a scheduler's prediction_type.
PREDICTIONS: Mapping[str, Parameterization] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "x0",
}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear"}

# Scale of latents where an old config has none.
DEFAULT_SCALE = 0.18215

# Channels of the pictures of a model of pixels.
PICTURE_CHANNELS = 3


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    tile: int | None = None,
    memory: int | None = None,
    notice: Notice = warnings.warn,
) -> LatentDenoiser | TextDenoiser:
    """Load a pipeline of diffusers as a denoiser of latents, or of pixels by a text.

    Args:
        folder: The folder with model_index.json.
        device: Device of networks and autoencoder.
        dtype: Type of the denoising network; the autoencoder is always float32.
        tile: Side of a tile in pixels of the picture.
        memory: Bytes to use on the device; None is most of what is free.
        notice: Called with warnings.

    Raises:
        CheckpointError: No pipeline, or one that is not known or not complete.
        Unavailable: A package is missing, a component cannot be loaded, or is too large for the
            memory.
    """
    device = torch.device(device)
    pipeline = pipelines.read(folder)
    memory = int(SHARE * free_memory(device)) if memory is None else memory
    needed = _weights_bytes(pipeline, dtype)
    _check_memory(needed, memory, device)
    family = pipeline.family
    if family.autoencoder is None:
        return _of_pixels(pipeline, device, dtype, notice)

    autoencoder = component(
        pipeline,
        family.autoencoder,
        use_safetensors=True,
        variant=pipeline.variant(family.autoencoder),
        torch_dtype=torch.float32,
    )
    codec = PictureCodec(
        _frozen(autoencoder, device), *_scale_and_shift(pipeline, autoencoder), tile
    )
    sees = _sees(pipeline, codec.channels)
    config = _config(pipeline, codec.channels, codec.factor, sees)

    unet = _network(pipeline, dtype)
    network = _adapter(unet, sees)(_frozen(unet, device), codec.channels, codec.factor)
    texts = _texts(pipeline, device, dtype)

    if tile is None:
        codec.within((memory - needed) / 2)
    denoiser = LatentDenoiser(
        Denoiser(network, config),
        codec,
        _side(pipeline),
        texts=texts,
        guidance=family.guidance,
        sees=sees,
        levels=_levels(pipeline),
        tile=tile,
        notice=notice,
    )
    return denoiser if texts is None else denoiser.of_prompt(None)


def _texts(
    pipeline: Pipeline, device: torch.device, dtype: torch.dtype
) -> TextEncoders | ImagePrior | None:
    """Return what makes embeddings of texts; None for a model without text."""
    if not pipeline.family.texts:
        return None
    if pipeline.family.others:
        return ImagePrior(pipeline, device)
    return TextEncoders(pipeline, _text_width(pipeline), device, dtype)


def _of_pixels(
    pipeline: Pipeline, device: torch.device, dtype: torch.dtype, notice: Notice
) -> TextDenoiser:
    """Load a stage of DeepFloyd IF.

    Raises:
        CheckpointError: A network or a schedule that is not known.
        Unavailable: A component cannot be loaded.
    """
    sees = _sees(pipeline, PICTURE_CHANNELS)
    config = _config(pipeline, PICTURE_CHANNELS, 1, sees)
    about = pipeline.config(pipeline.family.network)
    is_learned = int(about.get("out_channels", 0)) == 2 * PICTURE_CHANNELS
    backbone = replace(config.backbone, learned_variance=is_learned)
    config = replace(config, backbone=backbone, size=_side(pipeline), scale=None)

    unet = _network(pipeline, dtype)
    network = ByText(_frozen(unet, device), PICTURE_CHANNELS, 1)
    denoiser = TextDenoiser(
        Denoiser(network, config),
        TextEncoders(pipeline, _text_width(pipeline), device, dtype),
        guidance=pipeline.family.guidance,
        levels=_noise_levels(pipeline),
        threshold=_threshold(pipeline.config("scheduler")),
        notice=notice,
    )
    return denoiser.of_prompt(None)


def _network(pipeline: Pipeline, dtype: torch.dtype) -> Any:
    """Load the denoising network."""
    name = pipeline.family.network
    variant = pipeline.variant(name)
    return component(pipeline, name, use_safetensors=True, variant=variant, torch_dtype=dtype)


def _threshold(scheduler: Mapping[str, Any]) -> Threshold | None:
    """Return how a scheduler thresholds clean estimates."""
    if scheduler.get("thresholding"):
        return Threshold(
            float(scheduler.get("dynamic_thresholding_ratio") or 0.995),
            float(scheduler.get("sample_max_value") or 1.0),
        )
    return Threshold() if scheduler.get("clip_sample", True) else None


def _noise_levels(pipeline: Pipeline) -> tuple[float, ...]:
    """Return √ᾱ of each noise level that the smaller picture of a stage may have."""
    if pipeline.family.sees is None:
        return ()
    scheduler = pipeline.config("image_noising_scheduler")
    alphas = NoiseSchedule.named(**_schedule(scheduler, False)).alphas_cumprod
    return tuple(float(alpha) ** 0.5 for alpha in alphas)


def _frozen(network: Any, device: torch.device) -> Any:
    return network.requires_grad_(False).eval().to(device)


def _weights_bytes(pipeline: Pipeline, dtype: torch.dtype) -> int:
    """Return the bytes of the weights of denoiser and autoencoder on the device."""
    found = 0
    for name, kept in (
        (pipeline.family.network, dtype),
        (pipeline.family.autoencoder, torch.float32),
    ):
        for path in [] if name is None else pipeline.weights(name):
            if path.suffix == ".safetensors":
                found += path.stat().st_size * kept.itemsize // _stored_bytes(path)
    return found


def _stored_bytes(path: Path) -> int:
    """Return the bytes of a number in a file of weights, by its first tensor."""
    try:
        with safe_open(path, "pt") as file:
            kind = next((file.get_slice(name).get_dtype() for name in file.keys()), "F32")  # noqa: SIM118
    except (SafetensorError, OSError):
        return 4  # told when it is loaded
    return 2 if kind in ("F16", "BF16") else 4


def _check_memory(needed: int, memory: int, device: torch.device) -> None:
    """Refuse a model whose weights alone do not fit the memory.

    Raises:
        Unavailable: They do not; the text says what would help.
    """
    if needed > memory:
        raise Unavailable(
            f"its weights take {needed / 1e9:.1f} GB, and {memory / 1e9:.1f} GB of the memory of "
            f"{device} can be used; close other programs, use more `memory` or another `device`, "
            "or a smaller model, such as sd15"
        )


def _adapter(network: Any, sees: Sees | None) -> type[LatentNetwork]:
    """Return the interface to a network of this class."""
    kind = type(network).__name__
    if kind == "UNet2DModel":
        return Unconditional
    if kind == "SD3Transformer2DModel":
        return Transformer
    if network.config.encoder_hid_dim_type == "image_proj":
        return ByImage
    return Inpainting if sees == "known pixels" else ByText


def _config(pipeline: Pipeline, channels: int, factor: int, sees: Sees | None) -> ModelConfig:
    """Describe the network as other models are described.

    Raises:
        CheckpointError: A schedule or a prediction that is not known.
    """
    network = pipeline.config(pipeline.family.network)
    scheduler = pipeline.config("scheduler")
    widths = network.get("block_out_channels") or [1]
    is_flow = "FlowMatch" in str(scheduler.get("_class_name", ""))
    patch = int(network.get("patch_size") or 1)
    backbone = BackboneConfig(
        image_channels=channels,
        condition_channels={None: 0, "known pixels": channels, "low resolution": 3}[sees],
        condition_map=sees == "known pixels",
        learned_variance=network.get("out_channels") == 2 * channels,
        channels=int(widths[0]),
        channel_multipliers=(1,) if is_flow else tuple(width / widths[0] for width in widths),
        patch=patch,
    )

    return ModelConfig(
        backbone,
        _schedule(scheduler, is_flow),
        parameterization="flow" if is_flow else _prediction(scheduler),
        time_scale=float(scheduler.get("num_train_timesteps", 1000)) if is_flow else 1.0,
        condition_required=sees == "low resolution",
        scale=factor if sees == "low resolution" else None,
    )


def _schedule(scheduler: Mapping[str, Any], is_flow: bool) -> dict[str, Any]:
    """Return the noise schedule of a scheduler_config.json.

    Raises:
        CheckpointError: It is not known.
    """
    steps = int(scheduler.get("num_train_timesteps", 1000))
    if is_flow:
        return {"name": "flow", "timesteps": steps, "shift": float(scheduler.get("shift") or 1.0)}

    kind = scheduler.get("beta_schedule", "linear")
    for option in ("trained_betas", "rescale_betas_zero_snr"):
        if scheduler.get(option):
            raise CheckpointError(f"scheduler_config.json: {option} is not known here")
    if kind == "squaredcos_cap_v2":
        return {"name": "cosine", "timesteps": steps}
    if kind not in SCHEDULES or "beta_start" not in scheduler or "beta_end" not in scheduler:
        raise CheckpointError(
            f"scheduler_config.json: the beta_schedule {kind!r} is not known here, or lacks its "
            "beta_start and beta_end"
        )

    range_ = {"start": float(scheduler["beta_start"]), "end": float(scheduler["beta_end"])}
    return {"name": SCHEDULES[kind], "timesteps": steps, **range_}


def _prediction(scheduler: Mapping[str, Any]) -> Parameterization:
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise CheckpointError(
            f"scheduler_config.json: the prediction_type {kind!r} is not known here"
        )
    return PREDICTIONS[kind]


def _sees(pipeline: Pipeline, channels: int) -> Sees | None:
    """Return what the network sees beside latents, by its channels.

    Raises:
        CheckpointError: It sees something that is not known here.
    """
    network = pipeline.config(pipeline.family.network)
    more = int(network.get("in_channels", channels)) - channels
    if pipeline.family.sees == "low resolution" and more == 3:
        return "low resolution"
    if pipeline.family.sees is None and more in (0, channels + 1):
        return "known pixels" if more else None

    raise CheckpointError(
        f"{pipeline.family.network}/config.json: in_channels = {network.get('in_channels')} beside "
        f"latents of {channels} channels is not known here"
    )


def _scale_and_shift(pipeline: Pipeline, autoencoder: Any) -> tuple[float, float]:
    """Return the factor of the latents, and the shift before it, as the pipeline has them."""
    alone = pipeline.family.sees == "low resolution" and not pipeline.family.texts
    if alone or pipeline.family.autoencoder == "movq":
        return 1.0, 0.0  # latents as they are

    config = autoencoder.config
    return float(config.scaling_factor or DEFAULT_SCALE), float(
        getattr(config, "shift_factor", None) or 0.0
    )


def _levels(pipeline: Pipeline) -> tuple[float, ...]:
    """Return √ᾱ of each noise level of the low-resolution picture that the network is told."""
    if pipeline.family.sees != "low resolution" or not pipeline.family.texts:
        return ()

    scheduler = pipeline.config("low_res_scheduler")
    most = int(pipeline.options.get("max_noise_level") or 350)
    alphas = NoiseSchedule.named(**_schedule(scheduler, False)).alphas_cumprod
    return tuple(float(alpha) ** 0.5 for alpha in alphas[: most + 1])


def _side(pipeline: Pipeline) -> int:
    """Return the side of the latents in training."""
    side = pipeline.config(pipeline.family.network).get("sample_size") or 64
    return int(side[0] if isinstance(side, list) else side)


def _text_width(pipeline: Pipeline) -> int:
    """Return the channels of what cross-attention sees."""
    network = pipeline.config(pipeline.family.network)
    return int(network.get("joint_attention_dim") or network.get("cross_attention_dim") or 768)
