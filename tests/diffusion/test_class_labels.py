"""Class-conditional networks: the class is bound once, and every solver, sampler and command takes
it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import random_denoiser, random_file, tiny
from support.pictures import piece

from restore import Restorer
from restore.errors import BadArgument
from restore.runtime.tiles import TiledDenoiser

CLASSES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(
        random_file(tmp_path_factory.mktemp("model") / "classes.safetensors", tiny(classes=CLASSES))
    )


def test_the_network_sees_the_class() -> None:
    denoise = random_denoiser(tiny(classes=CLASSES))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = 0.5
    with torch.inference_mode():
        third = denoise.of_class(3)(x, sigma)
        fourth = denoise.of_class(4)(x, sigma)
        time = denoise.schedule.time_at(torch.full((2,), sigma))
        output = denoise.network(x / (1 + sigma**2) ** 0.5, time, torch.tensor([3, 3]))
    torch.testing.assert_close(third.noise, output, rtol=0, atol=1e-6)
    assert (third.noise - fourth.noise).abs().max() > 1e-3


def test_tiles_see_the_class_and_remember_what_they_learned_of_the_memory() -> None:
    denoise = random_denoiser(tiny(classes=CLASSES))
    tiled = TiledDenoiser(denoise, 128, 64)
    x = torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(tiled.of_class(2)(x, 0.5).clean, denoise.of_class(2)(x, 0.5).clean)
    assert tiled.of_class(2).tile == 128
    plain = TiledDenoiser(random_denoiser(tiny()))
    assert plain.of_class(None) is plain


def test_a_restorer_keeps_the_denoiser_of_a_class(model: str) -> None:
    restorer = Restorer(model, "cpu")
    assert restorer.of_class(1) is restorer.of_class(1)
    assert restorer.of_class(1).denoise.network is restorer.of_class(2).denoise.network


@pytest.mark.parametrize(
    ("classes", "label", "said"),
    [
        (0, 2, "`label`=2: this model knows no classes"),
        (CLASSES, None, "`label` is missing: this model draws one of 5 classes, 0 to 4"),
        (CLASSES, 5, "`label`=5: must be between 0 and 4"),
        (CLASSES, -1, "`label`=-1: must be between 0 and 4"),
    ],
)
def test_refuses_in_python(classes: int, label: int | None, said: str) -> None:
    denoise = random_denoiser(tiny(classes=classes))
    for one in (denoise, TiledDenoiser(denoise)):
        with pytest.raises(BadArgument, match=said):
            one.of_class(label)


def test_a_network_is_not_asked_without_its_class() -> None:
    with pytest.raises(BadArgument, match="`label` is missing"):
        random_denoiser(tiny(classes=CLASSES))(torch.zeros(1, 3, 8, 8), 1.0)


TASKS = [
    ("sr", "--scale", 2),
    ("inpaint", "--mask", "mask.png"),
    ("deblur", "--kernel", "gaussian:1"),
    ("denoise", "--noise", 0.1),
    ("colorize",),
    ("solve", "--operator", "down:area:2"),
]


@pytest.mark.parametrize("words", TASKS, ids=lambda words: words[0])
def test_every_task_takes_it(command, tmp_path, monkeypatch, model: str, words) -> None:
    monkeypatch.chdir(tmp_path)
    piece((24, 16)).save("in.png")
    mask = np.zeros((16, 24), np.uint8)
    mask[4:12, 6:18] = 255
    Image.fromarray(mask).save("mask.png")
    task, *options = words
    steps = () if task == "denoise" else ("--steps", 2)
    for label in (0, 4):
        outcome = command(
            task, "in.png", f"{label}.png", *options, *steps, "--model", model, "--class", label
        )
        assert outcome.code == 0, outcome.err
    assert not np.array_equal(np.asarray(Image.open("0.png")), np.asarray(Image.open("4.png")))


def test_samples_of_a_class(command, tmp_path, model: str) -> None:
    for label in (0, 4):
        words = ["--count", 1, "--size", "16x16", "--steps", 2, "--model", model, "--class", label]
        assert command("sample", tmp_path / f"{label}.png", *words).code == 0
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "4.png").read_bytes()


def test_likelihood_and_evaluation_of_a_class(command, tmp_path, model: str) -> None:
    (tmp_path / "photos").mkdir()
    piece((32, 32)).save(tmp_path / "photos/a.png")
    words = ["--model", model, "--class", 1]
    assert command("likelihood", tmp_path / "photos/a.png", "--size", 8, *words).code == 0
    target = tmp_path / "out.json"
    outcome = command(
        "evaluate",
        tmp_path / "photos",
        "--task",
        "denoise",
        "--methods",
        "one-step",
        *words,
        "--json",
        target,
    )
    assert outcome.code == 0, outcome.err
    assert '"label": 1' in target.read_text()


def test_a_file_of_options_and_the_manifest_know_it(
    command, tmp_path, monkeypatch, model: str
) -> None:
    """A folder that was restored for one class is not taken for done for another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    piece((24, 16)).save("in/a.png")
    (tmp_path / "mine.toml").write_text("class = 2\nquiet = true\n[denoise]\nnoise = 0.1\n")
    words = ["denoise", "in", "out", "--model", model, "--config", "mine.toml"]
    assert command(*words).code == 0
    told = [json.loads(line) for line in (tmp_path / "out/restore.jsonl").read_text().splitlines()]
    assert '"label": 2' in json.dumps(told)
    assert command(*words).code == 6  # nothing left to do
    assert command(*words, "--class", 3, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--class", 2), "--class 2: this model knows no classes"),
        (("--model", "classes"), "--class is missing: this model draws one of 5 classes, 0 to 4"),
        (("--model", "classes", "--class", 5), "--class 5: must be between 0 and 4"),
        (("--class", "cat"), "--class"),
    ],
)
@pytest.mark.parametrize("task", ["denoise", "sample", "likelihood", "folder", "evaluate"])
def test_refuses(command, tmp_path, monkeypatch, model: str, task: str, words, said: str) -> None:
    """Before any picture: of a folder the run fails, not each of its pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    piece((24, 16)).save("in/a.png")
    words = [model if word == "classes" else word for word in words]
    first = {
        "denoise": ("denoise", "in/a.png", "out.png"),
        "folder": ("denoise", "in", "out"),
        "sample": ("sample", "out.png"),
        "likelihood": ("likelihood", "in/a.png", "--size", 8),
        "evaluate": ("evaluate", "in", "--task", "denoise"),
    }[task]
    outcome = command(*first, *words)
    assert outcome.code == 1
    assert said in outcome.err
    assert not list(tmp_path.glob("out*"))


def test_training_refuses_classes(command, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "recipe.toml").write_text("[model.backbone]\nclasses = 3\n")
    words = ["--data", tmp_path / "photos", "--out", tmp_path / "run", "--steps", 1]
    outcome = command("train", *words, "--recipe", tmp_path / "recipe.toml")
    assert outcome.code == 1
    assert "classes: must be 0" in outcome.err


@pytest.mark.parametrize("name", ["sr", "evaluate", "tune", "sample", "score-norms", "likelihood"])
def test_every_command_that_loads_a_model_takes_a_class_and_may_download(
    command, name: str
) -> None:
    shown = command(name, "--help").out
    assert "--class" in shown
    assert "--yes" in shown
