"""Restorations by latent models, from the command to the picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from restore.restorer import Restorer

PROMPT = ("--prompt", "a wooden door")
FEW = ("--steps", 2, "--quiet")


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


@pytest.fixture
def hole(tmp_path) -> Path:
    """A mask of 72x64 pixels, white where to fill."""
    mask = np.zeros((64, 72), np.uint8)
    mask[20:40, 24:52] = 255
    path = tmp_path / "hole.png"
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def inpaint(pipeline, command, picture, hole, tmp_path) -> Callable[..., NDArray[np.uint8]]:
    """``inpaint(family, *options)`` fills a hole, checks that all else is unchanged, and returns
    the result.
    """
    source = picture(size=(72, 64))

    def run(family: str, *options: object) -> NDArray[np.uint8]:
        target = tmp_path / "out.png"
        given = (source, target, "--mask", hole, "--model", pipeline(family), "--overwrite")
        outcome = command("inpaint", *given, *FEW, *options)
        assert outcome.code == 0, outcome.err
        before, after = pixels(source), pixels(target)
        kept = pixels(hole) == 0
        assert after.shape == before.shape
        assert np.array_equal(after[kept], before[kept])
        assert not np.array_equal(after[~kept], before[~kept])
        return after

    return run


@pytest.mark.parametrize(
    "family",
    [
        "stable-diffusion",
        "stable-diffusion-v",
        "inpainting",
        "stable-diffusion-xl",
        "stable-diffusion-3",
        "latent-text",
    ],
)
def test_inpainting_by_a_prompt(family, inpaint):
    """What is known stays byte for byte; the prompt decides what fills the hole."""
    door = inpaint(family, *PROMPT)
    assert not np.array_equal(door, inpaint(family, "--prompt", "fog"))


def test_inpainting_by_a_prior_of_pictures(inpaint):
    """The random one saturates, so that all texts have one embedding."""
    inpaint("kandinsky", *PROMPT)


def test_inpainting_without_text(inpaint):
    """With the same seed the same result; a model without text, several samples."""
    first = inpaint("latent-diffusion")
    assert np.array_equal(first, inpaint("latent-diffusion"))
    inpaint("inpainting", "--samples", 2, "--seed", 4)


@pytest.mark.parametrize("method", ["psld", "resample", "latent-dps", "latent-daps"])
def test_methods_of_latents(method, inpaint):
    inpaint("inpainting", *PROMPT, "--method", method, "--guidance", 3)


@pytest.mark.parametrize(
    ("family", "scale"), [("upscaler", 4), ("latent-sr", 4), ("stable-diffusion", 2)]
)
def test_super_resolution(family, scale, pipeline, command, picture, tmp_path):
    """A smaller version of the result is the input, within rounding to 8 bits.

    Of little contrast, as random networks make so much that no picture in [0, 1] might explain it.
    """
    source = picture(size=(16, 12))
    Image.fromarray((96 + pixels(source) // 4).astype(np.uint8)).save(source)
    target = tmp_path / "large.png"
    texts = () if family == "latent-sr" else PROMPT
    given = ("--scale", scale, "--model", pipeline(family), "--steps", 2, "--json")
    outcome = command("sr", source, target, *given, *texts)
    assert outcome.code == 0, outcome.err
    assert Image.open(target).size == (16 * scale, 12 * scale)
    record = json.loads(outcome.out)
    assert record["consistency"] < 1 / 255
    assert record["prompt"] == (PROMPT[1] if texts else None)


def test_upscalers_do_what_they_know_alone(pipeline, command, picture, hole, tmp_path):
    model = ("--model", pipeline("upscaler"), "--quiet")
    for arguments, message in (
        (("sr", picture(size=(16, 12)), "--scale", 2), "trained to enlarge 4 times"),
        (("inpaint", picture(size=(72, 64)), "--mask", hole), "super-resolution alone, which"),
        (("denoise", picture(size=(72, 64)), "--noise", 0.1), "super-resolution alone, which"),
    ):
        outcome = command(*arguments, *model)
        assert outcome.code == 1, outcome.err
        assert message in outcome.err


def test_a_folder_is_restored_as_its_pictures_alone(pipeline, command, picture, hole, tmp_path):
    """Also in batches: each picture has its own condition and its own random numbers."""
    sources = [picture(f"in/{name}.png", size=(72, 64), crop=name) for name in ("a", "b")]
    model = ("--model", pipeline("inpainting"), "--mask", hole, *PROMPT)
    together = command("inpaint", tmp_path / "in", tmp_path / "out", *model, *FEW, "--batch", 2)
    assert together.code == 0, together.err
    for source in sources:
        alone = tmp_path / f"alone-{source.name}"
        assert command("inpaint", source, alone, *model, *FEW).code == 0
        difference = pixels(alone).astype(int) - pixels(tmp_path / "out" / source.name)
        assert np.abs(difference).max() <= 1


def test_other_kinds_of_pictures(pipeline, tmp_path):
    """Grey, with alpha, of odd sizes and of a line of pixels."""
    restorer = Restorer(str(pipeline("inpainting")), "cpu")
    generator = np.random.default_rng(1)
    for shape in ((33, 41), (17, 24, 4), (1, 40, 3), (40, 1, 3)):
        image = generator.integers(0, 256, shape, dtype=np.uint8)
        mask = np.zeros(shape[:2], bool)
        mask[shape[0] // 3 : shape[0] // 2 + 1, shape[1] // 3 : shape[1] // 2 + 1] = True
        found = restorer.inpaint(image, mask, steps=2, prompt="a door")
        assert found.shape == shape
        assert np.array_equal(found[~mask], image[~mask])


def test_models_that_cannot_be_used(pipeline, command, picture, hole, tmp_path, monkeypatch):
    """A mask of everything, pickles, an empty folder, a model that is not there, offline."""
    source = picture(size=(72, 64))
    everything = tmp_path / "all.png"
    Image.new("L", (72, 64), 255).save(everything)
    pickled = tmp_path / "pickled"
    shutil.copytree(pipeline("inpainting"), pickled)
    weights = pickled / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    for model, mask, code, message in (
        (pipeline("inpainting"), everything, 1, "the mask is white everywhere"),
        (pickled, hole, 3, "vae/diffusion_pytorch_model.bin: refused, for a pickle"),
        (tmp_path / "empty", hole, 3, "no diffusion_pytorch_model.safetensors"),
        ("sd15", hole, 3, "about 4,265 MB from https://huggingface.co/stable-diffusion-v1-5"),
        ("hf:me/small", hole, 3, "RESTORE_OFFLINE is set: nothing is downloaded"),
    ):
        outcome = command("inpaint", source, "--mask", mask, "--model", model, *PROMPT)
        assert outcome.code == code, outcome.err
        assert message in outcome.err
