"""Tasks as inverse problems, in the right units."""

from __future__ import annotations

import re

import pytest
import torch

import operators
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.options import Knowledge, Options
from restore.methods.settings import settings_for
from restore.metrics.noise import estimate_noise
from restore.tasks import (
    KINDS,
    TASKS,
    Colorization,
    Deblurring,
    Denoising,
    Inpainting,
    Solving,
    SuperResolution,
)
from restore.tasks.problem import Problem

IMAGE = torch.rand(2, 3, 12, 17, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "problem",
    [
        SuperResolution(2.5).problem(IMAGE),
        Inpainting(torch.rand(12, 17) > 0.5).problem(IMAGE),
        Deblurring("gaussian:1", boundary="zero").problem(IMAGE),
        Deblurring("box:4").problem(IMAGE),
        Denoising(0.1).problem(IMAGE),
        Colorization().problem(IMAGE),
    ],
    ids=lambda problem: problem.task,
)
def test_measurement_in_the_models_coordinates(problem: Problem) -> None:
    """For a picture x in [0, 1], A(2x − 1) is what `model_measurement` makes of A x; also where A 1
    ≠ 1.
    """
    x = torch.rand(2, *problem.operator.input_shape)
    exact = Problem(
        problem.task, problem.kind, problem.operator, problem.operator.A(x), problem.noise, None
    )
    torch.testing.assert_close(
        exact.model_measurement, problem.operator.A(2 * x - 1), rtol=0, atol=1e-5
    )
    if problem.condition is not None:
        assert problem.condition.picture.shape == (2, *problem.operator.input_shape)
        assert problem.condition.known.shape == (2, 1, *problem.operator.input_shape[1:])


def test_sizes_are_rounded_to_the_nearest_pixel() -> None:
    problem = SuperResolution(2.5).problem(IMAGE)
    assert problem.operator.input_shape == (3, 30, 42)
    assert problem.operator.output_shape == (3, 12, 17)


def test_masked_pixels_are_unknown_to_solver_and_network() -> None:
    mask = torch.zeros(12, 17, dtype=torch.bool)
    mask[2:5, 3:9] = True
    problem = Inpainting(mask).problem(IMAGE)
    assert not problem.measurement[..., mask].any()
    assert not problem.condition.picture[..., mask].any()
    assert torch.equal(problem.keep[0, 0], ~mask)
    assert torch.equal(problem.operator.singular_values[0] == 0, mask)


def test_a_picture_to_colour_is_shown_as_one_whose_colours_are_unknown() -> None:
    problem = Colorization().problem(IMAGE)
    grey = operators.gray((3, 12, 17)).A(IMAGE)
    torch.testing.assert_close(problem.condition.picture, (2 * grey - 1).expand(-1, 3, -1, -1))
    assert torch.equal(problem.condition.known, torch.full((2, 1, 12, 17), 1 / 3))
    masked = Solving("gray+mask:box:4").problem(grey)
    hidden = masked.operator.known.expand(2, -1, -1, -1) == 0
    assert hidden.any()
    assert not masked.condition.known[hidden].any()
    assert not masked.condition.picture[hidden.expand(-1, 3, -1, -1)].any()
    assert torch.equal(masked.condition.known[~hidden].unique(), torch.tensor([1 / 3]))


def test_noisy_known_pixels_are_not_kept() -> None:
    mask = torch.zeros(12, 17, dtype=torch.bool)
    mask[0, 0] = True
    problem = Inpainting(mask, noise=[0.1, 0.0]).problem(IMAGE)
    assert not problem.keep[0].any()
    assert torch.equal(problem.keep[1, 0], ~mask)


def test_noise_level_per_picture() -> None:
    assert Denoising([0.1, 0.2]).problem(IMAGE).noise.tolist() == pytest.approx([0.1, 0.2])
    assert Denoising(0.1).problem(IMAGE).noise.tolist() == pytest.approx([0.1, 0.1])
    with pytest.raises(BadArgument, match="3 noise levels for 2 pictures"):
        Denoising([0.1, 0.2, 0.3]).problem(IMAGE)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
def test_estimated_noise(sigma: float) -> None:
    smooth = torch.linspace(0.2, 0.8, 64 * 64).reshape(1, 64, 64).expand(3, -1, -1)
    noisy = smooth + sigma * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.1)
    assert estimate_noise(noisy[:, :1, :1]) == 0


@pytest.mark.filterwarnings("error")
def test_channels_without_detail_tell_no_noise() -> None:
    channels = torch.zeros(3, 64, 64)
    assert estimate_noise(channels) == 0
    channels[0] = 0.5 + 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert estimate_noise(channels) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_methods(task: str) -> None:
    assert settings_for(TASKS[task].kind)[0] == TASKS[task].kind.method
    name, settings = settings_for(TASKS[task].kind, Options(samples=4))
    assert name != "one-step"
    assert settings.steps > 1
    assert TASKS[task].kind.sampler in METHODS
    assert settings_for(TASKS[task].kind, Options("ddrm", 7, 0.3))[1][0] == 7
    assert settings_for(TASKS[task].kind, Options("ddrm", eta=0.3))[1].eta == 0.3


def test_every_method_has_its_settings() -> None:
    assert [settings_for(KINDS["sr"], Options(name))[0] for name in METHODS] == list(METHODS)
    words = (
        f"use auto, {', '.join(METHODS)}, or spandrel:FILE, where FILE holds a third-party network"
    )
    with pytest.raises(BadArgument, match=words):
        settings_for(KINDS["sr"], Options("sr2"))


def test_several_samples_of_a_blur_without_svd() -> None:
    assert settings_for(KINDS["deblur"], Options(samples=3))[0] == "ddrm"
    assert settings_for(KINDS["deblur"], Options(samples=3), Knowledge(svd=False))[0] == "diffpir"
    assert settings_for(KINDS["deblur"], Options(steps=5, eta=0.5))[0] == KINDS["deblur"].fast
    assert settings_for(KINDS["deblur"], Options(steps=15, eta=0.5))[0] == KINDS["deblur"].method


def test_a_sampler_means_sr3_and_brings_its_levels() -> None:
    name, settings = settings_for(KINDS["sr"], Options(sampler="heun", steps=6))
    assert (name, settings.sampler, settings.levels, settings.steps) == ("sr3", "heun", "karras", 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "dpm"}, "`sampler`=dpm: unknown; there are ddpm, "),
        ({"sampler": "ddim", "method": "ddrm"}, "`sampler`=ddim: is for `method`=sr3, not ddrm"),
        ({"sampler": "ddim", "eta": 0.5}, "`eta`=0.5: is of sr3's own sampler"),
        ({"sampler": "heun", "steps": 1}, "`steps`=1: the sampler heun takes at least 2"),
    ],
)
def test_samplers_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(BadArgument, match=re.escape(said)):
        settings_for(KINDS["colorize"], Options(**options))


def test_guidance_means_sr3_and_goes_with_a_sampler() -> None:
    assert settings_for(KINDS["sr"], Options(guidance=2.0))[0] == "sr3"
    name, settings = settings_for(KINDS["deblur"], Options(guidance=0.0, sampler="ddim"))
    assert (name, settings.guidance, settings.sampler) == ("sr3", 0.0, "ddim")
    assert settings_for(KINDS["sr"], Options("sr3"))[1].guidance == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": -0.5}, "`guidance`=-0.5: must be 0 or more"),
        ({"guidance": float("nan")}, "`guidance`=nan: must be 0 or more"),
        ({"guidance": float("inf")}, "`guidance`=inf: must be 0 or more"),
        ({"guidance": 2.0, "method": "ddrm"}, "`guidance`=2.0: is for `method`=sr3, not ddrm"),
        (
            {"guidance": 1.0, "method": "one-step"},
            "`guidance`=1.0: is for `method`=sr3, not one-step",
        ),
    ],
)
def test_guidance_that_cannot_be(options: dict, said: str) -> None:
    with pytest.raises(BadArgument, match=re.escape(said)):
        settings_for(KINDS["colorize"], Options(**options))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("samples", [1, 3])
def test_a_prior_alone_gets_methods_that_it_can_do(task: str, samples: int) -> None:
    name, _ = settings_for(TASKS[task].kind, Options(samples=samples), Knowledge(conditional=False))
    assert METHODS[name].runs_without_condition(TASKS[task].kind)
