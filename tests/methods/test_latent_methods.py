"""Methods of latents with a model of latents, and what is refused on either side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from support.latents import WhiteLatents

import operators
from restore import Restorer
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.latents import within_range
from restore.methods.options import Knowledge, Options
from restore.methods.run import Run
from restore.methods.settings import settings_for
from restore.solvers import project
from restore.tasks import KINDS, TASKS, SuperResolution

LATENT = [name for name, method in METHODS.items() if method.latents]
PIXELS = [name for name, method in METHODS.items() if not method.latents]
IMAGE = np.random.default_rng(0).random((9, 14, 3)).astype(np.float32)

pytestmark = pytest.mark.usefixtures("light_network")


@pytest.fixture
def latent(loaded_once) -> Restorer:
    restorer = Restorer(device="cpu")
    restorer.denoiser = WhiteLatents()
    return restorer


def test_the_methods_of_latents_are_those_of_the_papers() -> None:
    assert LATENT == ["latent-dps", "psld", "resample", "latent-daps"]


@pytest.mark.parametrize("method", LATENT)
def test_an_enlargement_explains_the_measurement(latent, method: str) -> None:
    """In pixels, exactly, though latents decode to other pictures; odd sides are extended."""
    seen = []
    task = SuperResolution(2, kernel="area", noise=0)
    small = torch.from_numpy(0.4 + IMAGE / 5).permute(2, 0, 1)  # no black and white to clip
    result = latent.run(task, small, method=method, steps=4, callback=seen.append)
    assert result.report.method == method
    assert result.report.consistency < 1e-4
    assert [tuple(step.clean.shape) for step in seen] == [(1, 3, 18, 28)] * 4
    assert set(latent.denoiser.calls) == {torch.Size([1, 6, 9, 14])}


@pytest.mark.parametrize("method", LATENT)
def test_known_pixels_are_those_of_the_file(latent, method: str) -> None:
    picture = (255 * IMAGE).astype(np.uint8)
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[2:6, 3:11] = True
    found = latent.run(TASKS["inpaint"](mask), picture, method=method, steps=3).mean
    assert np.array_equal(found[~mask], picture[~mask])
    assert not np.array_equal(found[mask], picture[mask])


@pytest.mark.parametrize("method", LATENT)
def test_callbacks_see_the_picture_without_its_unknown_border(latent, method: str) -> None:
    seen = []
    task = TASKS["deblur"]("gaussian:1", noise=0.01)
    latent.run(task, IMAGE, method=method, steps=2, callback=seen.append)
    assert [tuple(step.clean.shape) for step in seen] == [(1, 3, *IMAGE.shape[:2])] * 2


@pytest.mark.parametrize("method", LATENT)
def test_pictures_of_a_batch_are_as_each_alone(latent, method: str) -> None:
    images = [IMAGE[:8, :8], IMAGE[1:, 6:]]
    options = Options(method, steps=4, seed=3)
    task = SuperResolution(2, noise=0.05)
    together = latent.restore_together(task, images, options)
    for image, result in zip(images, together, strict=True):
        alone = latent.restore(task, image, options)
        np.testing.assert_allclose(result.mean, alone.mean, atol=1e-5)


@pytest.mark.parametrize("method", LATENT)
def test_jpeg_is_explained_too(latent, method: str) -> None:
    """Better than by pictures drawn from the prior alone."""
    latent.denoiser.autoencoder.scale = 0.8
    task = TASKS["solve"]("blur:gaussian:1+jpeg:60")
    image = np.kron(IMAGE[:4, :4], np.ones((8, 8, 1), np.float32))
    found = latent.run(task, image, method=method, steps=6).report.consistency
    alone = {"step_size": 0.0}
    prior = latent.run(task, image, method="latent-dps", steps=6, parameters=alone)
    assert found < 0.9 * prior.report.consistency


def test_auto_is_a_method_of_latents(latent) -> None:
    assert latent.run(SuperResolution(2), IMAGE, steps=2).report.method in LATENT
    assert latent.run(SuperResolution(2), IMAGE, fast=True).report.steps == 8
    known = Knowledge(latent=True, noise_map=True)
    for kind in KINDS.values():
        assert METHODS[settings_for(kind, None, known)[0]].takes_noise_maps


@pytest.mark.parametrize("method", PIXELS)
def test_a_method_of_pixels_names_those_of_latents(latent, method: str) -> None:
    words = r"it works on pixels, .* use auto, latent-dps, psld, resample or latent-daps"
    with pytest.raises(BadArgument, match=f"`method`={method}: {words}"):
        latent.run(SuperResolution(2), IMAGE, method=method)


def test_a_method_of_latents_needs_such_a_model(loaded_once) -> None:
    restorer = Restorer(device="cpu")
    with pytest.raises(BadArgument, match="`method`=psld: it works on latents, and this model"):
        restorer.run(SuperResolution(2), IMAGE, method="psld")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fidelity": 0.5}, "the method psld has no posterior mean"),
        ({"sampler": "ddim"}, "is for `method`=sr3, not psld"),
        ({"levels": [1.0, 0.1]}, "are for `method`=sr3"),
        ({"method": "latent-daps", "eta": 0.5}, "renews all noise"),
    ],
)
def test_options_that_are_for_pixels(latent, options: dict, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        latent.run(SuperResolution(2), IMAGE, **options)


def test_clipping_does_not_undo_the_projection() -> None:
    """A picture that leaves [-1, 1], of a measurement that pictures within explain."""
    draw = torch.Generator().manual_seed(0)
    operator = operators.downsample((3, 16, 20), 4)
    y = operator.A(2 * torch.rand(2, 3, 16, 20, generator=draw) - 1)
    wild = project(operator, 2 * torch.randn(2, 3, 16, 20, generator=draw), y)
    problem = SimpleNamespace(model_operator=operator, model_measurement=y)
    run = cast(Run, SimpleNamespace(problem=problem, noise_level=0.0))

    def misfit(pictures: torch.Tensor) -> float:
        return float((operator.A(pictures.clamp(-1, 1)) - y).square().mean().sqrt())

    assert misfit(wild) > 0.1
    assert misfit(within_range(run, wild)) < 2 / 255
