"""Single steps equal those of diffusers' own pipelines, with text, guidance and conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pretrained.catalogue import latent_models
from restore.diffusion.protocol import Condition
from restore.latent.denoiser import LatentDenoiser

PROMPT = "a wooden door"

# Published options of denoisers, where they are not the defaults of diffusers.
XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UPSCALER = {
    "in_channels": 7,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
    "cross_attention_dim": 1024,
    "num_class_embeds": 1000,
    "only_cross_attention": (True, True, True, False),
    "use_linear_projection": True,
}


class Recorded(NamedTuple):
    """A step of a pipeline: time, latents before it and after it."""

    time: float
    before: Tensor
    after: Tensor


def recorded(folder: Path, **call: Any) -> tuple[Any, list[Recorded]]:
    """Run a pipeline for three steps, and return it with what its scheduler was given and made."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    steps = []
    step = pipe.scheduler.step

    def noted(output: Tensor, time: Any, sample: Tensor, *more: Any, **options: Any) -> Any:
        answer = step(output, time, sample, *more, **options)
        after = answer[0] if isinstance(answer, tuple) else answer.prev_sample
        steps.append(Recorded(float(time), sample.clone(), after.clone()))
        return answer

    pipe.scheduler.step = noted
    with torch.no_grad():
        pipe(**{"num_inference_steps": 3, "generator": torch.Generator().manual_seed(1), **call})
    return pipe, steps


def assert_equal_steps(denoise: LatentDenoiser, pipe: Any, steps: list[Recorded]) -> None:
    """Compare DDIM's steps (Song et al. 2021, arXiv 2010.02502, eq. 12) by our predictions."""
    alphas = pipe.scheduler.alphas_cumprod.double()
    distance = pipe.scheduler.config.num_train_timesteps // 3
    for time, before, after in steps:
        level = alphas[int(time)]
        following = int(time) - distance
        target = (
            alphas[following] if following >= 0 else pipe.scheduler.final_alpha_cumprod.double()
        )
        sigma, lower = (float(((1 - a) / a).sqrt()) for a in (level, target))
        prediction = denoise(before / float(level.sqrt()), sigma)
        ours = (prediction.clean + lower * prediction.noise) * float(target.sqrt())
        scale = float(after.abs().max())
        torch.testing.assert_close(ours / scale, after / scale, atol=1e-4, rtol=0)
    assert len(steps) == 3


@pytest.mark.parametrize("family", ["stable-diffusion", "stable-diffusion-v"])
def test_stable_diffusion(family, pipeline, latent):
    """With a negative prompt, for networks of ε (1.x) and v (2.x)."""
    pipe, steps = recorded(
        pipeline(family), prompt=PROMPT, negative_prompt="fog", guidance_scale=7.5, output_type="pt"
    )
    assert_equal_steps(latent(family).of_prompt(PROMPT, "fog", 7.5), pipe, steps)


def test_stable_diffusion_without_guidance(pipeline, latent):
    pipe, steps = recorded(
        pipeline("stable-diffusion"), prompt="", guidance_scale=1.0, output_type="pt"
    )
    assert_equal_steps(latent("stable-diffusion"), pipe, steps)


@pytest.mark.parametrize("negative", [None, "fog"])
def test_stable_diffusion_xl(negative, pipeline, latent):
    """Without a negative prompt guidance leads away from zeros, not from an empty text."""
    pipe, steps = recorded(
        pipeline("stable-diffusion-xl"), prompt=PROMPT, negative_prompt=negative, output_type="pt"
    )
    denoise = latent("stable-diffusion-xl")
    assert_equal_steps(denoise.of_prompt(PROMPT, negative), pipe, steps)


def test_inpainting(pipeline, latent, photo, monkeypatch):
    """The pipeline draws the latents of the known pixels; here it takes their mean."""
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as module

    monkeypatch.setattr(module, "retrieve_latents", lambda output, **_: output.latent_dist.mode())
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 16:40, 24:56] = 1
    pipe, steps = recorded(
        pipeline("inpainting"),
        prompt=PROMPT,
        image=photo / 2 + 0.5,
        mask_image=hole,
        height=64,
        width=64,
        guidance_scale=4.0,
        output_type="pt",
    )
    condition = Condition(photo * (1 - hole), 1 - hole)
    denoise = latent("inpainting").of_prompt(PROMPT, None, 4.0)
    assert_equal_steps(denoise.seeing(condition), pipe, steps)


def test_upscaler(pipeline, latent, photo, monkeypatch):
    """The network is told that the low-resolution picture has the noise of level 20."""
    from diffusers import DDPMScheduler

    small = photo[..., ::4, ::4]
    seen = []
    add_noise = DDPMScheduler.add_noise

    def noted(self: Any, *given: Any) -> Tensor:
        seen.append(add_noise(self, *given))
        return seen[-1]

    monkeypatch.setattr(DDPMScheduler, "add_noise", noted)
    pipe, steps = recorded(
        pipeline("upscaler"), prompt=PROMPT, image=small / 2 + 0.5, noise_level=20, output_type="pt"
    )
    alpha = float(pipe.low_res_scheduler.alphas_cumprod[20])
    noise = 0.9999 * ((1 - alpha) / alpha) ** 0.5
    condition = Condition(seen[0] / alpha**0.5, torch.ones(1, 1, 16, 16))
    denoise = latent("upscaler").of_prompt(PROMPT).seeing(condition, noise)
    assert denoise.network.level == 20
    assert_equal_steps(denoise, pipe, steps)


def test_latent_diffusion(pipeline, latent):
    pipe, steps = recorded(pipeline("latent-diffusion"))
    assert_equal_steps(latent("latent-diffusion"), pipe, steps)


def test_latent_diffusion_by_text(pipeline, latent):
    pipe, steps = recorded(pipeline("latent-text"), prompt=PROMPT, guidance_scale=6.0)
    assert_equal_steps(latent("latent-text").of_prompt(PROMPT), pipe, steps)


def test_latent_super_resolution(pipeline, latent, photo):
    small = photo[..., ::4, ::4]
    pipe, steps = recorded(pipeline("latent-sr"), image=small)
    condition = Condition(small, torch.ones(1, 1, 16, 16))
    assert_equal_steps(latent("latent-sr").seeing(condition), pipe, steps)


def test_stable_diffusion_3(pipeline, latent):
    """Euler's steps along the velocity; the first begins at t = 1, which no σ has."""
    _, steps = recorded(
        pipeline("stable-diffusion-3"),
        prompt=PROMPT,
        negative_prompt="fog",
        guidance_scale=7.0,
        output_type="pt",
    )
    denoise = latent("stable-diffusion-3").of_prompt(PROMPT, "fog")
    times = [step.time / 1000 for step in steps] + [0.0]
    for (_, before, after), t, lower in zip(steps[1:], times[1:-1], times[2:], strict=True):
        prediction = denoise(before / (1 - t), t / (1 - t))
        ours = (1 - lower) * prediction.clean + lower * prediction.noise
        torch.testing.assert_close(ours, after, atol=1e-4, rtol=0)


def test_kandinsky(pipeline, latent, monkeypatch):
    """Mean and spread of DDPM's steps with a learned variance, from which the pipeline draws; its
    prior embeds the text with the same random numbers.
    """
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    drawn: list[Tensor] = []
    draw = scheduling_ddpm.randn_tensor

    def noted(*given: Any, **options: Any) -> Tensor:
        drawn.append(draw(*given, **options))
        return drawn[-1]

    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", noted)
    texts = {"prompt": PROMPT, "generator": torch.Generator().manual_seed(0)}
    size = {"height": 16, "width": 16, "output_type": "pt"}  # 8x8 latents
    pipe, steps = recorded(pipeline("kandinsky"), **texts, **size)
    assert isinstance(pipe.scheduler, DDPMScheduler)

    denoise = latent("kandinsky").of_prompt(PROMPT)
    alphas = pipe.scheduler.alphas_cumprod.double()
    for (time, before, after), noise in zip(steps[:2], drawn, strict=True):
        level, target = alphas[int(time)], alphas[int(time) - 333]
        found = denoise(before / float(level.sqrt()), float(((1 - level) / level).sqrt()))
        assert found.variance_fraction is not None

        # DDPM, arXiv 2006.11239, eq. 7; Improved DDPM, arXiv 2102.09672, eq. 15
        beta = 1 - level / target
        clean, noisy = target.sqrt() * beta, (level / target).sqrt() * (1 - target)
        mean = (clean * found.clean + noisy * before) / (1 - level)
        log_least = ((1 - target) / (1 - level) * beta).log()
        log_variance = torch.lerp(log_least.float(), beta.log().float(), found.variance_fraction)
        ours = (mean + (log_variance / 2).exp() * noise).float()
        torch.testing.assert_close(ours, after, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "component"),
    [("stable-diffusion", "vae"), ("stable-diffusion-3", "vae"), ("latent-diffusion", "vqvae")],
)
def test_autoencoder(family, component, pipeline, latent, photo):
    """Encoder and decoder with scale and shift are those of the pipeline."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(pipeline(family), local_files_only=True)
    vae = getattr(pipe, component)
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    with torch.no_grad():
        found = vae.encode(photo)
        own = found.latents if component == "vqvae" else found.latent_dist.mode()
        decoded = vae.decode(own).sample
        codec = latent(family).autoencoder
        latents = codec.encode(photo)
        torch.testing.assert_close(latents, (own - shift) * vae.config.scaling_factor)
        torch.testing.assert_close(codec.decode(latents, (64, 64)), decoded, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "unet", "vae_levels", "texts"),
    [
        ("sd15", {"cross_attention_dim": 768}, 4, 123_060_480),
        ("sd15-inpainting", {"cross_attention_dim": 768, "in_channels": 9}, 4, 123_060_480),
        ("sdxl", XL, 4, 123_060_480 + 694_659_840),
        ("sd-x4-upscaler", UPSCALER, 3, 340_387_840),
    ],
)
def test_catalogued_parameters(name, unet, vae_levels, texts):
    """Denoiser and autoencoder of the published options, built without storage; text encoders are
    CLIP ViT-L/14, OpenCLIP ViT-bigG/14, and OpenCLIP ViT-H/14 without its last layer.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    widths = (128, 256, 512, 512)[:vae_levels]
    with torch.device("meta"):
        networks = [
            UNet2DConditionModel(**{"block_out_channels": (320, 640, 1280, 1280), **unet}),
            AutoencoderKL(
                block_out_channels=widths,
                down_block_types=("DownEncoderBlock2D",) * vae_levels,
                up_block_types=("UpDecoderBlock2D",) * vae_levels,
                layers_per_block=2,
            ),
        ]
    count = sum(one.numel() for network in networks for one in network.parameters())
    assert count + texts == latent_models()[name].parameters
