"""What reproduces the scores of an evaluation."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import pretrained
from restore import __version__
from restore.evaluate.settings import Settings, mask_words
from restore.files import Fingerprint
from restore.methods.feed_forward import check_file
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.report.html import printable
from restore.restorer import Restorer
from restore.restorer.checks import knowledge_of
from restore.runtime.devices import HOST, device_name
from restore.tasks.kind import Kind

# Packages that scores depend on.
_PACKAGES = (
    "torch",
    "numpy",
    "opencv-python",
    "scikit-image",
    "scipy",
    "pillow",
    "kornia",
    "lpips",
    "bm3d",
    "spandrel",
)


def about(
    settings: Settings,
    folder: Path,
    kind: Kind,
    methods: Sequence[str],
    restorer: Restorer | None,
    networks: Mapping[str, str],
) -> dict[str, Any]:
    """Return what reproduces the scores; names only, no paths.

    Args:
        settings: the settings of the evaluation.
        folder: folder of the pictures.
        kind: kind of the problems.
        methods: the methods that were compared.
        restorer: the model; None if no method needs it.
        networks: third-party networks by short name.
    """
    shown = {
        k: v
        for k, v in asdict(settings).items()
        if k not in ("methods", "model", "device", "task") and v is not None
    }
    if "mask" in shown and mask_words(settings) is None:
        shown["mask"] = Path(shown["mask"]).name

    found = {
        "task": settings.task,
        "degradation": _degradation(settings),
        "folder": printable(folder.resolve().name),
        **shown,
        "luma_border": settings.cropped_border,
        "methods": methods,
        "model": "none",
        "device": str(HOST),
        "dtype": "float32",
        "threads": torch.get_num_threads(),
    }
    if restorer is not None:
        found |= _of_model(settings, kind, restorer)
    if networks:
        found["networks_sha256"] = {
            name: Fingerprint.of(check_file(network)).sha256 for name, network in networks.items()
        }

    return found | {"versions": {"restore": __version__, **_versions()}}


def _of_model(settings: Settings, kind: Kind, restorer: Restorer) -> dict[str, Any]:
    known = knowledge_of(restorer.denoiser)
    return {
        "auto": settings_for(kind, Options(steps=settings.steps), known)[0],
        "model": pretrained.short_name(settings.model),
        "model_sha256": pretrained.digest(settings.model),
        "device": device_name(restorer.device),
        "dtype": str(restorer.dtype).removeprefix("torch."),
    }


def _degradation(settings: Settings) -> str:
    """Describe the degradation for a heading."""
    if settings.mask:
        return f"mask {settings.mask if mask_words(settings) else 'from files'}"

    return settings.stated(settings.noise).degradation_title


def _versions() -> dict[str, str]:
    """Return the versions of installed packages that scores depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue

    return found
