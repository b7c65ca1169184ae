"""DDRM's published protocol as one command, from start to finish with a small ADM of random
weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.benchmark_scripts import benchmark
from support.pictures import piece

import operators
from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import ModelConfig
from restore.diffusion.schedule import noise_levels
from restore.solvers import ddrm

SIDE = 32


@pytest.fixture(scope="module")
def paper() -> ModuleType:
    """The benchmark as a module."""
    return benchmark("ddrm_paper")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a model ``adm.safetensors`` and two pictures in ``photos``."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = ModelConfig(
        BackboneConfig(
            learned_variance=True,
            channels=32,
            channel_multipliers=(1, 2),
            blocks=1,
            attention_factors=(2,),
            head_channels=16,
            resblock_updown=True,
        ),
        {"name": "linear"},
    )
    network = build_backbone(config.backbone)
    for tensor in network.parameters():  # the last layers begin at zero
        torch.nn.init.normal_(tensor, std=0.02) if tensor.ndim > 1 else None
    save_file(network.state_dict(), "adm.safetensors")
    Path("adm.json").write_text(json.dumps(asdict(config)))
    Path("photos/n01").mkdir(parents=True)
    piece((50, 40)).save("photos/n01/a.JPEG")
    piece((40, 60), "b").save("photos/b.png")
    return tmp_path


def _words(*more: object) -> list[str]:
    return [
        str(word)
        for word in ("--model", "adm.safetensors", "--data", "photos", "--side", SIDE, *more)
    ]


def test_from_start_to_finish_and_again(paper, place, capsys) -> None:
    words = _words("--out", "out", "--steps", 2, "--text-mask", "text.png")
    Image.fromarray(np.eye(SIDE) > 0).save("text.png")
    assert paper.main(words) == 0
    told = capsys.readouterr()
    lines = (place / "out/results.jsonl").read_text().splitlines()
    assert len(lines) == 12 * 2 * 2, "problems, noises, pictures"
    entries = [json.loads(line) for line in lines]
    assert {entry["picture"] for entry in entries} == {"n01/a.JPEG", "b.png"}
    assert all(0 < entry["psnr"] < 60 and 0 <= entry["consistency"] < 1 for entry in entries)
    assert (place / "out/results.md").read_text() in told.out
    row = next(
        line for line in told.out.splitlines() if line.startswith("| ×4, block average | 0 |")
    )
    assert [cell.strip() for cell in row.split("|")][3:8:2] == ["2", "25.65", "26.55"]

    file = place / "out/results.jsonl"  # killed in its last line
    file.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    assert paper.main(words) == 0
    again = capsys.readouterr()
    assert again.err.count(" dB, ") == 1, "one picture is done again"
    assert [line for line in again.out.splitlines() if "text" not in line] == [
        line for line in told.out.splitlines() if "text" not in line
    ]
    paper.main([*words, "--seed", "1", "--only", "sr4"])
    assert capsys.readouterr().err.count(" dB, ") == 4, "another seed is another run"


def test_the_answer_is_that_of_the_solver_with_the_published_settings(paper, place, capsys) -> None:
    """Nothing else is done to it: the same levels, η, η_b and no projection."""
    words = _words(
        "--out",
        "out",
        "--only",
        "sr4",
        "--noise",
        "0.05",
        "--count",
        "1",
        "--pictures",
        "--device",
        "cpu",
    )
    assert paper.main(words) == 0
    truth = paper.prepared(Path("photos/b.png"), SIDE)
    denoise = paper.load_denoiser(
        "adm.safetensors", torch.device("cpu"), paper.network_dtype(torch.device("cpu"))
    )
    generator = torch.Generator().manual_seed(paper.seed_of("b.png", 0))
    operator = operators.downsample((3, SIDE, SIDE), 4, kernel="area")
    y = operator.A(truth)
    y = 2 * (y + 0.05 * torch.randn(y.shape, generator=generator)) - 1
    levels = noise_levels(denoise.schedule, 20, "uniform")
    assert levels[0] == pytest.approx(float(denoise.schedule.sigmas[950]))
    x = ddrm(denoise, operator, y, 0.1, levels, generator=generator, eta=0.85, eta_b=1.0)
    expected = ((x + 1) / 2).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    result = np.array(Image.open("out/sr4-0.05/b.result.png"))
    assert np.abs(result - 255 * expected).max() <= 0.51
    assert np.array_equal(
        Image.open("out/sr4-0.05/b.truth.png"), np.rint(255 * truth[0].permute(1, 2, 0).numpy())
    )
    entry = json.loads(Path("out/results.jsonl").read_text())
    assert entry["psnr"] == pytest.approx(
        -10 * np.log10(np.mean((expected - truth[0].permute(1, 2, 0).numpy()) ** 2))
    )


@pytest.mark.parametrize("kind", ["reference", "named"])
def test_degradations_are_what_they_are_called(paper, kind) -> None:
    """On a flat picture the published blurs lose light; those that are named do not, but for the
    border.
    """
    flat = torch.ones(1, 3, 48, 48)
    middle = (..., slice(20, 28), slice(20, 28))
    gains = {}
    for name in ("deblur-uniform", "deblur-gaussian", "sr4", "sr4-bicubic", "colorize"):
        problem = paper.PROBLEMS[name]
        operator = problem.operator(kind, (3, 48, 48), 0)
        if (
            name.startswith("deblur") and kind == "reference"
        ):  # without the slip, which is no blur at all
            operator = operators.ddrm_reference(problem.reference, (3, 48, 48), cut=False)
        y = operator.A(flat)
        gains[name] = float((y[middle] if y.shape[-1] == 48 else y).mean())
    blurs = {"deblur-uniform": (8 / 9) ** 2, "deblur-gaussian": 0.64} if kind == "reference" else {}
    expected = dict.fromkeys(gains, 1.0) | blurs
    assert gains == pytest.approx(expected, abs=0.01)


def test_pictures_are_the_middle_square_resized(paper, place) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 200
    Image.fromarray(pixels).save("wide.png")
    assert torch.equal(
        paper.prepared(Path("wide.png"), SIDE), torch.full((1, 3, SIDE, SIDE), 200 / 255)
    )


def test_a_list_orders_the_pictures(paper, place) -> None:
    Path("list.txt").write_text("n01/a 17\nb.png\n")
    chosen = paper.pictures(Path("photos"), Path("list.txt"), None)
    assert [name for name, _ in chosen] == ["n01/a", "b.png"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--data", "none"], 5, "--data none: no such folder"),
        (["--list", "none"], 5, "--list none: no such file"),
        (["--model", "none.safetensors"], 3, "none.safetensors"),
        (["--only", "inpaint-text"], 1, "needs --text-mask"),
        (["--text-mask", "photos/b.png"], 1, "must be 32x32 pixels"),
    ],
)
def test_bad_input(paper, place, capsys, words, code, said) -> None:
    assert paper.main([*_words("--out", "out"), *words]) == code
    assert said in capsys.readouterr().err
    assert not Path("out").exists()
