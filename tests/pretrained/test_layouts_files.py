"""Files of weights that cannot be used: each is refused with its reason, and nothing in it is run.
And `convert`.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.networks import random_file, tiny
from support.pictures import piece
from support.published_networks import (
    DdpmNetwork,
    DdpmppNetwork,
    EdmNetwork,
    Sr3Network,
    randomised,
)

import pretrained
from pretrained import CheckpointError, layouts
from pretrained.catalogue import entries
from pretrained.layouts import edm, unet
from pretrained.layouts.ddpm import Ddpm
from pretrained.layouts.diffusers import UNet2D
from pretrained.layouts.layout import Renamed
from pretrained.layouts.settled import settled
from pretrained.layouts.sr3 import Sr3
from pretrained.layouts.unet import Skeleton
from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import ModelConfig, build_denoiser

DDPM = {
    "channel_multipliers": (1, 1, 2, 2, 4, 4),
    "attention_factors": (16,),
    "norm_eps": 1e-6,
    "scale_shift_norm": False,
    "embedding_endpoint": True,
    "downsample_padding": "end",
}
SR3 = {
    "channels": 64,
    "condition_channels": 3,
    "scale_shift_norm": False,
    "embedding_width": 64,
    "embedding_activation": False,
    "qkv_bias": False,
}
PUBLISHED = {
    "DDPM 256, by pesser and by Google": (DDPM, 113_673_219),
    "DDPM CIFAR-10": (
        {**DDPM, "channel_multipliers": (1, 2, 2, 2), "attention_factors": (2,)},
        35_746_307,
    ),
    "SR3 16 to 128": (
        {**SR3, "channel_multipliers": (1, 2, 4, 8, 8), "attention_factors": (8,)},
        97_807_491,
    ),
    "SR3 64 to 512": (
        {**SR3, "channel_multipliers": (1, 2, 4, 8, 16), "blocks": 1, "norm_groups": 16},
        155_334_339,
    ),
    "ADM 256": (
        {
            "channels": 256,
            "channel_multipliers": (1, 1, 2, 2, 4, 4),
            "attention_factors": (8, 16, 32),
            "head_channels": 64,
            "learned_variance": True,
            "resblock_updown": True,
        },
        552_814_086,
    ),
    "EDM ImageNet 64": (
        {
            "channels": 192,
            "channel_multipliers": (1, 2, 3, 4),
            "blocks": 3,
            "attention_factors": (2, 4, 8),
            "head_channels": 64,
            "resblock_updown": True,
            "classes": 1000,
        },
        295_899_267,
    ),
}
"""The other ADM networks are counted in tests/test_backbone.py. EDM's has three output channels
less than ADM's 64.
"""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    """By the network, and by the shapes that a file is compared with."""
    options, count = PUBLISHED[name]
    config = BackboneConfig(**options)
    with torch.device("meta"):
        built = {name: tuple(p.shape) for name, p in build_backbone(config).named_parameters()}
    assert sum(torch.Size(shape).numel() for shape in built.values()) == count
    levels = range(len(config.channel_multipliers))
    attention = frozenset(level for level in levels if 2**level in config.attention_factors)
    skeleton = Skeleton(
        len(levels), config.blocks, attention, config.middle_attention, config.resblock_updown
    )
    assert unet.shapes(vars(config), skeleton) == built


def meta(kind: type, **options: Any) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return kind(**options).state_dict()


FULL_SIZE = {
    "DDPM 256": (
        Ddpm,
        DdpmNetwork,
        {"channels": 128, "multipliers": (1, 1, 2, 2, 4, 4), "attention": (4,)},
        256,
    ),
    "DDPM CIFAR-10": (
        Ddpm,
        DdpmNetwork,
        {"channels": 128, "multipliers": (1, 2, 2, 2), "attention": (1,)},
        32,
    ),
    "SR3 16 to 128": (
        Sr3,
        Sr3Network,
        {"channels": 64, "multipliers": (1, 2, 4, 8, 8), "attention": (3,)},
        128,
    ),
    "SR3 64 to 512": (
        Sr3,
        Sr3Network,
        {
            "channels": 64,
            "multipliers": (1, 2, 4, 8, 16),
            "blocks": 1,
            "attention": (),
            "groups": 16,
        },
        512,
    ),
}


LISTED = {
    "DDPM 256": "pesser-celebahq256",
    "DDPM CIFAR-10": "pesser-cifar10",
    "SR3 16 to 128": "sr3-16-to-128",
    "SR3 64 to 512": "sr3-64-to-512",
}
"""Their names in the catalogue, which says nothing else of them."""


@pytest.mark.parametrize("name", FULL_SIZE)
def test_published_networks_are_recognised_at_full_size(name: str) -> None:
    """Restated on the meta device: their architecture, with what shapes do not show, and their
    exact size.
    """
    layout, kind, options, size = FULL_SIZE[name]
    renamed = Renamed(layout(meta(kind, **options)))
    config = settled(renamed.layout, renamed.inferred, {})
    renamed.check(config["backbone"])
    assert sum(tensor.numel() for tensor in renamed.state.values()) == next(
        count for key, (_, count) in PUBLISHED.items() if key.startswith(name)
    )
    assert config["size"] == size
    assert config["backbone"]["norm_groups"] == options.get("groups", 32)
    assert config["scale"] == (8 if layout is Sr3 else None)
    assert settled(renamed.layout, renamed.inferred, entries()[LISTED[name]].config) == config


@pytest.mark.parametrize(
    ("name", "widths", "attends"),
    [
        ("ddpm-church256", (128, 128, 256, 256, 512, 512), 4),
        ("ddpm-cifar10", (128, 256, 256, 256), 1),
    ],
)
def test_googles_networks_are_those_of_diffusers_class_at_full_size(
    name: str, widths: tuple, attends: int
) -> None:
    """By the options in their repositories; ``attends`` is the level that does."""
    entry = entries()[name]
    kinds = ["Attn" if level == attends else "" for level in range(len(widths))]
    options = {
        "sample_size": entry.resolution,
        "block_out_channels": widths,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
        "layers_per_block": 2,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
    }
    with torch.device("meta"):
        state = diffusers.UNet2DModel(**options).state_dict()
    renamed = Renamed(UNet2D(state, options, {"beta_schedule": "linear"}))
    config = settled(renamed.layout, renamed.inferred, entry.config)
    renamed.check(config["backbone"])
    assert sum(tensor.numel() for tensor in state.values()) == entry.parameters


def test_a_network_that_sees_other_channels_is_refused(refused) -> None:
    state = randomised(DdpmNetwork(multipliers=(1,), attention=())).state_dict()
    state["conv_in.weight"] = torch.zeros(32, 6, 3, 3)
    assert "sees 6 channels; known are 3" in refused("model.pt", state)
    state["conv_in.weight"], state["conv_out.weight"] = (
        torch.zeros(32, 3, 3, 3),
        torch.zeros(1, 32, 3, 3),
    )
    assert "conv_out.weight (1x32x3x3 instead of 3x32x3x3)" in refused("grey.pt", state)


@pytest.fixture
def network() -> DdpmNetwork:
    return randomised(DdpmNetwork(multipliers=(1, 2), blocks=1))


@pytest.fixture
def refused(tmp_path) -> Callable[..., str]:
    """``refused(name, content)`` is what is said of a file with that content."""

    def read(name: str, content: Any = None, **options: Any) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None and path.suffix == ".safetensors":
            save_file(content, path)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(CheckpointError) as error:
            layouts.read(path, **options)
        assert str(error.value).startswith(str(path))
        return str(error.value)

    return read


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "plain pickle 4"])
def test_code_in_a_pickle_is_refused_and_not_run(form: str, refused, tmp_path) -> None:
    proof = tmp_path / "it ran"
    content = {"model": {"conv_in.weight": torch.zeros(1)}, "args": Malicious(proof)}
    path = tmp_path / "model.pkl"
    if form.startswith("plain"):
        path.write_bytes(pickle.dumps(content, protocol=4 if form.endswith("4") else 2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    said = refused("model.pkl")
    assert "refused, for it holds code" in said
    assert "as .safetensors" in said
    assert not proof.exists()
    if not form.startswith("plain"):
        assert "system" in said
        torch.load(path, weights_only=False)  # the trap is a real one
        assert proof.exists()


def test_harmless_classes_are_refused_by_name(refused) -> None:
    said = refused("train.pt", {"model": {"x": torch.zeros(1)}, "args": argparse.Namespace(rate=1)})
    assert "argparse.Namespace" in said


def test_a_zip_file_that_goes_on_in_other_files_is_damaged(refused, tmp_path) -> None:
    """Its last record names a second file, at which Python's own check gives up."""
    torch.save({"x": torch.zeros(1)}, tmp_path / "first.pt")
    whole = (tmp_path / "first.pt").read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2)
    said = refused("part.pt", whole[:end] + locator + whole[end:])
    assert "a damaged zip file (zipfiles that span multiple disks" in said


def test_what_is_no_checkpoint(refused, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "a zip file of something else; it holds a.txt" in refused("photos.pt")
    assert "a pickle of torch.save but text ('<html>404" in refused(
        "text.ckpt", b"<html>404 Not Found</html>"
    )
    assert "neither a zip file nor a pickle" in refused("empty.pth", b"")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2211383297\n"
    assert "a readable safetensors file but text ('version https://git-lfs" in refused(
        "text.safetensors", pointer
    )
    assert "not a readable safetensors file: " in refused("empty.safetensors", b"")
    assert "no such file" in refused("missing.pt")
    assert "it holds epoch, iter" in refused("opt.pth", {"epoch": 3, "iter": 100})
    assert "but Tensor" in refused("tensor.pt", torch.zeros(3))
    assert "of no known layout (ADM" in refused("other.pt", {"encoder.weight": torch.zeros(3)})


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files(form: str, network, refused, tmp_path) -> None:
    whole = tmp_path / "whole"
    name = "cut.safetensors" if form == "safetensors" else "cut.pt"
    if form == "safetensors":
        save_file(network.state_dict(), whole)
    else:
        torch.save(network.state_dict(), whole, _use_new_zipfile_serialization=form == "zip")
    said = refused(name, whole.read_bytes()[: whole.stat().st_size // 2])
    expected = {"zip": "cut off", "legacy": "damaged", "safetensors": "not a readable safetensors"}
    assert expected[form] in said


def test_missing_extra_and_misshapen_tensors_are_named_as_the_file_names_them(
    network, refused
) -> None:
    state = network.state_dict()
    state["surplus.weight"] = state.pop("mid.block_1.conv1.bias")
    state["up.1.block.0.norm1.weight"] = torch.ones(3)
    said = refused("model.pt", state)
    assert "1 missing: mid.block_1.conv1.bias" in said
    assert "1 unexpected: surplus.weight" in said
    assert "1 of the wrong shape: up.1.block.0.norm1.weight (3 instead of 128)" in said


@pytest.mark.parametrize(
    "key",
    [
        "temb.dense.1.weight",
        "conv_out.weight",
        "down.0.block.0.conv2.weight",
        "mid.attn_1.k.weight",
    ],
)
def test_without_one_of_the_tensors_that_tell_the_architecture(key: str, network, refused) -> None:
    state = network.state_dict()
    del state[key]
    assert key in refused("model.pt", state)


BROKEN = {
    "DDPM": lambda: DdpmNetwork(multipliers=(1, 2), blocks=1),
    "SR3": lambda: Sr3Network(multipliers=(1, 2), blocks=1, betas=torch.linspace(1e-6, 1e-2, 10)),
    "EDM": lambda: EdmNetwork(channels=32, attention=(16, 8)),
    "DDPM++": lambda: DdpmppNetwork(16, 32, (1, 2), blocks=1, attention=(16, 8), classes=5),
    "ADM": lambda: build_backbone(
        BackboneConfig(channels=32, channel_multipliers=(1, 2), attention_factors=(2,))
    ),
    "diffusers": lambda: diffusers.UNet2DModel(
        block_out_channels=(32, 64),
        down_block_types=("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D"),
        layers_per_block=1,
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_whatever_is_broken_is_an_error_that_names_it(kind: str, tmp_path, monkeypatch) -> None:
    """Any tensors left out, or of any shape: never another error, never a network."""
    network = BROKEN[kind]()
    chance = random.Random(0)
    monkeypatch.setattr(edm, "GROUP_CHANNELS", 1)
    if kind == "diffusers":
        (tmp_path / "config.json").write_text(json.dumps(dict(network.config)))
    whole = network.state_dict()
    said = {"schedule": {"name": "sr3"}, "backbone": {"norm_groups": 32}}
    if kind == "ADM":
        said["backbone"] |= {"heads": 1}
    needed = [
        name
        for name in whole
        if not name.endswith(("resample_filter", "map_augment.weight", "_coef1", "prod"))
    ]
    save_file(whole, tmp_path / "whole.safetensors")
    layouts.read(tmp_path / "whole.safetensors", expected=said)
    for _ in range(40):
        state = dict(whole)
        for name in chance.sample(needed, chance.choice([1, 2, 40])):
            shape = [chance.choice([1, 2, 3, 32]) for _ in range(chance.randrange(5))]
            if chance.random() < 0.5 or tuple(shape) == tuple(whole[name].shape):
                state.pop(name)
            else:
                state[name] = torch.zeros(shape)
        save_file(state, tmp_path / "broken.safetensors")
        if whole.keys() - state.keys() == {"betas"}:
            continue
        with pytest.raises(CheckpointError, match=r"broken\.safetensors: "):
            layouts.read(tmp_path / "broken.safetensors", expected=said)


def test_another_network_than_expected_is_refused_by_its_keys(network, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "model.pt")
    expected = {"backbone": {"blocks": 2, "channels": 64, "heads": 1}, "parameterization": "v"}
    with pytest.raises(CheckpointError) as error:
        layouts.read(tmp_path / "model.pt", expected=expected)
    for key in (
        "backbone.blocks: 1, expected 2",
        "backbone.channels: 32, expected 64",
        "parameterization: epsilon",
    ):
        assert key in str(error.value)
    with pytest.raises(CheckpointError, match=r"unknown keys: backbone\.chanels"):
        layouts.read(tmp_path / "model.pt", expected={"backbone": {"chanels": 64}})
    with pytest.raises(CheckpointError, match=r"says blocks = 'two', where 2 is usual"):
        layouts.read(tmp_path / "model.pt", expected={"backbone": {"blocks": "two"}})
    with pytest.raises(CheckpointError, match="schedule has no name"):
        layouts.read(tmp_path / "model.pt", expected={"schedule": {"timesteps": 4000}})
    with pytest.raises(CheckpointError, match="backbone must be a table"):
        layouts.read(tmp_path / "model.pt", expected={"backbone": 3})


def test_what_weights_do_not_show_is_said_beside_them(network, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.toml").write_text(
        'size = 64\nschedule = { name = "cosine" }\n[backbone]\nblocks = 1\n'
    )
    config, _ = layouts.read(tmp_path / "model.pt")
    assert (config["size"], config["schedule"]) == (64, {"name": "cosine"})
    config, _ = layouts.read(
        tmp_path / "model.pt", expected={"schedule": {"name": "linear", "timesteps": 500}}
    )
    assert config["schedule"] == {"name": "linear", "timesteps": 500}
    (tmp_path / "model.toml").write_text("size = ")
    with pytest.raises(CheckpointError, match=r"model\.toml: not a readable description"):
        layouts.read(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("hints", "said"),
    [
        (
            'schedule = { name = "linear" }\n[backbone]\nheads = 4\nqkv_order = "old"',
            "qkv_order must be legacy or new",
        ),
        (
            'schedule = { name = "linear" }\n[backbone]\nheads = 7\nqkv_order = "new"',
            "cannot be divided into 7 heads",
        ),
        (
            'schedule = { name = "linear", steps = 9 }\n[backbone]\nheads = 1',
            "the noise schedule linear has no steps; it has timesteps, start, end",
        ),
    ],
)
def test_hints_that_make_no_network_are_refused_in_words(
    hints: str, said: str, command, tmp_path
) -> None:
    """By a run and by `restore info`, which says what a run would."""
    path = tmp_path / "model.pt"
    picture = tmp_path / "in.png"
    torch.save(
        build_backbone(BackboneConfig(channels=32, channel_multipliers=(1, 1))).state_dict(), path
    )
    path.with_suffix(".toml").write_text(hints)
    piece((16, 16)).save(picture)
    for words in (("info",), ("denoise", picture)):
        outcome = command(*words, "--model", path)
        assert (outcome.code, outcome.err.count("model.pt")) == (3, 1)
        assert said in outcome.err


def test_sr3_says_what_groups_it_has_only_where_it_was_published(refused) -> None:
    assert "norm_groups = 32" in refused("gen.pth", randomised(Sr3Network()).state_dict())


def test_a_diffusers_network_needs_its_options(refused, tmp_path) -> None:
    options = {
        "block_out_channels": (32,),
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
    }
    network = diffusers.UNet2DModel(**options, layers_per_block=1)
    assert "config.json, which is missing" in refused(
        "alone.safetensors", dict(network.state_dict())
    )
    network.save_pretrained(tmp_path / "folder")
    assert "scheduler_config.json is missing" in refused("folder")
    description = json.loads((tmp_path / "folder" / "config.json").read_text())
    for change, said in {
        "act_fn": "act_fn = 'gelu'",
        "layers_per_block": "backbone.blocks: 1, expected 3",
        "_class_name": "of gelu; only UNet2DModel",
    }.items():
        changed = {**description, change: 3 if change == "layers_per_block" else "gelu"}
        (tmp_path / "folder" / "config.json").write_text(json.dumps(changed))
        assert said in refused("folder", expected={"schedule": {"name": "linear"}})
    (tmp_path / "empty").mkdir()
    assert "no diffusion_pytorch_model.safetensors" in refused("empty")


def test_converted_weights_are_our_own(network, tmp_path) -> None:
    source = tmp_path / "model.ckpt"
    target = tmp_path / "new" / "faces.safetensors"
    torch.save([network.state_dict()], source)
    layouts.convert(source, target)
    checkpoint = pretrained.load(str(target))
    found = build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state)
    x = torch.randn(1, 3, 16, 16)
    time = torch.tensor([20.0])
    with torch.no_grad():
        torch.testing.assert_close(found.network(x, time), network(x, time), rtol=1e-5, atol=1e-5)
    config, state = layouts.read(target)
    assert ModelConfig.from_dict(config) == found.config
    assert state.keys() == load_file(target).keys()
    before = target.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"faces\.safetensors: exists already; pass `overwrite`"
    ):
        layouts.convert(source, target)
    layouts.convert(source, target, overwrite=True)
    assert target.read_bytes() == before
    assert sorted(p.name for p in target.parent.iterdir()) == ["faces.json", "faces.safetensors"]
    source.touch()
    assert target.stat().st_mode == source.stat().st_mode  # not for its owner alone
    with pytest.raises(CheckpointError, match="give it that ending"):
        layouts.convert(source, tmp_path / "faces.pt")


def test_a_failed_conversion_leaves_nothing(network, tmp_path, monkeypatch) -> None:
    torch.save(network.state_dict(), tmp_path / "model.pt")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pretrained.layouts.files.os.replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        layouts.convert(tmp_path / "model.pt", tmp_path / "out" / "model.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


def test_hints_may_stand_in_json_too(tmp_path) -> None:
    """Only a complete description makes weights ours; the file that was converted stays what it
    was.
    """
    network = build_backbone(
        BackboneConfig(channels=32, channel_multipliers=(1, 2), attention_factors=(2,), heads=4)
    )
    said = {"schedule": {"name": "cosine"}, "backbone": {"heads": 4, "qkv_order": "new"}}
    save_file(network.state_dict(), tmp_path / "theirs.safetensors")
    torch.save(network.state_dict(), tmp_path / "theirs too.pt")
    for file in ("theirs.json", "theirs too.json"):
        (tmp_path / file).write_text(json.dumps(said))
    for file in ("theirs.safetensors", "theirs too.pt"):
        config = pretrained.load(str(tmp_path / file)).config
        assert (config["schedule"], config["backbone"]["qkv_order"]) == ({"name": "cosine"}, "new")
    layouts.convert(tmp_path / "theirs too.pt", tmp_path / "theirs too.safetensors", overwrite=True)
    assert layouts.read(tmp_path / "theirs too.pt")[0] == config
    assert layouts.read(tmp_path / "theirs too.safetensors")[0] == config


def test_weights_are_hashed_once(tmp_path, monkeypatch) -> None:
    read = []
    monkeypatch.setattr("pretrained.disk.sha256", lambda path: read.append(path) or f"{len(read)}")
    path = random_file(tmp_path / "model.safetensors", tiny())
    (tmp_path / "model.json").write_text(
        json.dumps({**json.loads((tmp_path / "model.json").read_text()), "sha256": "1"})
    )
    for _ in range(2):
        assert pretrained.load(str(path)).sha256 == pretrained.digest(str(path)) == "1"
    os.utime(path, ns=(0, 0))
    assert pretrained.digest(str(path)) == "2"
    assert read == [path, path]


def test_another_description_makes_another_model(command, tmp_path, monkeypatch) -> None:
    """What was restored under wrong hints is not taken for done under the right ones."""
    monkeypatch.chdir(tmp_path)
    network = build_backbone(BackboneConfig(channels=32, channel_multipliers=(1, 1)))
    torch.save(network.state_dict(), "theirs.pt")
    Path("in").mkdir()
    piece((16, 16)).save("in/a.png")
    words = ["denoise", "in", "out", "--noise", 0.1, "--steps", 1, "--model", "theirs.pt"]
    for heads, code, said in (
        (4, 0, ""),
        (4, 6, "already"),
        (1, 6, "1 restored with other options"),
    ):
        hints = f'schedule = {{ name = "linear" }}\n[backbone]\nheads = {heads}\nqkv_order = "new"'
        Path("theirs.toml").write_text(hints)
        outcome = command(*words)
        assert outcome.code == code, outcome.err
        assert said in outcome.err
        assert ("other options" in outcome.err) == (heads == 1)
    layouts.convert(Path("theirs.pt"), Path("ours.safetensors"))
    assert pretrained.identity("ours.safetensors") == pretrained.digest("ours.safetensors")
    assert pretrained.identity() == pretrained.digest()


def test_our_own_weights_need_their_description(tmp_path, refused) -> None:
    shipped = pretrained.checkpoint_path("default")
    config, state = layouts.read(shipped)
    assert ModelConfig.from_dict(config) == ModelConfig.from_dict(pretrained.load("default").config)
    assert state.keys() == pretrained.load("default").state.keys()
    assert "whose description alone.json is missing" in refused("alone.safetensors", state)
    with pytest.raises(CheckpointError, match="channels: 64, expected 32"):
        layouts.read(shipped, expected={"backbone": {"channels": 32}})
