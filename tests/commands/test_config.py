"""`--config`: options from a TOML file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import files, piece

from restore.commands import options as common_options
from restore.tasks import TASKS

pytestmark = pytest.mark.usefixtures("light_network")


@pytest.fixture
def config(tmp_path):
    """Return ``config(text, name)``, which writes a file of options."""

    def write(text: str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def told(outcome) -> dict:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_options_of_a_file(command, picture, tmp_path, config):
    """Options in the section of the command precede those at the top; - and _ are equal."""
    path = config(
        "seed = 5\njson = true\nsteps = 3\n[sr]\nscale = 2\nsteps = 2\nmethod = "
        "'diffpir'\n[deblur]\nseed = 6"
    )
    done = told(command("sr", picture(), tmp_path / "out.png", "--config", path))
    assert (done["width"], done["seed"], done["steps"], done["method"]) == (48, 5, 2, "diffpir")


def test_the_command_line_wins(command, picture, tmp_path, config):
    path = config("seed = 5\nquiet = true\nsamples = 2\n[sr]\nscale = 3\nsteps = 2")
    options = ["--scale", 2, "--seed", 0, "--no-quiet", "--samples", 1, "--json"]
    outcome = command("sr", picture(), tmp_path / "out.png", *options, "--config", path)
    done = told(outcome)
    assert (done["width"], done["seed"], done["steps"], done["samples"]) == (48, 0, 2, 1)
    assert "out.png" in outcome.err


def test_a_needed_option_may_be_in_the_file(command, picture, tmp_path, config):
    picture("in.png")
    assert command("deblur", tmp_path / "in.png").code == 1
    path = config("json = true\n[deblur]\nkernel = 'gaussian:1'\nnoise = 0.02\nsteps = 2")
    done = told(command("deblur", tmp_path / "in.png", "--config", path))
    assert (done["operator"], done["noise"]) == (
        "blur:gaussian:1:boundary=unknown",
        pytest.approx(0.02),
    )


def test_paths_are_relative_to_the_file(command, picture, tmp_path, config, monkeypatch):
    source = picture("in/a.png")
    mask = np.zeros((16, 24), np.uint8)
    mask[4:8, 4:8] = 255
    (tmp_path / "set" / "masks").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "set" / "masks" / "m.png")
    path = config(
        "output = '../made/b.png'\nreport = 'r.html'\n[inpaint]\nmask = 'masks/m.png'\nsteps = 2",
        "set/o.toml",
    )
    (tmp_path / "elsewhere").mkdir()
    for place, file in ((tmp_path / "elsewhere", path), (tmp_path / "set", Path("o.toml"))):
        monkeypatch.chdir(place)
        outcome = command("inpaint", source, "--config", file, "--overwrite")
        assert outcome.code == 0, outcome.err
    made = files(tmp_path)
    assert {"made/b.png", "set/r.html"} <= made.keys()
    assert not any(name.startswith("elsewhere") for name in made)


def test_files_in_texts_are_relative_to_the_file(command, tmp_path, config, monkeypatch):
    piece((48, 32)).save(tmp_path / "in.png")
    kernel = np.zeros((3, 3), np.uint8)
    kernel[1] = 255
    (tmp_path / "set").mkdir()
    Image.fromarray(kernel).save(tmp_path / "set" / "k.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = (
        "json = true\nsteps = 2\n[deblur]\nkernel = 'file:k.png'\n[solve]\noperator = "
        "'blur:file:k.png+down:area:2'"
    )
    path = config(text, "set/o.toml")
    for task in ("deblur", "solve"):
        done = told(command(task, tmp_path / "in.png", tmp_path / f"{task}.png", "--config", path))
        assert str(tmp_path / "set" / "k.png") in done["operator"]
    outcome = command(
        "deblur",
        tmp_path / "in.png",
        tmp_path / "x.png",
        "--kernel",
        "file:k.png",
        "--config",
        path,
    )
    assert outcome.code == 5  # on the command line it is relative to where we are


def test_a_model_beside_the_file(command, picture, tmp_path, config):
    path = config("model = 'mine.safetensors'", "set/o.toml")
    outcome = command("denoise", picture(), "--config", path)
    assert outcome.code == 3
    assert str(tmp_path / "set" / "mine.safetensors") in outcome.err


WRONG = {
    "sed = 5": "sed is no option; did you mean seed?",
    "[sr]\nscael = 2": "[sr] scael is no option; did you mean scale?",
    "[deblurr]\nkernel = 'disk:3'": "deblurr is no option; did you mean deblur?",
    "[sr]\nmask = 'm.png'": "[sr] mask is no option",
    "scale = 2": "scale is not an option of most commands; write it below [sr]",
    "kernel = 'area'": "kernel is not an option of most commands; write it below [sr] or [deblur]",
    "sr = 4": "sr is a command; write its options below [sr]",
    "seed = 'five'": "seed = 'five': must be a whole number",
    "seed = 1.5": "seed = 1.5: must be a whole number",
    "steps = true": "steps = True: must be a whole number",
    "[sr]\nscale = '2'": "[sr] scale = '2': must be a number",
    "[sr]\nscale = nan": "[sr] scale = nan: must be a number",
    "method = 3": "method = 3: must be a text",
    "noise = true": "noise = True: must be a number or a text",
    "overwrite = 'yes'": "overwrite = 'yes': must be true or false",
    "output = 3": "output = 3: must be a text, the path of a file or folder",
    "[inpaint]\nmask = ['m.png']": "[inpaint] mask = ['m.png']: must be a text, the path",
    "config = 'other.toml'": "config is no option",
    "debug = true": "debug is no option",
    "seed = ": "not TOML",
    "seed = 1\nseed = 2": "not TOML",
    "a = " + "[" * 20_000 + "]" * 20_000: "not TOML that can be read: nested too deeply",
    "seed = " + "9" * 5000: "not TOML: a whole number of thousands of digits",
    "[sr]\nscale = 1" + "0" * 400: "a whole number beyond ±2^63",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_what_is_refused(command, picture, tmp_path, config, text):
    """Errors name the key, for any command, before any work."""
    path = config(text)
    outcome = command("sr", picture(), tmp_path / "out.png", "--config", path)
    assert outcome.code == 1
    assert f"restore: error: --config {path}: {WRONG[text]}" in outcome.err
    assert not (tmp_path / "out.png").exists()


def test_dashes_and_underscores_are_one(config):
    options = {"two-words": common_options.Option("two-words", "two_words", int)}
    for key in ("two-words", "two_words"):
        assert common_options.read_options(config(f"{key} = 3"), "sr", {"sr": options}) == {
            "two_words": 3
        }
    with pytest.raises(ValueError, match="twice"):
        common_options.read_options(config("two-words = 3\ntwo_words = 3"), "sr", {"sr": options})


def test_files_that_cannot_be_read(command, picture, tmp_path):
    assert command("denoise", picture(), "--config", tmp_path / "absent.toml").code == 5
    assert command("denoise", picture(), "--config", tmp_path).code == 5
    (tmp_path / "latin.toml").write_bytes(b"method = 'caf\xe9'")
    outcome = command("denoise", picture(), "--config", tmp_path / "latin.toml")
    assert outcome.code == 1
    assert "UTF-8" in outcome.err


def test_values_out_of_range_are_refused_as_on_the_command_line(command, picture, config):
    for text, says in (
        ("seed = -1", "--seed"),
        ("method = 'magic'", "--method magic"),
        ("noise = 2", "--noise 2"),
    ):
        outcome = command("denoise", picture(), "--config", config(text))
        assert outcome.code == 1
        assert says in outcome.err


def test_every_option_of_every_task_can_be_set(command, picture, tmp_path, config, monkeypatch):
    """A file can set every option in the help except the file itself and --help."""
    monkeypatch.setenv("COLUMNS", "120")  # narrower terminals shorten the longest names
    known = {}
    monkeypatch.setattr(
        common_options, "read_options", lambda path, task, commands: known.update(commands) or {}
    )
    for task in TASKS:
        command(task, tmp_path / "absent", "--config", "x.toml")
        shown = {
            word.strip(",") for word in command(task, "--help").out.split() if word.startswith("--")
        }
        shown = {name.removeprefix("--") for name in shown if not name.startswith("--no-")}
        assert known[task].keys() == shown - {"help", "config"}
