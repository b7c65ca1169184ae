"""ADM's classifiers of noisy pictures: parity with a restatement, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.adm_classifier import AdmClassifierNetwork, log_probability
from support.networks import random_file, tiny
from support.published_networks import randomised
from torch import Tensor

import pretrained
from pretrained import layouts
from pretrained.catalogue import classifiers
from pretrained.classifier_description import ClassifierConfig
from pretrained.layouts.classifier import shapes
from restore.backbone.classifier import NoisyClassifier
from restore.diffusion.classifier import Classifier, build_classifier
from restore.diffusion.schedule import NoiseSchedule

HINTS = {"size": 16, "schedule": {"name": "linear"}, "backbone": {"head_channels": 16}}


def _written(path: Path, state: dict[str, Tensor], **hints: object) -> Path:
    torch.save(state, path)
    path.with_suffix(".json").write_text(json.dumps({**HINTS, **hints}), encoding="utf-8")
    return path


def _loaded(path: Path) -> Classifier:
    checkpoint = pretrained.load_classifier(str(path))
    return build_classifier(ClassifierConfig.from_dict(checkpoint.config), checkpoint.state)


def _theirs(**options: object) -> AdmClassifierNetwork:
    network = AdmClassifierNetwork(**options)
    randomised(network)
    return network


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 8, "multipliers": (1,), "attention": (1,)},
        {"size": 32, "multipliers": (1, 1, 2, 2), "blocks": 2, "attention": (4, 8), "classes": 3},
        {"channels": 64, "multipliers": (0.5, 1), "blocks": 3, "attention": ()},
    ],
    ids=["three levels", "one level", "two blocks", "half width"],
)
def test_answers_are_those_of_the_restatement(tmp_path: Path, options: dict) -> None:
    theirs = _theirs(**options)
    size = options.get("size", 16)
    ours = _loaded(_written(tmp_path / "c.pt", theirs.state_dict(), size=size))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, size, size, generator=generator)
    schedule = NoiseSchedule.named("linear")
    steps = torch.tensor([3, 700])
    sigma = torch.from_numpy(schedule.sigmas[steps.numpy()]).float()
    u = x / (1 + sigma**2).sqrt().reshape(-1, 1, 1, 1)

    found = ours.of_class(2)(x, sigma)
    expected = log_probability(theirs, u, steps.float(), 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_that_of_the_published_sampler(tmp_path: Path) -> None:
    """∇_u log p(y | u) of theirs is √(1+σ²) ∇_x of ours."""
    theirs = _theirs()
    ours = _loaded(_written(tmp_path / "c.pt", theirs.state_dict()))
    sigma = float(NoiseSchedule.named("linear").sigmas[250])
    u = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    x = ((1 + sigma**2) ** 0.5 * u.detach()).requires_grad_()

    log_p = log_probability(theirs, u, torch.tensor([250.0]), 1)
    (expected,) = torch.autograd.grad(log_p.sum(), u)
    (found,) = torch.autograd.grad(ours.of_class(1)(x, sigma).sum(), x)
    torch.testing.assert_close((1 + sigma**2) ** 0.5 * found, expected, rtol=1e-3, atol=1e-5)


def test_the_pool_and_the_layers_before_it_have_other_orders(tmp_path: Path) -> None:
    """The same order for both fits the same weights, and answers differently."""
    theirs = _theirs(channels=64)
    path = _written(tmp_path / "c.pt", theirs.state_dict())
    ours = _loaded(path)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    right = ours.log_probabilities(x, 1.0)

    config = replace(ours.config, backbone=replace(ours.config.backbone, qkv_order="new"))
    wrong = build_classifier(config, ours.network.state_dict()).log_probabilities(x, 1.0)
    assert float((right - wrong).abs().max()) > 1e-2


@pytest.mark.parametrize("name", classifiers())
def test_published_networks(name: str, tmp_path: Path) -> None:
    """Built on the meta device, where tensors have no storage."""
    entry = classifiers()[name]
    config = ClassifierConfig.from_dict(entry.config)
    with torch.device("meta"):
        network = NoisyClassifier(config)
    state = network.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == entry.parameters
    assert config.size == entry.resolution

    found = layouts.classifier.settled(state, entry.config)
    assert ClassifierConfig.from_dict(found) == config
    assert shapes(found) == {key: tuple(tensor.shape) for key, tensor in state.items()}


def test_a_file_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "64x64_classifier.pt").touch()
    found = pretrained.expected_config(str(tmp_path / "64x64_classifier.pt"))
    assert found == classifiers()["adm-classifier64"].config


def test_a_converted_classifier_answers_alike(tmp_path: Path) -> None:
    path = _written(tmp_path / "c.pt", _theirs().state_dict(), names=list("abcde"))
    layouts.convert(path, tmp_path / "own.safetensors")
    before, after = (_loaded(each) for each in (path, tmp_path / "own.safetensors"))
    assert before.config == after.config
    assert after.config.names == tuple("abcde")
    weights = after.network.state_dict()
    assert all(torch.equal(t, weights[name]) for name, t in before.network.state_dict().items())


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ({"size": 20}, "are of no classifier of 20x20 pixels"),
        ({"size": "16"}, "size = '16'"),
        ({"classes": 7}, "classes: 5, expected 7"),
        ({"backbone": {"blocks": 3}}, "blocks: 1, expected 3"),
        ({"parameterization": "epsilon"}, "has no parameterization"),
        ({"names": ["a", "b"]}, "2 names for 5 classes"),
        ({"backbone": {"head_channels": 24}}, "cannot be divided into heads of 24"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path: Path, hints: dict, words: str) -> None:
    path = _written(tmp_path / "c.pt", _theirs().state_dict(), **hints)
    with pytest.raises((pretrained.CheckpointError, ValueError), match=words):
        _loaded(path)


def test_what_weights_do_not_show_must_be_said(tmp_path: Path) -> None:
    torch.save(_theirs().state_dict(), tmp_path / "c.pt")
    with pytest.raises(pretrained.CheckpointError, match="do not show size and schedule; say it"):
        pretrained.load_classifier(str(tmp_path / "c.pt"))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("out.2.c_proj.bias", None, "1 missing: out.2.c_proj.bias"),
        ("time_embed.0.weight", (), "of the wrong shape"),
        ("input_blocks.1.0.in_layers.2.weight", (32, 32, 1, 1), "32x32x1x1 instead of 32x32x3x3"),
        ("extra", (1,), "1 unexpected: extra"),
    ],
)
def test_wrong_tensors_are_named(
    tmp_path: Path, name: str, change: tuple | None, words: str
) -> None:
    state = _theirs().state_dict()
    if change is None:
        del state[name]
    else:
        state[name] = torch.zeros(change)
    with pytest.raises(pretrained.CheckpointError, match=words):
        _loaded(_written(tmp_path / "c.pt", state))


def test_classifiers_and_models_are_told_apart(tmp_path: Path) -> None:
    classifier = _written(tmp_path / "c.pt", _theirs().state_dict())
    with pytest.raises(pretrained.CheckpointError, match="guides a model and draws none itself"):
        pretrained.load(str(classifier))

    model = random_file(tmp_path / "m.safetensors", tiny())
    with pytest.raises(pretrained.CheckpointError, match="no classifier of noisy pictures"):
        pretrained.load_classifier(str(model))
