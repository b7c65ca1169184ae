"""`restore train` for a classifier of noisy pictures: what it learns, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import pretrained
from pretrained.classifier_description import ClassifierConfig
from restore.diffusion.classifier import Classifier, build_classifier
from restore.diffusion.guidance import classifier_guided
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.schedule import noise_levels
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError
from restore.samplers.ddim import ddim
from restore.training.batches import BatchSettings
from restore.training.class_batches import ClassBatches, class_names
from restore.training.classifier_learner import ClassifierLearner
from restore.training.log import ACCURACY_COLUMNS, BinnedAccuracy, read_log
from restore.training.processes import Processes
from restore.training.recipe import Recipe
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, read_recipe, write_recipe
from restore.training.run import Summary
from restore.training.trainer import Options, train

# Standard deviation of the pixels of both classes, uniform over half of the range [-1, 1].
SPREAD = 1 / math.sqrt(12)
RECIPE = """
[model.backbone]
channels = 32
channel_multipliers = [1, 1]
attention_factors = []
[data]
crop = 8
batch = 16
[objective]
levels = "log-normal"
log_normal_mean = 1.5
[optimiser]
kind = "adamw"
rate = 3e-3
[schedule]
warmup_steps = 2
[ema]
decays = [0.5]
[run]
log_steps = 20
mixed_precision = false
[classifier]
"""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark noise: two classes that one number tells apart."""
    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for name, low in (("light", 128), ("dark", 0)):
        (folder / name).mkdir()
        for index in range(2):
            pixels = random.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    (folder / ".hidden").mkdir()
    return folder


def _recipe(text: str = "") -> Recipe:
    return parse_recipe(RECIPE + text)


def _trained(classes: Path, out: Path, **options: object) -> Summary:
    given = {"recipe": _recipe(), "steps": 60, "device": "cpu", **options}
    return train(Options(out, classes, **given))


@pytest.fixture(scope="module")
def run(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return _trained(classes, tmp_path_factory.mktemp("run") / "out")


def _loaded(path: Path) -> Classifier:
    checkpoint = pretrained.load_classifier(str(path))
    return build_classifier(ClassifierConfig.from_dict(checkpoint.config), checkpoint.state)


def test_batches_draw_every_class_alike(classes: Path) -> None:
    names = class_names(classes)
    assert names == ("dark", "light")
    batches = ClassBatches(classes, names, BatchSettings(crop=8, batch=200))
    batch = batches.at(3)
    assert batch.labels is not None
    assert abs(float(batch.labels.float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(200)
    mean = batch.clean.mean(dim=(1, 2, 3))
    assert torch.equal(mean > 0, batch.labels.bool())
    assert torch.equal(batches.at(3, (1, 2)).clean, batch.clean[100:])
    assert torch.equal(next(batches.stream(3)).labels, batch.labels)


def test_what_it_learns_loads_and_tells_the_classes_apart(run: Summary, classes: Path) -> None:
    classifier = _loaded(run.model)
    assert classifier.config.names == ("dark", "light")
    assert (classifier.config.size, classifier.config.pool) == (8, "attention")

    batch = ClassBatches(classes, ("dark", "light"), BatchSettings(crop=8, batch=64)).at(1000)
    noise = torch.randn(batch.clean.shape, generator=torch.Generator().manual_seed(0))
    for sigma, least in ((0.1, 0.99), (1.0, 0.9)):
        found = classifier.log_probabilities(batch.clean + sigma * noise, sigma).argmax(dim=1)
        assert float((found == batch.labels).float().mean()) >= least

    # at the highest levels there is nothing to see, and both are as likely
    blind = classifier.log_probabilities(batch.clean + 150 * noise, 150.0).exp()
    assert float(blind.mean(dim=0).sub(0.5).abs().max()) < 0.25


def test_the_log_has_the_accuracy_by_noise_level(run: Summary) -> None:
    rows = read_log(run.model.with_name("log.csv"))
    assert [row["step"] for row in rows] == [20, 40, 60]
    last = {name: value for name, value in rows[-1].items() if name.startswith("accuracy")}
    assert last
    assert last.keys() <= set(ACCURACY_COLUMNS)
    assert last == pytest.approx(dict(run.quality), rel=1e-4)
    assert "prior below 0.06" not in rows[-1]
    assert not run.model.with_name("samples.png").exists()


def test_accuracy_is_counted_by_level() -> None:
    accuracy = BinnedAccuracy()
    sigma = torch.tensor([0.01, 0.05, 0.5, 100.0])
    accuracy.add(1 / (1 + sigma**2), torch.tensor([True, False, True, False]))
    assert accuracy.percentages() == {
        "accuracy below 0.06": 50.0,
        "accuracy 0.25 to 1": 100.0,
        "accuracy above 4": 0.0,
    }


def test_a_step_minimises_the_cross_entropy(classes: Path) -> None:
    """The gradient of the first step, against a restatement from its draws."""
    made = _recipe()
    assert made.classifier is not None
    made = replace(made, classifier=replace(made.classifier, names=("dark", "light")))
    learner = ClassifierLearner(made.with_length(10, None), Processes(0, 1, torch.device("cpu")))
    batch = ClassBatches(classes, ("dark", "light"), BatchSettings(crop=8, batch=16)).at(0)
    seen: list[Tensor] = []
    hook = learner.pupil.network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    before = {name: w.clone() for name, w in learner.pupil.network.state_dict().items()}
    step = learner.learn(batch, 0.0)
    hook.remove()

    assert step.gamma is not None
    gamma = step.gamma[:, None, None, None]
    # what was added to √γ x0 is √(1−γ) times white noise
    noise = (seen[0] - gamma.sqrt() * batch.clean) / (1 - gamma).sqrt()
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    sigma = ((1 - step.gamma) / step.gamma).sqrt()
    torch.testing.assert_close(seen[1], learner.objective.schedule.time_at(sigma))

    learner.pupil.network.load_state_dict(before)
    logits = learner.pupil.network(seen[0], seen[1])
    torch.testing.assert_close(step.losses, F.cross_entropy(logits, batch.labels, reduction="none"))
    assert step.hits is not None
    assert torch.equal(step.hits, logits.argmax(dim=1) == batch.labels)


def test_a_resumed_run_is_the_same(classes: Path, tmp_path: Path) -> None:
    """The shorter run is continued from before its cool-down."""
    _trained(classes, tmp_path / "a", steps=8)
    again = _trained(classes, tmp_path / "a", recipe=_recipe(), resume=True, steps=16)
    run = _trained(classes, tmp_path / "b", steps=16)
    whole, resumed = (pretrained.load_classifier(str(each.model)).state for each in (run, again))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_the_recipe_of_the_paper(tmp_path: Path) -> None:
    made = read_recipe(Path("adm-classifier"))
    assert made.model is not None
    assert made.model.size is None
    named = replace(made, classifier=replace(made.classifier, names=("a", "b")))
    assert parse_recipe(write_recipe(named)) == named
    assert named.classifier_config.size == made.data.crop


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool = 'max'", r"\[classifier\] pool = 'max': must be one of attention, mean"),
        ("[distillation]", r"\[distillation\]: the recipe has a \[classifier\]"),
        ("[data.degradations]\nbicubic = 3.0", r"\[data.degradations\]: .* sees noise alone"),
        ("[model]\nparameterization = 'v'", "needs parameterization = epsilon and time = step"),
    ],
)
def test_recipes_that_do_not_fit(text: str, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        check_recipe(parse_recipe(f"[classifier]\n{text}"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": {"balance": True}}, r"\[objective\] balance: .* learns by cross-entropy"),
        ({"data": {"larger_crops": ((0.5, 16),)}}, "has an attention pool, for one size"),
        ({"data": {"crop": 9}}, "crop 9: must be a multiple of 2"),
        ({"run": {"data": "device"}}, "takes its pictures from the host"),
    ],
)
def test_sections_that_do_not_fit(change: dict, words: str) -> None:
    made = _recipe()
    sections = {name: replace(getattr(made, name), **given) for name, given in change.items()}
    with pytest.raises(BadArgument, match=words):
        check_recipe(replace(made, **sections))


def _refused(kind: type[RestoreError], words: str, out: Path, data: Path | None, **options) -> None:
    with pytest.raises(kind, match=words):
        train(Options(out, data, **{"recipe": _recipe(), "steps": 1, "device": "cpu", **options}))
    assert not (out / "recipe.toml").exists()


def test_folders_that_are_no_classes(classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _refused(NothingToDo, "at least two; none is in it", out, classes / "dark")
    _refused(FileAccess, "no such folder", out, tmp_path / "nowhere")
    _refused(BadArgument, "`data` is missing", out, None)
    _refused(BadArgument, "`init`: a classifier begins", out, classes, init="default")
    _refused(BadArgument, "`validation`: is for the samples", out, classes, validation=classes)
    other = _recipe("names = ['a', 'b']")
    _refused(
        BadArgument, "folders are dark, light; the classes .* are a, b", out, classes, recipe=other
    )
    (tmp_path / "one" / "a").mkdir(parents=True)
    _refused(NothingToDo, "at least two; only a is in it", out, tmp_path / "one")
    (tmp_path / "one" / "b").mkdir()
    _refused(NothingToDo, "no picture in it", out, tmp_path / "one")


def _dark_and_light(
    x: Tensor, sigma: Tensor | float, condition: Condition | None = None
) -> Prediction:
    """The exact prior of both classes alike: white noise around -1/2 or 1/2."""
    level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
    variance = SPREAD**2 + level**2
    light = torch.sigmoid(x.sum(dim=(1, 2, 3), keepdim=True) / variance)
    clean = (SPREAD**2 * x + level**2 * (light - 0.5)) / variance
    return Prediction(clean, (x - clean) / level)


def test_what_it_learned_guides_an_exact_prior_to_a_class(run: Summary) -> None:
    """Without guidance half of the samples are of a class; with it, nearly all."""
    classifier = _loaded(run.model)
    sigmas = noise_levels(classifier.schedule, 20, "log-snr")
    noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def fraction_of_light(denoise: Denoise) -> float:
        with torch.inference_mode():
            samples = ddim(denoise, sigmas[0] * noise, sigmas)
        return float((samples.mean(dim=(1, 2, 3)) > 0).float().mean())

    found = {
        label: fraction_of_light(
            classifier_guided(_dark_and_light, classifier.of_class(label), 10.0)
        )
        for label in (0, 1)
    }
    assert 0.3 < fraction_of_light(_dark_and_light) < 0.7
    assert found[0] < 0.1
    assert found[1] > 0.9
