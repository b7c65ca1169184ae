"""Networks that were trained with their low-resolution condition alone: they enlarge by their
factor, and say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.published_networks import Sr3Network, randomised
from torch import Tensor

from pretrained import layouts
from restore.diffusion.denoiser import Condition, enlarged
from restore.errors import BadArgument
from restore.methods.options import Knowledge, Options
from restore.methods.settings import settings_for
from restore.restorer import Restorer
from restore.tasks import KINDS, SuperResolution

PICTURE = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
LARGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small network as Janspiry's 16→128, in our own format."""
    folder = tmp_path_factory.mktemp("sr3")
    network = randomised(Sr3Network(multipliers=(1, 2), blocks=1, attention=(1,)))
    torch.save(network.state_dict(), folder / "I1_E1_gen.pth")
    layouts.convert(
        folder / "I1_E1_gen.pth",
        folder / "sr3.safetensors",
        expected={"backbone": {"norm_groups": 32}},
    )
    return folder / "sr3.safetensors"


@pytest.fixture(scope="module")
def restorer(model) -> Restorer:
    return Restorer(str(model), "cpu")


def test_super_resolution_goes_by_sr3(restorer, monkeypatch) -> None:
    """And the network sees what Pillow's cubic makes of the picture."""
    seen: list[Condition] = []
    call = type(restorer.denoiser).__call__

    def watched(self: Any, x: Tensor, sigma: Any, condition: Condition | None = None) -> Any:
        seen.append(condition)
        return call(self, x, sigma, condition)

    monkeypatch.setattr(type(restorer.denoiser), "__call__", watched)
    result = restorer.run(SuperResolution(8), PICTURE, steps=3)
    assert (result.report.method, result.report.steps) == ("sr3", 3)
    assert result.mean.shape == (1, 3, 32, 48)
    torch.testing.assert_close(seen[0].picture, 2 * enlarged(PICTURE, (32, 48), "pil-bicubic") - 1)
    restorer.run(SuperResolution(8), PICTURE, steps=3, sampler="dpmpp-2m")


def test_estimates_by_the_noise_are_clipped_to_the_range_of_pictures(restorer, monkeypatch) -> None:
    """At high noise, a small error of ε̂ puts the estimate far outside."""
    given: dict[str, Any] = {}

    def instead(denoise, condition, sigmas, **_) -> Tensor:
        given.update(denoise=denoise, condition=condition)
        return torch.zeros_like(condition.picture)

    monkeypatch.setattr("restore.methods.sr3.sr3", instead)
    restorer.run(SuperResolution(8), PICTURE, steps=3)
    x = 50 * torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(2))

    with torch.inference_mode():
        plain = restorer.denoiser(x, 50.0, given["condition"]).clean
        clipped = given["denoise"](x, 50.0, given["condition"])

    assert plain.abs().max() > 2
    torch.testing.assert_close(clipped.clean, plain.clamp(-1, 1))
    torch.testing.assert_close(clipped.noise, (x - plain.clamp(-1, 1)) / 50)


def test_another_factor_is_refused_with_the_right_one(restorer) -> None:
    with pytest.raises(
        BadArgument, match=r"`scale`=4: this model was trained to enlarge 8 times.*use `scale`=8"
    ):
        restorer.sr(PICTURE, scale=4)
    with pytest.raises(BadArgument, match="`scale`=8"):
        restorer.solve(LARGE, "down:bicubic:2")
    assert restorer.solve(LARGE[..., :4, :4], "down:bicubic:8", steps=2).shape == (1, 3, 32, 32)


def test_other_tasks_and_methods_are_refused_with_the_reason(
    restorer, model, command, picture, tmp_path
) -> None:
    with pytest.raises(
        BadArgument, match="trained for super-resolution alone, which is not denoise"
    ):
        restorer.denoise(LARGE, 0.1)
    with pytest.raises(BadArgument, match=r"`method`=ddrm: it needs a prior.*use sr3 or one-step"):
        restorer.sr(PICTURE, scale=8, method="ddrm")
    assert restorer.sr(PICTURE, scale=8, method="one-step").isfinite().all()
    outcome = command("sample", tmp_path / "grid.png", "--model", model)
    assert outcome.code == 1
    assert "knows no pictures by themselves" in outcome.err
    outcome = command("colorize", picture(), "--model", model, "--device", "cpu")
    assert outcome.code == 1
    assert "trained for super-resolution alone" in outcome.err
    outcome = command(
        "sr",
        picture(size=(6, 4)),
        tmp_path / "out.png",
        "--model",
        model,
        "--scale",
        8,
        "--steps",
        2,
    )
    assert outcome.code == 0, outcome.err


def test_settings_of_a_model_without_a_prior() -> None:
    known = Knowledge(prior=False)
    assert settings_for(KINDS["sr"], None, known)[0] == "sr3"
    assert settings_for(KINDS["sr"], Options(samples=4), known)[0] == "sr3"
    assert settings_for(KINDS["sr"], Options("one-step"), known)[0] == "one-step"
    for task in ("inpaint", "deblur", "denoise", "colorize", "solve", "compressed"):
        with pytest.raises(BadArgument, match=f"which is not {task}"):
            settings_for(KINDS[task], None, known)
