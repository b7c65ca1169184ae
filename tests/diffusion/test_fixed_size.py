"""Networks that know pictures of one size alone, as those with attention: they see that size and no
other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import random_denoiser, random_file, tiny
from support.pictures import piece
from torch import Tensor

from restore import Restorer
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig
from restore.errors import BadArgument, RestoreError
from restore.runtime.budget import Budget
from restore.runtime.tiles import TiledDenoiser, fixed_spans

SIZE = 16


def attentive(size: int | None = SIZE, **options) -> ModelConfig:
    return tiny(size, attention_factors=(1, 2), middle_attention=True, heads=2, **options)


@contextmanager
def shapes_seen(denoise: Denoiser) -> Iterator[list[tuple[int, ...]]]:
    """Of what the network is shown meanwhile."""
    seen: list[tuple[int, ...]] = []
    hook = denoise.network.register_forward_hook(
        lambda _, given, __: seen.append(tuple(given[0].shape))
    )
    yield seen
    hook.remove()


def noisy(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 28, 29, 41, 400])
def test_spans_have_the_length_and_their_weights_sum_to_one(size: int) -> None:
    found = fixed_spans(size, 16, 4)
    total = np.zeros(size)
    for span in found:
        assert span.stop - span.start == len(span.weights) == min(size, 16)
        assert span.weights.min() > 0
        total[span.place] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (found[0].start, found[-1].stop) == (0, size)
    assert all(before.stop - after.start >= 4 for before, after in pairwise(found))
    assert len(found) == max(1, -(-(size - 4) // 12))


@pytest.mark.parametrize(
    ("size", "with_condition", "batches"),
    [  # each size with and without both, in turns
        (size, with_condition, with_condition ^ bool(turn % 2))
        for turn, size in enumerate(
            [(16, 16), (1, 1), (16, 5), (9, 40), (40, 16), (17, 33), (64, 64)]
        )
        for with_condition in (False, True)
    ],
)
def test_the_network_sees_its_size_and_no_other(
    size: tuple[int, int], with_condition: bool, batches: bool
) -> None:
    options = {"condition_channels": 3, "condition_map": True} if with_condition else {}
    denoise = random_denoiser(attentive(**options))
    x = noisy(2, 3, *size)
    shown = Condition(x[:1], x[:1, :1]) if with_condition else None
    budget = Budget(memory=10**9, per_pixel=1000.0, batches=batches)
    with torch.inference_mode(), shapes_seen(denoise) as seen:
        found = TiledDenoiser(denoise, budget=budget)(x, torch.tensor([0.5, 2.0]), shown)
    assert found.clean.shape == x.shape
    assert {shape[2:] for shape in seen} == {(SIZE, SIZE)}
    tiles = (
        2 * len(fixed_spans(size[0], SIZE, SIZE // 4)) * len(fixed_spans(size[1], SIZE, SIZE // 4))
    )
    assert sum(shape[0] for shape in seen) == tiles
    if batches:
        assert len(seen) == 1


def test_a_picture_of_that_size_is_a_direct_call() -> None:
    denoise = random_denoiser(attentive())
    x = noisy(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        direct = random_denoiser(attentive(None))(x, 0.5)
        found = TiledDenoiser(denoise)(x, 0.5)
    assert torch.equal(found.clean, direct.clean)
    assert torch.equal(found.noise, direct.noise)


def test_a_small_picture_is_continued_by_mirroring() -> None:
    denoise = random_denoiser(attentive())
    x = noisy(1, 3, 6, SIZE)
    mirrored = torch.cat([x, x.flip(2), x[:, :, :4]], dim=2)
    with torch.inference_mode():
        found = TiledDenoiser(denoise)(x, 0.5)
        whole = denoise(mirrored, 0.5)
    assert torch.equal(found.clean, whole.clean[:, :, :6])


def test_tiles_are_those_of_the_picture_blended() -> None:
    """Where one tile alone sees a pixel, its answer stands."""
    denoise = random_denoiser(attentive())
    x = noisy(1, 3, SIZE, 28)
    with torch.inference_mode():
        found = TiledDenoiser(denoise)(x, 0.5).clean
        left = denoise(x[..., :16], 0.5).clean
        right = denoise(x[..., 12:], 0.5).clean
    torch.testing.assert_close(found[..., :12], left[..., :12], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[..., 16:], right[..., 4:], rtol=0, atol=1e-5)
    share = torch.sin(torch.pi / 2 * (torch.arange(4) + 0.5) / 4) ** 2
    torch.testing.assert_close(
        found[..., 12:16], (1 - share) * left[..., 12:] + share * right[..., :4], rtol=0, atol=1e-5
    )


def test_more_than_it_knows_is_refused_in_one_piece() -> None:
    with pytest.raises(ValueError, match="16x16 pixels alone, not 17x16"):
        random_denoiser(attentive())(noisy(1, 3, 16, 17), 0.5)


def test_when_memory_runs_out_the_tile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer at once, then an error that says so; never another size."""
    denoise = random_denoiser(attentive())
    plain = denoise.network.forward
    most = [1]

    def hungry(x: Tensor, time: Tensor) -> Tensor:
        if len(x) > most[0]:
            raise RuntimeError("not enough memory: you tried to allocate 8 bytes")
        return plain(x, time)

    monkeypatch.setattr(denoise.network, "forward", hungry)
    notices: list[str] = []
    budget = Budget(memory=10**9, per_pixel=1000.0, batches=True)
    tiled = TiledDenoiser(denoise, budget=budget, notice=notices.append)
    with torch.inference_mode():
        tiled(noisy(1, 3, 20, 20), 0.5)
    assert notices == [
        f"not enough memory for {2 * n} tiles at once: going on with {n}" for n in (2, 1)
    ]
    most[0] = 0
    with pytest.raises(RestoreError, match="pieces of 16x16 pixels"):
        tiled(noisy(1, 3, 20, 20), 0.5)


@pytest.mark.parametrize("size", [0, -16, 15])
def test_a_size_that_the_network_cannot_divide(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 2"):
        attentive(size)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    config = replace(attentive(condition_channels=3, condition_map=True), parameterization="v")
    return str(random_file(tmp_path_factory.mktemp("model") / "fixed.safetensors", config))


@pytest.mark.parametrize("task", ["sr", "deblur", "denoise"])
def test_a_task_by_tiles_of_its_size(model: str, task: str) -> None:
    """The operator acts on the whole: a picture of several tiles, and of a border that is
    unknown.
    """
    restorer = Restorer(model, "cpu")
    picture = torch.rand(3, 20, 30)
    with shapes_seen(restorer.denoiser.denoise) as seen:
        if task == "sr":
            found = restorer.sr(picture, 2, steps=2)
        elif task == "deblur":
            found = restorer.deblur(picture, "gaussian:1", noise=0.01, steps=2)
        else:
            found = restorer.denoise(picture, 0.1)
    assert found.shape == ((3, 40, 60) if task == "sr" else (3, 20, 30))
    assert {shape[2:] for shape in seen} == {(SIZE, SIZE)}


def test_a_tile_of_another_size_is_refused(command, picture, tmp_path, model: str) -> None:
    with pytest.raises(BadArgument, match="`tile`=128: this model sees pieces of 16 pixels alone"):
        Restorer(model, "cpu", tile=128)
    outcome = command(
        "denoise", picture(), tmp_path / "out.png", "--noise", 0.1, "--model", model, "--tile", 128
    )
    assert outcome.code == 1
    assert "this model sees pieces of 16 pixels alone" in outcome.err


def test_samples_have_its_size_or_more(command, tmp_path, model: str) -> None:
    words = ["--count", 1, "--steps", 2, "--model", model]
    assert command("sample", tmp_path / "own.png", *words).code == 0
    assert Image.open(tmp_path / "own.png").size == (SIZE, SIZE)
    assert command("sample", tmp_path / "more.png", *words, "--size", "40x16").code == 0
    assert Image.open(tmp_path / "more.png").size == (40, 16)
    outcome = command("sample", tmp_path / "less.png", *words, "--size", "40x8")
    assert outcome.code == 1
    assert "--size 40x8: sides of at least 16, the size of this model" in outcome.err


def test_what_is_said_of_it(command, tmp_path, model: str) -> None:
    piece((64, 64)).save(tmp_path / "a.png")
    assert command("likelihood", tmp_path / "a.png", "--model", model, "--size", SIZE).code == 0
    outcome = command("likelihood", tmp_path / "a.png", "--model", model)
    assert outcome.code == 1
    assert "--size 64: must be 16, the only size that this model knows" in outcome.err
    assert json.loads(command("info", "--model", model, "--json").out)["model"]["size"] == SIZE


RECIPE = """
[model]
size = {size}

[model.backbone]
channels = 32
channel_multipliers = [1, 2]
blocks = 1

[data]
crop = 16
batch = 4

[schedule]
warmup_steps = 1
"""


def test_training_keeps_to_the_size(command, tmp_path, monkeypatch) -> None:
    """Of crops and of the sheet of samples; the model's file says it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    piece((96, 96)).save("photos/a.png")
    words = [
        "train",
        "--data",
        "photos",
        "--validation",
        "photos",
        "--steps",
        1,
        "--device",
        "cpu",
        "--out",
    ]
    (tmp_path / "recipe.toml").write_text(RECIPE.format(size=16))
    outcome = command(*words, "run", "--recipe", "recipe.toml")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "run/model.json").read_text())["size"] == 16
    assert Image.open("run/samples.png").height == 16
    (tmp_path / "recipe.toml").write_text(RECIPE.format(size=32))
    outcome = command(*words, "other", "--recipe", "recipe.toml")
    assert outcome.code == 1
    assert "[data] crop 16: must be 32, the model's only size" in outcome.err
