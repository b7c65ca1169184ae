"""What the test files share: small pictures on disk, and the command run in this process."""

from __future__ import annotations

import os

# On small pictures two threads mostly wait for each other: on a busy machine that took 15 times as
# long. PyTorch reads it when it is imported, which the lines below do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As `import restore` sets them where it comes first, see restore/environment.py.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import gc
import re
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import pytest
import torch
from support.networks import light
from support.pictures import Outcome, in_mode, piece, pixels_16bit

import cli
import pretrained
from restore.diffusion.denoiser import Denoiser, ModelConfig
from restore.photo import apart
from restore.photo.apart import DECODER

# Under nohup hangups are ignored, and the processes of tests would inherit that.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# One process decodes the pictures of all tests; its start takes half a second.
DECODER.is_kept = True

COLOR_CODE = re.compile(r"\x1b\[[0-9;]*m")  # some CI machines are taken for terminals


def pytest_collection() -> None:
    """Collect without the garbage collector, which takes a quarter of the time for nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


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


@pytest.fixture(scope="session")
def _light() -> Denoiser:
    return light(ModelConfig.from_dict(pretrained.load("default").config))


@pytest.fixture
def light_network(request, loaded_once, monkeypatch) -> None:
    """Have the default model's networks replaced by small ones with random weights.

    For tests that would pass with any network, for speed; those marked ``shipped_network`` keep the
    shipped one.
    """
    import restore.jobs.crops
    import restore.restorer

    if request.node.get_closest_marker("shipped_network"):
        return
    small = request.getfixturevalue("_light")
    load = restore.restorer.load_denoiser

    def load_light(model: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
        is_here = device.type == "cpu" and dtype == torch.float32
        return small if model == "default" and is_here else load(model, device, dtype)

    for module in (restore.restorer, restore.jobs.crops):
        monkeypatch.setattr(module, "load_denoiser", load_light)


@pytest.fixture
def command(capsys, loaded_once) -> Callable[..., Outcome]:
    """``command("sr", path, "--scale", 2)`` runs the command and returns its exit code, stdout and
    stderr.
    """

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = cli.exit_code([str(argument) for argument in arguments])
        return Outcome(code, *(COLOR_CODE.sub("", text) for text in capsys.readouterr()))

    return run


@pytest.fixture
def crashing(monkeypatch) -> Iterator[None]:
    """Have the process that decodes fail on pictures that say so, see `support.crashing`."""
    apart.end_decoding()
    monkeypatch.setattr(apart, "MODULE", "support.crashing")
    yield
    apart.end_decoding()


@pytest.fixture
def picture(tmp_path) -> Callable[..., Path]:
    """``picture(name, mode, (width, height))`` writes a piece of a photograph below tmp_path."""

    def write(
        name: str = "in.png",
        mode: str = "RGB",
        size: tuple[int, int] = (24, 16),
        crop: str = "a",
        **options,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "RGB;16":
            cv2.imwrite(str(path), pixels_16bit(size, crop))
        else:
            in_mode(piece(size, crop), mode).save(path, **options)
        return path

    return write
