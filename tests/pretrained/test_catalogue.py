"""The catalogue of public checkpoints: complete, consistent, and its networks are those that were
published.
"""

from __future__ import annotations

import json
import re

import pytest
import torch

import pretrained
from pretrained.catalogue import Entry, classifiers, entries, latent_models, metrics
from pretrained.layouts.adm import Adm
from pretrained.layouts.layout import Renamed
from pretrained.layouts.settled import settled
from pretrained.pipelines import FAMILIES
from restore.backbone import BackboneConfig, build_backbone
from restore.commands.models import classifier_names, names
from restore.diffusion.denoiser import ModelConfig

ENTRIES = list(entries().values())

PUBLISHED = {
    "adm-imagenet256": "552,814,086",
    "adm-imagenet256-class": "553.8M",
    "adm-imagenet512-class": "559.0M",
    "adm-imagenet128-class": "421.5M",
    "adm-imagenet64-class": "295.9M",
    "adm-64-to-256": "311.8M",
    "adm-lsun-bedroom": "552.8M",
    "adm-lsun-cat": "552.8M",
    "adm-lsun-horse": "552.8M",
    "adm-ffhq256": "93,563,910",
    "pesser-celebahq256": "113,673,219",
    "sr3-16-to-128": "97,807,491",
    "sr3-64-to-512": "155,334,339",
}
"""Parameter counts as others give them."""


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request) -> Entry:
    return request.param


@pytest.mark.parametrize("name", classifiers())
def test_every_classifier_is_complete(command, name, monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    entry = classifiers()[name]
    side = entry.resolution
    assert entry.file.name == f"{side}x{side}_classifier.pt"
    assert entry.file.addresses[0].endswith(f"/{entry.file.name}")

    facts = json.loads(command("models", "show", name, "--json").out)
    assert (facts["config"]["size"], facts["config"]["classes"]) == (side, 1000)
    assert entry.traps in command("models", "show", name).out


@pytest.mark.parametrize("name", latent_models())
def test_every_latent_model_is_complete(command, name, monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    entry = latent_models()[name]
    assert entry.config["pipeline"] in FAMILIES
    assert entry.page == f"https://huggingface.co/{entry.hub}"
    shown = command("models", "show", name).out
    for text in (entry.title, entry.use, entry.licence, entry.traps, f"{entry.parameters:,}"):
        assert text in shown

    refused = command("sr", tmp_path / "in.png", "--model", name)
    assert refused.code in (3, 5)


def test_every_entry_is_complete(entry):
    assert re.fullmatch(r"[a-z0-9-]+", entry.name)
    for text in (entry.title, entry.use, entry.licence, entry.training, entry.traps):
        assert text.strip() == text != ""
    assert entry.page.startswith("https://")
    assert entry.layout in ("adm", "pesser", "diffusers", "sr3")
    assert entry.config["size"] == entry.resolution
    assert (entry.hub is None) != (entry.file is None)
    file = entry.file
    if file is not None:
        assert all(address.startswith("https://") for address in file.addresses)
        assert re.fullmatch(r"[\w.-]+\.(pt|pth|ckpt)", file.name)
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or re.fullmatch("[0-9a-f]{32}", file.md5)
        if file.size is not None:  # float32, and at most 2 kB for the name of each tensor
            assert 0 < file.size - 4 * entry.parameters < 2000 * 1000


def test_file_names_tell_entries_apart():
    """A local file is recognised by them."""
    known = [*ENTRIES, *classifiers().values()]
    files = [entry.file.name for entry in known if entry.file is not None]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    count = entries()[name].parameters
    assert PUBLISHED[name] in (f"{count:,}", f"{count / 1e6:.1f}M")


def test_parameters_of_the_networks(entry):
    """Built on the meta device, where tensors have no storage."""
    backbone = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.config["backbone"].items()
    }
    with torch.device("meta"):
        network = build_backbone(BackboneConfig(**backbone))
    assert sum(parameter.numel() for parameter in network.parameters()) == entry.parameters
    if (
        entry.layout == "adm"
    ):  # whose names are ours; the other layouts' are restated in tests/test_layouts_files.py
        renamed = Renamed(Adm(network.state_dict()))
        config = settled(renamed.layout, renamed.inferred, entry.config)
        renamed.check(config["backbone"])
        assert ModelConfig.from_dict(config) == ModelConfig.from_dict(entry.config)


def test_configs_are_those_of_models(entry):
    config = ModelConfig.from_dict(entry.config)
    assert config.backbone.condition_channels == (
        3 if entry.config.get("condition_required") else 0
    )


def test_shells_complete_the_names():
    assert set(names()) == {"default", *entries(), *latent_models()}
    assert classifier_names("adm-classifier2") == ["adm-classifier256"]
    assert names("sr3") == ["sr3-16-to-128", "sr3-64-to-512"]


def test_cards(command, entry, monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    shown = command("models", "show", entry.name).out
    for text in (
        entry.title,
        entry.use,
        entry.licence,
        entry.training,
        entry.traps,
        f"{entry.parameters:,}",
    ):
        assert text in shown
    facts = json.loads(command("models", "show", entry.name, "--json").out)
    assert (facts["name"], facts["config"]["size"], facts["installed"]) == (
        entry.name,
        entry.resolution,
        False,
    )


def test_the_card_of_the_shipped_model(command):
    card = pretrained.checkpoint_path("default").with_suffix(".md").read_text(encoding="utf-8")
    assert command("models", "show", "default").out == card + "\n"


def test_the_list(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    lines = command("models").out.splitlines()
    others = {**latent_models(), **classifiers(), **metrics()}
    assert [line.split()[0] for line in lines] == ["default", *entries(), *others]
    for line, entry in zip(lines[1:], [*ENTRIES, *others.values()], strict=True):
        assert f"{entry.size / 1e6:,.0f} MB" in line
        assert ("~" in line) == (not entry.size_is_published)
        assert ("research only" in line) == ("research only" in entry.licence)
