"""The weights that ship with the package, and reading of weights from files.

A checkpoint is two things: tensors (safetensors) and a description (JSON) of the same name beside them. This package
knows files and layouts; `restore.denoiser.build_denoiser` makes a network of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pretrained.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = ("default",)
_FOLDER = Path(__file__).parent / "weights"


class Checkpoint(NamedTuple):
    """Weights with their description."""

    name: str
    config: Mapping[str, Any]
    """As `restore.denoiser.ModelConfig.from_dict` takes it."""
    state: Mapping[str, Tensor]
    sha256: str
    """Of the weights file, hexadecimal."""


def checkpoint_path(model: str) -> Path:
    """The weights file that a model's name or path stands for.

    Raises:
        CheckpointError: there is none.
    """
    if model in SHIPPED:
        path = _FOLDER / f"{model}.safetensors"
    else:
        path = Path(model)
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"unknown model {model!r}; use {', '.join(SHIPPED)} or the path of a .safetensors file"
            )
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}")
    return path


def digest(model: str = "default") -> str:
    """SHA-256 of a model's weights file, hexadecimal.

    Raises:
        CheckpointError: no such file.
    """
    return hashlib.sha256(checkpoint_path(model).read_bytes()).hexdigest()


def load(model: str = "default") -> Checkpoint:
    """Read a checkpoint by the name of a shipped model or by the path of its .safetensors file.

    The weights are compared with the SHA-256 in the description, where it gives one.

    Raises:
        CheckpointError: no such file, damaged weights, or no description beside them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    path = checkpoint_path(model)
    config = _description(path.with_suffix(".json"))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if config.pop("sha256", digest) != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in {path.with_suffix('.json')}")
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
    return Checkpoint(model, config, state, digest)


def _description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"no description beside the weights: {path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a readable description: {error}") from None
    if not isinstance(description, dict) or "backbone" not in description:
        raise CheckpointError(f"{path} describes no model: it has no 'backbone'")
    return description
