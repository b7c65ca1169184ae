"""Score norms: estimated, stored by model, and found by samplers."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import random_file, tiny
from support.pictures import piece

import pretrained
from pretrained.store import cache_folder
from restore.diffusion.schedule import noise_levels
from restore.diffusion.stepping import start, within_pictures
from restore.errors import BadArgument, NothingToDo
from restore.jobs.score_norms import Estimate, estimate_to, find_score_norms, random_squares
from restore.methods.sampling import Sampling, sample_pictures
from restore.restorer import load_denoiser, model_digest
from restore.samplers.analytic_dpm import ScoreNorms, analytic_dpm, estimate_score_norms


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Use an empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RESTORE_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for crop in "ab":
        piece((64, 48), crop).save(folder / f"{crop}.png")
    return folder


@pytest.fixture
def model(tmp_path) -> str:
    return str(random_file(tmp_path / "mine.safetensors", tiny()))


def test_the_default_model_comes_with_its_own(command, tmp_path) -> None:
    norms = find_score_norms("default")
    schedule = load_denoiser("default", torch.device("cpu"), torch.float32).schedule
    assert norms.model == pretrained.digest("default")
    assert len(norms.sigmas) == 100
    assert norms.sigmas[0] == pytest.approx(schedule.sigmas[-1])
    assert norms.sigmas[-1] == pytest.approx(schedule.sigmas[0])
    shares = [
        norms.noise(sigma) for sigma in norms.sigmas
    ]  # of the noise that is seen: all, then less and less
    assert shares[0] == pytest.approx(1, abs=1e-3)
    assert shares[-1] < 0.6
    assert all(low <= high + 2e-3 for high, low in pairwise(shares))
    for sampler in ("analytic-ddpm", "analytic-ddim"):
        words = ["--sampler", sampler, "--count", 1, "--size", "16x16", "--steps", 3]
        assert command("sample", tmp_path / f"{sampler}.png", *words).code == 0
    one, two = (
        np.asarray(Image.open(tmp_path / f"{name}.png"))
        for name in ("analytic-ddpm", "analytic-ddim")
    )
    assert not np.array_equal(one, two)


def test_what_shipped_is_what_photographs_say() -> None:
    """The estimate holds for other photographs, up to their difference in detail."""
    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    pictures = torch.cat([2 * _pixels(crop) - 1 for crop in "ab"])
    sigmas = [1.0, 0.3, 0.1, 0.0]
    with torch.inference_mode():
        here = estimate_score_norms(
            denoise, pictures, sigmas, model="m", generator=torch.Generator().manual_seed(0)
        )
    shipped = find_score_norms("default")
    for sigma in sigmas[:-1]:
        assert here.noise(sigma) == pytest.approx(shipped.noise(sigma), abs=0.2)


def _pixels(crop: str) -> torch.Tensor:
    values = np.asarray(piece((64, 64), crop), np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def test_the_command_estimates_keeps_and_samples(command, tmp_path, photos, model, cache) -> None:
    sample = [
        "sample",
        tmp_path / "out.png",
        "--model",
        model,
        "--size",
        "16x16",
        "--count",
        1,
        "--steps",
        3,
    ]
    outcome = command(*sample, "--sampler", "analytic-ddpm")
    assert outcome.code == 3
    assert f"restore score-norms DIR --model {model}" in outcome.err
    outcome = command(
        "score-norms", photos, "--model", model, "--count", 3, "--size", 16, "--noise-levels", 6
    )
    assert outcome.code == 0, outcome.err
    (kept,) = cache.rglob("*.json")
    assert str(kept) in outcome.err
    norms = find_score_norms(model)
    assert norms == ScoreNorms.load(kept, model_digest(model))
    assert command(*sample, "--sampler", "analytic-ddpm").code == 0

    denoise = load_denoiser(model, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    sigmas = noise_levels(denoise.schedule, 3)
    with torch.inference_mode():
        x = analytic_dpm(
            within_pictures(denoise),
            start(torch.zeros(1, 3, 16, 16), sigmas[0], generator),
            sigmas,
            norms,
            generator=generator,
        )
    wanted = Sampling(count=1, height=16, width=16, sampler="analytic-ddpm", steps=3)
    found, _ = sample_pictures(denoise, wanted, torch.device("cpu"), norms=norms)
    torch.testing.assert_close(found, ((x + 1) / 2).clamp(0, 1))


def test_estimated_as_the_function_does(photos, model) -> None:
    path = estimate_to(Estimate(photos, model, count=5, size=16, levels=4, seed=7), quiet=True)
    draw = torch.Generator().manual_seed(7)
    pictures = random_squares(photos, 5, 16, draw)
    denoise = load_denoiser(model, torch.device("cpu"), torch.float32)
    sigmas = noise_levels(denoise.schedule, 4, "log-snr")
    with torch.inference_mode():
        expected = estimate_score_norms(
            denoise, pictures, sigmas, model=model_digest(model), generator=draw
        )
    found = ScoreNorms.load(path, model_digest(model))
    assert found.sigmas == expected.sigmas
    assert found.values == pytest.approx(expected.values, rel=1e-5)


def test_beside_the_weights_they_are_found_too(command, photos, tmp_path, model, cache) -> None:
    target = tmp_path / "mine.norms.json"
    words = [
        "score-norms",
        photos,
        "--model",
        model,
        "--count",
        1,
        "--size",
        16,
        "--noise-levels",
        3,
        "--out",
        target,
    ]
    assert command(*words).code == 0
    assert not cache.exists()
    assert find_score_norms(model).sigmas == tuple(json.loads(target.read_text())["sigmas"])
    assert command(*words).code == 5  # it is there
    assert command(*words, "--seed", 1, "--overwrite").code == 0


def test_each_class_has_its_own(photos, tmp_path) -> None:
    model = str(random_file(tmp_path / "classes.safetensors", tiny(classes=2)))
    estimate_to(Estimate(photos, model, label=1, count=1, size=16, levels=2), quiet=True)
    assert find_score_norms(model, 1).model == f"{model_digest(model)}-class-1"
    with pytest.raises(RuntimeError, match="--class 0"):
        find_score_norms(model, 0)


def test_those_of_another_model_are_not_taken(photos, tmp_path, model) -> None:
    other = str(random_file(tmp_path / "other.safetensors", tiny(blocks=2)))
    path = estimate_to(
        Estimate(photos, model, count=1, size=16, levels=2),
        tmp_path / "other.norms.json",
        quiet=True,
    )
    with pytest.raises(BadArgument, match="of another model"):
        find_score_norms(other)
    path.write_text("{}")
    with pytest.raises(BadArgument, match="holds no score norms"):
        find_score_norms(other)


def test_squares_are_of_all_photographs_in_turn(photos) -> None:
    (photos / "bad.png").write_text("no picture")
    piece((16, 16)).save(photos / "small.png")
    found = random_squares(photos, 6, 32, torch.Generator().manual_seed(0))
    assert found.shape == (6, 3, 32, 32)
    assert found.min() >= -1
    assert found.max() <= 1
    means = {
        crop: 2 * np.asarray(piece((64, 48), crop)).mean(axis=(0, 1)) / 255 - 1 for crop in "ab"
    }
    nearest = [
        min(means, key=lambda crop: np.abs(means[crop] - square.mean((1, 2)).numpy()).sum())
        for square in found
    ]
    assert nearest[0::2] in (["a"] * 3, ["b"] * 3)
    assert nearest[1::2] == [{"a": "b", "b": "a"}[nearest[0]]] * 3
    assert len({float(square.sum()) for square in found}) == 6
    with pytest.raises(NothingToDo, match="100x100"):
        random_squares(photos, 1, 100, torch.Generator())


def test_the_cache_is_the_systems_or_the_named_one(monkeypatch, cache) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("RESTORE_CACHE")
    assert "restore-diffusion" in cache_folder().parts
    assert cache_folder().is_absolute()


def test_a_model_of_one_size_is_shown_that(command, photos, tmp_path) -> None:
    model = str(random_file(tmp_path / "fixed.safetensors", tiny(16)))
    words = ["score-norms", photos, "--model", model, "--count", 1, "--noise-levels", 2]
    target = tmp_path / "norms.json"
    assert command(*words, "--out", target).code == 0
    assert len(ScoreNorms.load(target, model_digest(model)).sigmas) == 2

    outcome = command(*words, "--size", 32)
    assert outcome.code == 1
    assert "--size 32: must be 16" in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("none",), 5, "none: no such folder"),
        (("empty",), 6, "no readable picture"),
        (("photos", "--count", 0), 1, "--count 0"),
        (("photos", "--noise-levels", 1), 1, "--noise-levels 1"),
        (("photos", "--size", 4), 1, "--size 4"),
        (("photos", "--size", 64), 6, "64x64"),
        (("photos", "--model", "nosuch.safetensors"), 3, "nosuch.safetensors"),
        (("photos", "--class", 1), 1, "--class 1"),
        (("photos", "--out", "photos/a.png"), 5, "exists"),
    ],
)
def test_refuses(command, tmp_path, monkeypatch, photos, cache, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    outcome = command("score-norms", *words)
    assert outcome.code == code
    assert said in outcome.err
    assert not cache.exists()


def test_sr3_does_not_take_the_norms_of_the_prior(command, picture, tmp_path) -> None:
    outcome = command("sr", picture(), tmp_path / "out.png", "--sampler", "analytic-ddpm")
    assert outcome.code == 1
    assert "estimated for the prior alone" in outcome.err


def test_sampling_in_python_needs_them() -> None:
    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    wanted = Sampling(count=1, height=8, width=8, sampler="analytic-ddim", steps=2)
    with pytest.raises(BadArgument, match="score norms"):
        sample_pictures(denoise, wanted, torch.device("cpu"))
