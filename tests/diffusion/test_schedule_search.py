"""The search of noise levels: its family, problems whose optimum is known, `restore tune`, and
`--levels`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.pictures import piece

import restore.evaluate.tune
from restore import Restorer
from restore.diffusion.level_search import Axis, Levels, axes_for, search
from restore.diffusion.schedule import NoiseSchedule, karras_levels, noise_levels
from restore.errors import BadArgument, FileAccess
from restore.evaluate.protocol import degraded
from restore.evaluate.settings import Settings
from restore.evaluate.tune import Request, read_levels, tune
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.solvers import sr3
from restore.tasks import KINDS, SuperResolution

SCHEDULE = NoiseSchedule.named("linear")
OPTIMUM = Levels(highest=7.0, lowest=0.03, rho=4.0, eta=0.55)


# --- the family
# ---------------------------------------------------------------------------------------------


def test_between_the_ends_of_a_chain_they_are_edms():
    low, high = SCHEDULE.sigmas[[0, -1]]
    np.testing.assert_allclose(
        Levels(high, low, 7.0, 1.0).sigmas(9), karras_levels(SCHEDULE, 9), rtol=1e-12
    )


def test_the_ends_and_the_limits_of_rho():
    assert Levels(5.0, 0.1, 3.0, 1.0).sigmas(1) == pytest.approx((5.0,))
    assert Levels(5.0, 0.1, 1.0, 1.0).sigmas(5) == pytest.approx(np.linspace(5, 0.1, 5))
    assert Levels(5.0, 0.1, 1e5, 1.0).sigmas(5) == pytest.approx(np.geomspace(5, 0.1, 5), rel=1e-3)


# --- the search
# ---------------------------------------------------------------------------------------------


def bowl(levels: Levels) -> float:
    """Least at `OPTIMUM`, steeper in one number than in another, and not round."""
    h, low, rho = (math.log(a / b) for a, b in zip(levels[:3], OPTIMUM[:3], strict=True))
    return h**2 + 0.5 * low**2 + 2 * rho**2 + 4 * (levels.eta - OPTIMUM.eta) ** 2 + 0.3 * h * rho


def watched(function: Callable[[Levels], float]) -> tuple[Callable[[Levels], float], list[Levels]]:
    asked: list[Levels] = []

    def measure(levels: Levels) -> float:
        asked.append(levels)
        return function(levels)

    return measure, asked


def test_a_known_optimum_is_found():
    found = search(bowl, axes_for(SCHEDULE), halvings=4)
    for value, truth in zip(found[:3], OPTIMUM[:3], strict=True):
        assert abs(math.log(value / truth)) < 0.06
    assert abs(found.eta - OPTIMUM.eta) < 0.02


def test_halvings_refine():
    errors = [bowl(search(bowl, axes_for(SCHEDULE), halvings)) for halvings in (0, 2, 5)]
    assert errors[0] > 2 * errors[1]
    assert errors[1] > 2 * errors[2]


def test_an_optimum_beyond_the_bounds_ends_at_them():
    axes = axes_for(SCHEDULE)
    found = search(lambda levels: levels.lowest + levels.eta - levels.highest, axes)
    assert found.highest == axes["highest"].most == pytest.approx(SCHEDULE.sigmas[-1])
    assert found.lowest == axes["lowest"].least
    assert found.eta == 0


def test_each_point_is_tried_once_and_in_the_same_order():
    (first, asked), (second, again) = watched(bowl), watched(bowl)
    axes = axes_for(SCHEDULE)
    assert search(first, axes) == search(second, axes)
    assert asked == again
    assert len(set(asked)) == len(asked)
    assert asked[:18] == [
        Levels(h, low, rho, eta)
        for h in axes["highest"].coarse
        for low in axes["lowest"].coarse
        for rho in axes["rho"].coarse
        for eta in axes["eta"].coarse
    ]


def test_every_schedule_that_is_tried_falls():
    axes = {
        **axes_for(SCHEDULE),
        "highest": Axis((0.5,), 0.05, 1.0, 2.0),
        "lowest": Axis((0.1,), 0.01, 0.4, 2.0),
    }
    measure, asked = watched(lambda levels: levels.highest - levels.lowest)
    search(measure, axes)
    assert all(a > b for levels in asked for a, b in pairwise((*levels.sigmas(4), 0.0)))


# --- levels in use
# ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(device="cpu")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.asarray(piece((10, 8)))


def test_sr3_walks_down_the_levels(restorer, image, monkeypatch):
    seen = []

    def watched(denoise, condition, sigmas, **options):
        seen.append((sigmas, options["eta"]))
        return sr3(denoise, condition, sigmas, **options)

    monkeypatch.setattr("restore.methods.sr3.sr3", watched)
    report = restorer.run(SuperResolution(2, noise=0), image, levels=(5, 1, 0.2), eta=0.4).report
    assert seen == [([5.0, 1.0, 0.2, 0.0], 0.4)]
    assert (report.method, report.steps) == ("sr3", 3)


def test_the_levels_of_its_grid_change_nothing(restorer, image):
    grid = noise_levels(restorer.denoiser.schedule, 12, "log-snr")[:-1]
    own = restorer.sr(image, 2, method="sr3", steps=12)
    assert np.array_equal(restorer.sr(image, 2, levels=grid), own)
    assert not np.array_equal(restorer.sr(image, 2, levels=[5, 1, 0.2]), own)


def test_few_steps_of_super_resolution_are_those_that_were_found():
    _, few = settings_for(KINDS["sr"], Options("sr3", 10))
    assert (len(few.sigmas), few.steps) == (10, 10)
    assert few.eta < 1
    highest = {n: settings_for(KINDS["sr"], Options("sr3", n))[1].sigmas[0] for n in range(2, 11)}
    expected = {n: 20 if n <= 5 else 10 if n == 6 else 20 if n <= 8 else 40 for n in highest}
    assert highest == pytest.approx(expected)
    assert len(settings_for(KINDS["sr"], Options("sr3", 7))[1].sigmas) == 7
    assert settings_for(KINDS["sr"], Options("sr3", 10, 0.9))[1].eta == 0.9
    for task, options in (
        ("sr", {"steps": 11}),
        ("sr", {}),
        ("deblur", {"steps": 10}),
        ("sr", {"steps": 10, "sampler": "ddim"}),
    ):
        assert settings_for(KINDS[task], Options("sr3", **options))[1].sigmas == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (1.0, 2.0)}, "must be falling numbers above 0"),
        ({"levels": (1.0, 0.0)}, "must be falling numbers above 0"),
        ({"levels": (math.inf, 1.0)}, "must be falling numbers above 0"),
        ({"levels": (math.nan,)}, "must be falling numbers above 0"),
        ({"levels": ()}, "must be falling numbers above 0"),
        ({"levels": (2.0, 1.0), "steps": 3}, "`steps`=3: there are 2 `levels`"),
        (
            {"levels": (2.0, 1.0), "method": "ddrm"},
            "are for `method`=sr3 and its own sampler, not for ddrm",
        ),
        ({"levels": (2.0, 1.0), "sampler": "ddim"}, "not for ddim"),
    ],
)
def test_levels_that_cannot_be_used(restorer, image, options, message):
    with pytest.raises(BadArgument, match=message):
        restorer.sr(image, 2, **options)


def written(folder: Path, table: object) -> Path:
    path = folder / "levels.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def test_a_file_written_by_hand(tmp_path):
    assert read_levels(written(tmp_path, {"levels": [5, 1, 0.2]})) == ((5.0, 1.0, 0.2), None)
    assert read_levels(written(tmp_path, {"levels": [5.0], "eta": 0})) == ((5.0,), 0.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", "levels.json: is no file of levels in JSON"),
        ("[1, 2]", "is no file of levels"),
        ({"steps": 3}, "has no list of numbers, levels"),
        ({"levels": ["high", "low"]}, "has no list of numbers"),
        ({"levels": [True]}, "has no list of numbers"),
        ({"levels": [5], "eta": "much"}, "eta = 'much': must be a number"),
    ],
)
def test_a_file_that_holds_no_levels(tmp_path, table, message):
    with pytest.raises(BadArgument, match=message):
        read_levels(written(tmp_path, table))


def test_the_command_takes_a_file(command, picture, tmp_path):
    path = written(tmp_path, {"levels": [5, 1, 0.2], "eta": 0.5})
    picture("photos/a.png", size=(8, 6))
    page = tmp_path / "page.html"
    outcome = command(
        "sr", tmp_path / "photos", "--scale", 2, "--levels", path, "--json", "--report", page
    )
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert (record["method"], record["steps"]) == ("sr3", 3)
    assert "<dt>levels</dt><dd>5, 1, 0.2</dd>" in page.read_text()
    again = command("sr", tmp_path / "photos", "--scale", 2, "--levels", path)
    assert "1 restored with other options" not in again.err
    written(tmp_path, {"levels": [5, 1, 0.1], "eta": 0.5})
    changed = command("sr", tmp_path / "photos", "--scale", 2, "--levels", path)
    assert "1 restored with other options" in changed.err
    assert command("sr", picture(), "--levels", tmp_path / "none.json").code == 5
    assert command("sr", picture(), "--levels", path, "--method", "one-step").code == 1


# --- restore tune
# -------------------------------------------------------------------------------------------


FEW = {
    "highest": Axis((3.0,), 2.0, 4.0, 2.0),
    "lowest": Axis((0.1,), 0.1, 0.1, 2.0),
    "eta": Axis((0.5,), 0.5, 0.5, 0.1),
}


@pytest.fixture
def few(monkeypatch) -> None:
    """Few points to try."""
    monkeypatch.setattr(
        restore.evaluate.tune, "axes_for", lambda schedule: {**axes_for(schedule), **FEW}
    )


@pytest.fixture
def photographs(tmp_path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in "ab":
        piece((40, 36), name).save(folder / f"{name}.png")
    return folder


def quick(folder: Path, **changes) -> Request:
    return Request(folder, **{"steps": 2, "score": "psnr", "size": 32, "device": "cpu", **changes})


def test_the_best_of_all_that_was_tried_is_kept(photographs, tmp_path):
    out = tmp_path / "found.json"
    lines = []
    best = tune(quick(photographs), out, halvings=0, tell=lines.append)
    table = json.loads(out.read_text())
    values = {Levels(*point): value for *point, value in table["tried"]}
    assert best == min(values, key=values.__getitem__)
    assert table["value"] == min(values.values())
    assert len(values) > 18
    assert table["complete"] is True
    assert table["settings"]["pictures"] == ["a.png", "b.png"]
    assert read_levels(out) == (best.sigmas(2), best.eta)
    assert lines[0].startswith("1 tried, psnr")
    assert table["value"] < next(iter(values.values())), "better than the first"


def test_the_value_is_that_of_pictures_restored_so(photographs, tmp_path, restorer, few):
    out = tmp_path / "found.json"
    tune(quick(photographs, count=1), out, halvings=0)
    table = json.loads(out.read_text())
    truth = np.asarray(piece((40, 36), "a"))[2:34, 4:36]
    case = degraded(Settings("sr", size=32).completed(), "a.png", np.asarray(piece((40, 36), "a")))
    assert np.array_equal(case.truth, truth)
    result = restorer.sr(case.file, 4, levels=table["levels"], eta=table["eta"])
    psnr = 10 * math.log10(255**2 / np.mean((result.astype(float) - truth) ** 2))
    assert -table["value"] == pytest.approx(psnr, abs=1e-3)


def test_an_ended_search_goes_on(photographs, tmp_path, monkeypatch, few):
    whole = tmp_path / "whole.json"
    ended = tmp_path / "ended.json"
    best = tune(quick(photographs), whole, halvings=0)
    counted = []
    values = restore.evaluate.tune._Measured._values

    def counting(self, batch, levels):
        if len(counted) == 3:
            raise KeyboardInterrupt
        counted.append(levels)
        return values(self, batch, levels)

    monkeypatch.setattr(restore.evaluate.tune._Measured, "_values", counting)
    with pytest.raises(KeyboardInterrupt):
        tune(quick(photographs), ended, halvings=0)
    assert json.loads(ended.read_text())["complete"] is False
    assert len(json.loads(ended.read_text())["tried"]) == 3
    counted.append(None)
    assert tune(quick(photographs), ended, halvings=0) == best
    assert json.loads(ended.read_text()) == json.loads(whole.read_text())
    assert len(counted) == len(json.loads(whole.read_text())["tried"]) + 1


def test_a_file_of_another_search_stays(photographs, tmp_path, few):
    out = tmp_path / "found.json"
    out.write_text('{"levels": [3.0]}')
    with pytest.raises(FileAccess, match="exists already; pass `overwrite`"):
        tune(quick(photographs), out, halvings=0)
    assert out.read_text() == '{"levels": [3.0]}'
    tune(quick(photographs, count=1), out, overwrite=True, halvings=0)
    with pytest.raises(FileAccess, match="exists already"):
        tune(quick(photographs, count=1, seed=1), out, halvings=0)


def test_the_command(command, photographs, tmp_path, few):
    out = tmp_path / "found.json"
    outcome = command(
        "tune",
        photographs,
        "--out",
        out,
        "--steps",
        2,
        "--size",
        32,
        "--count",
        1,
        "--score",
        "psnr",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{out}: σ ")
    assert "1 tried, psnr" in outcome.err
    used = command("sr", photographs / "a.png", tmp_path / "out.png", "--levels", out, "--json")
    assert json.loads(used.out)["steps"] == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--steps", 0), 1, "--steps 0: must be between 1 and 1000"),
        (("--score", "fid"), 1, "--score fid: unknown; use lpips or psnr"),
        (("--size", 16), 1, "--size 16: must be at least 32"),
        (("--scale", 20), 1, "--scale 20"),
        (("--count", 0), 1, "--count 0: must be at least 1"),
        (("--size", 64), 1, "40x36 pixels, smaller than --size 64"),
    ],
)
def test_what_cannot_be_searched(command, photographs, tmp_path, options, code, message):
    outcome = command(
        "tune", photographs, "--out", tmp_path / "found.json", "--score", "psnr", *options
    )
    assert outcome.code == code
    assert message in outcome.err
    assert not (tmp_path / "found.json").exists()


def test_folders_without_pictures(command, tmp_path):
    assert command("tune", tmp_path / "none", "--out", tmp_path / "found.json").code == 5
    (tmp_path / "empty").mkdir()
    assert command("tune", tmp_path / "empty", "--out", tmp_path / "found.json").code == 6
