"""`restore evaluate --generated --reference`: distances of two folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.alexnet import write_random_trunk

from restore.metrics.distances import Statistics, frechet_distance, kernel_distance, neighbours
from restore.metrics.quality import TRUNK_VARIABLE


class Moments(torch.nn.Module):
    """Features that a test can compute: the mean of each channel, and its largest value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.float().flatten(2) / 255
        return torch.cat([flat.mean(2), flat.amax(2)], dim=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of random pictures, of 32x32 pixels, and a network."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for name, count, brightness in (("made", 9, 120), ("real", 12, 180)):
        (folder / name).mkdir()
        for index in range(count):
            pixels = rng.integers(0, brightness + index, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")
    torch.jit.script(Moments()).save(str(folder / "moments.pt"))
    return folder


@pytest.fixture(autouse=True)
def trunk(monkeypatch, tmp_path_factory):
    """AlexNet with random weights, whether the real ones are here or not."""
    monkeypatch.setenv(TRUNK_VARIABLE, str(write_random_trunk(tmp_path_factory.mktemp("lpips"))))


def _features(folder) -> np.ndarray:
    pictures = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    return Moments()(torch.from_numpy(pictures).permute(0, 3, 1, 2)).double().numpy()


def test_numbers_of_the_core_reach_every_output(command, place, tmp_path) -> None:
    outcome = command(
        *("evaluate", "--generated", place / "made", "--reference", place / "real"),
        *("--features", place / "moments.pt", "--device", "cpu"),
        *("--json", tmp_path / "d.json", "--markdown", tmp_path / "d.md"),
    )
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    made, real = (_features(place / name) for name in ("made", "real"))

    assert (record["pictures"], record["size"], record["dimensions"]) == ([9, 12], [32, 32], 6)
    assert record["network"] == "moments.pt"
    assert len(record["sha256"]) == 64
    frechet = frechet_distance(Statistics.of(made), Statistics.of(real))
    assert record["frechet"] == pytest.approx(frechet)
    assert record["kid"] == pytest.approx(kernel_distance(made, real)._asdict())
    assert record["neighbours"] == pytest.approx(neighbours(made, real)._asdict())
    assert outcome.out == (tmp_path / "d.md").read_text(encoding="utf-8")
    assert f"| {frechet:.4g} |" in outcome.out
    assert "Features: moments.pt (6 numbers, " in outcome.out


def test_alexnet_is_named_and_small_sets_are_warned_of(command, place) -> None:
    outcome = command(
        *("evaluate", "--generated", place / "made", "--reference", place / "real"),
        *("--size", 31, "--device", "cpu", "--quiet"),
    )
    assert outcome.code == 0, outcome.err
    assert "AlexNet, fifth convolution, mean over the picture (256 numbers" in outcome.out
    assert "9 generated pictures and 12 of the reference, 31x31" in outcome.out
    assert "compare it between sets of equal size only" in outcome.out


def test_an_unreadable_picture_is_skipped(command, place, tmp_path) -> None:
    for path in (place / "made").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "99.png").write_bytes(b"text")
    outcome = command(
        *("evaluate", "--generated", tmp_path, "--reference", place / "real"),
        *("--features", place / "moments.pt", "--device", "cpu"),
    )
    assert outcome.code == 10
    assert "9 generated pictures" in outcome.out
    assert "99.png: " in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--generated made", 1, "Missing option --reference"),
        ("--reference made", 1, "Missing option --generated"),
        ("--features moments.pt", 1, "Missing option --generated"),
        ("made --generated made --reference real", 1, "DIR: not with --generated"),
        ("--task sr --generated made --reference real", 1, "--task: not with --generated"),
        ("--scale 2 --generated made --reference real", 1, "--scale: not with --generated"),
        ("--generated made --reference made", 1, "is the same folder as --generated"),
        ("--generated made --reference absent", 5, "--reference absent: no such folder"),
        ("--generated empty --reference real", 6, "--generated empty: no picture"),
        ("--generated made --reference real --count 5", 1, "--count 5: must be at least 6"),
        ("--generated made --reference real --size 33", 1, "smaller than --size 33"),
        ("--generated made --reference real --size 30", 1, "too small: 31 are needed"),
        ("--generated made --reference real --size -1", 1, "--size -1"),
        ("--generated made --reference real --features vgg", 1, "--features vgg: must be alexnet"),
        ("--generated made --reference real --features note.pt", 2, "is no TorchScript"),
        ("--generated few --reference real", 1, "--generated: 2 readable pictures, at least 6"),
        ("--generated mixed --reference real", 1, "features of different sizes do not compare"),
        ("--generated made --reference real --report r.html", 1, "not for sets of pictures"),
        ("--generated made --reference real --json note.pt", 5, "note.pt: exists"),
        ("", 1, "Missing argument DIR"),
        ("made", 1, "Missing option --task"),
    ],
)
def test_refuses(command, place, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(place)
    for name in ("empty", "few", "mixed"):
        (place / name).mkdir(exist_ok=True)
    (place / "note.pt").write_text("no network", encoding="utf-8")
    for index in range(2):
        Image.new("RGB", (40, 40)).save(place / "few" / f"{index}.png")
    for index in range(8):
        Image.new("RGB", (40 + index // 7, 40)).save(place / "mixed" / f"{index}.png")
    outcome = command("evaluate", *words.split(), "--device", "cpu")
    assert outcome.code == code, outcome.err
    assert said in outcome.err
