"""The network against its test vector, published sizes, and a re-statement of ADM's definition."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

import pretrained
from restore.backbone import Backbone, BackboneConfig, build_backbone, timestep_embedding
from restore.backbone.base import GroupNorm
from restore.diffusion.denoiser import ModelConfig, build_denoiser

VECTOR = Path(__file__).parents[1] / "fixtures" / "default.testvector.safetensors"
CPU = torch.device("cpu")

ADM_256 = BackboneConfig(
    channels=256,
    channel_multipliers=(1, 1, 2, 2, 4, 4),
    attention_factors=(8, 16, 32),
    head_channels=64,
    learned_variance=True,
    resblock_updown=True,
)
PUBLISHED_SIZES = {
    "ADM 256 unconditional": (ADM_256, 552_814_086),
    "ADM 256 FFHQ": (
        replace(ADM_256, channels=128, blocks=1, attention_factors=(16,)),
        93_563_910,
    ),
    "ADM 256 classes": (replace(ADM_256, classes=1000), 553_838_086),
    "ADM 512 classes": (
        replace(
            ADM_256,
            classes=1000,
            channel_multipliers=(0.5, 1, 1, 2, 2, 4, 4),
            attention_factors=(16, 32, 64),
        ),
        558_997_638,
    ),
    "ADM 128 classes": (
        replace(
            ADM_256,
            classes=1000,
            channel_multipliers=(1, 1, 2, 3, 4),
            attention_factors=(4, 8, 16),
            heads=4,
            head_channels=None,
        ),
        421_529_606,
    ),
    "ADM 64 classes": (
        replace(
            ADM_256,
            classes=1000,
            channels=192,
            channel_multipliers=(1, 2, 3, 4),
            blocks=3,
            attention_factors=(2, 4, 8),
            qkv_order="new",
        ),
        295_904_454,
    ),
    "ADM 64 to 256": (
        replace(
            ADM_256, classes=1000, channels=192, heads=4, head_channels=None, condition_channels=3
        ),
        311_795_910,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_published_parameter_counts(name: str) -> None:
    """The first two are given to the parameter with the checkpoints, the others as millions."""
    config, expected = PUBLISHED_SIZES[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in build_backbone(config).parameters()) == expected


def test_default_network_reproduces_its_test_vector() -> None:
    """Made in float64 by the re-statement in test_lean_backbone.py."""
    checkpoint = pretrained.load("default")
    denoiser = build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state)
    vector = safetensors.torch.load_file(VECTOR)
    with torch.inference_mode():
        output = denoiser.network(vector["network_input"].float(), vector["time"].float())
    torch.testing.assert_close(output, vector["network_output"].float(), rtol=0, atol=1e-4)


def test_bfloat16_keeps_norms_and_embedding_in_float32_and_stays_close() -> None:
    checkpoint = pretrained.load("default")
    network = build_denoiser(
        ModelConfig.from_dict(checkpoint.config), checkpoint.state, CPU, torch.bfloat16
    ).network
    kept = {name for name, p in network.named_parameters() if p.dtype == torch.float32}
    assert "time_embed.0.weight" in kept
    assert "encoder.0.0.norm.weight" in kept
    assert "encoder.0.0.conv_in.weight" not in kept
    vector = safetensors.torch.load_file(VECTOR)
    with torch.inference_mode():
        output = network(vector["network_input"].float(), vector["time"].float())
    assert output.dtype == torch.float32
    expected = vector["network_output"].float()
    assert 1e-5 < float((output - expected).norm() / expected.norm()) < 0.03


def _randomised(config: BackboneConfig, seed: int = 0) -> Backbone:
    generator = torch.Generator().manual_seed(seed)
    network = build_backbone(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


SMALL = BackboneConfig(
    channels=32,
    channel_multipliers=(1, 2),
    blocks=1,
    attention_factors=(2,),
    heads=4,
    learned_variance=True,
    classes=5,
)
VARIANTS = {
    "ADM": replace(SMALL, resblock_updown=True, head_channels=16),
    "new qkv order": replace(SMALL, qkv_order="new"),
    "added embedding": replace(SMALL, scale_shift_norm=False),
    "two blocks, three levels": replace(
        SMALL, blocks=2, channel_multipliers=(1, 1, 2), attention_factors=(2, 4)
    ),
    "no attention": replace(SMALL, attention_factors=(), middle_attention=False),
    "condition": replace(SMALL, condition_channels=3, condition_map=True),
    "eps": replace(SMALL, norm_eps=1e-1),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_matches_a_restatement_of_adm(name: str) -> None:
    config = VARIANTS[name]
    network = _randomised(config)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, config.in_channels, 16, 8, generator=generator)
    time = torch.tensor([3.0, 711.5])
    label = torch.tensor([4, 0])
    with torch.no_grad():
        found = network(x, time, label)
        expected = _adm(dict(network.state_dict()), config, x, time, label)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.abs().max() > 0.1


@pytest.mark.parametrize(
    "change",
    [{"qkv_order": "new"}, {"heads": 2}, {"norm_eps": 1e-1}],
    ids=str,
)
def test_options_that_share_shapes_do_matter(change: dict) -> None:
    """Weights load without complaint under a wrong option; the output must then differ."""
    right = _randomised(SMALL)
    wrong = build_backbone(replace(SMALL, **change)).eval()
    wrong.load_state_dict(right.state_dict())
    x = torch.randn(1, 3, 8, 8)
    time = torch.tensor([5.0])
    label = torch.tensor([1])
    with torch.no_grad():
        assert (right(x, time, label) - wrong(x, time, label)).abs().max() > 1e-3


def _adm(
    state: dict[str, Tensor], config: BackboneConfig, x: Tensor, time: Tensor, label: Tensor
) -> Tensor:
    """ADM's forward pass from its state dict, by the published definition of each block."""

    def linear(name: str, v: Tensor) -> Tensor:
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def conv(name: str, v: Tensor, **options) -> Tensor:
        return F.conv2d(v, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def norm(name: str, v: Tensor) -> Tensor:
        groups = v.float().reshape(len(v), 32, -1)
        groups = (groups - groups.mean(-1, keepdim=True)) / torch.sqrt(
            groups.var(-1, unbiased=False, keepdim=True) + config.norm_eps
        )
        weight, bias = (state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return groups.reshape(v.shape).to(v.dtype) * weight + bias

    def block(name: str, v: Tensor, resize) -> Tensor:
        h = conv(f"{name}.in_layers.2", resize(F.silu(norm(f"{name}.in_layers.0", v))), padding=1)
        e = linear(f"{name}.emb_layers.1", F.silu(embedding))[..., None, None]
        if config.scale_shift_norm:
            h = norm(f"{name}.out_layers.0", h) * (1 + e[:, : h.shape[1]]) + e[:, h.shape[1] :]
        else:
            h = norm(f"{name}.out_layers.0", h + e)
        h = conv(f"{name}.out_layers.3", F.silu(h), padding=1)
        skip = f"{name}.skip_connection"
        return h + (conv(skip, resize(v)) if f"{skip}.weight" in state else resize(v))

    def attention(name: str, v: Tensor) -> Tensor:
        b, c, height, width = v.shape
        heads = c // config.head_channels if config.head_channels else config.heads
        flat = norm(f"{name}.norm", v).reshape(b, c, -1)
        qkv = torch.einsum("oc,bct->bot", state[f"{name}.qkv.weight"][..., 0], flat)
        qkv = qkv + state[f"{name}.qkv.bias"][:, None]
        d = c // heads
        answers = []
        for head in range(heads):
            if config.qkv_order == "legacy":
                q, k, v_ = qkv[:, head * 3 * d : (head + 1) * 3 * d].split(d, dim=1)
            else:
                q, k, v_ = (part[:, head * d : (head + 1) * d] for part in qkv.split(c, dim=1))
            weight = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(d), dim=-1)
            answers.append(torch.einsum("bts,bcs->bct", weight, v_))
        h = torch.einsum(
            "oc,bct->bot", state[f"{name}.proj_out.weight"][..., 0], torch.cat(answers, dim=1)
        )
        return v + (h + state[f"{name}.proj_out.bias"][:, None]).reshape(b, c, height, width)

    def stage(name: str, v: Tensor, resize) -> Tensor:
        position = 0
        while any(key.startswith(f"{name}.{position}.") for key in state):
            part = f"{name}.{position}"
            if f"{part}.qkv.weight" in state:
                v = attention(part, v)
            elif f"{part}.in_layers.0.weight" in state:
                is_resizer = position > 0 or name in strided
                v = block(part, v, resize if is_resizer else lambda u: u)
            elif f"{part}.op.weight" in state:
                v = conv(f"{part}.op", v, stride=2, padding=1)
            elif f"{part}.conv.weight" in state:
                v = conv(
                    f"{part}.conv", v.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1
                )
            else:
                v = conv(part, v, padding=1)
            position += 1
        return v

    per_level = config.blocks + 1
    levels = len(config.channel_multipliers)
    strided = {f"input_blocks.{level * per_level}" for level in range(1, levels)}
    half = config.channels // 2
    angles = time[:, None].float() * torch.tensor([10000 ** (-i / half) for i in range(half)])
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    embedding = linear("time_embed.2", F.silu(linear("time_embed.0", embedding)))
    embedding = embedding + state["label_emb.weight"][label]
    skips = []
    for number in range(levels * per_level):
        x = stage(f"input_blocks.{number}", x, lambda v: F.avg_pool2d(v, 2))
        skips.append(x)
    x = stage("middle_block", x, lambda v: v)
    for number in range(levels * per_level):
        x = stage(
            f"output_blocks.{number}",
            torch.cat([x, skips.pop()], dim=1),
            lambda v: v.repeat_interleave(2, 2).repeat_interleave(2, 3),
        )
    return conv("out.2", F.silu(norm("out.0", x)), padding=1)


def test_time_embedding_is_cosines_then_sines() -> None:
    embedding = timestep_embedding(torch.tensor([0.0, 2.0]), 8)
    assert torch.equal(embedding[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    torch.testing.assert_close(
        embedding[1], torch.cat([(2 * frequencies).cos(), (2 * frequencies).sin()])
    )


def test_a_group_of_one_value_becomes_the_bias() -> None:
    """As in the smallest level of a network of few channels, for a picture of one pixel."""
    norm = GroupNorm(32, eps=1e-5)
    torch.nn.init.normal_(norm.bias)
    normal = norm(torch.randn(1, 32, 1, 1))[0, :, 0, 0]
    torch.testing.assert_close(normal, norm.bias, atol=1e-3, rtol=0)


def test_rms_network_is_local() -> None:
    """Without attention and with a norm per pixel, far pixels have no influence: tiles can agree
    with the whole.
    """
    checkpoint = pretrained.load("default")
    network = build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state).network
    x = torch.randn(1, 7, 32, 160)
    changed = x.clone()
    changed[..., 150:] = 0
    with torch.inference_mode():
        difference = (
            network(x, torch.tensor([300.0])) - network(changed, torch.tensor([300.0]))
        ).abs()
    assert difference[..., 144:].max() > 1e-2
    assert difference[..., :8].max() < 1e-5
