"""`restore info`: the installation, and what is missing."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import torch
from PIL import Image
from support.pictures import piece

import pretrained
from restore import __version__
from restore.metrics.quality import TRUNK_VARIABLE
from restore.runtime import devices


def gathered(command, *options) -> dict:
    outcome = command("info", "--json", *options)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_json(command):
    info = gathered(command)
    weights = pretrained.checkpoint_path("default")
    assert info["restore"]["version"] == __version__
    assert info["packages"]["torch"] == torch.__version__
    assert info["packages"]["pillow"] == Image.__version__
    assert info["packages"]["numpy"] == np.__version__
    model = info["model"]
    assert model["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert model["size_bytes"] == weights.stat().st_size
    assert 12.6e6 < model["parameters"] < 12.7e6  # 10.2 and 2.5 million, the model card
    assert model["predictor"].startswith("2,452,476 of the parameters")
    assert model["training"].startswith("The denoiser: 6,852 steps of 192 crops")
    device = info["device"]
    assert device["name"] == str(devices.choose_device("auto"))
    assert device["threads"] == torch.get_num_threads()
    assert 0 < device["free_memory_bytes"] < 2**50


def test_what_it_says_is_what_a_run_does(command, tmp_path):
    info = gathered(command)
    piece((24, 16)).save(tmp_path / "in.png")
    for task, options in (("denoise", ["--noise", "0.1"]), ("sr", ["--scale", "2"])):
        done = json.loads(command(task, tmp_path / "in.png", *options, "--json").out)
        steps = f"{done['steps']} step{'s' if done['steps'] > 1 else ''}"
        assert info["methods"][task].split("; ")[0] == f"{done['method']}, {steps}"
        assert (info["device"]["name"], info["device"]["format"]) == (done["device"], done["dtype"])

    done = json.loads(command("sr", tmp_path / "in.png", tmp_path / "4.png", "--json").out)
    far = f"factors from 3.5: {done['method']}, {done['steps']} steps"
    assert info["methods"]["sr"].split("; ")[1] == far


def test_text_has_every_fact(command):
    info, shown = gathered(command), command("info").out
    for table in ("restore", "model", "methods", "packages"):
        assert f"{table}:" in shown
    assert info["model"]["sha256"] in shown
    assert f"{info['model']['parameters']:,}" in shown
    for package, told in info["optional"].items():
        assert f"{package:<14} {told['version'] or 'not installed'} ({told['for']})" in shown


def test_why_this_device(monkeypatch):
    cpu = torch.device("cpu")
    assert devices.why_device("cpu", cpu) == "asked for"
    assert "no CUDA" in devices.why_device("auto", cpu)
    assert "no CUDA" in devices.why_device("auto", torch.device("mps"))
    for has_units, word in ((True, "faster"), (False, "no units")):
        monkeypatch.setattr(devices, "_cpu_has_bf16_units", lambda has=has_units: has)
        assert word in devices.why_dtype(cpu)


def test_what_is_not_here_is_said_and_the_rest_is_shown(command, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_has_cuda", lambda: False)
    outcome = command(
        "info", "--device", "cuda", "--model", tmp_path / "absent.safetensors", "--json"
    )
    assert outcome.code == 3
    info = json.loads(outcome.out)
    assert "no such CUDA device" in info["device"]["error"]
    assert "no weights at" in info["model"]["error"]
    assert info["packages"]["torch"] == torch.__version__
    for text in ("no such CUDA device", "no weights at"):
        assert text in outcome.err
    assert "no such CUDA device" in command("info", "--device", "cuda").out


def test_a_damaged_model(command, tmp_path):
    for suffix in (".safetensors", ".json"):
        shutil.copy(
            pretrained.checkpoint_path("default").with_suffix(suffix), tmp_path / f"m{suffix}"
        )
    assert gathered(command, "--model", tmp_path / "m.safetensors")["model"]["training"] is None
    data = bytearray((tmp_path / "m.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    outcome = command("info", "--model", tmp_path / "m.safetensors")
    assert outcome.code == 3
    assert "damaged" in outcome.err


def test_the_trunk_of_lpips(command, tmp_path, monkeypatch):
    trunk = tmp_path / "alexnet.pth"
    monkeypatch.setenv(TRUNK_VARIABLE, str(trunk))
    assert "no file" in gathered(command)["lpips"]["missing"]
    trunk.write_bytes(b"")
    assert gathered(command)["lpips"] == {"trunk": str(trunk)}
