"""`restore degrade`, `solve` and `operators` on files, and masks and kernels of other tasks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from support.pictures import files, piece

import operators
import restore
import restore.jobs.staging
from operators import kernels
from operators.vocabulary import WORDS
from restore.diffusion.stepping import gaussian_noise
from restore.errors import BadArgument
from restore.jobs.measurement import Measurement, encoded, read_measurement

pytestmark = pytest.mark.usefixtures("light_network")

STEPS = ["--steps", 2]
FEW = ["--steps", 8]  # where the picture must come near to the truth
SIZE = (48, 40)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Change to a folder with pictures."""
    monkeypatch.chdir(tmp_path)
    piece(SIZE).save("in.png")
    piece(SIZE, "b").convert("L").save("grey.png")
    np.save("k.npy", kernels.motion(5, 20))
    Image.fromarray((np.eye(SIZE[1], SIZE[0]) * 255).astype(np.uint8)).save("m.png")
    return tmp_path


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


# --- degrade
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "blur:gaussian:1.5",
        "blur:motion:7:30:boundary=unknown",
        "down:bicubic:2",
        "blur:disk:2+down:area:2+gray",
        "mask:m.png",
        "bayer",
        "jpeg:20",
    ],
)
def test_degrades_by_the_operator(command, place, text):
    outcome = command("degrade", "in.png", "out.png", "--operator", text)
    assert outcome.code == 0, outcome.err
    operator = operators.parse(text).operator((3, SIZE[1], SIZE[0]))
    expected = operator.A(torch.from_numpy(pixels("in.png") / 255).float().permute(2, 0, 1)[None])[
        0
    ]
    measurement = read_measurement(Path("out.npz"))
    torch.testing.assert_close(measurement.values, expected, rtol=0, atol=1e-6)
    assert operators.parse(measurement.operator) == operators.parse(text).in_folder(place)
    assert (measurement.noise, measurement.size) == (0.0, SIZE)
    shown = np.atleast_3d(pixels("out.png"))
    np.testing.assert_allclose(
        shown, expected.clamp(0, 1).permute(1, 2, 0).numpy() * 255, atol=0.51
    )


def test_the_noise_is_white_and_comes_from_the_seed(command, place):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert (
            command(
                "degrade",
                "in.png",
                f"{name}.png",
                "--operator",
                "identity",
                "--noise",
                0.1,
                "--seed",
                seed,
            ).code
            == 0
        )
    a, b, c = (read_measurement(Path(f"{name}.npz")).values for name in "abc")
    assert torch.equal(a, b)
    clean = torch.from_numpy(pixels("in.png") / 255).permute(2, 0, 1)
    for noisy in (a, c):
        noise = (noisy - clean).double()
        assert abs(float(noise.std()) - 0.1) < 0.005
        assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.001
    assert abs(float(((a - clean) * (c - clean)).mean())) < 0.001


def test_noise_comes_before_what_is_not_linear(command, place):
    """Quantisation comes after the noise, as in a camera."""
    assert (
        command(
            "degrade", "in.png", "out.png", "--operator", "blur:box:3+quantise:2", "--noise", 0.1
        ).code
        == 0
    )
    values = read_measurement(Path("out.npz")).values
    assert len(values.unique()) == 4


def test_a_measurement_that_is_no_picture_is_shown_by_its_inverse(command, place):
    assert command("degrade", "in.png", "out.png", "--operator", "hadamard:1").code == 0
    assert np.abs(pixels("out.png") - pixels("in.png")).max() <= 1
    assert read_measurement(Path("out.npz")).values.shape == (3, 1, SIZE[0] * SIZE[1])


def test_degrades_a_folder_with_noise_of_its_own_for_each(command, place):
    (place / "photos/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        piece(SIZE).save(place / "photos" / name)
    options = ["--operator", "identity", "--noise", 0.1]
    outcome = command("degrade", "photos", "out", *options, "--json")
    assert outcome.code == 0
    assert sorted(files(place / "out")) == ["a.npz", "a.png", "sub/b.npz", "sub/b.png"]
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [r["status"] for r in records] == ["done", "done"]
    assert records[0]["operator"] == "identity"
    a, b = (read_measurement(place / "out" / name).values for name in ("a.npz", "sub/b.npz"))
    assert not torch.equal(a, b)
    assert command("degrade", "photos", "out", *options).code == 6  # all done


def test_keeps_what_a_file_says(command, place):
    """16 bits, grey and alpha are kept."""
    Image.fromarray(
        (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]) * 30).astype(np.uint16)
    ).save("deep.png")
    piece(SIZE).convert("RGBA").save("alpha.png")
    for name in ("deep", "grey", "alpha"):
        assert (
            command("degrade", f"{name}.png", f"{name}-out.png", "--operator", "blur:box:3").code
            == 0
        )
    assert Image.open("deep-out.png").mode.startswith("I;16")
    assert Image.open("grey-out.png").mode == "L"
    assert Image.open("alpha-out.png").mode == "RGBA"
    assert read_measurement(Path("deep-out.npz")).bits == 16


def test_nothing_is_half_written(command, place, monkeypatch):
    """Picture and measurement are written together, and not overwritten by default."""
    assert command("degrade", "in.png", "out.png", "--operator", "identity").code == 0
    before = files(place)
    assert command("degrade", "in.png", "out.png", "--operator", "blur:box:3").code == 5
    Path("out.png").rename("elsewhere.png")
    assert command("degrade", "in.png", "out.png", "--operator", "blur:box:3").code == 5
    Path("elsewhere.png").rename("out.png")
    assert files(place) == before

    real = restore.jobs.staging.put_in_place

    def fails_on_the_picture(temporary, path, replace):
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")
        real(temporary, path, replace=replace)

    monkeypatch.setattr(restore.jobs.staging, "put_in_place", fails_on_the_picture)
    assert command("degrade", "in.png", "new.png", "--operator", "blur:box:3").code == 5
    assert files(place) == before


# --- solve
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in WORDS if name not in ("blur:file",)])
def test_solves_every_word(command, place, name):
    text = {
        "mask:file": "mask:m.png",
        "ddrm-reference:sr_bicubic": "ddrm-reference:sr_bicubic:2",
    }.get(name, WORDS[name].example)
    text = text.replace("box:32", "box:16")
    assert command("degrade", "in.png", "out.png", "--operator", text, "-q").code == 0
    outcome = command(
        "solve", "out.npz", "again.png", *([] if name == "identity" else STEPS), "--json"
    )
    assert outcome.code == 0, outcome.err
    assert Image.open("again.png").size == SIZE
    assert json.loads(outcome.out)["consistency"] < 0.15


@pytest.mark.parametrize(
    ("text", "noise", "gain", "side", "crop"),
    [
        ("blur:gaussian:1.6", 0.01, 1.2, 64, "a"),
        ("blur:motion:9:30:boundary=unknown", 0.01, 3, 64, "b"),
        ("blur:motion:9:30:boundary=replicate", 0.01, 3, 64, "a"),
        ("blur:gaussian:1+mask:random:0.8", 0.01, 10, 64, "b"),
        ("bayer", 0.0, 10, 96, "a"),
        ("hadamard:0.5", 0.02, 8, 64, "b"),
        ("blocks:0.5", 0.02, 8, 64, "a"),
        ("mask:lines:2", 0.0, 10, 64, "b"),
        ("blur:gaussian:1+down:bicubic:2", 0.01, 0.5, 64, "b"),
        ("quantise:3", 0.0, 1, 64, "a"),
    ],
)
@pytest.mark.shipped_network
def test_restores_well(command, place, text, noise, gain, side, crop):
    """The gain in dB is over the picture of `restore degrade`, enlarged if it is smaller."""
    piece((side, side), crop).save("truth.png")
    assert (
        command("degrade", "truth.png", "bad.png", "--operator", text, "--noise", noise).code == 0
    )
    assert command("solve", "bad.npz", "good.png").code == 0
    truth, good, bad = (pixels(f"{name}.png") for name in ("truth", "good", "bad"))
    if good.shape != truth.shape:  # the inside of the canvas
        rows, columns = (np.array(truth.shape) - good.shape)[:2] // 2
        truth = truth[rows : rows + good.shape[0], columns : columns + good.shape[1]]
    if bad.shape != good.shape:
        bad = np.asarray(
            Image.open("bad.png").convert("RGB").resize((side, side), Image.BICUBIC)
        ).astype(float)
    assert psnr(good, truth) > psnr(bad, truth) + gain


@pytest.mark.shipped_network
def test_a_picture_and_its_numbers_give_nearly_the_same(command, place):
    """Picture and measurement differ by the quantisation to 8 bits only."""
    text = "blur:motion:7:30:boundary=unknown"
    command("degrade", "in.png", "out.png", "--operator", text, "--noise", 0.02)
    outcome = command("solve", "out.npz", "a.png", "--json", *FEW)
    assert json.loads(outcome.out)["operator"] == text
    options = ["--operator", text, "--noise", 0.02]
    assert command("solve", "out.png", "b.png", *options, *FEW).code == 0
    options = ["--kernel", "motion:7.0:30", "--noise", 0.02, "--json"]
    outcome = command("deblur", "out.png", "c.png", *options, *FEW)
    assert json.loads(outcome.out)["operator"] == text
    assert psnr(pixels("a.png"), pixels("b.png")) > 38
    assert np.array_equal(pixels("b.png"), pixels("c.png"))


def test_mentions_a_border_that_photographs_have_not(command, place):
    told = command("solve", "in.png", "a.png", "--operator", "blur:box:3", *STEPS)
    assert "boundary=unknown suits a photograph" in told.err
    before = pixels("a.png")
    for options in (
        ["--operator", "blur:box:3:boundary=symmetric"],
        ["--operator", "blur:box:3", "-q"],
    ):
        told = command("solve", "in.png", "a.png", "--overwrite", *options, *STEPS)
        assert told.code == 0
        assert "boundary" not in told.err
        assert np.array_equal(pixels("a.png"), before)


def test_samples(command, place):
    command(
        "degrade", "in.png", "out.png", "--operator", "blur:box:5+mask:random:0.5", "--noise", 0.05
    )
    outcome = command("solve", "out.npz", "s.png", "--samples", 3, *STEPS)
    assert outcome.code == 0
    one = pixels("s.sample1.png")
    two = pixels("s.sample2.png")
    assert not np.array_equal(one, two)
    assert pixels("s.std.png").mean() > 0


def test_a_folder_takes_the_numbers_where_there_are_any(command, place):
    (place / "photos").mkdir()
    piece(SIZE).save("photos/a.png")
    piece(SIZE, "b").save("photos/b.png")
    text = "blur:box:3"
    command("degrade", "photos", "bad", "--operator", text, "--noise", 0.01)
    (place / "bad/b.npz").unlink()
    outcome = command("solve", "bad", "good", "--operator", text, *STEPS, "--json")
    assert outcome.code == 0
    assert sorted(files(place / "good")) == ["a.png", "b.png"]
    inputs = [json.loads(line)["input"] for line in outcome.out.splitlines()]
    assert inputs == ["bad/a.npz", "bad/b.png"]


def test_known_pixels_come_through_untouched(command, place):
    assert command("solve", "in.png", "out.png", "--operator", "mask:m.png", *STEPS).code == 0
    white = pixels("m.png") > 127
    assert np.array_equal(pixels("out.png")[~white], pixels("in.png")[~white])
    assert not np.array_equal(pixels("out.png")[white], pixels("in.png")[white])


@pytest.mark.shipped_network
def test_own_operators_in_python():
    """Operators with A alone, with their own batch, or as text, and a grey picture."""
    truth = torch.from_numpy(np.asarray(piece(SIZE)) / 255).float().permute(2, 0, 1)
    own = operators.FunctionOperator(lambda x: 0.5 * (x + x.roll(3, -1)), tuple(truth.shape))
    solved = restore.solve(own.A(truth[None]), own, noise=0.01, steps=4)
    assert solved.shape == (1, *truth.shape)
    assert float((own.A(solved) - own.A(truth[None])).square().mean().sqrt()) < 0.02
    both = operators.batch_of(
        [operators.convolution(tuple(truth.shape), kernels.motion(5, a), "zero") for a in (0, 90)]
    )
    y = both.A(truth.expand(2, -1, -1, -1))
    assert restore.solve(y, both, noise=[0.01, 0.02], steps=2).shape == (2, *truth.shape)
    assert restore.solve(y[0], "blur:motion:5:0", noise=0.01, steps=2).shape == truth.shape
    grey = np.asarray(piece(SIZE).convert("L"))
    assert restore.solve(grey, "blur:box:3", noise=0.01, steps=2).shape == grey.shape
    assert restore.solve(grey, "gray", steps=2).shape == (*grey.shape, 3)


def test_degrade_in_python():
    image = piece(SIZE)
    degraded = restore.degrade(image, "blur:gaussian:1+down:bicubic:2", noise=0.01, seed=3)
    assert degraded.measurement.shape == (1, 3, SIZE[1] // 2, SIZE[0] // 2)
    assert degraded.picture.size == (SIZE[0] // 2, SIZE[1] // 2)
    again = restore.degrade(
        image, operators.parse("blur:gaussian:1+down:bicubic:2"), noise=0.01, seed=3
    )
    assert torch.equal(again.measurement, degraded.measurement)
    restored = restore.solve(
        degraded.measurement[0], "blur:gaussian:1+down:bicubic:2", noise=0.01, steps=2
    )
    assert restored.shape == (3, SIZE[1], SIZE[0])


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.shipped_network
def test_a_picture_and_its_restoration_of_one_seed_have_no_noise_in_common(monkeypatch, seed):
    """The noise must be independent of the random numbers of the solver."""
    drawn = []
    diffpir = sys.modules["restore.solvers.diffpir"]

    def watched(*arguments):
        drawn.append(gaussian_noise(*arguments))
        return drawn[-1]

    monkeypatch.setattr(diffpir, "gaussian_noise", watched)
    grey = torch.full((1, 3, 64, 64), 0.5)
    degraded = restore.degrade(grey, "identity", noise=0.1, seed=seed).measurement
    restore.solve(degraded, "identity", noise=0.1, method="diffpir", steps=3, seed=seed)
    assert len(drawn) == 3
    for noise in drawn:
        both = torch.stack([(degraded - grey).flatten(), noise.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.03  # 3.3 standard deviations


def test_a_seed_of_degrade_below_zero():
    with pytest.raises(BadArgument, match="`seed`=-1: must be 0 or more"):
        restore.degrade(piece(SIZE), "identity", noise=0.1, seed=-1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize(
    "text", ["gray", "bayer", "blur:box:3", "down:area:2", "hadamard:0.5", "mix:1,0,0/0,1,0"]
)
def test_every_kind_of_picture_is_degraded(mode, text):
    image = piece(SIZE).convert(mode)
    for picture in (
        image,
        np.asarray(image),
        torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1),
    ):
        shown = restore.degrade(picture, text).picture
        assert type(shown) is (Image.Image if isinstance(picture, Image.Image) else type(picture))
        if isinstance(shown, Image.Image):
            assert ("A" in shown.mode) == ("A" in mode)


@pytest.mark.parametrize("method", ["diffpir", "ddrm", "sr3", "one-step"])
@pytest.mark.parametrize("text", ["blur:gaussian:1", "down:bicubic:2", "mask:m.png", "identity"])
@pytest.mark.shipped_network
def test_every_method_takes_what_resembles_a_task(command, place, text, method):
    options = [] if method == "one-step" else STEPS
    outcome = command(
        "solve",
        "in.png",
        "out.png",
        "--operator",
        text,
        "--method",
        method,
        "--noise",
        0.02,
        *options,
    )
    assert outcome.code == 0, outcome.err

    result = pixels("out.png")
    given = pixels("in.png")
    factor = 2 if text.startswith("down") else 1
    assert result.shape == (SIZE[1] * factor, SIZE[0] * factor, 3)
    operator = operators.parse(text).operator((3, *result.shape[:2]))
    x = torch.from_numpy(result / 255).float().permute(2, 0, 1)[None]
    y = torch.from_numpy(given / 255).float().permute(2, 0, 1)[None]
    if text.startswith("mask"):
        y = operator.A(y)
    assert float((operator.A(x) - y).square().mean().sqrt()) < 0.5 * float(y.std())


# --- what other tasks gained
# --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "boundary"),
    [
        ("gaussian:2:0.7:30", "unknown"),
        ("gaussian:2:0.7:30", "symmetric"),
        ("motion:7:30", "zero"),
        ("disk:2.5", "symmetric"),
        ("shake:9:seed=1", "unknown"),
        ("box:4x2", "zero"),
        ("box:4x2", "symmetric"),
        ("file:k.npy", "unknown"),
        ("gaussian:1", "zero"),
        ("gaussian:1", "symmetric"),
    ],
)
def test_deblurs_every_kernel(command, place, kernel, boundary):
    options = ["--kernel", kernel, "--boundary", boundary, "--noise", 0.01, *STEPS]
    outcome = command("deblur", "in.png", "out.png", *options)
    assert outcome.code == 0, outcome.err
    assert Image.open("out.png").size == SIZE


@pytest.mark.shipped_network
def test_an_unknown_border_is_not_a_mirror(command, place):
    """With real surroundings, an unknown border beats a mirrored one near the border."""
    large = np.asarray(piece((128, 64), "b")).astype(float)
    kernel = kernels.motion(11, 0)
    blurred = np.stack(
        [scipy.ndimage.convolve(large[..., c], kernel, mode="mirror") for c in range(3)], axis=-1
    )
    inside = blurred[:, 5:-5] + 2.55 * np.random.default_rng(0).standard_normal(
        blurred[:, 5:-5].shape
    )
    Image.fromarray(inside.round().clip(0, 255).astype(np.uint8)).save("photo.png")
    errors = {}
    for boundary in ("unknown", "symmetric", "circular"):
        options = ["--kernel", "motion:11", "--noise", 0.01, "--boundary", boundary, *FEW]
        assert command("deblur", "photo.png", f"{boundary}.png", *options).code == 0
        difference = (pixels(f"{boundary}.png") - large[:, 5:-5]) ** 2
        errors[boundary] = difference[:, :24].mean(), difference[:, 24:-24].mean()
    rim, middle = errors["unknown"]
    assert 10 * np.log10(rim / middle) < 1
    assert errors["circular"][0] > 4 * rim
    assert errors["symmetric"][0] > 1.2 * rim


def test_a_kernel_as_an_array():
    image = np.asarray(piece(SIZE))
    by_array = restore.deblur(image, kernels.motion(5, 20), noise=0.01, steps=2)
    assert np.array_equal(by_array, restore.deblur(image, "motion:5:20", noise=0.01, steps=2))


@pytest.mark.shipped_network
def test_threshold_dilation_and_feathering_of_a_mask(command, place):
    shade = np.zeros(SIZE[::-1], np.uint8)
    shade[10:20, 10:20], shade[25:30, 25:40] = 255, 100
    Image.fromarray(shade).save("shade.png")
    before = pixels("in.png")

    def filled(*options: object) -> np.ndarray:
        outcome = command(
            "inpaint", "in.png", "out.png", "--mask", "shade.png", "--overwrite", *STEPS, *options
        )
        assert outcome.code == 0, outcome.err
        return (pixels("out.png") != before).any(axis=2)

    assert not filled()[25:30, 25:40].any()
    assert filled("--threshold", 0.3)[25:30, 25:40].mean() > 0.9
    grown = filled("--dilate", 3)
    near = scipy.ndimage.distance_transform_edt(shade < 255) <= 3
    assert not grown[~near].any()
    assert grown[near].mean() > 0.9
    command("inpaint", "in.png", "out.png", "--mask", "shade.png", "--overwrite", *STEPS)
    sharp = np.abs(pixels("out.png") - before).mean(axis=2)
    command(
        "inpaint", "in.png", "out.png", "--mask", "shade.png", "--overwrite", *STEPS, "--feather", 4
    )
    soft = np.abs(pixels("out.png") - before).mean(axis=2)
    assert np.array_equal(soft > 0, (soft > 0) & (shade > 127))
    rim = (shade == 255) & (scipy.ndimage.distance_transform_edt(shade == 255) <= 1)
    assert soft[rim].mean() < 0.5 * sharp[rim].mean()


def test_the_listing(command):
    outcome = command("operators")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    for word in WORDS.values():
        assert (
            sum(
                line.startswith((f"{word.name}:", f"{word.name}[", f"{word.name} "))
                for line in lines
            )
            == 1
        )
    assert "pixels" in next(line for line in lines if line.startswith("blur:motion"))
    detailed = command("operators", "blur:motion")
    assert "degrees" in detailed.out
    assert "default symmetric" in detailed.out


# --- bad input
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("degrade in.png out.png", 1, ["--operator"]),
        (
            "degrade in.png out.png --operator blur:gausian:2",
            1,
            ["--operator", "did you mean 'gaussian'"],
        ),
        (
            "degrade in.png out.png --operator blur:box:999",
            1,
            ["--operator", "larger than the picture of 48x40"],
        ),
        ("degrade in.png out.png --operator mask:nosuch.png", 5, ["nosuch.png", "cannot be read"]),
        ("degrade in.png out.png --operator gray --noise -1", 1, ["--noise -1", "between 0 and 1"]),
        (
            "degrade in.png out.png --operator gray --noise nan",
            1,
            ["--noise nan", "between 0 and 1"],
        ),
        ("degrade in.png out.txt --operator gray", 1, ["out.txt", "suffix"]),
        ("degrade nosuch.png --operator gray", 5, ["nosuch.png"]),
        ("degrade in.png in.png --operator gray --overwrite", 5, ["in.png", "is an input"]),
        ("solve in.png", 1, ["--operator is missing"]),
        ("solve nosuch.npz", 5, ["nosuch.npz"]),
        ("solve in.png --operator down:bicubic", 1, ["factor is missing"]),
        ("solve in.png --operator gray", 1, ["one channel", "in colour"]),
        ("solve in.png --operator hadamard:0.5", 1, ["--size WIDTHxHEIGHT"]),
        ("solve in.png --operator hadamard:0.5 --size 48x40", 1, ["shape 3x40x48", "3x1x960"]),
        ("solve in.png --operator gray --size 0x4", 1, ["--size 0x4", "WIDTHxHEIGHT"]),
        ("solve in.png --operator gray --size big", 1, ["--size big", "WIDTHxHEIGHT"]),
        ("solve in.png --operator mix:1,0,0/0,1,0", 1, ["2 channel(s)", "has 3"]),
        ("solve in.png --operator mask:small.png", 1, ["4x3", "48x40"]),
        (
            "solve in.png --operator blur:box:3+mask:random:0.5 --method ddrm",
            1,
            ["no", "SVD", "diffpir"],
        ),
        (
            "solve in.png --operator blur:motion:5:30 --method ddrm",
            1,
            ["SVD", "diffpir", "sr3", "one-step"],
        ),
        ("solve in.png --operator jpeg:20 --method sr3", 1, ["--method sr3", "diffpir"]),
        ("solve in.png --operator blur:box:3 --noise x", 1, ["--noise x", "between 0 and 1"]),
        (
            "deblur in.png --kernel motion:5:30 --boundary mirror --method ddrm",
            1,
            ["SVD", "diffpir", "--boundary"],
        ),
        ("deblur in.png --kernel file:nosuch.npy", 5, ["nosuch.npy"]),
        ("deblur in.png --kernel file:zero.npy", 1, ["zero.npy", "all zero"]),
        ("deblur in.png --kernel file:negative.npy", 1, ["positive sum"]),
        ("deblur in.png --kernel file:nan.npy", 1, ["finite"]),
        ("deblur in.png --kernel file:large.npy", 1, ["larger than the picture"]),
        ("deblur in.png --kernel file:color.png", 1, ["color.png", "one channel", "differ"]),
        ("inpaint in.png --mask m.png --threshold 1", 1, ["--threshold 1", "below 1"]),
        ("inpaint in.png --mask m.png --dilate -1", 1, ["--dilate -1", "between 0"]),
        ("inpaint in.png --mask m.png --dilate 99", 1, ["--dilate", "leaves no pixel"]),
        ("inpaint in.png --mask m.png --feather nan", 1, ["--feather nan", "between 0"]),
        ("operators nosuch", 1, ["nosuch", "blur:gaussian"]),
    ],
)
def test_refuses(command, place, words, code, said):
    np.save("zero.npy", np.zeros((3, 3)))
    np.save("negative.npy", -np.ones((3, 3)))
    np.save("nan.npy", np.array([[1.0, np.nan]]))
    np.save("large.npy", np.ones((3, 300)))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 3, 3), np.uint8)).save(
        "color.png"
    )
    Image.fromarray(np.eye(3, 4, dtype=np.uint8) * 255).save("small.png")
    before = files(place)
    outcome = command(*words.split())
    assert outcome.code == code, outcome.err
    for text in said:
        assert text in outcome.err, f"{text!r} is not said: {outcome.err}"
    assert outcome.err.startswith("restore: ")
    assert "Traceback" not in outcome.err
    assert files(place) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        b"PK\x03\x04 cut",
        "objects",
        "text",
        "five",
        "empty",
        "nan",
        "nothing",
        "pickled",
    ],
    ids=str,
)
def test_refuses_a_file_that_is_no_measurement(command, place, content):
    if isinstance(content, bytes):
        Path("x.npz").write_bytes(content)
    else:
        arrays = {
            "objects": {"measurement": np.array([{}], dtype=object)},
            "text": {"measurement": np.array("picture")},
            "five": {"measurement": np.zeros((1, 1, 3, 4, 4))},
            "empty": {"measurement": np.zeros((3, 0, 4))},
            "nan": {"measurement": np.full((3, 4, 4), np.nan)},
            "nothing": {"other": np.zeros((3, 4, 4))},
            "pickled": {"measurement": np.zeros((3, 4, 4)), "size": np.array([None, 4])},
        }
        np.savez("x.npz", **arrays[content])
    outcome = command("solve", "x.npz", "--operator", "blur:box:3")
    assert outcome.code == 2, outcome.err
    assert "x.npz" in outcome.err
    assert "not a measurement" in outcome.err


def test_a_plain_array_is_a_measurement(command, place):
    picture = np.asarray(piece(SIZE)).astype(np.float32) / 255
    np.save("y.npy", picture.transpose(2, 0, 1))
    assert (
        command(
            "solve", "y.npy", "out.png", "--operator", "blur:box:3", "--noise", 0.01, *STEPS
        ).code
        == 0
    )
    assert Image.open("out.png").size == SIZE
    assert command("solve", "y.npy", "out2.png").code == 1


def test_a_measurement_comes_back_from_its_file(tmp_path):
    for measurement in (
        Measurement(torch.randn(3, 4, 5), "blur:gaussian:2", 0.01, (7, 9), 16),
        Measurement(torch.randn(1, 1, 30), "hadamard:0.5", 0.0, (6, 5)),
        Measurement(torch.randn(3, 4, 5)),
    ):
        path = tmp_path / f"{measurement.bits}.npz"
        path.write_bytes(encoded(measurement))
        again = read_measurement(path)
        assert torch.equal(again.values, measurement.values)
        assert (again.operator, again.noise, again.size, again.bits) == (
            measurement.operator,
            measurement.noise,
            measurement.size,
            measurement.bits,
        )


def test_python_refuses_measurements_that_do_not_fit():
    y = torch.rand(1, 3, 8, 9)
    with pytest.raises(BadArgument, match=r"3x8x9.*3x8x8"):
        restore.solve(y, operators.gaussian_blur((3, 8, 8), 1.0))
    with pytest.raises(BadArgument, match="channels"):
        restore.solve(y[:, :1], operators.gaussian_blur((1, 8, 9), 1.0))
    with pytest.raises(BadArgument, match="not finite"):
        restore.solve(y * torch.nan, "blur:box:3")
    with pytest.raises(BadArgument, match="estimated in whole pictures"):
        restore.solve(torch.rand(1, 3, 1, 36), "hadamard:0.5", noise="auto", size=(9, 8))
    with pytest.raises(BadArgument, match="takes pictures of"):
        restore.degrade(np.zeros((8, 8, 3)), operators.gaussian_blur((3, 8, 9), 1.0))


# --- what a review found
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gain", "steps"),
    [
        ("blur:gaussian:1+jpeg:80", 0, FEW),
        ("blur:gaussian:2+quantise:4", 0, FEW),
        ("blur:motion:9:30:boundary=unknown+jpeg:75", 1, FEW),
        ("mask:box:24+jpeg:80", 0.5, FEW),
        ("mask:random:0.5+jpeg:80", 10, []),
        ("down:bicubic:2+jpeg:90", -1, FEW),
    ],
)
@pytest.mark.shipped_network
def test_what_is_not_linear_may_come_last(command, place, text, gain, steps):
    """The error of quantisation counts as noise of the linear part before it."""
    piece((64, 64), "b").save("truth.png")
    assert (
        command("degrade", "truth.png", "bad.png", "--operator", text, "--noise", 0.005).code == 0
    )
    assert command("solve", "bad.npz", "good.png", *steps).code == 0
    truth = pixels("truth.png")
    good = pixels("good.png")
    bad = np.asarray(Image.open("bad.png").resize(good.shape[1::-1], Image.BICUBIC)).astype(float)
    rows, columns = (np.array(truth.shape) - good.shape)[:2] // 2
    truth = truth[rows : rows + good.shape[0], columns : columns + good.shape[1]]
    assert psnr(good, truth) > psnr(bad, truth) + gain


def test_a_measurement_of_16_bits(command, place):
    deep = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]) * 30).astype(np.uint16)
    Image.fromarray(deep).save("deep.png")
    assert (
        command("degrade", "deep.png", "out.png", "--operator", "blur:disk:2", "--noise", 0.01).code
        == 0
    )
    assert command("solve", "out.npz", "again.png", *STEPS, "--samples", 2).code == 0
    assert cv2.imread("again.png", cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_two_pictures_of_one_name(command, place):
    (place / "photos").mkdir()
    piece(SIZE).save("photos/a.png")
    piece(SIZE).save("photos/a.jpg")
    outcome = command("degrade", "photos", "out", "--operator", "blur:box:3", "--overwrite")
    assert outcome.code == 1
    assert "a.jpg and photos/a.png would both be written to out/a.npz" in outcome.err
    assert not (place / "out").exists()


def test_a_failed_replacement_keeps_the_old_measurement(command, place):
    assert command("degrade", "in.png", "x.jpg", "--operator", "blur:box:3").code == 0
    before = files(place)
    clear = piece(SIZE).convert("RGBA")
    clear.putalpha(100)
    clear.save("alpha.png")
    assert (
        command("degrade", "alpha.png", "x.jpg", "--operator", "identity", "--overwrite").code == 1
    )
    assert files(place) == before | {"alpha.png": Path("alpha.png").read_bytes()}


def test_colours_mixed_under_a_mask_keep_their_svd(command, place):
    shape = (3, SIZE[1], SIZE[0])
    for text in (
        "gray+mask:m.png",
        "mask:m.png+gray",
        "mix:1,0,0/0,1,0+mask:m.png",
        "bayer+mask:m.png",
    ):
        operator = operators.parse(text).operator(shape)
        assert operator.has_svd, text
        parts = text.split("+")
        first = operators.parse(parts[0]).operator(shape)
        second = operators.parse(parts[1]).operator(first.output_shape)
        x = torch.rand(2, *shape)
        torch.testing.assert_close(operator.A(x), second.A(first.A(x)))
    Image.open("in.png").convert("L").save("grey.png")
    assert command("degrade", "grey.png", "bad.png", "--operator", "gray+mask:box:16").code == 0
    assert command("solve", "bad.npz", "good.png").code == 0
    assert command("solve", "bad.npz", "ddrm.png", "--method", "ddrm", *STEPS).code == 0
    assert np.ptp(pixels("good.png"), axis=2).mean() < 30


def test_results_are_ordinary_tensors():
    image = torch.rand(3, 24, 24)
    degraded = restore.degrade(image, "blur:box:3", noise=0.01)
    solved = restore.solve(degraded.measurement, "blur:box:3", noise=0.01, steps=2)
    for tensor in (degraded.measurement, degraded.picture, solved, restore.denoise(image, 0.1)):
        assert not tensor.is_inference()
        tensor.clamp_(0, 1)


def test_an_operator_in_double_precision_stays_as_it_is():
    picture = np.asarray(piece(SIZE)).transpose(2, 0, 1).copy()
    double = operators.gaussian_blur(picture.shape, 1.0, dtype=torch.float64)
    y = double.A(torch.from_numpy(picture / 255)[None])
    assert restore.solve(y, double, noise=0.01, steps=2).dtype == torch.float64
    assert double.A(y).dtype == torch.float64


def test_an_array_of_8_bits(command, place):
    np.save("y.npy", np.asarray(piece(SIZE)).transpose(2, 0, 1))
    outcome = command(
        "solve", "y.npy", "out.png", "--operator", "identity", "--noise", 0.01, "--json"
    )
    assert json.loads(outcome.out)["consistency"] < 0.05


def test_a_bad_measurement_does_not_end_the_run(command, place):
    (place / "data").mkdir()
    assert (
        command("degrade", "in.png", "data/b.png", "--operator", "blur:box:3", "--noise", 0.01).code
        == 0
    )
    fields = {"measurement": np.zeros((3, 4, 4)), "noise": 0.1, "size": np.array([4, 4])}
    for index, wrong in enumerate(
        [
            {"operator": "blr:1"},
            {"noise": np.nan},
            {"noise": -1.0},
            {"size": np.array([1e300, np.inf])},
            {"size": [0, 4]},
        ]
    ):
        np.savez(f"data/a{index}.npz", **(fields | {"operator": "blur:box:3"} | wrong))
    outcome = command("solve", "data", "out", *STEPS)
    assert outcome.code == 10, outcome.err
    assert outcome.err.count("not a measurement") == 5
    assert sorted(files(place / "out")) == ["b.png"]


def test_a_measurement_finds_its_files_from_anywhere(command, place, monkeypatch):
    assert command("degrade", "in.png", "out.png", "--operator", "mask:m.png").code == 0
    assert command("solve", "out.npz", "here.png", *STEPS).code == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert command("solve", "../out.npz", "again.png", *STEPS).code == 0
    assert np.array_equal(pixels("again.png"), pixels("../here.png"))


def test_the_same_operator_spelt_otherwise(command, place):
    command(
        "degrade",
        "in.png",
        "out.png",
        "--operator",
        "blur:motion:7:30:boundary=unknown",
        "--noise",
        0.03,
    )
    options = ["--operator", "blur:motion:7.0:angle=30:boundary=unknown", *STEPS, "--json"]
    outcome = command("solve", "out.npz", "again.png", *options)
    assert json.loads(outcome.out)["noise"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("solve in.png --operator down:bicubic:9000", "too large"),
        ("solve in.png --operator hadamard:0.5 --size 1000000x1000000", "too large"),
        ("solve in.png --operator down:bicubic:1e300", "must be at most 1e+06"),
        ("solve in.png --operator blur:disk:1e-300", "must be at least 0.001"),
        ("degrade in.png o.png --operator mask:strokes:1e9", "up to 1000"),
        ("degrade in.png o.png --operator mask:lines:1e300", "must be at most"),
        (
            "degrade in.png o.png --operator gray+jpeg:30",
            "in 'jpeg:30': JPEG takes pictures of 3 channels",
        ),
        ("degrade in.png o.png --operator blur:gaussian:4:angle=30", "give across as well"),
        ("deblur in.png --kernel box:49", "larger than the picture"),
        ("inpaint in.png --mask m.png --noise auto", "holes would count as noise"),
        ("solve in.png --operator mask:m.png --noise auto", "holes"),
        ("inpaint in.png --mask m.png --noise 0.1 --feather 3", "--feather 3"),
        ("solve in.png --operator jpeg:30+down:bicubic:2", "put them last"),
        ("denoise in.png --noise 0.1 --method one-step --eta 0.3", "adds no noise"),
    ],
)
def test_refuses_what_would_go_wrong_later(command, place, words, said):
    outcome = command(*words.split())
    assert outcome.code == 1, outcome.err
    assert said in outcome.err
