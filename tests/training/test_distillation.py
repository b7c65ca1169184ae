"""Progressive distillation: target and loss against closed forms, rounds, and whole tiny runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.analytic import Mixture
from support.pictures import piece
from test_training import (
    MODEL,
    TINY,
    FakeBatches,
    assert_same,
    interrupt_at,
    recipe,
    run,
    weights_of,
)
from torch import Tensor

import pretrained
from restore.backbone import BackboneConfig
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, Prediction, build_denoiser
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.errors import BadArgument
from restore.methods.sampling import Sampling
from restore.samplers.ddim import ddim
from restore.training import learner
from restore.training.checkpoint import export_average, load_state, write_model
from restore.training.distillation import Distillation, distillation_target, loss_weight
from restore.training.learner import Learner, new_network
from restore.training.log import COLUMNS, DISTILLATION_COLUMNS, read_log
from restore.training.losses import target
from restore.training.recipe import Recipe
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, write_recipe
from restore.training.rounds import DistillationRecipe
from restore.training.run import Summary

WORLD = Mixture.random(3, components=2)
SCHEDULE = NoiseSchedule.named("linear")


def levels_of(*sigmas: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(s, dtype=torch.float64).reshape(1, 1, 1, 1) for s in sigmas)


# The target


@pytest.mark.parametrize(
    ("sigma", "middle", "below"), [(150.0, 40.0, 11.0), (2.0, 1.99, 1.985), (0.02, 0.015, 0.0)]
)
def test_the_target_is_the_papers(sigma: float, middle: float, below: float) -> None:
    """Algorithm 2 in the paper's coordinates z = α x + σ ε, α² + σ² = 1."""
    x = sigma * torch.randn(
        40, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = distillation_target(WORLD.denoise, x, *levels_of(sigma, middle, below))

    def teacher(z: Tensor, level: float) -> Tensor:
        return WORLD.denoise(z * math.hypot(1, level), level).clean

    alpha, alpha1, alpha2 = (1 / math.hypot(1, s) for s in (sigma, middle, below))
    s = sigma * alpha
    s1 = middle * alpha1
    s2 = below * alpha2
    z = alpha * x
    z1 = alpha1 * teacher(z, sigma) + s1 / s * (z - alpha * teacher(z, sigma))
    z2 = alpha2 * teacher(z1, middle) + s2 / s1 * (z1 - alpha1 * teacher(z1, middle))
    expected = (z2 - s2 / s * z) / (alpha2 - s2 / s * alpha)
    cancelled = 1 / (1 - below / sigma)  # digits that the paper's difference loses
    torch.testing.assert_close(found, expected, rtol=1e-12 * cancelled, atol=1e-13 * cancelled)


@pytest.mark.parametrize("steps", [2, 8, 64])
def test_a_student_that_hits_its_target_samples_as_its_teacher_does(steps: int) -> None:
    """The student takes half of the steps, up to the clean picture."""
    grid = noise_levels(SCHEDULE, steps, "log-snr")
    following = {sigma: levels_of(*grid[i : i + 3]) for i, sigma in enumerate(grid[:-2])}

    def student(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        clean = distillation_target(WORLD.denoise, x, *following[sigma])
        return Prediction(clean, (x - clean) / sigma)

    x = grid[0] * torch.randn(
        50, 1, 1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    torch.testing.assert_close(
        ddim(student, x, grid[::2]), ddim(WORLD.denoise, x, grid), rtol=1e-11, atol=1e-12
    )


def test_the_target_of_the_last_step_is_the_teachers_last_answer() -> None:
    x = torch.randn(5, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma, middle, zero = levels_of(0.5, 0.2, 0.0)
    first = WORLD.denoise(x, 0.5)
    last = WORLD.denoise(first.clean + 0.2 * first.noise, 0.2).clean
    torch.testing.assert_close(
        distillation_target(WORLD.denoise, x, sigma, middle, zero), last, rtol=0, atol=1e-15
    )


def test_the_weights_are_the_errors_of_other_parameterisations() -> None:
    """truncated-snr is the error of x0 or ε, the larger; snr+1 is that of v."""
    sigma = torch.tensor([0.05, 0.9, 1.1, 80.0]).double()
    random = torch.Generator().manual_seed(0)
    x, clean, other = torch.randn(3, 4, generator=random, dtype=torch.float64)
    gamma = 1 / (1 + sigma**2)
    error = {
        kind: (
            target(kind, clean, (x - clean) / sigma, gamma)
            - target(kind, other, (x - other) / sigma, gamma)
        )
        ** 2
        for kind in ("x0", "epsilon", "v")
    }
    larger = torch.maximum(error["x0"], error["epsilon"])
    torch.testing.assert_close(loss_weight("truncated-snr", sigma) * error["x0"], larger)
    torch.testing.assert_close(loss_weight("snr+1", sigma) * error["x0"], error["v"])


# The loss

POINTS = BackboneConfig(image_channels=1, channels=32, channel_multipliers=(1,), blocks=1)


class LinearStudent:
    """A network that is any affine function of its picture [B, 1, 1, D] at each of some levels."""

    def __init__(self, times: Tensor, dimensions: int) -> None:
        self.times = times
        self.dimensions = dimensions
        self.parameters = torch.zeros(len(times) * dimensions * (dimensions + 1))

    def __call__(self, x: Tensor, time: Tensor, parameters: Tensor | None = None) -> Tensor:
        table = (self.parameters if parameters is None else parameters).reshape(
            len(self.times), self.dimensions, -1
        )
        own = table[(self.times[:, None] - time).abs().argmin(dim=0)]
        return (own[:, :, :-1] @ x.reshape(len(x), -1, 1) + own[:, :, -1:]).reshape(x.shape)


@pytest.mark.parametrize(
    ("parameterization", "weighting"),
    [("v", "truncated-snr"), ("v", "snr+1"), ("x0", "truncated-snr")],
)
def test_the_minimiser_of_the_loss_samples_as_the_teacher_does(
    parameterization: str, weighting: str
) -> None:
    """For Gaussian data all is affine, and one Newton step finds the minimum."""
    world = Mixture.gaussian(2)
    random = torch.Generator().manual_seed(0)
    config = ModelConfig(POINTS, {"name": "linear"}, parameterization)
    made = DistillationRecipe(8, 4, "karras", weighting=weighting)
    objective = Distillation(config, recipe().objective, made, 0, world.denoise)
    grid = made.grid(config, 0)
    student = LinearStudent(SCHEDULE.time_at(torch.tensor(grid[:-1:2])), 2)
    clean = world.sample(400, random).float()
    noise = torch.randn(400, 1, 1, 2, generator=random)
    draw = objective.draw(torch.zeros(400, dtype=torch.bool), random)
    assert set(draw.step.tolist()) == {0, 1, 2, 3}

    def loss(parameters: Tensor) -> Tensor:
        network = lambda x, time: student(x, time, parameters)  # noqa: E731
        return objective.terms(
            network, clean, Condition(0 * clean, 0 * clean), draw, noise
        ).simple.mean()

    hessian = torch.autograd.functional.hessian(loss, student.parameters)
    gradient = torch.autograd.functional.jacobian(loss, student.parameters)
    student.parameters = -torch.linalg.lstsq(hessian.double(), gradient.double()).solution.float()
    assert float(loss(student.parameters)) < 1e-7 < 1e-3 < float(loss(0 * student.parameters))
    x = grid[0] * torch.randn(100, 1, 1, 2, generator=random)
    ours = ddim(Denoiser(student, config), x, grid[::2])
    theirs = ddim(world.denoise, x, grid)
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)
    assert float((ddim(world.denoise, x, grid[::2]) - theirs).abs().mean()) > 0.02


@pytest.mark.parametrize("parameterization", ["v", "x0"])
def test_conditional_and_unconditional_pictures_learn_alike(parameterization: str) -> None:
    """A network that answers the target has no loss, if the teacher sees what the student sees."""
    config = ModelConfig(
        TINY, {"name": "linear"}, parameterization, condition_skip=parameterization == "v"
    )
    asked: list[tuple[Tensor, Tensor, Condition]] = []

    def teacher(x: Tensor, sigma: Tensor, condition: Condition) -> Prediction:
        asked.append((x, sigma, condition))
        return Prediction(0.3 * condition.picture + torch.tanh(x), x)

    objective = Distillation(config, recipe().objective, DistillationRecipe(16, 4), 1, teacher)
    clean, condition, *_ = FakeBatches(8, 32).at(0)
    conditional = torch.arange(32) % 2 == 1
    draw = objective.draw(conditional, torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    grid = torch.tensor(noise_levels(SCHEDULE, 16, "karras"))[::2]
    sigma, middle, below = (grid[2 * draw.step + i][:, None, None, None] for i in range(3))
    assert draw.gamma.tolist() == pytest.approx((1 / (1 + sigma**2)).flatten().tolist(), rel=1e-6)
    x = clean + sigma * noise
    said = distillation_target(teacher, x, sigma, middle, below, condition)
    gamma = 1 / (1 + sigma**2)
    answer = target(parameterization, said, (x - said) / sigma, gamma)
    if config.condition_skip:
        answer = answer + (1 - gamma).sqrt() * condition.picture
    inputs = []

    def network(given: Tensor, time: Tensor) -> Tensor:
        inputs.append(given)
        return answer

    asked.clear()
    assert float(objective.terms(network, clean, condition, draw, noise).simple.max()) < 1e-5
    torch.testing.assert_close(inputs[0], torch.cat([x * gamma.sqrt(), *condition], dim=1))
    torch.testing.assert_close(asked[0][:2], (x, sigma), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(asked[1][1], middle, rtol=1e-6, atol=0)
    assert all(a[2] is condition for a in asked)


def test_noiseless_pictures_still_ask_for_the_clean_picture() -> None:
    """A model that restores in one step from zeros must keep doing so."""
    objective = Distillation(
        replace(MODEL, one_step="zeros"), recipe(objective={"noiseless_fraction": 1.0}).objective,
        DistillationRecipe(16, 4), 0, lambda x, sigma, condition: Prediction(x + 9, x),
    )  # fmt: skip
    clean, condition, *_ = FakeBatches(8, 6).at(0)
    draw = objective.draw(torch.arange(6) % 2 == 1, torch.Generator().manual_seed(0))
    assert draw.noiseless.tolist() == [False, True] * 3
    highest = float(SCHEDULE.sigmas[-1])
    perfect = (condition.picture - clean) * highest / math.hypot(1, highest)
    inputs = []

    def network(given: Tensor, time: Tensor) -> Tensor:
        inputs.append((given, time))
        return perfect

    losses = objective.terms(network, clean, condition, draw, torch.randn(clean.shape)).simple
    assert float(losses[1::2].max()) < 1e-8
    assert float(losses[::2].min()) > 1
    assert not inputs[0][0][1::2, :3].any()
    assert inputs[0][1][1::2].tolist() == pytest.approx([999] * 3)


# Rounds


def test_rounds_halve_and_share_the_run() -> None:
    made = DistillationRecipe(64, 8, lengths=(1, 1, 2))
    assert made.rounds == 3
    assert [made.round_at(s) for s in (0, 0.24, 0.25, 0.49, 0.5, 0.99, 1)] == [0, 0, 1, 1, 2, 2, 2]
    assert [made.fraction_of(2, s) for s in (0.4, 0.5, 0.75, 1)] == [0, 0, 0.5, 1]
    grids = [made.grid(MODEL, index) for index in range(3)]
    assert [len(grid) - 1 for grid in grids] == [64, 32, 16]
    assert grids[0] == noise_levels(SCHEDULE, 64, "karras")
    assert [*made.student_levels(MODEL, 1), 0.0] == grids[2] == grids[0][::4]
    assert made.student_levels(MODEL, 2) == tuple(grids[0][:-1:8])


def test_a_distilled_model_is_distilled_further_at_its_own_levels() -> None:
    model = replace(MODEL, distilled_levels=(100.0, 10.0, 1.0, 0.1))
    made = DistillationRecipe(4, 1)
    assert made.grid(model, 0) == [100, 10, 1, 0.1, 0]
    assert (made.student_levels(model, 0), made.student_levels(model, 1)) == ((100, 1), (100,))
    for other in (DistillationRecipe(8, 1), DistillationRecipe(4, 1, "uniform")):
        with pytest.raises(ValueError, match="distilled for 4 steps"):
            other.grid(model, 0)


def test_a_recipe_with_a_distillation_is_written_and_read() -> None:
    made = replace(recipe(), distillation=DistillationRecipe(16, 2, "uniform", (1, 1, 3), "snr+1"))
    assert parse_recipe(write_recipe(made)) == made
    distilled = replace(made, model=made.exported_model(1))
    assert parse_recipe(write_recipe(distilled)) == distilled


def test_a_description_with_levels_goes_through_json_and_is_checked() -> None:
    model = replace(MODEL, distilled_levels=(3.0, 0.5))
    assert ModelConfig.from_dict(json.loads(json.dumps(asdict(model)))) == model
    for wrong in ((), (1.0, 1.0), (1.0, 2.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="distilled_levels"):
            replace(MODEL, distilled_levels=wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[distillation]\nstart = 12\nend = 4",
            ["[distillation]", "from 12 to 4 steps", "times 2, 4, 8"],
        ),
        ("[distillation]\nstart = 4\nend = 4", ["from 4 to 4 steps"]),
        ("[distillation]\nstart = 4\nend = 8", ["from 4 to 8 steps"]),
        ("[distillation]\nstart = 4\nend = 0", ["from 4 to 0 steps"]),
        ("[distillation]\nstart = 4.5", ["start = 4.5", "a whole number"]),
        ("[distillation]\nsteps = 4", ["[distillation] steps", "there are start, end"]),
        (
            "[distillation]\nlevels = 'cubic'",
            ["levels = 'cubic'", "uniform, quadratic, karras, log-snr"],
        ),
        ("[distillation]\nweighting = 'snr'", ["weighting = 'snr'", "truncated-snr, snr+1"]),
        ("[distillation]\nstart = 16\nlengths = [1]", ["lengths must be 2 positive numbers"]),
        ("[distillation]\nstart = 16\nlengths = [1, 0]", ["lengths must be 2 positive numbers"]),
    ],
)
def test_a_bad_section_is_refused_by_its_key(text: str, words: list[str]) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_recipe(text, "my.toml")
    assert all(word in str(caught.value) for word in ["my.toml", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (recipe(), ""),
        (
            replace(
                recipe(), model=replace(MODEL, parameterization="epsilon", condition_skip=False)
            ),
            "epsilon-network",
        ),
        (
            replace(recipe(), model=replace(MODEL, backbone=replace(TINY, learned_variance=True))),
            "learned variance",
        ),
        (
            recipe(objective={"loss": "l1", "balance": True}),
            "loss, balance: not used in a distillation",
        ),
        (
            replace(recipe(), model=replace(MODEL, schedule={"name": "linear", "timesteps": 9})),
            "between 1 and 9",
        ),
        (recipe(schedule={"steps": 1}), "less than one for the shortest round"),
        (replace(recipe(), model=replace(MODEL, distilled_levels=(2.0, 1.0))), "start must be 2"),
    ],
)
def test_what_cannot_be_distilled_is_refused(made: Recipe, words: str) -> None:
    plain = replace(made.objective, levels="log-normal", log_normal_uniform=0.2)
    made = replace(made, objective=plain, distillation=DistillationRecipe(16, 4))
    if not words:
        check_recipe(made)
        return
    with pytest.raises(BadArgument, match=words):
        check_recipe(made)


# Runs


def distilling(distillation: DistillationRecipe, **sections) -> Recipe:
    """Return a tiny recipe without a model, with all unused settings at their defaults."""
    made = recipe(**sections)
    plain = replace(made.objective, levels="log-normal", log_normal_uniform=0.2)
    return replace(made, model=None, objective=plain, distillation=distillation)


def distil(
    out: Path, teacher: Path, *, crop: int = 16, batch: int = 4, kind: str = "muon", **options
) -> Summary:
    """Return a distillation of it from 16 to 4 steps, or as ``distillation`` says."""
    if options.get("resume"):
        return run(out, None, FakeBatches(crop, batch), **options)
    made = distilling(
        options.pop("distillation", HALVED_TWICE),
        data={"crop": crop, "batch": batch},
        optimiser={"kind": kind, "rate": 2e-3},
        ema={"decays": (0.9,), "every": 3},
    )
    return run(out, made, FakeBatches(crop, batch), init=str(teacher), **options)


HALVED_TWICE = DistillationRecipe(16, 4, "karras")
SMALL = replace(MODEL, backbone=replace(TINY, channel_multipliers=(1,)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A network with random weights but for the last convolution, which would begin with zeros."""
    network = new_network(SMALL.backbone, 0)
    weights = {name: w.detach().clone() for name, w in network.state_dict().items()}
    weights["out.2.weight"].normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return write_model(SMALL, weights, tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


def loaded(path: Path) -> Denoiser:
    checkpoint = pretrained.load(str(path))
    return build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state)


def test_a_distilled_network_comes_nearer_to_its_teachers_many_steps(tmp_path) -> None:
    """It starts from the same noise, with as many network calls, with and without a condition."""
    made = recipe(data={"crop": 8, "batch": 16}, optimiser={"rate": 3e-3}, ema={"decays": (0.98,)})
    made = replace(made, model=SMALL)
    teacher = run(tmp_path / "teacher", made, FakeBatches(8, 16), steps=120).model
    done = distil(tmp_path / "student", teacher, crop=8, batch=16, kind="adamw", steps=160)
    before, middle, after = (
        loaded(p) for p in (teacher, tmp_path / "student/model-8.safetensors", done.model)
    )
    many = noise_levels(SCHEDULE, 16, "karras")
    noise = many[0] * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    picture, known = FakeBatches(8, 128).at(999).condition
    for condition in (None, Condition(picture[1::2], known[1::2])):
        with torch.no_grad():
            goal = ddim(before, noise, many, condition=condition)
            for student in (middle, after):
                levels = [*student.distilled_levels, 0.0]
                ours, theirs = (
                    ddim(network, noise, levels, condition=condition)
                    for network in (student, before)
                )
                assert float((ours - goal).norm()) < 0.85 * float((theirs - goal).norm())


def test_every_round_leaves_its_model_and_the_next_one_starts_from_it(tmp_path, teacher) -> None:
    notices: list[str] = []
    done = distil(tmp_path, teacher, steps=6, notice=notices.append)
    assert "step 3: distilled to 8 steps of DDIM" in " ".join(notices)
    assert {p.name for p in tmp_path.glob("model*")} == {
        "model.safetensors", "model.json", "model-8.safetensors", "model-8.json"
    }  # fmt: skip
    grid = HALVED_TWICE.grid(MODEL, 0)
    first = loaded(tmp_path / "model-8.safetensors")
    last = loaded(done.model)
    assert [*first.distilled_levels, 0.0] == grid[::2]
    assert [*last.distilled_levels, 0.0] == grid[::4]
    assert replace(last.config, distilled_levels=None) == SMALL
    state = load_state(tmp_path)
    assert (state.round, state.round_start) == (1, 3)
    assert state.teacher.keys() == state.network.keys()
    half = {name: weight.half() for name, weight in state.teacher.items()}
    assert_same(half, dict(pretrained.load(str(tmp_path / "model-8.safetensors")).state))
    exported = pretrained.load(str(export_average(tmp_path, state.recipe.ema.decays[-1])))
    assert ModelConfig.from_dict(exported.config) == last.config
    assert set(done.quality) == set(DISTILLATION_COLUMNS)
    assert read_log(tmp_path / "log.csv")[-1]["like teacher"] == pytest.approx(
        done.quality["like teacher"], rel=1e-4
    )
    assert not (tmp_path / "before-cooldown").exists()


def test_a_round_that_learns_nothing_is_its_teacher(tmp_path, teacher) -> None:
    """The student starts from the teacher's weights, and the teacher stays as it is."""
    made = distilling(HALVED_TWICE, optimiser={"rate": 0.0})
    done = run(tmp_path, made, init=str(teacher), steps=4)
    assert_same(
        dict(pretrained.load(str(teacher)).state), dict(pretrained.load(str(done.model)).state)
    )


def test_each_round_has_its_own_rate_and_average(tmp_path, teacher, monkeypatch) -> None:
    rates: list[float] = []
    learn = Learner.learn

    def noted(self: Learner, *arguments):
        step = learn(self, *arguments)
        rates.append(step.rate / 2e-3)
        return step

    monkeypatch.setattr(Learner, "learn", noted)
    made = replace(HALVED_TWICE, lengths=(1, 2))
    distil(tmp_path, teacher, steps=12, distillation=made)
    assert rates == pytest.approx(
        [0.5, 1, 1, 1, *[0.5, 1, 1, 1, 1, 1, 1, 0.5]]
    )  # cooled down over the last quarter


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_interrupted_and_resumed_equals_uninterrupted_across_rounds(
    tmp_path, teacher, stop: int
) -> None:
    """Runs equal bit for bit, interrupted before, at and after the border between two rounds."""
    distil(tmp_path / "whole", teacher, steps=8)
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "parts", teacher, steps=8, progress=interrupt_at(stop))
    assert load_state(tmp_path / "parts").round == (stop > 4)
    distil(tmp_path / "parts", teacher, resume=True)
    assert_same(
        *(
            weights_of(tmp_path / name) | load_state(tmp_path / name).teacher
            for name in ("whole", "parts")
        )
    )
    for name in ("model", "model-8"):
        whole, parts = (
            pretrained.load(str(tmp_path / run / f"{name}.safetensors"))
            for run in ("whole", "parts")
        )
        assert (whole.config, whole.sha256) == (parts.config, parts.sha256)


def test_a_teacher_in_its_own_format_is_resumed_exactly(tmp_path, teacher, monkeypatch) -> None:
    """The teacher is in bfloat16 if the device is faster with it; the student stays float32."""
    monkeypatch.setattr(learner, "network_dtype", lambda device: torch.bfloat16)
    made = distilling(HALVED_TWICE, run={"mixed_precision": True})
    run(tmp_path / "whole", made, init=str(teacher), steps=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", made, init=str(teacher), steps=4, progress=interrupt_at(3))
    run(tmp_path / "parts", resume=True)
    assert_same(
        *(
            weights_of(tmp_path / name) | load_state(tmp_path / name).teacher
            for name in ("whole", "parts")
        )
    )
    state = load_state(tmp_path / "whole")
    assert {w.dtype for w in state.network.values()} == {torch.float32}
    assert state.teacher["out.2.weight"].dtype == torch.bfloat16


def test_distillations_that_cannot_begin_or_go_on_are_refused(tmp_path, teacher) -> None:
    with pytest.raises(BadArgument, match="`init` default"):
        run(tmp_path, distilling(HALVED_TWICE), steps=4)
    epsilon = replace(SMALL, parameterization="epsilon", condition_skip=False)
    odd = write_model(
        epsilon, pretrained.load(str(teacher)).state, tmp_path / "epsilon.safetensors"
    )
    with pytest.raises(BadArgument, match="v- or x0-network is needed"):
        distil(tmp_path / "run", odd, steps=4)
    assert not (tmp_path / "run").exists()
    distil(tmp_path / "run", teacher, steps=4)
    with pytest.raises(BadArgument, match="a distillation keeps its length"):
        distil(tmp_path / "run", teacher, resume=True, steps=8)


def test_a_distilled_model_is_a_start(tmp_path, teacher) -> None:
    """A further distillation starts from it, or ordinary training, which makes it undistilled."""
    first = distil(
        tmp_path / "first", teacher, steps=2, distillation=DistillationRecipe(8, 4, "karras")
    ).model
    with pytest.raises(BadArgument, match="start must be 4"):
        distil(tmp_path / "again", first, steps=2, distillation=DistillationRecipe(8, 4))
    again = distil(tmp_path / "again", first, steps=2, distillation=DistillationRecipe(4, 2)).model
    assert loaded(again).distilled_levels == loaded(first).distilled_levels[::2]
    plain = run(tmp_path / "plain", replace(recipe(), model=SMALL), init=str(first), steps=1).model
    assert loaded(plain).distilled_levels is None


def test_a_log_of_a_version_without_these_columns_is_gone_on_with(tmp_path) -> None:
    run(tmp_path, recipe(schedule={"cooldown": 0.0}), steps=2)
    log = tmp_path / "log.csv"
    old = [
        ",".join(line.split(",")[: -len(DISTILLATION_COLUMNS)])
        for line in log.read_text().splitlines()
    ]
    log.write_text("\n".join(old) + "\n")
    run(tmp_path, resume=True, steps=4)
    header, *rows = (line.split(",") for line in log.read_text().splitlines())
    assert header == list(COLUMNS)
    assert [row[0] for row in rows] == ["2", "2", "4", "4"]
    assert {len(row) for row in rows} == {len(COLUMNS)}


# The command

RECIPE = """
[distillation]
start = 4
end = 2

[data]
crop = 16
batch = 4

[objective]
noiseless_fraction = 0.0

[schedule]
steps = 2
"""


@pytest.fixture
def place(tmp_path, monkeypatch, teacher) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for crop in "ab":
        piece((64, 48), crop).save(f"photos/{crop}.png")
    (tmp_path / "distill.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def distilled(command, place, teacher) -> list[float]:
    """Distil a model to run/model.safetensors; return the levels that it was distilled for."""
    words = ("--data", "photos", "--out", "run", "--recipe", "distill.toml", "--device", "cpu")
    outcome = command("train", *words, "--init", teacher)
    assert outcome.code == 0, outcome.err
    assert "run/model.safetensors: 2 steps" in outcome.err
    assert "like teacher" in outcome.err
    return list(loaded(Path("run/model.safetensors")).distilled_levels)


@pytest.fixture
def asked(monkeypatch) -> list[float]:
    """Return a list that gets the noise level of each call of a denoiser."""
    levels: list[float] = []
    call = Denoiser.__call__

    def noted(
        self: Denoiser, x: Tensor, sigma: float, condition: Condition | None = None
    ) -> Prediction:
        levels.append(sigma)
        return call(self, x, sigma, condition)

    monkeypatch.setattr(Denoiser, "__call__", noted)
    return levels


def test_distils_for_levels_of_the_teacher(distilled) -> None:
    highest, _, middle, _ = noise_levels(SCHEDULE, 4, "karras")[:-1]
    assert json.loads(Path("run/model.json").read_text())["distilled_levels"] == [highest, middle]
    assert distilled == [highest, middle]


def test_samples_with_the_levels_it_was_distilled_for(command, distilled, asked) -> None:
    def ask(*sampler: object) -> list[float]:
        asked.clear()
        words = ("--model", "run/model.safetensors", "--count", 1, "--size", "16x16")
        outcome = command("sample", "out.png", *words, "--device", "cpu", "--overwrite", *sampler)
        assert outcome.code == 0, outcome.err
        return list(asked)

    assert ask() == distilled
    assert ask("--sampler", "ddim", "--steps", 2) == distilled
    assert ask("--steps", 2) == distilled
    karras = noise_levels(SCHEDULE, 2, "karras")[:-1]
    assert ask("--sampler", "ddim", "--levels", "karras") == karras
    assert ask("--steps", 3) == noise_levels(SCHEDULE, 3, "log-snr")[:-1]
    assert ask("--sampler", "dpmpp-2m", "--steps", 2) == distilled
    assert len(ask("--sampler", "dpmpp-2m")) == 20
    assert Image.open("out.png").size == (16, 16)


def test_restores_with_the_levels_it_was_distilled_for(command, distilled, asked) -> None:
    words = ("--scale", 2, "--method", "sr3", "--sampler", "ddim", "--steps", 2)
    model = ("--model", "run/model.safetensors", "--device", "cpu")
    assert command("sr", "photos/a.png", "big.png", *words, *model).code == 0
    assert asked == distilled


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("start = 4", "start = 6"), 1, "from 6 to 2 steps"),
        (("start = 4", "begin = 4"), 1, "[distillation] begin is no setting"),
        (("start = 4", "start = 4096"), 1, "between 1 and 1000, not 4096"),
        (("steps = 2", "minutes = 0"), 1, "minutes = 0"),
        (
            ("noiseless_fraction = 0.0", "noiseless_fraction = 0.0\nloss = 'l1'"),
            1,
            "loss: not used in a distillation",
        ),
    ],
)
def test_the_command_refuses(command, place, teacher, change, code, said) -> None:
    text = Path("distill.toml").read_text()
    assert change[0] in text
    Path("distill.toml").write_text(text.replace(*change))
    outcome = command(
        *["train", "--data", "photos", "--out", "run", "--recipe", "distill.toml", "--init"],
        teacher,
    )
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert not (place / "run").exists()


def test_what_is_left_open_suits_a_distilled_model() -> None:
    own = (9.0, 3.0, 1.0)
    found = Sampling().of_distilled(own, ())
    assert (found.sampler, found.steps, found.levels) == ("ddim", 3, own)
    chosen = Sampling(sampler="dpmpp-2m", steps=3).of_distilled(own, ("sampler", "steps"))
    assert (chosen.sampler, chosen.levels) == ("dpmpp-2m", own)
    assert Sampling(steps=5).of_distilled(own, ("steps",)) == Sampling(sampler="ddim", steps=5)
    with pytest.raises(BadArgument, match="2 noise levels for 3 steps"):
        Sampling(steps=3, levels=(2.0, 1.0))
