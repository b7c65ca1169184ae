"""What the test files share: small pictures on disk, and the command run in this process."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

import cli

# On small pictures two threads mostly wait for each other: on a busy machine that took 15 times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

COLOR_CODE = re.compile(r"\x1b\[[0-9;]*m")  # some CI machines are taken for terminals
FIXTURES = Path(__file__).parent / "fixtures"


class Outcome(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def loaded_once() -> Iterator[None]:
    """Read the shipped weights once, not in every run of the command."""
    import restore.restorer

    load = restore.restorer.load_denoiser
    load_once = cache(load)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            restore.restorer,
            "load_denoiser",
            lambda model, *place: (load_once if model == "default" else load)(model, *place),
        )
        yield


@pytest.fixture
def command(capsys, loaded_once) -> Callable[..., Outcome]:
    """``command("sr", path, "--scale", 2)`` runs the command and returns its exit code, stdout and stderr."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = cli.exit_code([str(argument) for argument in arguments])
        return Outcome(code, *(COLOR_CODE.sub("", text) for text in capsys.readouterr()))

    return run


@pytest.fixture
def picture(tmp_path) -> Callable[..., Path]:
    """``picture(name, mode, (width, height))`` writes a piece of a photograph below tmp_path."""

    def write(
        name: str = "in.png", mode: str = "RGB", size: tuple[int, int] = (24, 16), crop: str = "a", **options
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "RGB;16":
            cv2.imwrite(str(path), pixels_16bit(size, crop))
        else:
            in_mode(piece(size, crop), mode).save(path, **options)
        return path

    return write


def piece(size: tuple[int, int] = (24, 16), crop: str = "a") -> Image.Image:
    """The middle of a fixture, RGB."""
    photo = Image.open(FIXTURES / f"crop_{crop}.png").convert("RGB")
    left, top = (photo.width - size[0]) // 2, (photo.height - size[1]) // 2
    return photo.crop((left, top, left + size[0], top + size[1]))


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in another mode; an alpha rises from left to right."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode.endswith("A"):
        opacity = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
        image = image.convert(mode)
        image.putalpha(Image.fromarray(opacity))
        return image
    return image.convert(mode)


def pixels_16bit(size: tuple[int, int], crop: str = "a") -> np.ndarray:
    """A piece of a fixture with noise in the lower byte: far more levels than 8 bits have."""
    low = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3))
    return (np.asarray(piece(size, crop)).astype(int) * 256 + low).astype(np.uint16)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for manifests."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "restore.jsonl")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}
