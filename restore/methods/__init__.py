"""Methods that solve inverse problems, one file and one record each.

Shell completion reads `NAMES`, so the records, which need PyTorch, are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restore.methods.method import Method

    METHODS: dict[str, Method]

# In the order of help and errors: those of few cheap calls, those guided by a gradient, those of
# many calls, those of conditional networks, those of latents. The record of `one-step` is ONE_STEP
# in one_step.py.
NAMES = (
    "ddrm",
    "diffpir",
    "dpir",
    "ddnm",
    "ddpg",
    "repaint",
    "red-diff",
    "dps",
    "pigdm",
    "conjugate-pigdm",
    "daps",
    "pnp-dm",
    "snips",
    "sr3",
    "i2sb",
    "one-step",
    "latent-dps",
    "psld",
    "resample",
    "latent-daps",
)

__all__ = ["METHODS", "NAMES", "Method"]


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        globals()[name] = {method: _record(method) for method in NAMES}
        return globals()[name]
    if name == "Method":
        from restore.methods.method import Method

        return Method

    raise AttributeError(f"module 'restore.methods' has no attribute {name!r}")


def _record(name: str) -> Method:
    module = name.replace("-", "_")
    record: Method = getattr(import_module(f"restore.methods.{module}"), module.upper())
    return record
