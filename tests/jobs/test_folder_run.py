"""Folder runs: resumed, sharded, listed, watched, killed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import files
from support.processes import Forked

import cli
from restore.jobs.request import Request
from restore.jobs.run import Run
from restore.methods.options import Options
from restore.tasks import Denoising

pytestmark = pytest.mark.usefixtures("light_network")

DENOISE = ("--noise", 0.1)
# Seconds after which an expected event counts as missing.
LONG = 90.0


def lines(folder: Path, name: str = "restore.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def wait_for(condition) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".restore-*"))


# Resuming


def test_the_manifest_has_a_line_for_each_picture(command, picture, tmp_path) -> None:
    picture("in/a.png")
    picture("in/sub/b.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    assert command("denoise", tmp_path / "in", tmp_path / "out", *DENOISE, "--seed", 3).code == 10
    by_name = {line["input"]: line for line in lines(tmp_path / "out")}
    assert set(by_name) == {"a.png", "sub/b.png", "bad.png"}
    assert by_name["bad.png"]["status"] == "failed"
    assert "bad.png" in by_name["bad.png"]["error"]
    b = by_name["sub/b.png"]
    assert (b["status"], b["outputs"], b["options"]["seed"]) == ("done", ["sub/b.png"], 3)
    assert b["options"]["arguments"] == {"noise": 0.1}
    assert len(b["options"]["model"]) == len(b["fingerprint"]["sha256"]) == 64
    assert b["seconds"] > 0


def test_what_is_done_is_left_alone_and_the_rest_is_done(command, picture, tmp_path) -> None:
    out = tmp_path / "out"
    picture("in/a.png")
    assert command("denoise", tmp_path / "in", out, *DENOISE).code == 0
    before = (out / "a.png").stat()
    picture("in/b.png")
    outcome = command("denoise", tmp_path / "in", out, *DENOISE)
    assert outcome.code == 0
    assert "1 done before and left as they are (--overwrite redoes them)" in outcome.err
    assert (out / "a.png").stat().st_mtime_ns == before.st_mtime_ns
    assert set(files(out)) == {"a.png", "b.png"}
    assert command("denoise", tmp_path / "in", out, *DENOISE).code == 6


def test_a_failed_picture_is_tried_again(command, picture, tmp_path) -> None:
    picture("in/a.png")
    bad = tmp_path / "in" / "b.png"
    bad.write_bytes(b"no picture")
    assert command("denoise", tmp_path / "in", tmp_path / "out", *DENOISE).code == 10
    picture("in/b.png")
    assert command("denoise", tmp_path / "in", tmp_path / "out", *DENOISE).code == 0
    assert [line["status"] for line in lines(tmp_path / "out") if line["input"] == "b.png"] == [
        "failed",
        "done",
    ]
    with Image.open(tmp_path / "out" / "b.png") as restored, Image.open(bad) as source:
        assert restored.size == source.size


def test_other_options_and_changed_inputs_are_told_and_nothing_is_replaced(
    command, picture, tmp_path
) -> None:
    out = tmp_path / "out"
    source = picture("in/a.png")
    assert command("denoise", tmp_path / "in", out, *DENOISE).code == 0
    before = files(out)
    other = command("denoise", tmp_path / "in", out, "--noise", 0.2)
    assert other.code == 6
    assert "1 restored with other options: --overwrite redoes them" in other.err
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(source)
    changed = command("denoise", tmp_path / "in", out, *DENOISE)
    assert changed.code == 6
    assert "1 of inputs that have changed since" in changed.err
    assert files(out) == before
    assert command("denoise", tmp_path / "in", out, *DENOISE, "--overwrite").code == 0
    assert files(out) != before
    assert command("denoise", tmp_path / "in", out, *DENOISE).err.count("other options") == 0


def test_another_mask_counts_as_other_options(command, picture, tmp_path) -> None:
    picture("in/a.png", size=(16, 16))
    for name, left in (("one", 2), ("two", 9)):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:8, left : left + 4] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    run = ("inpaint", tmp_path / "in", tmp_path / "out", "--steps", 2, "--mask")
    assert command(*run, tmp_path / "one.png").code == 0
    before = files(tmp_path / "out")
    assert "other options" in command(*run, tmp_path / "two.png").err
    assert "other options" not in command(*run, tmp_path / "one.png").err
    assert files(tmp_path / "out") == before

    assert command(*run, tmp_path / "two.png", "--overwrite").code == 0
    assert files(tmp_path / "out") != before


def test_a_kernel_file_that_changed_is_told(command, picture, tmp_path) -> None:
    picture("in/a.png")
    kernel = tmp_path / "kernel.png"
    Image.fromarray(np.eye(3, dtype=np.uint8) * 255).save(kernel)
    words = (
        "deblur",
        tmp_path / "in",
        tmp_path / "out",
        "--kernel",
        f"file:{kernel}",
        "--noise",
        0.05,
        "--steps",
        1,
    )
    assert command(*words).code == 0
    assert "other options" not in command(*words).err
    before = files(tmp_path / "out")
    Image.fromarray(np.eye(5, dtype=np.uint8) * 255).save(kernel)
    outcome = command(*words)
    assert outcome.code == 6
    assert "1 restored with other options: --overwrite redoes them" in outcome.err
    assert files(tmp_path / "out") == before
    assert command(*words, "--overwrite").code == 0
    assert files(tmp_path / "out") != before
    assert len(lines(tmp_path / "out")[-1]["options"]["files"][0]) == 64


def test_no_resume_refuses_what_is_there(command, picture, tmp_path) -> None:
    picture("in/a.png")
    picture("in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"mine")
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", *DENOISE, "--no-resume")
    assert outcome.code == 5
    assert "b.png: exists already; --resume leaves it, --overwrite replaces it" in outcome.err
    assert files(tmp_path / "out") == {"b.png": b"mine"}


# Which pictures


def test_a_dry_run_tells_and_does_nothing(command, picture, tmp_path) -> None:
    source = picture("in/a.png")
    picture("in/sub/b.png")
    before = files(tmp_path)
    outcome = command("sr", tmp_path / "in", tmp_path / "out", "--dry-run", "--format", "webp")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == f"{source} -> {tmp_path / 'out' / 'a.webp'}"
    assert "2 to restore; nothing was done" in outcome.err
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()
    told = [
        json.loads(x)
        for x in command("sr", tmp_path / "in", "--dry-run", "--json").out.splitlines()
    ]
    assert [entry["status"] for entry in told] == ["planned", "planned"]


def test_shards_do_everything_once(command, picture, tmp_path) -> None:
    for index in range(8):
        picture(f"in/{index}.png", size=(8, 8))
    for number in (1, 2, 3):
        code = command(
            "denoise", tmp_path / "in", tmp_path / "out", *DENOISE, "--shard", f"{number}/3"
        ).code
        assert code in (0, 6)
    done = [
        line["input"]
        for n in (1, 2, 3)
        for line in lines(tmp_path / "out", f"restore-{n}of3.jsonl")
    ]
    assert sorted(done) == [f"{i}.png" for i in range(8)]
    assert command("denoise", tmp_path / "in", tmp_path / "out", *DENOISE).code == 6, (
        "all shards' lines are read"
    )


@pytest.mark.parametrize("words", [("--shard", "1/2"), ("--files-from", "x")])
def test_options_of_folders_are_refused_for_a_file(command, picture, words) -> None:
    outcome = command("denoise", picture("a.png"), *DENOISE, *words)
    assert outcome.code == 1
    assert f"{words[0]}: is for a folder" in outcome.err


def test_a_list_of_files(command, picture, tmp_path) -> None:
    for name in ("a", "b", "sub/c"):
        picture(f"in/{name}.png", size=(8, 8))
    (tmp_path / "list").write_text("sub/c.png\na.png\n")
    run = (
        "denoise",
        tmp_path / "in",
        tmp_path / "out",
        *DENOISE,
        "--files-from",
        tmp_path / "list",
    )
    assert command(*run).code == 0
    assert set(files(tmp_path / "out")) == {"a.png", "sub/c.png"}
    (tmp_path / "list").write_text("a.png\nnosuch.png\n")
    assert command(*run).code == 5


def test_a_pattern(command, picture, tmp_path) -> None:
    for name in ("a.png", "b.jpg", "sub/c.png"):
        picture(f"in/{name}", size=(8, 8))
    assert (
        command("denoise", tmp_path / "in" / "**" / "*.png", tmp_path / "out", *DENOISE).code == 0
    )
    assert set(files(tmp_path / "out")) == {"a.png", "sub/c.png"}
    assert command("denoise", tmp_path / "in" / "*.tif", *DENOISE).code == 6
    assert command("denoise", tmp_path / "in" / "*.jpg", *DENOISE).code == 0
    assert set(files(tmp_path / "in-denoise")) == {"b.jpg"}


# One picture through a pipe


@pytest.fixture
def from_stdin(command, monkeypatch):
    """Return ``from_stdin(data, "denoise", "-")``, the command in this process."""

    def run(data: bytes, *words: object):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return command(*words)

    return run


@pytest.mark.shipped_network
def test_stdin_to_stdout_is_what_a_file_gives(command, picture, tmp_path) -> None:
    source = picture("a.jpg")
    assert command("denoise", source, tmp_path / "out.jpg", *DENOISE).code == 0
    process = Forked("denoise", "-", *DENOISE, stdin=source.read_bytes())
    out, err = process.output()
    assert process.returncode == 0, err
    assert out == (tmp_path / "out.jpg").read_bytes()
    assert b"stdout: " in err
    words = ("denoise", "-", "-", *DENOISE, "--format", "png", "-q")
    out, err = Forked(*words, stdin=source.read_bytes()).output()
    assert out.startswith(b"\x89PNG")
    assert err == b""


@pytest.mark.shipped_network
def test_a_file_to_stdout_and_stdin_to_a_file(picture, from_stdin, tmp_path) -> None:
    source = picture("a.png")
    to_stdout, _ = Forked("denoise", source, "-", *DENOISE).output()
    assert to_stdout.startswith(b"\x89PNG")
    to_file = from_stdin(source.read_bytes(), "denoise", "-", tmp_path / "b.png", *DENOISE)
    assert (to_file.code, to_file.out) == (0, "")
    assert (tmp_path / "b.png").read_bytes() == to_stdout


@pytest.mark.parametrize(
    ("data", "words", "code", "text"),
    [
        (b"", [], 2, "stdin: nothing came"),
        (b"no picture", [], 2, "restore: error: stdin: "),
        (b"x", ["--json"], 1, "--json: stdout takes the one picture"),
        (b"x", ["--samples", "2"], 1, "--samples: stdout takes the one picture"),
        (b"x", ["--watch"], 1, "--watch"),
    ],
)
def test_bad_pipes(from_stdin, data: bytes, words: list[str], code: int, text: str) -> None:
    outcome = from_stdin(data, "denoise", "-", *DENOISE, *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert "stdin." not in outcome.err


def test_an_endless_pipe_is_left(from_stdin, monkeypatch) -> None:
    monkeypatch.setattr("restore.jobs.pipes.MOST_BYTES", 1000)
    monkeypatch.setattr("restore.jobs.pipes.HEAD", 100)
    outcome = from_stdin(b"\x89PNG\r\n\x1a\n" + bytes(2000), "denoise", "-", *DENOISE)
    assert (outcome.code, outcome.out) == (2, "")
    assert "stdin: more than 0 GB came" in outcome.err


def test_a_process_with_a_bad_pipe() -> None:
    process = Forked("denoise", "-", *DENOISE, stdin=b"no picture")
    out, err = process.output()
    assert (process.returncode, out) == (2, b"")
    assert b"stdin" in err
    assert b"Traceback" not in err


def test_a_folder_does_not_fit_through_a_pipe(command, picture, tmp_path) -> None:
    picture("in/a.png")
    outcome = command("denoise", tmp_path / "in", "-", *DENOISE)
    assert outcome.code == 1
    assert "a folder cannot be written to stdout" in outcome.err


# Faults


def test_a_file_that_vanishes_does_not_end_the_run(picture, tmp_path, capsys) -> None:
    picture("in/a.png")
    picture("in/b.png")
    run = Run(Request(Denoising(0.1), tmp_path / "in", tmp_path / "out", Options()))
    plan = run.plan()
    (tmp_path / "in" / "a.png").unlink()
    with run._alone():
        assert run._through(plan) == [str(tmp_path / "in" / "a.png")]
    assert set(files(tmp_path / "out")) == {"b.png"}
    assert "a.png: cannot be read" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes here")
def test_a_full_disk_leaves_nothing_half_written(picture, tmp_path) -> None:
    """A limit of file sizes makes the write fail in the middle, like a full disk."""
    import resource

    source = picture("a.png", size=(64, 64))
    process = Forked(
        *("denoise", source, tmp_path / "out" / "a.png", *DENOISE),
        prepare=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    _, err = process.output()
    assert process.returncode == 5
    assert b"cannot be written: File too large" in err
    assert list((tmp_path / "out").iterdir()) == []


def a_small_disk(place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command with a disk of 60 kB at ``place``, and list its files on stdout."""
    script = 'mount -t tmpfs -o size=60k none "$0" && { "$@"; code=$?; ls -A "$0"; exit $code; }'
    return subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            *map(str, (place, *words)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


def test_a_disk_that_fills_up_in_a_folder_run(picture, tmp_path) -> None:
    """On a full disk, written files are whole, failures are reported, and nothing is left over."""
    out = tmp_path / "out"
    out.mkdir()
    try:
        possible = a_small_disk(out, "true").returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("a file system of its own cannot be mounted here")
    noise = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "abcdef":  # 12 kB each, so that four fit at most
        pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.bmp")
    outcome = a_small_disk(
        out, sys.executable, cli.__file__, "denoise", tmp_path / "in", out, *DENOISE, "--quiet"
    )
    assert outcome.returncode in (5, 10)
    assert "No space left on device" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert set(outcome.stdout.split()) <= {"a.bmp", "b.bmp", "c.bmp", "d.bmp", "restore.jsonl"}
    assert {"a.bmp", "b.bmp", "c.bmp"} <= set(outcome.stdout.split())


def test_an_interrupted_folder_is_whole_and_goes_on(picture, tmp_path) -> None:
    for index in range(30):
        picture(f"in/{index:02}.png", size=(64, 64))
    out = tmp_path / "out"
    process = Forked("denoise", tmp_path / "in", out, *DENOISE)
    wait_for(lambda: (out / "restore.jsonl").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.output(timeout=LONG)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    done = {line["input"] for line in lines(out)}
    assert done == set(files(out))
    assert 0 < len(done) < 30
    assert temporaries(out) == []


def test_killed_runs_that_resume_do_everything_once(picture, tmp_path) -> None:
    kills(picture, tmp_path, pictures=6, count=2)


@pytest.mark.slow
def test_a_hundred_kills(picture, tmp_path) -> None:
    kills(picture, tmp_path, pictures=400, count=100)


def kills(picture, tmp_path: Path, pictures: int, count: int) -> None:
    """Runs are killed at random moments, until one reaches the end."""
    for index in range(pictures):
        picture(f"in/{index:03}.png", size=(48, 48))
    out = tmp_path / "out"
    random = np.random.default_rng(0)
    for _ in range(count):
        process = Forked("denoise", tmp_path / "in", out, *DENOISE)
        before = len(list(out.glob("*.png")))
        wait_for(
            lambda p=process, n=before: p.returncode is not None or len(list(out.glob("*.png"))) > n
        )
        time.sleep(random.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.output()
    process = Forked("denoise", tmp_path / "in", out, *DENOISE)
    _, err = process.output(timeout=LONG + pictures)
    assert process.returncode in (0, 6), err
    assert set(files(out)) == {f"{i:03}.png" for i in range(pictures)}
    for path in out.glob("*.png"):
        Image.open(path).load()
    assert temporaries(out) == [] or process.returncode == 6
    recorded = [line["input"] for line in lines(out)]
    assert len(recorded) == len(set(recorded)), "none done twice after being recorded"


def test_a_watched_folder(picture, tmp_path) -> None:
    first = picture("in/a.png", size=(16, 16))
    out = tmp_path / "out"
    process = Forked("denoise", tmp_path / "in", out, *DENOISE, "--watch")
    try:
        wait_for(lambda: (out / "a.png").exists() or process.returncode is not None)
        (tmp_path / "in" / "b.png").write_bytes(first.read_bytes()[:100])
        time.sleep(0.5)
        (tmp_path / "in" / "b.png").write_bytes(first.read_bytes())
        wait_for(lambda: (out / "b.png").exists() or process.returncode is not None)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.output(timeout=LONG)
    assert process.returncode == 130, err
    assert set(files(out)) == {"a.png", "b.png"}
    assert b"error" not in err.replace(b"error: interrupted", b"")
    assert {line["status"] for line in lines(out)} == {"done"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--watch", "--dry-run"], "--watch and --dry-run"),
        (["--watch", "--report", "x.html"], "--watch and --report"),
        (["--shard", "3/2"], "--shard 3/2"),
        (["--files-from", "nosuch"], "--files-from nosuch: cannot be read"),
    ],
)
def test_options_that_cannot_be_used(command, picture, tmp_path, words, text) -> None:
    picture("in/a.png")
    outcome = command("denoise", tmp_path / "in", *DENOISE, *words)
    assert outcome.code in (1, 5)
    assert text in outcome.err
    assert set(files(tmp_path)) == {"in/a.png"}


def test_a_file_is_not_watched(command, picture) -> None:
    outcome = command("denoise", picture("a.png"), *DENOISE, "--watch")
    assert outcome.code == 1
    assert "--watch: is for a folder" in outcome.err


def test_without_its_model_a_folder_is_not_begun(command, picture, tmp_path) -> None:
    picture("in/a.png")
    picture("in/b.png")
    outcome = command(
        "denoise", tmp_path / "in", *DENOISE, "--model", tmp_path / "nosuch.safetensors"
    )
    assert outcome.code == 3
    assert "going on" not in outcome.err
    assert set(files(tmp_path)) == {"in/a.png", "in/b.png"}
