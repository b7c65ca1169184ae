"""Measurement files, which hold the numbers of a degraded picture."""

from __future__ import annotations

import io
import math
import zipfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

import operators
from restore.errors import FileAccess, UnreadableInput
from restore.files import open_regular
from restore.metrics.signal_noise import SignalNoise
from restore.tasks.problem import MAX_OUTPUT_PIXELS

MEASUREMENT_SUFFIXES = frozenset({".npz", ".npy"})

# Arrays of a measurement file, each with the bytes that it has at most; others are not read.
FIELDS = {
    "measurement": 8 * 3 * MAX_OUTPUT_PIXELS,
    "operator": 2**20,
    "noise": 2**10,
    "signal_noise": 2**10,
    "size": 2**10,
    "bits": 2**10,
}


@dataclass(frozen=True)
class Measurement:
    """A measurement of a picture and its operator.

    Attributes:
        values: float32 [C, h, w], ``A x + noise`` for a picture x in [0, 1]; neither clipped nor
            rounded.
        operator: the operator as text, see `operators.text`; None if unknown.
        noise: standard deviation of the noise, in the same units, or how it depends on the signal;
            None if unknown.
        size: (width, height) of the picture; None if unknown.
        bits: bits per channel of the file of the picture.
    """

    values: Tensor
    operator: str | None = None
    noise: float | SignalNoise | None = None
    size: tuple[int, int] | None = None
    bits: int = 8


def encoded(measurement: Measurement) -> bytes:
    """Encode a measurement as .npz: ``measurement``, ``bits``, known operator, noise, size.

    The pair of noise that depends on the signal is ``signal_noise``, instead of ``noise``.
    """
    fields: dict[str, Any] = {
        "measurement": measurement.values.cpu().numpy(),
        "bits": np.int64(measurement.bits),
    }
    if measurement.operator is not None:
        fields["operator"] = np.array(measurement.operator)
    if isinstance(measurement.noise, SignalNoise):
        fields["signal_noise"] = np.array([measurement.noise.a, measurement.noise.b])
    elif measurement.noise is not None:
        fields["noise"] = np.float64(measurement.noise)
    if measurement.size is not None:
        fields["size"] = np.array(measurement.size, dtype=np.int64)

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **fields)

    return buffer.getvalue()


def read_measurement(path: Path, file: BinaryIO | None = None) -> Measurement:
    """Read a measurement from .npz, or from .npy with a plain array [C, h, w] or [h, w].

    Args:
        path: the file.
        file: the file at its start, if it is open already.

    Raises:
        FileAccess: the file cannot be read.
        UnreadableInput: the file holds no measurement.
    """
    try:
        with open_regular(path) if file is None else nullcontext(file) as opened:
            fields = _fields(opened)
        return Measurement(
            _checked(fields["measurement"]),
            operator=_text(fields.get("operator")),
            noise=_signal(fields.get("signal_noise")) or _level(fields.get("noise")),
            size=_size(fields.get("size")),
            bits=16 if int(fields.get("bits", 8)) == 16 else 8,
        )
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # numpy and zipfile raise many types for a damaged file
        raise UnreadableInput(
            f"{path}: not a measurement ({str(error) or type(error).__name__}); `restore degrade` "
            "writes them as .npz, and a .npy file with one array [C, h, w] or [h, w] is one, too, "
            "of floating-point numbers or 8 or 16 bits"
        ) from None


def _fields(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read the arrays of a measurement by name, and no others.

    Raises:
        ValueError: An array claims to be larger than any measurement.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return {"measurement": _array(file, FIELDS["measurement"])}

    with zipfile.ZipFile(file) as archive:
        fields = {}
        for name, most in FIELDS.items():
            if f"{name}.npy" in archive.namelist():
                with archive.open(f"{name}.npy") as member:
                    fields[name] = _array(member, most)

    return fields


def _array(file: IO[bytes], most: int) -> np.ndarray:
    """Read an array whose header claims no more than so many bytes."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise ValueError(f"an array of {size:,} bytes; at most {most:,} are allowed")

    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError("an array that is not as long as it says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()


def _text(operator: Any) -> str | None:
    """Return the canonical text of an operator."""
    return None if operator is None else str(operators.parse(str(operator)))


def _signal(pair: Any) -> SignalNoise | None:
    if pair is None:
        return None
    a, b = (float(number) for number in pair)
    return SignalNoise(a, b)


def _level(noise: Any) -> float | None:
    if noise is None:
        return None
    if not 0 <= float(noise) <= 1:
        raise ValueError(f"a noise of {float(noise)}")
    return float(noise)


def _checked(values: np.ndarray) -> Tensor:
    if values.ndim == 2:
        values = values[None]

    scale = {"u1": 255, "u2": 65535}.get(values.dtype.str[1:], 1)
    if values.ndim != 3 or values.size == 0 or (scale == 1 and values.dtype.kind != "f"):
        raise ValueError(f"an array of shape {values.shape} and type {values.dtype}")
    if values.shape[0] > 4 >= values.shape[2]:
        raise ValueError(f"an array of shape {values.shape}, whose channels come last")

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
