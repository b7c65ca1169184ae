"""The one-liners from Python: every kind of picture in, the same kind out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import in_mode, piece
from torch import Tensor

import restore
import restore.restorer
from restore.errors import BadArgument
from restore.methods.options import Options
from restore.tasks import TASKS as RECORDS
from restore.tasks import SuperResolution

WIDTH = 13
HEIGHT = 9
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[2:6, 3:9] = True

TASKS: dict[str, Callable[..., Any]] = {
    "sr": lambda image, **options: restore.sr(image, 2, **({"steps": 2} | options)),
    "inpaint": lambda image, **options: restore.inpaint(image, MASK, **({"steps": 2} | options)),
    "deblur": lambda image, **options: restore.deblur(
        image, "gaussian:0.8", **({"method": "one-step"} | options)
    ),
    "denoise": lambda image, **options: restore.denoise(image, 0.1, **options),
    "dejpeg": lambda image, **options: restore.dejpeg(
        image, saved_quality=40, **({"steps": 2} | options)
    ),
    "colorize": lambda image, **options: restore.colorize(image, **({"steps": 2} | options)),
}
FACTOR = dict.fromkeys(TASKS, 1) | {"sr": 2}

all_tasks = pytest.mark.parametrize("task", TASKS)


def tasks_and(
    dtypes: list[Any], counts: tuple[int, ...] = (1, 2, 3, 4)
) -> list[tuple[str, Any, int]]:
    """Return each pair of a task, a type and a number of channels, all triples for one task."""
    every = [("denoise", dtype, channels) for dtype in dtypes for channels in counts]
    others = (task for task in TASKS if task != "denoise")
    return every + [
        (task, dtype, counts[(turn + number) % len(counts)])
        for turn, task in enumerate(others)
        for number, dtype in enumerate(dtypes)
    ]


def photograph(channels: int = 3) -> np.ndarray:
    """float64 [H, W, channels] in [0, 1]; an alpha of two and four channels."""
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    return (
        np.asarray(in_mode(piece((WIDTH, HEIGHT), "b"), modes[channels])).reshape(
            HEIGHT, WIDTH, channels
        )
        / 255
    )


def array_of(channels: int, dtype: str) -> np.ndarray:
    scale = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    values = photograph(channels) * scale
    return (np.rint(values) if scale > 1 else values).astype(dtype)


def tensor_of(channels: int, dtype: torch.dtype) -> Tensor:
    values = torch.from_numpy(photograph(channels)).permute(2, 0, 1)
    return (values * 255).round().to(dtype) if dtype == torch.uint8 else values.to(dtype)


def channels_out(task: str, channels: int) -> int:
    """Colourising gives grey pictures colours."""
    return channels + 2 if task == "colorize" and channels < 3 else channels


def close_to_input(result: np.ndarray, given: np.ndarray) -> None:
    """Every task leaves the mean brightness of a picture about as it is: 0.1 of full scale, in [0,
    1].
    """
    assert abs(float(result.mean()) - float(given.mean())) < 0.1


# --- Pillow
# ------------------------------------------------------------------------------------------------


@all_tasks
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        *((mode, mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *(("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("1", "L")),
    ],
)
def test_pillow(task, mode, expected):
    image = in_mode(piece((WIDTH, HEIGHT), "b"), mode)
    before = image.copy()
    result = TASKS[task](image)
    if task == "colorize":
        expected = {"L": "RGB", "LA": "RGBA", "I;16": "RGB"}.get(expected, expected)
    assert isinstance(result, Image.Image)
    assert result.mode == expected
    assert result.size == (WIDTH * FACTOR[task], HEIGHT * FACTOR[task])
    assert image == before
    if mode == "I;16":
        scale = 255 if task == "colorize" else 65535
        close_to_input(np.asarray(result) / scale, np.asarray(image) / 65535)


def test_pillow_palette_with_transparency():
    image = piece((WIDTH, HEIGHT)).quantize(8)
    image.info["transparency"] = 0
    assert restore.denoise(image, 0.1).mode == "RGBA"


# --- numpy
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "dtype", "channels"),
    tasks_and(["uint8", "uint16", "float16", "float32", "float64"]),
)
def test_array(task, dtype, channels):
    array = array_of(channels, dtype)
    before = array.copy()
    result = TASKS[task](array)
    scale = np.iinfo(dtype).max if array.dtype.kind == "u" else 1
    assert isinstance(result, np.ndarray)
    assert result.dtype == array.dtype
    assert result.shape == (
        HEIGHT * FACTOR[task],
        WIDTH * FACTOR[task],
        channels_out(task, channels),
    )
    assert 0 <= result.min() <= result.max() <= scale
    close_to_input(result.astype(float) / scale, array.astype(float) / scale)
    assert np.array_equal(array, before)


@all_tasks
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_flat_array(task, dtype):
    array = array_of(1, dtype)[..., 0]
    result = TASKS[task](array)
    assert result.dtype == array.dtype
    flat = (HEIGHT * FACTOR[task], WIDTH * FACTOR[task])
    assert result.shape == ((*flat, 3) if task == "colorize" else flat)


def test_views_and_read_only_arrays():
    array = array_of(3, "uint8")
    expected = restore.denoise(array.copy(), 0.1)
    wide = np.repeat(array, 2, axis=1)
    for view in (
        wide[:, ::2],
        np.asfortranarray(array),
        array[::-1][::-1],
        np.asarray(Image.fromarray(array)),
    ):
        assert np.array_equal(restore.denoise(view, 0.1), expected)
    array.setflags(write=False)
    assert np.array_equal(restore.denoise(array, 0.1), expected)


# --- torch
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "dtype", "channels"),
    tasks_and([torch.uint8, torch.float32, torch.float64, torch.bfloat16]),
)
def test_tensor(task, dtype, channels):
    tensor = tensor_of(channels, dtype)
    before = tensor.clone()
    result = TASKS[task](tensor)
    assert isinstance(result, Tensor)
    assert result.dtype == dtype
    assert result.shape == (
        channels_out(task, channels),
        HEIGHT * FACTOR[task],
        WIDTH * FACTOR[task],
    )
    scale = 255 if dtype == torch.uint8 else 1
    close_to_input(result.double().numpy() / scale, tensor.double().numpy() / scale)
    assert torch.equal(tensor, before)


@all_tasks
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batch_has_the_shape_of_its_pictures(task, dtype):
    batch = torch.stack([tensor_of(3, dtype), tensor_of(3, dtype).flip(-1)])
    result = TASKS[task](batch)
    assert result.shape == (2, 3, HEIGHT * FACTOR[task], WIDTH * FACTOR[task])
    assert result.dtype == dtype


def test_kinds_agree():
    """The same picture, however it is passed in, has the same answer."""
    array = array_of(3, "uint8")
    expected = restore.denoise(array, 0.1)
    assert np.array_equal(np.asarray(restore.denoise(Image.fromarray(array), 0.1)), expected)
    assert np.array_equal(
        restore.denoise(tensor_of(3, torch.uint8), 0.1).permute(1, 2, 0).numpy(), expected
    )
    difference = restore.denoise(photograph(), 0.1) * 255 - expected
    assert np.abs(difference).max() <= 0.51


# --- alpha, grey, masks
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_comes_through(dtype):
    array = array_of(4, dtype)
    for result in (restore.denoise(array, 0.1), restore.inpaint(array, MASK, steps=2)):
        assert np.array_equal(result[..., 3], array[..., 3])
        assert not np.array_equal(result[..., :3], array[..., :3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_inpaint_returns_known_pixels_as_they_were(dtype, channels):
    array = array_of(channels, dtype)
    result = restore.inpaint(array, MASK, steps=2)
    known = result[~MASK].astype(float)
    given = array[~MASK].astype(float)
    assert np.abs(known - given).max() <= (0 if dtype != "float64" else 1e-7)
    assert (result[MASK] != array[MASK]).mean() > 0.5


@pytest.mark.parametrize(
    "mask",
    [
        *(MASK, MASK.astype(np.uint8) * 255, MASK.astype(np.float32), torch.from_numpy(MASK)),
        *(
            torch.from_numpy(MASK)[None],
            Image.fromarray(MASK),
            Image.fromarray(MASK.astype(np.uint8) * 255),
        ),
        Image.fromarray(MASK).convert("RGB"),
    ],
    ids=["bool", "uint8", "float32", "tensor", "tensor[1,H,W]", "PIL 1", "PIL L", "PIL RGB"],
)
def test_kinds_of_masks(mask):
    array = array_of(3, "uint8")
    assert np.array_equal(
        restore.inpaint(array, mask, steps=2), restore.inpaint(array, MASK, steps=2)
    )


# --- options
# ------------------------------------------------------------------------------------------------


def test_samples():
    result = restore.sr(array_of(3, "uint8"), 2, samples=3, steps=3)
    assert isinstance(result, restore.Samples)
    assert len(result.samples) == 3
    stack = np.stack(result.samples).astype(float)
    for picture in (result.mean, result.std, *result.samples):
        assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
        assert picture.dtype == np.uint8
    assert np.abs(result.mean - stack.mean(axis=0)).max() <= 1
    assert np.abs(result.std - stack.std(axis=0, ddof=1)).max() <= 1.1
    assert result.std.mean() > 1


@pytest.mark.parametrize("kind", [Image.fromarray, lambda a: torch.from_numpy(a).permute(2, 0, 1)])
def test_samples_are_of_the_kind_that_came_in(kind):
    picture = kind(array_of(4, "uint8"))
    result = restore.colorize(picture, samples=2, steps=2)
    assert all(isinstance(p, type(picture)) for p in (result.mean, result.std, *result.samples))


def test_seed():
    array = array_of(3, "float32")
    first, again, other = (restore.colorize(array, steps=2, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.01)


def test_the_global_random_numbers_are_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    restore.colorize(array_of(3, "float32"), steps=2)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("task", "options", "calls"),
    [
        ("sr", {"method": "one-step", "steps": 1}, 1),
        ("sr", {"method": "sr3", "steps": 4}, 4),
        ("sr", {"method": "ddrm", "steps": 3, "samples": 2}, 6),
        ("denoise", {"method": "one-step", "parameters": {"views": 1}}, 1),
        ("denoise", {"steps": 3}, 3),
        ("inpaint", {"steps": 3}, 3),
        ("deblur", {"method": "ddrm", "steps": 3, "boundary": "symmetric"}, 3),
        ("colorize", {"steps": 3}, 3),
    ],
)
def test_callback_is_called_after_each_call_of_the_network(task, options, calls):
    steps = []
    TASKS[task](array_of(3, "uint8"), callback=steps.append, **options)
    count = calls // options.get("samples", 1)
    assert [step.index for step in steps] == list(range(count)) * (calls // count)
    assert {step.steps for step in steps} == {count}
    assert all(a.sigma > b.sigma for a, b in pairwise(steps) if b.index > 0)
    assert steps[0].clean.shape[1:] == (3, HEIGHT * FACTOR[task], WIDTH * FACTOR[task])


def test_an_error_in_the_callback_reaches_the_caller():
    def stop(step):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        restore.denoise(array_of(3, "uint8"), 0.1, callback=stop)


def test_report():
    result = restore.Restorer(device="cpu").run(
        SuperResolution(2), array_of(3, "uint8"), steps=3, method="ddrm", seed=4
    )
    report = result.report
    assert isinstance(result, restore.Result)
    assert (report.task, report.method, report.steps, report.seed) == ("sr", "ddrm", 3, 4)
    assert (report.samples, report.model, report.device) == (1, "default", "cpu")
    assert report.consistency < 1 / 255
    assert report.seconds > 0
    assert result.std is None


# --- batches
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def exact(monkeypatch, loaded_once) -> restore.Restorer:
    """A restorer in float32 that draws the same random numbers for every picture of a batch."""

    def shared(shape, generator, device):
        return torch.randn((1, *shape[1:]), generator=generator).expand(shape).to(device)

    monkeypatch.setattr(import_module("restore.solvers.ddrm"), "gaussian_noise", shared)
    monkeypatch.setattr(import_module("restore.solvers.sr3"), "gaussian_noise", shared)
    monkeypatch.setattr(restore.restorer, "network_dtype", lambda device: torch.float32)
    return restore.Restorer(device="cpu")


def crops(count: int = 3) -> Tensor:
    """Different pictures, float32 [count, 3, H, W]."""
    images = [
        piece((WIDTH, HEIGHT), "a"),
        piece((WIDTH, HEIGHT), "b"),
        piece((2 * WIDTH, HEIGHT), "b"),
    ]
    arrays = [np.asarray(image)[:, :WIDTH] for image in images[:count]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize(
    ("task", "arguments", "options"),
    [
        ("denoise", {"noise": 0.1}, {}),
        ("sr", {"scale": 2}, {}),
        ("sr", {"scale": 1.5}, {"method": "ddrm", "steps": 3}),
        ("deblur", {"kernel": "gaussian:0.8", "noise": 0.02}, {"method": "one-step"}),
        ("deblur", {"kernel": "box:3", "noise": 0.02}, {"method": "sr3", "steps": 3}),
        ("inpaint", {"mask": MASK}, {"steps": 3}),
        ("colorize", {}, {"steps": 3}),
    ],
)
def test_a_batch_is_its_pictures_one_by_one(exact, task, arguments, options):
    batch = crops()
    together = exact.run(RECORDS[task](**arguments), batch, **options).mean
    alone = torch.stack(
        [exact.run(RECORDS[task](**arguments), picture, **options).mean for picture in batch]
    )
    assert (alone[0] - alone[1]).abs().mean() > 0.05
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["bool [B,1,H,W]", "bool [B,H,W]", "uint8 [B,1,H,W]"])
def test_a_mask_for_each_picture_of_a_batch(exact, kind):
    batch = crops(2)
    masks = torch.from_numpy(np.stack([MASK, MASK[::-1, ::-1].copy()]))[:, None]
    given = {
        "bool [B,1,H,W]": masks,
        "bool [B,H,W]": masks[:, 0],
        "uint8 [B,1,H,W]": masks.to(torch.uint8) * 255,
    }
    together = exact.inpaint(batch, given[kind], steps=3)
    alone = torch.stack(
        [exact.inpaint(p, m[0], steps=3) for p, m in zip(batch, masks, strict=True)]
    )
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)
    known = ~masks.expand_as(batch)
    assert torch.equal(together[known], batch[known])


def test_one_mask_for_a_batch(exact):
    assert exact.inpaint(crops(3), MASK, steps=2).shape == (3, 3, HEIGHT, WIDTH)


def test_as_many_masks_as_pictures(exact):
    masks = torch.from_numpy(np.stack([MASK, MASK]))[:, None]
    with pytest.raises(BadArgument, match="mask"):
        exact.inpaint(crops(3), masks, steps=2)


# --- the package
# --------------------------------------------------------------------------------------------


def test_import_is_light():
    code = (
        "import sys, restore; print(restore.__version__, [m for m in ('torch', 'numpy', 'PIL') "
        "if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(restore.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.strip() == f"{restore.__version__} []", done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "PASSIVE 1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")],
)
def test_waiting_threads_soon_sleep_unless_told_otherwise(given, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import os, restore; print(*map(os.environ.get, {names}))"
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = {**kept, **given, "PYTHONPATH": str(Path(restore.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.strip() == expected, done.stderr


def test_names():
    for name in restore.__all__:
        assert getattr(restore, name) is not None
    assert set(dir(restore)) == set(restore.__all__)
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        restore.sharpen  # noqa: B018
    with pytest.raises(ImportError):
        from restore import sharpen  # noqa: F401


def test_type_checkers_know_every_task():
    """What `restore/__init__.py` declares for them is what the records make."""
    tree = ast.parse(Path(restore.__file__).read_text(encoding="utf-8"))
    declared = [
        node.target.id
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.AnnAssign)
    ]
    assert declared == list(RECORDS)


def test_settings_are_found_once_for_the_pictures_of_a_run(monkeypatch):
    found = []
    settings_for = restore.restorer.settings_for
    monkeypatch.setattr(
        "restore.restorer.settings_for",
        lambda *arguments: found.append(arguments) or settings_for(*arguments),
    )
    loaded = restore.restorer.restorer()
    task = SuperResolution(2)
    few = Options(steps=2)
    loaded.prepare(task, few)
    first, second = (loaded.restore(task, photograph(), few).report for _ in range(2))
    assert len(found) == 1
    assert first.steps == second.steps == 2

    other = loaded.restore(task, photograph(), Options(method="one-step")).report
    assert len(found) == 2
    assert (other.method, other.steps) == ("one-step", 1)


def test_weights_are_loaded_once():
    assert restore.restorer.restorer() is restore.restorer.restorer()
