"""The sheet of pictures that a training shows takes as many steps as its network needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.networks import random_denoiser, tiny

from restore.training.samples import STEPS, sample_sheet


@pytest.mark.parametrize(("parameterization", "steps"), [("epsilon", STEPS), ("v", 1)])
def test_a_network_that_predicts_noise_takes_more_than_one_step(
    parameterization: str, steps: int
) -> None:
    """One step from the highest level would show the network's error times that level."""
    config = tiny(condition_channels=3, condition_map=True)
    denoise = random_denoiser(
        replace(config, parameterization=parameterization, condition_required=True)
    )
    calls = []
    denoise.network.register_forward_hook(lambda *_: calls.append(1))
    clean = torch.zeros(2, 3, 16, 16)

    sheet, quality = sample_sheet(denoise, clean)

    assert len(calls) == steps
    assert sheet.shape == (3, 2 * 16, 3 * 16)
    assert list(quality) == ["psnr x4"]
