"""Checkpoints: the one that ships, known public ones by name, and reading them from files.

A checkpoint in the project's own format is two files of the same name: tensors (safetensors) and a
description (JSON, see `pretrained.description`). `pretrained.layouts` reads it and third-party
formats. This package knows only files; `restore.diffusion.denoiser.build_denoiser` makes a network
of what it reads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pretrained.catalogue import classifiers, entries, latent_models, nearest
from pretrained.classifier_description import is_classifier
from pretrained.disk import digest_of
from pretrained.download import OFFLINE_VARIABLE, is_offline
from pretrained.errors import CheckpointError
from pretrained.hub import WEIGHT_SUFFIXES
from pretrained.pipelines import INDEX, index_of, is_latent
from pretrained.pipelines import read as read_pipeline
from pretrained.store import Source, installed, source_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DESCRIPTIONS",
    "SHIPPED",
    "SHIPPED_LICENCE",
    "Checkpoint",
    "CheckpointError",
    "checkpoint_path",
    "classifiers",
    "clip_folder",
    "digest",
    "entries",
    "expected_config",
    "how_to_get",
    "identity",
    "latent_models",
    "load",
    "load_classifier",
    "nearest",
    "offer",
    "pipeline_folder",
    "refuse",
    "short_name",
]

SHIPPED = ("default",)
# Licence of their weights.
SHIPPED_LICENCE = "Apache-2.0"

# Suffixes of the files beside weights that may describe them.
DESCRIPTIONS = (".json", ".toml")

_FOLDER = Path(__file__).parent / "weights"


class Checkpoint(NamedTuple):
    """Weights with their description.

    Attributes:
        name: As it was asked for.
        config: Description, as `pretrained.description.ModelConfig.from_dict` takes it or, of a
            classifier, `pretrained.classifier_description.ClassifierConfig.from_dict`.
        state: Tensors under the names of `restore.backbone`.
        sha256: SHA-256 of the weights file, hexadecimal.
    """

    name: str
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    sha256: str


def refuse(source: Source) -> NoReturn:
    """Refuse a missing checkpoint, since nothing is downloaded unasked.

    Raises:
        CheckpointError: Always; the text says how to get it.
    """
    offline = f" {OFFLINE_VARIABLE} is set: nothing is downloaded;" if is_offline() else ""
    raise CheckpointError(
        f"{source.name} is not installed ({offer(source)});{offline} {how_to_get(source)}"
    )


def offer(source: Source) -> str:
    """Size, address and licence of a checkpoint, which a user should know before a download."""
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
    """Command that installs a checkpoint."""
    entry = source.entry
    if entry is None or entry.is_downloadable:
        return f"restore models get {source.name} --yes downloads it"

    assert entry.file is not None

    return (
        f"its address is unknown: fetch {entry.file.name} from {entry.page} and give it as "
        f"`model`=FILE, or once as restore models get {source.name} --from FILE"
    )


def checkpoint_path(model: str) -> Path:
    """Find the weights file of a model, or the model_index.json of a latent one.

    Args:
        model: ``default``, a name in the catalogue, ``hf:OWNER/REPO[@REVISION]``, a file, or a
            diffusers folder.

    Raises:
        CheckpointError: There is none.
    """
    if model in SHIPPED:
        return _FOLDER / f"{model}.safetensors"

    if (source := source_of(model)) is not None:
        if source.is_metric:
            raise CheckpointError(f"{model} measures pictures, and is no model of pictures")
        found = installed(source)
        if found is None:
            refuse(source)
        return found.weights

    path = Path(model)
    if os.path.isdir(path):
        from pretrained.layouts.files import in_folder

        return path / INDEX if is_latent(index_of(path)) else in_folder(path)

    if os.path.isfile(path):
        return path
    if path.suffix not in WEIGHT_SUFFIXES:
        known = [*SHIPPED, *entries(), *latent_models(), *classifiers()]
        near = nearest(model, known)
        names = f"did you mean {' or '.join(near)}? Else use" if near else f"use {SHIPPED[0]},"
        raise CheckpointError(
            f"unknown model {model!r}; {names} a name that restore models shows, hf:OWNER/REPO or "
            f"the path of a {', '.join(WEIGHT_SUFFIXES)} file"
        )

    raise CheckpointError(f"no weights at {path}")


def clip_folder(clip: str) -> Path:
    """Find the folder of a CLIP model.

    Args:
        clip: A folder, or ``hf:OWNER/REPO[@REVISION]``.

    Raises:
        CheckpointError: There is none.
    """
    source = source_of(clip)
    if source is None:
        if not os.path.isdir(clip):
            raise CheckpointError(
                f"no folder at {clip}; give that of a CLIP model as transformers saves it, or "
                "hf:OWNER/REPO"
            )
        return Path(clip)

    found = installed(source)
    if found is None:
        refuse(source)
    return found.folder


def pipeline_folder(model: str) -> Path | None:
    """Find the folder of a latent model, see `pretrained.pipelines`; None for models of pixels.

    Raises:
        CheckpointError: As `checkpoint_path`.
    """
    path = checkpoint_path(model)
    return path.parent if path.name == INDEX else None


def short_name(model: str) -> str:
    """Name of a model for reports: the last part of a path."""
    return model if model in SHIPPED or source_of(model) is not None else Path(model).name


def digest(model: str = "default") -> str:
    """SHA-256 of a model's weights file, hexadecimal; that of a latent model is its `identity`.

    Raises:
        CheckpointError: No such file.
    """
    if pipeline_folder(model) is not None:
        return identity(model)
    return digest_of(checkpoint_path(model))


def identity(model: str = "default") -> str:
    """Digest that tells a model from all others, hexadecimal.

    It is the SHA-256 of the weights. Where further files describe third-party weights, it is the
    SHA-256 of all digests, since another description makes another model.

    Raises:
        CheckpointError: No such file, or a description that cannot be read.
    """
    from pretrained.layouts.files import descriptions

    if (folder := pipeline_folder(model)) is not None:
        files = read_pipeline(folder).files
    else:
        path = checkpoint_path(model)
        files = [path, *descriptions(path)]
    digests = [digest_of(each) for each in files]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def load(model: str = "default") -> Checkpoint:
    """Read a checkpoint of a model of pictures.

    Args:
        model: See `checkpoint_path`.

    Raises:
        CheckpointError: No such file, damaged weights, weights without a description, or those of
            a classifier.
    """
    checkpoint = _read(model)
    if is_classifier(checkpoint.config):
        raise CheckpointError(
            f"{model}: a classifier of noisy pictures, which guides a model and draws none itself; "
            "give it as `guide`"
        )
    return checkpoint


def load_classifier(classifier: str) -> Checkpoint:
    """Read a classifier of noisy pictures.

    Args:
        classifier: See `checkpoint_path`.

    Raises:
        CheckpointError: As `load`, or a model of pictures.
    """
    checkpoint = _read(classifier)
    if not is_classifier(checkpoint.config):
        raise CheckpointError(
            f"{classifier}: a model of pictures, and no classifier of noisy pictures; there are "
            f"{', '.join(classifiers())}, and those that restore train makes"
        )
    return checkpoint


def _read(model: str) -> Checkpoint:
    from pretrained import layouts

    path = checkpoint_path(model)
    if path.name == INDEX:
        raise CheckpointError("a latent model of several networks, which is no single checkpoint")
    config, state = layouts.read(path, expected=expected_config(model))
    return Checkpoint(model, config, state, digest_of(path))


def expected_config(model: str) -> Mapping[str, Any] | None:
    """Description of a model in the catalogue, in part; None if it is not there.

    A file counts as a model of the catalogue if it has that model's file name and size and no
    description beside it.
    """
    source = source_of(model)
    if source is not None:
        return None if source.entry is None else source.entry.config

    path = Path(model)
    if any(os.path.exists(path.with_suffix(suffix)) for suffix in DESCRIPTIONS):
        return None

    for entry in (*entries().values(), *classifiers().values()):
        file = entry.file
        if file is not None and file.name == path.name and file.size in (None, path.stat().st_size):
            return entry.config

    return None
