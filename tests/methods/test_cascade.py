"""Super-resolution in stages: what is asked for, what each stage is given, and that the result
explains the input.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.pictures import files, piece
from torch import Tensor

from restore import Restorer
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.restorer import Samples
from restore.tasks import SuperResolution
from restore.tasks.cascade import LARGEST_FACTOR, read_cascade, split

WIDTH = 9
HEIGHT = 7


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(device="cpu")


def photograph(width: int = WIDTH, height: int = HEIGHT) -> Tensor:
    """[1, 3, H, W] of middling brightness, so that no result is cut off at black or white."""
    crop = np.asarray(piece((width, height)), dtype=np.float32) / 255
    return torch.from_numpy(0.3 + 0.4 * crop).permute(2, 0, 1)[None]


# --- what is asked for
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "written", "factors"),
    [
        (16, "4x4", (4, 4)),
        (16, "4,4", (4, 4)),
        (16, (4, 4), (4, 4)),
        (8, [4, 2], (4, 2)),
        (3, "1.5x2", (1.5, 2)),
        (4, "4", (4,)),
        (3, "1.732,1.732", (1.732, 1.732)),
        (16, "auto", (4, 4)),
        (8, "auto", (4, 2)),
        (6, "auto", (3, 2)),
        (4, "auto", (4,)),
        (1.5, "auto", (1.5,)),
    ],
)
def test_factors(scale, written, factors):
    cascade = read_cascade(scale, written, None)
    assert cascade.factors == pytest.approx(factors)
    assert cascade.noise is None


@given(st.floats(1.01, 16))
def test_automatic_factors_make_the_scale(scale):
    factors = split(scale)
    assert math.prod(factors) == pytest.approx(scale)
    assert all(1 < factor <= LARGEST_FACTOR + 1e-9 for factor in factors)
    assert len(factors) == (1 if scale <= 4 else 2)
    assert list(factors) == sorted(factors, reverse=True)
    assert len(factors) == 1 or min(factors) >= 2 - 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 4, "cascade": "4x4"}, "enlarges by 16 in all, and `scale` says 4"),
        ({"scale": 4, "cascade": (2, 3)}, "`cascade`=2,3: enlarges by 6"),
        ({"scale": 4, "cascade": "1x4"}, "must be factors above 1"),
        ({"scale": 4, "cascade": "2xx2"}, "must be factors above 1 joined by x or commas"),
        ({"scale": 4, "cascade": "nan"}, "must be factors above 1"),
        ({"scale": 4, "cascade": "twice"}, "`cascade`=twice: must be factors"),
        ({"scale": 4, "cascade": ""}, "must be factors"),
        ({"scale": 4, "cascade": ()}, "must be factors"),
        ({"scale": 4, "cascade": 4}, "`cascade`=4: must be factors"),
        (
            {"scale": 4, "cascade": "2x2", "cascade_noise": -0.1},
            "`cascade_noise`=-0.1: must be a standard deviation",
        ),
        ({"scale": 4, "cascade": "2x2", "cascade_noise": math.nan}, "`cascade_noise`=nan"),
        ({"scale": 4, "cascade_noise": 0.1}, "give `cascade`, too"),
    ],
)
def test_what_cannot_be_used(restorer, arguments, message):
    with pytest.raises(BadArgument, match=message):
        restorer.run(SuperResolution(noise=0, **arguments), photograph())


# --- one stage is no cascade
# --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"method": "ddrm", "samples": 2}, {"method": "sr3"}, {"method": "one-step"}]
)
def test_one_stage_is_the_direct_way(restorer, options):
    steps = {} if options["method"] == "one-step" else {"steps": 2}
    direct = restorer.run(SuperResolution(3, noise=0.01), photograph(), seed=3, **steps, **options)
    staged = restorer.run(
        SuperResolution(3, noise=0.01, cascade="3"), photograph(), seed=3, **steps, **options
    )
    assert all(torch.equal(a, b) for a, b in zip(direct.samples, staged.samples, strict=True))
    assert staged.report.consistency == direct.report.consistency
    assert (direct.report.cascade, staged.report.cascade.factors) == (None, (3.0,))


# --- the result explains the input
# --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "cascade", "options"),
    [
        (4, "2x2", {"method": "ddrm", "steps": 2}),
        (2.25, "1.5x1.5", {"method": "diffpir", "steps": 2}),
        (6, "auto", {"method": "sr3", "steps": 2}),
        (3.3, "1.5x2.2", {"method": "one-step"}),
        (8, "2x2x2", {"method": "sr3", "sampler": "ddim", "steps": 2}),
    ],
)
def test_explains_the_input_at_the_size_of_the_direct_way(restorer, scale, cascade, options):
    picture = photograph()
    result = restorer.run(SuperResolution(scale, noise=0.0, cascade=cascade), picture, **options)
    assert result.mean.shape == (1, 3, round(HEIGHT * scale), round(WIDTH * scale))
    whole = restorer.problem(SuperResolution(scale, noise=0.0), picture)
    misfit = (whole.operator.A(result.mean) - picture).square().mean().sqrt()
    assert misfit < 1e-3
    assert result.report.consistency == pytest.approx(float(misfit), abs=1e-5)
    assert result.report.operator == f"down:bicubic:{scale:g}"


def test_without_the_last_projection_it_would_not(restorer, monkeypatch):
    arguments = {"scale": 4, "noise": 0.0, "cascade": "2x2"}
    explained = restorer.run(SuperResolution(**arguments), photograph(), steps=2).report.consistency
    monkeypatch.setattr(
        "restore.methods.cascade.project", lambda operator, estimate, y, noise: estimate
    )
    assert (
        restorer.run(SuperResolution(**arguments), photograph(), steps=2).report.consistency
        > 5 * explained
    )


def test_a_noisy_input_is_explained_to_within_its_noise(restorer):
    noisy = photograph(24, 20) + 0.05 * torch.randn(
        1, 3, 20, 24, generator=torch.Generator().manual_seed(0)
    )
    result = restorer.run(SuperResolution(4, noise=0.05, cascade="2x2"), noisy.clamp(0, 1), steps=5)
    assert 0.01 < result.report.consistency < 0.075
    assert result.report.noise == pytest.approx(0.05)


# --- what a stage is given
# ----------------------------------------------------------------------------------


def stages(restorer: Restorer, monkeypatch, **options) -> list[tuple]:
    """(problem, options, samples) of each stage."""
    seen = []
    solve = restorer.solve_problem

    def watched(problem, options, callback=None):
        samples, report = solve(problem, options, callback)
        seen.append((problem, options, samples))
        return samples, report

    monkeypatch.setattr(restorer, "solve_problem", watched)
    restorer.run(
        SuperResolution(4, noise=0.02, **options.pop("arguments")),
        photograph(20, 16),
        steps=2,
        **options,
    )
    return seen


def test_a_stage_takes_the_noised_result_of_the_one_before(restorer, monkeypatch):
    (first, _, result), (second, _, _) = stages(
        restorer, monkeypatch, arguments={"cascade": "2x2", "kernel": "area", "cascade_noise": 0.03}
    )
    assert (float(first.noise), float(second.noise)) == pytest.approx((0.02, 0.03))
    assert second.operator.output_shape == first.operator.input_shape == (3, 32, 40)
    assert (first.written, second.written) == ("down:area:2", "down:area:2")
    added = second.measurement - result[0]
    assert float(added.std()) == pytest.approx(0.03, rel=0.1)
    assert abs(float(added.mean())) < 0.003


def test_the_noise_is_that_of_the_method(restorer):
    # repaint is for masks only, and bridges and latents need a model of their own
    takes_stages = {
        name: one
        for name, one in METHODS.items()
        if name != "repaint" and not (one.bridges or one.latents)
    }
    for method, record in takes_stages.items():
        steps = {"steps": 1} if method == "one-step" else {"steps": 2}
        cascade = {"scale": 4, "noise": 0, "cascade": "2x2"}
        report = restorer.run(
            SuperResolution(**cascade), photograph(), method=method, **steps
        ).report
        assert report.cascade.noise == record.stage_noise > 0


def test_the_network_of_sr3_is_shown_the_result_itself(restorer, monkeypatch):
    (_, _, result), (second, _, _) = stages(
        restorer, monkeypatch, arguments={"cascade": "2x2", "cascade_noise": 0.03}, method="sr3"
    )
    assert torch.equal(second.measurement, result[0])
    assert float(second.noise) == pytest.approx(0.03)


def test_without_noise_a_stage_takes_the_result_itself(restorer, monkeypatch):
    (_, _, result), (second, _, _) = stages(
        restorer, monkeypatch, arguments={"cascade": "2x2", "cascade_noise": 0.0}
    )
    assert torch.equal(second.measurement, result[0])
    assert float(second.noise) == 0


def test_every_stage_and_sample_has_random_numbers_of_its_own(restorer, monkeypatch):
    seen = stages(restorer, monkeypatch, arguments={"cascade": "2x2"}, samples=2, seed=5)
    first, *later = (options for _, options, _ in seen)
    assert (first.seed, first.samples) == (5, 2)
    assert [options.samples for options in later] == [1, 1]
    assert len({options.seed for options in (first, *later)}) == 3


def test_the_seed_decides(restorer):
    def result(seed: int) -> Tensor:
        return restorer.sr(photograph(), 4, cascade=(2, 2), steps=2, seed=seed)

    assert torch.equal(result(1), result(1))
    assert not torch.equal(result(1), result(2))


def test_steps_are_counted_over_all_stages(restorer):
    steps = []
    result = restorer.run(
        SuperResolution(6, noise=0, cascade="auto"), photograph(), steps=3, callback=steps.append
    )
    assert [step.index for step in steps] == list(range(6))
    assert {step.steps for step in steps} == {6}
    assert [step.clean.shape[-1] for step in steps] == [3 * WIDTH] * 3 + [6 * WIDTH] * 3
    assert result.report.steps == 6


# --- pictures of every kind
# ---------------------------------------------------------------------------------


def test_samples_alpha_and_batches(restorer):
    image = piece((WIDTH, HEIGHT)).convert("RGBA")
    image.putalpha(100)
    drawn = restorer.sr(image, 4, cascade=(2, 2), steps=2, samples=2)
    assert isinstance(drawn, Samples)
    assert {sample.size for sample in drawn.samples} == {(4 * WIDTH, 4 * HEIGHT)}
    assert drawn.mean.getchannel("A").getextrema() == (100, 100)
    first, second = (np.asarray(sample).astype(int) for sample in drawn.samples)
    assert np.abs(first - second).max() > 2
    batch = torch.cat([photograph(), 1 - photograph()])
    enlarged = restorer.sr(batch, 4, cascade=(2, 2), steps=2, noise=[0.0, 0.02])
    assert enlarged.shape == (2, 3, 4 * HEIGHT, 4 * WIDTH)
    assert restorer.sr(piece((WIDTH, HEIGHT)).convert("L"), 4, cascade="auto", steps=2).mode == "L"


def test_the_command(command, picture):
    path = picture(size=(10, 8))
    outcome = command("sr", path, "--scale", 4, "--cascade", "2x2", "--steps", 2, "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert (record["cascade"], record["steps"]) == (
        {"factors": [2.0, 2.0], "noise": METHODS["ddrm"].stage_noise},
        4,
    )
    assert (record["width"], record["height"]) == (40, 32)
    assert "ddrm, cascade 2x2, 4 step(s)" in outcome.err
    assert Image.open(path.with_name("in-sr.png")).size == (40, 32)


def test_the_command_on_a_folder_with_a_file_of_options(command, picture, tmp_path):
    for name in ("a.png", "b.png"):
        picture(f"photos/{name}", size=(8, 6))
    options = tmp_path / "options.toml"
    options.write_text('steps = 2\n[sr]\nscale = 4\ncascade = "2,2"\ncascade_noise = 0.02\n')
    folder = tmp_path / "photos"
    page = tmp_path / "page.html"
    outcome = command("sr", folder, "--config", options, "--report", page)
    assert outcome.code == 0, outcome.err
    assert "<dt>cascade</dt><dd>2,2</dd>" in page.read_text().replace("\n", "")
    made = files(tmp_path / "photos-sr")
    assert set(made) == {"a.png", "b.png"}
    again = command("sr", folder, "--config", options)
    assert again.code == 6, "both are done"
    other = command("sr", folder, "--config", options, "--cascade-noise", "0.03")
    assert "2 restored with other options" in other.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cascade", "2x2x2"), "--cascade 2x2x2: enlarges by 8 in all, and --scale says 4"),
        (("--cascade", "no"), "--cascade no: must be factors above 1"),
        (("--cascade-noise", "0.1"), "give --cascade, too"),
    ],
)
def test_the_command_refuses(command, picture, options, message):
    outcome = command("sr", picture(), *options)
    assert outcome.code == 1
    assert message in outcome.err
