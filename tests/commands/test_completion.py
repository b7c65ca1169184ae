"""Shell completion of commands, options, and words of options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cli
import operators
from restore.commands import options as common_options
from restore.errors import Unavailable
from restore.methods import METHODS, NAMES
from restore.runtime.devices import choose_device

BASH = shutil.which("bash")


def run_completion(**variables: str) -> str:
    """Return the completions that a new interpreter prints."""
    root = str(Path(cli.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": root, **variables}
    done = subprocess.run(
        [sys.executable, "-m", "cli"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def as_bash_asks(*words: str) -> dict[str, str]:
    """Return the environment in which bash asks for completions of the last word."""
    line = {"COMP_WORDS": "\n".join(("restore", *words)), "COMP_CWORD": str(len(words))}
    return {"_RESTORE_COMPLETE": "complete_bash", **line}


@pytest.fixture
def completed(capsys, monkeypatch):
    """Return ``completed("sr", "--co")``, the completions of the last word in bash."""

    def run(*words: str) -> list[str]:
        for name, value in as_bash_asks(*words).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            cli.exit_code([])
        return capsys.readouterr().out.split()

    return run


def test_a_new_interpreter_completes():
    assert {"sr", "solve", "info", "train"} <= set(run_completion(**as_bash_asks("")).split())


def test_commands_and_options(completed):
    assert {"sr", "solve", "info", "train"} <= set(completed(""))
    assert set(completed("de")) == {"deblur", "dejpeg", "denoise", "degrade", "develop"}
    assert set(completed("sr", "--co")) == {"--compare", "--config"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sr", "in.png", "--method", ""), common_options.METHODS),
        (("sr", "--method", "d"), tuple(name for name in NAMES if name[0] == "d")),
        (("denoise", "--device", ""), common_options.DEVICES),
        (("deblur", "--boundary", "c"), ("circular",)),
        (("deblur", "--kernel", "mo"), ("motion:15:30",)),
        (("sr", "--kernel", ""), common_options.RESAMPLERS),
        (("denoise", "--noise", "a"), ("auto", "auto:signal")),
        (("evaluate", "in", "--task", "in"), ("inpaint",)),
        (("sr", "--model", "sr3"), ("sr3-16-to-128", "sr3-64-to-512")),
        (("models", "get", "adm-f"), ("adm-ffhq256",)),
        (("sr", "--config", ""), ()),  # the shell's own: files
        (("sr", ""), ()),
    ],
)
def test_words_of_options(completed, words, offered):
    assert completed(*words) == list(offered)


def test_the_words_are_those_there_are():
    assert set(common_options.METHODS) == {"auto", *METHODS}
    assert set(common_options.BOUNDARIES) == set(operators.CONVOLUTION_BOUNDARIES)
    assert set(common_options.RESAMPLERS) == set(operators.RESAMPLERS)
    for blur in common_options.BLURS:
        assert len(operators.parse(f"blur:{blur}").parts) == 1
    for name in common_options.DEVICES:
        try:
            choose_device(name)
        except Unavailable:
            continue


def test_completing_does_not_wait_for_pytorch():
    code = "import sys, cli; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)},
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_takes_the_script(tmp_path):
    """The printed script works in a bash with `restore` on its path."""
    script = run_completion(_RESTORE_COMPLETE="source_bash")
    (tmp_path / "complete.sh").write_text(script)
    command = tmp_path / "restore"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    command.chmod(0o755)
    lines = (
        f"source '{tmp_path}/complete.sh'; COMP_WORDS=(restore sr --method d); COMP_CWORD=3; "
        "_restore_completion restore; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(cli.__file__).parent),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [BASH, "-c", lines], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert done.stdout.split() == [name for name in NAMES if name[0] == "d"]
