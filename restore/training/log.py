"""The log of a run: a CSV table, and TensorBoard files where TensorBoard is installed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.errors import FileAccess, UnreadableInput
from restore.files import write_atomically

# σ at the edges of the five columns of losses.
NOISE_EDGES = (0.06, 0.25, 1.0, 4.0)
_BINS = ("below 0.06", "0.06 to 0.25", "0.25 to 1", "1 to 4", "above 4")
LOSS_COLUMNS = tuple(f"{kind} {name}" for kind in ("prior", "conditional") for name in _BINS)
QUALITY_COLUMNS = ("psnr 15", "psnr 25", "psnr 50", "psnr x4")
PREDICTOR_COLUMNS = ("predictor loss", "psnr x4 predicted")
ACCURACY_COLUMNS = tuple(f"accuracy {name}" for name in _BINS)
DISTILLATION_COLUMNS = ("like teacher", "like teacher x4")
COLUMNS = (
    *("step", "seconds", "share", "rate", "loss", "gradient", "pixels_per_second"),
    *LOSS_COLUMNS,
    *QUALITY_COLUMNS,
    *DISTILLATION_COLUMNS,
    *PREDICTOR_COLUMNS,
    *ACCURACY_COLUMNS,
)


class BinnedLosses:
    """Mean losses since the last row, in five bins of σ.

    Unconditional and conditional pictures have their own bins.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums = torch.zeros(10, dtype=torch.float64)
        self.counts = torch.zeros(10, dtype=torch.float64)

    def add(self, gamma: Tensor, conditional: Tensor, loss: Tensor) -> None:
        """Add levels γ, bool conditional, and losses; all [B] on the CPU."""
        index = _bin_of(gamma) + 5 * conditional.long()
        self.counts += torch.bincount(index, minlength=10)
        self.sums += torch.bincount(index, loss.double(), minlength=10)

    def means(self) -> dict[str, float]:
        """Return ``{column: mean}`` of the bins that are not empty."""
        found = zip(LOSS_COLUMNS, self.sums.tolist(), self.counts.tolist(), strict=True)
        return {name: total / count for name, total, count in found if count}


class BinnedAccuracy:
    """Percentage of pictures since the last row whose class was found, in five bins of σ."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hits = torch.zeros(5, dtype=torch.float64)
        self.counts = torch.zeros(5, dtype=torch.float64)

    def add(self, gamma: Tensor, hits: Tensor) -> None:
        """Add levels γ and whether the class was found, both [B] on the CPU."""
        index = _bin_of(gamma)
        self.counts += torch.bincount(index, minlength=5)
        self.hits += torch.bincount(index, hits.double(), minlength=5)

    def percentages(self) -> dict[str, float]:
        """Return ``{column: percentage}`` of the bins that are not empty."""
        found = zip(ACCURACY_COLUMNS, self.hits.tolist(), self.counts.tolist(), strict=True)
        return {name: 100 * hits / count for name, hits, count in found if count}


def _bin_of(gamma: Tensor) -> Tensor:
    """Return the bin of σ, 0 to 4, of levels γ [B]."""
    sigma = ((1 - gamma) / gamma).clamp_min(0).sqrt()
    return torch.bucketize(sigma, torch.tensor(NOISE_EDGES))


class Log:
    """``log.csv`` in a run folder, written row by row, and TensorBoard files beside it.

    Args:
        folder: The run folder.
        step: Rows after this step are dropped, as they are about to be done again; 0 begins a log.
        notice: Called if there are no TensorBoard files, with the reason.

    Raises:
        FileAccess: The folder cannot be written.
    """

    def __init__(self, folder: Path, step: int, notice: Callable[[str], None]) -> None:
        self.path = folder / "log.csv"
        self._board = _tensorboard(folder / "tensorboard", step, notice)
        rows = _rows(self.path, step) if step else []
        write_atomically(_csv([COLUMNS, *rows]).encode(), self.path, overwrite=True)

    def row(self, values: Mapping[str, Any]) -> None:
        """Append a row; columns without a value stay empty.

        Raises:
            FileAccess: The file cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(_csv([[_text(values.get(column)) for column in COLUMNS]]))
            for column in COLUMNS[2:] if self._board else ():
                if values.get(column) is not None:
                    self._board.add_scalar(
                        column.replace(" ", "/", 1), values[column], values["step"]
                    )
        except OSError as error:
            raise FileAccess(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        if self._board:
            self._board.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the rows of a log as numbers, without empty fields."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _tensorboard(folder: Path, step: int, notice: Callable[[str], None]) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        notice("no TensorBoard files: tensorboard is not installed")
        return None
    return SummaryWriter(str(folder), purge_step=step or None)


def _rows(path: Path, step: int) -> list[list[str]]:
    """Read the rows up to ``step``, without a row that was cut short."""
    if not path.is_file():
        return []

    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:
        raise UnreadableInput(f"{path}: not a log of training: {error}") from None

    whole = (
        row
        for row in rows
        if len(row) == len(header) and row[0].isdecimal() and int(row[0]) <= step
    )

    # logs of older versions have fewer columns
    return [row + [""] * (len(COLUMNS) - len(row)) for row in whole]


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f"{value:.6g}"
