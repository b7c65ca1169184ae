"""Long, narrow pictures are restored without an SVD, and to the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore import Restorer
from restore.errors import BadArgument
from restore.tasks import TASKS, SuperResolution


@pytest.fixture
def restorer(loaded_once) -> Restorer:
    return Restorer(device="cpu")


def picture(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0.2, 0.8, height * width).reshape(height, width, 1)
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width, 3))
    return (ramp + noise).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("method", ["diffpir", "sr3", "one-step"])
def test_the_pixels_are_those_of_the_operator_with_an_svd(
    restorer, monkeypatch, method, noise
) -> None:
    image = picture(6, 40)
    options = {"scale": 2, "noise": noise, "method": method, "seed": 3}
    options |= {} if method == "one-step" else {"steps": 2}

    expected = restorer.sr(image, **options)
    monkeypatch.setattr("operators.banded_axes.FREE_ENTRIES", 0)
    monkeypatch.setattr("operators.banded_axes.ENTRIES_PER_PIXEL", 0)
    assert not SuperResolution(2).problem(torch.rand(1, 3, 6, 40)).operator.has_svd
    # known fractions of the predictor are of the middle rows, those of noise only nearly equal
    assert np.abs(restorer.sr(image, **options) - expected).max() < (2e-3 if noise else 1e-4)


def test_a_long_picture_is_enlarged_by_default_and_refused_by_name(restorer) -> None:
    image = picture(1, 1600)
    large = restorer.sr(image, 2, steps=1)
    assert large.shape == (2, 3200, 3)
    assert abs(float(large.mean()) - float(image.mean())) < 0.02

    with pytest.raises(BadArgument, match="sides are less unequal"):
        restorer.sr(image, 2, method="ddrm", steps=1)


@pytest.mark.parametrize("shape", [(1, 1800), (1800, 1)])
def test_other_tasks_take_long_pictures(restorer, shape) -> None:
    image = picture(*shape)
    mask = np.zeros(shape, bool)
    mask[..., 700:704] = shape[0] == 1
    mask[700:704] = shape[1] == 1 or mask[700:704]
    done = {
        "inpaint": lambda: restorer.inpaint(image, mask, steps=1),
        "deblur": lambda: restorer.deblur(image, "gaussian:1", method="one-step"),
        "denoise": lambda: restorer.denoise(image, 0.05),
        "dejpeg": lambda: restorer.dejpeg(image, saved_quality=50, steps=1),
        "colorize": lambda: restorer.colorize(image, steps=1),
        "solve": lambda: restorer.solve(image, "blur:gaussian:1", steps=1),
        "auto": lambda: restorer.auto(image),
    }
    assert set(done) == {name for name, task in TASKS.items() if not task.takes_raws} - {"sr"}
    for name, run in done.items():
        result = run()
        assert result.shape == image.shape, name
        assert abs(float(result.mean()) - float(image.mean())) < 0.05, name
