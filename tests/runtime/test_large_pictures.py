"""Large pictures by the command: its options, what it says, and twelve megapixels in little
memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import FIXTURES

from operators import ValidConvolution, kernels
from restore.diffusion.denoiser import Denoiser
from restore.solvers import project

SIZE = (4000, 3000)
LIMIT = 4 * 10**9
ROOT = Path(__file__).parents[2]


def photograph(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A crop of a photograph, continued by mirroring, as a file; its pixels."""
    crop = np.asarray(Image.open(FIXTURES / "crop_a.png").convert("RGB"))
    more = [
        (0, max(0, wanted - there))
        for wanted, there in zip(reversed(size), crop.shape, strict=False)
    ]
    pixels = np.pad(crop, (*more, (0, 0)), mode="symmetric")[: size[1], : size[0]]
    Image.fromarray(pixels).save(path)
    return pixels


def blurred(pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)


def restored_within(limit: int, *words: object) -> subprocess.CompletedProcess[str]:
    """The command with ``ulimit -d``: the memory that it may write to, in bytes. Mapped libraries
    do not count.
    """
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
    )


def test_a_tile_that_is_asked_for(command, picture, tmp_path, monkeypatch) -> None:
    seen = []
    real = Denoiser.__call__
    monkeypatch.setattr(
        Denoiser,
        "__call__",
        lambda self, x, *more: seen.extend([x.shape[-2:]] * len(x)) or real(self, x, *more),
    )
    source = picture(size=(60, 100))
    whole = tmp_path / "whole.png"
    tiled = tmp_path / "tiled.png"
    assert command("sr", source, whole, "--scale", 2, "--steps", 2).code == 0
    assert command("sr", source, tiled, "--scale", 2, "--steps", 2, "--tile", 128).code == 0
    assert [tuple(size) for size in seen] == [(200, 120)] * 2 + [(136, 120)] * 4
    difference = np.asarray(Image.open(whole)).astype(float) - np.asarray(Image.open(tiled))
    assert np.sqrt(np.mean(difference**2)) < 1


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--tile", 64, "--tile 64: must be at least 128 pixels"),
        ("--memory", "much", "--memory much: must be a number with a unit, as in 4GB"),
        ("--memory", "10MB", "--memory 10MB: too little; the program takes"),
    ],
)
def test_sizes_that_cannot_be_used(command, picture, tmp_path, option, value, said) -> None:
    outcome = command("denoise", picture(), tmp_path / "out.png", option, value)
    assert outcome.code == 1
    assert said in outcome.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_it_says_when_tiles_become_smaller(command, picture, tmp_path, monkeypatch, quiet) -> None:
    real = Denoiser.__call__

    def hungry(self, x, *more):
        if x.shape[-1] * x.shape[-2] > 128**2:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
            )
        return real(self, x, *more)

    monkeypatch.setattr(Denoiser, "__call__", hungry)
    source = picture(size=(200, 150))
    outcome = command("denoise", source, tmp_path / "out.png", *(["--quiet"] if quiet else []))
    assert outcome.code == 0
    assert outcome.err.count("restore: not enough memory: going on with tiles of 128 pixels\n") == (
        not quiet
    )


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="RLIMIT_DATA means all writable memory on Linux alone"
)
@pytest.mark.parametrize("task", ["sr", "deblur", "inpaint"])
def test_twelve_megapixels_within_four_gigabytes(task: str, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    target = tmp_path / "out.png"
    pixels = photograph(source, (SIZE[0] // 2, SIZE[1] // 2) if task == "sr" else SIZE)
    if task == "deblur":
        pixels = blurred(pixels)
        Image.fromarray(pixels).save(source)
    hole = np.zeros(pixels.shape[:2], dtype=bool)
    hole[1000:1200, 1500:1900] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    own = {
        "sr": ["--scale", 2],
        "deblur": ["--kernel", "gaussian:1.5", "--noise", 0.01],
        "inpaint": ["--mask", tmp_path / "mask.png"],
    }
    done = restored_within(LIMIT, task, source, target, *own[task], "--steps", 2, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    result = np.asarray(Image.open(target))
    assert result.shape == (SIZE[1], SIZE[0], 3)
    if task == "inpaint":
        assert np.array_equal(result[~hole], pixels[~hole])
        assert not np.array_equal(result[hole], pixels[hole])
    if task == "deblur":
        assert (
            float(cv2.absdiff(blurred(result), pixels).mean())
            < 2
            < float(cv2.absdiff(result, pixels).mean())
        )
    if task == "sr":
        mean = result.reshape(SIZE[1] // 2, 2, SIZE[0] // 2, 2, 3).mean(axis=(1, 3))
        assert float(np.abs(mean - pixels).mean()) < 10


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_channels_that_take_turns_give_the_same(monkeypatch, noise: float) -> None:
    draw = torch.Generator().manual_seed(0)
    operator = ValidConvolution((3, 40, 50), kernels.gaussian(0.6))
    y = torch.rand(2, 3, 40, 50, generator=draw)
    x = torch.rand(2, *operator.input_shape, generator=draw)
    together = project(operator, x, y, noise, prior_std=0.1)
    seen = []
    real = ValidConvolution.A
    monkeypatch.setattr(
        ValidConvolution, "A", lambda self, x: seen.append(x.shape[1]) or real(self, x)
    )
    monkeypatch.setattr("restore.solvers.consistency.LARGE", 100)
    in_turn = project(operator, x, y, noise, prior_std=0.1)
    assert set(seen) == {1}
    torch.testing.assert_close(in_turn, together, rtol=0, atol=2e-3)
