"""How a run ends when it is told to, and what two runs on one folder do; in processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import files
from support.processes import Forked

import cli
from restore.errors import FileAccess
from restore.jobs.journal import SharedFiles
from restore.jobs.picture import Work
from restore.jobs.run import Run

DENOISE = ("--noise", 0.1)
# Seconds after which an expected event counts as missing.
LONG = 90.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and locks")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "restore.jsonl").read_text().splitlines()]


def wait_for(condition) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# Two runs


@pytest.mark.parametrize("count", [2, 4])
def test_runs_on_one_folder_at_once_do_each_picture_once(picture, tmp_path, count: int) -> None:
    for index in range(6):
        picture(f"in/{index}.png", size=(16, 16))
    out = tmp_path / "out"
    processes = [Forked("denoise", tmp_path / "in", out, *DENOISE) for _ in range(count)]
    said = [process.output()[1].decode() for process in processes]
    assert sorted(process.returncode for process in processes) == [0] + [6] * (count - 1), said
    assert [(line["input"], line["status"]) for line in lines(out)] == [
        (f"{index}.png", "done") for index in range(6)
    ]
    assert set(files(out)) == {f"{index}.png" for index in range(6)}
    waited = [text for text in said if "another run is at work in" in text]
    assert all("waiting for its end" in text for text in waited)


def test_a_watched_folder_and_a_run_on_it(picture, tmp_path) -> None:
    """The watcher holds the folder only while it restores."""
    picture("in/a.png", size=(16, 16))
    out = tmp_path / "out"
    watcher = Forked("denoise", tmp_path / "in", out, *DENOISE, "--watch")
    wait_for(lambda: (out / "a.png").exists() or watcher.returncode is not None)
    picture("in/b.png", size=(16, 16))
    run = Forked("denoise", tmp_path / "in", out, *DENOISE)
    _, err = run.output()
    assert run.returncode in (0, 6), err
    wait_for(lambda: (out / "b.png").exists())
    watcher.send_signal(signal.SIGTERM)
    _, err = watcher.output()
    assert watcher.returncode == 143, err
    assert Counter((line["input"], line["status"]) for line in lines(out)) == {
        ("a.png", "done"): 1,
        ("b.png", "done"): 1,
    }
    assert set(files(out)) == {"a.png", "b.png"}


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_leave_a_folder_whole(picture, tmp_path, number: int, code: int) -> None:
    for index in range(30):
        picture(f"in/{index:02}.png", size=(64, 64))
    out = tmp_path / "out"
    process = Forked("denoise", tmp_path / "in", out, *DENOISE)
    wait_for((out / "restore.jsonl").exists)
    process.send_signal(number)
    _, err = process.output()
    assert process.returncode == code, err
    assert err.decode().endswith(f"restore: error: ended by {signal.Signals(number).name}\n")
    assert "Traceback" not in err.decode()
    assert {line["input"] for line in lines(out)} == set(files(out))
    assert 0 < len(files(out)) < 30


def sleep_in_run() -> None:
    """Have a run take a minute once its input is read."""
    Run.go = lambda self: time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_remove_the_pictures_of_pipes(picture, tmp_path, monkeypatch, number) -> None:
    source = picture()
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    process = Forked("denoise", "-", "-", *DENOISE, stdin=source.read_bytes(), prepare=sleep_in_run)
    wait_for(lambda: list(place.glob("restore-*/stdin.png")))
    process.send_signal(number)
    out, err = process.output()
    assert (process.returncode, out) == (128 + number, b""), err
    assert list(place.iterdir()) == []


def test_an_ignored_signal_stays_ignored(picture, tmp_path) -> None:
    """As under nohup."""
    picture("in/a.png", size=(16, 16))
    process = Forked(
        "denoise",
        tmp_path / "in",
        tmp_path / "out",
        *DENOISE,
        prepare=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for((tmp_path / "out").exists)
    process.send_signal(signal.SIGHUP)
    process.output()
    assert process.returncode == 0
    assert set(files(tmp_path / "out")) == {"a.png"}


def interrupt_imports() -> None:
    """Have the first import of the command be interrupted."""
    import restore.commands

    del sys.modules["restore.commands.app"], restore.commands.app

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "restore.commands.app":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(LONG)

    sys.meta_path.insert(0, Finder())


def test_an_interrupt_during_the_imports_leaves_no_traceback() -> None:
    process = Forked("info", prepare=interrupt_imports)
    out, err = process.output()
    assert (process.returncode, out, err) == (130, b"", b"restore: error: interrupted\n")


# Closed pipes


def close_stdout() -> None:
    """Have nobody read stdout, as behind ``| head -0``."""
    read, write = os.pipe()
    os.close(read)
    sys.stdout = os.fdopen(write, "w")


def test_a_closed_pipe_ends_a_folder_run_quietly(picture, tmp_path, command) -> None:
    for index in range(4):
        picture(f"in/{index}.png", size=(16, 16))
    words = ("denoise", tmp_path / "in", tmp_path / "out", *DENOISE)
    process = Forked(*words, "--json", "--quiet", prepare=close_stdout)
    _, err = process.output()
    assert (process.returncode, err) == (141, b"")
    done = {line["input"] for line in lines(tmp_path / "out")}
    assert done == set(files(tmp_path / "out"))
    assert 0 < len(done) < 4
    assert command(*words).code == 0
    assert len(files(tmp_path / "out")) == 4


@pytest.mark.parametrize("words", [["operators"], ["info", "--json"], ["--help"], ["denoise"]])
def test_a_closed_pipe_ends_every_command_quietly(picture, words: list[str]) -> None:
    more = [picture(), "-", *DENOISE, "--quiet"] if words == ["denoise"] else []
    process = Forked(*words, *more, prepare=close_stdout)
    _, err = process.output()
    assert (process.returncode, err) == (141, b"")


# A full stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["operators"], ["info", "--json"], ["--help"], ["denoise"]])
def test_a_full_stdout_is_a_file_that_cannot_be_written(
    picture, tmp_path, monkeypatch, capsys, words: list[str]
) -> None:
    if words == ["denoise"]:
        picture("in/a.png")
        words = ["denoise", str(tmp_path / "in"), str(tmp_path / "out"), "--noise", "0.1", "--json"]
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    monkeypatch.setattr(sys, "stdout", full)
    assert cli.exit_code(words) == 5
    with contextlib.suppress(OSError):  # what is left in its buffer
        full.close()
    assert "restore: error: stdout: cannot be written: No space left" in capsys.readouterr().err
    assert words[0] != "denoise" or [line["status"] for line in lines(tmp_path / "out")] == ["done"]


# Streams that the caller has closed


def shut(*numbers: int) -> None:
    """Start as with ``<&-``, ``>&-`` or ``2>&-``."""
    for number in numbers:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)


@pytest.mark.parametrize(
    ("words", "number", "code", "said"),
    [
        (["denoise", "-", "out.png"], 0, 2, b"stdin: nothing came"),
        (["denoise", "in.png", "-"], 1, 5, b"stdout: cannot be written: Bad file descriptor"),
        (["denoise", "in.png", "out.png", "--json"], 1, 5, b"stdout: cannot be written"),
        (["denoise", "in.png", "out.png"], 2, 0, b""),
        (["denoise", "missing.png", "out.png"], 2, 5, b""),
    ],
)
def test_a_closed_stream(picture, tmp_path, monkeypatch, words, number, code, said) -> None:
    """No file takes the number of the stream, into which libraries could write."""
    source = picture("in.png", size=(16, 16)).read_bytes()
    monkeypatch.chdir(tmp_path)
    more = [*DENOISE, "--method", "one-step"] if words[0] == "denoise" else []
    process = Forked(*words, *more, prepare=partial(shut, number))
    _, err = process.output()
    assert process.returncode == code, err
    assert said in err
    assert err.count(b"error") == (1 if said else 0)
    assert Path("in.png").read_bytes() == source
    assert set(os.listdir()) <= {"in.png", "out.png"}
    if code == 0 or "--json" in words:
        with Image.open("out.png") as result:
            assert result.size == (16, 16)


# What a run uses


@pytest.fixture
def swapped(monkeypatch):
    """Return ``swapped(path, data)``: the file gets other content while a picture is restored."""

    def swap(path: Path, data: bytes) -> None:
        solve = Work.solve

        def solve_later(self, *arguments):
            result = solve(self, *arguments)
            path.write_bytes(data)
            return result

        monkeypatch.setattr(Work, "solve", solve_later)

    return swap


def mask_file(path: Path, left: int) -> bytes:
    from PIL import Image

    mask = Image.new("L", (16, 16))
    mask.paste(255, (left, 4, left + 4, 8))
    mask.save(path)
    return path.read_bytes()


def test_the_mask_that_was_used_is_recorded(command, picture, tmp_path, swapped) -> None:
    picture("in/a.png", size=(16, 16))
    other = mask_file(tmp_path / "other.png", 9)
    mask_file(tmp_path / "mask.png", 2)
    run = ("inpaint", tmp_path / "in", tmp_path / "out", "--steps", 1, "--mask")
    swapped(tmp_path / "mask.png", other)
    assert command(*run, tmp_path / "mask.png").code == 0
    assert "1 restored with other options" in command(*run, tmp_path / "mask.png").err
    mask_file(tmp_path / "mask.png", 2)
    assert "other options" not in command(*run, tmp_path / "mask.png").err


def test_the_input_that_was_used_is_recorded(command, picture, tmp_path, swapped) -> None:
    source = picture("in/a.png", size=(16, 16))
    swapped(source, picture("b.png", size=(16, 16), crop="b").read_bytes())
    run = ("denoise", tmp_path / "in", tmp_path / "out", *DENOISE)
    assert command(*run).code == 0
    assert "1 of inputs that have changed since" in command(*run).err


def test_a_kernel_that_changes_ends_the_run(command, picture, tmp_path, swapped) -> None:
    """It is read for each picture, so that nobody knows what the last one was made with."""
    for name in "abcd":
        picture(f"in/{name}.png", size=(16, 16))
    kernel = tmp_path / "kernel.png"
    other = mask_file(kernel, 9)
    mask_file(kernel, 2)
    swapped(kernel, other)
    run = ("deblur", tmp_path / "in", tmp_path / "out", "--kernel", f"file:{kernel}", "--steps", 1)
    outcome = command(*run, "--noise", 0.05)
    assert outcome.code == 5
    assert "kernel.png: has changed while a run used it" in outcome.err
    assert files(tmp_path / "out") == {}


def test_files_that_a_run_shares(tmp_path) -> None:
    """One that is named twice has two digests, and one that is only touched has not changed."""
    kernel = tmp_path / "kernel.png"
    kernel.write_bytes(b"kernel")
    shared = SharedFiles([kernel, kernel])
    assert shared.digests == [hashlib.sha256(b"kernel").hexdigest()] * 2
    os.utime(kernel, (1, 1))
    shared.check()
    kernel.write_bytes(b"KERNEL")
    with pytest.raises(FileAccess, match=r"kernel\.png: has changed while a run used it"):
        shared.check()
    kernel.unlink()
    with pytest.raises(FileAccess, match=r"kernel\.png: cannot be read"):
        shared.check()


def test_a_file_that_arrives_while_a_picture_is_restored_stays(
    command, picture, tmp_path, swapped
) -> None:
    source = picture("a.png", size=(16, 16))
    swapped(tmp_path / "out.png", b"theirs")
    outcome = command("denoise", source, tmp_path / "out.png", *DENOISE)
    assert outcome.code == 5
    assert "out.png: exists already; pass --overwrite to replace it" in outcome.err
    assert (tmp_path / "out.png").read_bytes() == b"theirs"
    assert set(files(tmp_path)) == {"a.png", "out.png"}


# A full disk


@pytest.mark.parametrize("number", [28, 30])
def test_a_full_disk_ends_a_folder_run_at_once(
    command, picture, tmp_path, monkeypatch, number: int
) -> None:
    for index in range(8):
        picture(f"in/{index}.png", size=(16, 16))
    words = ("denoise", tmp_path / "in", tmp_path / "out", *DENOISE)
    solved, synced = [], []
    solve, fsync = Work.solve, os.fsync

    def counted(self, *arguments):
        solved.append(arguments)
        return solve(self, *arguments)

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 8:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(Work, "solve", counted)
        patch.setattr(os, "fsync", full)
        outcome = command(*words)
    assert outcome.code == 5
    assert outcome.err.count(os.strerror(number)) == 1
    assert "the run ends here" in outcome.err
    done = {line["input"] for line in lines(tmp_path / "out")}
    assert done == set(files(tmp_path / "out")) == {"0.png", "1.png"}
    assert len(solved) <= 5
    assert command(*words).code == 0
    assert len(files(tmp_path / "out")) == 8
