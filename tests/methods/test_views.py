"""One step with several views: the mean over a picture's rotations and reflections."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.pictures import piece

from restore.diffusion.ensemble import VIEWS, running_means
from restore.diffusion.stepping import Step
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.restorer import Restorer
from restore.tasks import TASKS

PICTURE = np.asarray(piece((24, 16)), np.float32) / 255

# What gives the same for a turned picture, turned, if the network does: through the predictor, the
# conditional network and the prior. Pictures of [H, W, 3] in [0, 1].
RESTORATIONS: dict[str, Callable[..., np.ndarray]] = {
    "sr": lambda restorer, picture, **options: restorer.sr(picture, 2, **options),
    "sr with noise": lambda restorer, picture, **options: restorer.sr(
        picture, 2, noise=0.1, **options
    ),
    "deblur": lambda restorer, picture, **options: restorer.deblur(
        picture, "gaussian:1", noise=0.01, **options
    ),
    "denoise": lambda restorer, picture, **options: restorer.denoise(picture, 0.1, **options),
}


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer("default", "cpu")


def test_the_views_are_the_eight_symmetries_of_a_square() -> None:
    picture = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = [view.of(picture) for view in VIEWS]
    assert {tuple(one.shape[-2:]) for one in seen} == {(3, 4), (4, 3)}
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8
    assert torch.equal(seen[0], picture)
    for view, one in zip(VIEWS, seen, strict=True):
        assert torch.equal(view.undone(one), picture)


def test_a_shift_becomes_its_mean_over_directions() -> None:
    picture = torch.rand(2, 3, 5, 7)
    *_, mean = running_means(lambda x: x.roll(1, -1), len(VIEWS), picture)
    values = picture.numpy()
    shifts = [np.roll(values, by, axis) for by in (1, -1) for axis in (2, 3)]
    np.testing.assert_allclose(mean.numpy(), np.mean(shifts, axis=0), atol=1e-6)


def test_means_run_over_the_first_views() -> None:
    picture = torch.rand(1, 1, 4, 4)
    asked: list[torch.Tensor] = []
    means = list(
        running_means(lambda x: asked.append(x) or torch.full_like(x, len(asked)), 3, picture)
    )
    assert [float(mean.mean()) for mean in means] == [1.0, 1.5, 2.0]
    assert all(not torch.equal(one, other) for one, other in pairwise(asked))


@pytest.mark.parametrize("name", RESTORATIONS)
def test_all_views_restore_a_turned_picture_alike(restorer: Restorer, name: str) -> None:
    def difference(views: int) -> float:
        """Return how far a turned picture's result is from the picture's, turned."""
        options = {"method": "one-step", "parameters": {"views": views}}
        straight = RESTORATIONS[name](restorer, PICTURE, **options)
        turned = RESTORATIONS[name](restorer, np.rot90(PICTURE).copy(), **options)
        return float(np.abs(np.rot90(straight) - turned).max())

    all_views, one_view = difference(8), difference(1)
    assert all_views < 0.2 * one_view
    if name != "deblur":  # whose projection is iterated, in coordinates that do not turn
        assert all_views < 2e-5


def test_each_view_is_a_call(restorer: Restorer) -> None:
    steps: list[Step] = []
    four = restorer.sr(
        PICTURE, 2, method="one-step", parameters={"views": 4}, callback=steps.append
    )
    assert [(step.index, step.steps) for step in steps] == [(i, 4) for i in range(4)]
    options = Options("one-step", parameters={"views": 4})
    assert settings_for(TASKS["sr"].kind, options)[1].steps == 4

    one = restorer.sr(PICTURE, 2, method="one-step")
    assert np.abs(four - one).max() > 1e-3


@pytest.mark.parametrize(("task", "views"), [("sr", 1), ("denoise", 2)])
def test_denoising_takes_two_views_and_the_rest_one(task: str, views: int) -> None:
    settings = settings_for(TASKS[task].kind, Options("one-step"))[1]
    assert (settings.steps, settings.parameters["views"]) == (views, views)
