"""Descriptions keep their bytes: what is read from JSON is written as the same JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from support.published_networks import DdpmNetwork, randomised

import pretrained
from pretrained import layouts
from pretrained.catalogue import entries
from pretrained.description import BackboneConfig, ModelConfig, PredictorConfig
from restore.training.checkpoint import write_model

ROOT = Path(__file__).parents[2]

# Every key with its value, in the order in which `layouts.convert` writes them.
CONVERTED = """{
  "backbone": {
    "layout": "adm",
    "image_channels": 3,
    "condition_channels": 0,
    "condition_map": false,
    "learned_variance": false,
    "channels": 32,
    "channel_multipliers": [
      1,
      2
    ],
    "blocks": 1,
    "attention_factors": [
      2
    ],
    "middle_attention": true,
    "heads": 1,
    "head_channels": null,
    "qkv_order": "legacy",
    "norm": "group",
    "norm_eps": 1e-06,
    "scale_shift_norm": false,
    "resblock_updown": false,
    "classes": 0,
    "dropout": 0.0,
    "norm_groups": 32,
    "embedding_endpoint": true,
    "embedding_width": null,
    "embedding_activation": true,
    "qkv_bias": true,
    "downsample_padding": "end",
    "patch": 1,
    "noise_map": false,
    "noisy_input": true,
    "times": 1
  },
  "schedule": {
    "name": "linear"
  },
  "parameterization": "epsilon",
  "time": "step",
  "condition_skip": false,
  "one_step": "noise",
  "time_scale": 1.0,
  "sigma_data": 0.5,
  "size": 32,
  "condition_required": false,
  "condition_resampling": "bicubic",
  "scale": null,
  "distilled_levels": null,
  "predictor": null,
  "condition_picture": "degraded",
  "bridge": null,
  "noise_variance": null,
  "sha256": "DIGEST"
}
"""


def test_the_shipped_description_is_written_as_it_was_read(tmp_path: Path) -> None:
    shipped = pretrained.checkpoint_path("default")
    checkpoint = pretrained.load("default")
    copy = write_model(
        ModelConfig.from_dict(checkpoint.config), checkpoint.state, tmp_path / "copy.safetensors"
    )
    assert copy.read_bytes() == shipped.read_bytes()
    assert copy.with_suffix(".json").read_bytes() == shipped.with_suffix(".json").read_bytes()


def test_a_converted_description_has_every_key_in_its_place(tmp_path: Path) -> None:
    network = randomised(DdpmNetwork(multipliers=(1, 2), blocks=1))
    torch.save(network.state_dict(), tmp_path / "theirs.pt")
    target = tmp_path / "ours.safetensors"
    layouts.convert(tmp_path / "theirs.pt", target)

    expected = CONVERTED.replace("DIGEST", pretrained.digest(str(target)))
    assert target.with_suffix(".json").read_bytes() == expected.encode()

    description = json.loads(expected)
    del description["sha256"]
    assert json.loads(json.dumps(asdict(ModelConfig.from_dict(description)))) == description


@pytest.mark.parametrize("name", entries())
def test_what_the_catalogue_says_is_part_of_a_description(name: str) -> None:
    config = entries()[name].config
    if "schedule" not in config:
        pytest.skip("the chain is read from the checkpoint")
    model = ModelConfig.from_dict(config)
    again = ModelConfig.from_dict(json.loads(json.dumps(asdict(model))))
    assert again == model


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (BackboneConfig, {"norm": "batch"}, "norm must be group or rms, not 'batch'"),
        (
            BackboneConfig,
            {"layout": "unet"},
            r"layout must be adm or ddpm\+\+ or lean, not 'unet'",
        ),
        (
            PredictorConfig,
            {"backbone": BackboneConfig(), "shown": "all"},
            "predictor: shown must be deblurred or inverse or degraded, not 'all'",
        ),
        (
            ModelConfig,
            {"backbone": BackboneConfig(), "schedule": {}, "parameterization": "score"},
            r"unknown parameterization 'score'; known: \('epsilon', 'v', 'x0', 'edm', 'flow'\)",
        ),
        (
            ModelConfig,
            {"backbone": BackboneConfig(), "schedule": {}, "condition_picture": "blurred"},
            "condition_picture must be degraded or predicted, not 'blurred'",
        ),
        (
            ModelConfig,
            {"backbone": BackboneConfig(), "schedule": {}, "bridge": "iron"},
            "bridge must be brownian or ot-ode, not 'iron'",
        ),
        (
            ModelConfig,
            {"backbone": BackboneConfig(), "schedule": {}, "bridge": "ot-ode"},
            "bridge = ot-ode: needs condition_required = true and one_step = noise",
        ),
    ],
)
def test_an_unknown_option_is_named(kind: type, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        kind(**options)


def test_descriptions_need_no_torch() -> None:
    code = "import sys, pretrained.description; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
