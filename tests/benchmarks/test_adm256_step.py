"""ADM's network for 256 × 256 in DDRM: the whole size once in the slow tests, a small one
always.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch
from support.benchmark_scripts import benchmark

import operators
from restore.diffusion.denoiser import ModelConfig

HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark as a module."""
    return benchmark("adm256_step")


def _check(script: ModuleType, config: ModelConfig, dtype: torch.dtype, side: int, steps: int):
    found = script.measured(script.random_denoiser(config, HOST, dtype), side, steps)
    assert found.answer.shape == (1, 3, side, side)
    assert bool(torch.isfinite(found.answer).all())
    small = operators.downsample((3, side, side), 4)
    truth = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(small.A(found.answer), small.A(truth), atol=1e-3, rtol=0)
    assert len(found.calls) == steps
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_small_one(script, dtype) -> None:
    """Random, finite, not zero, and in the number format that was asked for."""
    config = ModelConfig(
        replace(script.ADM_256, channels=32, channel_multipliers=(1, 2, 4, 4), head_channels=16),
        {"name": "linear"},
    )
    found = _check(script, config, dtype, 32, 2)
    assert found.weights == pytest.approx(
        found.parameters * dtype.itemsize / 2**30, rel=0.2
    )  # norms in float32
    clean = script.random_denoiser(config, HOST, dtype)(torch.randn(1, 3, 32, 32), 1.0)
    assert 0.1 < float(clean.noise.std()) < 10


@pytest.mark.slow
def test_the_whole_network_takes_a_step_of_ddrm_on_the_cpu(script) -> None:
    found = _check(script, ModelConfig(script.ADM_256, {"name": "linear"}), torch.bfloat16, 256, 1)
    assert found.parameters == script.PARAMETERS == 552_814_086
    assert found.weights == pytest.approx(1.05, abs=0.05)
