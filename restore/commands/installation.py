"""Description of the installation: device, model, methods, versions, missing parts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import pretrained
from pretrained import pipelines
from pretrained.download import is_offline
from pretrained.pipelines import Pipeline
from pretrained.store import all_installed, cache_folder
from restore import __version__
from restore.commit import commit
from restore.diffusion.denoiser import ModelConfig, build_denoiser
from restore.diffusion.predictor import PREFIX
from restore.errors import RestoreError
from restore.methods.options import Knowledge
from restore.methods.settings import settings_for
from restore.metrics.quality import find_lpips_trunk
from restore.restorer import of_model
from restore.runtime.devices import (
    choose_device,
    device_name,
    free_memory,
    network_dtype,
    why_device,
    why_dtype,
)
from restore.tasks import TASKS
from restore.tasks.kind import Kind
from restore.text import visible

PACKAGES = (
    "torchvision",
    "numpy",
    "scipy",
    "opencv-python",
    "scikit-image",
    "pillow",
    "tifffile",
    "kornia",
)
# Optional packages and their purpose.
OPTIONAL = {
    "pillow-heif": "HEIC pictures",
    "rawpy": "camera raws, restore develop",
    "ray": "folders on a cluster",
    "tensorboard": "logs of restore train",
    "bm3d": "a classical method of restore evaluate",
    "spandrel": "feed-forward networks, --method spandrel:FILE",
    "diffusers": "latent models",
    "transformers": "latent models with text",
    "onnx": "restore export",
    "onnxscript": "restore export",
    "onnxruntime": "restore export",
}


def gather(model: str = "default", device: str = "auto") -> dict[str, Any]:
    """Return a description of the installation for JSON; unusable parts have an ``error``.

    Args:
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
    """
    described = _model(model)
    predictor = bool(described.get("predictor"))
    return {
        "restore": {
            "version": __version__,
            "commit": commit(),
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
        },
        "device": _device(device),
        "model": described,
        "models": _models(),
        "methods": {task: _method(task, predictor) for task in TASKS},
        "packages": {
            "torch": str(torch.__version__),
            **{name: _version(name) for name in PACKAGES},
        },
        "optional": {
            name: {"version": _version(name), "for": use} for name, use in OPTIONAL.items()
        },
        "lpips": _lpips(),
    }


def problems(gathered: Mapping[str, Any]) -> list[str]:
    """Return the errors that prevent a restoration."""
    return [gathered[key]["error"] for key in ("device", "model") if "error" in gathered[key]]


def text(gathered: Mapping[str, Any]) -> str:
    """Format a description with a line for each fact."""
    lines: list[str] = []
    for name, table in gathered.items():
        lines += ["", f"{name}:"] if lines else [f"{name}:"]
        lines += [visible(f"  {key:<14} {value}") for key, value in _lines(name, table)]
    return "\n".join(lines)


def _lines(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if name == "optional":
            yield key, f"{value['version'] or 'not installed'} ({value['for']})"
        elif key.endswith("bytes"):
            yield key.removesuffix("_bytes").replace("_", " "), f"{value / 1e6:,.0f} MB"
        elif value is not None:
            yield key.replace("_", " "), _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _device(name: str) -> dict[str, Any]:
    try:
        device = choose_device(name)
    except RestoreError as error:
        return {"error": str(error)}
    return {
        "name": str(device),
        "hardware": platform.machine()
        if device_name(device) == str(device)
        else device_name(device),
        "why": why_device(name, device),
        "format": str(network_dtype(device)).removeprefix("torch."),
        "why_format": why_dtype(device),
        "free_memory_bytes": free_memory(device),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }


def _model(name: str) -> dict[str, Any]:
    try:
        if (folder := pretrained.pipeline_folder(name)) is not None:
            return _latent(name, pipelines.read(folder))
        checkpoint = pretrained.load(name)
        config = ModelConfig.from_dict(checkpoint.config)
        build_denoiser(
            config, {key: tensor.to("meta") for key, tensor in checkpoint.state.items()}, "meta"
        )
        path = pretrained.checkpoint_path(name)
    except (pretrained.CheckpointError, ValueError, TypeError, KeyError) as error:
        return {"error": of_model(name, error)}
    return {
        "name": name,
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": checkpoint.sha256,
        "parameters": sum(tensor.numel() for tensor in checkpoint.state.values()),
        "predicts": config.parameterization,
        "schedule": config.schedule.get("name"),
        "conditional": config.backbone.condition_channels > 0,
        "predictor": _predictor(config, checkpoint.state),
        "classes": config.backbone.classes or None,
        "size": config.size,
        "training": _training(path.with_suffix(".md")),
    }


def _latent(name: str, pipeline: Pipeline) -> dict[str, Any]:
    """Describe a latent model by its files, without loading it."""
    return {
        "name": name,
        "file": str(pipeline.folder),
        "size_bytes": pipeline.size,
        "latent": pipeline.family.name,
        "networks": ", ".join(pipeline.with_weights),
        "sees": pipeline.family.sees,
        "text": bool(pipeline.family.texts),
    }


def _predictor(config: ModelConfig, state: Mapping[str, Any]) -> str | None:
    """Describe the size and input of the predictor of a model, if it has one."""
    if config.predictor is None:
        return None
    parameters = sum(tensor.numel() for name, tensor in state.items() if name.startswith(PREFIX))
    return f"{parameters:,} of the parameters, shown the {config.predictor.shown} picture"


def _models() -> dict[str, Any]:
    """Describe the cache of public checkpoints and its content."""
    try:
        there = all_installed()
    except pretrained.CheckpointError as error:
        return {"cache": str(cache_folder()), "unreadable": str(error)}

    size = sum(found.size for found in there.values())
    names = {"installed": ", ".join(there) or "none", "installed_size_bytes": size}
    return {"cache": str(cache_folder()), **names, "offline": is_offline()}


def _training(card: Path) -> str | None:
    """Return the paragraph of a model card that begins with **Training.**"""
    try:
        paragraphs = card.read_text(encoding="utf-8").split("\n\n")
    except (OSError, UnicodeDecodeError):
        return None

    begin = "**Training.**"
    return next(
        (" ".join(p.removeprefix(begin).split()) for p in paragraphs if p.startswith(begin)), None
    )


def _method(task: str, predictor: bool) -> str:
    """Return the default method of a task with its steps, for each kind of problem."""
    known = Knowledge(predictor=predictor)
    return "; ".join(
        f"{kind.title + ': ' if kind.title else ''}{_default(kind, known)}"
        for kind in TASKS[task].kinds()
    )


def _default(kind: Kind, known: Knowledge) -> str:
    name, settings = settings_for(kind, known=known)
    return f"{name}, {settings.steps} step{'s' if settings.steps > 1 else ''}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lpips() -> dict[str, str]:
    try:
        return {"trunk": str(find_lpips_trunk())}
    except RestoreError as error:
        return {"missing": str(error)}
