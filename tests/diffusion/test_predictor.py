"""The second network of a model: what it answers, where its answer goes, and how it is saved and
trained.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pretrained
from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import (
    Condition,
    Denoiser,
    ModelConfig,
    Prediction,
    build_denoiser,
    joined_state,
    split_state,
)
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Predictor, PredictorConfig
from restore.errors import BadArgument, UnreadableInput
from restore.methods import METHODS
from restore.methods.options import Knowledge, Options
from restore.methods.run import Run
from restore.methods.settings import Defaults, settings_for
from restore.restorer import Restorer
from restore.runtime.tiles import TiledDenoiser, TiledPredictor
from restore.tasks import KINDS, TASKS, SuperResolution
from restore.training.batches import Batch, Batches, PredictorData
from restore.training.checkpoint import export_average, load_state, write_model
from restore.training.log import read_log
from restore.training.losses import predictor_losses
from restore.training.mixture import Mixture
from restore.training.recipe import Recipe
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, write_recipe
from restore.training.recipe_sections import EmaRecipe, ObjectiveRecipe, PredictorRecipe
from restore.training.rounds import DistillationRecipe
from restore.training.trainer import Options as TrainingOptions
from restore.training.trainer import train

LEAN = BackboneConfig(
    "lean",
    condition_channels=3,
    condition_map=True,
    channels=8,
    channel_multipliers=(1, 2),
    blocks=1,
    middle_attention=False,
    norm="rms",
    patch=2,
)
SECOND = PredictorConfig(replace(LEAN, noise_map=True, noisy_input=False, times=2))
MODEL = ModelConfig(
    LEAN, {"name": "linear"}, "v", condition_skip=True, one_step="zeros", predictor=SECOND
)
ALONE = replace(MODEL, predictor=None)


def random_state(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights of both networks, none of them zero."""
    torch.manual_seed(seed)
    networks = (build_backbone(config.backbone), build_backbone(config.predictor.backbone))
    states = [{k: 0.2 * torch.randn_like(v) for k, v in n.state_dict().items()} for n in networks]
    return joined_state(*states)


def evidence(size: tuple[int, int] = (24, 32), count: int = 1) -> Evidence:
    return Evidence(
        torch.rand(count, 3, *size) * 2 - 1,
        torch.rand(count, 1, *size),
        torch.rand(count, 1, *size),
    )


class Constant:
    """In a predictor's place: always the same picture, and what it was shown."""

    config = SECOND

    def __init__(self, value: float) -> None:
        self.value = value
        self.seen = []

    def __call__(self, shown: Evidence) -> Tensor:
        self.seen.append(shown)
        return torch.full_like(shown.picture, self.value)


# ---- the network ----


def test_a_new_predictor_answers_with_what_it_is_shown() -> None:
    shown = evidence()
    assert torch.equal(Predictor(build_backbone(SECOND.backbone), SECOND)(shown), shown.picture)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (45, 3), (64, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    predictor = build_denoiser(MODEL, random_state(MODEL)).predictor
    answer = predictor(evidence(size, 2))
    assert answer.shape == (2, 3, *size)
    assert answer.dtype == torch.float32
    assert bool(torch.isfinite(answer).all())


def test_it_sees_all_that_is_known() -> None:
    predictor = build_denoiser(MODEL, random_state(MODEL)).predictor
    shown = evidence()
    answer = predictor(shown) - shown.picture
    for name in shown._fields:
        other = shown._replace(**{name: 0.5 * getattr(shown, name)})
        assert not torch.allclose(predictor(other) - other.picture, answer), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"times": 1}, "times = 2"),
        ({"noisy_input": True}, "noisy_input = False"),
        ({"noise_map": False}, "noise_map = True"),
        ({"condition_channels": 1}, "condition_channels = 3"),
        ({"image_channels": 1}, "image_channels = 3"),
        ({"layout": "adm", "dropout": 0.1}, "dropout = 0"),
    ],
)
def test_networks_that_are_no_predictors_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PredictorConfig(replace(SECOND.backbone, **change))


def test_denoisers_that_are_predictors_are_refused() -> None:
    with pytest.raises(ValueError, match="a denoiser has a noisy_input"):
        ModelConfig(SECOND.backbone, {"name": "linear"})
    with pytest.raises(ValueError, match="the model has no predictor"):
        replace(ALONE, condition_picture="predicted")
    with pytest.raises(ValueError, match="times must be at least 1"):
        BackboneConfig("lean", channels=6, times=2)
    with pytest.raises(ValueError, match="deblurred or inverse or degraded"):
        replace(SECOND, shown="bicubic")


# ---- files ----


def test_a_checkpoint_holds_both_networks(tmp_path: Path) -> None:
    state = random_state(MODEL)
    path = write_model(MODEL, state, tmp_path / "both.safetensors")
    loaded = pretrained.load(str(path))
    config = ModelConfig.from_dict(loaded.config)
    assert config == MODEL
    denoiser = build_denoiser(config, loaded.state)
    shown = evidence()
    expected = build_denoiser(MODEL, {k: v.half() for k, v in state.items()}).predictor(shown)
    assert torch.equal(denoiser.predictor(shown), expected)
    assert ModelConfig.from_dict(json.loads(json.dumps(asdict(MODEL)))) == MODEL


def test_one_of_two_networks_missing_is_said(tmp_path: Path) -> None:
    own, second = split_state(random_state(MODEL))
    with pytest.raises(ValueError, match="lack the predictor"):
        build_denoiser(MODEL, own)
    with pytest.raises(ValueError, match=r"missing: decoder\.0"):
        build_denoiser(MODEL, joined_state({}, second))
    with pytest.raises(ValueError, match=r"unexpected: predictor\."):
        build_denoiser(ALONE, joined_state(own, second))
    path = write_model(MODEL, own, tmp_path / "half.safetensors")
    with pytest.raises(Exception, match="lack the predictor") as caught:
        Restorer(str(path), "cpu")
    assert type(caught.value).__name__ == "Unavailable"


@pytest.mark.parametrize("hole", [False, True])
def test_tiles_agree_with_the_whole_picture(hole: bool) -> None:
    predictor = build_denoiser(MODEL, random_state(MODEL)).predictor
    shown = evidence((300, 200))
    if hole:
        known = torch.ones(1, 1, 300, 200)
        known[..., 10:90, 20:100] = 0
        shown = shown._replace(known=known)
    tiled = TiledPredictor(predictor, 128, 64)
    difference = (tiled(shown) - predictor(shown)).abs()
    assert float(difference.max()) < 0.02 * float(predictor(shown).abs().max())


# ---- methods ----


@pytest.fixture
def restorer(tmp_path: Path) -> Restorer:
    path = write_model(MODEL, random_state(MODEL), tmp_path / "model.safetensors")
    return Restorer(str(path), "cpu")


@pytest.mark.parametrize("kernel", [None, "gaussian:1", "motion:7:30"])
def test_one_step_is_the_predictor_s_answer_fitted_to_the_file(
    restorer: Restorer, kernel: str | None
) -> None:
    restorer.denoiser.predictor = constant = Constant(0.5)
    picture = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)
    if kernel is None:
        result = restorer.sr(picture, 2, method="one-step")
        assert result.shape == (48, 64, 3)
        means = result.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
        assert np.corrcoef(means.ravel(), picture.ravel())[0, 1] > 0.9
    else:
        result = restorer.deblur(picture, kernel, noise=0.01, method="one-step")
        assert result.shape == picture.shape
    assert len(constant.seen) == 1
    assert constant.seen[0].picture.shape[-2:] == result.shape[:2]


def begin_at_prediction(
    monkeypatch: pytest.MonkeyPatch, kind: str, method: str, own: Defaults
) -> None:
    """Have a method use these settings with a predictor."""
    found = METHODS[method]
    changed = replace(found, with_predictor={**found.with_predictor, kind: own})
    monkeypatch.setitem(METHODS, method, changed)


def test_one_step_keeps_known_pixels_and_fills_with_the_answer(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_at_prediction(monkeypatch, "inpaint", "one-step", Defaults(steps=1, predicted=0.0))
    restorer.denoiser.predictor = Constant(0.5)
    picture = np.full((16, 16, 3), 0.2, np.float32)
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    result = restorer.inpaint(picture, mask, method="one-step")
    assert result[mask] == pytest.approx(0.75)
    assert np.array_equal(result[~mask], picture[~mask])


def test_a_model_without_a_predictor_works_as_before(tmp_path: Path) -> None:
    own, _ = split_state(random_state(MODEL))
    path = write_model(ALONE, own, tmp_path / "alone.safetensors")
    both = write_model(MODEL, random_state(MODEL), tmp_path / "both.safetensors")
    picture = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    alone, with_predictor = (Restorer(str(each), "cpu") for each in (path, both))
    assert alone.denoiser.predictor is None
    noisy = [each.denoise(picture, 0.1) for each in (alone, with_predictor)]
    assert np.array_equal(*noisy)


def test_sr3_is_shown_the_prediction_where_it_was_trained_so(restorer: Restorer) -> None:
    seen: list[Condition] = []

    def network(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        seen.append(condition)
        return Prediction(torch.zeros_like(x), x / sigma)

    picture = torch.rand(1, 3, 8, 8)
    problem = restorer.problem(SuperResolution(2.0), picture)
    _, own = settings_for(KINDS["sr"], Options("sr3", 2), Knowledge(predictor=True))
    denoiser = restorer.denoiser
    denoiser.predictor = Constant(0.25)
    for source, value in (("degraded", None), ("predicted", 0.25)):
        denoiser.config = replace(MODEL, condition_picture=source)
        seen.clear()
        run = Run(denoiser, problem, own, torch.Generator(), None)
        denoiser._predict = network
        METHODS["sr3"].solve(run)
        shown = seen[0].picture
        assert (value is not None) == torch.equal(shown, torch.full_like(shown, value or 0.0))
        assert seen[0].known.unique().tolist() == [1]


def test_settings_begin_at_the_prediction_only_with_a_predictor() -> None:
    known = Knowledge(predictor=True)
    sr = KINDS["sr"]
    assert settings_for(sr, Options("one-step"), known)[1].predicted
    assert settings_for(sr, Options("sr3", samples=4), known)[1].predicted
    assert settings_for(sr, Options("one-step"))[1].predicted is None
    assert settings_for(sr, Options("ddrm", samples=4), known)[1].predicted is None


def test_noisy_measurements_go_another_way(restorer: Restorer) -> None:
    """And each picture of a batch by itself."""
    restorer.denoiser.predictor = constant = Constant(0.5)
    picture = torch.rand(1, 3, 8, 8)
    for noise, count in ((0.06, 1), (0.07, 1), (0.0, 2)):
        restorer.sr(picture, 2, noise=noise, method="one-step")
        assert len(constant.seen) == count
    both = torch.rand(2, 3, 8, 8)
    problem = restorer.problem(SuperResolution(2.0, noise=[0.01, 0.07]), both)
    _, own = settings_for(KINDS["sr"], Options("one-step"), Knowledge(predictor=True))
    trajectories = Run(restorer.denoiser, problem, own, torch.Generator(), None).trajectories
    assert trajectories[0] != trajectories[1]


def test_sr3_takes_fewer_steps_from_the_prediction(restorer: Restorer) -> None:
    restorer.denoiser.predictor = Constant(0.5)
    picture = torch.rand(1, 3, 8, 8)
    steps = [
        restorer.run(SuperResolution(2.0, noise=n), picture, method="sr3").report.steps
        for n in (0.0, 0.1)
    ]
    assert steps == [6, 20]


@pytest.mark.parametrize(("noise", "highest"), [(0.0, 0.2), (0.05, 0.4)])
def test_ddrm_begins_above_the_noise_of_the_measurement(
    restorer: Restorer, noise: float, highest: float
) -> None:
    """Eight times, for pixels in [0, 1]; several samples begin at noise."""
    restorer.denoiser.predictor = Constant(0.5)
    known = Knowledge(predictor=True)
    problem = restorer.problem(SuperResolution(2.0, noise=noise), torch.rand(1, 3, 8, 8))
    _, own = settings_for(KINDS["sr"], Options("ddrm"), known)
    run = Run(restorer.denoiser, problem, own, torch.Generator(), None)
    assert (len(run.sigmas), run.sigmas[0]) == (8 + 1, pytest.approx(highest, rel=0.02))
    several = settings_for(KINDS["sr"], Options("ddrm", samples=4), known)[1]
    assert (several.steps, several.highest, several.predicted) == (20, 1.0, None)


# ---- training ----

RECIPE = Recipe(MODEL, predictor=PredictorRecipe(fraction=0.5))


@pytest.fixture(scope="module")
def photographs() -> Path:
    return Path("tests/fixtures")


def options(
    out: Path, photographs: Path, recipe: Recipe, steps: int, **others: object
) -> TrainingOptions:
    small = replace(recipe, data=replace(recipe.data, crop=16, batch=4))
    short = replace(small, run=replace(small.run, log_steps=2, mixed_precision=False))
    short = replace(short, ema=EmaRecipe((0.5,), 1))
    short = replace(short, schedule=replace(short.schedule, warmup_steps=1))
    return TrainingOptions(out, photographs, short, steps=steps, device="cpu", **others)


def test_losses_are_what_they_are_called() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    answer = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.3)])
    assert predictor_losses(answer, clean, "l1").tolist() == pytest.approx([0.1, 0.3])
    assert predictor_losses(answer, clean, "l2").tolist() == pytest.approx([0.01, 0.09])
    difference = predictor_losses(answer, clean, "log-mse").diff()
    assert float(difference) == pytest.approx(np.log(9), rel=1e-2)


def test_the_predictor_s_steps_are_the_fraction_asked_for() -> None:
    for fraction in (0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0):
        data = PredictorData("inverse", fraction, False)
        taken = [data.trains_at(step) for step in range(600)]
        assert sum(taken) == data.steps_until(600) == round(600 * fraction)
        assert not any(all(taken[i : i + 2]) for i in range(598)) or fraction > 0.5


def test_batches_of_the_predictor_show_something_of_every_picture(photographs: Path) -> None:
    data = PredictorData("inverse", 0.5, False)
    batches = Batches(photographs, crop=16, batch=8, predictor=data)
    denoiser_s = batches.at(0)
    predictor_s = batches.at(1)
    assert denoiser_s.evidence is None
    assert predictor_s.evidence.picture.shape == (8, 3, 16, 16)
    assert bool(predictor_s.evidence.noise.flatten(1).any(dim=1).all())
    everywhere = Batches(
        photographs, crop=16, batch=8, predictor=data._replace(conditions=True)
    ).at(0)
    unseen = ~everywhere.evidence.noise.flatten(1).any(dim=1)
    assert 0 < int(unseen.sum()) < 8
    assert not everywhere.evidence.picture[unseen].any()


@pytest.mark.parametrize("condition", ["degraded", "predicted"])
def test_stopping_and_going_on_changes_nothing(
    tmp_path: Path, photographs: Path, condition: str
) -> None:
    recipe = replace(RECIPE, model=replace(MODEL, condition_picture=condition))
    recipe = replace(recipe, schedule=replace(recipe.schedule, cooldown=0.0))
    train(options(tmp_path / "whole", photographs, recipe, 7))
    train(options(tmp_path / "parts", photographs, recipe, 4))
    train(TrainingOptions(tmp_path / "parts", photographs, resume=True, steps=7, device="cpu"))
    whole = load_state(tmp_path / "whole")
    parts = load_state(tmp_path / "parts")
    for kind in (
        "network",
        "averages",
        "optimiser",
        "predictor",
        "predictor_averages",
        "predictor_optimiser",
    ):
        one = getattr(whole, kind)
        other = getattr(parts, kind)
        assert one.keys() == other.keys()
        assert one, kind
        for name in one:
            assert torch.equal(one[name], other[name]), (kind, name)


def test_with_a_fraction_of_one_the_denoiser_keeps_its_weights(
    tmp_path: Path, photographs: Path
) -> None:
    first = write_model(MODEL, random_state(MODEL), tmp_path / "first.safetensors")
    recipe = replace(RECIPE, predictor=PredictorRecipe(fraction=1.0))
    model = train(options(tmp_path / "run", photographs, recipe, 2, init=str(first))).model
    before, after = (pretrained.load(str(path)).state for path in (first, model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("predictor.") for name in changed)
    again = export_average(tmp_path / "run", 0.5)
    assert all(torch.equal(t, after[n]) for n, t in pretrained.load(str(again)).state.items())


def test_weights_without_a_predictor_begin_with_a_random_one(
    tmp_path: Path, photographs: Path
) -> None:
    own, _ = split_state(random_state(MODEL))
    first = write_model(ALONE, own, tmp_path / "first.safetensors")
    recipe = replace(RECIPE, model=replace(MODEL, condition_picture="predicted"))
    summary = train(options(tmp_path / "run", photographs, recipe, 2, init=str(first)))
    loaded = pretrained.load(str(summary.model))
    assert ModelConfig.from_dict(loaded.config) == recipe.model
    assert any(name.startswith("predictor.") for name in loaded.state)
    assert "psnr x4 predicted" in summary.quality


class OneBatch(Batches):
    """The same pictures in every step."""

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        return super().at(0, part)

    def with_size(self, crop: int, batch: int) -> OneBatch:
        return self


@pytest.mark.parametrize("loss", ["log-mse", "l1", "l2"])
def test_a_predictor_learns(tmp_path: Path, photographs: Path, loss: str) -> None:
    mixture = Mixture.only("bicubic", "random_pixels", noisy=0, compressed=0)
    data = PredictorData("deblurred", 1.0, False)
    batches = OneBatch(photographs, crop=16, batch=4, degradations=mixture, predictor=data)
    recipe = replace(RECIPE, predictor=PredictorRecipe(fraction=1.0, loss=loss, rate=1e-2))
    train(options(tmp_path / "run", photographs, recipe, 40), batches=batches)
    losses = [
        row["predictor loss"]
        for row in read_log(tmp_path / "run" / "log.csv")
        if "predictor loss" in row
    ]
    assert losses[-1] < losses[0] - (1 if loss == "log-mse" else 0.3 * losses[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[predictor]\nfraction = 0.5",
            r"\[predictor\] fraction: the model has no predictor to train",
        ),
        ("[predictor]\nloss = 'l1'", r"\[predictor\] loss: the model has no predictor to train"),
        ("[model.predictor]\nbackbone = 3", "backbone = 3: must be a table"),
        ("[predictor]\nfraction = 1.5", r"fraction = 1\.5: must be between 0 and 1"),
        ("[predictor]\nlos = 'l1'", "did you mean 'loss'"),
        (
            "[model.predictor]\nshown = 'blurred'",
            "shown = 'blurred': must be one of deblurred, inverse, degraded",
        ),
        ("[model.predictor.backbone]\ntimes = 1", "times = 2"),
        ("[model.predictor.backbone]\nlayout = 'unet'", "layout = 'unet': must be one of"),
        ("[model.predictor.backbone]\nchannel_multipliers = []", "needs at least one level"),
        ("[model]\ncondition_picture = 'predicted'", "the model has no predictor"),
    ],
)
def test_recipes_that_cannot_be_are_refused_by_name(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("recipe", "recipe_checks", "recipe_file"):
        monkeypatch.setattr(f"restore.training.{module}.default_model", lambda: ALONE)
    with pytest.raises(BadArgument, match=said):
        check_recipe(parse_recipe(text))


@pytest.mark.parametrize("shipped", [MODEL, ALONE])
def test_recipes_survive_being_written(
    monkeypatch: pytest.MonkeyPatch, shipped: ModelConfig
) -> None:
    """Whatever model ships, with a predictor or without."""
    for module in ("recipe", "recipe_checks", "recipe_file"):
        monkeypatch.setattr(f"restore.training.{module}.default_model", lambda: shipped)
    for one in (RECIPE, Recipe(ALONE), Recipe(replace(MODEL, condition_picture="predicted"))):
        assert parse_recipe(write_recipe(one)) == one
    assert parse_recipe("[model.backbone]\nchannels = 16").model.predictor is None


def test_a_random_predictor_learns_half_of_the_steps(tmp_path: Path, photographs: Path) -> None:
    """One that has weights stays as it is; a resumed run keeps its fraction."""
    recipe = replace(RECIPE, predictor=PredictorRecipe())
    asked = options(tmp_path / "run", photographs, recipe, 2)
    first = str(train(asked).model)
    train(replace(asked, steps=4, resume=True))
    assert load_state(tmp_path / "run").recipe.predictor.fraction == 0.5

    second = train(options(tmp_path / "second", photographs, recipe, 2, init=first)).model
    assert load_state(tmp_path / "second").recipe.predictor.fraction == 0
    before, after = (pretrained.load(str(path)).state for path in (first, second))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("predictor.") for name in changed)


def test_a_random_predictor_is_not_written(tmp_path: Path, photographs: Path) -> None:
    recipe = replace(RECIPE, predictor=PredictorRecipe(fraction=0.0))
    with pytest.raises(BadArgument, match="would stay random"):
        train(options(tmp_path / "run", photographs, recipe, 2))
    first = write_model(MODEL, random_state(MODEL), tmp_path / "first.safetensors")
    train(options(tmp_path / "known", photographs, recipe, 2, init=str(first)))


def test_a_run_of_another_shape_is_not_resumed(tmp_path: Path, photographs: Path) -> None:
    train(options(tmp_path / "run", photographs, RECIPE, 2))
    wider = replace(SECOND, backbone=replace(SECOND.backbone, channels=16))
    other = options(
        tmp_path / "run", photographs, replace(RECIPE, model=replace(MODEL, predictor=wider)), 4
    )
    with pytest.raises(BadArgument, match=r"predictor\.backbone\.channels: 8 \| 16"):
        train(replace(other, resume=True))


def test_weights_of_another_predictor_are_not_started_from(
    tmp_path: Path, photographs: Path
) -> None:
    first = write_model(MODEL, random_state(MODEL), tmp_path / "first.safetensors")
    wider = replace(SECOND, backbone=replace(SECOND.backbone, channels=16))
    recipe = replace(RECIPE, model=replace(MODEL, predictor=wider))
    with pytest.raises(BadArgument, match=r"predictor\.backbone\.channels: 16 \| 8"):
        train(options(tmp_path / "run", photographs, recipe, 2, init=str(first)))
    with pytest.raises(UnreadableInput):
        train(
            options(
                tmp_path / "other", photographs, recipe, 2, init=str(tmp_path / "none.safetensors")
            )
        )


def test_tiled_denoisers_carry_the_predictor_to_every_class() -> None:
    denoiser = build_denoiser(MODEL, random_state(MODEL))
    assert isinstance(TiledDenoiser(denoiser).predictor, TiledPredictor)
    assert isinstance(denoiser, Denoiser)
    assert denoiser.of_class(None).predictor is denoiser.predictor


def test_distillation_leaves_the_predictor_as_it_is(tmp_path: Path, photographs: Path) -> None:
    first = write_model(MODEL, random_state(MODEL), tmp_path / "first.safetensors")
    recipe = replace(
        RECIPE, predictor=PredictorRecipe(), distillation=DistillationRecipe(start=4, end=2)
    )
    recipe = replace(recipe, objective=ObjectiveRecipe(noiseless_fraction=0.3))
    model = train(options(tmp_path / "run", photographs, recipe, 2, init=str(first))).model
    before, after = (pretrained.load(str(path)) for path in (first, model))
    assert ModelConfig.from_dict(after.config).distilled_levels is not None
    for name in before.state:
        same = torch.equal(before.state[name], after.state[name])
        assert same or not name.startswith("predictor."), name


@pytest.mark.parametrize("method", ["ddrm", "diffpir", "sr3"])
@pytest.mark.parametrize("task", ["sr", "deblur", "inpaint"])
def test_methods_begin_at_the_prediction(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, task: str, method: str
) -> None:
    """At so little noise that the first thing that the network sees is the prediction."""
    own = Defaults(steps=2, highest=0.02, predicted=0.02)
    begin_at_prediction(monkeypatch, task, method, own)
    restorer.denoiser.predictor = Constant(0.5)
    restorer.denoiser.config = replace(MODEL, condition_picture="predicted")
    seen: list[tuple[Tensor, Condition | None]] = []
    predict = restorer.denoiser._predict

    def network(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        seen.append((x, condition))
        return predict(x, sigma, condition)

    restorer.denoiser._predict = network
    picture = torch.full((1, 3, 24, 32), 0.75)
    mask = torch.zeros(24, 32, dtype=torch.bool)
    mask[4:9, 4:9] = True
    arguments = {
        "sr": {"scale": 2.0},
        "deblur": {"kernel": "motion:5:30", "noise": 0.002},
        "inpaint": {"mask": mask},
    }
    result = restorer.run(TASKS[task](**arguments[task]), picture, method=method).mean
    assert result.shape[-2:] == ((48, 64) if task == "sr" else (24, 32))
    x, condition = seen[0]
    if method == "sr3":
        assert torch.equal(condition.picture, torch.full_like(x, 0.5))
        inside = condition.known[..., 3:-3, 3:-3] if task == "deblur" else condition.known
        assert inside.unique().tolist() == [1]
    else:
        assert float((x - 0.5).abs().max()) < 0.2
    assert len(restorer.denoiser.predictor.seen) == 1


def test_several_samples_begin_at_noise(restorer: Restorer) -> None:
    restorer.denoiser.predictor = Constant(0.5)
    samples = restorer.sr(torch.rand(1, 3, 8, 8), 2, method="ddrm", steps=2, samples=2)
    assert len(samples.samples) == 2
    assert restorer.denoiser.predictor.seen == []
