"""Developing of camera raws: the way to the network's values and back, noise, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.raws import MATRIX, X_TRANS, camera, light, raw_file

from operators import ColorFilterArray
from restore.errors import BadArgument
from restore.evaluate.settings import Settings
from restore.methods.options import Options
from restore.metrics.demosaicking import interpolated
from restore.metrics.signal_noise import SignalNoise
from restore.photo.profiles import profile
from restore.photo.raws import Raw
from restore.restorer import check, restorer
from restore.tasks import Developing, Solving
from restore.tasks.sensor import decoded, encoded, slope_of_encoded

SIDE = 48


def raw_of(counts: np.ndarray, own: Any) -> Raw:
    """What is read of the file of a camera."""
    return Raw(
        counts,
        own.pattern,
        np.full((len(own.pattern), len(own.pattern[0])), own.black, np.float32),
        own.white,
        own.gains,
        np.eye(3) if own.to_srgb is None else own.to_srgb,
        own.orientation,
        (own.noise,) * 3 if any(own.noise) else None,
    )


def developed(picture: np.ndarray, own: Any | None = None, **options: Any) -> np.ndarray:
    """A picture of linear sRGB [H, W, 3], photographed and classically developed."""
    own = own or camera()
    return Developing(**options).plain(raw_of(own.exposed(picture), own))


def flat(*color: float) -> np.ndarray:
    return np.broadcast_to(np.array(color), (24, 24, 3)).copy()


# --- values


def test_the_curve_is_that_of_srgb_and_has_an_inverse_and_a_slope() -> None:
    values = torch.tensor([-0.5, -1e-3, 0, 1e-3, 0.0031308, 0.2, 1.0], dtype=torch.float64)
    values.requires_grad_()
    shown = encoded(values)
    assert shown.tolist()[:2] == pytest.approx([-6.46, -0.01292])
    assert shown.tolist()[2:] == pytest.approx([0, 0.01292, 0.0404499, 0.4845292, 1], abs=1e-6)
    torch.testing.assert_close(decoded(shown), values)
    (slope,) = torch.autograd.grad(shown.sum(), values)
    torch.testing.assert_close(slope_of_encoded(values.detach()), slope)


@pytest.mark.parametrize("pattern", [("RG", "GB"), ("GB", "RG"), X_TRANS], ids=str)
def test_flat_colors_come_back(pattern: Any) -> None:
    color = (0.3, 0.2, 0.05)
    linear = developed(flat(*color), camera(pattern=pattern), space="linear")
    assert linear[12, 12] == pytest.approx(color, abs=3e-4)
    shown = developed(flat(*color), camera(pattern=pattern))
    assert shown[12, 12] == pytest.approx([0.58386, 0.48453, 0.24766], abs=1e-3)
    wide = developed(flat(*color), camera(pattern=pattern), space="display-p3")
    assert wide[12, 12] == pytest.approx([0.5678, 0.4882, 0.2830], abs=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_is_upright(orientation: int) -> None:
    lying = developed(light())
    upright = developed(light(), camera(orientation=orientation))
    image = Image.fromarray((lying * 255).astype(np.uint8))
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal((upright * 255).astype(np.uint8), expected)


def test_full_pixels_are_white_not_pink() -> None:
    own = camera()
    raw = raw_of(np.full((24, 24), own.white, np.uint16), own)
    assert Developing().plain(raw) == pytest.approx(np.ones((24, 24, 3)), abs=1e-5)
    darker = Developing(exposure=-1.0, space="linear").plain(raw)
    assert darker == pytest.approx(np.full((24, 24, 3), 0.5), abs=1e-5)


def test_exposure_is_in_stops() -> None:
    dark = developed(flat(0.1, 0.1, 0.1), space="linear")
    bright = developed(flat(0.1, 0.1, 0.1), space="linear", exposure=1.5)
    assert bright[12, 12] == pytest.approx(dark[12, 12] * 2**1.5, rel=1e-4)


def test_a_file_may_ask_for_more_light_but_not_for_less() -> None:
    own = camera()
    raw = raw_of(own.exposed(flat(0.1, 0.1, 0.1)), own)
    pictures = [
        Developing(space="linear", exposure=given).plain(replace(raw, exposure=asked))[12, 12, 1]
        for asked, given in ((0.0, 0.0), (1.0, 0.0), (1.0, -1.0), (-1.0, 0.0))
    ]
    assert pictures == pytest.approx([0.1, 0.2, 0.1, 0.1], rel=2e-3)
    (note,) = Developing().photo_of(replace(raw, exposure=1.0)).notes
    assert note == "it asks for an exposure of +1 stops, which it gets"


def test_white_balance_of_ones_own() -> None:
    own = camera(to_srgb=None)
    picture = developed(flat(0.2, 0.2, 0.2), own, space="linear", white_balance=(4.0, 2.0, 1.0))
    # of gains 2, 1, 1.6 the signal is 0.1, 0.2, 0.125; the smallest factor is 1
    assert picture[12, 12] == pytest.approx([0.4, 0.4, 0.125], abs=3e-4)


def test_the_noise_of_encoded_values_is_what_draws_show() -> None:
    own = camera(noise=(1e-4, 1e-6), gains=(2.0, 1.0, 1.6))
    picture = flat(0.3, 0.3, 0.3)
    task = Developing()
    draws = [task.opened(raw_of(own.exposed(picture, seed), own)).color for seed in range(60)]
    spread = torch.stack(draws).std(dim=0).square().mean().sqrt()
    found = _problem(task, raw_of(own.exposed(picture), own)).noise_map
    assert float(found.square().mean().sqrt()) == pytest.approx(float(spread), rel=0.05)


def test_noise_is_given_or_of_the_file_or_estimated() -> None:
    noise = SignalNoise(4e-4, 4e-6)
    own = camera(noise=(4e-4, 4e-6))
    smooth = cv2.resize(light(), (240, 160), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    raw = raw_of(own.exposed(smooth), own)
    of_file = _problem(Developing(), raw).noise
    assert torch.equal(_problem(Developing(noise=noise), raw).noise, of_file)
    estimated = _problem(Developing(), replace(raw, noise=None)).noise
    assert float(estimated) == pytest.approx(float(of_file), rel=0.25)
    without = _problem(Developing(noise=0.0), raw)
    assert (float(without.noise), without.noise_map) == (0, None)
    ten = _problem(Developing(noise=0.01), raw).noise
    assert float(_problem(Developing(noise=SignalNoise(0.0, 1e-4)), raw).noise) == pytest.approx(
        float(ten)
    )


def _problem(task: Developing, raw: Raw) -> Any:
    color, stated = task.of_visible(task.opened(raw))
    return stated.problem(color)


def test_states_the_mosaic_and_its_pattern() -> None:
    own = camera(pattern=("GB", "RG"))
    problem = _problem(Developing(), raw_of(own.exposed(light()), own))
    assert isinstance(problem.operator, ColorFilterArray)
    assert problem.operator.pattern == ("GB", "RG")
    assert (problem.written, problem.kind.name) == ("cfa:GB/RG", "demosaic")
    assert problem.measurement.shape == (1, 1, 32, 48)


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "auto:signal"}, "`noise`=auto:signal: must be"),
        ({"noise": [0.1, 0.2]}, "`noise`=.0.1, 0.2.: must be"),
        ({"noise": 1.5}, "`noise`=1.5: must be"),
        ({"noise": "much"}, "`noise`=much: must be"),
        ({"exposure": 11.0}, "`exposure`=11: must be between -10 and 10 stops"),
        ({"exposure": float("nan")}, "`exposure`=nan"),
        ({"space": "cmyk"}, "`space`=cmyk: must be srgb, display-p3, linear"),
        ({"white_balance": (1.0, 0.0, 1.0)}, "`white_balance`=1,0,1: must be camera, or"),
        ({"white_balance": (1.0, 1.0)}, "`white_balance`=1,1: must be camera, or"),
        ({"white_balance": "sunny"}, "`white_balance`=sunny: must be camera, or"),
    ],
)
def test_refuses_options(options: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        check(Developing(**options), Options())


def test_refuses_pictures_starts_and_evaluation() -> None:
    with pytest.raises(BadArgument, match="develop takes a camera raw"):
        Developing().opened(np.zeros((8, 8, 3)))
    with pytest.raises(BadArgument, match="`start`: is for pictures"):
        check(Developing(), Options(start=np.zeros((8, 8, 3))))
    with pytest.raises(BadArgument, match="evaluate solve with the operator bayer"):
        Settings("develop").completed()


# --- the whole way


def test_restores_better_than_interpolation_and_ends_on_the_measurement() -> None:
    own = camera(gains=(1.0, 1.0, 1.0), to_srgb=None, black=0, white=65535)
    raw = raw_of(own.exposed(light((SIDE, SIDE))), own)
    truth = encoded(torch.from_numpy(light((SIDE, SIDE)))).numpy()
    result = restorer().run(Developing(noise=0.0), raw)
    operator = ColorFilterArray((3, SIDE, SIDE), raw.pattern)
    bilinear = interpolated(Developing().opened(raw).color, operator)
    plain = bilinear[0].permute(1, 2, 0).numpy()
    errors = [np.abs(one - truth)[4:-4, 4:-4] for one in (result.mean, plain)]
    assert np.square(errors[0]).mean() < 0.5 * np.square(errors[1]).mean()
    assert result.report.method == "dpir"
    assert result.report.consistency < 1e-4


def test_samples_have_a_mean_and_a_spread() -> None:
    own = camera()
    raw = raw_of(own.exposed(light()), own)
    result = restorer().run(Developing(noise=0.02), raw, steps=2, samples=2)
    assert result.std.shape == result.mean.shape == (32, 48, 3)
    spread = np.stack(result.samples).std(axis=0, ddof=1)
    assert result.std == pytest.approx(spread, abs=1e-6)


def test_the_command_develops_a_folder(command, tmp_path: Path) -> None:
    raw_file(tmp_path / "in" / "a.dng", orientation=6, noise=(1e-4, 1e-6))
    raw_file(tmp_path / "in" / "b.DNG", pattern=X_TRANS)
    data = (tmp_path / "in" / "a.dng").read_bytes()
    (tmp_path / "in" / "cut.dng").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "c.jpg")
    words = ("--steps", 2, "--space", "display-p3", "--json", "-q")
    outcome = command("develop", tmp_path / "in", tmp_path / "out", *words)

    assert outcome.code == 10, outcome.err
    assert "cut.dng: the file ends before its picture does" in outcome.err + outcome.out
    records = [json.loads(line) for line in outcome.out.splitlines()]
    done = {Path(one["input"]).name: one for one in records if one["status"] != "failed"}
    assert done.keys() == {"a.dng", "b.DNG"}
    assert (done["a.dng"]["width"], done["a.dng"]["height"]) == (32, 48)
    assert done["b.DNG"]["operator"] == "cfa:" + "/".join(X_TRANS)

    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (32, 48)
        assert image.info["icc_profile"] == profile("display-p3")
        assert image.getexif()[271] == "Example"
        assert image.getexif().get(274, 1) == 1
    stored = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16


def test_the_command_writes_linear_tiff(command, tmp_path: Path) -> None:
    raw_file(tmp_path / "a.dng", tag_50728=None)
    target = tmp_path / "a.tif"
    words = ("--space", "linear", "--steps", 2, "--noise", "1e-4:1e-6", "--compare", "--json")
    outcome = command("develop", tmp_path / "a.dng", target, *words)
    assert outcome.code == 0, outcome.err
    (record,) = (json.loads(line) for line in outcome.out.splitlines())
    assert "no white balance" in record["notes"][0]
    assert (tmp_path / "a.compare.png").exists()
    with Image.open(target) as image:
        assert image.info["icc_profile"] == profile("linear")


@pytest.mark.parametrize("task", ["sr", "denoise"])
def test_other_commands_say_that_it_is_a_raw(command, tmp_path: Path, task: str) -> None:
    outcome = command(task, raw_file(tmp_path / "a.dng"), tmp_path / "b.png")
    assert outcome.code == 2
    assert "a camera's raw file (DNG), which is not read" in outcome.err
    assert "restore develop" in outcome.err


def test_solve_takes_the_settings_of_mosaics() -> None:
    assert MATRIX.sum(axis=1) == pytest.approx([1, 1, 1])
    mosaic = np.zeros((16, 16), np.float32)
    assert restorer().run(Solving("xtrans"), mosaic, steps=2).report.method == "dpir"
