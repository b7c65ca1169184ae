"""`restore likelihood` on files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support.pictures import FIXTURES

from restore.errors import Unavailable
from restore.jobs.likelihood import Estimator

SMALL = ("--size", 16, "--device", "cpu")


def test_photographs_are_likelier_than_noise(command, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    outcome = command(
        "likelihood", FIXTURES / "crop_a.png", tmp_path / "noise.png", "--json", *SMALL
    )
    assert outcome.code == 0
    photograph, nothing = (json.loads(line) for line in outcome.out.splitlines())
    assert photograph["input"] == str(FIXTURES / "crop_a.png")
    assert 0.5 < photograph["bits"] < 6
    assert nothing["bits"] > 7.5  # white noise over all values has 8 bits, whatever the model


def test_a_line_for_people_and_a_seed_that_says_which(command) -> None:
    lines = [
        command("likelihood", FIXTURES / "crop_b.png", *SMALL, "--size", 8, "--seed", seed).out
        for seed in (0, 0, 1)
    ]
    bits = [line.split(":")[-1].split("(")[0] for line in lines]
    assert "bits per dimension (8x8" in lines[0]
    assert bits[0] == bits[1] != bits[2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("crop_a.png", "--size", 4), 1, "--size 4: must be between 8 and 1024"),
        (("crop_a.png", "--probes", 0), 1, "--probes 0"),
        (("crop_a.png", "--size", 512), 2, "128x128 pixels, smaller than --size 512"),
        (("absent.png",), 5, "absent.png"),
        (("crop_a.png", "--memory", "much"), 1, "--memory much: must be a number with a unit"),
        (("crop_a.png", "--memory", "10MB"), 1, "--memory 10MB: too little"),
    ],
)
def test_refuses(command, words, code, said) -> None:
    outcome = command("likelihood", FIXTURES / words[0], *words[1:], "--device", "cpu")
    assert outcome.code == code
    assert said in outcome.err


def test_one_bad_picture_of_several_does_not_end_the_others(command) -> None:
    outcome = command(
        "likelihood", FIXTURES / "absent.png", FIXTURES / "crop_a.png", "--json", *SMALL
    )
    assert outcome.code == 10
    assert json.loads(outcome.out)["input"] == str(FIXTURES / "crop_a.png")
    assert "absent.png: cannot be read" in outcome.err
    assert "1 of 2 pictures failed" in outcome.err


def test_what_does_not_fit_is_said(command, monkeypatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("restore.jobs.likelihood.log_likelihood", out_of_memory)
    outcome = command("likelihood", FIXTURES / "crop_a.png", *SMALL)
    assert outcome.code == 3
    assert "not enough memory for 16x16; take a smaller --size" in outcome.err


def test_a_square_that_memory_will_not_hold_is_refused_beforehand(command, monkeypatch) -> None:
    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("the likelihood was begun")

    monkeypatch.setattr("restore.runtime.budget.free_memory", lambda _: 500_000_000)
    monkeypatch.setattr("restore.jobs.likelihood.log_likelihood", must_not_run)
    outcome = command("likelihood", FIXTURES / "crop_a.png", "--size", 1024, "--device", "cpu")
    assert outcome.code == 3
    assert "--size 1024: a square of 1024x1024 pixels takes about" in outcome.err
    assert "there are 400 MB for it; at most --size " in outcome.err


def test_the_size_that_is_said_to_fit_fits(monkeypatch) -> None:
    monkeypatch.setattr("restore.runtime.budget.free_memory", lambda _: 500_000_000)
    with pytest.raises(Unavailable) as refused:
        Estimator(device="cpu", size=1024)
    largest = int(str(refused.value).split()[-2].removeprefix("`size`="))
    assert 128 < largest < 512
    Estimator(device="cpu", size=largest)
    with pytest.raises(Unavailable, match=f"`size`={largest + 1}: "):
        Estimator(device="cpu", size=largest + 1)


def test_no_memory_at_all_is_said(monkeypatch) -> None:
    monkeypatch.setattr("restore.runtime.budget.free_memory", lambda _: 1000)
    with pytest.raises(Unavailable, match="close other programs"):
        Estimator(device="cpu", size=64)


def test_memory_is_what_the_program_takes_in_all(monkeypatch) -> None:
    monkeypatch.setattr("restore.runtime.budget.used_memory", lambda _: 1_000_000_000)
    Estimator(device="cpu", size=64, memory="1.1GB")
    with pytest.raises(Unavailable, match="there are 100 MB for it"):
        Estimator(device="cpu", size=256, memory="1.1GB")
