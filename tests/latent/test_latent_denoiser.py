"""The denoiser of a latent model: texts, conditions, tiles, number formats and memory."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch

from restore.diffusion.protocol import Condition
from restore.errors import BadArgument, Unavailable
from restore.latent.loading import load
from restore.restorer import Restorer


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_guidance_extrapolates_from_the_negative_text(latent):
    """``free + w (conditional − free)``, as Stable Diffusion has it, in clean picture and noise."""
    denoise = latent("stable-diffusion")
    z = noise(2, 4, 8, 8)
    conditional, free = (denoise.of_prompt(text, None, 1)(z, 2.0) for text in ("door", "fog"))
    guided = denoise.of_prompt("door", "fog", 3.0)(z, 2.0)
    for found, c, f in zip(guided[:2], conditional[:2], free[:2], strict=True):
        torch.testing.assert_close(found, f + 3 * (c - f), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(denoise(z, 2.0).clean, denoise.of_prompt("", None, 1)(z, 2.0).clean)


def test_the_end_of_a_long_prompt_is_said_to_be_unseen(latent, caplog):
    with caplog.at_level("INFO", "restore"):
        latent("stable-diffusion").of_prompt(" ".join(["door"] * 40))
    assert "the model sees 75 tokens of the prompt, and not its end" in caplog.text


def test_an_inpainting_network_sees_whole_latent_pixels_alone(latent, photo):
    """A latent pixel is known if all its pixels are; without a condition nothing is known."""
    denoise = latent("inpainting")
    known = torch.ones(1, 1, 64, 64)
    known[..., 17, 30] = 0  # a single pixel of the latent pixel 2, 3
    z = noise(1, 4, 8, 8)
    shown = denoise._encoded(Condition(photo * known, known))
    assert shown.known[0, 0].eq(0).nonzero().tolist() == [[2, 3]]
    torch.testing.assert_close(shown.picture, denoise.autoencoder.encode(photo * known))

    hidden = denoise(z, 1.0, Condition(torch.zeros_like(photo), torch.zeros(1, 1, 64, 64)))
    torch.testing.assert_close(denoise(z, 1.0).clean, hidden.clean)
    seeing = denoise.seeing(Condition(photo * known, known))
    assert not torch.equal(seeing(z, 1.0).clean, hidden.clean)
    torch.testing.assert_close(seeing.of_prompt("")(z, 1.0).clean, seeing(z, 1.0).clean)


def test_large_latents_go_through_in_tiles(latent, monkeypatch):
    """No call sees more than a tile, 1.5 times the side of the training; guidance, text and sizes
    work as in one piece.
    """
    denoise = latent("stable-diffusion-xl").of_prompt("door", None, 4)
    network = denoise.network.network
    seen = []
    network.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    found = denoise(noise(1, 4, 30, 21), 1.0)
    assert found.clean.shape == (1, 4, 30, 21)
    assert bool(torch.isfinite(found.clean).all())
    assert {shape[0] for shape in seen} == {2}
    assert max(shape[-1] * shape[-2] for shape in seen) <= 12**2
    torch.testing.assert_close(found.clean + found.noise, noise(1, 4, 30, 21), atol=1e-5, rtol=0)


def test_gradients_reach_the_latents(latent):
    """Through network and decoder, after the text was embedded in inference mode."""
    with torch.inference_mode():
        denoise = latent("stable-diffusion").of_prompt("a new text", None, 2)
    z = noise(1, 4, 8, 8).requires_grad_()
    pictures = denoise.autoencoder.decode(denoise(z, 1.0).clean, (64, 64))
    (gradient,) = torch.autograd.grad(pictures.square().sum(), z)
    assert float(gradient.abs().max()) > 0


def test_half_precision_is_near(pipeline, latent):
    """The network alone is in bfloat16; the autoencoder stays in float32."""
    half = load(pipeline("stable-diffusion"), "cpu", torch.bfloat16).of_prompt("door", None, 1)
    z = noise(1, 4, 8, 8)
    whole = latent("stable-diffusion").of_prompt("door", None, 1)(z, 1.0).noise
    assert half.network.compute_dtype == torch.bfloat16
    assert half.autoencoder.network.dtype == torch.float32
    assert float((half(z, 1.0).noise - whole).norm() / whole.norm()) < 0.05


def test_other_default_types_change_nothing(pipeline):
    folder = str(pipeline("stable-diffusion"))
    expected = Restorer(folder, "cpu")
    torch.set_default_dtype(torch.float64)
    try:
        restorer = Restorer(folder, "cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    z = noise(1, 4, 8, 8)
    assert torch.equal(restorer.denoiser(z, 1.0).clean, expected.denoiser(z, 1.0).clean)


def test_too_little_memory_is_said(pipeline):
    """The weights alone do not fit; tiles of the autoencoder shrink before that."""
    folder = pipeline("stable-diffusion")
    with pytest.raises(Unavailable, match=r"its weights take 0\.0 GB, and 0\.0 GB of the memory"):
        load(folder, memory=10_000)
    sides = [load(folder, memory=memory).autoencoder.tile for memory in (10**6, 10**8, 10**10)]
    assert sides == [256, 440, 1024]


def test_missing_packages_are_named(pipeline, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "diffusers" else find(name)
    )
    with pytest.raises(
        Unavailable, match=r"need diffusers: pip install 'restore-diffusion\[latent"
    ):
        load(pipeline("stable-diffusion"))


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("unet/diffusion_pytorch_model.safetensors", b"damaged", "component unet cannot be loaded"),
        ("vae/config.json", b'{"block_out_channels": 3}', "the component vae cannot be loaded"),
        ("scheduler/scheduler_config.json", b'{"beta_schedule": "x"}', "beta_schedule 'x' is not"),
        ("scheduler/scheduler_config.json", b'{"trained_betas": [1]}', "trained_betas is not kn"),
        ("tokenizer/tokenizer.json", b"{", "the component tokenizer cannot be loaded"),
    ],
)
def test_damaged_components(path, content, message, pipeline, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(pipeline("stable-diffusion"), folder)
    (folder / path).write_bytes(content)
    with pytest.raises(Unavailable, match=message) as error:
        Restorer(str(folder), "cpu")
    assert str(error.value).startswith(f"`model`={folder}: ")


def test_networks_of_other_inputs_are_refused(pipeline, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(pipeline("upscaler"), folder)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionUpscale", "StableDiffusion"))
    with pytest.raises(Unavailable, match=r"in_channels = 7 beside latents of 4 channels is not"):
        Restorer(str(folder), "cpu")


def test_scales_of_guidance(latent):
    denoise = latent("stable-diffusion")
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadArgument, match=r"`guidance`=.*: must be 0 or more"):
            denoise.of_prompt("door", None, scale)
