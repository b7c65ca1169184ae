"""The public checkpoints that are known by name: where they are, what they are, and what one may do
with them.

Everything that is known stands in catalog.toml, which is data: this file only reads it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

CATALOGUE = Path(__file__).with_name("catalog.toml")
WITHOUT = {"classes": 0, "condition_channels": 0, "learned_variance": False}
"""What a network does not have where the catalogue says nothing of it; a file that has it is
another one.
"""


@dataclass(frozen=True)
class RemoteFile:
    """A file somewhere in the network.

    Attributes:
        name: under which it is kept.
        addresses: where it is; mirrors after the first.
        size: in bytes; None where nobody published it.
        sha256, md5: hexadecimal, as published; None where it is not.
    """

    name: str
    addresses: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def is_published(self) -> bool:
        """Whether there is a digest to compare with."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True)
class Entry:
    """A public checkpoint.

    Attributes:
        name: what ``--model`` takes.
        title: a line that says what it is.
        use: which pictures it is for.
        licence: of the weights, as far as anybody said.
        training: what it was trained on.
        page: where a person reads about it, and finds it where there is no address.
        resolution: side in pixels of the pictures it was trained on.
        parameters: how many numbers its network has.
        layout: of its state dict, see `pretrained.layouts`.
        config: what is known of the network, as `restore.diffusion.denoiser.ModelConfig.from_dict`
            takes it.
        traps: what goes silently wrong in other loaders.
        file: of the weights; its addresses may be empty.
        hub: the repository ``OWNER/REPO`` on the Hugging Face hub instead of a file.
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
        """Bytes to download: as published, or four for each parameter."""
        return self.file.size if self.file is not None and self.file.size else 4 * self.parameters

    @property
    def size_is_published(self) -> bool:
        return self.file is not None and self.file.size is not None

    @property
    def is_downloadable(self) -> bool:
        """Whether an address is known."""
        return self.hub is not None or (self.file is not None and bool(self.file.addresses))


def entries() -> Mapping[str, Entry]:
    """All of them by name, in the order of the catalogue."""
    return _read(CATALOGUE)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names that look like ``name``, best first."""
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)


@cache
def _read(path: Path) -> Mapping[str, Entry]:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    networks = tables["networks"]
    return {name: _entry(name, table, networks) for name, table in tables["models"].items()}


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
    if file is not None:
        entry = replace(
            entry, file=RemoteFile(**{**file, "addresses": tuple(file.get("addresses", ()))})
        )

    return entry
