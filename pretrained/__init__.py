"""The weights that ship with the package, those of others by name, and reading of weights from
files.

A checkpoint of ours is two things: tensors (safetensors) and a description (JSON) of the same name
beside them. It and those of others are read by `pretrained.layouts`. This package knows files and
layouts, and `restore.diffusion.denoiser.build_denoiser` makes a network of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pretrained.catalogue import entries, nearest
from pretrained.disk import digest_of
from pretrained.download import OFFLINE_VARIABLE, is_offline
from pretrained.errors import CheckpointError
from pretrained.hub import WEIGHT_SUFFIXES
from pretrained.store import Source, installed, source_of

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = ("default",)
DESCRIPTIONS = (".json", ".toml")
"""Endings of what may be said of weights, beside them."""
_FOLDER = Path(__file__).parent / "weights"


class Checkpoint(NamedTuple):
    """Weights with their description."""

    name: str
    config: Mapping[str, Any]
    """As `restore.diffusion.denoiser.ModelConfig.from_dict` takes it."""
    state: Mapping[str, Tensor]
    sha256: str
    """Of the weights file, hexadecimal."""


def refuse(source: Source) -> None:
    """What is done about a missing checkpoint unless somebody said otherwise: nothing is ever
    downloaded unasked.

    Raises:
        CheckpointError: always; it says how to get it.
    """
    offline = f" {OFFLINE_VARIABLE} is set: nothing is downloaded;" if is_offline() else ""
    raise CheckpointError(
        f"{source.name} is not installed ({offer(source)});{offline} {how_to_get(source)}"
    )


_when_missing: ContextVar[Callable[[Source], None]] = ContextVar("when_missing", default=refuse)


@contextmanager
def when_missing(act: Callable[[Source], None]) -> Iterator[None]:
    """Within this, ``act`` is called for a checkpoint that is known and not here: it installs it,
    or raises CheckpointError.
    """
    token = _when_missing.set(act)
    try:
        yield
    finally:
        _when_missing.reset(token)


def offer(source: Source) -> str:
    """What a person should know before a download: size, address, licence."""
    entry = source.entry
    if entry is None:
        return (
            f"the repository {source.repository} of the Hugging Face hub, whose page tells its "
            "licence"
        )

    place = entry.file.addresses[0] if entry.file and entry.file.addresses else entry.page
    about = "" if entry.size_is_published else "about "

    return f"{about}{entry.size / 1e6:,.0f} MB from {place}; licence: {entry.licence}"


def how_to_get(source: Source) -> str:
    """The command that installs it."""
    entry = source.entry
    if entry is None or entry.is_downloadable:
        return f"restore models get {source.name} --yes downloads it"

    assert entry.file is not None

    return (
        f"its address is unknown: fetch {entry.file.name} from {entry.page} and give it as --model "
        f"FILE, or once as restore models get {source.name} --from FILE"
    )


def checkpoint_path(model: str) -> Path:
    """The weights file that a model's name or path stands for.

    Args:
        model: ``default``, a name of the catalogue, ``hf:OWNER/REPO[@REVISION]``, a file, or a
            folder of diffusers.

    Raises:
        CheckpointError: there is none.
    """
    if model in SHIPPED:
        return _FOLDER / f"{model}.safetensors"
    if (source := source_of(model)) is not None:
        if installed(source) is None:
            _when_missing.get()(source)
        found = installed(source)
        assert found is not None
        return found.weights

    path = Path(model)
    if path.is_dir():
        from pretrained.layouts.files import in_folder

        return in_folder(path)

    if path.is_file():
        return path
    if path.suffix not in WEIGHT_SUFFIXES:
        known = [*SHIPPED, *entries()]
        near = nearest(model, known)
        names = f"did you mean {' or '.join(near)}? Else use" if near else f"use {SHIPPED[0]},"
        raise CheckpointError(
            f"unknown model {model!r}; {names} a name that restore models shows, hf:OWNER/REPO or "
            f"the path of a {', '.join(WEIGHT_SUFFIXES)} file"
        )

    raise CheckpointError(f"no weights at {path}")


def short_name(model: str) -> str:
    """A model's name for reports: of a file or folder without what is above it."""
    return model if model in SHIPPED or source_of(model) is not None else Path(model).name


def digest(model: str = "default") -> str:
    """SHA-256 of a model's weights file, hexadecimal.

    Raises:
        CheckpointError: no such file.
    """
    return digest_of(checkpoint_path(model))


def identity(model: str = "default") -> str:
    """What tells a model from others, hexadecimal: SHA-256 of its weights, or, where files around
    those that others trained say something of them, of all digests: with another description they
    are another model.

    Raises:
        CheckpointError: no such file, or a description that cannot be read.
    """
    from pretrained.layouts.files import descriptions

    path = checkpoint_path(model)
    digests = [digest_of(each) for each in (path, *descriptions(path))]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def load(model: str = "default") -> Checkpoint:
    """Read a checkpoint, see `checkpoint_path` for what ``model`` may be.

    Raises:
        CheckpointError: no such file, damaged weights, or weights that nothing describes.
    """
    from pretrained import layouts

    path = checkpoint_path(model)
    config, state = layouts.read(path, expected=expected_config(model))
    return Checkpoint(model, config, state, digest_of(path))


def expected_config(model: str) -> Mapping[str, Any] | None:
    """What the catalogue says of a model: of its own, or of a file that has the name and size of
    one of its files and no description of its own beside it.
    """
    source = source_of(model)
    if source is not None:
        return None if source.entry is None else source.entry.config

    path = Path(model)
    if any(path.with_suffix(suffix).exists() for suffix in DESCRIPTIONS):
        return None

    for entry in entries().values():
        file = entry.file
        if file is not None and file.name == path.name and file.size in (None, path.stat().st_size):
            return entry.config

    return None
