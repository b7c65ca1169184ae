"""Reading tensors and descriptions from files, without running code that a file may hold."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pretrained.disk import digest_of, sha256, written_whole
from pretrained.errors import CheckpointError
from pretrained.tables import BadTable, read_json, read_toml

# Keys under which training code stores the weights in a file; averaged ones first.
STATE_KEYS = (
    *("ema", "ema_state_dict", "model_ema", "params_ema"),
    *("state_dict", "model_state_dict", "model", "params", "net"),
)

# Where torch's error names what it refused to run.
CODE = re.compile(r"GLOBAL:? ([A-Za-z_][\w.]*)")

# Names of diffusers' weights files, in order of preference.
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class Source(NamedTuple):
    """A checkpoint as it is on the disk.

    Attributes:
        path: The weights file.
        state: Its tensors.
        description: Content of the JSON or TOML file of the same name, or None.
    """

    path: Path
    state: dict[str, Tensor]
    description: dict[str, Any] | None


def opened(path: Path) -> Source:
    """Read a weights file or a diffusers folder.

    Raises:
        CheckpointError: No such file, a damaged one, or one without weights.
    """
    weights = in_folder(path) if os.path.isdir(path) else path
    if not os.path.isfile(weights):
        raise CheckpointError(f"{path}: no such file")

    return Source(weights, _tensors(weights), _description(weights))


def diffusers_config(weights: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Read config.json and scheduler_config.json around diffusers' weights; None for each missing.

    Raises:
        CheckpointError: They cannot be read, or describe another kind of network.
    """
    config = _json(weights.with_name("config.json"))
    if config is not None and config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise CheckpointError(f"config.json: of {config['_class_name']}; only UNet2DModel is known")

    return config, next((found for place in _schedulers(weights) if (found := _json(place))), None)


def _schedulers(weights: Path) -> list[Path]:
    folder = weights.parent
    return [
        place / "scheduler_config.json"
        for place in (folder, folder / "scheduler", folder.parent / "scheduler")
    ]


def descriptions(weights: Path) -> list[Path]:
    """Files that describe third-party weights beside them.

    There are none for weights in the project's own format, whose description has their digest.

    Raises:
        CheckpointError: One of them cannot be read.
    """
    beside = weights.with_suffix(".json")
    if (_json(beside) or {}).get("sha256") == digest_of(weights):
        return []

    places = (
        beside,
        weights.with_suffix(".toml"),
        weights.with_name("config.json"),
        *_schedulers(weights),
    )

    return [place for place in places if place.is_file()]


def write_pair(
    path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any], overwrite: bool
) -> None:
    """Write a safetensors file and its description beside it, each whole or not at all.

    Raises:
        CheckpointError: A file exists and ``overwrite`` is False, or cannot be written.
    """
    beside = path.with_suffix(".json")
    for target in (path, beside):
        if os.path.lexists(target) and not overwrite:
            raise CheckpointError(f"{target}: exists already; pass `overwrite` to replace it")

    try:
        with written_whole(beside) as text, written_whole(path) as weights:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
            description = {**description, "sha256": sha256(weights)}
            text.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from None


def in_folder(folder: Path) -> Path:
    """Find diffusers' weights in a folder or in its subfolder ``unet``.

    Raises:
        CheckpointError: There are none.
    """
    places = [below / name for below in (folder, folder / "unet") for name in WEIGHTS]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{folder}: no model_index.json of a pipeline, and no {' or '.join(WEIGHTS)} there or "
            "in unet/; give the folder that holds one, or the file of the weights"
        )

    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return _without_wrapper(load_file(path))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a readable safetensors file{_text(path)}: {error}"
            ) from None
    return _without_wrapper(_network(_unpickled(path), path))


def _unpickled(path: Path) -> Any:
    """Read the plain data that ``torch.save`` wrote; no code in the file is run."""
    archive = _is_zip(path)
    if other := _other_zip(path) if archive else _no_pickle(path):
        raise CheckpointError(f"{path}: not a checkpoint: {other}")

    try:
        with warnings.catch_warnings():  # about what is refused anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        code = CODE.search(str(error))
        raise CheckpointError(
            f"{path}: refused, for it holds code{f' ({code[1]})' if code else ''}, which would run "
            "on loading; nothing of it was. Ask for the weights alone as .safetensors, or, where "
            "you trust the file, save its state_dict with its author's code"
        ) from None
    except Exception as error:  # torch raises all kinds for damaged files
        reason = str(error).split(". ")[0].splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read, or damaged: {reason[0]}"
        ) from None


def _is_zip(path: Path) -> bool:
    """Return True for a zip file, also for a damaged one."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its end says that it goes on in other files
        return True


def _other_zip(path: Path) -> str:
    """Describe a zip file that ``torch.save`` did not write; empty if it did."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        return f"a damaged zip file ({error})"

    if any(name.endswith("data.pkl") for name in names):
        return ""
    return (
        "a zip file of something else; it holds "
        f"{', '.join(names[:3]) or 'nothing'}{' …' if len(names) > 3 else ''}"
    )


def _no_pickle(path: Path) -> str:
    """Describe a file that is neither a zip file nor a pickle; empty if it is a pickle."""
    beginning = _beginning(path)
    if beginning[:1] == pickle.PROTO:
        return ""
    if beginning[:1] == b"P":
        return "a zip file without its end; was its download cut off?"
    return f"neither a zip file nor a pickle of torch.save{_text(path)}"


def _text(path: Path) -> str:
    """First line of a file that is text, such as an error page or a Git LFS pointer."""
    line = _beginning(path).partition(b"\n")[0].strip()
    return (
        f" but text ({line.decode()!r} …)"
        if line.isascii() and line.decode().isprintable() and line
        else ""
    )


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(60)


def _network(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what training code saved.

    The code of DDIM and DDRM saves a list: model, optimiser, epoch, step and, last, the averaged
    model.

    Raises:
        CheckpointError: There is none.
    """
    if _is_state(loaded):
        return dict(loaded)
    if isinstance(loaded, Sequence) and (states := [part for part in loaded if _is_state(part)]):
        return dict(states[-1])
    if isinstance(loaded, Mapping):
        for key in STATE_KEYS:
            if isinstance(loaded.get(key), Mapping | list):
                return _network(loaded[key], path)
        held = ", ".join(map(str, list(loaded)[:5])) or "nothing"
        raise CheckpointError(f"{path}: no weights of a network in it; it holds {held}")

    raise CheckpointError(f"{path}: no weights of a network in it, but {type(loaded).__name__}")


def _is_state(loaded: Any) -> bool:
    if not isinstance(loaded, Mapping) or not loaded:
        return False
    return all(isinstance(name, str) and isinstance(part, Tensor) for name, part in loaded.items())


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix that ``DataParallel`` adds to names."""
    if not all(name.startswith("module.") for name in state):
        return state
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _description(weights: Path) -> dict[str, Any] | None:
    found = _json(weights.with_suffix(".json"))
    toml = weights.with_suffix(".toml")
    if found is not None or not toml.is_file():
        return found

    try:
        return read_toml(toml)
    except (OSError, BadTable) as error:
        raise CheckpointError(f"{toml}: not a readable description: {error}") from None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, BadTable) as error:
        raise CheckpointError(f"{path}: not a readable description: {error}") from None

    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a description of a network, but {type(found).__name__}")
    return found
