"""Scores of restored pictures, their means, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, NamedTuple

from torch import Tensor

from restore.errors import BadArgument
from restore.evaluate.protocol import Case, EightBit, to_tensor
from restore.metrics import quality

Lpips = Callable[[Tensor, Tensor], Tensor]
Value = float | None


@dataclass(frozen=True)
class Score:
    """Scores of one method on one picture; None is not available, see `Column.about`.

    Attributes:
        psnr: PSNR over R, G and B in dB; infinite for equal pictures.
        psnr_y: PSNR of the luma in dB; infinite for equal pictures.
        ssim: SSIM over R, G and B; None for a picture that is too small.
        ssim_y: SSIM of the luma; None for a picture that is too small.
        lpips: LPIPS; None for a picture that is too small, or without its network.
        consistency: RMS of A x − y in [0, 1] units; None if a result cannot be compared.
        colour_shift: mean over the channels of the difference of their means, in 1/255.
        calls: number of network calls.
        seconds: wall-clock time from measurement to result, with the set-up of the operator.
        memory: peak memory in MiB.
    """

    psnr: float
    psnr_y: float
    ssim: Value
    ssim_y: Value
    lpips: Value
    consistency: Value
    colour_shift: float
    calls: int | None = None
    seconds: Value = None
    memory: Value = None


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        heading: heading of the column.
        style: format specification of values.
        best: function that returns the best value; None if no value is.
        fold: function from the scores of pictures to that of the method.
        about: explanation for the reader.
    """

    heading: str
    style: str
    best: Callable[[Iterable[float]], float] | None
    fold: Callable[[Sequence[float]], float]
    about: str


COLUMNS: dict[str, Column] = {
    "psnr": Column("PSNR", ".2f", max, fmean, "dB over R, G and B, the whole picture"),
    "psnr_y": Column("PSNR-Y", ".2f", max, fmean, "dB of the luma (BT.601, as MATLAB's rgb2ycbcr)"),
    "ssim": Column("SSIM", ".4f", max, fmean, "over R, G and B, the whole picture"),
    "ssim_y": Column("SSIM-Y", ".4f", max, fmean, "over the luma"),
    "lpips": Column(
        "LPIPS", ".4f", min, fmean, "perceptual distance, AlexNet, version 0.1; lower is better"
    ),
    "consistency": Column(
        "consistency",
        ".5f",
        None,
        fmean,
        "RMS of A x − y in [0, 1]; below the truth's own it fits noise",
    ),
    "colour_shift": Column(
        "shift", ".2f", min, fmean, "how far the mean colour is from the truth's, in 1/255"
    ),
    "calls": Column("calls", ".0f", None, fmean, "number of network calls"),
    "seconds": Column(
        "seconds", ".3f", min, fmean, "wall-clock time, the operator's set-up included"
    ),
    "memory": Column(
        "MiB",
        ".0f",
        None,
        max,
        "peak over the pictures: growth of the process on a CPU, what CUDA allocated",
    ),
}
assert list(COLUMNS) == [field.name for field in fields(Score)]

# Scores of the pictures that each method restored, by method.
Scores = Mapping[str, Sequence[Score]]


def score(case: Case, result: EightBit, lpips: Lpips | None, border: int = 0) -> Score:
    """Return the scores of a result.

    Args:
        case: the degraded picture with its truth.
        result: [H, W, 3] in 8 bits.
        lpips: the LPIPS metric; None leaves it out.
        border: pixels on every side that scores of the luma leave out.

    Raises:
        BadArgument: the result has another size than the truth, or the border leaves nothing.
    """
    if result.shape != case.truth.shape:
        raise BadArgument(f"a result of shape {result.shape} for a truth of {case.truth.shape}")

    estimate = to_tensor(result)
    truth = to_tensor(case.truth)
    inside = _luma_inside(estimate, border), _luma_inside(truth, border)

    return Score(
        psnr=float(quality.psnr(estimate, truth)),
        psnr_y=float(quality.psnr_y(estimate, truth, border)),
        ssim=_if_large_enough(quality.ssim, estimate, truth),
        ssim_y=_if_large_enough(quality.ssim, *inside),
        lpips=None if lpips is None else _if_large_enough(lpips, estimate, truth),
        consistency=consistency(case, result),
        colour_shift=255 * float((estimate.mean((0, 2, 3)) - truth.mean((0, 2, 3))).abs().mean()),
    )


def consistency(case: Case, result: EightBit) -> Value:
    """Return the RMS of A x − y in [0, 1] units; None if not comparable, see `Case.explained`."""
    if case.explained is None:
        return None
    operator, measurement = case.explained
    return float(quality.consistency(operator, to_tensor(result), measurement))


def means(scores: Sequence[Score]) -> dict[str, Value]:
    """Return the mean of every column over the pictures that have a score, None without any."""
    found: dict[str, Value] = {}
    for key, column in COLUMNS.items():
        values = [value for one in scores if (value := getattr(one, key)) is not None]
        found[key] = column.fold(values) if values else None
    return found


def cells(scores: Scores) -> dict[str, list[tuple[str, bool]]]:
    """Return the body of the table: by method, the text of each cell and True for the best."""
    rows = {method: means(of) for method, of in scores.items()}
    return {
        method: [_cell(key, row, rows.values()) for key in COLUMNS] for method, row in rows.items()
    }


def table(scores: Scores) -> str:
    """Return the table in markdown, with the best value of each column in bold.

    It states the number of pictures of each method if these numbers differ.
    """
    counts = {len(of) for of in scores.values()}
    lines = [
        "| method | " + " | ".join(column.heading for column in COLUMNS.values()) + " |",
        "|---" + "|---:" * len(COLUMNS) + "|",
    ]
    for method, row in cells(scores).items():
        name = method if len(counts) == 1 else f"{method} ({len(scores[method])} pictures)"
        lines.append(
            f"| {name} | "
            + " | ".join(f"**{text}**" if best else text for text, best in row)
            + " |"
        )

    return "\n".join(lines) + "\n"


def plain(one: Score) -> dict[str, Any]:
    """Return scores for JSON, with ``"inf"`` for infinity."""
    found = {key: getattr(one, key) for key in COLUMNS}
    return {key: "inf" if value == math.inf else value for key, value in found.items()}


def _cell(
    key: str, row: Mapping[str, Value], rows: Iterable[Mapping[str, Value]]
) -> tuple[str, bool]:
    column = COLUMNS[key]
    value = row[key]
    if value is None:
        return "", False

    text = format(value, column.style)
    values = [other for one in rows if (other := one[key]) is not None]
    best = (
        column.best is not None
        and len(values) > 1
        and text == format(column.best(values), column.style)
    )

    return text, best


def _luma_inside(picture: Tensor, border: int) -> Tensor:
    """Return the luma without a border, [1, 1, H − 2 border, W − 2 border]."""
    height, width = picture.shape[-2:]
    return quality.luma(picture)[..., border : height - border, border : width - border]


def _if_large_enough(metric: Lpips, estimate: Tensor, truth: Tensor) -> Value:
    try:
        return float(metric(estimate, truth))
    except BadArgument:
        return None
