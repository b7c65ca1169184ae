"""Small pipelines of diffusers with random weights, in the layout of the hub.

Each has the classes and options of the published configuration of its family, with few channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz,"
# Channels of every text encoder.
WIDTH = 16


def written(folder: Path, family: str) -> Path:
    """Write the pipeline of a family, one of `FAMILIES`, and return its folder."""
    target = folder / family
    if not target.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            FAMILIES[family](folder).save_pretrained(target, safe_serialization=True)
    return target


def _stable(folder: Path, **options: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        **_parts(folder, **options), requires_safety_checker=False, **_unchecked()
    )


def _stable_v(folder: Path) -> Any:
    return _stable(folder, scheduler={"prediction_type": "v_prediction"})


def _inpainting(folder: Path) -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(
        **_parts(folder, unet={"in_channels": 9}), requires_safety_checker=False, **_unchecked()
    )


def _stable_xl(folder: Path) -> Any:
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    unet = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
        "cross_attention_dim": 2 * WIDTH,
        "transformer_layers_per_block": (1, 2),
    }
    return StableDiffusionXLPipeline(
        **_parts(folder, unet=unet),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(layers=3)),
        tokenizer_2=_clip_tokenizer(folder),
    )


def _upscaler(folder: Path) -> Any:
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    unet = {"in_channels": 7, "num_class_embeds": 1000, "sample_size": 16}
    parts = _parts(
        folder,
        unet=unet,
        vae={"levels": 3, "scaling_factor": 0.08333},
        scheduler={"prediction_type": "v_prediction"},
    )
    low = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return StableDiffusionUpscalePipeline(**parts, low_res_scheduler=low, max_noise_level=350)


def _stable_3(folder: Path) -> Any:
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

    t5 = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=2 * WIDTH,
    )
    clips = {
        f"text_encoder{number}": CLIPTextModelWithProjection(_clip_config(layers=layers))
        for number, layers in (("", 2), ("_2", 3))
    }
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(
            **_vae_options(levels=3), latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609
        ),
        **clips,
        tokenizer=_clip_tokenizer(folder),
        tokenizer_2=_clip_tokenizer(folder),
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=_t5_tokenizer(),
    )


def _if(folder: Path) -> Any:
    from diffusers import IFPipeline

    return IFPipeline(**_if_parts(folder, {}), requires_safety_checker=False)


def _if_super(folder: Path) -> Any:
    from diffusers import DDPMScheduler, IFSuperResolutionPipeline

    unet = {
        "in_channels": 6,
        "sample_size": 32,
        "class_embed_type": "timestep",
        "mid_block_scale_factor": 1.414,
        "time_embedding_act_fn": "gelu",
        "time_embedding_dim": 32,
    }
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    parts = _if_parts(folder, unet)
    return IFSuperResolutionPipeline(
        **parts, image_noising_scheduler=noising, requires_safety_checker=False
    )


def _if_parts(folder: Path, unet: dict[str, Any]) -> dict[str, Any]:
    """The components of a stage of DeepFloyd IF, with the options of the published ones."""
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel

    t5 = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    options: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 6,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "cross_attention_dim": 32,
        "encoder_hid_dim": 32,
        "attention_head_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        variance_type="learned_range",
    )
    return {
        "tokenizer": _t5_tokenizer(),
        "text_encoder": T5EncoderModel(t5),
        "unet": UNet2DConditionModel(**options | unet),
        "scheduler": scheduler,
        **_unchecked(),
        "watermarker": None,
    }


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=[*pieces, *((one, -3.0) for one in LETTERS)], extra_ids=0)


def _latent(folder: Path) -> Any:
    from diffusers import LDMPipeline

    return LDMPipeline(_vq(), _unet2d(3), _ddim(beta_start=0.0015, beta_end=0.0195))


def _latent_text(folder: Path) -> Any:
    from diffusers import LDMTextToImagePipeline
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import (
        LDMBertConfig,
        LDMBertModel,
    )
    from transformers import BertTokenizer

    parts = _parts(folder, scheduler={"beta_start": 0.0015, "beta_end": 0.0195})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "door", "wooden"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    bert = LDMBertModel(
        LDMBertConfig(
            vocab_size=len(words),
            max_position_embeddings=77,
            encoder_layers=1,
            encoder_ffn_dim=32,
            encoder_attention_heads=2,
            d_model=WIDTH,
            pad_token_id=0,
            head_dim=8,
        )
    )
    return LDMTextToImagePipeline(
        parts["vae"],
        bert,
        BertTokenizer(str(folder / "vocab.txt")),
        parts["unet"],
        parts["scheduler"],
    )


def _latent_sr(folder: Path) -> Any:
    from diffusers import LDMSuperResolutionPipeline

    return LDMSuperResolutionPipeline(
        _vq(), _unet2d(6, 3, size=16), _ddim(beta_start=0.0015, beta_end=0.0155)
    )


def _kandinsky(folder: Path) -> Any:
    from diffusers import DDPMScheduler, KandinskyV22CombinedPipeline, UNet2DConditionModel, VQModel

    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
    )
    movq = VQModel(
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 32),
        latent_channels=4,
        num_vq_embeddings=12,
        vq_embed_dim=4,
        norm_type="spatial",
    )
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="epsilon",
        variance_type="learned_range",
        clip_sample=False,
    )
    return KandinskyV22CombinedPipeline(unet, scheduler, movq, **_prior(folder))


def _prior(folder: Path) -> dict[str, Any]:
    """Components of the prior of Kandinsky 2.2."""
    from diffusers import PriorTransformer, UnCLIPScheduler
    from transformers import (
        CLIPImageProcessor,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=32,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "prior_prior": PriorTransformer(
            num_attention_heads=2, attention_head_dim=8, embedding_dim=WIDTH, num_layers=1
        ),
        "prior_image_encoder": CLIPVisionModelWithProjection(vision),
        "prior_text_encoder": CLIPTextModelWithProjection(_clip_config(layers=1)),
        "prior_tokenizer": _clip_tokenizer(folder),
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        "prior_image_processor": CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    }


FAMILIES: dict[str, Callable[[Path], Any]] = {
    "stable-diffusion": _stable,
    "stable-diffusion-v": _stable_v,
    "inpainting": _inpainting,
    "stable-diffusion-xl": _stable_xl,
    "upscaler": _upscaler,
    "stable-diffusion-3": _stable_3,
    "kandinsky": _kandinsky,
    "latent-diffusion": _latent,
    "latent-text": _latent_text,
    "latent-sr": _latent_sr,
    "deepfloyd-if": _if,
    "deepfloyd-if-super": _if_super,
}


def _unchecked() -> dict[str, None]:
    return {"safety_checker": None, "feature_extractor": None}


def _parts(
    folder: Path,
    unet: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Components of Stable Diffusion 1.x, with other options."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    own = dict(vae or {})
    levels = own.pop("levels", 4)
    options = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        **(unet or {}),
    }
    return {
        "vae": AutoencoderKL(**_vae_options(levels), latent_channels=4, **own),
        "unet": UNet2DConditionModel(**options),
        "scheduler": _ddim(**(scheduler or {})),
        "text_encoder": CLIPTextModel(_clip_config(layers=2)),
        "tokenizer": _clip_tokenizer(folder),
    }


def _vae_options(levels: int) -> dict[str, Any]:
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": (8,) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }


def _vq() -> Any:
    from diffusers import VQModel

    options = _vae_options(levels=3)
    return VQModel(**options, latent_channels=3, num_vq_embeddings=64, vq_embed_dim=3)


def _unet2d(channels: int, out: int | None = None, size: int = 8) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=out or channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=4,
    )


def _ddim(**options: Any) -> Any:
    from diffusers import DDIMScheduler

    own = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(
        **{**own, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **options}
    )


def _clip_config(layers: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS),
        hidden_size=WIDTH,
        intermediate_size=32,
        projection_dim=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _clip_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{one}</w>" for one in LETTERS)]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
