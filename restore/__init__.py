"""restore: super-resolution, inpainting, deblurring, denoising and colourising with one diffusion
prior.

>>> import restore
>>> sharp = restore.sr(image, scale=4)             # PIL image, numpy array or tensor in, the same
kind out
>>> whole = restore.inpaint(image, mask)           # white = fill

Names are imported when they are first used, so that ``import restore`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from restore.errors import RestoreError

if TYPE_CHECKING:
    from restore.restorer import (
        Restorer,
        Result,
        Samples,
        colorize,
        deblur,
        denoise,
        inpaint,
        solve,
        sr,
    )
    from restore.tasks.degradation import degrade

__version__ = "0.1.0"

_LAZY = {
    "degrade": "restore.tasks.degradation",
    **dict.fromkeys(
        (
            "Restorer",
            "Result",
            "Samples",
            "colorize",
            "deblur",
            "denoise",
            "inpaint",
            "solve",
            "sr",
        ),
        "restore.restorer",
    ),
}
"""Where each name is found."""

__all__ = [
    "RestoreError",
    "Restorer",
    "Result",
    "Samples",
    "__version__",
    "colorize",
    "deblur",
    "degrade",
    "denoise",
    "inpaint",
    "solve",
    "sr",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'restore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
