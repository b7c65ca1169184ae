"""Super-resolution, inpainting, deblurring, denoising and colourising with a diffusion prior.

Functions take a PIL image, a numpy array or a tensor, and return the same type:

>>> import numpy as np, restore
>>> image = np.full((8, 12, 3), 128, np.uint8)
>>> restore.sr(image, scale=2).shape
(16, 24, 3)

Names are imported at first use, so that ``import restore`` is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from restore.environment import prepare
from restore.errors import RestoreError

if TYPE_CHECKING:
    from restore.metrics.signal_noise import SignalNoise
    from restore.restorer import Restorer, Result, Samples, examine
    from restore.tasks.degradation import degrade

    # made of the records of `restore.tasks`
    sr: Callable[..., Any]
    inpaint: Callable[..., Any]
    deblur: Callable[..., Any]
    denoise: Callable[..., Any]
    dejpeg: Callable[..., Any]
    colorize: Callable[..., Any]
    develop: Callable[..., Any]
    solve: Callable[..., Any]
    auto: Callable[..., Any]

__version__ = "0.2.0"

prepare()

# Modules of names other than those of tasks.
_LAZY = {
    "degrade": "restore.tasks.degradation",
    "Restorer": "restore.restorer",
    "examine": "restore.restorer",
    "Result": "restore.restorer",
    "Samples": "restore.restorer",
    "SignalNoise": "restore.metrics.signal_noise",
}

__all__ = [
    "RestoreError",
    "Restorer",
    "Result",
    "Samples",
    "SignalNoise",
    "__version__",
    "auto",
    "colorize",
    "deblur",
    "degrade",
    "dejpeg",
    "denoise",
    "develop",
    "examine",
    "inpaint",
    "solve",
    "sr",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)

    from restore.tasks import TASKS

    if name in TASKS:
        return getattr(import_module("restore.restorer"), name)

    raise AttributeError(f"module 'restore' has no attribute {name!r}")


def __dir__() -> list[str]:
    from restore.tasks import TASKS

    return sorted({*__all__, *TASKS})
