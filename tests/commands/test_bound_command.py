"""`restore likelihood --bound` and `--progressive` on files."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from PIL import Image
from support.networks import random_file, tiny
from support.pictures import FIXTURES

from restore.diffusion.bound import variational_bound
from restore.diffusion.schedule import noise_levels
from restore.jobs.bound import BoundEstimator
from restore.jobs.crops import middle_square

PICTURE = FIXTURES / "crop_a.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_file(tmp_path_factory.mktemp("model") / "m.safetensors", tiny())


@pytest.fixture
def bound(command, model):
    def run(*words: object):
        return command("likelihood", *words, "--model", model, "--device", "cpu", "--size", 8)

    return run


def test_numbers_of_the_core_reach_every_output(bound, model, tmp_path) -> None:
    outcome = bound(
        PICTURE, "--bound", "--steps", 30, "--json", "--seed", 3, "--table", tmp_path / "t.csv"
    )
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)

    denoise = BoundEstimator(str(model), "cpu", size=8, steps=30).denoise
    with torch.inference_mode():
        expected = variational_bound(
            denoise,
            middle_square(PICTURE, 8) / 127.5 - 1,
            noise_levels(denoise.schedule, 30),
            generator=torch.Generator().manual_seed(3),
        )
    assert record["bits"] == pytest.approx(float(expected.total))
    assert record["prior"] == pytest.approx(float(expected.prior))
    assert record["decoder"] == pytest.approx(float(expected.terms[0, -1]))
    assert (record["steps"], record["variance"], record["size"]) == (30, "forward", 8)
    assert [row["t"] for row in record["terms"]] == list(range(30, 0, -1))
    assert record["terms"][4]["rmse"] == pytest.approx(float(expected.distortions[0, 4]))

    rows = list(csv.DictReader((tmp_path / "t.csv").open(encoding="utf-8")))
    assert [row["term"] for row in rows] == [f"L_{t}" for t in range(30, -1, -1)]
    assert sum(float(row["bits"]) for row in rows) == pytest.approx(record["bits"])
    assert float(rows[5]["rate"]) == pytest.approx(sum(float(row["bits"]) for row in rows[:5]))
    assert rows[0]["rmse"] == ""


def test_the_table_for_people_adds_up(bound) -> None:
    lines = bound(PICTURE, "--bound", "--steps", 25, "--quiet").out.splitlines()
    total = float(lines[0].split("at most ")[1].split()[0])
    assert "bits per dimension (8x8, 25 steps, forward variance" in lines[0]
    names = [line[2:18].strip() for line in lines[2:]]
    assert names[0] == "L_25"
    assert names[1] == "L_24 … L_13"
    assert names[-1] == "L_0"
    assert sum(float(line[18:28]) for line in lines[2:]) == pytest.approx(total, abs=2e-3)
    assert float(lines[-1][28:40]) == pytest.approx(total, abs=1e-3)


def test_figures_of_terms_and_rates(bound, tmp_path) -> None:
    outcome = bound(
        PICTURE, "--steps", 12, "--progressive", tmp_path / "r.png", "--plot", tmp_path / "t.svg"
    )
    assert outcome.code == 0, outcome.err
    assert Image.open(tmp_path / "r.png").width > 600
    assert "<svg" in (tmp_path / "t.svg").read_text(encoding="utf-8")


def test_a_chain_of_one_step(bound) -> None:
    outcome = bound(PICTURE, "--bound", "--steps", 1, "--json")
    assert outcome.code == 0, outcome.err
    assert [row["term"] for row in json.loads(outcome.out)["terms"]] == ["L_0"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--bound", "--steps", 0), 1, "--steps 0: must be between 1 and 1000"),
        (("--bound", "--steps", 1001), 1, "the length of this model's chain"),
        (("--bound", "--variance", "big"), 1, "--variance big: must be one of forward, posterior"),
        (("--bound", "--variance", "learned"), 1, "has not learned the variance"),
        (("--bound", "--probes", 2), 1, "--probes 2: --bound has no probes"),
        (("--bound", "--size", 4), 1, "--size 4: must be between 8"),
        (("--steps", 5), 1, "--steps 5: only with --bound"),
        (("--plot", "p.png"), 1, "--plot p.png: only with --bound"),
        (("--bound", "--plot", "p.gif"), 1, "--plot p.gif: must end with .png"),
        (("--bound", "--table", PICTURE), 5, "crop_a.png: exists"),
        (("--bound", "--table", PICTURE, "--overwrite"), 1, "is an input"),
        ((PICTURE, "--progressive", "p.png"), 1, "one picture only, not 2"),
        (("--bound", "--plot", "a.svg", "--table", "a.svg"), 1, "is --table as well"),
    ],
)
def test_refuses(command, model, tmp_path, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("likelihood", PICTURE, "--model", model, "--device", "cpu", *words)
    assert outcome.code == code
    assert said in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_failed_does_not_end_the_others(bound, tmp_path) -> None:
    outcome = bound(
        tmp_path / "absent.png", PICTURE, "--bound", "--steps", 2, "--table", tmp_path / "t.csv"
    )
    assert outcome.code == 10
    assert "absent.png" in outcome.err
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()) == 4
