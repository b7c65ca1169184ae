"""Export of a model to an ONNX file with its card, compared with PyTorch before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from restore import __version__
from restore.errors import BadArgument, RestoreError
from restore.export import onnx_file
from restore.export.about import metadata_of
from restore.export.card import card_of
from restore.export.order import Order
from restore.files import refuse_existing, write_atomically
from restore.jobs.plan import check_writable
from restore.precision import single_precision
from restore.restorer import check_prior, load_denoiser, model_digest
from restore.text import visible

SUFFIX = ".onnx"

# Sizes (height, width) that the network does not divide, of the pictures that are compared.
COMPARED = ((17, 23), (41, 10))

# Largest difference between ONNX Runtime and PyTorch, for values in [0, 1].
TOLERANCE = 1e-4


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        path: The file.
        card: Its card.
        bytes: Size of the file.
        difference: Largest difference between ONNX Runtime and PyTorch.
        sizes: Sizes of the pictures that were compared, in words.
    """

    path: Path
    card: Path
    bytes: int
    difference: float
    sizes: str


def files_of(target: Path) -> tuple[Path, Path]:
    """Return the file of a target, and its card."""
    return target, target.with_suffix(".md")


def check(order: Order, target: Path, *, overwrite: bool = False) -> None:
    """Check options and output, before the model is loaded.

    Raises:
        BadArgument: An invalid option, or a target without the suffix ``.onnx``.
        FileAccess: A file that exists or cannot be written.
        Unavailable: A package of the extra is missing.
    """
    order.check()
    if target.suffix.lower() != SUFFIX:
        raise BadArgument(f"{target}: an ONNX file must end with {SUFFIX}")
    for path in files_of(target):
        refuse_existing(path, overwrite)
        check_writable(path.parent)

    onnx_file.check_installed()


@single_precision()
def export_to(target: Path, order: Order, *, overwrite: bool = False) -> Exported:
    """Write the one-step method of a model as ONNX, and the card beside it.

    Args:
        target: The ONNX file; the card has its name with the suffix ``.md``.
        order: What to export.
        overwrite: True to overwrite existing files.

    Raises:
        BadArgument: An invalid option, or a model that cannot do the task.
        FileAccess: A file that exists or cannot be written.
        RestoreError: ONNX Runtime's results differ from PyTorch's.
        Unavailable: No such model, or a package of the extra is missing.
    """
    check(order, target, overwrite=overwrite)
    denoiser = load_denoiser(order.model, torch.device("cpu"), torch.float32)
    if order.task == "denoise":
        check_prior(denoiser, order.model)
    graph = order.graph(denoiser)

    model = onnx_file.converted(graph, order.scale, order.takes_noise)
    about = metadata_of(order, model_digest(order.model))
    onnx_file.describe(model, about, "restore", __version__)
    if order.half:
        onnx_file.halve(model)

    content = model.SerializeToString()
    differences = [
        onnx_file.difference(content, graph, size, order.takes_noise) for size in COMPARED
    ]
    sizes = " and ".join(f"{width}x{height}" for height, width in COMPARED)
    largest = max(differences)
    if not largest <= TOLERANCE:
        lost = "; without `half` the weights keep their digits" if order.half else ""
        raise RestoreError(
            f"{target}: not written: ONNX Runtime's results differ from PyTorch's by "
            f"{largest:.1e}, at most {TOLERANCE:g} is allowed{lost}"
        )

    path, card = files_of(target)
    text = card_of(order, about, visible(path.name), largest, sizes)
    write_atomically(content, path, overwrite)
    write_atomically(text.encode(), card, overwrite)
    return Exported(path, card, len(content), largest, sizes)
