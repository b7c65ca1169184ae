"""The lean layout: a re-statement of its definition from the state dict, what it refuses, and that
it learns.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from restore.backbone import BackboneConfig, LeanBackbone, build_backbone, timestep_embedding
from restore.training.optimiser import is_hidden_convolution

SMALL = BackboneConfig(
    layout="lean",
    condition_channels=3,
    condition_map=True,
    channels=32,
    channel_multipliers=(1, 1.5, 2),
    blocks=1,
    middle_attention=False,
    norm="rms",
    patch=2,
)
VARIANTS = {
    "default": SMALL,
    "two blocks, two levels": replace(SMALL, blocks=2, channel_multipliers=(1, 2)),
    "one level, no patches": replace(SMALL, channel_multipliers=(1,), patch=1),
    "group norm": replace(SMALL, channel_multipliers=(1, 2), norm="group"),
    "classes, learned variance": replace(
        SMALL, classes=3, learned_variance=True, condition_channels=0
    ),
    "patches of 4": replace(SMALL, patch=4),
}


def randomised(config: BackboneConfig) -> LeanBackbone:
    network = build_backbone(config).eval()
    assert isinstance(network, LeanBackbone)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network


@pytest.mark.parametrize("name", VARIANTS)
def test_matches_a_restatement(name: str) -> None:
    config = VARIANTS[name]
    network = randomised(config)
    x = torch.randn(2, config.in_channels, 2 * config.size_multiple, config.size_multiple)
    time = torch.tensor([3.0, 711.5])
    label = torch.tensor([2, 0]) if config.classes else None
    with torch.no_grad():
        found = network(x, time, label)
        expected = restated(dict(network.state_dict()), config, x, time, label)
    assert found.shape == (2, config.out_channels, *x.shape[2:])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.abs().max() > 0.1


def restated(
    state: dict[str, Tensor], config: BackboneConfig, x: Tensor, time: Tensor, label: Tensor | None
) -> Tensor:
    def conv(name: str, v: Tensor, **options) -> Tensor:
        return F.conv2d(v, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def linear(name: str, v: Tensor) -> Tensor:
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, v: Tensor) -> Tensor:
        if config.norm == "group":
            return F.group_norm(
                v, 32, state[f"{name}.weight"], state[f"{name}.bias"], config.norm_eps
            )
        return (
            v
            / (v.square().mean(1, keepdim=True) + config.norm_eps).sqrt()
            * state[f"{name}.weight"][:, None, None]
        )

    def blocks(name: str, v: Tensor, count: int) -> Tensor:
        for i in range(count):
            h = conv(f"{name}.{i}.conv_in", norm(f"{name}.{i}.norm", v), padding=1)
            e = linear(f"{name}.{i}.modulation", F.silu(embedding))[..., None, None]
            h = h * (1 + e[:, : h.shape[1]]) + e[:, h.shape[1] :]
            v = v + conv(f"{name}.{i}.conv_out", h * torch.sigmoid(h), padding=1)
        return v

    def shuffled(v: Tensor, by: int) -> Tensor:
        b, c, height, width = v.shape
        v = v.reshape(b, c // by**2, by, by, height, width).permute(0, 1, 4, 2, 5, 3)
        return v.reshape(b, c // by**2, by * height, by * width)

    embedding = linear(
        "time_embed.2",
        F.silu(linear("time_embed.0", timestep_embedding(time, config.channels).to(x))),
    )
    if label is not None:
        embedding = embedding + state["label_emb.weight"][label]
    levels = len(config.channel_multipliers)
    h = conv("stem", F.pixel_unshuffle(x, config.patch), padding=1)
    skips = [blocks("encoder.0", h, config.blocks)]
    for level in range(1, levels):
        h = conv(f"down.{level - 1}", skips[-1], stride=2)
        skips.append(blocks(f"encoder.{level}", h, config.blocks))
    h = blocks("middle", skips[-1], 2)
    h = blocks(f"decoder.{levels - 1}", h + skips[-1], config.blocks)
    for level in reversed(range(levels - 1)):
        h = shuffled(conv(f"up.{level}", h), 2) + skips[level]
        h = blocks(f"decoder.{level}", h, config.blocks)
    return shuffled(conv("out.2", F.silu(norm("out.0", h)), padding=1), config.patch)


@pytest.mark.parametrize(
    "change",
    [
        {"middle_attention": True},
        {"attention_factors": (2,)},
        {"resblock_updown": True},
        {"dropout": 0.1},
        {"embedding_activation": False},
        {"qkv_bias": False},
        {"downsample_padding": "end"},
    ],
    ids=str,
)
def test_options_of_the_other_layout_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=f"lean layout has no {next(iter(change))}"):
        build_backbone(replace(SMALL, **change))


def test_no_level_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one level"):
        build_backbone(replace(SMALL, channel_multipliers=()))


def test_every_weight_gets_a_gradient() -> None:
    network = randomised(replace(SMALL, classes=2))
    x = torch.randn(2, 7, 16, 16)
    network(x, torch.tensor([10.0, 500.0]), torch.tensor([0, 1])).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_fresh_networks_predict_zero() -> None:
    x = torch.randn(1, 7, 16, 16)
    assert not build_backbone(SMALL)(x, torch.tensor([10.0])).any()


def test_muon_takes_the_hidden_convolutions() -> None:
    network = build_backbone(SMALL)
    rest = {
        name
        for name, p in network.named_parameters()
        if p.ndim == 4 and not is_hidden_convolution(name, p)
    }
    assert rest == {"stem.weight", "out.2.weight"}


def test_compute_dtype() -> None:
    network = build_backbone(SMALL).set_compute_dtype(torch.bfloat16)
    assert network.compute_dtype == torch.bfloat16
    kept = {name for name, p in network.named_parameters() if p.dtype == torch.float32}
    assert kept == {
        n for n, _ in network.named_parameters() if n.startswith("time_embed.") or "norm" in n
    } | {"out.0.weight"}
    assert network(torch.randn(1, 7, 8, 8), torch.tensor([10.0])).dtype == torch.float32
