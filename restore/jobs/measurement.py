"""Measurement files, which hold the numbers of a degraded picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import operators
from restore.errors import FileAccess, UnreadableInput

MEASUREMENT_SUFFIXES = frozenset({".npz", ".npy"})


@dataclass(frozen=True)
class Measurement:
    """A measurement of a picture and its operator.

    Attributes:
        values: float32 [C, h, w], ``A x + noise`` for a picture x in [0, 1]; neither clipped nor
            rounded.
        operator: the operator as text, see `operators.text`; None if unknown.
        noise: standard deviation of the noise, in the same units; None if unknown.
        size: (width, height) of the picture; None if unknown.
        bits: bits per channel of the file of the picture.
    """

    values: Tensor
    operator: str | None = None
    noise: float | None = None
    size: tuple[int, int] | None = None
    bits: int = 8


def encoded(measurement: Measurement) -> bytes:
    """Encode a measurement as .npz: ``measurement``, ``bits``, known operator, noise, size."""
    fields: dict[str, Any] = {
        "measurement": measurement.values.cpu().numpy(),
        "bits": np.int64(measurement.bits),
    }
    if measurement.operator is not None:
        fields["operator"] = np.array(measurement.operator)
    if measurement.noise is not None:
        fields["noise"] = np.float64(measurement.noise)
    if measurement.size is not None:
        fields["size"] = np.array(measurement.size, dtype=np.int64)

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **fields)

    return buffer.getvalue()


def read_measurement(path: Path) -> Measurement:
    """Read a measurement from .npz, or from .npy with a plain array [C, h, w] or [h, w].

    Raises:
        FileAccess: the file cannot be read.
        UnreadableInput: the file holds no measurement.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        fields = (
            {"measurement": loaded}
            if isinstance(loaded, np.ndarray)
            else {k: loaded[k] for k in loaded.files}
        )
        return Measurement(
            _checked(fields["measurement"]),
            operator=_text(fields.get("operator")),
            noise=_level(fields.get("noise")),
            size=_size(fields.get("size")),
            bits=16 if int(fields.get("bits", 8)) == 16 else 8,
        )
    except Exception as error:  # numpy and zipfile raise many types for a damaged file
        raise UnreadableInput(
            f"{path}: not a measurement ({str(error) or type(error).__name__}); `restore degrade` "
            "writes them as .npz, and a .npy file with one array [C, h, w] or [h, w] is one, too, "
            "of floating-point numbers or 8 or 16 bits"
        ) from None


def _text(operator: Any) -> str | None:
    """Return the canonical text of an operator."""
    return None if operator is None else str(operators.parse(str(operator)))


def _level(noise: Any) -> float | None:
    if noise is None:
        return None
    if not 0 <= float(noise) <= 1:
        raise ValueError(f"a noise of {float(noise)}")
    return float(noise)


def _checked(values: np.ndarray) -> Tensor:
    if values.ndim == 2:
        values = values[None]

    scale = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(values.dtype, 1)
    if values.ndim != 3 or values.size == 0 or (scale == 1 and values.dtype.kind != "f"):
        raise ValueError(f"an array of shape {values.shape} and type {values.dtype}")

    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) / scale
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("numbers that are not finite")

    return tensor


def _size(values: np.ndarray | None) -> tuple[int, int] | None:
    if values is None:
        return None
    width, height = (int(n) for n in values)
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width}x{height} pixels")
    return width, height
