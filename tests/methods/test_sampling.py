"""`restore sample` and the samplers by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.analytic import Mixture, sliced_wasserstein
from support.networks import random_denoiser, tiny

from restore.diffusion.denoiser import Denoise, Prediction
from restore.diffusion.schedule import LEVELS, NoiseSchedule, noise_levels
from restore.errors import BadArgument
from restore.methods.sampling import Sampling, grid, sample_pictures
from restore.samplers.analytic_dpm import ScoreNorms, estimate_score_norms
from restore.samplers.catalogue import SAMPLERS, Sampler


def _saying(world: Mixture) -> Denoise:
    """The exact denoiser with a variance half-way between the fixed ones, of which both lead to the
    target.
    """
    half = torch.tensor(0.5, dtype=torch.float64)
    return lambda x, sigma, condition=None: world.denoise(x, sigma)._replace(
        variance_fraction=half, noise_variance=world.noise_variance(x, sigma)
    )


def _norms(sampler: Sampler, world: Mixture, levels: list[float]) -> dict[str, ScoreNorms]:
    if not sampler.score_norms:
        return {}
    draw = torch.Generator().manual_seed(5)
    pictures = world.sample(2000, draw)
    return {
        "norms": estimate_score_norms(
            world.denoise, pictures, levels, model="m", batch=2000, generator=draw
        )
    }


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_name_leads_to_the_target(name: str) -> None:
    """With the exact denoiser, by the grid of levels that is its default: distances fall by twenty
    times at least.
    """
    world = Mixture.random(3)
    draw = torch.Generator().manual_seed(0)
    exact = world.sample(1500, draw)
    sampler = SAMPLERS[name]
    levels = noise_levels(NoiseSchedule.named("linear"), 30, sampler.levels)
    x = levels[0] * torch.randn(1500, 1, 1, 3, generator=draw, dtype=torch.float64)
    random = {"generator": draw} if sampler.random else {}
    found = sampler.run(_saying(world), x, levels, **random, **_norms(sampler, world, levels))
    far = sliced_wasserstein(torch.randn(exact.shape, generator=draw) * 2, exact, draw)
    assert sliced_wasserstein(found, exact, draw) < 0.12 < far / 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_said_of_randomness_and_steps_is_true(name: str) -> None:
    world = Mixture.random(2)
    sampler = SAMPLERS[name]
    levels = noise_levels(
        NoiseSchedule.named("linear"), max(4, sampler.least_steps), sampler.levels
    )
    x = levels[0] * torch.ones(1, 1, 1, 2, dtype=torch.float64)
    run = partial(sampler.run, _saying(world), x, **_norms(sampler, world, levels))
    if not sampler.random:
        assert torch.equal(run(levels), run(levels))
    else:
        one, two = (run(levels, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
        assert not torch.equal(one, two)
    least = noise_levels(NoiseSchedule.named("linear"), sampler.least_steps, sampler.levels)
    random = {"generator": torch.Generator().manual_seed(0)} if sampler.random else {}
    assert torch.isfinite(run(least, **random)).all()
    assert sampler.levels in LEVELS
    if sampler.least_steps > 1:
        with pytest.raises(ValueError, match=r"step|level"):
            run([levels[0], 0.0], **random)


def test_grid_of_pictures() -> None:
    pictures = torch.stack([torch.full((3, 4, 5), value) for value in (0.1, 0.2, 0.3)])
    whole = grid(pictures, gap=1)
    assert whole.shape == (3, 9, 11)
    assert float(whole[0, 0, 0]) == pytest.approx(0.1)
    assert float(whole[0, 0, 6]) == pytest.approx(0.2)
    assert float(whole[0, 5, 0]) == pytest.approx(0.3)
    assert (whole[:, 4] == 1).all()
    assert (whole[:, 5:, 6:] == 1).all()
    assert grid(pictures, columns=3, gap=0).shape == (3, 4, 15)


def run(command, *words: object):
    return command("sample", *words, "--size", "32x24", "--steps", 4, "--device", "cpu")


def test_a_picture_of_samples(command, tmp_path) -> None:
    target = tmp_path / "grid.png"
    way = tmp_path / "way.png"
    assert run(command, target, "--count", 5, "--trajectory", way).code == 0
    assert Image.open(target).size == (3 * 34 - 2, 2 * 26 - 2)
    assert Image.open(way).size == (4 * 34 - 2, 4 * 26 - 2)
    pixels = np.asarray(Image.open(target)).astype(float)
    tiles = [pixels[:24, :32], pixels[:24, 34:66], pixels[26:50, :32]]
    assert all(tile.std() > 2 for tile in tiles)
    assert np.abs(tiles[0] - tiles[1]).mean() > 2


def test_a_trajectory_as_an_animation(command, tmp_path) -> None:
    """A frame for each step, of which the last is the first samples themselves."""
    target, way = tmp_path / "grid.png", tmp_path / "way.webp"
    words = ("--count", 4, "--sampler", "ddim", "--trajectory", way)
    assert run(command, target, *words).code == 0
    with Image.open(way) as animation:
        assert (animation.n_frames, animation.size) == (4, (2 * 34 - 2, 2 * 26 - 2))
        frames = []
        for index in range(4):
            animation.seek(index)
            frames.append(np.asarray(animation.convert("RGB")).astype(float))
        assert animation.info["duration"] == 2000
    last = np.asarray(Image.open(target)).astype(float)
    assert np.abs(frames[-1] - last).mean() < 4  # lossy
    assert np.abs(frames[0] - last).mean() > 8


def test_separate_files_are_the_same_pictures_and_a_seed_says_which(command, tmp_path) -> None:
    assert run(command, tmp_path / "one", "--count", 3, "--separate").code == 0
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["0.png", "1.png", "2.png"]
    assert run(command, tmp_path / "grid.png", "--count", 3).code == 0
    assert run(command, tmp_path / "other.png", "--count", 3, "--seed", 1).code == 0
    first = np.asarray(Image.open(tmp_path / "one/0.png"))
    whole = np.asarray(Image.open(tmp_path / "grid.png"))
    assert np.array_equal(first, whole[:24, :32])
    assert not np.array_equal(whole, np.asarray(Image.open(tmp_path / "other.png")))


def test_more_pictures_than_go_through_at_once_begin_alike(command, tmp_path) -> None:
    for count in (16, 18):
        assert (
            run(
                command, tmp_path / str(count), "--count", count, "--separate", "--sampler", "ddim"
            ).code
            == 0
        )
    assert len(list((tmp_path / "18").iterdir())) == 18
    assert (tmp_path / "16/15.png").read_bytes() == (tmp_path / "18/15.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--sampler", "dpm"), 1, ["--sampler dpm: unknown", *SAMPLERS]),
        (("--levels", "cubic"), 1, ["--levels cubic: unknown", *LEVELS]),
        (
            ("--sampler", "heun", "--steps", 1),
            1,
            ["--steps 1: must be between 2 and 1000 for heun"],
        ),
        (("--count", 0), 1, ["--count 0"]),
        (("--size", "4x4"), 1, ["--size 4x4"]),
        (("--size", "big"), 1, ["--size big", "WIDTHxHEIGHT"]),
        (("--trajectory", "out.txt"), 1, ["out.txt", "suffix"]),
        (("--trajectory", "out.png"), 1, ["--trajectory out.png", "another"]),
    ],
)
def test_refuses(command, tmp_path, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("sample", "out.png", *words, "--device", "cpu")
    assert outcome.code == code
    for text in said:
        assert text in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(command, tmp_path) -> None:
    target = tmp_path / "grid.png"
    target.write_bytes(b"mine")
    outcome = run(command, target)
    assert outcome.code == 5
    assert target.read_bytes() == b"mine"
    assert run(command, target, "--overwrite", "--count", 1).code == 0
    assert Path(target).read_bytes() != b"mine"


def test_large_pictures_go_through_by_fewer() -> None:
    assert Sampling(count=18, height=64, width=64).batches == [16, 2]
    assert Sampling(count=5, height=512, width=1024).batches == [2, 2, 1]
    assert Sampling(count=2, height=2048, width=2048).batches == [1, 1]


def test_only_what_is_shown_of_the_way_is_kept() -> None:
    schedule = NoiseSchedule.named("linear")

    class Prior:
        predicts_noise = False
        autoencoder = None

        def __call__(self, x, sigma, condition=None):
            return Prediction(x * 0, x / sigma)

    Prior.schedule = schedule
    wanted = Sampling(count=3, height=8, width=8, sampler="ddim", steps=30)
    assert sample_pictures(Prior(), wanted, torch.device("cpu"))[1] is None
    assert sample_pictures(Prior(), wanted, torch.device("cpu"), ways=2)[1].shape == (2, 8, 3, 8, 8)


def test_sampling_is_checked_in_python_too() -> None:
    with pytest.raises(BadArgument, match="must be between"):
        Sampling(steps=0)


@pytest.mark.parametrize(("parameterization", "clipped"), [("epsilon", True), ("v", False)])
def test_estimates_by_the_noise_are_clipped(parameterization: str, clipped: bool) -> None:
    """At high noise, a small error of ε̂ puts the estimate far outside; v and x0 stay near."""
    denoise = random_denoiser(replace(tiny(), parameterization=parameterization))
    sampling = Sampling(sampler="ddim", steps=4, count=2, height=16, width=16)
    largest: list[float] = []

    sample_pictures(
        denoise, sampling, torch.device("cpu"),
        callback=lambda step: largest.append(float(step.clean.abs().max())),
    )  # fmt: skip

    assert (max(largest) <= 1) == clipped
