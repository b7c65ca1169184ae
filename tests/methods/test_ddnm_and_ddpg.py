"""The methods ddnm and ddpg through a restorer: calls, operators that they take, parameters."""

from __future__ import annotations

import numpy as np
import pytest

from restore import Restorer
from restore.diffusion.stepping import Step
from restore.errors import BadArgument
from restore.tasks import Colorization, Deblurring, Inpainting, Solving, SuperResolution

IMAGE = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)
MASK = np.zeros((8, 12), bool)
MASK[2:5, 3:7] = True
WITHOUT_SVD = "blur:gaussian:1+mask:random:0.6"


@pytest.fixture
def restorer(loaded_once) -> Restorer:
    return Restorer(device="cpu")


@pytest.mark.parametrize("method", ["ddnm", "ddpg"])
@pytest.mark.parametrize(
    "task",
    [
        SuperResolution(2),
        SuperResolution(2, noise=0.1),
        Inpainting(MASK),
        Colorization(),
        Deblurring("gaussian:0.8"),
        Deblurring("gaussian:0.8", boundary="mirror", noise=0.05),
    ],
    ids=["sr", "noisy sr", "inpaint", "colorize", "unknown border", "noisy deblur"],
)
def test_tasks(restorer, method, task) -> None:
    image = IMAGE[..., :1] if isinstance(task, Colorization) else IMAGE
    calls: list[Step] = []
    result = restorer.run(task, image, method=method, steps=3, callback=calls.append)
    assert np.isfinite(result.mean).all()
    assert (result.report.method, len(calls)) == (method, 3)


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (5, 5), (6, 5)])
def test_time_travel_stays_within_the_calls(restorer, steps, calls) -> None:
    made: list[Step] = []
    restorer.run(
        SuperResolution(2),
        IMAGE,
        method="ddnm",
        steps=steps,
        parameters={"travel_length": 1, "travel_repeats": 2},
        callback=made.append,
    )
    assert [step.steps for step in made] == [calls] * calls


@pytest.mark.parametrize("method", ["ddnm", "ddpg"])
def test_an_operator_without_an_svd(restorer, method) -> None:
    result = restorer.run(Solving(WITHOUT_SVD, noise=0.0), IMAGE, method=method, steps=2)
    assert np.isfinite(result.mean).all()


def test_ddnm_needs_an_svd_for_noise(restorer) -> None:
    text = r"`method`=ddnm: with noise it needs an operator with an SVD, and .* has none; .*ddpg"
    with pytest.raises(BadArgument, match=text):
        restorer.run(Solving(WITHOUT_SVD, noise=0.05), IMAGE, method="ddnm", steps=2)


@pytest.mark.parametrize("method", ["ddnm", "ddpg"])
def test_nonlinear_operators_are_refused(restorer, method) -> None:
    with pytest.raises(
        BadArgument, match=rf"`method`={method}: it takes linear operators, not .*: diffpir"
    ):
        restorer.run(Solving("jpeg:30"), IMAGE, method=method, steps=2)


def test_parameters_reach_the_solver(restorer) -> None:
    task = SuperResolution(2, noise=0.1)
    results = [
        restorer.run(task, IMAGE, method="ddpg", steps=3, parameters=parameters).mean
        for parameters in ({}, {"gamma": 1}, {"eta_tilde": 9}, {"c": 0}, {"decay": 1})
    ]
    assert all(not np.array_equal(results[0], other) for other in results[1:])
