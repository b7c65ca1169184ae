"""A network that says how much noise a reverse step needs: what samplers get of it, from training
to pictures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import random_denoiser, random_file, tiny
from support.pictures import piece
from torch import Tensor

from pretrained.description import Parameterization
from restore.diffusion.denoiser import Condition, Denoiser, Prediction
from restore.diffusion.guidance import classifier_free, classifier_guided
from restore.diffusion.stepping import corrected
from restore.errors import RestoreError
from restore.runtime.tiles import TiledDenoiser
from restore.samplers.ancestral import ancestral, clipped
from restore.solvers import Step


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _predicting(parameterization: Parameterization) -> Denoiser:
    return random_denoiser(replace(tiny(learned_variance=True), parameterization=parameterization))


@pytest.mark.parametrize("parameterization", ["epsilon", "v", "x0"])
def test_variance_fraction_is_the_second_half_of_the_output(
    parameterization: Parameterization,
) -> None:
    """v = (output + 1)/2, as the loss of L_hybrid takes it, whatever the first half means."""
    denoise = _predicting(parameterization)
    x = torch.randn(2, 3, 7, 10, generator=_draw())
    sigma = 0.8
    with torch.inference_mode():
        found = denoise(x, sigma)
        scaled = torch.nn.functional.pad(x, (0, 0, 0, 1), mode="replicate") / (1 + sigma**2) ** 0.5
        output = denoise.network(scaled, denoise.schedule.time_at(torch.full((2,), sigma)))
    assert found.variance_fraction is not None
    assert torch.allclose(found.variance_fraction, (output[:, 3:, :7, :10] + 1) / 2, atol=1e-6)
    torch.testing.assert_close(found.clean + sigma * found.noise, x, rtol=0, atol=1e-5)


def test_other_networks_say_nothing() -> None:
    assert random_denoiser(tiny())(torch.zeros(1, 3, 8, 8), 1.0).variance_fraction is None


def test_a_network_agrees_with_diffusers() -> None:
    """Its ``learned_range`` reads the same raw output, 2v − 1 in the second half, every state of
    the way.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="leading",
        prediction_type="sample",
    )
    scheduler.set_timesteps(10)
    denoise = _predicting("x0")
    kept = scheduler.alphas_cumprod.double()
    times = scheduler.timesteps.tolist()
    sigmas = [float(((1 - kept[t]) / kept[t]) ** 0.5) for t in times] + [0.0]
    x = torch.randn(2, 3, 8, 8, generator=_draw(1))
    states: list[Tensor] = []

    def recorded(state: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        states.append(state / (1 + sigma**2) ** 0.5)
        return denoise(state, sigma, condition)

    with torch.inference_mode():
        found = ancestral(
            recorded,
            x * (1 + sigmas[0] ** 2) ** 0.5,
            sigmas,
            variance="learned",
            generator=_draw(2),
        )
        noise = _draw(2)
        fractions = []
        for t, state in zip(times, states, strict=True):
            torch.testing.assert_close(x, state, rtol=0, atol=1e-4)
            output = denoise.network(x, torch.full((2,), float(t)))
            fractions.append((output[:, 3:] + 1) / 2)
            x = scheduler.step(output, t, x, generator=noise).prev_sample
    torch.testing.assert_close(x, found, rtol=1e-4, atol=1e-4)
    assert (
        0.1 < torch.stack(fractions).min() < torch.stack(fractions).max() < 0.9
    )  # neither fixed variance would do


def _with_fraction(
    x: Tensor, sigma: Tensor | float, condition: Condition | None = None
) -> Prediction:
    clean = torch.tanh(x) * (0.5 if condition is None else 1.0)
    return Prediction(
        clean, (x - clean) / sigma, torch.full_like(x, 0.2 if condition is None else 0.7)
    )


def test_wrappers_pass_it_on() -> None:
    x = torch.randn(2, 3, 4, 4, generator=_draw())
    condition = Condition(x, x[:, :1])
    guided = classifier_guided(
        _with_fraction, lambda pictures, sigma: -pictures.square().sum(dim=(1, 2, 3)), 2.0
    )
    for wrapped in (
        clipped(_with_fraction),
        corrected(_with_fraction, lambda clean: 0.5 * clean),
        guided,
    ):
        assert torch.equal(wrapped(x, 0.5, None).variance_fraction, torch.full_like(x, 0.2))
    for scale in (0.0, 1.0, 3.0):
        assert torch.equal(
            classifier_free(_with_fraction, scale)(x, 0.5, condition).variance_fraction,
            torch.full_like(x, 0.7),
        )


@pytest.mark.parametrize("kind", [None, "npr"])
@pytest.mark.parametrize("size", [(200, 150), (20, 20)])
def test_tiles_blend_it(size: tuple[int, int], kind: str | None) -> None:
    """Of a stand-in for a network that answers for every pixel alone, tiles make no difference."""
    config = replace(tiny(learned_variance=True), noise_variance=kind)

    class Pixelwise(torch.nn.Module):
        compute_dtype = torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.5]), requires_grad=False)

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return torch.cat([torch.tanh(x), torch.sin(3 * x)], dim=1)

    denoise = Denoiser(Pixelwise(), config)
    x = torch.randn(3, 3, *size, generator=_draw())
    whole = denoise(x, 0.5)
    tiled = TiledDenoiser(denoise, 128, 32)(x, 0.5)
    for found, expected in zip(tiled, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_variance_fraction_that_is_not_finite_is_noticed() -> None:
    denoise = random_denoiser(tiny(learned_variance=True))
    bias = denoise.network.ends[1].bias
    bias[3:] = torch.inf  # of the second half of the output
    assert torch.isfinite(denoise(torch.zeros(1, 3, 8, 8), 1.0).clean).all()
    with pytest.raises(RestoreError, match="not finite"):
        TiledDenoiser(denoise)(torch.zeros(1, 3, 8, 8), 1.0)


def test_learned_variance_needs_a_network_that_learned_it() -> None:
    with pytest.raises(ValueError, match="has not learned"):
        ancestral(
            random_denoiser(tiny()), torch.zeros(1, 3, 8, 8), [2.0, 1.0, 0.0], variance="learned"
        )


RECIPE = """
[model.backbone]
channels = 32
channel_multipliers = [1, 2]
blocks = 1
learned_variance = true

[data]
crop = 16
batch = 4

[schedule]
warmup_steps = 1
"""


def test_from_training_to_pictures(command, tmp_path, monkeypatch) -> None:
    """L_hybrid → file → `restore sample`; the network's variance is used, and it restores as any
    other.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    piece((128, 96)).save("photos/a.png")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = [
        "--data",
        "photos",
        "--out",
        "run",
        "--recipe",
        "recipe.toml",
        "--steps",
        2,
        "--device",
        "cpu",
    ]
    outcome = command("train", *words)
    assert outcome.code == 0, outcome.err
    options = [
        "--model",
        "run/model.safetensors",
        "--size",
        "32x24",
        "--count",
        1,
        "--steps",
        4,
        "--device",
        "cpu",
    ]
    for sampler in ("ddpm-learned", "ddpm"):
        outcome = command("sample", f"{sampler}.png", "--sampler", sampler, *options)
        assert outcome.code == 0, outcome.err
    one, two = (
        np.asarray(Image.open(f"{name}.png")).astype(float) for name in ("ddpm-learned", "ddpm")
    )
    assert one.shape == (24, 32, 3)
    assert np.abs(one - two).mean() > 1
    piece((24, 16)).save("in.png")
    restored = [
        "--model",
        "run/model.safetensors",
        "--sampler",
        "ddpm-learned",
        "--steps",
        2,
        "--scale",
        2,
    ]
    assert command("sr", "in.png", "out.png", *restored).code == 0
    assert Image.open("out.png").size == (48, 32)


@pytest.mark.parametrize(
    "words", [("sample", "out.png"), ("sr", "in.png", "out.png", "--scale", 2)]
)
def test_models_without_it_are_refused(command, picture, tmp_path, monkeypatch, words) -> None:
    monkeypatch.chdir(tmp_path)
    picture()
    outcome = command(*words, "--sampler", "ddpm-learned", "--device", "cpu")
    assert outcome.code == 1
    assert (
        "--sampler ddpm-learned: this model has not learned the variance of its steps"
        in outcome.err
    )
    assert not (tmp_path / "out.png").exists()


def test_a_solver_does_not_mind(command, picture, tmp_path) -> None:
    model = random_file(tmp_path / "m.safetensors", tiny(learned_variance=True))
    outcome = command(
        "denoise",
        picture(),
        tmp_path / "out.png",
        "--model",
        model,
        "--noise",
        0.1,
        "--device",
        "cpu",
    )
    assert outcome.code == 0, outcome.err


def test_steps_are_told_as_ever() -> None:
    steps: list[Step] = []
    ancestral(
        _with_fraction,
        torch.zeros(1, 3, 4, 4),
        [2.0, 1.0, 0.0],
        variance="learned",
        callback=steps.append,
    )
    assert [(step.index, step.sigma) for step in steps] == [(0, 2.0), (1, 1.0)]
