"""Ray on one machine writes the same files and the same manifest as a local run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.pictures import files

from restore.errors import BadArgument
from restore.jobs.ray_engine import Cluster

DENOISE = ("--noise", 0.1, "--compare")


def recorded(folder: Path) -> dict[str, dict]:
    """Return the lines of a manifest by picture, without times."""
    entries = [json.loads(line) for line in (folder / "restore.jsonl").read_text().splitlines()]
    for entry in entries:
        del entry["seconds"]
        for one in entry["written"]:
            del one["mtime_ns"]
    return {entry["input"]: entry for entry in entries}


def test_the_same_files_manifest_and_report(command, picture, tmp_path, monkeypatch) -> None:
    """As without Ray, but for what the page says of the place; in batches, from any folder."""
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)  # paths are relative to it, and workers are elsewhere
    picture("in/a.png", size=(40, 32))
    picture("in/sub/b.jpg", size=(32, 32))
    picture("in/c.png", "RGBA")
    picture("in/sub/d.png", size=(40, 32), crop="b")
    Path("in/bad.png").write_bytes(b"no picture")
    run = ("denoise", "in", *DENOISE, "--batch", 2)
    assert command(*run[:2], "here", *run[2:], "--report", "here.html").code == 10
    ray = ("--engine", "ray", "--workers", 1, "--worker-cpus", 0.5)
    outcome = command(*run[:2], "there", *run[2:], *ray, "--json", "--report", "there.html")
    assert outcome.code == 10, outcome.err
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert recorded(tmp_path / "there") == recorded(tmp_path / "here")
    told = [json.loads(line) for line in outcome.out.splitlines()]
    assert {entry["input"]: entry["status"] for entry in told} == {
        "in/a.png": "done", "in/sub/b.jpg": "done", "in/c.png": "done", "in/sub/d.png": "done",
        "in/bad.png": "failed",
    }  # fmt: skip

    there, here = (Path(name).read_text(encoding="utf-8") for name in ("there.html", "here.html"))
    for text in (
        "4 of 5 pictures of in/ restored",
        "a.png, whole, before",
        "sub/d.png, difference",
    ):
        assert text in there
        assert text in here
    assert "1 worker(s) of Ray with 0 GPU(s) and 0.5 processor(s) each" in there

    again = command("denoise", "in", "there", *DENOISE)
    assert "4 done before" in again.err, "and the other engine goes on with it"


@pytest.mark.parametrize("more", [[], ["--report", "page.html"]])
def test_a_model_that_is_not_there_is_told_before_ray_starts(
    command, picture, tmp_path, monkeypatch, more
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("restore.jobs.ray_engine._ray", lambda: pytest.fail("Ray was started"))
    picture("in/a.png")
    outcome = command(
        "denoise", "in", *DENOISE, "--engine", "ray", "--model", "none.safetensors", *more
    )
    assert outcome.code == 3
    assert "none.safetensors" in outcome.err
    assert set(files(tmp_path)) == {"in/a.png"}


def test_without_ray_the_message_says_what_to_install(
    command, picture, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    picture("in/a.png")
    outcome = command("denoise", tmp_path / "in", *DENOISE, "--engine", "ray")
    assert outcome.code == 3
    assert "pip install 'restore-diffusion[ray]'" in outcome.err
    assert set(files(tmp_path)) == {"in/a.png"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--engine", "cloud"], "--engine cloud: must be local or ray"),
        (["--workers", "2"], "are for --engine ray"),
        (["--engine", "ray", "--workers", "0"], "--workers 0"),
        (["--engine", "ray", "--watch"], "--engine ray and --watch"),
    ],
)
def test_options_that_cannot_be_used(command, picture, tmp_path, words, text) -> None:
    picture("in/a.png")
    outcome = command("denoise", tmp_path / "in", *DENOISE, *words)
    assert outcome.code == 1
    assert text in outcome.err


@pytest.mark.parametrize(
    "settings", [{"workers": 0}, {"cpus": -1}, {"gpus": float("nan")}, {"cpus": 0}]
)
def test_clusters_that_cannot_be(settings: dict) -> None:
    with pytest.raises(BadArgument, match="`worker"):
        Cluster(**settings)
