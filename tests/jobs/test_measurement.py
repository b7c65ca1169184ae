"""Measurement files: what is read of them, and what is refused before it fills the memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.errors import FileAccess, UnreadableInput
from restore.jobs.measurement import Measurement, encoded, read_measurement

VALUES = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))


def claimed(shape: tuple[int, ...], dtype: str = "<f8", data: bytes = b"") -> bytes:
    """An array file whose header claims a shape."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return np.lib.format.magic(1, 0) + struct.pack("<H", 118) + header.ljust(117) + b"\n" + data


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def array(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value))
    return buffer.getvalue()


def test_what_is_written_is_read(tmp_path) -> None:
    given = Measurement(VALUES, "down:bicubic:2", 0.05, (10, 8), 16)
    path = tmp_path / "m.npz"
    path.write_bytes(encoded(given))
    found = read_measurement(path)
    assert torch.equal(found.values, VALUES)
    assert (found.operator, found.noise, found.size, found.bits) == (
        given.operator,
        given.noise,
        given.size,
        given.bits,
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_plain_array_keeps_its_order(tmp_path, order) -> None:
    path = tmp_path / "m.npy"
    np.save(path, np.asarray(VALUES.double().numpy(), order=order))
    assert torch.equal(read_measurement(path).values, VALUES)
    path.write_bytes(array(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    assert torch.equal(read_measurement(path).values, torch.arange(6).reshape(1, 2, 3) / 255)


def test_members_that_nobody_asked_for_are_not_read(tmp_path) -> None:
    """A small file may hold an array that expands to gigabytes."""
    large = claimed((5000, 5000), data=bytes(8 * 5000**2))
    path = archive(tmp_path / "m.npz", extra=large, measurement=array(VALUES.numpy()))
    assert path.stat().st_size < 2**20
    del large
    tracemalloc.start()
    assert torch.equal(read_measurement(path).values, VALUES)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"measurement": claimed((10**6, 10**6))}, "at most 4,800,000,000 are allowed"),
        ({"measurement": claimed((2, 3), data=bytes(10))}, "not as long as it says"),
        ({"measurement": claimed((2, 3), data=bytes(8 * 7))}, "not as long as it says"),
        ({"measurement": claimed((2,), "|O", bytes(16))}, "Python objects"),
        ({"operator": claimed((), "<U500000000")}, "at most 1,048,576 are allowed"),
        ({"noise": claimed((10**5,))}, "at most 1,024 are allowed"),
        ({"noise": array(2.0)}, "a noise of 2"),
        ({"size": array([0, 3])}, "0x3"),
    ],
)
def test_false_claims_are_refused(tmp_path, members, said) -> None:
    path = archive(tmp_path / "m.npz", **{"measurement": array(VALUES.numpy()), **members})
    with pytest.raises(UnreadableInput, match=said) as caught:
        read_measurement(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_files(tmp_path) -> None:
    with pytest.raises(FileAccess, match="cannot be read"):
        read_measurement(tmp_path / "none.npz")
    with pytest.raises(FileAccess, match="a folder"):
        read_measurement(tmp_path)
    for data in (b"", b"PK", b"\x93NUMPY", b"\x93NUMPY\x09\x00", bytes(100)):
        path = tmp_path / "m.npy"
        path.write_bytes(data)
        with pytest.raises(UnreadableInput, match="not a measurement"):
            read_measurement(path)


def test_arrays_in_big_endian_order(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.full((1, 2, 3), 13107, ">u2"))
    assert torch.equal(read_measurement(path).values, torch.full((1, 2, 3), 0.2))


def test_channels_that_come_last_are_told(tmp_path: Path) -> None:
    path = tmp_path / "photo.npy"
    np.save(path, np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(
        UnreadableInput, match=r"photo\.npy: .*\(5, 6, 3\), whose channels come last"
    ):
        read_measurement(path)


def test_a_measurement_without_its_picture_is_not_replaced_unasked(
    command, picture, tmp_path
) -> None:
    """A kill between both names leaves it; it may as well be the user's own."""
    words = ["degrade", picture(), tmp_path / "d.png", "--operator", "blur:gaussian:1"]
    assert command(*words).code == 0
    shown = (tmp_path / "d.png").read_bytes()
    (tmp_path / "d.png").unlink()
    (tmp_path / "d.npz").write_bytes(b"another")

    refused = command(*words)
    assert refused.code == 5
    assert "d.npz: exists already; --overwrite replaces it" in refused.err
    assert (tmp_path / "d.npz").read_bytes() == b"another"
    assert not (tmp_path / "d.png").exists()

    assert command(*words, "--overwrite").code == 0
    assert (tmp_path / "d.png").read_bytes() == shown
    assert read_measurement(tmp_path / "d.npz").operator == "blur:gaussian:1"
