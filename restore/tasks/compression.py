"""Problems whose measurement was saved as a JPEG: its file behind any operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from operators import JpegComponent, JpegFile, LinearOperator, NonlinearChain
from restore.errors import BadArgument
from restore.photo.decode import rgb_of_inks
from restore.tasks.denoise import NOISY
from restore.tasks.kind import behind_jpeg
from restore.tasks.task import Task

if TYPE_CHECKING:
    from restore.photo.pictures import Opened
    from restore.photo.stored import StoredJpeg
    from restore.tasks.problem import Problem

# Expected error of a file, for pixels in [0, 1], below which tasks other than `dejpeg` take its
# pixels as they are (docs/jpeg.md).
LEAST_ERROR = 0.004

# The error for files of other sampling factors than those below.
UNUSABLE = (
    "`saved_quality` is missing: the tables of a JPEG whose sampling factors are no multiples of "
    "each other cannot be used; give the quality that it was saved with"
)

# What is said of a JPEG that is restored without its file.
GONE = (
    "the file of this JPEG cannot be read any more, so its pixels are taken as they are: pass an "
    "image from memory before you load it, and one from a path while its file is there"
)

# Names of the chroma subsampling by columns and rows of luma for one of chroma.
SUBSAMPLINGS = {
    (1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1",
}  # fmt: skip

# Colour spaces of a file whose planes follow from R, G and B.
_COLOURS = ("grey", "YCbCr", "RGB")


def file_of(
    stored: Sequence[StoredJpeg | None], device: torch.device | str = "cpu"
) -> JpegFile | None:
    """Return the operator of a picture's JPEG file.

    Args:
        stored: What the file of each picture of a batch says.
        device: Where the operator is to lie.

    Returns:
        None for pictures that are no JPEG, a batch of several, files in CMYK that are not parted,
        and sampling factors that are no multiples of each other.
    """
    one = stored[0] if len(stored) == 1 else None
    if one is None or one.colour not in _COLOURS:
        return None

    planes = []
    for component in one.components:
        down, row_rest = divmod(one.vertical, component.vertical)
        across, column_rest = divmod(one.horizontal, component.horizontal)
        if row_rest or column_rest:
            return None
        coefficients = torch.from_numpy(component.coefficients)[None]
        table = torch.from_numpy(component.table.astype("float32"))
        planes.append(JpegComponent(coefficients, table, down, across))

    size = (one.height, one.width)
    file = JpegFile(planes, size, one.colour, one.orientation, negative=one.negative)  # type: ignore[arg-type]
    return file.to(device)


def stated(task: Task, image: Tensor, device: torch.device | str = "cpu") -> Problem:
    """State the problem of a task, behind the JPEG of the picture's file where that helps.

    Args:
        task: The task, with what the file of each picture says.
        image: [B, 3, H, W] in [0, 1]; a measurement may have other channels.
        device: Where the problem is to lie.

    Raises:
        BadArgument: Options that do not fit the pictures, or a file that `dejpeg` cannot use.
    """
    file = file_of(task.stored, device) if task.reads_file else None
    needed = not task.kind.is_linear
    if file is None or not (needed or is_coarse(file)):
        problem = task.problem(image, device=device)
        if needed and task.reads_file:
            raise BadArgument(UNUSABLE)
        return problem

    # what the file rounded is no noise where its intervals are known, but may look like blur
    known = task if task.estimates_kernel else replace(task, rounding=())
    problem = known.problem(image, device=device)
    if not fits(problem, file):
        return task.problem(image, device=device)

    [stored] = task.stored
    assert stored is not None
    behind = restated(problem, file, in_words(stored))
    return replace(behind, remedy="") if needed else behind


def misses_file(task: Task, opened: Opened) -> bool:
    """Return True if the file of a JPEG is gone that a task could do without, but not as well."""
    return opened.gone and task.kind.is_linear and opened.rounding.error >= LEAST_ERROR


def is_coarse(file: JpegFile) -> bool:
    """Return True if what saving changed is worth more than the pixels tell."""
    return float(file.error(torch.zeros(1)).max()) >= LEAST_ERROR


def restated(problem: Problem, file: JpegFile, saved: str = "") -> Problem:
    """Return a problem whose measurement was saved as a JPEG file after it was made.

    Args:
        problem: A linear problem of one picture.
        file: The file of its measurement.
        saved: Quality and subsampling of the file in words.
    """
    operator = problem.operator
    assert isinstance(operator, LinearOperator)
    direct = NOISY.matches(operator)
    chain = NonlinearChain([file] if direct else [operator, file], operator.input_shape)

    return replace(
        problem,
        kind=behind_jpeg(problem.kind, direct=direct),
        operator=chain.to(problem.measurement.device),
        measurement=file.decoded(operator.output_shape[0]),
        written="jpeg" if direct else f"{problem.written}+jpeg",
        remedy="`jpeg`=off, which takes the pixels as they are",
        file=file,
        saved=saved,
    )


def in_words(stored: StoredJpeg) -> str:
    """Return how a JPEG was saved: "quality 75, 4:2:0"; of a part, how the whole file was."""
    stored = stored.whole or stored
    quality = "tables of its own" if stored.quality is None else f"quality {stored.quality}"
    if len(stored.components) == 1:
        return f"{quality}, grey"

    first, second, *_ = stored.components
    across = first.horizontal // second.horizontal
    down = first.vertical // second.vertical
    subsampling = SUBSAMPLINGS.get((across, down), "chroma of its own")
    return f"{quality}, {subsampling}{', CMYK' if stored.is_ink else ''}"


def fits(problem: Problem, file: JpegFile) -> bool:
    """Return True if a file can hold the measurement of a problem."""
    operator = problem.operator
    if not isinstance(operator, LinearOperator) or problem.is_answered:
        return False

    channels, height, width = operator.output_shape
    turned = file.orientation >= 5
    size = (width, height) if turned else (height, width)
    return size == file.stored_size and (channels == 3 or file.colour == "grey")


def picture_of_inks(solutions: Tensor, stored: StoredJpeg) -> Tensor:
    """Turn the restored parts of a file of inks into sRGB, by the file's profile if it has one.

    Args:
        solutions: [K, 2, 3, H, W] in [0, 1]: cyan, magenta and yellow, and black, light where there
            is little ink.
        stored: The file, see `StoredJpeg.parted`.

    Returns:
        [K, 1, 3, H, W] in [0, 1].
    """
    colours, black = solutions.unbind(dim=1)
    light = torch.cat([colours, black.mean(dim=1, keepdim=True)], dim=1)
    inks = 255 - (255 * light).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    pictures = [torch.from_numpy(rgb_of_inks(one, stored.profile)) for one in inks]

    return torch.stack(pictures).permute(0, 3, 1, 2)[:, None].to(solutions) / 255


def fraction_inside(problem: Problem, result: Tensor) -> float | None:
    """Return the fraction of coefficients that pictures in 8 bits have in their intervals."""
    file = problem.file
    if file is None:
        return None

    chain = problem.operator
    assert isinstance(chain, NonlinearChain)
    in_eight_bits = (255 * result).round() / 255
    return float(file.inside(chain.measure(in_eight_bits)).mean())
