"""Noise whose variance is a x + b: as an option, as a map, estimated, added, and removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import piece
from torch import Tensor

import operators
import restore
from restore.errors import BadArgument
from restore.evaluate.protocol import degraded
from restore.evaluate.settings import Settings
from restore.jobs.measurement import Measurement, encoded, read_measurement
from restore.methods import METHODS
from restore.methods.options import Knowledge, Options
from restore.methods.settings import settings_for
from restore.metrics.noise import estimate_noise, estimate_signal_noise
from restore.metrics.quality import psnr
from restore.metrics.signal_noise import SignalNoise
from restore.restorer import check
from restore.tasks import TASKS, Deblurring, Denoising, Solving, SuperResolution
from restore.tasks.deblur import BLURRED
from restore.tasks.denoise import NOISY
from restore.tasks.noise import noise_map
from restore.tasks.option import parse_added_noise, parse_noise
from restore.tasks.problem import QUANTISATION_NOISE

PAIR = SignalNoise(0.01, 0.0004)


def ramp(size: tuple[int, int] = (96, 128)) -> Tensor:
    """Flat stripes from dark to bright, [1, 3, h, w]."""
    stripes = torch.linspace(0.05, 0.8, 8).repeat_interleave(size[1] // 8)
    return stripes.expand(1, 3, *size).clone()


# The option


def test_texts_are_read() -> None:
    assert parse_noise("0.01:0.0004") == PAIR == SignalNoise.read(str(PAIR))
    assert parse_noise("auto:signal") == "auto:signal"
    assert parse_noise("0.1") == parse_added_noise("0.1") == 0.1
    assert parse_added_noise("0:1e-3") == SignalNoise(0, 0.001)
    assert Denoising("0.01:0.0004") == Denoising(PAIR)


@pytest.mark.parametrize(
    "text",
    ["1:2:3", "0.1:", ":0.1", "a:b", "-0.1:0.1", "0.1:-0.1", "0:0", "nan:0.1", "0.1:inf", "2:0"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadArgument, match="must be A:B") as refused:
        parse_noise(text)
    assert text.split(":")[0] in str(refused.value)
    with pytest.raises(BadArgument, match="must be A:B"):
        Deblurring("gaussian:1", noise=text)


@pytest.mark.parametrize(
    "noise", [None, True, {"a": 0.1}, b"0.1", (0.1, None), -0.1, np.float32("nan"), object()]
)
def test_what_is_no_number_is_refused(noise: Any) -> None:
    for task in (Denoising(noise), Deblurring("gaussian:1", noise=noise)):
        with pytest.raises(BadArgument, match=r"`noise`=.*must be a standard deviation"):
            task.check()
    with pytest.raises(BadArgument, match=r"`noise`=.*must be a standard deviation"):
        restore.degrade(ramp(), "identity", noise=noise)


@pytest.mark.parametrize("noise", [np.float32(0.25), np.array(0.25), torch.tensor(0.25)])
def test_numbers_of_other_libraries_are_numbers(noise: Any) -> None:
    assert Denoising(noise) == Denoising(0.25)
    assert Solving("identity").noise is None
    bad = restore.degrade(ramp(), "identity", noise=noise).measurement
    assert float((bad - ramp()).std()) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("text", ["auto", "auto:signal", "some"])
def test_noise_to_add_is_no_estimate(text: str) -> None:
    with pytest.raises(BadArgument, match="must be"):
        parse_added_noise(text)


def test_other_tasks_refuse_it_by_name() -> None:
    taking = "deblur, denoise, develop and solve"
    assert {name for name, one in TASKS.items() if one.takes_signal_noise} == {
        "deblur", "denoise", "develop", "solve",
    }  # fmt: skip
    for noise in (PAIR, "auto:signal", "0.01:0.0004", [PAIR, PAIR]):
        with pytest.raises(BadArgument, match=f"is for {taking}; sr takes"):
            check(SuperResolution(2, noise=noise), Options())


# The map


def test_the_map_is_the_noise_of_the_picture() -> None:
    value = torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)
    image = value.expand(2, 3, 6, 7)
    for task in (Denoising(PAIR), Deblurring("box:3", noise=PAIR), Solving("identity", noise=PAIR)):
        problem = task.problem(image)
        expected = (0.01 * value + 0.0004).sqrt()
        torch.testing.assert_close(problem.noise_map, expected.expand(2, 3, 6, 7))
        torch.testing.assert_close(problem.noise, expected.flatten())
        assert problem.signal_noise == (PAIR, PAIR)


def test_each_picture_may_have_its_own() -> None:
    image = torch.full((2, 3, 4, 5), 0.5)
    quiet = SignalNoise(0, 1e-9)
    problem = Denoising([PAIR, quiet]).problem(image)
    assert problem.signal_noise == (PAIR, quiet)
    assert problem.noise.tolist() == pytest.approx([0.0054**0.5, QUANTISATION_NOISE])
    apart = [task.noise for task, _ in Denoising([PAIR, quiet]).apart(image)]
    assert apart == [[PAIR], [quiet]]
    with pytest.raises(BadArgument, match="not both"):
        Denoising([PAIR, 0.1]).check()
    with pytest.raises(BadArgument, match="3 pairs of noise for 2 pictures"):
        Denoising([PAIR] * 3).problem(image)


@pytest.mark.parametrize("text", ["bayer", "mask:random:0.5:seed=1"])
def test_neighbours_of_a_mosaic_are_those_of_its_colour(text: str) -> None:
    colours = torch.tensor([0.1, 0.5, 0.9]).reshape(1, 3, 1, 1).expand(1, 3, 8, 10)
    operator = operators.parse(text).operator((3, 8, 10))
    measurement = operator.A(colours)
    problem = Solving(operator, noise=PAIR).problem(measurement)
    known = operator.A(torch.ones_like(colours)) > 0
    expected = noise_map([PAIR], measurement)
    torch.testing.assert_close(problem.noise_map[known], expected[known])
    assert problem.keep is None or not problem.keep.any()


# The estimate


@pytest.mark.parametrize(("a", "b"), [(0.001, 1e-5), (0.01, 0.0004), (0.02, 0.001)])
def test_the_estimate_is_near_the_truth(a: float, b: float) -> None:
    clean = ramp()
    noisy = restore.degrade(clean, "identity", noise=SignalNoise(a, b), seed=3).measurement
    found = estimate_signal_noise(noisy[0])
    errors = found.std(clean) / SignalNoise(a, b).std(clean) - 1
    assert errors.abs().max() < 0.15
    assert errors.abs().mean() < 0.05
    assert found.a == pytest.approx(a, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 60), (3, 60, 1), (1, 5, 5), (3, 12, 12), (3, 64, 64)])
def test_without_enough_flat_area_it_is_constant(shape: tuple[int, int, int]) -> None:
    """Small pictures, and one that is constant but for its noise."""
    image = 0.5 + 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = estimate_signal_noise(image)
    assert found.a == 0
    assert found.b == pytest.approx(max(estimate_noise(image), 1e-4) ** 2)
    assert estimate_signal_noise(torch.full(shape, 0.5)) == SignalNoise(0, 1e-8)


def test_hidden_pixels_do_not_count() -> None:
    noisy = restore.degrade(ramp(), "identity", noise=PAIR, seed=4).measurement.clamp(0, 1)
    noisy[..., :48, :] = torch.rand(1, 3, 48, 128)
    alpha = torch.ones(1, 1, 96, 128)
    alpha[..., :48, :] = 0
    opened = Denoising("auto:signal").opened(torch.cat([noisy, alpha], dim=1))
    _, task = Denoising("auto:signal").of_visible(opened)
    (found,) = task.noise
    assert found.a == pytest.approx(0.01, rel=0.2)


# Added noise


def test_degrade_adds_photons_and_electronics() -> None:
    x = torch.tensor([0.0, 0.2, 0.8]).reshape(1, 1, 3, 1).expand(1, 3, 3, 20_000)
    y = restore.degrade(x, "identity", noise="0.01:0.0004", seed=1).measurement
    expected = PAIR.std(x[0, 0, :, 0])
    assert (y.std(dim=(1, 3))[0] / expected - 1).abs().max() < 0.02
    assert (y.mean(dim=(1, 3))[0] - x[0, 0, :, 0]).abs().max() < 0.002
    assert torch.equal(y, restore.degrade(x, "identity", noise=PAIR, seed=1).measurement)
    with pytest.raises(BadArgument, match="below 0"):
        restore.degrade(piece((8, 8)), "hadamard:1", noise=PAIR)


def test_measurement_files_hold_the_pair(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(encoded(Measurement(torch.zeros(3, 2, 2), "identity", PAIR)))
    assert read_measurement(path).noise == PAIR
    assert Solving().completed("identity", PAIR, None).noise == PAIR


def test_evaluations_tell_the_pair() -> None:
    picture = np.full((16, 16, 3), 128, np.uint8)
    case = degraded(Settings("denoise", noise=PAIR).completed(), "a.png", picture)
    assert case.task.noise == PAIR.at_least(QUANTISATION_NOISE) == PAIR
    assert case.noise == pytest.approx((0.01 * 128 / 255 + 0.0004) ** 0.5)
    assert case.task.degradation_title == "variance 0.01 x + 0.0004"
    with pytest.raises(BadArgument, match="sr takes"):
        Settings("sr", noise=PAIR).completed()


# Methods


@pytest.mark.parametrize(
    ("kind", "options", "method"),
    [
        (NOISY, Options(), "one-step"),
        (NOISY, Options(samples=2), "diffpir"),
        (NOISY, Options(fidelity=0.5), "diffpir"),
        (BLURRED, Options(), "diffpir"),
        (BLURRED, Options(samples=2), "diffpir"),
        (BLURRED, Options(fast=True), "diffpir"),
        (BLURRED, Options(fidelity=0.5), "diffpir"),
    ],
)
def test_the_automatic_method_takes_maps(kind, options: Options, method: str) -> None:
    assert settings_for(kind, options, Knowledge(noise_map=True))[0] == method


@pytest.mark.parametrize("method", [n for n, one in METHODS.items() if not one.takes_noise_maps])
def test_methods_that_take_one_level_say_so(method: str) -> None:
    alike = [one for one in METHODS.values() if one.latents == METHODS[method].latents]
    able = ", ".join(one.name for one in alike if one.takes_noise_maps)
    for noise in (PAIR, "auto:signal"):
        with pytest.raises(BadArgument, match=f"depends on the signal; these can: {able}"):
            check(Deblurring("box:3", noise=noise), Options(method))


def test_denoising_beats_the_mean_level(loaded_once) -> None:
    clean = torch.from_numpy(np.array(piece((96, 96)))).permute(2, 0, 1)[None] / 255
    strong = SignalNoise(0.02, 0.0001)
    noisy = restore.degrade(clean, "identity", noise=strong, seed=5).measurement.clamp(-1, 2)
    restorer = restore.Restorer(device="cpu")
    level = float(strong.std(clean).square().mean().sqrt())
    scores = {
        noise: float(psnr(restorer.denoise(noisy, noise), clean)) for noise in (level, str(strong))
    }
    assert scores[str(strong)] > scores[level] + 0.2


@pytest.mark.parametrize("method", ["one-step", "diffpir", "dpir"])
def test_reports_have_the_pair(loaded_once, method: str) -> None:
    """And pictures in a batch are restored as each alone, whatever PyTorch's default type."""
    images = [np.array(piece((24, 16), crop)) for crop in "ab"]
    restorer = restore.Restorer(device="cpu")
    task = Deblurring("gaussian:0.8", noise="auto:signal")
    if method == "one-step":
        task = Denoising(PAIR)
    options = Options(method, steps=None if method == "one-step" else 2)

    together = restorer.restore_together(task, images, options)
    torch.set_default_dtype(torch.float64)
    try:
        alone = restorer.restore(task, images[1], options)
    finally:
        torch.set_default_dtype(torch.float32)

    (pair,) = alone.report.signal_noise
    assert together[1].report.signal_noise == (pair,)
    assert alone.report.noise == pytest.approx(together[1].report.noise)
    assert np.abs(alone.mean.astype(int) - together[1].mean).max() <= 1
    assert method != "one-step" or pair == PAIR


# Files


def test_the_command_records_the_pair(command, picture, tmp_path: Path) -> None:
    picture("in/a.png")
    words = ["degrade", tmp_path / "in", tmp_path / "bad", "--operator", "identity"]
    outcome = command(*words, "--noise", "0.01:0.0004", "--json")
    assert json.loads(outcome.out)["signal_noise"] == {"a": 0.01, "b": 0.0004}
    config = tmp_path / "c.toml"
    config.write_text('[denoise]\nnoise = "0.01:0.0004"\n')

    folders = ["denoise", tmp_path / "bad", tmp_path / "out"]
    outcome = command(*folders, "--config", config, "--json")
    assert outcome.code == 0
    assert command(*folders, "--noise", "0.01:0.0004", "--resume").code == 6  # it is the same

    assert '"noise": "0.01:0.0004"' in (tmp_path / "out" / "restore.jsonl").read_text()
    record = json.loads(outcome.out)
    assert record["signal_noise"] == [{"a": 0.01, "b": 0.0004}]
    assert 0.02 < record["noise"] < 0.12
    assert Image.open(tmp_path / "out" / "a.png").size == Image.open(tmp_path / "in/a.png").size
