"""Measurements as files: the numbers themselves, beside the picture that a person can look at."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.files import refuse_existing, write_atomically

MEASUREMENT_SUFFIXES = frozenset({".npz", ".npy"})


@dataclass(frozen=True)
class Measurement:
    """What an operator made of a picture, and how.

    Attributes:
        values: float32 [C, h, w], ``A x + noise`` for a picture x in [0, 1]; neither clipped nor rounded.
        operator: as text, see `operators.text`; None where it is not known.
        noise: standard deviation of the noise, in the same units; None where it is not known.
        size: (width, height) of the picture; None where it is not known.
        bits: depth of the picture's file.
    """

    values: Tensor
    operator: str | None = None
    noise: float | None = None
    size: tuple[int, int] | None = None
    bits: int = 8


def write_measurement(measurement: Measurement, path: Path, *, overwrite: bool = False) -> None:
    """Write a numpy file .npz with the arrays ``measurement, operator, noise, size, bits``, whole or not at all.

    Raises:
        FileAccess: the file exists and may not be replaced, or cannot be written.
    """
    refuse_existing(path, overwrite)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        measurement=measurement.values.cpu().numpy(),
        operator=np.array(measurement.operator),
        noise=np.float64(measurement.noise),
        size=np.array(measurement.size, dtype=np.int64),
        bits=np.int64(measurement.bits),
    )
    write_atomically(buffer.getvalue(), path, overwrite)


def read_measurement(path: Path) -> Measurement:
    """Read what `write_measurement` wrote, or a plain array [C, h, w] or [h, w] from a .npy file.

    Raises:
        FileAccess: the file cannot be read.
        UnreadableInput: it holds no measurement.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        fields = {"measurement": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        values = _checked(fields["measurement"])
        return Measurement(
            values,
            operator=str(fields["operator"]) if "operator" in fields else None,
            noise=float(fields["noise"]) if "noise" in fields else None,
            size=_size(fields.get("size")),
            bits=16 if int(fields.get("bits", 8)) == 16 else 8,
        )
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UnreadableInput(
            f"{path}: not a measurement ({error}); `restore degrade` writes them as .npz, and a .npy file with one "
            "array of real numbers [C, h, w] or [h, w] is one, too"
        ) from None


def complete(arguments: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    """The arguments of `tasks.solving`, where they were not given as the file has them.

    Raises:
        BadArgument: the operator is neither given nor in the file.
    """
    import operators

    text = arguments.get("operator") or measurement.operator
    if text is None:
        raise BadArgument("--operator is missing, and this file does not say how it was measured")
    noise, size = arguments.get("noise"), arguments.get("size")
    linear = not isinstance(text, str) or operators.parse(text).linear
    if noise is None and linear and (text == measurement.operator or measurement.operator is None):
        noise = measurement.noise
    return {**arguments, "operator": text, "noise": noise, "size": size or measurement.size}


def _checked(values: np.ndarray) -> Tensor:
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.size == 0 or values.dtype.kind not in "fiu":
        raise ValueError(f"an array of shape {values.shape} and type {values.dtype}")
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("numbers that are not finite")
    return tensor


def _size(values: np.ndarray | None) -> tuple[int, int] | None:
    if values is None:
        return None
    width, height = (int(n) for n in values)
    return width, height
