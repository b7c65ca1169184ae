"""A picture to begin with: ddrm, diffpir and sr3 from less noise (`--start`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import files, piece
from torch import Tensor

import restore
from restore.diffusion.denoiser import Condition, Prediction
from restore.errors import BadArgument
from restore.metrics.quality import psnr
from restore.restorer import restorer
from restore.solvers import diffpir, sr3
from restore.solvers.ddrm import ddrm
from restore.tasks import TASKS, SuperResolution

SIZE = (48, 32)


def _truth() -> Tensor:
    return torch.from_numpy(np.array(piece(SIZE))).permute(2, 0, 1)[None].float() / 255


def _small(truth: Tensor) -> Tensor:
    import operators

    return operators.downsample(tuple(truth.shape[1:]), 4).A(truth).clamp(0, 1)


@pytest.mark.parametrize("method", ["ddrm", "diffpir", "sr3"])
def test_from_the_truth_and_little_noise_it_stays_near_the_truth(method) -> None:
    truth = _truth()
    small = _small(truth)
    options = {"method": method, "steps": 4, "seed": 1}
    alone = restore.sr(small, 4, **options)
    near = restore.sr(small, 4, start=truth, start_noise=0.01, **options)
    far = restore.sr(small, 4, start=truth, start_noise=0.5, **options)
    assert float(psnr(near, truth)) > 36
    assert float(psnr(near, truth)) > float(psnr(far, truth)) + 3 > float(psnr(alone, truth)) + 3


@pytest.mark.parametrize(
    ("task", "method", "arguments"),
    [
        ("deblur", "ddrm", {"kernel": "box:3", "noise": 0.01}),
        ("deblur", "diffpir", {"kernel": "box:3", "noise": 0.01}),
        ("denoise", "auto", {"noise": 0.1}),
        ("inpaint", "auto", {"mask": np.eye(32, 48, dtype=bool)}),
        ("colorize", "auto", {}),
        ("solve", "auto", {"operator": "jpeg:20"}),
    ],
)
def test_every_task_takes_a_start(task, method, arguments) -> None:
    """And a mid-grey one gives another picture than the truth does."""
    truth = _truth()
    options = {"method": method, "steps": 2, "start_noise": 0.02}
    run = restorer().run
    near, grey = (
        run(TASKS[task](**arguments), truth, start=start, **options)
        for start in (truth, torch.full_like(truth, 0.5))
    )
    assert near.report.method in ("ddrm", "diffpir", "dpir", "sr3"), "one-step has no start"
    assert float((near.mean - grey.mean).abs().max()) > 0.01
    assert float((near.mean - truth).square().mean()) < float((grey.mean - truth).square().mean())


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_noise_that_starts_is_what_is_asked_for(noise) -> None:
    """The first level in [-1, 1] units is twice the user's, also where the measurement has more
    noise.
    """
    levels: list[float] = []
    arguments = {"scale": 4, "noise": noise}
    small = _small(_truth())
    options = {
        "method": "ddrm",
        "steps": 2,
        "start": _truth(),
        "callback": lambda step: levels.append(step.sigma),
    }
    for start_noise in (None, 0.03):
        restorer().run(SuperResolution(**arguments), small, start_noise=start_noise, **options)
    assert levels[::2] == pytest.approx([0.4, 0.06], rel=1e-3)


def test_without_a_start_nothing_is_changed() -> None:
    small = _small(_truth())
    plain = restore.sr(small, 4, steps=2)
    assert torch.equal(plain, restore.sr(small, 4, steps=2, start=None))


def test_solvers_begin_at_start_plus_noise() -> None:
    """All three show the network start + σ z at first."""
    import operators

    shape = (3, 8, 8)
    seen = []
    start = torch.rand(1, *shape)

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        seen.append(x)
        return Prediction(x, torch.zeros_like(x))

    hidden = operators.Mask(shape, torch.zeros(8, 8))
    condition = Condition(torch.zeros(1, *shape), torch.zeros(1, 1, 8, 8))
    y = torch.zeros(1, *shape)
    levels = [0.3, 0.0]

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    ddrm(denoise, hidden, y, 0.0, levels, generator=seeded(), start=start)
    diffpir(denoise, hidden, y, 0.0, levels, generator=seeded(), start=start)
    sr3(denoise, condition, levels, generator=seeded(), start=start)
    expected = start + 0.3 * torch.randn(1, *shape, generator=seeded())
    for x in seen:
        torch.testing.assert_close(x, expected)


def test_pictures_of_a_batch_have_their_own_start() -> None:
    truth = torch.cat([_truth(), _truth().flip(-1)])
    options = {"steps": 2, "start_noise": 0.01}
    own = restore.sr(_small(truth), 4, start=truth, **options)
    assert min(psnr(own, truth)) > 36
    shared = restore.sr(_small(truth), 4, start=truth[:1], **options)
    assert float(psnr(shared, truth)[1]) < 30


def test_the_command_with_a_file_and_a_folder(command, picture, tmp_path) -> None:
    """Starts are matched to pictures by place and stem, and what they hold decides the result."""
    for name in ("a.png", "sub/b.png"):
        picture(f"in/{name}", size=(12, 8))
    picture("starts/a.tiff", size=SIZE)
    picture("starts/sub/b.png", size=SIZE, crop="b")
    words = ("--steps", 2, "--start-noise", 0.02, "--report", tmp_path / "page.html")
    outcome = command(
        "sr", tmp_path / "in", tmp_path / "out", "--start", tmp_path / "starts", *words
    )
    assert outcome.code == 0, outcome.err
    assert str(tmp_path / "starts") not in (tmp_path / "page.html").read_text()
    plain = command("sr", tmp_path / "in/a.png", tmp_path / "plain.png", "--steps", 2)
    one = command(
        "sr",
        tmp_path / "in/a.png",
        tmp_path / "one.png",
        "--start",
        tmp_path / "starts/a.tiff",
        *words[:4],
    )
    assert (plain.code, one.code) == (0, 0), one.err
    written = files(tmp_path)
    assert written["out/a.png"] == written["one.png"] != written["plain.png"]
    picture("starts/a.tiff", size=SIZE, crop="b")
    again = command(
        "sr", tmp_path / "in", tmp_path / "out", "--start", tmp_path / "starts", *words[:4]
    )
    assert again.code == 6
    assert "1 restored with other options" in again.err, "the start of a is another picture now"


def test_a_network_starts(command, picture, tmp_path) -> None:
    spandrel = pytest.importorskip("spandrel")
    from spandrel.architectures.DnCNN import DnCNN

    network = DnCNN(in_nc=3, out_nc=3, nc=8, nb=8, act_mode="R")
    torch.save(network.state_dict(), tmp_path / "dn.pth")
    source = picture(size=SIZE)
    words = ("--noise", 0.1, "--steps", 2, "--start-noise", 0.02)
    outcome = command(
        "denoise",
        source,
        tmp_path / "out.png",
        "--start",
        f"spandrel:{tmp_path / 'dn.pth'}",
        "--json",
        *words,
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["method"] == "ddrm"
    loaded = spandrel.ModelLoader().load_from_file(tmp_path / "dn.pth").eval()
    noisy = np.array(Image.open(source)).astype(np.float32) / 255
    start = loaded(torch.from_numpy(noisy).permute(2, 0, 1)[None]).clone()
    expected = restore.denoise(
        torch.from_numpy(noisy).permute(2, 0, 1)[None], 0.1, steps=2, start=start, start_noise=0.02
    )
    result = np.array(Image.open(tmp_path / "out.png"))
    assert np.abs(result - 255 * expected[0].permute(1, 2, 0).numpy()).max() < 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--start", "none.png"], 5, "--start none.png: no such file or folder"),
        (["--start", "in.png"], 1, "--start: 12x8 pixels, and the result has 48x32"),
        (
            ["--start", "start.png", "--method", "one-step"],
            1,
            "--start: the method one-step has no start",
        ),
        (["--start-noise", "0.1"], 1, "--start-noise 0.1: is the noise of a --start"),
        (
            ["--start", "start.png", "--start-noise", "0"],
            1,
            "--start-noise 0: must be a standard deviation above 0",
        ),
        (
            ["--start", "start.png", "--start-noise", "2"],
            1,
            "--start-noise 2: must be a standard deviation above 0",
        ),
        (["--start", "start.png", "--start-noise", "1e-5"], 1, "the model's lowest noise"),
        (["--start", "spandrel:none.pth"], 3, "spandrel:none.pth: there is no such file"),
    ],
)
def test_a_start_that_cannot_be_used_is_refused(
    command, picture, tmp_path, monkeypatch, words, code, said
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(size=(12, 8))
    picture("start.png", size=SIZE)
    outcome = command("sr", "in.png", "out.png", *words)
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert not Path("out.png").exists()


def test_an_output_never_replaces_a_start(command, picture, tmp_path) -> None:
    source = picture(size=(12, 8))
    start = picture("start.png", size=SIZE)
    outcome = command("sr", source, start, "--start", start, "--overwrite")
    assert (outcome.code, "is an input" in outcome.err) == (5, True)


def test_in_python_a_path_is_no_picture() -> None:
    with pytest.raises(BadArgument, match="must be a picture, or spandrel:FILE, where"):
        restore.sr(_small(_truth()), 4, start="start.png")
