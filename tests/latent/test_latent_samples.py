"""`restore sample` with latent models: text, sizes, and what is refused."""

from __future__ import annotations

import torch
from PIL import Image

from restore.diffusion.stepping import start
from restore.methods.sampling import Sampling, sample_pictures
from restore.samplers.ddim import ddim


def test_samples_are_decoded_latents(latent):
    """Latents are drawn by the sampler, unclipped, and decoded to the size that is asked for."""
    denoise = latent("latent-diffusion")
    sampling = Sampling(count=2, height=30, width=33, sampler="ddim", steps=3, seed=4)
    found, seen = sample_pictures(denoise, sampling, torch.device("cpu"), ways=1)

    from restore.diffusion.schedule import noise_levels
    from restore.samplers.catalogue import SAMPLERS

    sigmas = noise_levels(denoise.schedule, 3, SAMPLERS["ddim"].levels)
    generator = torch.Generator().manual_seed(4)
    with torch.inference_mode():
        z = start(torch.zeros(2, 3, 8, 9), sigmas[0], generator)
        pictures = denoise.autoencoder.decode(ddim(denoise, z, sigmas), (30, 33))
    torch.testing.assert_close(found, ((pictures + 1) / 2).clamp(0, 1))
    assert seen.shape == (1, 3, 3, 30, 33)


def test_a_prompt_changes_the_samples(pipeline, command, tmp_path):
    """Without a size, samples have that of the training pictures: 8 latents of 8 pixels."""
    folder = pipeline("stable-diffusion")
    given = ("sample", "--model", folder, "--count", 1, "--steps", 2, "--quiet", "--seed", 3)
    found = []
    for name, texts in {
        "a": ["--prompt", "a wooden door"],
        "b": ["--prompt", "a wooden door"],
        "c": ["--prompt", "a wooden door", "--guidance", 1],
        "d": ["--prompt", "a wooden door", "--negative-prompt", "fog"],
        "e": [],
    }.items():
        outcome = command(*given, tmp_path / f"{name}.png", *texts)
        assert outcome.code == 0, outcome.err
        found.append(Image.open(tmp_path / f"{name}.png").convert("RGB"))
    assert {one.size for one in found} == {(64, 64)}
    assert found[0].tobytes() == found[1].tobytes()
    assert len({one.tobytes() for one in found}) == 4


def test_refusals(pipeline, command, tmp_path):
    """Texts for models without; a latent model where pixels are needed; a low-resolution one."""
    out = tmp_path / "out.png"
    latent, small = pipeline("latent-diffusion"), pipeline("latent-sr")
    stable = pipeline("stable-diffusion")
    for arguments, message in (
        (["sample", out, "--prompt", "a"], "--prompt: this model knows no text"),
        (["sample", out, "--model", latent, "--prompt", "a"], "--prompt: this model knows no"),
        (["sample", out, "--model", latent, "--guidance", 3], "--guidance 3: guides by a text"),
        (["sample", out, "--model", stable, "--guidance", -1], "--guidance -1: must be 0 or"),
        (
            ["sample", out, "--model", stable, "--guidance", 1, "--negative-prompt", "fog"],
            "--negative-prompt: without guidance",
        ),
        (["sample", out, "--model", latent, "--class", 1], "--class 1: this model knows no cl"),
        (["sample", out, "--model", small], "trained with a low-resolution picture beside"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 1, outcome.err
        assert message in outcome.err
        assert not out.exists()


def test_pixels_are_needed_elsewhere(pipeline, command, picture, tmp_path):
    folder = pipeline("latent-diffusion")
    source = picture("in.png", size=(64, 64))
    for arguments in (
        ["invert", source, tmp_path / "noise.safetensors"],
        ["likelihood", source, "--size", 32],
        ["score-norms", source.parent],
    ):
        outcome = command(*arguments, "--model", folder)
        assert outcome.code == 1, outcome.err
        assert "a latent model" in outcome.err
