"""Names of files reach neither a terminal nor a log as they are."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from restore.errors import FileAccess, RestoreError
from restore.jobs.plan import Job, Plan
from restore.jobs.recorder import Recorder, summary
from restore.messages import LOGGER, complain, put, put_json, say
from restore.runtime.progress import Progress
from restore.text import as_json, encodable, visible

# What acts on a terminal, forges a line, turns the direction of text, or is no text.
HOSTILE = "a\x1b]0;P\x07\n\r\x7f\x9b31m\u202egnp\u2028\u2066\udce9\ufeff.png"
SHOWN = r"a\x1b]0;P\x07\n\r\x7f\x9b31m\u202egnp\u2028\u2066\udce9\ufeff.png"


@pytest.mark.parametrize(
    "name", ["写真.png", "Ärger é.png", "👩\u200d💻.png", "می\u200cخواهم.png", "a\u3000b\xa0c.png"]
)
def test_what_can_be_read_stays(name: str) -> None:
    assert visible(name) == name == visible(visible(name))


def test_what_acts_on_a_terminal_is_written_out() -> None:
    assert visible(HOSTILE) == SHOWN == visible(SHOWN)
    assert all(not visible(chr(c)).isascii() or visible(chr(c)).isprintable() for c in range(2**16))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "utf-16", None])
def test_json_is_valid_in_every_encoding(encoding: str | None) -> None:
    record = {"input": "é写\U0001f600" + HOSTILE}
    line = as_json(record, encoding)
    line.encode(encoding or "utf-8")
    assert json.loads(line) == record
    assert line.isprintable()
    assert json.loads(as_json(record, encoding, indent=1)) == record
    assert as_json({"input": "é"}, "cp1252") == '{"input": "é"}'


def test_errors_messages_and_logs(caplog) -> None:
    error = FileAccess(f"{HOSTILE}: cannot be read")
    assert str(error) == f"{SHOWN}: cannot be read"
    assert f"{HOSTILE}: cannot be read" == error.args[0]
    assert str(RestoreError()) == ""
    with caplog.at_level(logging.INFO, LOGGER.name):
        say(HOSTILE)
        complain(HOSTILE)
    assert [record.getMessage() for record in caplog.records] == [SHOWN, SHOWN]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_stdout_takes_every_name(encoding: str, monkeypatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding, errors="strict"))
    put(f"写{HOSTILE}")
    put_json({"input": f"写{HOSTILE}"})
    text, line = file.getvalue().decode(encoding).splitlines()
    assert text == encodable("写", encoding) + SHOWN
    assert json.loads(line) == {"input": f"写{HOSTILE}"}


def test_progress_and_summaries(monkeypatch, capsys) -> None:
    progress = Progress(2, every=0.0, clock=iter(range(100)).__next__)
    progress.picture(HOSTILE)
    assert progress.bars.tasks[progress.part].description == SHOWN
    done = {"width": 1, "height": 1, "method": "ddrm", "steps": 1, "noise": 0, "consistency": 0}
    progress.say(summary(HOSTILE, {**done, "cascade": None, "seconds": 0}))
    assert SHOWN in capsys.readouterr().err


def test_a_failure_in_a_folder_is_told_once(capsys, caplog) -> None:
    job = Job(Path("in", HOSTILE), Path("out", HOSTILE))
    recorder = Recorder(Plan([job], Path("in"), Path("out")), summary, as_json=True)
    with caplog.at_level(logging.INFO, LOGGER.name):
        recorder.finished(job, FileAccess(f"{job.source}: cannot be read"))
    assert caplog.records[0].getMessage() == f"{Path('in', SHOWN)}: cannot be read (going on)"
    record = json.loads(capsys.readouterr().out)
    assert record["input"] == str(job.source)
    assert record["error"] == f"{Path('in', SHOWN)}: cannot be read"


@pytest.mark.skipif(os.name != "posix", reason="such names are of POSIX")
def test_the_command_shows_hostile_names_as_escapes(command, picture, tmp_path) -> None:
    picture("in/x.png").rename(tmp_path / "in" / os.fsdecode(b"a\x1b]0;P\x07\n\xe9.png"))
    shown = r"a\x1b]0;P\x07\n\udce9.png"
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--noise", 0.1, "--dry-run")
    assert outcome.out == f"{tmp_path / 'in' / shown} -> {tmp_path / 'out' / shown}\n"
    missing = command("denoise", "no\x1b]2\u202e.png")
    assert missing.err == "restore: error: no\\x1b]2\\u202e.png: no such file or folder\n"
    usage = command("denoise", "a.png", "b.png", "c\x1b[2J.png")
    assert r"c\x1b[2J.png" in usage.err
    assert "\x1b[2J" not in usage.err
