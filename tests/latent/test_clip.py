"""CLIP guidance of models of pixels: its gradient, what it does to samples, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clip import SIDE, written_clip
from support.networks import random_file, tiny
from torch import Tensor
from torch.nn import functional as F

import restore
from restore.diffusion.cutouts import Cutouts
from restore.diffusion.guidance import estimate_guided
from restore.diffusion.guided import GuidedDenoiser
from restore.diffusion.protocol import Condition, DenoiserLike, Prediction
from restore.errors import BadArgument, Unavailable
from restore.latent.clip import Clip, load_clip
from restore.methods.sampling import Sampling, sample_pictures
from restore.restorer import Restorer

PROMPT = "a wooden door"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return load_clip(folder)


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return Restorer(str(random_file(path, tiny())), "cpu")


@pytest.fixture
def pictures() -> Tensor:
    coarse = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return F.interpolate(coarse, (24, 32), mode="bicubic").clamp(-0.9, 0.9)


def test_embeddings_are_those_of_transformers(clip: Clip, folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")
    squares = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.no_grad():
        theirs = model(**tokens, pixel_values=(squares - mean) / deviation)
        found = clip.pictures(2 * squares - 1) @ clip.text(PROMPT).T
    expected = theirs.logits_per_image / model.logit_scale.exp()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_description_of_the_pixels_is_read(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "clip"))
    about = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (other / "preprocessor_config.json").write_text(json.dumps(about))
    seen: list[Tensor] = []
    clip = load_clip(other)
    clip.model.vision_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    squares = torch.rand(1, 3, SIDE, SIDE)
    clip.pictures(squares)
    torch.testing.assert_close(seen[0], squares)


def test_cutouts_are_pieces_of_the_picture() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 48, 64).contiguous()
    pieces = Cutouts(40, 16, seed=1)(ramp)
    assert pieces.shape == (40, 1, 3, 16, 16)
    whole, others = pieces[::4], pieces[torch.arange(40) % 4 > 0]
    # the whole picture lies between bars of mid-grey
    assert float(whole[:, :, :, :1].abs().max()) < 0.05
    assert float(whole[:, :, :, 8].amax(dim=(1, 2, 3)).min()) > 0.9
    # every other piece is a part of the ramp, from CLIP's side up to the shorter one of the picture
    slopes = (others[..., -1] - others[..., 0]).abs().mean(dim=(1, 2, 3))
    sides = slopes / (2 / 63) * 16 / 15
    assert 15 < float(sides.min()) < 20
    assert 44 < float(sides.max()) < 49
    mirrored = others[..., -1].mean(dim=(1, 2, 3)) < others[..., 0].mean(dim=(1, 2, 3))
    assert 0.25 < float(mirrored.float().mean()) < 0.75


def test_cutouts_depend_on_the_seed_and_the_number_of_calls_alone(pictures: Tensor) -> None:
    first, again, other = Cutouts(5, 8, 1), Cutouts(5, 8, 1), Cutouts(5, 8, 2)
    one = first(pictures)
    assert torch.equal(again(pictures[:1])[:, 0], one[:, 0])
    assert torch.equal(again(pictures[1:])[:, 0], first(pictures)[:, 1])
    assert not torch.equal(other(pictures), one)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (8, 200), (3, 2)], ids=str)
def test_cutouts_of_odd_pictures(size: tuple[int, int]) -> None:
    pieces = Cutouts(9, 16, 0)(torch.full((2, 3, *size), 0.3))
    assert pieces.shape == (9, 2, 3, 16, 16)
    assert bool(pieces.isfinite().all())


def test_the_gradient_is_that_of_finite_differences(clip: Clip, pictures: Tensor) -> None:
    step = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(5))

    def value(x: Tensor) -> Tensor:  # the same cut-outs each time
        return clip.similarity(PROMPT, Cutouts(8, SIDE, 7))(x)

    x = pictures.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x).sum(), x)
    for index in range(len(pictures)):
        h = 2e-3
        ahead, behind = (float(value(pictures + s * step)[index]) for s in (h, -h))
        found = float((gradient * step)[index].sum())
        assert (ahead - behind) / (2 * h) == pytest.approx(found, rel=3e-2, abs=1e-3)


def test_a_negative_prompt_is_subtracted(clip: Clip, pictures: Tensor) -> None:
    one, other = (
        clip.similarity(text, Cutouts(4, SIDE, 0))(pictures) for text in (PROMPT, "a cat")
    )
    both = clip.similarity(PROMPT, Cutouts(4, SIDE, 0), "a cat")(pictures)
    torch.testing.assert_close(both, one - other)


def test_guidance_shifts_by_the_gradient_through_the_network(restorer: Restorer) -> None:
    """Against autograd in plain terms, with the mean of the picture as likelihood."""
    denoise = restorer.denoiser
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 2.0])
    weights = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))

    def likelihood(clean: Tensor) -> Tensor:
        return (weights * clean).mean(dim=(1, 2, 3))

    with torch.inference_mode():
        found = estimate_guided(denoise, likelihood, 3.0)(x, sigma.clone(), None)
    leaf = x.clone().requires_grad_()
    plain = denoise(leaf, sigma)
    (gradient,) = torch.autograd.grad(likelihood(plain.clean).sum(), leaf)
    level = sigma.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found.clean, plain.clean + 3 * level**2 * gradient)
    torch.testing.assert_close(found.noise, plain.noise - 3 * level * gradient)
    torch.testing.assert_close(x, found.clean + level * found.noise, rtol=1e-4, atol=1e-4)
    assert not found.clean.requires_grad

    # where a solver asks for the derivative, that of the network stays
    guided = estimate_guided(denoise, likelihood, 3.0)(leaf, sigma, None)
    (through,) = torch.autograd.grad(guided.clean.sum(), leaf)
    again = denoise(leaf, sigma)
    torch.testing.assert_close(through, torch.autograd.grad(again.clean.sum(), leaf)[0])


class _Gaussian(DenoiserLike):
    """The exact prior of smooth pictures: white noise of 0.5 for every square of four pixels."""

    predictor = None

    def __init__(self) -> None:
        self.config = replace(tiny(), parameterization="x0")

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        mean = F.avg_pool2d(x, 4)
        clean = F.interpolate(mean / (1 + float(sigma) ** 2 / 16 / 0.5**2), scale_factor=4)
        return Prediction(clean, (x - clean) / sigma)

    def of_class(self, label: int | None) -> _Gaussian:
        return self


def test_samples_suit_the_prompt_better(clip: Clip) -> None:
    sampling = Sampling(8, 32, 32, "ddim", 12)

    def drawn(scale: float) -> Tensor:
        similarity = clip.similarity(PROMPT, Cutouts(8, SIDE, 0))
        guided = GuidedDenoiser(_Gaussian(), similarity, scale)
        return sample_pictures(guided, sampling, torch.device("cpu"))[0]

    def mean_similarity(pictures: Tensor) -> float:
        with torch.no_grad():
            unseen = clip.similarity(PROMPT, Cutouts(32, SIDE, 99))
            return float(unseen(2 * pictures - 1).mean())

    plain, guided = drawn(0.0), drawn(300.0)
    assert torch.equal(guided, drawn(300.0))
    assert torch.equal(plain, sample_pictures(_Gaussian(), sampling, torch.device("cpu"))[0])
    assert mean_similarity(guided) > mean_similarity(plain) + 0.1


@pytest.mark.parametrize("method", ["ddnm", "dps"])
def test_restoring_by_a_prompt(method: str, restorer: Restorer, folder: Path) -> None:
    """Inside and outside of PyTorch's inference mode; known pixels stay byte for byte."""
    image = np.random.default_rng(0).integers(60, 200, (24, 24, 3), dtype=np.uint8)
    mask = np.zeros((24, 24), np.uint8)
    mask[4:20, 4:20] = 255
    options = {"method": method, "steps": 4, "clip": str(folder), "prompt": PROMPT, "cutouts": 4}
    plain, guided, again = (
        restorer.inpaint(image, mask, **options, clip_scale=scale) for scale in (0, 300, 300)
    )
    assert np.array_equal(guided, again)
    assert not np.array_equal(guided, plain)
    assert np.array_equal(guided[mask == 0], image[mask == 0])
    assert np.array_equal(plain, restorer.inpaint(image, mask, method=method, steps=4))


def test_the_commands_take_a_prompt(command, folder: Path, tmp_path: Path) -> None:
    model = random_file(tmp_path / "tiny.safetensors", tiny())
    shared = ("--model", model, "--steps", 3, "-q", "--clip", folder, "--cutouts", 4)
    pictures = []
    for prompt, scale in ((PROMPT, 100), ("a cat", 100), (PROMPT, 0)):
        out = tmp_path / f"{len(pictures)}.png"
        words = (*shared, "--prompt", prompt, "--clip-scale", scale)
        assert command("sample", out, "--count", 1, "--size", "16x16", *words).code == 0
        pictures.append(out.read_bytes())
    assert len(set(pictures)) == 3

    source = tmp_path / "0.png"
    target = tmp_path / "out.png"
    done = command("denoise", source, target, "--noise", 0.1, *shared, "--prompt", PROMPT)
    assert (done.code, target.is_file()) == (0, True), done.err
    refused = command("sample", tmp_path / "x.png", "--clip", folder, "--model", model)
    assert (refused.code, "to which text? --prompt is missing" in refused.err) == (1, True)
    refused = command("sample", tmp_path / "x.png", "--cutouts", 3, "--model", model)
    assert (refused.code, "--cutouts 3: is for guidance by CLIP" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": "x"}, "`clip`=x: to which text"),
        ({"clip": "x", "prompt": " "}, "`clip`=x: to which text"),
        ({"clip_scale": 2}, "`clip_scale`=2: is for guidance by CLIP"),
        ({"cutouts": 2}, "`cutouts`=2: is for guidance by CLIP"),
        ({"clip": "x", "prompt": "a", "clip_scale": -1}, "must be 0 or more"),
        ({"clip": "x", "prompt": "a", "clip_scale": float("nan")}, "must be 0 or more"),
        ({"clip": "x", "prompt": "a", "cutouts": 0}, "must be between 1 and 256"),
        ({"clip": "x", "prompt": "a", "method": "spandrel:f"}, "guides a diffusion"),
    ],
)
def test_options_that_do_not_fit(options: dict, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        restore.denoise(np.zeros((8, 8, 3), np.uint8), noise=0.1, device="cpu", **options)


def test_folders_that_are_no_clip(
    folder: Path, tmp_path: Path, restorer: Restorer, latent: Callable
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)

    def refused(place: object, words: str) -> None:
        with pytest.raises(Unavailable, match=words):
            restorer.denoise(image, noise=0.1, clip=str(place), prompt="a")

    refused(tmp_path / "nowhere", "no folder at .* give that of a CLIP model")
    refused(tmp_path, r"/config.json is missing")
    other = Path(shutil.copytree(folder, tmp_path / "clip"))
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    refused(other, "cannot be loaded")
    (other / "config.json").write_text('{"model_type": "bert"}')
    refused(other, "of the kind 'bert', and no CLIP model")
    (other / "config.json").write_text("{")
    refused(other, "config.json: not a readable description")


def test_a_missing_one_of_the_hub_is_not_fetched_unasked(restorer, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="`clip`=hf:a/b: hf:a/b is not installed"):
        restorer.denoise(np.zeros((8, 8, 3), np.uint8), noise=0.1, clip="hf:a/b", prompt="a")


def test_a_latent_model_takes_its_prompt_itself(pipeline: Callable, folder: Path) -> None:
    model = Restorer(str(pipeline("stable-diffusion")), "cpu")
    with pytest.raises(BadArgument, match="guides models of pixels without text; this one is"):
        model.denoise(np.zeros((8, 8, 3), np.uint8), noise=0.1, clip=str(folder), prompt="a")
