"""What a method's record says is what is done with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from operators import Jpeg
from restore import Restorer
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.options import Options
from restore.methods.run import Run
from restore.methods.settings import settings_for
from restore.tasks import TASKS, SuperResolution

IMAGE = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)


@pytest.fixture
def restorer(loaded_once) -> Restorer:
    return Restorer(device="cpu")


def test_a_method_that_needs_gradients_has_them(restorer, monkeypatch) -> None:
    """It gets d clean / d x of the network, and its answer leaves no graph behind."""
    seen: list[float] = []

    def solve(run: Run) -> torch.Tensor:
        x = torch.randn(1, *run.problem.operator.input_shape, requires_grad=True)
        clean = run.denoiser(x, 1.0).clean
        (gradient,) = torch.autograd.grad(clean.square().sum(), x)
        seen.append(float(gradient.abs().sum()))
        return clean

    toy = replace(METHODS["diffpir"], name="toy", solve=solve, needs_gradient=True)
    monkeypatch.setitem(METHODS, "toy", toy)
    result = restorer.run(
        SuperResolution(2), torch.from_numpy(IMAGE).permute(2, 0, 1), method="toy"
    )
    assert seen[0] > 0
    assert not result.mean.requires_grad


def test_a_method_that_needs_none_runs_without(restorer, monkeypatch) -> None:
    modes: list[bool] = []

    def solve(run: Run) -> torch.Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return METHODS["diffpir"].solve(run)

    monkeypatch.setitem(METHODS, "toy", replace(METHODS["diffpir"], name="toy", solve=solve))
    restorer.run(SuperResolution(2), IMAGE, method="toy", steps=2)
    assert modes == [True]


def test_a_method_that_cannot_use_an_operator_says_which_can(restorer, monkeypatch) -> None:
    picky = replace(METHODS["diffpir"], name="toy", takes=lambda operator: False)
    monkeypatch.setitem(METHODS, "toy", picky)
    with pytest.raises(BadArgument, match=r"`method`=toy: it cannot use .*; these can: ddrm, dif"):
        restorer.run(SuperResolution(2), IMAGE, method="toy")


def test_a_method_of_masks_says_so(restorer) -> None:
    text = (
        r"`method`=repaint: it takes masks, mosaics and compressed sensing, whose singular values "
        r"are 0 or 1, not the operator \w+; these can: ddrm, diffpir, dpir"
    )
    with pytest.raises(BadArgument, match=text):
        restorer.run(SuperResolution(2), IMAGE, method="repaint")
    mosaic = restorer.run(TASKS["solve"]("bayer"), IMAGE[..., :1], method="repaint", steps=1)
    assert mosaic.mean.shape == IMAGE.shape


def test_what_stands_in_for_a_method_can_use_everything() -> None:
    for name in {method.stand_in for method in METHODS.values()}:
        assert METHODS[name].takes_noise_maps
        assert not METHODS[name].needs_svd
        assert METHODS[name].takes(Jpeg(50))


@pytest.mark.parametrize(
    ("method", "options", "others"),
    [
        ("dpir", {"samples": 2}, "has one answer; use ddrm, diffpir or sr3 for samples"),
        ("one-step", {"fidelity": 0.5}, "of fidelity 1; use auto, ddrm, diffpir or sr3"),
        ("conjugate-pigdm", {"eta": 0.5}, "after the start; use ddrm, diffpir or sr3"),
    ],
)
def test_a_refused_option_names_the_usual_methods_that_take_it(method, options, others) -> None:
    with pytest.raises(BadArgument, match=f"the method {method} .*{others}"):
        settings_for(TASKS["sr"].kind, Options(method, **options))


@pytest.mark.parametrize("method", ["dpir", "red-diff"])
def test_one_answer_may_take_steps_and_a_start(restorer, method: str) -> None:
    """But no samples, and auto does not choose a sampler for their sake."""
    options = {"method": method, "steps": 2, "start": np.full((16, 24, 3), 0.5, np.float32)}
    calls = []
    result = restorer.run(SuperResolution(2), IMAGE, callback=calls.append, **options)
    assert (result.report.steps, len(calls)) == (2, 2)
    for refused in ({"samples": 2}, {"eta": 0.5}):
        with pytest.raises(BadArgument, match=f"the method {method} "):
            restorer.run(SuperResolution(2), IMAGE, method=method, **refused)

    kind = replace(TASKS["sr"].kind, method=method, fast=method)
    assert settings_for(kind, Options(steps=2))[0] == method
    assert settings_for(kind, Options(samples=2))[0] == kind.sampler
    assert settings_for(kind, Options(eta=0.5))[0] == "ddrm"  # the sampler takes no η


def test_levels_may_end_at_the_noise_of_the_measurement(restorer) -> None:
    """So pictures of other noise have levels of their own; less than the model's is none."""
    pictures = torch.rand(3, 3, 8, 8)
    problem = restorer.problem(SuperResolution(2, noise=[0.01, 0.05, 0.0]), pictures)
    own = settings_for(problem.kind, Options("dpir"))[1]
    run = Run(restorer.denoiser, problem, own, torch.Generator(), None)
    assert run.levels(4)[-2] == pytest.approx(0.1)
    assert len(set(run.trajectories)) == 3

    lowest = float(restorer.denoiser.schedule.sigmas[0])
    for noise, level in ((0.0, lowest), (0.001, lowest), (0.2, 0.4)):
        quiet = restorer.problem(SuperResolution(2, noise=noise), pictures)
        assert replace(run, problem=quiet).levels(4)[-2] == pytest.approx(level)


def test_the_steps_of_a_report_are_those_of_a_sample(restorer) -> None:
    """Fewer than were chosen, where jumps do not add up to that many."""
    mask = np.zeros((8, 12), bool)
    mask[2:5, 3:9] = True
    calls = []
    inpaint = restorer.run(
        TASKS["inpaint"](mask), IMAGE, method="repaint", steps=20, samples=2, callback=calls.append
    )
    assert (inpaint.report.steps, len(calls)) == (19, 38)
    heun = restorer.run(SuperResolution(2), IMAGE, method="sr3", sampler="heun", steps=3)
    assert heun.report.steps == 3
    assert restorer.run(SuperResolution(2), IMAGE, method="one-step").report.steps == 1


def test_resamplings_keep_to_the_calls(restorer) -> None:
    mask = np.zeros((8, 12), bool)
    mask[2:5, 3:9] = True
    for steps, parameters, made in ((7, {}, 7), (8, {"jump_length": 3, "resamplings": 4}, 8)):
        calls = []
        result = restorer.run(
            TASKS["inpaint"](mask), IMAGE, method="repaint", steps=steps, parameters=parameters,
            callback=calls.append,
        )  # fmt: skip
        assert len(calls) == result.report.steps == made
        np.testing.assert_array_equal(result.mean[~mask], IMAGE[~mask])


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("daps", {"ode_calls": 3}),
        ("pnp-dm", {"reverse_steps": 3}),
        ("pnp-dm", {"reverse_steps": 1, "rho_min": 5}),
        ("snips", {"steps_each": 3, "consistent": 0, "step_size": 0}),
    ],
)
def test_inner_loops_keep_to_the_calls(restorer, method: str, parameters: dict) -> None:
    for steps in (1, 2, 7):
        calls = []
        result = restorer.run(
            SuperResolution(2), IMAGE, method=method, steps=steps, parameters=parameters,
            callback=calls.append,
        )  # fmt: skip
        assert 1 <= len(calls) <= steps
        assert {step.steps for step in calls} == {len(calls)}
        assert result.report.steps == len(calls)
        assert result.report.unexplained < 0.02


@pytest.mark.parametrize("method", ["daps", "pnp-dm"])
def test_samplers_take_jpegs_and_operators_without_an_svd(restorer, method: str) -> None:
    for operator in ("jpeg:50", "blur:gaussian:1+mask:random:0.5"):
        picture = np.clip(IMAGE, 0.2, 0.8)
        result = restorer.run(
            TASKS["solve"](operator, noise=0.02), picture, method=method, steps=2, samples=2
        )
        assert np.isfinite(result.mean).all()
        assert float(np.abs(result.samples[0] - result.samples[1]).max()) > 0.01

    with pytest.raises(BadArgument, match=f"the method {method} .* leave it out"):
        restorer.run(SuperResolution(2), IMAGE, method=method, eta=0.5)


def test_snips_names_the_methods_without_an_svd(restorer) -> None:
    with pytest.raises(
        BadArgument, match=r"snips: it needs an operator with an SVD.*diffpir.*daps"
    ):
        restorer.run(
            TASKS["solve"]("blur:gaussian:1+mask:random:0.5", noise=0.02), IMAGE, method="snips"
        )


def test_every_kind_of_a_task_has_methods_that_suit_it() -> None:
    for task in TASKS.values():
        kind = task.kind
        assert {kind.method, kind.sampler, kind.unconditional} <= METHODS.keys()
        assert METHODS[kind.sampler].stochastic
        assert METHODS[kind.unconditional].runs_without_condition(kind)


def test_conjugate_integrators_refuse_what_is_not_linear(restorer) -> None:
    with pytest.raises(
        BadArgument, match=r"conjugate-pigdm: it takes linear.* these can: .*dps, pigdm"
    ):
        restorer.run(TASKS["solve"]("jpeg:30"), IMAGE, method="conjugate-pigdm")


@pytest.mark.parametrize("method", ["dps", "pigdm"])
def test_guidance_through_jpeg_explains_it(restorer, method: str) -> None:
    """A step size of 0 is the prior alone, which explains a picture of flat squares less."""
    squares = np.kron(IMAGE[:3, :4], np.ones((8, 8, 1), np.float32))
    measured = Jpeg(30).A(torch.from_numpy(squares).permute(2, 0, 1)[None])[0]
    task = TASKS["solve"]("jpeg:30")
    found = restorer.run(task, measured, method=method, steps=4).report.consistency
    prior = restorer.run(task, measured, method="dps", steps=4, parameters={"step_size": 0})
    assert found < 0.97 * prior.report.consistency


def test_a_step_size_is_of_pixels_in_0_to_1(restorer, monkeypatch) -> None:
    """The solver, whose pixels are in [-1, 1], gets twice the user's."""
    sizes: list[float] = []
    monkeypatch.setattr(
        "restore.methods.dps.dps",
        lambda denoise, operator, *_, step_size, **__: (
            sizes.append(step_size) or torch.zeros(1, *operator.input_shape)
        ),
    )
    restorer.run(SuperResolution(2), IMAGE, method="dps", parameters={"step_size": 0.25})
    assert sizes == [0.5]


# Methods that take no blur with an unknown border, and those that need another model.
OTHERS = (
    "repaint", "snips", "i2sb", *(name for name, method in METHODS.items() if method.latents)
)  # fmt: skip


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OTHERS])
def test_callbacks_see_the_picture_without_its_unknown_border(restorer, method: str) -> None:
    seen = []
    steps = {} if method == "one-step" else {"steps": 2}
    restorer.run(
        TASKS["deblur"]("gaussian:1", noise=0.01), IMAGE, method=method, callback=seen.append,
        **steps,
    )  # fmt: skip
    assert [tuple(step.clean.shape) for step in seen] == [(1, 3, *IMAGE.shape[:2])] * len(seen)
    assert len(seen) == seen[0].steps


def test_repaint_takes_no_fraction_of_fresh_noise(restorer) -> None:
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[2:5, 3:9] = True
    with pytest.raises(BadArgument, match=r"`eta`=0.5: the method repaint takes the steps of DDPM"):
        restorer.run(TASKS["inpaint"](mask), IMAGE, method="repaint", eta=0.5)


def test_what_has_an_svd_depends_on_the_method(restorer) -> None:
    """DDRM works with an unknown border, which has no SVD, and SNIPS does not."""
    text = (
        r"needs an operator with an SVD, .* one-step; or `boundary`=circular \(ddrm and ddnm take "
        r"unknown as well\)"
    )
    with pytest.raises(BadArgument, match=text):
        restorer.run(TASKS["deblur"]("gaussian:1", noise=0.01), IMAGE, method="snips")


@pytest.mark.parametrize("method", ["ddpg", "red-diff"])
def test_denoising_does_not_return_the_noise(restorer, method: str) -> None:
    """Their fits to the measurement do not weigh its noise unless their parameters do."""
    flat = np.full((24, 24, 3), 0.5, np.float32)
    noisy = flat + 0.1 * np.random.default_rng(0).standard_normal(flat.shape).astype(np.float32)
    found = restorer.run(TASKS["denoise"](0.1), noisy, method=method, steps=12).mean
    assert float(np.square(found - flat).mean() ** 0.5) < 0.06
