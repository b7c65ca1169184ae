"""Invalid input is refused with the documented exit code, a helpful text and no output."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.pictures import Outcome, files, piece
from support.processes import Forked

import pretrained
import restore
from restore.errors import (
    BadArgument,
    FileAccess,
    NothingToDo,
    RestoreError,
    SomeFailed,
    Unavailable,
    UnreadableInput,
)

WEIGHTS = Path(pretrained.__file__).parent / "weights" / "default.safetensors"
DESCRIPTION = json.loads(WEIGHTS.with_suffix(".json").read_text())


def declare_png(path: Path, width: int, height: int) -> None:
    """Return a PNG of a few bytes whose header claims a very large picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Change to a folder with good pictures and many kinds of bad ones."""
    monkeypatch.chdir(tmp_path)
    piece((24, 16)).save("in.png")
    piece((24, 16), "b").save("other.png")
    Path("text.png").write_text("This is not a picture.")
    Path("empty.png").write_bytes(b"")
    Path("cut.png").write_bytes(Path("in.png").read_bytes()[:500])
    declare_png(Path("bomb.png"), 60_000, 60_000)
    for name, color, size in (
        ("white", 255, (24, 16)),
        ("black", 0, (24, 16)),
        ("small", 255, (16, 24)),
    ):
        Image.new("L", size, color).save(f"{name}.png")
    Image.fromarray(np.eye(16, 24) > 0).save("mask.png")
    Path("nothing").mkdir()
    Path("notes").mkdir()
    Path("notes/readme.txt").write_text("no picture")
    Path("photos/sub").mkdir(parents=True)
    shutil.copy("in.png", "photos/a.png")
    shutil.copy("in.png", "photos/sub/b.png")
    Path("some-masks").mkdir()
    shutil.copy("mask.png", "some-masks/a.png")
    return tmp_path


def refused(command, place: Path, words: str, code: int, *said: str) -> Outcome:
    """Run the command in ``place``, and check its refusal."""
    before = files(place)
    folders = sorted(place.rglob("*"))
    outcome = command(*words.split())
    assert outcome.code == code, outcome.err
    for text in said:
        assert text in outcome.err, f"{text!r} is not said: {outcome.err}"
    assert outcome.err.startswith("restore: ")
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert files(place) == before
    assert sorted(place.rglob("*")) == folders
    return outcome


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("sr text.png", 2, ["text.png", "not a picture", "PNG"]),
        ("denoise empty.png", 2, ["empty.png", "empty"]),
        ("denoise cut.png", 2, ["cut.png"]),
        ("sr bomb.png", 2, ["bomb.png", "60000 x 60000", "limit"]),
        ("sr nosuch.png", 5, ["nosuch.png", "no such file"]),
        ("sr nosuch/ out", 5, ["nosuch", "no such file or folder"]),
        ("sr nothing", 6, ["nothing", "no picture", ".png"]),
        ("sr notes out", 6, ["notes", "no picture", ".png"]),
    ],
)
def test_input(command, place, words, code, said):
    refused(command, place, words, code, *said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--mask small.png", 1, ["mask", "16x24", "24x16", "same size"]),
        ("--mask black.png", 1, ["black", "white = fill"]),
        ("--mask white.png", 1, ["white", "white = fill"]),
        ("--mask nosuch.png", 5, ["--mask nosuch.png", "no such file"]),
        ("--mask text.png", 2, ["text.png", "not a picture"]),
        ("--mask some-masks", 1, ["--mask some-masks", "no mask", "in.png"]),
        ("", 1, ["--mask", "Missing"]),
        ("--mask mask.png mask.png --overwrite", 5, ["mask.png", "input"]),
    ],
)
def test_mask(command, place, words, code, said):
    arguments = words.replace("--mask mask.png mask.png", "mask.png --mask mask.png")
    refused(command, place, f"inpaint in.png {arguments}", code, *said)


def test_a_folder_of_masks_that_lacks_one(command, place):
    refused(command, place, "inpaint photos out --mask some-masks", 1, "no mask", "b.png")


@pytest.mark.parametrize("scale", ["0", "1", "-2", "0.5", "17", "1e9", "nan", "inf", "-inf"])
def test_scale(command, place, scale):
    refused(
        command, place, f"sr in.png out.png --scale {scale}", 1, "--scale", "above 1 and at most 16"
    )


def test_scale_of_a_large_picture(command, place):
    Image.new("1", (5000, 4000)).save("large.png")
    refused(
        command, place, "sr large.png out.png --scale 4", 1, "--scale 4", "5000x4000", "200 million"
    )


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        *(
            (text, "standard deviation")
            for text in ("gaussian", "gaussian:", "gaussian:abc", "gaussian:-1")
        ),
        *((text, "standard deviation") for text in ("gaussian:nan", "gaussian:0")),
        *((text, "too large") for text in ("gaussian:99999", "box:9999")),
        *(
            (text, "larger than the picture")
            for text in ("gaussian:60", "box:999", "motion:300", "disk:200")
        ),
        *(
            (text, "whole pixels")
            for text in ("box", "box:0", "box:2.5", "box:-3", "box:nan", "box:abc")
        ),
        *(
            (text, "kinds are gaussian, box, motion")
            for text in ("foo:3", "foo", ":", "Gaussian:1")
        ),
        ("box:3+gray", "more than a blur kernel"),
        ("motion:5:up", "degrees"),
        ("gaussian:1:boundary=none", "symmetric, mirror, replicate, circular, unknown"),
    ],
)
def test_blur_kernel(command, place, kernel, said):
    refused(command, place, f"deblur in.png out.png --kernel {kernel}", 1, "--kernel", kernel, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sr --kernel nearest", ["--kernel", "nearest", "bicubic, area, lanczos"]),
        ("deblur", ["--kernel", "Missing"]),
        (
            "deblur --kernel box:3 --boundary reflect",
            ["--boundary", "reflect", "symmetric", "unknown"],
        ),
        ("sr --method magic", ["--method magic", "ddrm", "sr3", "one-step"]),
        ("sr --steps 0", ["--steps 0", "between 1 and 1000"]),
        ("sr --steps -3 --method ddrm", ["--steps -3", "between 1 and 1000"]),
        ("inpaint --mask mask.png --steps 2000", ["--steps 2000", "between 1 and 1000"]),
        ("sr --steps 5 --method one-step", ["--steps 5", "one-step", "ddrm"]),
        ("sr --steps 2.5", ["--steps", "--help"]),
        ("sr --samples 0", ["--samples 0", "between 1 and 1000"]),
        ("sr --samples -1", ["--samples -1", "between 1 and 1000"]),
        ("sr --samples 3 --method one-step", ["--samples 3", "one-step", "ddrm"]),
        ("sr --noise -1", ["--noise -1", "between 0 and 1", "auto"]),
        ("denoise --noise 2", ["--noise 2", "between 0 and 1", "auto"]),
        ("deblur --kernel box:3 --noise nan", ["--noise nan", "between 0 and 1", "auto"]),
        ("colorize --noise inf", ["--noise inf", "between 0 and 1", "auto"]),
        ("denoise --noise abc", ["--noise abc", "between 0 and 1", "auto"]),
        ("denoise --noise 0", ["--noise 0", "above 0", "auto"]),
        ("inpaint --mask mask.png --eta 2", ["--eta 2", "between 0 and 1"]),
        ("inpaint --mask mask.png --eta -0.1", ["--eta -0.1", "between 0 and 1"]),
        ("inpaint --mask mask.png --eta nan", ["--eta nan", "between 0 and 1"]),
        ("sr --seed abc", ["--seed", "--help"]),
        ("sr --seed 1e99", ["--seed", "--help"]),
        ("sr --seed 1000000000000000000000000", ["--seed", "--help"]),
        ("sr --scale big", ["--scale", "--help"]),
        ("sr --device foo", ["--device foo", "auto", "cpu", "cuda"]),
        ("sr --device meta", ["--device meta", "auto", "cpu", "cuda"]),
        ("sr --strength 3", ["--strength", "--help"]),
        ("denoise --mask mask.png", ["--mask", "--help"]),
    ],
)
def test_option(command, place, words, said):
    task, *options = words.split()
    refused(command, place, f"{task} in.png out.png {' '.join(options)}", 1, *said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sr", ["IN", "--help"]),
        ("sharpen in.png", ["sharpen", "--help"]),
        ("--unknown", ["--unknown", "--help"]),
        ("sr in.png a.png b.png", ["b.png", "--help"]),
        ("sr in.png a.png --output b.png", ["a.png", "--output b.png", "one"]),
    ],
)
def test_usage(command, place, words, said):
    refused(command, place, words, 1, *said)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there(command, place, device):
    refused(
        command,
        place,
        f"sr in.png out.png --device {device}",
        3,
        f"--device {device}",
        "auto",
        "cpu",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("in.png in.png", 5, ["in.png", "input", "another output"]),
        ("in.png in.png --overwrite", 5, ["in.png", "input", "another output"]),
        ("in.png link.png --overwrite", 5, ["link.png", "input", "another output"]),
        ("in.png . --overwrite", 5, ["in.png", "input", "another output"]),
        ("in.png other.png", 5, ["other.png", "exists", "--overwrite"]),
        ("in.png other.png/out.png", 5, ["other.png", "is a file"]),
        ("in.png other.png/deep/out.png", 5, ["other.png", "is a file"]),
        ("in.png out.heic", 1, ["out.heic", ".png", ".jpg"]),
        ("in.png out", 1, ["out", ".png", ".jpg"]),
        ("photos in.png", 5, ["in.png", "file", "folder"]),
        ("photos in.png/out", 5, ["in.png", "file"]),
    ],
)
def test_output(command, place, words, code, said):
    Path("link.png").symlink_to("in.png")
    refused(command, place, f"denoise {words}", code, *said)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs permissions, which root is above"
)
def test_output_folder_without_permission(command, place):
    Path("nothing").chmod(0o500)
    refused(command, place, "denoise in.png nothing/out.png", 5, "nothing", "permission")


def test_transparency_that_the_output_cannot_keep(command, place):
    image = piece((24, 16))
    image.putalpha(100)
    image.save("clear.png")
    refused(
        command, place, "denoise clear.png out.jpg --quiet", 1, "out.jpg", "transparency", ".png"
    )


# --- weights
# ------------------------------------------------------------------------------------------------


def copy_weights(name: str = "copy", **changes) -> Path:
    """Copy the shipped weights, with changes of the description; None removes an entry."""
    description = DESCRIPTION | changes
    Path(f"{name}.json").write_text(
        json.dumps({k: v for k, v in description.items() if v is not None})
    )
    return shutil.copy(WEIGHTS, f"{name}.safetensors")


def test_a_copy_of_the_weights_is_good(command, place):
    copy_weights()
    assert command("denoise", "in.png", "out.png", "--model", "copy.safetensors").code == 0
    assert command("denoise", "in.png", "default.png").code == 0
    assert files(place)["out.png"] == files(place)["default.png"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nosuch", ["'nosuch'", "default", ".safetensors"]),
        ("in.png", ["not a checkpoint"]),
        ("missing.safetensors", ["missing.safetensors", "no weights"]),
        ("text.safetensors", ["text.safetensors", "not a readable safetensors file"]),
        ("pickle.safetensors", ["pickle.safetensors", "not a readable safetensors file"]),
        ("garbled.safetensors", ["garbled.json"]),
        ("bare.safetensors", ["bare.json", "not complete"]),
    ],
)
def test_model(command, place, model, said):
    Path("text.safetensors").write_text("These are not weights.")
    for name in ("garbled", "bare"):
        shutil.copy(WEIGHTS, f"{name}.safetensors")
    Path("pickle.safetensors").write_bytes(pickle.dumps(Bomb()))
    for name, text in (
        ("text", '{"backbone": {}}'),
        ("pickle", '{"backbone": {}}'),
        ("bare", "{}"),
        ("garbled", "{,}"),
    ):
        Path(f"{name}.json").write_text(text)
    refused(command, place, f"sr in.png out.png --model {model}", 3, f"--model {model}", *said)


class Bomb:
    """Makes a folder when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, ["damaged", "SHA-256"]),
        ({"backbone": {"image_channels": 3}}, ["copy.json", "not complete"]),
        ({"backbone": {**DESCRIPTION["backbone"], "colour": 1}}, ["colour"]),
        ({"schedule": {"name": "spiral"}}, ["spiral", "linear"]),
        ({"schedule": None}, ["schedule"]),
        ({"parameterization": "w"}, ["parameterization", "'w'"]),
    ],
)
def test_description_that_does_not_fit(command, place, changes, said):
    copy_weights(**changes)
    refused(
        command, place, "sr in.png out.png --model copy.safetensors", 3, "copy.safetensors", *said
    )


def test_damaged_weights(command, place):
    path = Path(copy_weights())
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(
        command,
        place,
        "sr in.png out.png --model copy.safetensors",
        3,
        "copy.safetensors",
        "damaged",
    )


def test_weights_without_one_tensor(command, place):
    copy_weights(sha256=None)
    state = load_file(WEIGHTS)
    gone = sorted(state)[0]
    del state[gone]
    Path("copy.safetensors").unlink()
    save_file(state, "copy.safetensors")
    refused(
        command,
        place,
        "sr in.png out.png --model copy.safetensors",
        3,
        "copy.safetensors",
        "1 missing",
        gone,
    )


# --- as a process
# -------------------------------------------------------------------------------------------


def test_process_shows_no_traceback_and_no_other_noise(place):
    process = Forked("sr", "in.png", "out.png", "--scale", 40)
    out, err = process.output()
    assert (process.returncode, out) == (1, b"")
    assert err == b"restore: error: --scale 40: must be above 1 and at most 16\n"
    assert not Path("out.png").exists()


def test_exit_codes_are_the_documented_ones(command):
    """Exit codes stay fixed, since scripts rely on them."""
    errors = (
        BadArgument,
        UnreadableInput,
        Unavailable,
        FileAccess,
        NothingToDo,
        SomeFailed,
        RestoreError,
    )
    assert [error.exit_code for error in errors] == [1, 2, 3, 5, 6, 10, 15]
    text = " ".join(command("--help").out.split())
    for said in (
        "1 bad",
        "2 unreadable",
        "3 missing",
        "5 a file",
        "6 nothing",
        "10 some",
        "15 any",
        "130 interrupted",
    ):
        assert said in text


# --- from Python
# --------------------------------------------------------------------------------------------

GOOD = np.full((8, 8, 3), 0.5, dtype=np.float32)


def spoiled(value: float) -> np.ndarray:
    array = GOOD.copy()
    array[3, 4, 1] = value
    return array


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ([[0.5, 0.5]], "not a list"),
        ("photo.png", "not a str"),
        (None, "not a NoneType"),
        (GOOD.astype(np.int32), "int32"),
        (GOOD.astype(np.int64), "int64"),
        (GOOD > 0, "bool"),
        (GOOD.astype(complex), "complex"),
        (np.zeros((8, 8, 5)), r"\[8, 8, 5\]"),
        (np.zeros(8), r"\[8\]"),
        (np.zeros((2, 8, 8, 3)), r"\[2, 8, 8, 3\]"),
        (np.zeros((0, 8, 3)), r"\[0, 8, 3\]"),
        (np.zeros((8, 8, 0)), r"\[8, 8, 0\]"),
        (spoiled(np.nan), "finite"),
        (spoiled(np.inf), "finite"),
        (spoiled(1.5), "from 0.5 to 1.5"),
        (spoiled(-0.2), "from -0.2 to 0.5"),
        (GOOD * 255, "127.5"),
        (torch.zeros(8, 8), r"\[8, 8\]"),
        (torch.zeros(5, 8, 8), r"\[5, 8, 8\]"),
        (torch.zeros(8, 8, 3), r"\[8, 8, 3\]"),
        (torch.zeros(0, 3, 8, 8), r"\[0, 3, 8, 8\]"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "int32"),
        (torch.full((3, 8, 8), float("nan")), "finite"),
        (torch.full((3, 8, 8), 2.0), "2"),
        (Image.new("LAB", (8, 8)), "mode LAB"),
        (Image.new("I", (8, 8), 70000), "mode I"),
    ],
)
@pytest.mark.parametrize("task", ["sr", "colorize"])
def test_api_refuses_what_is_no_picture(picture, said, task):
    with pytest.raises(BadArgument, match=said):
        getattr(restore, task)(picture)


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        ("sr", {"scale": 0}, "above 1"),
        ("sr", {"scale": float("nan")}, "above 1"),
        ("sr", {"kernel": "nearest"}, "bicubic, area, lanczos"),
        ("sr", {"noise": -1}, "between 0 and 1"),
        ("sr", {"noise": "some"}, "auto"),
        ("sr", {"method": "magic"}, "one-step"),
        ("sr", {"samples": 0}, "between 1 and 1000"),
        ("sr", {"device": "toaster"}, "cpu"),
        ("inpaint", {"mask": np.zeros((8, 9), dtype=bool)}, "9x8.*8x8"),
        ("inpaint", {"mask": np.zeros((8, 8), dtype=bool)}, "black"),
        ("inpaint", {"mask": np.ones((8, 8), dtype=bool)}, "white"),
        ("inpaint", {"mask": [[True]]}, "not a list"),
        ("inpaint", {"mask": np.full((8, 8), 300)}, "int64"),
        ("deblur", {"kernel": "foo"}, "kinds are gaussian"),
        ("deblur", {"kernel": "box:3", "boundary": "reflect"}, "symmetric"),
        ("denoise", {"noise": 0}, "above 0"),
        ("colorize", {"steps": 0}, "between 1 and 1000"),
        ("colorize", {"eta": 2}, "between 0 and 1"),
    ],
)
def test_api_refuses_arguments(task, arguments, said):
    with pytest.raises(BadArgument, match=said):
        getattr(restore, task)(GOOD, **arguments)


def test_api_says_which_model_is_missing():
    with pytest.raises(Unavailable, match="nosuch"):
        restore.sr(GOOD, model="nosuch")


def test_api_errors_are_of_one_family_and_python_s_own():
    for error, base in (
        (BadArgument, ValueError),
        (FileAccess, OSError),
        (Unavailable, RuntimeError),
    ):
        assert issubclass(error, RestoreError)
        assert issubclass(error, base)
