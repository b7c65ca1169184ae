"""`restore train` from a folder of photographs to a restored picture."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.pictures import piece

import pretrained
from restore.training.checkpoint import load_state
from restore.training.recipe import default_model
from restore.training.recipe_file import papers, parse_recipe

RECIPE = """
[model.backbone]
channels = 32
channel_multipliers = [1, 2]
blocks = 1

[data]
crop = 16
batch = 4

[schedule]
warmup_steps = 1
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for crop in "ab":
        piece((128, 96), crop).save(f"photos/{crop}.png")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def test_trains_resumes_and_restores_with_the_model(command, place):
    words = ["train", "--data", "photos", "--out", "run", "--device", "cpu"]
    outcome = command(*words, "--recipe", "recipe.toml", "--steps", 2)
    assert outcome.code == 0, outcome.err
    assert "run/model.safetensors: 2 steps" in outcome.err
    assert command(*words, "--recipe", "recipe.toml", "--steps", 2).code == 5  # a run is there
    assert "4 steps" in command(*words, "--resume", "--steps", 4).err
    for name in ("recipe.toml", "log.csv", "samples.png", "checkpoint.safetensors", "model.json"):
        assert (place / "run" / name).is_file()
    piece((24, 16)).save("in.png")
    options = ["--noise", 0.1, "--model", "run/model.safetensors"]
    assert command("denoise", "in.png", "out.png", *options).code == 0
    assert Image.open("out.png").size == (24, 16)

    outcome = command("train", "--out", "run", "--average", 0.997)
    assert outcome.code == 0, outcome.err
    assert "run/model-average-0.997.safetensors: the average of decay 0.997" in outcome.err
    average = load_state(place / "run").averages["0.997/out.2.bias"]
    exported = pretrained.load("run/model-average-0.997.safetensors").state["out.2.bias"]
    assert torch.equal(exported, average.half())
    outcome = command("train", "--out", "run", "--average", 0.5)
    assert outcome.code == 1
    assert "--average 0.5: run has no average of this decay; there are 0.997, 0.9997" in outcome.err


def test_a_model_like_the_default_learns_from_nothing(command, place):
    """The first command of docs/training.md: both networks, from random weights."""
    (place / "small.toml").write_text("[data]\ncrop = 16\nbatch = 4\n")
    words = ["--data", "photos", "--out", "run", "--recipe", "small.toml", "--device", "cpu"]
    outcome = command("train", *words, "--steps", 2)
    assert outcome.code == 0, outcome.err
    written = (place / "run" / "recipe.toml").read_text()
    assert "[predictor]\nfraction = 0.5\n" in written
    assert default_model() == parse_recipe(written).model


def test_names_the_recipes_of_papers(command):
    listed = " ".join(command("train", "--help").out.replace("│", " ").split())
    for name in papers():
        assert name in listed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("train --data photos", 1, "--out"),
        ("train --data photos --out run --recipe recipe.toml", 1, "--minutes or --steps"),
        ("train --out run --steps 1 --recipe recipe.toml", 1, "--data is missing"),
        ("train --data nosuch --out run --steps 1 --recipe recipe.toml", 5, "nosuch"),
        ("train --data empty --out run --steps 1 --recipe recipe.toml", 6, "empty"),
        ("train --data photos --out run --steps 1 --recipe nosuch.toml", 5, "nosuch.toml"),
        ("train --data photos --out run --steps 1 --recipe bad.toml", 1, "cropp"),
        ("train --out run --resume", 5, "run"),
        ("train --out run --average 0.997", 5, "run: no checkpoint.safetensors, which has the"),
        ("train --out run --average 0.997 --resume", 1, "--average: trains nothing, and needs --o"),
        ("train --out run --average 0.997 --steps 1", 1, "--average: trains nothing"),
        (
            "train --data photos --out run --steps 1 --init nosuch.safetensors",
            2,
            "nosuch.safetensors",
        ),
        (
            "train --data photos --out run --steps 1 --recipe recipe.toml --init default",
            1,
            "channels",
        ),
    ],
)
def test_refuses(command, place, words, code, said):
    (place / "empty").mkdir()
    (place / "bad.toml").write_text("[data]\ncropp = 3\n")
    outcome = command(*words.split())
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert not (place / "run").exists()
