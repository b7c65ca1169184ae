"""`restore invert`, `restore sample --from` and `--interpolate`: DDIM's noise of pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.networks import random_file, tiny
from support.pictures import FIXTURES

from restore.diffusion.schedule import noise_levels
from restore.jobs.latent import Noise
from restore.restorer import Restorer
from restore.samplers.ddim import ddim, ddim_invert, spherical_interpolation

A, B = FIXTURES / "crop_a.png", FIXTURES / "crop_b.png"
CPU = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_file(tmp_path_factory.mktemp("model") / "m.safetensors", tiny())


@pytest.fixture
def run(command, model):
    return lambda *words: command(*words, "--model", model, *CPU)


def _pixels(path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255


def _centre(path) -> torch.Tensor:
    return _pixels(path)[..., 56:72, 56:72]


def test_there_and_back(run, model, tmp_path) -> None:
    noise = tmp_path / "n.safetensors"
    outcome = run("invert", A, noise, "--size", "16x16", "--steps", 12)
    assert outcome.code == 0, outcome.err
    said = float(outcome.out.split("PSNR ")[1].split()[0])

    denoise = Restorer(str(model), "cpu").denoiser
    sigmas = noise_levels(denoise.schedule, 12, "log-snr")
    with torch.inference_mode():
        expected = ddim_invert(denoise, 2 * _centre(A) - 1, sigmas, iterations=3)
    found = load_file(noise)
    torch.testing.assert_close(found["noise"], expected[0])
    assert found["sigmas"].tolist() == sigmas

    assert run("sample", tmp_path / "again.png", "--from", noise).code == 0
    again = _pixels(tmp_path / "again.png")
    psnr = -10 * (again - _centre(A)).square().mean().log10()
    assert float(psnr) == pytest.approx(said, abs=0.3)  # the file has 8 bits


def test_the_default_file_is_beside_the_picture(run, tmp_path) -> None:
    Image.open(A).crop((0, 0, 16, 16)).save(tmp_path / "p.png")
    assert run("invert", tmp_path / "p.png", "--steps", 2).code == 0
    assert Noise.load(tmp_path / "p-noise.safetensors").x.shape == (1, 3, 16, 16)
    assert run("invert", tmp_path / "p.png", "--steps", 2).code == 5  # it exists


def test_another_deterministic_sampler_draws_from_the_noise(run, tmp_path) -> None:
    noise = tmp_path / "n.safetensors"
    run("invert", A, noise, "--size", "16x16", "--steps", 5)
    assert run("sample", tmp_path / "h.png", "--from", noise, "--sampler", "heun").code == 0
    assert Image.open(tmp_path / "h.png").size == (16, 16)


def test_interpolation_is_ddim_of_the_great_circle(run, model, tmp_path) -> None:
    words = ("--interpolate", A, B, "--steps-between", 3, "--size", "16x16", "--steps", 6)
    outcome = run("sample", tmp_path / "way", "--separate", *words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("there and back PSNR") == 2
    assert sorted(p.name for p in (tmp_path / "way").iterdir()) == [f"{i}.png" for i in range(5)]

    denoise = Restorer(str(model), "cpu").denoiser
    sigmas = noise_levels(denoise.schedule, 6, "log-snr")
    with torch.inference_mode():
        ends = ddim_invert(
            denoise, 2 * torch.cat([_centre(A), _centre(B)]) - 1, sigmas, iterations=3
        )
        middle = ddim(denoise, spherical_interpolation(ends[:1], ends[1:], 0.5), sigmas)
    expected = ((middle + 1) / 2).clamp(0, 1)
    found = _pixels(tmp_path / "way" / "2.png")
    torch.testing.assert_close(found, expected, rtol=0, atol=0.51 / 255)

    assert run("sample", tmp_path / "strip.png", *words).code == 0
    assert Image.open(tmp_path / "strip.png").size == (5 * 18 - 2, 16)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("invert a.png --iterations 0", 1, "--iterations 0: must be between 1 and 100"),
        ("invert a.png --steps 0", 1, "--steps 0"),
        ("invert a.png --levels odd", 1, "--levels odd: unknown"),
        ("invert a.png n.png", 1, "must end with .safetensors"),
        ("invert a.png --size 64x4", 1, "--size 64x4"),
        ("invert a.png --size 999x16", 1, "smaller than --size 999x16"),
        ("invert absent.png", 5, "absent.png"),
        ("sample o.png --from absent.safetensors", 5, "no such file of noise"),
        ("sample o.png --from other.safetensors", 2, "holds no noise of restore invert"),
        ("sample o.png --from text.safetensors", 2, "holds no noise of restore invert"),
        ("sample o.png --from n.safetensors --sampler ddpm", 1, "must be deterministic"),
        ("sample o.png --from n.safetensors --sampler odd", 1, "--sampler odd: unknown"),
        ("sample o.png --from n.safetensors --count 2", 1, "--count: not with --from"),
        ("sample o.png --from n.safetensors --steps 9", 1, "--steps: not with --from"),
        ("sample o.png --from n.safetensors --size 8x8", 1, "--size: not with --from"),
        ("sample o --from n.safetensors --separate", 1, "a noise gives one picture"),
        ("sample o.txt --from n.safetensors", 1, "o.txt"),
        ("sample n.safetensors --from n.safetensors", 5, "exists already"),
        ("sample o.png --interpolate a.png b.png", 1, "must be the same; --size takes"),
        ("sample o.png --interpolate a.png absent.png", 5, "absent.png"),
        ("sample o.png --interpolate a.png b.png --steps-between 0", 1, "--steps-between 0"),
        ("sample o.png --interpolate a.png b.png --sampler heun", 1, "--sampler: not with"),
        ("sample o.png --interpolate a.png b.png --from n.safetensors", 1, "--from: not with"),
        ("sample o.png --steps-between 3", 1, "only with --interpolate"),
        ("sample a.png --interpolate a.png a.png --overwrite", 1, "a.png: is an input"),
    ],
)
def test_refuses(run, tmp_path, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    Image.open(A).crop((0, 0, 16, 16)).save("a.png")
    Image.open(B).crop((0, 0, 20, 16)).save("b.png")
    Noise(torch.randn(1, 3, 16, 16), (2.0, 1.0, 0.0), "another", None).save(
        tmp_path / "n.safetensors", False
    )
    save_file({"noise": torch.zeros(3, 8, 8)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    outcome = run(*words.split())
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_noise_of_another_model_is_said(run, tmp_path) -> None:
    noise = tmp_path / "n.safetensors"
    Noise(torch.randn(1, 3, 8, 8), (2.0, 1.0, 0.0), "another", None).save(noise, False)
    outcome = run("sample", tmp_path / "o.png", "--from", noise)
    assert outcome.code == 0
    assert "is noise of another model" in outcome.err
