"""Folders of pipelines: what they are, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import pretrained
from pretrained import CheckpointError, pipelines

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}
FILES = {
    "vae": ("config.json", "diffusion_pytorch_model.safetensors"),
    "unet": ("config.json", "diffusion_pytorch_model.safetensors"),
    "scheduler": ("scheduler_config.json",),
    "tokenizer": ("vocab.json", "merges.txt"),
    "text_encoder": ("config.json", "model.safetensors"),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files of Stable Diffusion 1.x with nothing in them."""
    target = tmp_path / "model"
    for component, names in FILES.items():
        for name in names:
            path = target / component / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}" if name.endswith(".json") else component, encoding="utf-8")
    write_index(target)
    return target


def write_index(folder: Path, **changes: object) -> None:
    (folder / pipelines.INDEX).write_text(json.dumps({**INDEX, **changes}), encoding="utf-8")


def test_the_files_of_a_pipeline_are_those_it_needs(folder):
    """Neither the safety checker nor weights of other kinds are among them."""
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    (folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")
    found = {path.relative_to(folder).as_posix() for path in pipelines.read(folder).files}
    names = {f"{component}/{name}" for component, each in FILES.items() for name in each}
    assert found == {pipelines.INDEX, *names}
    assert pretrained.checkpoint_path(str(folder)) == folder / pipelines.INDEX
    assert pretrained.pipeline_folder(str(folder)) == folder


def test_files_of_a_repository(folder):
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    more = ["unet/diffusion_pytorch_model.bin", "v1-5.ckpt", "safety_checker/model.safetensors"]
    needed = pipelines.files_needed(INDEX, [*names, *more])
    assert needed[0] == pipelines.INDEX
    assert sorted(needed) == sorted(names)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors", "pytorch_model.bin"], ["model.fp16.safetensors"]),
        (["diffusion_pytorch_model.non_ema.safetensors"], []),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "model.fp16-00001-of-00001.safetensors",
                "model.safetensors.index.fp16.json",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
    ],
)
def test_weights_are_chosen(names, chosen):
    assert pipelines.chosen_weights(names) == chosen


def test_another_weight_or_schedule_makes_another_model(folder):
    before = pretrained.identity(str(folder))
    (folder / "scheduler" / "scheduler_config.json").write_text('{"a": 1}', encoding="utf-8")
    between = pretrained.identity(str(folder))
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_text("new", encoding="utf-8")
    assert len({before, between, pretrained.identity(str(folder))}) == 3


def test_a_missing_component(folder):
    shutil.rmtree(folder / "vae")
    with pytest.raises(CheckpointError, match="the component vae is missing: there is no folder"):
        pipelines.read(folder)


def test_a_component_without_weights_or_description(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"unet has no weights: there is no \.safetensors"):
        pipelines.read(folder)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"unet/config\.json is missing"):
        pipelines.read(folder)


def test_pickles_are_refused_by_name(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"unet/diffusion_pytorch_model\.bin: refused, for a"):
        pipelines.read(folder)
    listed = ["unet/config.json", "unet/diffusion_pytorch_model.bin", "vae/config.json"]
    with pytest.raises(CheckpointError, match=r"unet/diffusion_pytorch_model\.bin: refused"):
        pipelines.files_needed(INDEX, listed)


def test_an_unknown_pipeline(folder):
    write_index(folder, _class_name="StableVideoDiffusionPipeline")
    with pytest.raises(CheckpointError, match="class StableVideoDiffusionPipeline, which is not"):
        pipelines.read(folder)


def test_a_component_that_the_index_leaves_out(folder):
    write_index(folder, text_encoder=[None, None])
    with pytest.raises(CheckpointError, match=r"names no text_encoder, which Stable Diffusion"):
        pipelines.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"_class_name": ' * 5000])
def test_a_damaged_index(folder, text):
    (folder / pipelines.INDEX).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model_index\.json: not a"):
        pretrained.checkpoint_path(str(folder))


def test_a_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(CheckpointError, match=r"no pipeline of diffusers, for it has no model_"):
        pipelines.read(tmp_path)
