"""How far a run has come: lines for logs with rate and time left, bars on a terminal."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from restore.runtime.progress import Progress
from restore.solvers import Step


class Clock:
    """Tells the seconds that it was told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def walk(progress: Progress, clock: Clock, steps: int, of: int, seconds: float) -> None:
    """So many calls of the network, each of that length."""
    for index in range(steps):
        clock.now += seconds
        progress.step(Step(index, of, 1.0, torch.zeros(1)))


def test_a_log_has_a_line_now_and_then(capsys):
    clock = Clock()
    with Progress(1, clock=clock, every=10) as progress:
        progress.picture("in.png")
        walk(progress, clock, steps=12, of=20, seconds=2)
    assert capsys.readouterr().err.splitlines() == [
        "in.png: 5 of 20, 2.0 s/step, 0:30 left",
        "in.png: 10 of 20, 2.0 s/step, 0:20 left",
    ]


def test_a_short_run_says_nothing_of_its_own(capsys):
    clock = Clock()
    with Progress(3, clock=clock, every=10) as progress:
        for name in "abc":
            progress.picture(name)
            walk(progress, clock, steps=2, of=2, seconds=1)
            progress.say(f"{name} done")
    assert capsys.readouterr().err == "a done\nb done\nc done\n"


def test_a_folder_has_the_rate_of_its_pictures_and_that_of_the_steps(capsys):
    clock = Clock()
    with Progress(100, clock=clock, every=24) as progress:
        for name in "abcde":
            progress.picture(f"{name}.png")
            walk(progress, clock, steps=10, of=10, seconds=0.5)
    # after 24 s: 4 pictures in 20 s, and 8 steps of the next one
    assert capsys.readouterr().err == (
        "pictures: 4 of 100, 5.0 s/picture, 7:56 left; e.png: 8 of 10, 2.0 steps/s, 0:01 left\n"
    )


def test_pictures_that_begin_together_are_done_together(capsys):
    """Here in two parts: the second has its steps from 0 again."""
    clock = Clock()
    with Progress(100, clock=clock, every=16) as progress:
        progress.picture("4 from a.png", 4)
        walk(progress, clock, steps=10, of=10, seconds=1)
        walk(progress, clock, steps=10, of=10, seconds=1)
        progress.picture("4 from e.png", 4)
        walk(progress, clock, steps=12, of=20, seconds=1)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("4 from a.png: 6 of 10")
    assert second == (
        "pictures: 4 of 100, 5.0 s/picture, 7:48 left; 4 from e.png: 12 of 20, 1.0 s/step, 0:08 "
        "left"
    )


def test_what_begins_again_is_not_done(capsys):
    clock = Clock()
    with Progress(9, clock=clock, every=10) as progress:
        progress.picture("4 from a.png", 4)
        progress.drop()
        progress.picture("2 from a.png", 2)
        clock.now += 5
        progress.picture("2 from c.png", 2)
        walk(progress, clock, steps=5, of=10, seconds=1)
    assert "pictures: 2 of 9" in capsys.readouterr().err


def test_time_left_runs_down_between_two_pictures(capsys):
    clock = Clock()
    with Progress(3, clock=clock, every=90) as progress:
        progress.picture("a")
        clock.now += 60
        progress.picture("b")
        walk(progress, clock, steps=1, of=10, seconds=40)
    assert "pictures: 1 of 3, 60 s/picture, 1:20 left" in capsys.readouterr().err


def test_hours(capsys):
    clock = Clock()
    with Progress(1, clock=clock) as progress:
        progress.picture("a")
        walk(progress, clock, steps=1, of=3, seconds=3700)
    assert "1 of 3, 3700 s/step, 2:03:20 left" in capsys.readouterr().err


def test_samples_count_as_steps(capsys):
    clock = Clock()
    with Progress(1, samples=4, clock=clock) as progress:
        progress.picture("a")
        walk(progress, clock, steps=8, of=5, seconds=2)
    assert "a: 8 of 20, 2.0 s/step, 0:24 left" in capsys.readouterr().err


def test_a_name_with_a_line_end_takes_one_line(capsys):
    clock = Clock()
    with Progress(1, clock=clock) as progress:
        progress.picture("a\nb\x1b[2J.png")
        walk(progress, clock, steps=1, of=2, seconds=20)
    assert capsys.readouterr().err == "a\\nb\\x1b[2J.png: 1 of 2, 20 s/step, 0:20 left\n"


def test_quiet_says_nothing(capsys):
    clock = Clock()
    with Progress(2, quiet=True, clock=clock, every=1) as progress:
        progress.picture("a")
        walk(progress, clock, steps=9, of=9, seconds=5)
        progress.say("done")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["in.png", "[/nonsense].png", ":smile:.png"])
def test_a_terminal_has_bars(monkeypatch, name):
    screen = Terminal()
    clock = Clock()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "150")
    with Progress(2, clock=clock, every=1) as progress:
        progress.picture("first.png")
        clock.now += 30
        progress.picture(name)
        walk(progress, clock, steps=4, of=8, seconds=0.25)
        progress.bars.refresh()
        progress.say("a line")
    shown = screen.getvalue()
    for text in (name, "4/8", "1/2", "4.0 steps/s, 0:01 left", "30 s/picture, 0:29 left", "a line"):
        assert text in shown
    assert f"{name}: " not in shown  # a line of a log
