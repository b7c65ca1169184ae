"""``fast``: the best method of at most 8 calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import operators
from operators import Mask, ValidConvolution, kernels
from restore import Restorer
from restore.errors import BadArgument
from restore.methods.options import Knowledge, Options
from restore.methods.settings import settings_for
from restore.tasks import TASKS, Deblurring, Inpainting, SuperResolution
from restore.tasks.deblur import BLURRED, MOVED
from restore.tasks.inpaint import FILLING, NARROW_HOLES
from restore.tasks.kind import Kind
from restore.tasks.solve import resembled_kind


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("known", [Knowledge(), Knowledge(svd=False), Knowledge(conditional=False)])
def test_it_takes_at_most_8_calls(task: str, known: Knowledge) -> None:
    kind = TASKS[task].kind
    method, settings = settings_for(kind, Options(fast=True), known)
    assert 1 <= settings.steps <= 8
    if known == Knowledge():
        assert method == kind.fast
    if not known.svd:
        assert method != "ddrm"


def test_without_a_prior_it_is_the_conditional_network() -> None:
    kind = replace(TASKS["sr"].kind, fast="diffpir", fast_steps=6)
    method, settings = settings_for(kind, Options(fast=True), Knowledge(prior=False))
    assert (method, settings.steps) == ("sr3", 6)


@pytest.mark.parametrize(
    "given", [{"method": "ddrm"}, {"steps": 4}, {"samples": 2}, {"fidelity": 0.5}]
)
def test_options_that_choose_themselves_are_refused(given) -> None:
    name = next(iter(given))
    with pytest.raises(BadArgument, match=f"`fast` and `{name}`: both say how to restore"):
        settings_for(TASKS["sr"].kind, Options(fast=True, **given))


def test_it_runs(loaded_once) -> None:
    image = np.random.default_rng(0).random((8, 12, 3)).astype(np.float32)
    calls = []
    result = Restorer(device="cpu").run(SuperResolution(2), image, fast=True, callback=calls.append)
    assert len(calls) == result.report.steps <= 8


def test_few_steps_take_the_method_of_few_calls() -> None:
    kind = replace(TASKS["deblur"].kind, method="diffpir", fast="ddrm")
    assert settings_for(kind, Options(steps=8))[0] == "ddrm"
    assert settings_for(kind, Options(steps=20))[0] == "diffpir"
    assert settings_for(kind, Options(steps=8), Knowledge(svd=False))[0] == "diffpir"


def test_few_steps_do_not_take_what_needs_a_predictor() -> None:
    """From x3.5 on, SR3 is better where its condition is predicted; else DDRM stays."""
    far = TASKS["sr"].kinds()[1]
    assert settings_for(far, Options(steps=8))[0] == far.method
    assert settings_for(far, Options(steps=8), Knowledge(predictor=True))[0] == "sr3"


@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        ("gaussian:1", "ddrm"),
        ("disk:3", "ddrm"),
        ("box:5", "ddrm"),
        ("motion:15:30", "dpir"),
        ("motion:9:0", "dpir"),
        ("shake:15", "dpir"),
        ("motion:9:0:boundary=circular", "ddrm"),
    ],
)
def test_blurs_that_keep_detail_in_a_direction_are_undone_by_dpir(kernel, method) -> None:
    shape = (3, 40, 48)
    text = kernel if "boundary" in kernel else f"{kernel}:boundary=unknown"
    operator = operators.parse(f"blur:{text}").operator_for(shape)
    kind = Deblurring.kind_of(operator)
    assert settings_for(kind)[0] == method
    assert resembled_kind(operator) == kind
    if method == "dpir":
        assert settings_for(kind)[1].steps == 20
        assert settings_for(kind, Options(samples=2))[0] == "ddrm"
        assert settings_for(kind, Options(fast=True))[0] == "dpir"


def test_kernels_of_a_batch_have_one_kind() -> None:
    """DPIR, if each of them keeps detail in a direction."""
    motion, gaussian = kernels.motion(7, 30), kernels.gaussian(0.9)
    side = max(*motion.shape, *gaussian.shape)

    def padded(kernel: np.ndarray) -> np.ndarray:
        return np.pad(kernel, [((side - n) // 2, (side - n) // 2) for n in kernel.shape])

    for pair, kind in (((motion, motion), MOVED), ((motion, gaussian), BLURRED)):
        stacked = np.stack([padded(kernel) for kernel in pair])
        assert Deblurring.kind_of(ValidConvolution((3, 40, 48), stacked)) == kind


def _known(size: tuple[int, int] = (64, 80)) -> np.ndarray:
    return np.ones(size, bool)


def _hole(radius: int) -> np.ndarray:
    known = _known()
    known[30 - radius : 31 + radius, 40 - radius : 41 + radius] = False
    return known


def _scattered(fraction: float) -> np.ndarray:
    return np.random.default_rng(0).random((64, 80)) < fraction


def _line(width: int) -> np.ndarray:
    known = _known()
    known[20 : 20 + width] = False
    return known


@pytest.mark.parametrize(
    ("known", "method"),
    [
        (_scattered(0.5), "dpir"),
        (_scattered(0.2), "dpir"),
        (_scattered(0.1), "ddrm"),
        (_line(1), "dpir"),
        (_line(10), "dpir"),
        (_line(11), "ddrm"),
        (_hole(4), "dpir"),
        (_hole(5), "ddrm"),
        (_line(1)[:, :1], "dpir"),
        (np.arange(80)[None] < 60, "ddrm"),
    ],
)
def test_narrow_holes_are_filled_by_dpir(known: np.ndarray, method: str) -> None:
    operator = Mask((3, *known.shape), torch.from_numpy(known))
    kind = Inpainting.kind_of(operator)
    assert settings_for(kind)[0] == method
    assert resembled_kind(operator) == kind
    if method == "dpir":
        assert settings_for(kind)[1].steps == 20
        assert settings_for(kind, Options(samples=2))[0] == "daps"
        assert settings_for(kind, Options(fast=True))[0] == "dpir"


def test_masks_of_a_batch_have_one_kind() -> None:
    """DPIR, if the holes of each are narrow."""
    for pair, kind in (((2, 3), NARROW_HOLES), ((2, 8), FILLING)):
        known = torch.stack([torch.from_numpy(_hole(radius))[None] for radius in pair])
        assert Inpainting.kind_of(Mask((3, 64, 80), known)) == kind


@pytest.mark.parametrize(
    ("noise", "kind"), [(0, NARROW_HOLES), (0.05, NARROW_HOLES), (0.1, FILLING)]
)
def test_narrow_holes_in_strong_noise_are_filled_as_others(noise: float, kind: Kind) -> None:
    task = Inpainting(~_line(2), noise=noise)
    assert task.problem(torch.rand(1, 3, 64, 80)).kind == kind
