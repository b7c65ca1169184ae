"""`restore evaluate`: protocol, scores, outputs and errors, with few steps on small pictures."""

from __future__ import annotations

import base64
import io
import json
import math
import platform
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from support.pictures import piece

import operators
from operators import kernels
from restore.errors import BadArgument, FileAccess, NothingToDo, SomeFailed, Unavailable
from restore.evaluate import Outputs, Settings, classical, command, evaluate, run, scores
from restore.evaluate.meter import Meter
from restore.evaluate.page import place_of_crop
from restore.evaluate.protocol import degraded, kernel_of, middle, seed_of
from restore.methods import METHODS
from restore.methods.options import Options
from restore.metrics import quality
from restore.report.html import CROP_RIM
from restore.restorer import check
from restore.tasks import SuperResolution
from restore.tasks.problem import QUANTISATION_NOISE
from restore.tasks.solve import OTHER

SIDE = 48
CLASSICAL_ONLY = {"methods": ("bicubic", "lanczos")}


@pytest.fixture(autouse=True)
def _without_lpips(monkeypatch, tmp_path, loaded_once):
    monkeypatch.delenv(quality.TRUNK_VARIABLE, raising=False)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "restore"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two small crops of photographs."""
    place = tmp_path / "photos"
    place.mkdir()
    for crop in "ab":
        piece((SIDE, SIDE), crop).save(place / f"{crop}.png")
    return place


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(classical, "find_spec", lambda name: None)


def photograph(size: int = SIDE, crop: str = "a") -> np.ndarray:
    return np.asarray(piece((size, size), crop))


def case_of(
    task: str, side: int = SIDE, name: str = "a.png", picture: np.ndarray | None = None, **options
):
    picture = photograph(side) if picture is None else picture
    return degraded(Settings(task, **options).completed(), name, picture)


def without_clocks(plain: dict) -> dict:
    """Return what must be equal in all runs."""
    records = [
        *plain["means"].values(),
        *(s for p in plain["pictures"] for s in p["scores"].values()),
    ]
    for record in records:
        for key in ("seconds", "memory"):
            record.pop(key)
    return plain


# The protocol


def test_two_runs_agree(folder, tmp_path):
    settings = Settings(
        "sr", scale=2, noise=0.03, steps=2, size=32, methods=("bicubic", "auto", "one-step")
    )
    found = []
    for attempt in "12":
        path = tmp_path / f"{attempt}.json"
        evaluate(folder, settings, Outputs(json=path))
        found.append(without_clocks(json.loads(path.read_text())))
    assert json.dumps(found[0]) == json.dumps(found[1])  # the order, too
    assert [p["name"] for p in found[0]["pictures"]] == ["a.png", "b.png"]
    assert list(found[0]["means"]) == list(settings.methods)


def test_another_seed_is_another_noise_and_the_same_name_the_same():
    one = case_of("denoise")
    again = case_of("denoise")
    other = case_of("denoise", seed=1)
    named = case_of("denoise", name="b.png")
    assert np.array_equal(one.file, again.file)
    assert not np.array_equal(one.file, other.file)
    assert not np.array_equal(one.file, named.file)
    assert seed_of("a.png", 0) != seed_of("a.png", 1) != seed_of("b.png", 1)


def test_the_seed_and_the_steps_reach_the_samplers(folder, monkeypatch):
    taken = []
    sound = run.Restorer.restore

    def spy(self, task, image, options, callback):
        taken.append((options.method, options.steps, options.seed))
        return sound(self, task, image, options, callback)

    monkeypatch.setattr(run.Restorer, "restore", spy)
    evaluate(
        folder, Settings("sr", size=16, count=1, methods=("ddrm", "one-step"), steps=3, seed=7)
    )
    assert taken[-2:] == [("ddrm", 3, 7), ("one-step", None, 7)]


def test_noise_has_the_stated_size_and_the_measurement_8_bits():
    grey = np.full((96, 96, 3), 128, np.uint8)
    case = case_of("denoise", picture=grey, noise=0.05)
    assert case.file.dtype == np.uint8
    assert (case.file / 255 - 128 / 255).std() == pytest.approx(0.05, rel=0.03)
    assert case.photo == pytest.approx(case.file / 255, abs=1e-7)


@pytest.mark.parametrize("scale", [2, 3, 4, 2.5, 1.7])
@pytest.mark.parametrize("size", [41, 48])
def test_the_scale_gives_the_truth_its_size_back(scale, size):
    case = case_of("sr", size, scale=scale)
    low = torch.from_numpy(case.photo).permute(2, 0, 1)[None]
    problem = SuperResolution(scale).problem(low)
    assert problem.operator.input_shape[1:] == case.size
    assert size - scale - 0.5 <= case.size[0] <= size
    x = torch.rand(1, 3, *case.size)
    assert torch.allclose(problem.operator.A(x), case.operator.A(x), atol=1e-5)


def test_the_middle_is_taken():
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(middle(picture, 2, 4), picture[2:4, 2:6])
    case = case_of("denoise", 64, size=32)
    assert np.array_equal(case.truth, photograph(64)[16:48, 16:48])


@pytest.mark.parametrize(
    ("text", "taps"), [("motion:9:30", kernels.motion(9, 30)), ("box:4", kernels.box(4))]
)
def test_beyond_an_unknown_border_nothing_counts(text, taps):
    case = case_of("deblur", 64, kernel=text, noise=0.01)
    rows, columns = (n - k + 1 for n, k in zip((64, 64), taps.shape, strict=True))
    assert case.truth.shape == case.file.shape == (rows, columns, 3)
    top, _, left, _ = case.operator.margins
    assert np.array_equal(case.truth, photograph(64)[top:, left:][:rows, :columns])
    assert scores.consistency(case, case.truth) == pytest.approx(0.01, rel=0.1)
    shifted = np.roll(case.truth, 1, axis=1)
    assert scores.consistency(case, shifted) > 0.02


def test_where_everything_may_have_come_from_outside_there_is_no_consistency():
    case = case_of("solve", operator="blur:box:5:boundary=unknown+down:area:2")
    assert case.truth.shape[:2] == (SIDE - 4, SIDE - 4)
    assert scores.score(case, case.truth, None).consistency is None


def test_a_picture_smaller_than_the_kernel_is_refused():
    assert case_of("deblur", 41, kernel="box:21").truth.shape[:2] == (21, 21)
    with pytest.raises(BadArgument, match="40x40 pixels are too few for a kernel of 21x21"):
        case_of("deblur", 40, kernel="box:21")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian:1.5", kernels.gaussian(1.5)),
        ("motion:11:30", kernels.motion(11, 30)),
        ("disk:3", kernels.disk(3)),
        ("box:5x3", kernels.box((3, 5))),
        ("box:4", np.pad(kernels.box(4), ((0, 1), (0, 1)))),
    ],
)
def test_the_kernel_of_a_text(text, expected):
    found = kernel_of(operators.parse(f"blur:{text}").parts[0])
    assert found == pytest.approx(np.asarray(expected), abs=1e-6)


@pytest.mark.parametrize("kernel", ["motion:7:30", "box:4"])
def test_the_classical_deblurring_is_not_shifted(kernel):
    """A kernel off centre shifts the picture, and better alignment raises the PSNR."""
    case = case_of("deblur", 96, kernel=kernel, noise=0.002)
    result = classical.suitable(case)["tv"](case)
    truth = case.truth / 255.0

    def error(rows: int, columns: int) -> float:
        moved = np.roll(result, (rows, columns), (0, 1))
        return float(((moved - truth)[8:-8, 8:-8] ** 2).mean())

    assert min((error(r, c), (r, c)) for r in (-1, 0, 1) for c in (-1, 0, 1))[1] == (0, 0)


def test_masks_in_words_differ_from_picture_to_picture():
    one = case_of("inpaint", mask="random:0.3")
    other = case_of("inpaint", mask="random:0.3", name="b.png")
    assert (~one.missing).mean() == pytest.approx(0.3, abs=0.01)
    assert not np.array_equal(one.missing, other.missing)
    fixed = [
        case_of("inpaint", mask="random:0.3:seed=5", name=name).missing
        for name in ("a.png", "b.png")
    ]
    assert np.array_equal(*fixed)
    box = case_of("inpaint", mask="box:16").missing
    assert box.sum() == 256
    assert box[16:32, 16:32].all()


def test_noise_leaves_the_holes_of_a_mask_black():
    case = case_of("inpaint", mask="box:16", noise=0.1)
    assert (case.file[case.missing] == 0).all()
    assert case.file[~case.missing].std() > 0


def test_a_mask_of_the_whole_picture_is_cropped_with_it(folder, tmp_path):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:24, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    settings = Settings("inpaint", mask=str(tmp_path / "mask.png"), size=32).completed()
    case = degraded(settings, "a.png", photograph(), tmp_path / "mask.png")
    assert np.array_equal(case.missing, mask[8:40, 8:40] > 0)


@pytest.mark.parametrize("factor", [1, 2])
def test_masks_are_inverted_and_fitted(folder, tmp_path, factor: int) -> None:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[20:24, 10:30] = 0
    large = mask.repeat(factor, 0).repeat(factor, 1)
    Image.fromarray(large).save(tmp_path / "mask.png")
    options = {"mask": str(tmp_path / "mask.png"), "invert_mask": True, "fit_mask": True}
    settings = Settings("inpaint", size=32, **options).completed()
    case = degraded(settings, "a.png", photograph(), tmp_path / "mask.png")
    assert np.array_equal(case.missing, mask[8:40, 8:40] == 0)
    keep = case.task.problem(case.measurement).keep
    assert np.array_equal(keep[0, 0].numpy() == 0, case.missing)


def test_masks_of_a_folder_belong_to_pictures_of_their_names(folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.eye(SIDE, dtype=np.uint8) * 255).save(masks / "a.png")
    result = evaluate(folder, Settings("inpaint", mask=str(masks), methods=("telea",)))
    assert [picture.name for picture in result.pictures] == ["a.png"]
    assert result.skipped[0][0] == "b.png"
    assert "no mask" in result.skipped[0][1]
    assert str(tmp_path) not in json.dumps(result.plain())


def test_sums_of_pixels_are_not_rounded():
    case = case_of("solve", operator="hadamard:0.5")
    assert torch.is_tensor(case.file)
    assert not torch.equal(case.measurement, (case.measurement * 255).round() / 255)
    assert case.shown.shape[2] == 3
    assert set(classical.suitable(case)) == {"pseudo-inverse"}


@pytest.mark.parametrize(
    ("task", "options", "told"),
    [
        ("sr", {}, 0.0),
        ("deblur", {"noise": 0.0}, QUANTISATION_NOISE),
        ("deblur", {"noise": 0.02}, 0.02),
        ("solve", {"operator": "jpeg:20"}, None),
        ("solve", {"operator": "jpeg:20", "noise": 0.1}, 0.1),
        ("solve", {"operator": "blur:gaussian:1"}, QUANTISATION_NOISE),
        ("solve", {"operator": "down:area:2"}, None),
        ("solve", {"operator": "down:area:2", "noise": 0.1}, 0.1),
    ],
)
def test_the_noise_that_methods_are_told(task, options, told):
    case = case_of(task, **options)
    assert case.task.noise == told
    check(case.task, Options())


# The methods

COMPARED = [name for name, method in METHODS.items() if method.compared]
WITHOUT_CONDITION = [name for name in COMPARED if METHODS[name].runs_without_condition(OTHER)]
# Those that take only masks and the like, such as repaint, suit neither blurs nor enlargement.
WHOLE = [name for name, method in METHODS.items() if not method.operators]
WITHOUT_SVD = [name for name in WITHOUT_CONDITION if name in WHOLE and not METHODS[name].needs_svd]
ALL_CASES = [
    (
        "sr",
        {"scale": 2},
        ["bicubic", "lanczos", "pseudo-inverse", *COMPARED],
    ),
    (
        "sr",
        {"scale": 2, "noise": 0.05},
        ["bicubic", "lanczos", "pseudo-inverse", "nlm-bicubic", *COMPARED],
    ),
    (
        "deblur",
        {},
        ["input", "wiener", "richardson-lucy", "tv", *COMPARED],
    ),
    (
        "deblur",
        {"boundary": "symmetric"},
        ["input", "wiener", "richardson-lucy", "tv", *COMPARED],
    ),
    ("denoise", {}, ["input", "tv", "nlm", *COMPARED]),
    (
        "inpaint",
        {"mask": "strokes"},
        ["input", "telea", "navier-stokes", "biharmonic", *COMPARED],
    ),
    ("colorize", {}, ["grey", *COMPARED]),
    ("solve", {"operator": "hadamard:0.5"}, ["pseudo-inverse", *WITHOUT_CONDITION]),
    ("solve", {"operator": "jpeg:20"}, ["input", "tv", "nlm", *WITHOUT_SVD]),
    ("solve", {"operator": "blur:gaussian:1+jpeg:40"}, ["input", *WITHOUT_SVD]),
    ("solve", {"operator": "bayer"}, ["pseudo-inverse", *WITHOUT_CONDITION]),
]


@pytest.mark.parametrize(("task", "options", "methods"), ALL_CASES)
def test_every_task_has_the_methods_that_suit(
    task, options, methods, folder, not_installed, monkeypatch
):
    monkeypatch.setattr(classical.classical, "WIENER_ROUNDS", 3)
    result = evaluate(folder, Settings(task, size=40, count=1, steps=1, **options))
    assert result.methods == methods
    assert result.failures == result.skipped == []
    views = 2 if task == "denoise" else 1
    for method, (one,) in result.by_method().items():
        calls = views if method == "one-step" else int(method in run.LEARNED)
        assert math.isfinite(one.psnr), method
        assert one.calls == (None if method == "input" else calls), method
        assert (one.seconds is None) == (method == "input"), method


@pytest.mark.parametrize("operator", ["jpeg:25", "blur:gaussian:1+quantise:6", "bayer"])
def test_methods_with_gradients_are_evaluated(operator, folder, not_installed):
    """What they differentiate was made outside PyTorch's inference mode."""
    settings = Settings("solve", operator=operator, size=24, count=1, steps=2, methods=("dps",))
    result = evaluate(folder, settings)
    assert result.failures == []
    assert result.by_method()["dps"][0].calls == 2


def test_all_is_every_method_that_suits(folder, not_installed, monkeypatch):
    """A method that is not compared by default is run if it is named, or with all others."""
    rare = replace(METHODS["diffpir"], name="rare", compared=False)
    monkeypatch.setitem(METHODS, "rare", rare)
    monkeypatch.setattr(run, "LEARNED", (*run.LEARNED, "rare"))

    def methods(*names: str) -> list[str]:
        settings = Settings("solve", operator="bayer", size=40, count=1, steps=1, methods=names)
        case = degraded(settings.completed(), "a.png", np.zeros((40, 40, 3), np.uint8))
        return run._Run(folder, settings, Outputs(), True, str)._methods(case)

    assert "rare" not in methods()
    assert methods("rare") == ["rare"]
    mosaic = operators.Bayer((3, 40, 40))
    able = [name for name in METHODS if METHODS[name].takes(mosaic)]
    able = [name for name in able if not METHODS[name].needs_condition]
    able = [name for name in able if not METHODS[name].latents]
    assert methods("all", "auto") == ["pseudo-inverse", *able, "auto"]
    assert "rare" in able


def test_a_method_that_does_not_suit_is_refused_with_those_that_do(folder):
    with pytest.raises(
        BadArgument,
        match=r"`methods`=wiener: does not suit down:bicubic:4; these do: bicubic, lanczos",
    ):
        evaluate(folder, Settings("sr", methods=("wiener",)))
    with pytest.raises(
        BadArgument, match=r"`methods`=ddrm: does not suit blur:motion:5:30:boundary=zero"
    ):
        evaluate(
            folder, Settings("solve", operator="blur:motion:5:30:boundary=zero", methods=("ddrm",))
        )


def test_an_unknown_method_is_refused_before_any_work(folder, monkeypatch):
    monkeypatch.setattr(run, "read_photo", None)
    words = "`methods`=bicubik: unknown; there are input, bicubic.*one-step.*, and spandrel:FILE, w"
    with pytest.raises(BadArgument, match=words):
        evaluate(folder, Settings("sr", methods=("bicubic", "bicubik")))


def test_a_missing_package_is_said(folder, not_installed):
    settings = Settings("denoise", size=16, count=1, steps=1)
    result = evaluate(folder, settings)
    assert "bm3d is left out: the package bm3d is not installed." in result.markdown().replace(
        "\\", ""
    )
    with pytest.raises(Unavailable, match="bm3d is not installed"):
        evaluate(folder, Settings("denoise", methods=("bm3d",)))


def test_bm3d_denoises():
    pytest.importorskip("bm3d")
    case = case_of("denoise")
    result = classical.suitable(case)["bm3d"](case)
    truth = case.truth / 255.0
    assert ((result - truth) ** 2).mean() < 0.3 * ((case.photo - truth) ** 2).mean()


def test_a_method_that_fails_does_not_end_the_run(folder, monkeypatch):
    sound = classical.classical.upscale

    def fragile(image, size, kernel):
        if kernel == "lanczos" and np.array_equal(
            image, case_of("sr", picture=photograph(crop="b")).photo
        ):
            raise ZeroDivisionError("no such number")
        return sound(image, size, kernel)

    monkeypatch.setattr(classical.classical, "upscale", fragile)
    result = evaluate(folder, Settings("sr", **CLASSICAL_ONLY))
    assert result.failures == [("b.png", "lanczos", "no such number")]
    assert {method: len(of) for method, of in result.by_method().items()} == {
        "bicubic": 2,
        "lanczos": 1,
    }
    assert "lanczos (1 pictures)" in result.markdown()
    assert "bicubic (2 pictures)" in result.markdown()
    assert result.plain()["means"]["lanczos"]["pictures"] == 1
    with pytest.raises(SomeFailed, match=r"1 failures: lanczos on b\.png"):
        result.raise_for_failures()


# The numbers


def test_the_numbers_of_bicubic_are_those_of_other_libraries(folder):
    one = evaluate(folder, Settings("sr", scale=4, count=1, methods=("bicubic",))).by_method()[
        "bicubic"
    ][0]
    truth = piece((SIDE, SIDE))
    low = truth.resize((SIDE // 4, SIDE // 4), Image.Resampling.BICUBIC)
    high = np.asarray(low.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    true = np.asarray(truth)
    assert one.psnr == pytest.approx(peak_signal_noise_ratio(true, high), abs=0.05)
    window = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
    }
    assert one.ssim == pytest.approx(
        structural_similarity(true, high, channel_axis=2, **window), abs=0.01
    )
    weights = np.array([65.481, 128.553, 24.966]) / 255
    lumas = [(16 + picture @ weights)[4:-4, 4:-4] for picture in (true, high)]
    assert one.psnr_y == pytest.approx(peak_signal_noise_ratio(*lumas, data_range=255), abs=0.05)
    assert one.lpips is None


def test_colour_shift_and_exactness():
    case = case_of("solve", operator="identity")
    brighter = np.clip(case.truth + np.array([3, 0, 0]), 0, 255).astype(np.uint8)
    assert scores.score(case, brighter, None).colour_shift == pytest.approx(1, abs=0.02)
    same = scores.score(case, case.truth, None)
    assert (same.psnr, same.colour_shift, same.consistency) == (math.inf, 0, 0)
    assert scores.plain(same)["psnr"] == "inf"


def test_numbers_that_a_small_picture_cannot_have_are_left_out():
    case = case_of("solve", picture=photograph()[:9, :20], operator="identity")
    one = scores.score(case, case.truth, quality.ssim)
    assert one.ssim is one.ssim_y is one.lpips is None


def test_lpips_is_measured_where_its_weights_are(folder, monkeypatch):
    monkeypatch.setattr(
        quality, "load_lpips", lambda: lambda estimate, truth: (estimate - truth).abs().mean()
    )
    one = evaluate(folder, Settings("sr", count=1, methods=("bicubic",)))
    assert one.by_method()["bicubic"][0].lpips > 0
    assert "LPIPS is empty" not in one.markdown()


def test_without_lpips_the_column_is_empty_and_it_says_so(folder):
    result = evaluate(folder, Settings("sr", **CLASSICAL_ONLY))
    assert "The column LPIPS is empty: AlexNet's weights are not here." in result.markdown()
    row = next(line for line in result.markdown().splitlines() if line.startswith("| bicubic"))
    assert row.split("|")[6].strip() == ""


def test_the_best_is_marked_and_never_among_empty_or_single_values():
    low = scores.Score(20, 20, 0.5, 0.5, None, 0.1, 1.0, 0, 2.0, 5.0)
    high = scores.Score(30, 30, 0.9, 0.9, None, 0.2, 2.0, 20, 1.0, 9.0)
    marked = {
        m: [best for _, best in row]
        for m, row in scores.cells({"low": [low], "high": [high]}).items()
    }
    names = list(scores.COLUMNS)
    assert [n for n, best in zip(names, marked["low"], strict=True) if best] == ["colour_shift"]
    assert [n for n, best in zip(names, marked["high"], strict=True) if best] == [
        *("psnr", "psnr_y", "ssim", "ssim_y"),
        "seconds",
    ]
    assert not any(best for _, best in scores.cells({"low": [low]})["low"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_memory_is_that_of_the_method():
    with Meter(torch.device("cpu")) as meter:
        block = np.ones(2**25)  # 256 MiB
        del block
    assert 250 < meter.memory < 320
    with Meter(torch.device("cpu")) as meter:
        pass
    assert meter.memory < 50


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc can be asked"
)
def test_memory_that_was_freed_before_counts_again():
    blocks = [
        np.ones(2**13) for _ in range(1000)
    ]  # 64 KiB each, which the C library keeps for later
    del blocks[:-1]
    with Meter(torch.device("cpu")) as meter:
        again = [np.ones(2**13) for _ in range(1000)]
    assert meter.memory > 50
    assert len(again) + len(blocks) == 1001


# What is written


def test_a_file_that_exists_is_refused_before_any_work(folder, tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    target.write_text("mine")
    monkeypatch.setattr(run, "Restorer", None)
    with pytest.raises(FileAccess, match=r"out\.json: exists already; pass `overwrite`"):
        evaluate(folder, Settings("sr"), Outputs(json=target))
    assert target.read_text() == "mine"
    evaluate(folder, Settings("sr", **CLASSICAL_ONLY), Outputs(json=target, overwrite=True))
    assert json.loads(target.read_text())["task"] == "sr"


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda f, t: Outputs(report=t / "x", json=t / "x"), "name the same file"),
        (lambda f, t: Outputs(report=t), "is a folder"),
        (lambda f, t: Outputs(markdown=f / "a.png", overwrite=True), "is an input"),
        (lambda f, t: Outputs(json=f / "a.png" / "x.json"), "is a file"),
    ],
)
def test_outputs_that_cannot_be_are_refused(outputs, message, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "read_photo", None)
    with pytest.raises((FileAccess, BadArgument), match=message):
        evaluate(folder, Settings("sr"), outputs(folder, tmp_path))


def test_json_has_settings_versions_and_every_picture(folder, tmp_path):
    path = tmp_path / "deep" / "out.json"
    evaluate(
        folder,
        Settings("denoise", noise=0.1, size=32, methods=("tv", "one-step")),
        Outputs(json=path),
    )
    found = json.loads(path.read_text())
    assert found["noise"] == 0.1
    assert found["size"] == 32
    assert found["methods"] == ["tv", "one-step"]
    assert found["auto"] == "one-step"
    assert len(found["model_sha256"]) == 64
    assert {"restore", "torch", "numpy"} <= found["versions"].keys()
    assert [len(p["scores"]) for p in found["pictures"]] == [2, 2]
    assert found["pictures"][0]["scores"]["one-step"]["calls"] == 2
    assert str(tmp_path) not in path.read_text()
    mean = np.mean([p["scores"]["tv"]["psnr"] for p in found["pictures"]])
    assert found["means"]["tv"]["psnr"] == pytest.approx(mean)


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects references of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert reader.open == []
    return reader


def test_the_page_stands_alone(folder, tmp_path):
    (folder / "b.png").rename(folder / 'b"<script>&.png')
    path = tmp_path / "out.html"
    evaluate(
        folder, Settings("sr", scale=2, steps=1, methods=("bicubic", "ddrm")), Outputs(report=path)
    )
    page = read_page(path)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    links = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    anchors = {f"#{a['id']}" for _, a in page.tags if "id" in a}
    assert all(
        link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) or link in anchors
        for link in links
    )
    assert not re.search(r"url\(|@import|https?:", path.read_text("utf-8"))
    images = [a for tag, a in page.tags if tag == "img"]
    assert len(images) == 2 * (1 + 1 + 4)  # thumbnail, whole, input, two methods, truth
    assert all(a["alt"] for a in images)
    assert any(a["alt"].startswith('bicubic, crop of b"<script>&.png: ') for a in images)
    crop = Image.open(io.BytesIO(base64.b64decode(images[-1]["src"].partition(",")[2])))
    assert crop.size == (SIDE, SIDE)
    assert sum(a.get("class") == "best" for _, a in page.tags) >= 4
    assert "2 of 2 pictures are shown" in "".join(page.words)


def test_a_page_that_would_be_too_large_says_how_much_it_shows(folder, tmp_path):
    path = tmp_path / "out.html"
    settings = Settings("sr", **CLASSICAL_ONLY)
    whole = evaluate(folder, settings, Outputs(report=path))
    sizes = [path.stat().st_size]
    shown = ["2"]
    for limit in (whole.page.bytes * 3 // 4, 10):
        evaluate(folder, settings, Outputs(report=path, page_bytes=limit, overwrite=True))
        sizes.append(path.stat().st_size)
        shown.append(
            re.search(
                r"(\d) of 2 pictures are shown, as many as fit", "".join(read_page(path).words)
            )[1]
        )
    assert shown == ["2", "1", "0"]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[0] - sizes[1] > whole.page.bytes / 4


def test_the_crop_is_where_the_methods_differ_most():
    results = [np.full((200, 300, 3), 90, np.uint8) for _ in range(3)]
    results[1][100:120, 210:230] = 200
    results[2][0:9] = 255  # at the border, where it does not count
    top, left = place_of_crop(results, results[0], 64)
    assert 120 - 64 <= top <= 100
    assert 230 - 64 <= left <= 210
    assert min(top, left) >= CROP_RIM
    assert place_of_crop(results[:1], results[1], 20) == (
        100,
        210,
    )  # a single one is compared with the truth
    assert place_of_crop([photograph(20)], photograph(20, "b"), 20) == (0, 0)


def test_names_do_no_harm_in_markdown(folder):
    (folder / "a.png").rename(folder / "a|*b*<i>.png")
    (folder / "a|*b*<i>.png").write_bytes(b"no picture")
    text = evaluate(folder, Settings("sr", **CLASSICAL_ONLY)).markdown()
    assert r"a\|\*b\*\<i\>.png was skipped" in text


# What goes wrong


def test_a_folder_that_is_missing_empty_or_a_file(tmp_path, folder):
    with pytest.raises(FileAccess, match="no such folder"):
        evaluate(tmp_path / "none", Settings("sr"))
    with pytest.raises(FileAccess, match="give a folder"):
        evaluate(folder / "a.png", Settings("sr"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToDo, match="no picture in this folder"):
        evaluate(tmp_path / "empty", Settings("sr"))


def test_bad_pictures_among_good_ones_are_named_skipped_and_counted(folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "empty.jpg").write_bytes(b"")
    piece((20, 20)).save(folder / "small.png")
    path = tmp_path / "out.json"
    settings = Settings("sr", size=32, **CLASSICAL_ONLY)

    def words(text: str) -> str:
        return text.replace("`size`=", "--size ")

    with pytest.raises(
        SomeFailed, match=r"3 of 5 pictures skipped: broken\.png, empty\.jpg, small\.png"
    ) as failed:
        command(folder, settings, Outputs(json=path), quiet=True, wording=words)
    assert failed.value.exit_code == 10
    table = capsys.readouterr().out
    assert "2 pictures of photos" in table
    assert "small.png was skipped: 20x20 pixels, smaller than --size 32" in table
    found = json.loads(path.read_text())
    assert [one["name"] for one in found["skipped"]] == ["broken.png", "empty.jpg", "small.png"]
    assert found["means"]["bicubic"]["pictures"] == 2


def test_no_readable_picture_writes_nothing(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(SomeFailed, match="1 of 1 pictures skipped"):
        evaluate(tmp_path, Settings("sr", **CLASSICAL_ONLY), Outputs(json=tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()


def test_an_interrupted_run_writes_what_is_done(folder, tmp_path, monkeypatch, capsys):
    calls = []

    def upscale(image, size, kernel):
        calls.append(kernel)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return np.zeros((*size, 3), np.float32)

    monkeypatch.setattr(classical.classical, "upscale", upscale)
    with pytest.raises(KeyboardInterrupt):
        command(
            folder,
            Settings("sr", **CLASSICAL_ONLY),
            Outputs(json=tmp_path / "out.json"),
            quiet=True,
        )
    assert "Interrupted after 1 of 2 pictures." in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out.json").read_text())["pictures"]) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("enlarge"), "`task`=enlarge: unknown; use sr, inpaint"),
        (Settings("sr", scale=1), "`scale`=1: must be above 1"),
        (Settings("sr", kernel="gaussian:2"), "`kernel`=gaussian:2: unknown; use"),
        (
            Settings("denoise", scale=2),
            "`scale`: the task denoise has no such option; it is for sr",
        ),
        (
            Settings("sr", operator="gray"),
            "`operator`: the task sr has no such option; it is for solve",
        ),
        (Settings("deblur", kernel="gausian:2"), "`kernel`"),
        (Settings("deblur", boundary="torus"), "`boundary`=torus: unknown; use"),
        (Settings("denoise", noise=0), "`noise`=0: denoising needs noise"),
        (Settings("sr", noise=2), "`noise`=2"),
        (Settings("solve"), "`operator` is missing"),
        (Settings("solve", operator="blurr:3"), "`operator`.*unknown operator 'blurr'"),
        (Settings("inpaint"), "`mask` is missing"),
        (
            Settings("inpaint", mask="randon:0.5"),
            "`mask`=randon:0.5: no such file or folder, and as a description",
        ),
        (Settings("inpaint", mask="none.png"), "`mask`=none.png: no such file or folder"),
        (Settings("inpaint", mask="box:3+gray"), "more than a mask"),
        (Settings("inpaint", mask="box:3", fit_mask=True), "`fit_mask`: is for masks in files"),
        (Settings("sr", size=-1), "`size`=-1"),
        (Settings("sr", count=0), "`count`=0"),
        (Settings("sr", seed=-1), "`seed`=-1"),
        (Settings("sr", steps=0), "`steps`=0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_any_work(
    settings, message, folder, monkeypatch
):
    monkeypatch.setattr(run, "_find", None)
    with pytest.raises((BadArgument, FileAccess), match=message):
        evaluate(folder, settings)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "LA"])
def test_pictures_of_other_kinds_are_taken_as_8_bit_colour(mode, picture, tmp_path):
    path = picture("in/a.png", mode, (32, 32))
    (one,) = evaluate(path.parent, Settings("denoise", methods=("tv",))).pictures
    assert one.size == (32, 32)
    assert one.scores["tv"].psnr > 20


def test_the_command_line_passes_everything_on(folder, tmp_path, request):
    restore = request.getfixturevalue("command")
    table = tmp_path / "out.md"
    numbers = tmp_path / "out.json"
    options = [
        "--task",
        "deblur",
        "--kernel",
        "box:3",
        "--boundary",
        "mirror",
        "--noise",
        0.02,
        "--size",
        40,
    ]
    options += [
        "--count",
        1,
        "--methods",
        "tv, ddrm",
        "--steps",
        2,
        "--seed",
        5,
        "--device",
        "cpu",
        "--quiet",
    ]
    done = restore(
        "evaluate",
        folder,
        *options,
        "--json",
        numbers,
        "--markdown",
        table,
        "--report",
        tmp_path / "o.html",
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.rstrip() == table.read_text().rstrip()
    found = json.loads(numbers.read_text())
    expected = {
        "kernel": "box:3",
        "boundary": "mirror",
        "noise": 0.02,
        "size": 40,
        "count": 1,
        "steps": 2,
        "seed": 5,
    }
    assert found | expected == found
    assert found["methods"] == ["tv", "ddrm"]
    assert (tmp_path / "o.html").exists()
    assert restore("evaluate", folder, *options, "--json", numbers).code == FileAccess.exit_code
    assert (
        restore("evaluate", folder, "--task", "sr", "--methods", "no").code == BadArgument.exit_code
    )
