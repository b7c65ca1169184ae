"""What an exported file says of itself: metadata in the file, and the card beside it."""

from __future__ import annotations

import pretrained
from pretrained.store import source_of
from restore import __version__
from restore.export.order import Order
from restore.text import visible

# What is said of the licence of weights that state none.
UNSTATED = "not stated; ask whoever made the weights"


def licence_of(model: str) -> str:
    """Return the licence of a model's weights, as far as it is known.

    >>> licence_of("default")
    'Apache-2.0'
    """
    if model in pretrained.SHIPPED:
        return pretrained.SHIPPED_LICENCE

    source = source_of(model)
    if source is None:
        return UNSTATED
    if source.entry is None:
        return f"see the page of {source.repository} on the Hugging Face hub"
    return source.entry.licence


def metadata_of(order: Order, sha256: str) -> dict[str, str]:
    """Return what is written into the file, by name.

    Args:
        order: What is exported.
        sha256: Digest of the model's weights.
    """
    noise = {"noise": f"{order.noise:g}"} if order.noise is not None else {}
    return {
        "name": visible(order.name),
        "task": order.task,
        "scale": str(order.scale),
        "method": "one-step",
        "model": visible(pretrained.short_name(order.model)),
        "weights_sha256": sha256,
        "license": licence_of(order.model),
        "version": f"restore {__version__}",
        "layout": "RGB, [1, 3, height, width], any height and width",
        "range": "0 to 1",
        **noise,
    }
