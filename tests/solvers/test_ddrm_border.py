"""DDRM with a blur whose border is unknown: against DDRM where the two are one, and on a
photograph.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from support.patience import run_to_the_end
from support.pictures import FIXTURES
from test_solvers import LEVELS, GaussianPrior, _arbitrary_denoiser, _noise

from operators import ValidConvolution, kernels
from restore.photo.photograph import read_photo
from restore.restorer import restorer
from restore.solvers import Step, ddrm, ddrm_unknown_border, project
from restore.solvers.ddrm import SpectralProcess
from restore.solvers.ddrm_border import completed


@pytest.mark.parametrize("noise", [0.1, (0.3, 0.02)])
@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (1.0, 0.4)])
def test_it_is_ddrm_where_nothing_is_unknown(
    noise: float | tuple[float, float], eta: float, eta_b: float
) -> None:
    operator = ValidConvolution((3, 8, 6), [[0.7]])
    y = _noise(torch.Generator().manual_seed(1), 2, 3, 8, 6)
    level = torch.tensor(noise)
    results = [
        solver(
            _arbitrary_denoiser,
            op,
            y,
            level,
            LEVELS,
            generator=torch.Generator().manual_seed(2),
            **options,
        )
        for solver, op in ((ddrm, operator.circular), (ddrm_unknown_border, operator))
        for options in ({"eta": eta, "eta_b": eta_b, "start": torch.zeros(1, 3, 8, 6)},)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [0.1, (0.3, 0.02)])
def test_channels_that_take_turns_give_the_same(monkeypatch, noise) -> None:
    """As they do in large pictures, to save memory; alike as far as conjugate gradients go."""
    run_to_the_end(monkeypatch)
    operator = ValidConvolution((3, 20, 26), kernels.disk(2))
    y = _noise(torch.Generator().manual_seed(1), 2, 3, 20, 26)
    options = {"eta": 0.85, "start": torch.zeros(1, *operator.input_shape)}

    def result() -> torch.Tensor:
        draw = torch.Generator().manual_seed(2)
        level = torch.tensor(noise)
        return ddrm_unknown_border(
            _arbitrary_denoiser, operator, y, level, LEVELS, generator=draw, **options
        )

    together = result()
    monkeypatch.setattr("restore.solvers.consistency.LARGE", 100)
    seen = []
    step = SpectralProcess.step
    monkeypatch.setattr(
        SpectralProcess,
        "step",
        lambda self, *given: seen.append(given[1].shape[1]) or step(self, *given),
    )
    torch.testing.assert_close(result(), together, rtol=0, atol=2e-3)
    assert seen == [1] * 3 * (len(LEVELS) - 2)


def test_what_was_measured_stays_in_its_place() -> None:
    operator = ValidConvolution((1, 9, 7), kernels.motion(5, 30))
    y = torch.randn(2, 1, 9, 7)
    canvas = torch.randn(2, *operator.input_shape)
    whole = completed(operator, y, canvas)
    assert torch.equal(operator.crop(whole), y)
    beyond = ~operator.measured.expand_as(whole)
    assert torch.equal(whole[beyond], operator.circular.A(canvas)[beyond])


def test_with_the_exact_denoiser_it_comes_near_the_posterior_mean() -> None:
    """Closer to it than what the measurement tells without iterations, and far closer than the
    prior's mean.
    """
    prior = GaussianPrior(7)
    noise = 0.05
    operator = ValidConvolution((1, 5, 5), kernels.gaussian(0.6)[1:-1, 1:-1])
    assert operator.input_shape == prior.shape
    A = torch.stack(
        [operator.A(e.reshape(1, *prior.shape)).flatten() for e in torch.eye(49)], dim=1
    ).double()
    root = torch.linalg.cholesky(prior.covariance)
    draw = torch.Generator().manual_seed(0)
    truth = prior.mean + root @ torch.randn(49, generator=draw).double()
    y = A @ truth + noise * torch.randn(25, generator=draw).double()
    mean, _ = prior.posterior(A, y, noise)
    found = ddrm_unknown_border(
        prior.denoise,
        operator,
        y.float().reshape(1, 1, 5, 5).expand(400, -1, -1, -1),
        noise,
        [*np.geomspace(2.0, 0.01, 20).tolist(), 0.0],
        generator=torch.Generator().manual_seed(1),
        eta=0.9,
    )
    inside = operator.measured.flatten()
    error = (found.mean(dim=0).flatten().double() - mean)[inside].square().mean().sqrt()
    assert error < 0.25 * (mean - prior.mean)[inside].square().mean().sqrt()


def test_a_photograph_without_ringing_at_its_border() -> None:
    """Measured with the light from outside in it: the restored border is as good as the middle."""
    truth = read_photo(FIXTURES / "crop_a.png").pixels[..., :3]
    kernel = kernels.gaussian(1.5)
    reach = kernel.shape[0] // 2
    whole = torch.from_numpy(truth).permute(2, 0, 1)[None]
    blurred = ValidConvolution((3, *(n - 2 * reach for n in truth.shape[:2])), kernel).A(whole)
    noisy = blurred + 0.01 * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    picture = noisy[0].permute(1, 2, 0).numpy().clip(0, 1)
    restored = restorer("default", "cpu").deblur(
        picture, "gaussian:1.5", noise=0.01, method="ddrm", eta=0.95
    )
    inner = truth[reach:-reach, reach:-reach]
    error = np.abs(restored - inner)
    before = np.abs(picture - inner)
    assert error.mean() < 0.6 * before.mean()
    edge = np.ones(error.shape[:2], dtype=bool)
    edge[6:-6, 6:-6] = False
    assert error[edge].mean() < 0.75 * before[edge].mean()


def test_progress_shows_what_is_seen_and_shares_are_checked() -> None:
    operator = ValidConvolution((3, 8, 6), kernels.gaussian(0.6))
    y = torch.zeros(1, 3, 8, 6)
    seen = list[Step]()
    ddrm_unknown_border(
        _arbitrary_denoiser, operator, y, 0.1, [1.0, 0.5, 0.0], callback=seen.append
    )
    assert [(s.index, s.steps, s.sigma, tuple(s.clean.shape)) for s in seen] == [
        (0, 2, 1.0, (1, 3, 8, 6)),
        (1, 2, 0.5, (1, 3, 8, 6)),
    ]
    with pytest.raises(ValueError, match="eta"):
        ddrm_unknown_border(_arbitrary_denoiser, operator, y, 0.1, [1.0, 0.0], eta=1.5)


@pytest.mark.parametrize("kernel", ["gaussian:2", "gaussian:4", "motion:15:30", "disk:3"])
@pytest.mark.parametrize("options", [{"method": "ddrm"}, {"samples": 2}, {}], ids=str)
def test_a_clean_white_page_has_no_frame(kernel: str, options: dict) -> None:
    white = np.full((48, 48), 255, np.uint8)
    restored = restorer("default", "cpu").deblur(white, kernel, steps=6, **options)
    restored = restored.mean if "samples" in options else restored
    assert restored.min() > 200


def test_the_border_of_a_clean_page_is_better_than_blurred() -> None:
    """Text in 8 bits, blurred with the light from outside in it."""
    page = Image.new("L", (112, 96), "white")
    draw = ImageDraw.Draw(page)
    for row in range(-4, 96, 11):
        draw.text((-3, row), "Text to the very border", fill="black")
    reach = kernels.gaussian(1.5).shape[0] // 2
    whole = torch.from_numpy(np.asarray(page).astype(np.float32) / 255)[None, None]
    operator = ValidConvolution(
        (1, 96 - 2 * reach, 112 - 2 * reach), kernels.gaussian(1.5), dtype=torch.float32
    )
    blurred = (255 * operator.A(whole)[0, 0]).round().clamp(0, 255).numpy().astype(np.uint8)
    sharp = np.asarray(page)[reach:-reach, reach:-reach].astype(float)
    edge = np.ones(sharp.shape, bool)
    edge[8:-8, 8:-8] = False

    def error(pixels: np.ndarray) -> float:
        return float(np.sqrt(((pixels.astype(float) - sharp)[edge] ** 2).mean()))

    for method in ("ddrm", "diffpir"):
        restored = restorer("default", "cpu").deblur(
            blurred, "gaussian:1.5", method=method, steps=10
        )
        assert error(restored) < 0.7 * error(blurred)


def test_quiet_and_noisy_pictures_of_a_batch_are_solved_as_alone() -> None:
    operator = ValidConvolution((3, 8, 6), kernels.gaussian(0.8))
    shape = (2, *operator.input_shape)
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(shape, generator=draw), torch.randn(2, 3, 8, 6, generator=draw)
    level = torch.tensor([0.002, 0.05])
    together = project(operator, x, y, level, prior_std=0.3)
    for index in range(2):
        one = slice(index, index + 1)
        alone = project(operator, x[one], y[one], level[one], prior_std=0.3)
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)
