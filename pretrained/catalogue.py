"""Catalogue of public checkpoints: addresses, networks and licences.

The data is in catalog.toml; this module only reads it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pretrained.tables import read_toml

CATALOGUE = Path(__file__).with_name("catalog.toml")

# What a network lacks unless its entry says otherwise; a file that has it is another checkpoint.
WITHOUT = {"classes": 0, "condition_channels": 0, "learned_variance": False}


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Attributes:
        name: File name under which it is stored.
        addresses: URLs; mirrors after the first.
        size: Size in bytes; None if it is not published.
        sha256: Published SHA-256, hexadecimal, or None.
        md5: Published MD5, hexadecimal, or None.
    """

    name: str
    addresses: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def is_published(self) -> bool:
        """Whether a digest is published."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True)
class Entry:
    """A public checkpoint.

    Attributes:
        name: Name that ``--model`` takes.
        title: One line that says what it is.
        use: Pictures that it is for.
        licence: Licence of the weights, as far as it is known.
        training: Training data.
        page: Web page about it, and where to find it if no address is known.
        resolution: Side in pixels of the training pictures.
        parameters: Number of parameters of its network.
        layout: Layout of its state dict, see `pretrained.layouts`.
        config: What is known of its description, as
            `pretrained.description.ModelConfig.from_dict` takes it, or of a classifier,
            `pretrained.classifier_description.ClassifierConfig.from_dict`; empty for a metric's
            network. Of a pipeline its class, as ``pipeline``.
        traps: What goes silently wrong in other loaders.
        file: The weights file; its addresses may be empty.
        hub: Repository ``OWNER/REPO`` on the Hugging Face hub, instead of a file.
    """

    name: str
    title: str
    use: str
    licence: str
    training: str
    page: str
    resolution: int
    parameters: int
    layout: str
    config: Mapping[str, Any]
    traps: str = ""
    file: RemoteFile | None = None
    hub: str | None = None

    @property
    def size(self) -> int:
        """Size of the download in bytes: as published, or four per parameter."""
        return self.file.size if self.file is not None and self.file.size else 4 * self.parameters

    @property
    def size_is_published(self) -> bool:
        """Whether `size` is published instead of estimated."""
        return self.file is not None and self.file.size is not None

    @property
    def is_downloadable(self) -> bool:
        """Whether an address is known."""
        return self.hub is not None or (self.file is not None and bool(self.file.addresses))


def entries() -> Mapping[str, Entry]:
    """All public checkpoints by name, in the order of the catalogue."""
    return _read(CATALOGUE)


def classifiers() -> Mapping[str, Entry]:
    """All classifiers of noisy pictures by name; they guide models, and are none."""
    return _read_classifiers(CATALOGUE)


def latent_models() -> Mapping[str, Entry]:
    """All latent models by name, see `pretrained.pipelines`."""
    return _read_pipelines(CATALOGUE)


def metrics() -> Mapping[str, Entry]:
    """All networks of metrics by name; they measure pictures, and are no models of pictures."""
    return _read_metrics(CATALOGUE)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that resemble ``name``, best first."""
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)


@cache
def _read(path: Path) -> Mapping[str, Entry]:
    tables = read_toml(path)
    networks = tables["networks"]
    return {name: _entry(name, table, networks) for name, table in tables["models"].items()}


@cache
def _read_classifiers(path: Path) -> Mapping[str, Entry]:
    tables = read_toml(path)
    found = {}
    for name, table in tables.get("classifiers", {}).items():
        facts = dict(table)
        own = {"classes": facts.pop("classes"), "pool": "attention", "size": facts["resolution"]}
        entry = _entry(name, facts, tables["networks"])
        backbone = {key: v for key, v in entry.config["backbone"].items() if key not in WITHOUT}
        found[name] = replace(entry, config={**entry.config, **own, "backbone": backbone})
    return found


@cache
def _read_pipelines(path: Path) -> Mapping[str, Entry]:
    found = {}
    for name, table in read_toml(path).get("pipelines", {}).items():
        facts = dict(table)
        config = {"pipeline": facts.pop("pipeline")}
        found[name] = Entry(**facts, name=name, layout="diffusers pipeline", config=config)
    return found


@cache
def _read_metrics(path: Path) -> Mapping[str, Entry]:
    tables = read_toml(path).get("metrics", {})
    return {
        name: Entry(**{**table, "name": name, "config": {}, "file": _file(table["file"])})
        for name, table in tables.items()
    }


def _file(table: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(**{**table, "addresses": tuple(table.get("addresses", ()))})


def _entry(name: str, table: Mapping[str, Any], networks: Mapping[str, Any]) -> Entry:
    facts = dict(table)
    network = networks[facts.pop("network")]
    backbone = {**WITHOUT, **network["backbone"], **facts.pop("backbone", {})}
    config = {key: value for key, value in network.items() if key not in ("backbone", "traps")}
    file = facts.pop("file", None)
    entry = Entry(
        name=name,
        config={**config, "backbone": backbone},
        traps=" ".join(text for text in (network.get("traps"), facts.pop("traps", None)) if text),
        **facts,
    )
    return entry if file is None else replace(entry, file=_file(file))
