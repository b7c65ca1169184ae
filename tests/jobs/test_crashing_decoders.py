"""A decoder that crashes or hangs costs one picture of many, whatever the work."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.crashing import ABORTS, HANGS, SEGFAULTS
from support.pictures import files
from support.processes import Forked

from restore.jobs.picture import Work
from restore.jobs.plan import Job
from restore.jobs.ray_engine import Model, Order
from restore.methods.options import Options
from restore.photo import apart
from restore.photo.apart import DECODER
from restore.tasks import Denoising

DENOISE = ("--noise", 0.1, "--method", "one-step")
CRASHED = "the decoder crashed on it (SIGABRT): the picture is damaged, or a library has a bug."
# Seconds after which an expected event counts as missing.
LONG = 90.0

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="has no signals"),
    pytest.mark.usefixtures("light_network"),
]


@pytest.fixture
def folder(picture, tmp_path) -> Path:
    """Return a folder of three pictures, the second of which crashes the decoder."""
    picture("in/a.png")
    picture("in/b.png", dpi=(ABORTS, ABORTS))
    picture("in/c.png")
    return tmp_path / "in"


def statuses(out: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (out / "restore.jsonl").read_text().splitlines()]
    return [(line["input"], line["status"]) for line in lines]


def test_a_folder_run_goes_on_and_a_rerun_completes(
    crashing, command, folder, picture, tmp_path
) -> None:
    out = tmp_path / "out"
    outcome = command("denoise", folder, out, *DENOISE)
    assert outcome.code == 10
    assert f"restore: error: {folder}/b.png: {CRASHED} (going on)" in outcome.err
    assert set(files(out)) == {"a.png", "c.png"}
    assert statuses(out) == [("a.png", "done"), ("b.png", "failed"), ("c.png", "done")]
    failed = json.loads((out / "restore.jsonl").read_text().splitlines()[1])
    assert failed["error"] == f"{folder}/b.png: {CRASHED}"

    picture("in/b.png")
    assert command("denoise", folder, out, *DENOISE).code == 0
    assert set(files(out)) == {"a.png", "b.png", "c.png"}
    assert statuses(out)[3:] == [("b.png", "done")]


def test_a_mask_that_crashes_costs_its_picture(crashing, command, picture, tmp_path) -> None:
    for name in "ab":
        picture(f"in/{name}.png")
        dots = {"dpi": (SEGFAULTS, SEGFAULTS)} if name == "a" else {}
        picture(f"masks/{name}.png", "1", **dots)
    words = ("inpaint", tmp_path / "in", tmp_path / "out", "--steps", 1)
    outcome = command(*words, "--mask", tmp_path / "masks")
    assert outcome.code == 10
    assert "masks/a.png: the decoder crashed on it (SIGSEGV)" in outcome.err
    assert statuses(tmp_path / "out") == [("a.png", "failed"), ("b.png", "done")]


def test_other_work_on_a_folder_goes_on(crashing, command, folder, tmp_path) -> None:
    outcome = command("degrade", folder, tmp_path / "made", "--operator", "blur:gaussian:1")
    assert outcome.code == 10
    assert f"b.png: {CRASHED} (going on)" in outcome.err
    assert set(files(tmp_path / "made")) == {"a.npz", "a.png", "c.npz", "c.png"}

    outcome = command("evaluate", folder, "--task", "denoise", "--methods", "input")
    assert outcome.code == 10
    assert f"b.png skipped: {CRASHED}" in outcome.err
    assert "2 pictures" in outcome.out

    paths = [folder / f"{name}.png" for name in "ab"]
    outcome = command("likelihood", *paths, "--size", 8, "--probes", 1)
    assert outcome.code == 10
    assert f"b.png: {CRASHED} (going on)" in outcome.err
    assert "a.png: " in outcome.out


def test_a_worker_of_ray_goes_on(crashing, folder, tmp_path) -> None:
    order = Order(Work(Denoising(0.1), Options()), Model("default", "cpu"))
    for index, name in enumerate("ab"):
        job = Job(folder / f"{name}.png", tmp_path / f"{name}.png")
        row = order.read({"index": index, "value": pickle.dumps(job)})
        read = pickle.loads(row["value"])
        if name == "b":
            assert str(read) == f"{folder}/b.png: {CRASHED}"
        else:
            assert read[1].photo.pixels.shape == (16, 24, 3)


def test_a_single_picture_is_decoded_here(command, picture, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(DECODER, "start", None)
    assert command("denoise", picture(), tmp_path / "out.png", *DENOISE).code == 0


def children(process: int) -> list[int]:
    words = ["ps", "-o", "pid=,args=", "--ppid", str(process)]
    shown = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    return [int(line.split()[0]) for line in shown if "support.crashing" in line]


def is_alive(process: int) -> bool:
    """Return True for a process that runs and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def crash() -> None:
    apart.MODULE = "support.crashing"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_a_run_that_is_ended(picture, tmp_path, number: int, code: int) -> None:
    """While the decoder hangs, too, unless the run is killed: then it ends by its own clock."""
    hangs = {} if number == signal.SIGKILL else {"dpi": (HANGS, HANGS)}
    picture("in/a.png")
    for index in range(20):
        picture(f"in/b{index:02}.png", **hangs)
    out = tmp_path / "out"
    process = Forked("denoise", tmp_path / "in", out, *DENOISE, prepare=crash)
    end = time.monotonic() + LONG
    while not (out / "a.png").exists():
        assert time.monotonic() < end
        time.sleep(0.02)

    (decoder,) = children(process._process.pid)
    start = time.monotonic()
    process.send_signal(number)
    _, err = process.output()
    assert process.returncode == code, err
    assert time.monotonic() - start < 30
    while is_alive(decoder):
        assert time.monotonic() < start + LONG
        time.sleep(0.02)
    assert not any(status == "failed" for _, status in statuses(out))
    assert os.path.exists(out / "a.png")
