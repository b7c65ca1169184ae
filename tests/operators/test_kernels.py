"""Blur kernels: their moments, areas and directions, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

import operators
from operators import kernels

MAKERS = {
    "gaussian": lambda: kernels.gaussian(1.7),
    "gaussian-turned": lambda: kernels.gaussian(3.0, 1.0, 25),
    "motion": lambda: kernels.motion(12.3, 77),
    "curved": lambda: kernels.curved_motion(30, seed=4),
    "disk": lambda: kernels.disk(3.6),
    "box": lambda: kernels.box((2, 5)),
}


def _mean(kernel: np.ndarray) -> np.ndarray:
    """Centre of mass (x to the right, y upwards) from the central pixel."""
    rows, columns = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    return np.array(
        [
            (kernel * (columns - kernel.shape[1] // 2)).sum(),
            (kernel * (kernel.shape[0] // 2 - rows)).sum(),
        ]
    )


def _covariance(kernel: np.ndarray) -> np.ndarray:
    """Of (x to the right, y upwards)."""
    rows, columns = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    points = np.stack([columns - kernel.shape[1] // 2, kernel.shape[0] // 2 - rows]).reshape(2, -1)
    points = points - _mean(kernel)[:, None]
    return (points * kernel.ravel()) @ points.T


@pytest.mark.parametrize("name", MAKERS)
def test_sums_to_one_and_is_not_negative(name: str) -> None:
    kernel = MAKERS[name]()
    assert kernel.dtype == np.float64
    assert kernel.sum() == pytest.approx(1, abs=1e-14)
    assert kernel.min() >= 0
    assert all(n % 2 for n in kernel.shape) or name == "box"
    assert kernel[[0, -1]].any()
    assert kernel[:, [0, -1]].any()


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_round_gaussian_is_the_separable_one(sigma: float) -> None:
    taps = operators.gaussian_taps(sigma)
    np.testing.assert_allclose(kernels.gaussian(sigma), np.outer(taps, taps), atol=1e-15)
    np.testing.assert_allclose(
        kernels.gaussian(sigma, sigma, 0), kernels.gaussian(sigma), atol=1e-15
    )


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 135, -30, 200])
@pytest.mark.parametrize(("along", "across"), [(3.0, 1.0), (1.5, 2.5)])
def test_gaussian_has_the_covariance_asked_for(along: float, across: float, angle: float) -> None:
    direction = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    normal = np.array([-direction[1], direction[0]])
    expected = along**2 * np.outer(direction, direction) + across**2 * np.outer(normal, normal)
    np.testing.assert_allclose(
        _covariance(kernels.gaussian(along, across, angle)), expected, atol=0.02
    )


def test_angles_run_counter_clockwise_on_the_screen() -> None:
    """At 30° the right end of the path is above the middle, where row numbers are smaller."""
    for kernel in (kernels.motion(15, 30), kernels.gaussian(4, 1, 30)):
        height, width = kernel.shape
        assert (
            kernel[: height // 2, width // 2 + 1 :].sum()
            > 3 * kernel[height // 2 + 1 :, width // 2 + 1 :].sum()
        )


def test_motion_along_the_axes() -> None:
    np.testing.assert_allclose(kernels.motion(15, 0), np.full((1, 15), 1 / 15), atol=1e-15)
    np.testing.assert_allclose(kernels.motion(15, 90), np.full((15, 1), 1 / 15), atol=1e-15)
    np.testing.assert_array_equal(kernels.motion(15, 180), kernels.motion(15, 0))
    np.testing.assert_array_equal(kernels.motion(15, -90), kernels.motion(15, 90))
    np.testing.assert_allclose(kernels.motion(4, 0), [[0.125, 0.25, 0.25, 0.25, 0.125]], atol=1e-15)


@pytest.mark.parametrize("length", [3, 10.5, 15])
def test_diagonal_motion_is_symmetric(length: float) -> None:
    kernel = kernels.motion(length, 45)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)
    np.testing.assert_allclose(kernels.motion(length, 135), kernel[::-1], atol=1e-15)
    assert np.count_nonzero(kernel) == len(kernel)


@pytest.mark.parametrize("length", [0.2, 1.0, 7.0, 20.3])
@pytest.mark.parametrize("angle", [0, 10, 33.3, 60, 90, 101])
def test_motion_is_centred_and_as_long_as_asked_for(length: float, angle: float) -> None:
    kernel = kernels.motion(length, angle)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-14)
    variance = np.trace(
        _covariance(kernel)
    )  # of the path, L²/12, and some of the pixels' own, 2/12
    assert abs(variance - length**2 / 12) < 0.5
    assert np.abs(_mean(kernel)).max() < 1e-12
    assert kernel.max() <= min(1, math.sqrt(2) / length) + 1e-12


def test_short_motion_is_none() -> None:
    np.testing.assert_array_equal(kernels.motion(0.7, 20), [[1.0]])


def test_curved_motion_is_reproducible() -> None:
    first = kernels.curved_motion(25, seed=3)
    np.testing.assert_array_equal(first, kernels.curved_motion(25, seed=3))
    assert not np.array_equal(first, kernels.curved_motion(25, seed=4))


@pytest.mark.parametrize("angle", [0, 30, 90, 160])
def test_motion_without_curvature_is_straight(angle: float) -> None:
    """Both draw the same path, one by its exact length in each pixel, the other by many points."""
    curved = kernels.curved_motion(15, seed=0, curvature=0, angle=angle)
    straight = kernels.motion(15, angle)
    height, width = (max(a, b) for a, b in zip(curved.shape, straight.shape, strict=True))
    padded = [
        np.pad(k, [((height - k.shape[0]) // 2,) * 2, ((width - k.shape[1]) // 2,) * 2])
        for k in (curved, straight)
    ]
    np.testing.assert_allclose(*padded, atol=2 / 64 / 15)


def test_curved_motion_is_centred_connected_and_turns() -> None:
    spreads = []
    for seed in range(20):
        kernel = kernels.curved_motion(40, seed=seed, curvature=360)
        assert np.abs(_mean(kernel)).max() < 0.1
        parts, _ = cv2.connectedComponents((kernel > 0).astype(np.uint8), connectivity=8)
        assert parts == 2  # one, and the background
        spreads.append(np.trace(_covariance(kernel)) / (40**2 / 12))
    assert max(spreads) < 1.01
    assert np.mean(spreads) < 0.85


@pytest.mark.parametrize("radius", [0.75, 1.0, 2.5, 3.3, 8.0])
def test_disk_has_the_area_of_a_circle(radius: float) -> None:
    kernel = kernels.disk(radius)
    assert 1 / kernel.max() == pytest.approx(
        math.pi * radius**2, rel=1e-12
    )  # the central pixel lies inside it
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-15)
    assert kernel.shape[0] == 2 * math.ceil(radius - 0.5) + 1


@pytest.mark.parametrize("radius", [1.752759904797922, 3.3970342181418927, 5.806175163861092])
def test_disk_of_a_radius_whose_square_is_rounded_down(radius: float) -> None:
    """With these, r·r and r² differ by a rounding in NumPy, and the root of r² − r·r is not a
    number.
    """
    assert np.isfinite(kernels.disk(radius)).all()


def test_disk_is_the_supersampled_one() -> None:
    fine = (np.arange(-4.5, 4.5, 1 / 64) + 1 / 128)[:, None]
    inside = (fine**2 + fine.T**2 <= 3.6**2).astype(float)
    expected = inside.reshape(9, 64, 9, 64).mean(axis=(1, 3))
    np.testing.assert_allclose(
        kernels.disk(3.6), expected / expected.sum(), atol=2e-3 / (math.pi * 3.6**2)
    )


def test_small_disk_is_none() -> None:
    np.testing.assert_allclose(kernels.disk(0.4), [[1.0]])


def test_box() -> None:
    np.testing.assert_array_equal(kernels.box(4), np.full((4, 4), 1 / 16))
    np.testing.assert_allclose(kernels.box((1, 3)), [[1 / 3] * 3])


def test_from_array() -> None:
    np.testing.assert_allclose(kernels.from_array([[1, 2], [3, 4]]), [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(kernels.from_array([[-1, 3]]), [[-0.5, 1.5]])
    np.testing.assert_array_equal(kernels.from_array([[-1, 1]], normalise=False), [[-1, 1]])
    np.testing.assert_allclose(
        kernels.from_array(np.full((3, 3, 3), 7, np.uint8)), np.full((3, 3), 1 / 9)
    )
    given = np.ones((2, 2))
    kernels.from_array(given)
    kernels.from_array(given, normalise=False)[0, 0] = 5
    np.testing.assert_array_equal(given, np.ones((2, 2)))
    np.testing.assert_allclose(kernels.from_array(np.full((1, 2), 1e308)), [[0.5, 0.5]])


KERNEL = np.arange(12).reshape(3, 4)


def _write(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, KERNEL)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"k": KERNEL, "name": "a text", "scale": 3.0})
    elif "rgba" in path.stem:
        opaque = np.full((3, 4, 1), 255)
        cv2.imwrite(
            str(path), np.concatenate([np.stack([KERNEL] * 3, -1), opaque], -1).astype(np.uint8)
        )
    elif "16" in path.stem:
        cv2.imwrite(str(path), (KERNEL * 5000).astype(np.uint16))
    elif path.suffix == ".tiff":
        cv2.imwrite(str(path), KERNEL.astype(np.float32) / 11)
    else:
        cv2.imwrite(str(path), KERNEL.astype(np.uint8))


@pytest.mark.parametrize(
    "name", ["k.npy", "k.NPY", "k.mat", "k.png", "k16.png", "rgba.png", "float.tiff", "k.bmp"]
)
def test_from_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name.lower()
    _write(path)
    path = path.rename(tmp_path / name)
    np.testing.assert_allclose(kernels.from_file(path), KERNEL / KERNEL.sum(), atol=1e-7)
    np.testing.assert_allclose(kernels.from_file(str(path)), KERNEL / KERNEL.sum(), atol=1e-7)


def test_from_a_matlab_file_with_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "k.mat"
    scipy.io.savemat(path, {"x": np.ones((5, 5)), "f": KERNEL, "name": "a text"})
    with pytest.raises(ValueError, match=r"k\.mat: .*f, x"):
        kernels.from_file(path)
    with pytest.raises(ValueError, match="'g'; there are: f, x"):
        kernels.from_file(path, variable="g")
    np.testing.assert_allclose(kernels.from_file(path, variable="f"), KERNEL / KERNEL.sum())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.npy", b"not numpy"),
        ("k.npy", b""),
        ("k.mat", b"not matlab"),
        ("k.mat", b""),
        (
            "k.mat",
            b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x01IM" + b"\xff" * 40,
        ),
        ("k.png", b"not a picture"),
        ("k.png", b""),
        ("k.txt", b"0 1 0"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"k\.{name[2:]}: .*(not|no)"):
        kernels.from_file(path)


@pytest.mark.parametrize("shape", [(3, 3, 3), (5, 7, 2), (1, 3, 3)])
def test_a_file_of_a_stack_of_kernels_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Which axis the channels are on is not known, as it is of a picture."""
    np.save(tmp_path / "k.npy", np.ones(shape))
    with pytest.raises(ValueError, match="save one channel") as refused:
        kernels.from_file(tmp_path / "k.npy")
    assert str(refused.value) == (
        f"{tmp_path / 'k.npy'}: a kernel in a .npy file must be a two-dimensional array [height, "
        f"width], not of shape {list(shape)}; save one channel of it"
    )


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="plain array"):
        kernels.from_file(path)


def test_a_file_that_claims_a_large_array_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The header of a file of some bytes may claim terabytes, and a compressed one expand."""
    header = np.lib.format.magic(1, 0) + b"\x76\x00"
    claim = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000, 1000000), }"
    path = tmp_path / "k.npy"
    path.write_bytes(header + claim.ljust(0x75) + b"\n")
    with pytest.raises(ValueError, match="not a numpy file with one plain array"):
        kernels.from_file(path)

    side = kernels.MAX_SIDE + 1
    zeros = np.zeros((side, side), np.uint8)
    scipy.io.savemat(tmp_path / "k.mat", {"f": KERNEL, "g": zeros}, do_compression=True)
    np.testing.assert_allclose(kernels.from_file(tmp_path / "k.mat"), KERNEL / KERNEL.sum())
    with pytest.raises(ValueError, match="no two-dimensional array of the name 'g'"):
        kernels.from_file(tmp_path / "k.mat", variable="g")

    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(2 * kernels.MAX_BYTES)
    with pytest.raises(ValueError, match="too large for a kernel"):
        kernels.from_file(tmp_path / "sparse.png")


def test_a_file_that_crashes_its_reader_is_damaged(tmp_path: Path) -> None:
    """scipy's reader of MATLAB files looks up a type beyond its table, and the process ends."""
    path = tmp_path / "k.mat"
    scipy.io.savemat(path, {"k": KERNEL.astype(float)})
    data = path.read_bytes()
    place = data.rindex(b"\x09\0\0\0")  # the type of the numbers: double precision
    path.write_bytes(data[:place] + b"\x49" + data[place + 1 :])
    with pytest.raises(ValueError, match=r"k\.mat: not a readable MATLAB file"):
        kernels.from_file(path)


def test_other_refused_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kernels.from_file(tmp_path / "missing.npy")
    colour = tmp_path / "colour.png"
    cv2.imwrite(str(colour), np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="one channel"):
        kernels.from_file(colour)
    _write(tmp_path / "k.npy")
    with pytest.raises(ValueError, match=r"only a \.mat file"):
        kernels.from_file(tmp_path / "k.npy", variable="k")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kernels.gaussian(0), "positive number of pixels"),
        (lambda: kernels.gaussian(1, -2), "across must be a positive"),
        (lambda: kernels.gaussian(math.inf), "positive"),
        (lambda: kernels.gaussian(1, 1, math.nan), "angle must be a finite"),
        (lambda: kernels.gaussian(1e9), "at most 4097"),
        (lambda: kernels.motion(0), "positive"),
        (lambda: kernels.motion(math.nan), "positive"),
        (lambda: kernels.motion(1e9, 30), "at most 4097"),
        (lambda: kernels.curved_motion(-1, 0), "positive"),
        (lambda: kernels.curved_motion(1e9, 0), "at most 4097"),
        (lambda: kernels.curved_motion(9, 0, curvature=-1), "curvature"),
        (lambda: kernels.curved_motion(9, -1), "non-negative"),
        (lambda: kernels.disk(-3), "positive"),
        (lambda: kernels.disk(1e9), "at most 4097"),
        (lambda: kernels.box(0), "whole numbers"),
        (lambda: kernels.box((3, 2.5)), "whole numbers"),
        (lambda: kernels.box(10**9), "at most 4097"),
        (lambda: kernels.from_array([1, 2]), r"\[height, width\]"),
        (lambda: kernels.from_array(np.ones((0, 3))), r"\[height, width\]"),
        (lambda: kernels.from_array(np.ones((2, 2, 9))), r"\[height, width\]"),
        (lambda: kernels.from_array(np.arange(12).reshape(2, 2, 3)), "one channel, this one has 3"),
        (lambda: kernels.from_array([[1, math.nan]]), "finite"),
        (lambda: kernels.from_array([[0, 0]]), "all zero"),
        (lambda: kernels.from_array([[1, -1]]), "normalise=False"),
        (lambda: kernels.from_array([[-1, -1]]), "positive sum"),
        (lambda: kernels.from_array([[1, 2], [3]]), "array of real numbers"),
        (lambda: kernels.from_array([["a", "b"]]), "array of real numbers"),
        (lambda: kernels.from_array([[1j, 2]]), "array of real numbers"),
        (lambda: kernels.from_array([[{}]]), "array of real numbers"),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
