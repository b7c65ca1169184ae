"""The denoiser's coordinates: every parameterisation of one analytic truth gives one answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pretrained
from restore.backbone import BackboneConfig, build_backbone, mirror_to_multiple
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.photo.photograph import read_photo

LINEAR = {"name": "linear"}
TINY = BackboneConfig(
    channels=32, channel_multipliers=(1, 2), blocks=1, middle_attention=False, norm="rms"
)
PRIOR_VARIANCE = 0.3


class GaussianNetwork(nn.Module):
    """What a perfect network answers for pictures of white Gaussian pixels N(0, 0.3), in VP
    coordinates.
    """

    def __init__(self, parameterization: str, schedule) -> None:
        super().__init__()
        self.parameterization = parameterization
        self.schedule = schedule
        self.register_parameter("anchor", nn.Parameter(torch.zeros(1)))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        alpha_bar = torch.as_tensor(1 / (1 + self.schedule.sigma_at(time.numpy()) ** 2)).float()[
            :, None, None, None
        ]
        alpha = alpha_bar.sqrt()
        s = (1 - alpha_bar).sqrt()
        clean = alpha * PRIOR_VARIANCE * x / (alpha_bar * PRIOR_VARIANCE + 1 - alpha_bar)
        noise = (x - alpha * clean) / s
        return {"x0": clean, "epsilon": noise, "v": alpha * noise - s * clean}[
            self.parameterization
        ]


@pytest.mark.parametrize("parameterization", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("sigma", [0.02, 0.5, 3.0, torch.tensor([0.1, 20.0])], ids=str)
def test_every_parameterization_gives_the_posterior_mean(parameterization: str, sigma) -> None:
    config = ModelConfig(TINY, LINEAR, parameterization)
    denoise = Denoiser(nn.Identity(), config)
    denoise.network = GaussianNetwork(parameterization, denoise.schedule)
    x = 2 * torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    level = torch.as_tensor(sigma).reshape(-1, 1, 1, 1)
    prediction = denoise(x, sigma)
    tolerance = 1e-3 * max(1.0, float(level.max())) if parameterization == "epsilon" else 1e-3
    torch.testing.assert_close(
        prediction.clean, PRIOR_VARIANCE / (PRIOR_VARIANCE + level**2) * x, rtol=0, atol=tolerance
    )
    torch.testing.assert_close(prediction.clean + level * prediction.noise, x, rtol=1e-4, atol=1e-4)


def _default(dtype: torch.dtype = torch.float32) -> Denoiser:
    checkpoint = pretrained.load("default")
    return build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state, "cpu", dtype)


def test_default_denoiser_by_the_formulas_of_its_card() -> None:
    """x̂0 = α (α x) − s v̂ with v̂ = F − s · condition, at the interpolated time."""
    denoise = _default()
    sigma = 0.7
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 16, 24, generator=g)
    picture = torch.rand(1, 3, 16, 24, generator=g)
    known = torch.ones(1, 1, 16, 24)
    with torch.inference_mode():
        prediction = denoise(x, sigma, Condition(picture, known))
        alpha = (1 + sigma**2) ** -0.5
        s = sigma * alpha
        time = denoise.schedule.time_at(torch.tensor([sigma]))
        output = denoise.network(torch.cat([alpha * x, picture, known], dim=1), time)
    v = output - s * picture
    torch.testing.assert_close(prediction.clean, alpha * alpha * x - s * v, rtol=0, atol=1e-5)
    torch.testing.assert_close(prediction.noise, s * alpha * x + alpha * v, rtol=0, atol=1e-5)


def test_no_condition_is_a_condition_of_zeros() -> None:
    denoise = _default()
    x = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        absent = denoise(x, 1.0)
        zeros = denoise(x, 1.0, Condition(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)))
        shown = denoise(x, 1.0, Condition(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)))
    assert torch.equal(absent.clean, zeros.clean)
    assert (absent.clean - shown.clean).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 8), (13, 30), (16, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    denoise = _default()
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        prediction = denoise(x, 0.5)
    assert prediction.clean.shape == x.shape
    torch.testing.assert_close(prediction.clean + 0.5 * prediction.noise, x, rtol=1e-4, atol=1e-4)


def test_a_batch_with_own_noise_levels_is_its_pictures_one_by_one() -> None:
    denoise = _default()
    x = torch.randn(3, 3, 16, 16)
    levels = torch.tensor([0.02, 0.7, 40.0])
    with torch.inference_mode():
        together = denoise(x, levels).clean
        alone = torch.cat([denoise(x[i : i + 1], float(levels[i])).clean for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_denoises_a_photograph() -> None:
    photo = read_photo(Path(__file__).parents[1] / "fixtures" / "crop_a.png")
    x0 = 2 * torch.from_numpy(photo.pixels).permute(2, 0, 1)[None] - 1
    noisy = x0 + 0.2 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        clean = _default()(noisy, 0.2).clean
    assert (clean - x0).square().mean() < 0.25 * (noisy - x0).square().mean()


def test_mirrors_at_any_size() -> None:
    x = torch.arange(3.0).reshape(1, 1, 1, 3)
    assert mirror_to_multiple(x, 8)[0, 0, 0].tolist() == [0, 1, 2, 2, 1, 0, 0, 1]
    assert mirror_to_multiple(x, 8).shape == (1, 1, 8, 8)
    assert mirror_to_multiple(x, 1) is x


def test_unconditional_network_refuses_a_condition() -> None:
    config = ModelConfig(TINY, LINEAR)
    with torch.device("meta"):
        state = build_backbone(TINY).state_dict()
    denoise = build_denoiser(config, {k: torch.zeros(v.shape) for k, v in state.items()})
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="unconditional"):
        denoise(x, 1.0, Condition(x, x[:, :1]))


def test_weights_that_do_not_fit_are_named() -> None:
    checkpoint = pretrained.load("default")
    config = ModelConfig.from_dict(checkpoint.config)
    state = dict(checkpoint.state)
    state["extra"] = state.pop("out.2.bias")
    state["out.0.weight"] = state["out.0.weight"][:3]
    with pytest.raises(
        ValueError, match=r"missing: out\.2\.bias.*unexpected: extra.*wrong shape: out\.0\.weight"
    ):
        build_denoiser(config, state)


def test_config_survives_json_and_refuses_unknown_keys() -> None:
    config = ModelConfig.from_dict(pretrained.load("default").config)
    assert ModelConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    with pytest.raises(TypeError, match="colour"):
        ModelConfig.from_dict({**asdict(config), "colour": 1})
    with pytest.raises(ValueError, match="condition skip"):
        ModelConfig(TINY, LINEAR, "epsilon", condition_skip=True)
    with pytest.raises(ValueError, match="one_step must be noise or zeros"):
        ModelConfig(TINY, LINEAR, "v", one_step="grey")
    with pytest.raises(ValueError, match="one_step = zeros: an epsilon-network"):
        ModelConfig(TINY, LINEAR, "epsilon", one_step="zeros")
    with pytest.raises(ValueError, match="parameterization"):
        ModelConfig(TINY, LINEAR, "score")
    with pytest.raises(ValueError, match="time must be"):
        ModelConfig(TINY, LINEAR, time="minutes")
    with pytest.raises(ValueError, match="condition_resampling must be"):
        ModelConfig(TINY, LINEAR, condition_resampling="lanczos")
    with pytest.raises(ValueError, match="no condition_channels"):
        ModelConfig(TINY, LINEAR, condition_required=True)
