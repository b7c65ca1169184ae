"""Weights of others under our names: parity with networks that others wrote, and every trap between
the layouts.

Each trap is sprung as well: what loads without complaint and is wrong must answer differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.published_networks import DdpmNetwork, EdmNetwork, Sr3Network, randomised
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained import layouts
from pretrained.layouts.ddpm import Ddpm
from pretrained.layouts.diffusers import UNet2D
from pretrained.layouts.edm import Edm
from pretrained.layouts.layout import Layout
from pretrained.layouts.sr3 import Sr3
from restore.backbone import Backbone, BackboneConfig, build_backbone
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, build_denoiser, enlarged
from restore.diffusion.schedule import linear_alphas_cumprod

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
CLEARLY = 1e-2
"""By how much a sprung trap must change the answer, of which the largest number is about 1."""

GOOGLE = {
    "sample_size": 16,
    "block_out_channels": (32, 32, 64),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
"""The options of google/ddpm-celebahq-256 and its like at a small width."""

ADM_LIKE = {
    **GOOGLE,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "downsample_padding": 1,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,
    "attention_head_dim": 16,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-5,
}
"""As ADM: residual blocks that resize, scale and shift, several heads."""

VARIANTS = {
    "google": GOOGLE,
    "google CIFAR-10": {
        **GOOGLE,
        "block_out_channels": (32, 64, 64, 64),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
    "one level, one block": {
        **GOOGLE,
        "layers_per_block": 1,
        "block_out_channels": (32,),
        "down_block_types": ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",),
    },
    "symmetric padding, shifted embedding": {
        **GOOGLE,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
    },
    "heads, groups, eps": {
        **GOOGLE,
        "attention_head_dim": 8,
        "norm_num_groups": 16,
        "norm_eps": 1e-3,
    },
    "no attention": {
        **GOOGLE,
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "add_attention": False,
    },
    "ADM-like": ADM_LIKE,
    "ADM-like with classes": {**ADM_LIKE, "num_class_embeds": 7},
}


def unet2d(options: dict[str, Any]) -> nn.Module:
    return randomised(diffusers.UNet2DModel(**options))


def diffusers_folder(network: nn.Module, folder: Path, **scheduler: Any) -> Path:
    network.save_pretrained(folder)
    description = {
        "num_train_timesteps": 1000,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        **scheduler,
    }
    (folder / "scheduler_config.json").write_text(json.dumps(description))
    return folder


def noisy(channels: int = 3, height: int = 16, width: int = 16) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([3.0, 711.0])


def loaded(path: Path, expected: dict[str, Any] | None = None) -> Denoiser:
    config, state = layouts.read(path, expected=expected)
    return build_denoiser(ModelConfig.from_dict(json.loads(json.dumps(config))), state)


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def answer(network: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found = network(*inputs)
    return found if isinstance(found, Tensor) else found.sample


def changed(denoiser: Denoiser, **options: Any) -> Backbone:
    """The same weights under other options."""
    backbone = ModelConfig.from_dict(
        {**vars(denoiser.config), "backbone": vars(denoiser.config.backbone) | options}
    )
    network = build_backbone(backbone.backbone).eval()
    network.load_state_dict(denoiser.network.state_dict())
    return network


def differs(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() > CLEARLY * expected.abs().max())


# --- diffusers
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_a_diffusers_network_answers_as_diffusers(name: str, tmp_path) -> None:
    network = unet2d(VARIANTS[name])
    denoiser = loaded(diffusers_folder(network, tmp_path))
    x, time = noisy()
    label = (torch.tensor([4, 0]),) if VARIANTS[name].get("num_class_embeds") else ()
    expected = answer(network, x, time, *label)
    torch.testing.assert_close(answer(denoiser.network, x, time, *label), expected, **CLOSE)
    assert expected.abs().max() > 0.1
    assert denoiser.config.size == 16


def test_a_diffusers_pickle_with_the_names_of_old(tmp_path) -> None:
    """The first uploads are .bin files whose attention has query, key, value and proj_attn."""
    network = unet2d(GOOGLE)
    diffusers_folder(network, tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, tensor in network.state_dict().items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        state[key] = tensor
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    x, time = noisy()
    torch.testing.assert_close(
        answer(loaded(tmp_path).network, x, time), answer(network, x, time), **CLOSE
    )


def test_a_diffusers_pipeline_in_subfolders(tmp_path) -> None:
    network = unet2d(GOOGLE)
    network.save_pretrained(tmp_path / "unet")
    (tmp_path / "scheduler").mkdir()
    chain = {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "num_train_timesteps": 500,
    }
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(chain))
    config, _ = layouts.read(tmp_path)
    assert (config["schedule"], config["parameterization"]) == (
        {"name": "cosine", "timesteps": 500},
        "v",
    )


TRAPS = {
    "padding": {"downsample_padding": "both"},
    "divisor of the embedding": {"embedding_endpoint": False},
    "eps": {"norm_eps": 1e-1},
    "groups": {"norm_groups": 8},
}


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_in_an_option(trap: str, tmp_path) -> None:
    network = unet2d(GOOGLE)
    denoiser = loaded(diffusers_folder(network, tmp_path))
    x, time = noisy()
    expected = answer(network, x, time)
    torch.testing.assert_close(answer(denoiser.network, x, time), expected, **CLOSE)
    assert differs(answer(changed(denoiser, **TRAPS[trap]), x, time), expected)


def test_trap_of_the_eps_that_ddpm_has(tmp_path) -> None:
    """1e-6 and 1e-5 differ where a group hardly varies, as in dark and smooth pictures."""
    network = unet2d(GOOGLE)
    denoiser = loaded(diffusers_folder(network, tmp_path))
    with torch.no_grad():
        for module in (network.conv_in, denoiser.network.input_blocks[0][0]):
            module.weight.mul_(1e-2)
            module.bias.zero_()
    x, time = noisy()
    expected = answer(network, x, time)
    torch.testing.assert_close(answer(denoiser.network, x, time), expected, rtol=1e-4, atol=1e-4)
    assert differs(answer(changed(denoiser, norm_eps=1e-5), x, time), expected)


@pytest.mark.parametrize("sine_first", [True, False])
def test_trap_of_the_embeddings_order(sine_first: bool, tmp_path, monkeypatch) -> None:
    network = unet2d({**GOOGLE, "flip_sin_to_cos": not sine_first})
    folder = diffusers_folder(network, tmp_path)
    x, time = noisy()
    expected = answer(network, x, time)
    torch.testing.assert_close(answer(loaded(folder).network, x, time), expected, **CLOSE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "flip_sin_to_cos": sine_first}))
    assert differs(answer(loaded(folder).network, x, time), expected)


def test_trap_of_the_heads(tmp_path) -> None:
    """Heads have the same shapes, and so have the two orders of queries, keys and values."""
    network = unet2d(ADM_LIKE)
    denoiser = loaded(diffusers_folder(network, tmp_path))
    x, time = noisy()
    expected = answer(network, x, time)
    assert denoiser.config.backbone.qkv_order == "new"
    assert differs(answer(changed(denoiser, qkv_order="legacy"), x, time), expected)
    assert differs(answer(changed(denoiser, head_channels=None), x, time), expected)


def test_trap_of_the_way_up_which_diffusers_counts_from_the_bottom(tmp_path, monkeypatch) -> None:
    """Counted from the top, as pesser does, the names do not even fit."""
    folder = diffusers_folder(unet2d(GOOGLE), tmp_path)
    right = UNet2D.stem

    def from_the_top(self: UNet2D, part: Any) -> str:
        level = self.skeleton.levels - 1 - part.level if part.side == "up" else part.level
        return right(self, replace(part, level=level))

    monkeypatch.setattr(UNet2D, "stem", from_the_top)
    with pytest.raises(layouts.CheckpointError, match=r"up_blocks\.2\.upsamplers"):
        layouts.read(folder)


# --- pesser
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blocks": 1, "multipliers": (1, 1, 2, 2), "attention": (2,)},
        {"multipliers": (1,), "attention": ()},
    ],
    ids=str,
)
def test_a_ddpm_of_pessers_answers_as_restated(options: dict[str, Any], tmp_path) -> None:
    network = randomised(DdpmNetwork(**options))
    denoiser = loaded(saved(network, tmp_path / "ddpm.ckpt"))
    x, time = noisy()
    expected = answer(network, x, time)
    torch.testing.assert_close(answer(denoiser.network, x, time), expected, **CLOSE)
    assert expected.abs().max() > 0.1


def test_pesser_and_diffusers_are_one_network(tmp_path) -> None:
    """A witness for the restatement: diffusers computes the same from the same numbers under its
    own names.
    """
    restated = randomised(DdpmNetwork(multipliers=(1, 1, 2), attention=(1,)))
    network = diffusers.UNet2DModel(**GOOGLE).eval()
    mine = restated.state_dict()
    others = network.state_dict()
    theirs = UNet2D(others, {"flip_sin_to_cos": False}, None).sources()
    for ours, stems in Ddpm(mine).sources().items():
        for one, other in zip(stems, theirs[ours], strict=True):
            for kind in ("weight", "bias"):
                if f"{one}.{kind}" in mine:
                    others[f"{other}.{kind}"] = mine[f"{one}.{kind}"].reshape(
                        others[f"{other}.{kind}"].shape
                    )
    network.load_state_dict(others)
    x, time = noisy()
    torch.testing.assert_close(answer(restated, x, time), answer(network, x, time), **CLOSE)
    config, _ = layouts.read(saved(restated, tmp_path / "ddpm.pt"))
    described, _ = layouts.read(diffusers_folder(network, tmp_path / "folder"))
    differing = {
        key for key, value in config["backbone"].items() if described["backbone"][key] != value
    }
    assert differing == {"qkv_order"}  # which does not matter with one head


def test_a_list_of_states_gives_the_averaged_one(tmp_path) -> None:
    """DDIM's and DDRM's code saves [model, optimiser, epoch, step, averaged model], in
    DataParallel.
    """
    model = randomised(DdpmNetwork(), 0)
    averaged = randomised(DdpmNetwork(), 1)
    states = [{f"module.{k}": v for k, v in net.state_dict().items()} for net in (model, averaged)]
    torch.save(
        [states[0], {"state": {}, "param_groups": []}, 7, 1000, states[1]], tmp_path / "ckpt.pth"
    )
    x, time = noisy()
    found = answer(loaded(tmp_path / "ckpt.pth").network, x, time)
    torch.testing.assert_close(found, answer(averaged, x, time), **CLOSE)
    assert differs(found, answer(model, x, time))


def sprung(monkeypatch: pytest.MonkeyPatch, kind: type[Layout], **options: Any) -> None:
    for name, value in options.items():
        monkeypatch.setattr(kind, name, value)


DDPM_TRAPS = {
    "embedding order": ({"sine_first": False}, {}),
    "embedding divisor": ({}, {"embedding_endpoint": False}),
    "padding": ({}, {"downsample_padding": "both"}),
    "heads": ({}, {"heads": 4}),
    "order of q and k": ({"attention": ("norm", ("v", "q", "k"), "proj_out")}, {}),
}


@pytest.mark.parametrize("trap", DDPM_TRAPS)
def test_trap_in_pessers_layout(trap: str, tmp_path, monkeypatch) -> None:
    network = randomised(DdpmNetwork())
    path = saved(network, tmp_path / "ddpm.pt")
    x, time = noisy()
    expected = answer(network, x, time)
    of_the_layout, of_the_backbone = DDPM_TRAPS[trap]
    sprung(monkeypatch, Ddpm, **of_the_layout)
    assert differs(answer(changed(loaded(path), **of_the_backbone), x, time), expected)


# --- SR3
# ------------------------------------------------------------------------------------------------

GROUPS_32 = {"backbone": {"norm_groups": 32}}


def sr3_parts() -> tuple[Tensor, Condition, Tensor]:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 16, 16, generator=g)
    picture = torch.rand(2, 3, 16, 16, generator=g) * 2 - 1
    return x, Condition(picture, torch.ones(2, 1, 16, 16)), torch.tensor([0.3, 4.0])


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({}, 32),
        ({"blocks": 1, "attention": ()}, 32),
        ({"channels": 64, "groups": 16, "multipliers": (1, 1)}, 16),
    ],
    ids=str,
)
def test_sr3_denoises_as_restated(options: dict[str, Any], groups: int, tmp_path) -> None:
    """[condition, noisy picture] and √γ in, ε out, against `x = x0 + σ ε` of ours."""
    network = randomised(Sr3Network(**options))
    path = saved(network, tmp_path / "I1_E1_gen.pth")
    denoise = loaded(path, {"backbone": {"norm_groups": groups}})
    x, condition, sigma = sr3_parts()
    alpha = torch.rsqrt(1 + sigma**2)
    with torch.no_grad():
        found = denoise(x, sigma, condition)
        noise = network(
            torch.cat([condition.picture, alpha[:, None, None, None] * x], dim=1), alpha
        )
    torch.testing.assert_close(found.noise, noise, **CLOSE)
    torch.testing.assert_close(
        found.clean, x - sigma[:, None, None, None] * noise, rtol=1e-5, atol=1e-4
    )
    assert noise.abs().max() > 0.1


SR3_TRAPS = {
    "concatenation order": ({"condition_first": False}, {}),
    "embedding order": ({"sine_first": False}, {}),
    "activation of the embedding": ({}, {"embedding_activation": True}),
    "heads": ({}, {"heads": 4}),
    "groups": ({}, {"norm_groups": 16}),
    "padding": ({}, {"downsample_padding": "end"}),
}


@pytest.mark.parametrize("trap", [*SR3_TRAPS, "the step instead of the level"])
def test_trap_in_sr3s_layout(trap: str, tmp_path, monkeypatch) -> None:
    network = randomised(Sr3Network())
    path = saved(network, tmp_path / "gen.pth")
    x, condition, sigma = sr3_parts()
    with torch.no_grad():
        expected = loaded(path, GROUPS_32)(x, sigma, condition).noise
        of_the_layout, of_the_backbone = SR3_TRAPS.get(trap, ({}, {}))
        sprung(monkeypatch, Sr3, **of_the_layout)
        denoise = loaded(path, GROUPS_32)
        denoise.network = changed(denoise, **of_the_backbone)
        if trap not in SR3_TRAPS:
            denoise = Denoiser(
                denoise.network, ModelConfig(**{**vars(denoise.config), "time": "step"})
            )
        assert differs(denoise(x, sigma, condition).noise, expected)


def test_sr3s_chain_is_read_from_its_buffers(tmp_path) -> None:
    betas = torch.linspace(1e-6, 1e-2, 2000, dtype=torch.float64)
    path = saved(randomised(Sr3Network(betas=betas)), tmp_path / "gen.pth")
    denoise = loaded(path, GROUPS_32)
    expected = torch.from_numpy(linear_alphas_cumprod(2000, 1e-6, 1e-2))
    torch.testing.assert_close(
        torch.from_numpy(denoise.schedule.alphas_cumprod), expected, rtol=1e-6, atol=0
    )
    assert denoise.config.condition_required
    with pytest.raises(ValueError, match="trained with its condition alone"):
        denoise(torch.zeros(1, 3, 16, 16), 1.0)
    bent = saved(randomised(Sr3Network(betas=betas**2)), tmp_path / "bent.pth")
    with pytest.raises(layouts.CheckpointError, match="does not rise linearly"):
        layouts.read(bent, expected=GROUPS_32)


def test_trap_of_how_the_condition_is_enlarged() -> None:
    """Pillow made Janspiry's conditions, torch's bilinear ADM's; torch's own cubic is another
    one.
    """
    low = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    planes = [
        Image.fromarray(plane.numpy()).resize((32, 24), Image.Resampling.BICUBIC)
        for plane in low[0]
    ]
    by_pillow = torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])[None]
    found = enlarged(low, (24, 32), "pil-bicubic")
    torch.testing.assert_close(found, by_pillow, rtol=0, atol=1e-5)
    assert differs(enlarged(low, (24, 32), "bicubic"), by_pillow)
    bilinear = enlarged(low, (24, 32), "bilinear")
    torch.testing.assert_close(bilinear, F.interpolate(low, (24, 32), mode="bilinear"))
    assert differs(bilinear, by_pillow)


# --- ADM
# ------------------------------------------------------------------------------------------------

ADM_SMALL = BackboneConfig(
    channels=32,
    channel_multipliers=(1, 2),
    blocks=1,
    attention_factors=(2,),
    heads=4,
    learned_variance=True,
)
SAID = {"schedule": {"name": "linear"}, "backbone": {"heads": 4, "qkv_order": "legacy"}}
ADM_VARIANTS: dict[str, dict[str, Any]] = {
    "ADM": {"resblock_updown": True},
    "Improved DDPM": {},
    "added embedding": {"scale_shift_norm": False},
    "classes": {"classes": 5, "resblock_updown": True},
    "upsampler": {"condition_channels": 3, "resblock_updown": True},
    "no attention in the levels": {"attention_factors": ()},
    "no attention at all": {
        "attention_factors": (),
        "middle_attention": False,
        "resblock_updown": True,
    },
    "three levels, two blocks": {
        "channel_multipliers": (1, 1, 2),
        "blocks": 2,
        "attention_factors": (2, 4),
    },
    "half width in front": {
        "channels": 64,
        "channel_multipliers": (0.5, 1, 1),
        "resblock_updown": True,
    },
    "one level": {"channel_multipliers": (1,), "attention_factors": (1,)},
}


def adm_file(path: Path, **options: Any) -> tuple[Path, Backbone]:
    network = randomised(build_backbone(BackboneConfig(**{**vars(ADM_SMALL), **options})))
    return saved(network, path), network


@pytest.mark.parametrize("name", ADM_VARIANTS)
def test_adms_architecture_is_read_from_its_weights(name: str, tmp_path) -> None:
    """ADM's names are ours; tests/test_backbone.py compares what they compute with its
    definition.
    """
    path, network = adm_file(tmp_path / "model.pt", **ADM_VARIANTS[name])
    found = loaded(path, SAID)
    assert found.config.backbone == network.config
    x, time = noisy(network.config.in_channels)
    label = (torch.tensor([4, 0]),) if network.config.classes else ()
    torch.testing.assert_close(
        answer(found.network, x, time, *label), answer(network, x, time, *label), **CLOSE
    )


def test_trap_of_adms_two_orders_of_queries_keys_and_values(tmp_path) -> None:
    """They have the same shapes: nobody but the catalogue or the user can tell them apart, so
    somebody must.
    """
    path, network = adm_file(tmp_path / "model.pt")
    x, time = noisy()
    other = {"schedule": {"name": "linear"}, "backbone": {"heads": 4, "qkv_order": "new"}}
    assert differs(answer(loaded(path, other).network, x, time), answer(network, x, time))
    with pytest.raises(
        layouts.CheckpointError, match=r"say it in.*schedule.*head_channels = 64.*qkv_order"
    ):
        layouts.read(path)


def test_trap_of_adms_condition_which_comes_last(tmp_path) -> None:
    """ADM's upsampler sees [noisy picture, condition], SR3 the other way round; both have six
    channels.
    """
    path, network = adm_file(tmp_path / "model.pt", condition_channels=3)
    denoise = loaded(path, SAID)
    x, condition, sigma = sr3_parts()
    alpha = torch.rsqrt(1 + sigma**2)
    time = denoise.schedule.time_at(sigma)
    scaled = alpha[:, None, None, None] * x
    with torch.no_grad():
        found = denoise(x, sigma, condition).noise
        right = network(torch.cat([scaled, condition.picture], dim=1), time)[:, :3]
        wrong = network(torch.cat([condition.picture, scaled], dim=1), time)[:, :3]
    torch.testing.assert_close(found, right, **CLOSE)
    assert differs(wrong, right)
    config = denoise.config
    assert (config.condition_required, config.condition_resampling, config.scale) == (
        True,
        "bilinear",
        4,
    )


def test_improved_ddpms_long_chain_is_told_in_thousandths(tmp_path) -> None:
    """Its 4000 steps are scaled to 1000, so the network never saw 3999."""
    path, _ = adm_file(tmp_path / "model.pt")
    chain = {"name": "cosine", "timesteps": 4000}
    denoise = loaded(path, {**SAID, "schedule": chain, "time_scale": 0.25})
    seen = []
    denoise.network = lambda x, time: seen.append(time) or torch.zeros(2, 6, 16, 16)
    level = float(denoise.schedule.sigmas[2000])
    denoise(torch.zeros(2, 3, 16, 16), level)
    torch.testing.assert_close(seen[0], torch.tensor([500.0]), rtol=1e-3, atol=0)


# --- EDM
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edm() -> nn.Module:
    return randomised(EdmNetwork(classes=5))


@pytest.fixture
def edm_file(edm, tmp_path) -> Path:
    path = tmp_path / "edm.safetensors"
    save_file(edm.state_dict(), path)
    return path


@pytest.mark.parametrize("sigma", [[0.002, 0.5], [3.0, 80.0]], ids=str)
def test_edm_denoises_as_restated(sigma: list[float], edm, edm_file) -> None:
    """Over its whole range: the clean estimate of its preconditioning."""
    denoise = loaded(edm_file).of_class(4)
    levels = torch.tensor(sigma)
    x = levels[:, None, None, None] * noisy()[0]
    with torch.no_grad():
        expected = edm(x, levels, torch.tensor([4, 4]))
        found = denoise(x, levels)
    torch.testing.assert_close(found.clean, expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(
        found.clean + levels[:, None, None, None] * found.noise, x, rtol=1e-4, atol=1e-4
    )
    assert denoise.config.size == 16
    assert denoise.schedule.sigmas[[0, -1]] == pytest.approx([0.002, 80.0])


def test_edms_classes_are_looked_up(edm, edm_file) -> None:
    denoise, (x, _), label = loaded(edm_file), noisy(), torch.tensor([4, 0])
    noise = torch.tensor([-0.3, 0.6])
    with torch.no_grad():
        expected = edm.network(x, noise, label)
        unlabelled = edm.network(x, noise)
        found = denoise.network(x, noise, label)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert differs(unlabelled, expected)


def _like_adm(self: Edm, name: str, tensors: list[Tensor]) -> Tensor:
    return tensors[0].T if name == "label_emb.weight" else Layout.arranged(self, name, tensors)


EDM_TRAPS: dict[str, Callable[[ModelConfig], dict[str, Any]]] = {
    "ε instead of its preconditioning": lambda config: {"parameterization": "epsilon"},
    "another σ of the data": lambda config: {"sigma_data": 1.0},
    "the step instead of ¼ ln σ": lambda config: {"time": "step"},
    "queries, keys and values in ADM's order": lambda config: {},
}


@pytest.mark.parametrize("trap", EDM_TRAPS)
def test_trap_in_edms_layout(trap: str, edm, edm_file, monkeypatch) -> None:
    sigma, (x, _) = torch.tensor([0.5, 3.0]), noisy()
    if not EDM_TRAPS[trap](None):
        monkeypatch.setattr(Edm, "arranged", _like_adm)
    denoise = loaded(edm_file)
    denoise = Denoiser(
        denoise.network,
        ModelConfig(**{**vars(denoise.config), **EDM_TRAPS[trap](denoise.config)}),
        4,
    )
    with torch.no_grad():
        assert differs(denoise(x, sigma).clean, edm(x, sigma, torch.tensor([4, 4])))


def test_another_preconditioning_is_refused_by_name(edm, tmp_path) -> None:
    state = edm.state_dict()
    save_file({**state, "u": torch.ones(1001)}, tmp_path / "iddpm.safetensors")
    with pytest.raises(layouts.CheckpointError, match="Improved DDPM's preconditioning"):
        layouts.read(tmp_path / "iddpm.safetensors")
