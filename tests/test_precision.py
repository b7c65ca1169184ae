"""Results do not depend on PyTorch's default dtype, default device and autocast of the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import random_denoiser, random_file, tiny
from support.pictures import piece

import pretrained
import restore
from restore.diffusion.likelihood import log_likelihood
from restore.errors import RestoreError
from restore.evaluate.run import evaluate
from restore.evaluate.settings import Settings
from restore.methods.options import Options
from restore.methods.sampling import Sampling, sample_pictures
from restore.precision import single_precision
from restore.restorer import restorer
from restore.tasks import Deblurring
from restore.tasks.degradation import degrade

PICTURE = np.asarray(piece((20, 16), "b").convert("RGB")).astype(np.float32) / 255
MASK = np.zeros(PICTURE.shape[:2], bool)
MASK[4:9, 5:12] = True
OPERATORS = (
    "identity",
    "gray",
    "mask:random:0.3:1",
    "bayer",
    "down:area:2",
    "blur:gaussian:1",
    "blur:motion:5:boundary=circular",
    "blur:motion:5:30",
    "blur:gaussian:1:boundary=unknown",
    "blur:gaussian:1+down:bicubic:2",
    "blur:motion:5:30+mask:random:0.3:1",
    "jpeg:60",
    "down:area:2+quantise:4",
)


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": double,
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
}
all_settings = pytest.mark.parametrize("setting", SETTINGS)


def _solved(operator: str, **options: Any) -> torch.Tensor:
    measured = degrade(PICTURE, operator, noise=0.01, seed=1).measurement
    size = (PICTURE.shape[1], PICTURE.shape[0])
    return restorer().solve(measured, operator, noise=0.01, size=size, steps=2, **options)


def _samples() -> torch.Tensor:
    denoise = random_denoiser(tiny())
    sampling = Sampling(count=2, height=8, width=8, steps=3)
    return sample_pictures(denoise, sampling, torch.device("cpu"))[0]


def _likelihood() -> torch.Tensor:
    x = torch.from_numpy(2 * PICTURE[:4, :4] - 1).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(0)
    return log_likelihood(
        random_denoiser(tiny()), x, 0.1, 10.0, rtol=0.1, atol=0.1, generator=generator
    )


def _together() -> np.ndarray:
    task = Deblurring("gaussian:1", noise=0.01)
    pictures = [PICTURE, PICTURE[::-1].copy()]
    return np.stack([r.mean for r in restorer().restore_together(task, pictures, Options(steps=3))])


CALLS: dict[str, Callable[[], Any]] = {
    "sr": lambda: restore.sr(PICTURE, 2, steps=3),
    "sr with noise": lambda: restore.sr(PICTURE, 2, noise=0.02, steps=3),
    "cascade": lambda: restore.sr(PICTURE[:8, :8], 4, cascade="2x2", steps=1),
    "sr3": lambda: restore.sr(PICTURE, 2, method="sr3", steps=2),
    "inpaint": lambda: restore.inpaint(PICTURE, MASK, steps=2),
    "deblur": lambda: restore.deblur(PICTURE, "gaussian:1", steps=3),
    "deblur by ddrm": lambda: restore.deblur(PICTURE, "disk:1.5", method="ddrm", steps=2),
    "denoise": lambda: restore.denoise(PICTURE, 0.05),
    "denoise, auto": lambda: restore.denoise(PICTURE),
    "colorize": lambda: restore.colorize(PICTURE[..., :1], steps=3),
    "samples": lambda: restore.inpaint(PICTURE, MASK, steps=2, samples=2).std,
    "with alpha": lambda: restore.denoise(np.dstack([PICTURE, ~MASK]).astype(np.float32)),
    "together": _together,
    "sample": _samples,
    "likelihood": _likelihood,
    **{f"solve {text}": lambda text=text: _solved(text) for text in OPERATORS},
}


@pytest.fixture(scope="module")
def expected() -> Callable[[str], np.ndarray]:
    known: dict[str, np.ndarray] = {}

    def result(name: str) -> np.ndarray:
        if name not in known:
            known[name] = np.asarray(CALLS[name]())
        return known[name]

    return result


@all_settings
@pytest.mark.parametrize("name", CALLS)
def test_same_pixels(name, setting, expected):
    wanted = expected(name)
    with SETTINGS[setting]():
        found = np.asarray(CALLS[name]())
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    "name", ["sr", "inpaint", "deblur", "denoise, auto", "samples", "solve bayer"]
)
def test_same_pixels_with_another_default_device(name, expected):
    """`meta` stands for `cuda`: with what is made there by mistake nothing can be computed."""
    wanted = expected(name)
    with torch.device("meta"):
        found = np.asarray(CALLS[name]())
        assert torch.empty(1).device.type == "meta"
    assert np.array_equal(found, wanted)


@all_settings
def test_a_model_is_loaded_alike(setting, tmp_path):
    path = random_file(tmp_path / "tiny.safetensors", tiny())
    wanted = pretrained.load(str(path)).state
    with SETTINGS[setting]():
        found = pretrained.load(str(path)).state
        restored = restore.Restorer(str(path)).denoise(PICTURE, 0.1)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert np.array_equal(restored, restore.Restorer(str(path)).denoise(PICTURE, 0.1))


@all_settings
def test_an_evaluation_finds_the_same_scores(setting, tmp_path):
    piece((48, 40)).save(tmp_path / "a.png")
    settings = Settings("sr", scale=2, methods=("one-step", "bicubic"), model="default")

    def scores() -> list[tuple[float, ...]]:
        found = evaluate(tmp_path, settings).by_method()
        return [(one.psnr, one.ssim, one.lpips) for method in found.values() for one in method]

    wanted = scores()
    with SETTINGS[setting]():
        assert scores() == wanted


def test_the_callers_settings_come_back():
    with double(), torch.autocast("cpu", torch.bfloat16):
        with single_precision():
            assert torch.get_default_dtype() == torch.float32
            assert not torch.is_autocast_enabled("cpu")
        with pytest.raises(RestoreError):
            restore.sr(PICTURE, 2, noise=2)
        assert torch.get_default_dtype() == torch.float64
        assert torch.is_autocast_enabled("cpu")


def test_the_last_thread_to_leave_puts_the_default_back():
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with single_precision():
            inside.set()
            leave.wait(10)

    with double():
        thread = threading.Thread(target=other)
        with single_precision():
            thread.start()
            inside.wait(10)
        assert torch.get_default_dtype() == torch.float32
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
