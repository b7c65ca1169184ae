"""Stages of DeepFloyd IF: step by step as diffusers', and cascades of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from restore import Restorer
from restore.diffusion.protocol import Prediction
from restore.diffusion.stepping import dynamically_thresholded
from restore.errors import BadArgument
from restore.latent.loading import load
from restore.latent.pixels import TextDenoiser
from restore.methods.sampling import Sampling
from restore.methods.text_cascade import LEVEL, check_stage, enlarged_by
from restore.samplers.ancestral import ancestral

PROMPT = "A wooden door"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(pipeline: Callable[[str], Path]) -> TextDenoiser:
    return load(pipeline("deepfloyd-if"))


@pytest.fixture(scope="module")
def larger(pipeline: Callable[[str], Path]) -> TextDenoiser:
    return load(pipeline("deepfloyd-if-super"))


def _theirs(folder: Path, steps: int, **call: Any) -> tuple[Tensor, list[float]]:
    """Return what a pipeline of diffusers draws, and its noise levels with a final 0."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        drawn = pipe(
            PROMPT, num_inference_steps=steps, generator=generator, output_type="pt", **call
        ).images
    alphas = pipe.scheduler.alphas_cumprod.double()[pipe.scheduler.timesteps]
    return drawn, [*((1 - alphas) / alphas).sqrt().tolist(), 0.0]


def _start(side: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Return the pipeline's beginning, white noise, in our coordinates."""
    return (1 + sigma**2) ** 0.5 * torch.randn(1, 3, side, side, generator=generator)


@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_the_first_stage_is_that_of_diffusers(
    guidance: float, pipeline: Callable[[str], Path], base: TextDenoiser
) -> None:
    """Learned variance, guidance that leaves it alone, dynamic thresholding, text in lower case."""
    negative = None if guidance == 1 else "Fog"
    expected, sigmas = _theirs(
        pipeline("deepfloyd-if"), 4, guidance_scale=guidance, negative_prompt=negative
    )
    generator = torch.Generator().manual_seed(1)
    x = _start(16, sigmas[0], generator)
    denoise = base.of_prompt(PROMPT, negative, guidance)
    with torch.inference_mode():
        found = ancestral(denoise, x, sigmas, variance="learned", generator=generator)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_second_stage_is_that_of_diffusers(
    pipeline: Callable[[str], Path], larger: TextDenoiser
) -> None:
    """With the noise of its smaller picture, whose level the network is told."""
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    expected, sigmas = _theirs(
        pipeline("deepfloyd-if-super"), 4, image=small, guidance_scale=4.0, noise_level=120
    )
    generator = torch.Generator().manual_seed(1)
    x = _start(32, sigmas[0], generator)
    with torch.inference_mode():
        denoise = larger.of_prompt(PROMPT).above(small, 120, generator)
        found = ancestral(denoise, x, sigmas, variance="learned", generator=generator)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_dynamic_thresholding_divides_by_a_quantile() -> None:
    values = torch.linspace(-4, 4, 3 * 8 * 8).reshape(1, 3, 8, 8)
    small = 0.1 * values

    def denoise(x: Tensor, sigma: Tensor | float, condition: object = None) -> Any:
        return Prediction(x, torch.zeros_like(x))

    found = dynamically_thresholded(denoise, 0.5, 3.0)(values, 1.0, None)
    limit = float(values.abs().quantile(0.5))
    torch.testing.assert_close(found.clean, (values / limit).clamp(-1, 1))
    torch.testing.assert_close(found.clean + found.noise, values)
    clipped = dynamically_thresholded(denoise, 0.5, 1.0)(values, 1.0, None)
    assert torch.equal(clipped.clean, values.clamp(-1, 1))
    assert torch.equal(dynamically_thresholded(denoise, 0.5, 3.0)(small, 1.0, None).clean, small)


def test_a_stage_sees_the_picture_below(larger: TextDenoiser) -> None:
    """Another picture below makes another one above; noise of a user is a level of the stage."""
    options = Sampling(2, 8, 8, "ddim", 3)
    stage = larger.of_prompt(PROMPT)
    dark, light = (torch.full((2, 3, 16, 16), value) for value in (0.1, 0.9))
    one, same, other, noisy = (
        enlarged_by(stage, small, options, CPU, noise=noise)
        for small, noise in ((dark, None), (dark, None), (light, None), (dark, 3.0))
    )
    assert one.shape == (2, 3, 32, 32)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, noisy)
    alpha = stage.levels[LEVEL]
    seen = stage.above(2 * dark - 1, LEVEL, torch.Generator().manual_seed(0))._bound
    assert seen is not None
    spread = float(seen.picture.sub(-0.8 * alpha).std())
    assert spread == pytest.approx((1 - alpha**2) ** 0.5, rel=0.05)
    with pytest.raises(BadArgument, match="`cascade_noise`=-1: must be between 0 and"):
        enlarged_by(stage, dark, options, CPU, noise=-1)
    with pytest.raises(BadArgument, match="`size`=16x8: must be a square"):
        enlarged_by(stage, dark[:, :, :8], options, CPU)


def test_what_is_no_stage(base: TextDenoiser, latent: Callable) -> None:
    for model in (base, latent("stable-diffusion")):
        with pytest.raises(BadArgument, match="no stage that enlarges a picture by a text"):
            check_stage(model, "x")


def test_the_first_stage_restores_too(pipeline: Callable[[str], Path]) -> None:
    """It is a prior of pixels: known ones stay byte for byte."""
    restorer = Restorer(str(pipeline("deepfloyd-if")), "cpu")
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    options = {"method": "ddnm", "steps": 3}
    door, cat = (
        restorer.inpaint(image, mask, prompt=text, **options) for text in (PROMPT, "a cat")
    )
    assert np.array_equal(door[mask == 0], image[mask == 0])
    assert not np.array_equal(door, cat)


def test_a_later_stage_restores_nothing(pipeline: Callable[[str], Path]) -> None:
    restorer = Restorer(str(pipeline("deepfloyd-if-super")), "cpu")
    with pytest.raises(BadArgument, match="enlarges what another one drew and restores no"):
        restorer.denoise(np.zeros((16, 16, 3), np.uint8), noise=0.1)


def test_the_command_draws_through_a_cascade(
    command, pipeline: Callable[[str], Path], tmp_path: Path
) -> None:
    """64 pixels, then more, then Stable Diffusion's upscaler, as DeepFloyd IF is used."""
    stages = ",".join(str(pipeline(name)) for name in ("deepfloyd-if-super", "upscaler"))
    words = ("--model", pipeline("deepfloyd-if"), "--prompt", PROMPT, "--steps", 2, "--count", 1)
    drawn = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for out, seed in zip(drawn, (0, 0, 1), strict=True):
        done = command("sample", out, *words, "--cascade", stages, "--seed", seed, "-q")
        assert done.code == 0, done.err
    assert Image.open(drawn[0]).size == (128, 128)
    assert drawn[0].read_bytes() == drawn[1].read_bytes() != drawn[2].read_bytes()

    for more, code, said in (
        (("--cascade", "default"), 1, "--cascade default: no pipeline of diffusers"),
        (("--cascade", tmp_path / "x"), 3, "unknown model"),
        (("--cascade", pipeline("deepfloyd-if")), 1, "no stage that enlarges a picture"),
        (("--cascade-noise", 0.1), 1, "--cascade-noise 0.1: between stages; --cascade is missing"),
    ):
        refused = command("sample", tmp_path / "d.png", *words, *more, "-q")
        assert refused.code == code, refused.err
        assert said in refused.err
    assert not (tmp_path / "d.png").exists()
