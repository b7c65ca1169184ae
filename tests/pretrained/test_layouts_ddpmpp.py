"""EDM's DDPM++ under our names: parity with a restatement, its size, every difference to ADM, and
what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.published_networks import DdpmppNetwork, EdmNetwork, randomised
from torch import Tensor, nn

from pretrained import layouts
from pretrained.layouts import edm_ddpmpp
from pretrained.layouts.edm import Edm
from pretrained.layouts.edm_ddpmpp import DdpmPlusPlus
from pretrained.layouts.layout import Layout, Renamed, State
from pretrained.layouts.settled import settled
from restore.backbone import BackboneConfig, build_backbone, ddpmpp
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
CLEARLY = 1e-2
"""By how much a sprung trap must change the answer, of which the largest number is about 1."""
LABEL = 3
PAIR = ("weight", "bias")
SMALL: dict[str, Any] = {
    "size": 16,
    "multipliers": (1, 1),
    "blocks": 1,
    "attention": (8,),
    "classes": 5,
}
Sprung = Callable[[pytest.MonkeyPatch, Path], Denoiser]


def saved(network: nn.Module, path: Path) -> Path:
    save_file(network.state_dict(), path)
    return path


def loaded(path: Path, expected: dict[str, Any] | None = None) -> Denoiser:
    config, state = layouts.read(path, expected=expected)
    return build_denoiser(ModelConfig.from_dict(json.loads(json.dumps(config))), state)


def noisy(size: int = 16) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def differs(found: Tensor, expected: Tensor, by: float = CLEARLY) -> bool:
    return bool((found - expected).abs().max() > by * expected.abs().max())


@pytest.fixture(scope="module")
def network() -> DdpmppNetwork:
    return randomised(DdpmppNetwork(**SMALL))


@pytest.fixture(scope="module")
def file(network, tmp_path_factory) -> Path:
    return saved(network, tmp_path_factory.mktemp("edm") / "ddpmpp.safetensors")


NOISE = torch.tensor([-0.9, 0.8])
"""¼ ln σ."""


def answer(denoiser: Denoiser, x: Tensor) -> Tensor:
    with torch.no_grad():
        return denoiser.network(
            x, NOISE, *([torch.tensor([LABEL, 0])] if denoiser.config.backbone.classes else [])
        )


def restated(network: DdpmppNetwork, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.network(
            x, NOISE, torch.tensor([LABEL, 0]) if hasattr(network.model, "map_label") else None
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": 0},
        {"multipliers": (2, 1, 1), "attention": (16, 8)},
        {"blocks": 2, "multipliers": (1,), "attention": (16,)},
    ],
    ids=str,
)
def test_a_ddpmpp_answers_as_restated(options: dict[str, Any], tmp_path) -> None:
    network = randomised(DdpmppNetwork(**{**SMALL, **options}))
    denoiser = loaded(saved(network, tmp_path / "edm.safetensors"))
    x = noisy()
    expected = restated(network, x)
    torch.testing.assert_close(answer(denoiser, x), expected, **CLOSE)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("sigma", [[0.002, 0.5], [3.0, 80.0]], ids=str)
def test_it_denoises_as_restated(sigma: list[float], network, file) -> None:
    """Over its whole range: the clean estimate of EDM's preconditioning."""
    denoise = loaded(file).of_class(LABEL)
    levels = torch.tensor(sigma)
    x = levels[:, None, None, None] * noisy()
    with torch.no_grad():
        expected = network(x, levels, torch.tensor([LABEL, LABEL]))
        found = denoise(x, levels)
    torch.testing.assert_close(found.clean, expected, rtol=1e-5, atol=2e-5)
    assert denoise.config.size == 16
    assert denoise.schedule.sigmas[[0, -1]] == pytest.approx([0.002, 80.0])


PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "CIFAR-10": ({}, 55_733_891),
    "CIFAR-10 with classes": ({"classes": 10}, 55_735_299),
    "FFHQ, AFHQv2": ({"size": 64, "multipliers": (1, 2, 2, 2)}, 61_805_571),
}
"""With the options that EDM gives for its networks; parameters as they follow from them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_read_whole(name: str) -> None:
    options, parameters = PUBLISHED[name]
    with torch.device("meta"):
        state = DdpmppNetwork(**options).state_dict()
        renamed = Renamed(DdpmPlusPlus(state))
        config = settled(renamed.layout, renamed.inferred, {})
        renamed.check(config["backbone"])
        network = build_backbone(ModelConfig.from_dict(config).backbone)
    assert sum(t.numel() for k, t in state.items() if "filter" not in k) == parameters
    assert {k: p.shape for k, p in network.named_parameters()} == {
        k: t.shape for k, t in renamed.state.items()
    }
    not_needed = 9 * 128 + (
        128 if options.get("classes") else 0
    )  # augmentation; the bias of classes, in their table
    assert sum(p.numel() for p in network.parameters()) == parameters - not_needed
    backbone = config["backbone"]
    assert (config["size"], backbone["blocks"]) == (options.get("size", 32), 4)
    assert tuple(backbone["channel_multipliers"]) == options.get("multipliers", (2, 2, 2))
    assert backbone["attention_factors"] == [config["size"] // 16]


def test_converted_it_needs_its_code_no_more(network, file, tmp_path) -> None:
    layouts.convert(file, tmp_path / "ours.safetensors")
    x = noisy()
    torch.testing.assert_close(
        answer(loaded(tmp_path / "ours.safetensors"), x), restated(network, x), **CLOSE
    )


# --- traps
# ------------------------------------------------------------------------------------------------


def _with(**options: Any) -> Sprung:
    """The same weights under other options."""

    def sprung(patch: pytest.MonkeyPatch, file: Path) -> Denoiser:
        right = loaded(file)
        config = replace(right.config, backbone=replace(right.config.backbone, **options))
        return build_denoiser(config, right.network.state_dict())

    return sprung


def _patched(target: Any, name: str, value: Any) -> Sprung:
    """Loaded by a reader, or into a network, that knows better."""

    def sprung(patch: pytest.MonkeyPatch, file: Path) -> Denoiser:
        patch.setattr(target, name, value)
        return loaded(file)

    return sprung


RIGHT = DdpmPlusPlus.arranged


def _qkv_like_adm(self: DdpmPlusPlus, name: str, tensors: list[Tensor]) -> Tensor:
    return (Layout.arranged if ".qkv." in name else RIGHT)(self, name, tensors)


def _classes_as_they_stand(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != "map_label.bias"}


DIVISOR = "divisor of the embedding"
TRAPS: dict[str, Sprung] = {
    "sums that are not scaled": _patched(ddpmpp, "SKIP_SCALE", 1.0),
    "cosines before sines": _patched(DdpmPlusPlus, "sine_first", False),
    "classes not exchanged with them": _patched(DdpmPlusPlus, "arranged", Edm.arranged),
    "classes not scaled": _patched(edm_ddpmpp, "_with_looked_up_classes", _classes_as_they_stand),
    "queries, keys and values in ADM's order": _patched(DdpmPlusPlus, "arranged", _qkv_like_adm),
    DIVISOR: _with(embedding_endpoint=False),
    "heads": _with(heads=4),
    "groups": _with(norm_groups=16),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_trap(trap: str, network, file, monkeypatch) -> None:
    """The frequencies' divisor changes less, for ¼ ln σ is small; parity is closer by far."""
    x = noisy()
    by = CLEARLY / 20 if trap == DIVISOR else CLEARLY
    assert differs(answer(TRAPS[trap](monkeypatch, file), x), restated(network, x), by)


def test_trap_of_the_eps(tmp_path) -> None:
    """1e-6 and ADM's 1e-5 differ where a group hardly varies, as in dark and smooth pictures."""
    network = randomised(DdpmppNetwork(**SMALL))
    with torch.no_grad():
        first = network.model.enc["16x16_conv"]
        first.weight.mul_(1e-2)
        first.bias.zero_()
    path = saved(network, tmp_path / "dark.safetensors")
    x = noisy()
    expected = restated(network, x)
    torch.testing.assert_close(answer(loaded(path), x), expected, rtol=1e-4, atol=1e-4)
    assert differs(answer(_with(norm_eps=1e-5)(None, path), x), expected)


# --- refused
# ------------------------------------------------------------------------------------------------


def refused(state: State, path: Path, match: str, expected: dict[str, Any] | None = None) -> None:
    save_file(state, path)
    with pytest.raises(layouts.CheckpointError, match=match):
        layouts.read(path, expected=expected)


@pytest.mark.parametrize(
    "mark",
    [
        {"model.map_noise.freqs": torch.ones(64)},
        {"model.enc.8x8_aux_residual.weight": torch.ones(128, 3, 3, 3)},
        {"model.enc.8x8_down.conv0.resample_filter": torch.ones(1, 1, 4, 4)},
    ],
    ids=lambda mark: next(iter(mark)),
)
def test_ncsnpp_is_refused_by_name(mark: State, network, tmp_path) -> None:
    refused({**network.state_dict(), **mark}, tmp_path / "ve.safetensors", r"NCSN\+\+ is not known")


@pytest.mark.parametrize("kind", [DdpmppNetwork, EdmNetwork])
def test_norms_of_fewer_groups_are_refused(kind: type[nn.Module], tmp_path) -> None:
    network = kind(channels=64, multipliers=(1, 1), attention=())
    refused(
        network.state_dict(),
        tmp_path / "narrow.safetensors",
        "its norms over 64 channels have fewer than 32 groups",
    )


def test_without_augmentation_it_may_be_a_vp_baseline(tmp_path) -> None:
    """Those have the same names and shapes; somebody must say which it is."""
    path = tmp_path / "edm.safetensors"
    state = DdpmppNetwork(**{**SMALL, "augmented": False}).state_dict()
    refused(state, path, 'parameterization = "edm", if it is')
    refused(state, path, "parameterization: edm, expected epsilon", {"parameterization": "epsilon"})
    assert (
        layouts.read(path, expected={"parameterization": "edm"})[0]["backbone"]["layout"]
        == "ddpm++"
    )


def test_tensors_that_do_not_fit_are_named(network, tmp_path) -> None:
    state = network.state_dict()
    path = tmp_path / "edm.safetensors"
    refused(
        {k: t for k, t in state.items() if k != "model.map_label.bias"},
        path,
        "map_label needs weight and bias",
    )
    attending = {
        f"model.dec.8x8_block0.qkv.{kind}": state[f"model.dec.8x8_block1.qkv.{kind}"].clone()
        for kind in PAIR
    }
    refused(
        {**state, **attending},
        path,
        "2 unexpected: dec.8x8_block0.qkv.bias, dec.8x8_block0.qkv.weight",
    )
    lost = {k: t for k, t in state.items() if not k.startswith("model.dec.16x16_up.skip.")}
    refused(lost, path, "2 missing: dec.16x16_up.skip.bias, dec.16x16_up.skip.weight")


# --- the network by itself
# ------------------------------------------------------------------------------------------

OWN = BackboneConfig(
    layout="ddpm++",
    channels=32,
    channel_multipliers=(2, 1),
    blocks=1,
    attention_factors=(2,),
    resblock_updown=True,
    learned_variance=True,
    condition_channels=3,
    classes=2,
)


def test_every_weight_gets_a_gradient() -> None:
    network = randomised(build_backbone(OWN))
    x = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x, torch.tensor([10.0, 500.0]), torch.tensor([0, 1])).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_other_changes_of_resolution_are_refused() -> None:
    with pytest.raises(ValueError, match="resblock_updown must be true"):
        build_backbone(replace(OWN, resblock_updown=False))
