"""The knob between the sharpest result and the nearest one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from restore import Restorer
from restore.errors import BadArgument
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.tasks import TASKS, Denoising, Solving, SuperResolution

IMAGE = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)


@pytest.fixture
def restorer(loaded_once) -> Restorer:
    return Restorer(device="cpu")


@pytest.mark.parametrize("task", [SuperResolution(2), Denoising(0.1)])
def test_it_blends_a_method_with_the_posterior_mean(restorer, task) -> None:
    def found(**options) -> np.ndarray:
        return restorer.run(task, IMAGE, **options).mean

    sharp = found(method="diffpir", steps=3)
    mean = found(method="one-step", parameters={"views": 1})
    blended = found(method="diffpir", steps=3, fidelity=0.25)
    inside = np.minimum(sharp, mean) > 0.01
    inside &= np.maximum(sharp, mean) < 0.99  # where nothing was clipped
    assert inside.mean() > 0.3
    np.testing.assert_allclose(blended[inside], (0.75 * sharp + 0.25 * mean)[inside], atol=1e-5)


def test_its_ends_are_the_method_and_the_posterior_mean(restorer) -> None:
    task = SuperResolution(2)
    sharp = restorer.run(task, IMAGE, method="diffpir", steps=3)
    same = restorer.run(task, IMAGE, method="diffpir", steps=3, fidelity=0)
    np.testing.assert_array_equal(sharp.mean, same.mean)
    assert same.report == sharp.report.__class__(
        **{**vars(sharp.report), "seconds": same.report.seconds}
    )
    mean = restorer.run(Denoising(0.1), IMAGE, fidelity=1)
    assert (mean.report.method, mean.report.steps) == ("one-step", 2)
    expected = restorer.run(Denoising(0.1), IMAGE, method="one-step").mean
    np.testing.assert_array_equal(mean.mean, expected)


def test_auto_takes_the_weights_of_the_kind() -> None:
    kind = replace(TASKS["sr"].kind, sharpest="diffpir", mean_weights=(0.1, 0.5))
    for fidelity, weight in ((0, 0.1), (0.5, 0.3), (1, 0.5)):
        method, settings = settings_for(kind, Options(fidelity=fidelity))
        assert (method, settings.mean_weight) == ("diffpir", pytest.approx(weight))


def test_calls_are_counted_and_reported_in_order(restorer) -> None:
    seen: list[tuple[int, int]] = []
    result = restorer.run(
        SuperResolution(2),
        IMAGE,
        method="diffpir",
        steps=3,
        fidelity=0.5,
        callback=lambda step: seen.append((step.index, step.steps)),
    )
    assert [index for index, _ in seen] == [0, 1, 2, 3]
    assert result.report.steps == len(seen)
    assert seen[-1] == (3, 4)


@pytest.mark.parametrize("fidelity", [-0.1, 1.5, float("nan")])
def test_out_of_range(fidelity: float) -> None:
    with pytest.raises(BadArgument, match=r"`fidelity`=.*must be from 0, the sharpest, to 1"):
        settings_for(TASKS["sr"].kind, Options(fidelity=fidelity))


def test_with_one_step_it_says_that_this_is_the_mean() -> None:
    with pytest.raises(BadArgument, match=r"`fidelity`=0\.5: the method one-step is the posterior"):
        settings_for(TASKS["sr"].kind, Options(method="one-step", fidelity=0.5))


def test_a_problem_without_a_known_mean_is_refused(restorer) -> None:
    with pytest.raises(BadArgument, match="`fidelity`: this model knows no posterior mean"):
        restorer.run(Solving("blur:gaussian:1+jpeg:30"), IMAGE, fidelity=0.5, steps=2)


def test_some_kinds_turn_the_fraction_of_fresh_noise() -> None:
    kind = replace(TASKS["sr"].kind, sharpest="ddrm", mean_weights=(0.0, 0.0), etas=(0.5, 1.0))
    for fidelity, eta in ((0, 0.5), (0.5, 0.75), (1, 1.0)):
        method, settings = settings_for(kind, Options(fidelity=fidelity))
        assert (method, settings.mean_weight) == ("ddrm", 0)
        assert settings.eta == settings.noisy_eta == pytest.approx(eta)
    with pytest.raises(BadArgument, match=r"`fidelity` and `eta`=0\.3: for sr, the fidelity"):
        settings_for(kind, Options(fidelity=0.5, eta=0.3))


@pytest.mark.parametrize("task", ["sr", "deblur", "inpaint", "denoise"])
def test_every_fidelity_has_settings(task: str) -> None:
    """Its ends differ, or the knob would turn nothing."""
    for kind in TASKS[task].kinds():
        ends = [settings_for(kind, Options(fidelity=end)) for end in (0.0, 1.0)]
        assert ends[0] != ends[1]
