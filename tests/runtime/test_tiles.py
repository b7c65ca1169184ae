"""Tiles agree with the whole picture, whatever its size, and go on where memory or number formats
do not suffice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pretrained
from restore import Restorer
from restore.backbone import BackboneConfig
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.diffusion.gradient import differentiated
from restore.errors import RestoreError
from restore.methods.options import Options
from restore.runtime.budget import SMALLEST_TILE, Budget
from restore.runtime.tiles import OVERLAP, WIDE_ABOVE, WIDE_OVERLAP, TiledDenoiser
from restore.runtime.tiling import Span, spans, tile_area, tiling
from restore.tasks import TASKS

CHECKPOINT = pretrained.load("default")
DENOISE = build_denoiser(ModelConfig.from_dict(CHECKPOINT.config), CHECKPOINT.state)
PLAIN = ModelConfig(
    BackboneConfig(channels=32, channel_multipliers=(1, 1, 1), patch=2, norm="rms"),
    {"name": "linear"},
)
ONE_LEVEL = 1 / 255


class Recorded(nn.Module):
    """Stands for a network: answers for every pixel alone, and remembers what it was asked."""

    compute_dtype = torch.float32

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7]), requires_grad=False)
        self.most = most
        self.shapes = []

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        if x.shape[0] * x.shape[-2] * x.shape[-1] > self.most:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                "8 bytes"
            )
        return torch.tanh(self.weight * x + time[:, None, None, None] / 1000)


def pixelwise(most: float = math.inf) -> Denoiser:
    return Denoiser(Recorded(most), PLAIN)


def noisy(*shape: int, sigma: float = 0.5) -> tuple[Tensor, Tensor]:
    """A smooth picture in [-1, 1] with noise, and the picture."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(shape[0], shape[1], 9, 9, generator=g) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear")
    return smooth + sigma * torch.randn(shape, generator=g), smooth


# --- what tiles cover
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [1, 8, 32])
@pytest.mark.parametrize("size", [1, 2, 97, 128, 129, 191, 256, 257, 500, 1000, 1009, 4001])
def test_weights_sum_to_one_and_spans_overlap(size: int, grid: int) -> None:
    found = spans(size, 128, 32, grid)
    _check_spans(found, size, 32, grid)
    assert all(span.stop - span.start <= 128 for span in found)


def _check_spans(found: Sequence[Span], size: int, overlap: int, grid: int) -> None:
    total = np.zeros(size)
    for span in found:
        assert span.start % grid == 0
        assert span.stop - span.start == len(span.weights)
        assert span.weights.min() > 0
        total[span.place] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (found[0].start, found[-1].stop) == (0, size)
    assert all(
        a.stop - b.start >= min(overlap, size - b.start) for a, b in itertools.pairwise(found)
    )


def test_spans_are_as_short_as_their_number_allows() -> None:
    """A picture a little larger than a tile does not cost twice the time of one tile."""
    assert [span.place for span in spans(1100, 1024, 96, 8)] == [slice(0, 600), slice(504, 1100)]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.integers(32, 600),
    st.integers(8, 300),
    st.sampled_from([1, 8, 32]),
)
def test_every_picture_is_divided_into_tiles_of_no_more_than_the_area(
    height: int, width: int, side: int, overlap: int, grid: int
) -> None:
    rows, columns = tiling(height, width, side**2, overlap, grid)
    least = min(-(-overlap // grid), max(side // grid, 2) // 2) * grid
    _check_spans(rows, height, least, grid)
    _check_spans(columns, width, least, grid)
    if len(rows) * len(columns) > 1:
        assert tile_area(rows, columns, grid) <= max(side, 2 * grid) ** 2
    if height * width <= side**2:
        assert len(rows) == len(columns) == 1
    else:
        assert len(rows) * len(columns) > 1 or grid > 1


@settings(max_examples=30, deadline=None)
@given(st.integers(100, 400), st.integers(100, 400), st.integers(60, 200))
def test_no_other_number_of_rows_and_columns_has_fewer_pixels(
    height: int, width: int, side: int
) -> None:
    """Against all that spans of every length come to; with a coarser grid but for rounding."""
    grid = 1

    def pixels(rows: Sequence[Span], columns: Sequence[Span]) -> int:
        return len(rows) * len(columns) * tile_area(rows, columns, grid)

    overlap = 24
    found = pixels(*tiling(height, width, side**2, overlap, grid))
    lengths = range(2 * overlap, max(height, width) + grid, grid)
    axes = [
        {len(s): s for s in (spans(size, n, overlap, grid) for n in lengths)}
        for size in (height, width)
    ]
    others = [
        pixels(rows, columns)
        for rows, columns in itertools.product(*(axis.values() for axis in axes))
        if tile_area(rows, columns, grid) <= side**2
    ]
    assert found <= min(others)


def test_tiles_of_a_photograph_cost_little_more_than_its_pixels() -> None:
    """12 megapixels in four tiles of at most 2048×2048."""
    rows, columns = tiling(3000, 4000, 2048**2, OVERLAP, 8)
    assert (len(rows), len(columns)) == (2, 2)
    assert 4 * tile_area(rows, columns, 8) < 1.06 * 3000 * 4000


def test_the_window_is_smooth() -> None:
    """A ramp's slope jumps by 1/24 of a pixel; a raised cosine's changes by less than a sixth of
    that.
    """
    for span in spans(600, 128, 24, 8):
        assert np.abs(np.diff(span.weights, 2)).max() < 1 / 24 / 2
        assert np.abs(np.diff(span.weights)).max() > 1 / 24


# --- tiles against the whole
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 700), (700, 1), (5, 3), (97, 89), (211, 223), (401, 64), (64, 401), (300, 300)],
)
@pytest.mark.parametrize("with_condition", [False, True])
def test_every_size_is_tiled_without_a_trace(size: tuple[int, int], with_condition: bool) -> None:
    """What answers for each pixel alone answers the same in tiles."""
    x, smooth = noisy(2, 3, *size)
    levels = torch.tensor([0.5, 0.1])
    config = ModelConfig(
        BackboneConfig(channels=32, condition_channels=3, condition_map=True), {"name": "linear"}
    )
    denoise = Denoiser(Recorded(), config if with_condition else PLAIN)
    shown = Condition(smooth[:1], torch.ones(2, 1, *size)) if with_condition else None
    whole = denoise(x, levels, shown)
    asked = len(denoise.network.shapes)
    for found, expected in zip(
        TiledDenoiser(denoise, 128, 32)(x, levels, shown), whole, strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    calls = denoise.network.shapes[asked:]
    assert all(height * width <= 128**2 for _, _, height, width in calls)
    assert (len(calls) > 2) == (math.prod(size) > 128**2)


@pytest.mark.parametrize(
    ("size", "sigma", "limit"), [((97, 240), 0.1, 1e-3), ((200, 200), 5.0, 2e-2)]
)
def test_tiles_of_the_default_network_agree_with_the_whole(
    size: tuple[int, int], sigma: float, limit: float
) -> None:
    """With tiles far smaller than those in use; at high noise the network looks furthest."""
    x, smooth = noisy(1, 3, *size, sigma=sigma)
    condition = Condition(smooth, torch.ones(1, 1, *size))
    for shown in (None, condition):
        with torch.inference_mode():
            whole = DENOISE(x, sigma, shown)
            tiled = TiledDenoiser(DENOISE, tile=128, overlap=48)(x, sigma, shown)
        assert tiled.clean.shape == x.shape
        assert 0 < float((tiled.clean - whole.clean).abs().mean()) < limit
        torch.testing.assert_close(tiled.clean + sigma * tiled.noise, x, rtol=1e-3, atol=1e-3)


def test_a_picture_of_one_tile_goes_through_whole() -> None:
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(
            TiledDenoiser(DENOISE, tile=64, overlap=8)(x, 0.5).clean, DENOISE(x, 0.5).clean
        )


def test_several_tiles_go_through_at_once_where_that_is_faster() -> None:
    x, _ = noisy(2, 3, 300, 300)
    budget = Budget(memory=10**9, per_pixel=1000.0, batches=True)
    singly = pixelwise()
    together = pixelwise()
    expected = TiledDenoiser(singly, 128, 32)(x, 0.5)
    found = TiledDenoiser(together, 128, 32, budget=budget)(x, 0.5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert {shape[0] for shape in singly.network.shapes} == {1}
    assert [shape[0] for shape in together.network.shapes] == [18]


def test_small_pictures_are_divided_into_batches_that_fit() -> None:
    x, _ = noisy(5, 3, 64, 64)
    levels = torch.linspace(0.1, 0.5, 5)
    denoise = pixelwise()
    expected = denoise(x, levels)
    found = TiledDenoiser(denoise, 96, 32)(x, levels)
    assert [shape[0] for shape in denoise.network.shapes[1:]] == [2, 2, 1]
    torch.testing.assert_close(found.clean, expected.clean)


@pytest.mark.parametrize("task", ["sr", "deblur", "inpaint"])
def test_restored_in_tiles_or_whole_differs_by_less_than_a_level(task: str, float32: None) -> None:
    _agree(task, 256, 208)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sr", "deblur", "inpaint"])
def test_tiles_of_a_large_picture(task: str, float32: None) -> None:
    _agree(task, 1024, 640)


@pytest.mark.slow
@pytest.mark.parametrize("width", [48, 96, 170])
def test_tiles_that_meet_in_a_wide_hole(width: int, float32: None) -> None:
    """In the middle of the picture, where four tiles meet and nothing but the network knows what is
    there.
    """
    _agree("inpaint", 1024, 640, hole=(slice(512 - width // 2, 512 + width // 2),) * 2)


def test_tiles_overlap_more_where_the_network_looks_further() -> None:
    x, _ = noisy(1, 3, 1000, 1200)
    for sigma, overlap in ((WIDE_ABOVE, OVERLAP), (1.1 * WIDE_ABOVE, WIDE_OVERLAP)):
        rows, columns = tiling(1000, 1200, 700**2, overlap, 8)
        assert all(
            a.stop - b.start >= overlap
            for axis in (rows, columns)
            for a, b in itertools.pairwise(axis)
        )
        for level in (sigma, torch.tensor(sigma), torch.tensor([sigma])):
            denoise = pixelwise()
            TiledDenoiser(denoise, 700)(x, level)
            assert len(denoise.network.shapes) == len(rows) * len(columns) > 1
            assert {shape[-2:] for shape in denoise.network.shapes} == {
                (rows[0].stop, columns[0].stop)
            }


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 a convolution rounds differently with the size of its input, more than tiles
    matter.
    """
    monkeypatch.setattr("restore.restorer.network_dtype", lambda _: torch.float32)


def _agree(task: str, size: int, tile: int, hole: tuple[slice, slice] | None = None) -> None:
    """By the shipped model and its methods, with few steps, on a photograph that is repeated
    mirrored.
    """
    photo = torch.from_numpy(_photograph(size)).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(photo, scale_factor=0.5, mode="area")
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[hole or (slice(size // 3, size // 3 + 20), slice(size // 4, 3 * size // 4))] = True
    pictures = {"sr": small, "deblur": photo, "inpaint": photo}
    arguments = {
        "sr": {"scale": 2},
        "deblur": {"kernel": "motion:9:30", "noise": 0.01},
        "inpaint": {"mask": mask},
    }
    results = []
    for side in (size + 64, tile):  # the picture sought by deblurring is a little larger
        restorer = Restorer(device="cpu", tile=side)
        problem = restorer.problem(TASKS[task](**arguments[task]), pictures[task])
        calls = _counted(restorer)
        method = "diffpir" if task == "deblur" else "ddrm"
        results.append(restorer.solve_problem(problem, Options(method, steps=2))[0])
        assert calls[0] == 2 if side > size else calls[0] > 2
    assert 0 < float((results[0] - results[1]).abs().max()) <= ONE_LEVEL


def _counted(restorer: Restorer) -> list[int]:
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    restorer.denoiser.denoise.network.register_forward_hook(count)
    return calls


def _photograph(size: int) -> np.ndarray:
    from PIL import Image
    from support.pictures import FIXTURES

    photo = np.asarray(Image.open(FIXTURES / "crop_a.png").convert("RGB"), dtype=np.float32) / 255
    more = [(0, max(0, size - n)) for n in photo.shape[:2]]
    return np.pad(photo, (*more, (0, 0)), mode="symmetric")[:size, :size]


# --- when memory runs out
# ---------------------------------------------------------------------------------


def test_out_of_memory_halves_the_tile_and_gives_the_same() -> None:
    x, _ = noisy(1, 3, 700, 500)
    notices: list[str] = []
    denoise = pixelwise(most=200**2)
    tiled = TiledDenoiser(denoise, 512, 96, notice=notices.append)
    found = tiled(x, 0.5)
    torch.testing.assert_close(found.clean, pixelwise()(x, 0.5).clean, rtol=0, atol=1e-5)
    assert notices == [
        "not enough memory: going on with tiles of 224 pixels",
        "not enough memory: going on with tiles of 128 pixels",
    ]
    asked = len(denoise.network.shapes)
    tiled(x, 0.5)  # the smaller tile stays
    assert len(notices) == 2
    assert max(shape[-1] * shape[-2] for shape in denoise.network.shapes[asked:]) <= 128**2


def test_out_of_memory_gives_up_batches_before_it_halves() -> None:
    x, _ = noisy(1, 3, 300, 300)
    notices: list[str] = []
    budget = Budget(memory=10**9, per_pixel=1000.0, batches=True)
    tiled = TiledDenoiser(pixelwise(most=128**2), 128, 32, budget=budget, notice=notices.append)
    torch.testing.assert_close(tiled(x, 0.5).clean, pixelwise()(x, 0.5).clean, rtol=0, atol=1e-5)
    assert notices == [
        "not enough memory for 9 tiles at once: going on with 4",
        "not enough memory for 4 tiles at once: going on with 2",
        "not enough memory for 2 tiles at once: going on with 1",
    ]


@pytest.mark.parametrize("size", [(20, 30), (300, 300)])
def test_out_of_memory_with_the_smallest_tile_says_what_to_do(size: tuple[int, int]) -> None:
    x, _ = noisy(1, 3, *size)
    with pytest.raises(
        RestoreError,
        match=f"even for pieces of {SMALLEST_TILE}x{SMALLEST_TILE} pixels; close other",
    ):
        TiledDenoiser(pixelwise(most=0), notice=lambda _: None)(x, 0.5)


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    x, _ = noisy(1, 4, 300, 300)
    denoise = build_denoiser(PLAIN, _random_state(PLAIN))
    with pytest.raises(RuntimeError, match="channels"):
        TiledDenoiser(denoise, notice=pytest.fail)(x, 0.5)


def test_a_solver_without_memory_is_an_error_for_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: object) -> None:
        raise RuntimeError("not enough memory: you tried to allocate 123 bytes")

    monkeypatch.setattr("restore.restorer.consistency", hungry)
    with pytest.raises(RestoreError, match="not enough memory for a picture of 24x16 pixels"):
        Restorer(device="cpu").denoise(torch.rand(3, 16, 24), 0.1)


# --- when numbers overflow
# --------------------------------------------------------------------------------


def _random_state(config: ModelConfig, scale: float = 1.0) -> dict[str, Tensor]:
    """Weights of a network; those of its first convolution times ``scale``."""
    from restore.backbone import build_backbone

    generator = torch.Generator().manual_seed(0)
    state = build_backbone(config.backbone).state_dict()
    state = {name: 0.05 * torch.randn(t.shape, generator=generator) for name, t in state.items()}
    state["input_blocks.0.0.weight"] *= scale
    return state


def test_what_overflows_in_half_precision_is_redone_in_float32() -> None:
    state = _random_state(PLAIN, scale=2e5)
    half, full = (
        build_denoiser(PLAIN, state, "cpu", dtype) for dtype in (torch.float16, torch.float32)
    )
    x, _ = noisy(1, 3, 150, 120)
    notices: list[str] = []
    with torch.inference_mode():
        assert not torch.isfinite(half(x, 0.5).clean).all()
        expected = full(x, 0.5).clean
        tiled = TiledDenoiser(half, 128, 64, notice=notices.append)
        found = tiled(x, 0.5).clean
        tiled(x, 0.5)
    assert torch.isfinite(found).all()
    assert float((found - expected).abs().mean()) < 0.02 * float(expected.abs().mean())
    assert notices == [
        "the network's result is not finite in half precision; such parts are redone in float32"
    ]
    assert half.network.compute_dtype == torch.float16


def test_of_a_batch_only_what_overflows_is_redone() -> None:
    """The others keep what half precision gave them, as alone."""
    half = build_denoiser(PLAIN, _random_state(PLAIN, scale=2e4), "cpu", torch.float16)
    x, _ = noisy(3, 3, 32, 32)
    x[0], x[2] = 0, 0
    x[1] *= 1e5
    notices: list[str] = []
    with torch.inference_mode():
        assert [bool(torch.isfinite(half(x[[i]], 0.5).clean).all()) for i in range(3)] == [
            True,
            False,
            True,
        ]
        found = TiledDenoiser(half, notice=notices.append)(x, 0.5).clean
        assert torch.equal(found[[0]], half(x[[0]], 0.5).clean)
        assert torch.equal(found[[2]], half(x[[2]], 0.5).clean)
    assert torch.isfinite(found).all()
    assert len(notices) == 1


def test_what_is_not_finite_in_float32_either_is_an_error() -> None:
    state = _random_state(PLAIN) | {"out.2.bias": torch.full((12,), torch.nan)}
    for dtype in (torch.float16, torch.float32):
        denoise = build_denoiser(PLAIN, state, "cpu", dtype)
        with pytest.raises(RestoreError, match="not finite"):
            TiledDenoiser(denoise, notice=lambda _: None)(torch.rand(1, 3, 16, 16), 0.5)


# --- what is refused
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 64, 100])
def test_refuses_an_overlap_as_large_as_the_tile(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        TiledDenoiser(DENOISE, tile=64, overlap=overlap)


def test_the_gradient_through_tiles() -> None:
    """It is the derivative of the blended picture, and each tile is predicted once more for it."""
    denoise = pixelwise()
    tiled = TiledDenoiser(denoise, 16, 4)
    x = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0)) - 0.5
    v = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    expected = differentiated(denoise, x, 0.3)[1](v)
    denoise.network.shapes.clear()
    prediction, pull_back = differentiated(tiled, x, 0.3)
    tiles = len(denoise.network.shapes)
    found = pull_back(v)
    torch.testing.assert_close(prediction.clean, denoise(x, 0.3).clean)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert tiles > 8
    assert len(denoise.network.shapes) == 2 * tiles + 1  # and the whole one above


def test_tiles_are_smaller_where_a_gradient_is_wanted() -> None:
    """The memory then holds a call and its derivative, which takes several times as much."""
    budget = Budget.of(DENOISE, None)
    budget = Budget(int(1e9), budget.per_pixel)
    tiled = TiledDenoiser(DENOISE, budget=budget)
    x = torch.zeros(1, 3, 8, 8)
    plain = tiled.side(x)
    wanted = tiled.side(x.requires_grad_())
    assert 3 < (plain / wanted) ** 2 < 6
    with torch.no_grad():
        assert tiled.side(x) == plain
