"""Batches for training: equal everywhere, and as `restore.tasks.problem` shows pictures."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

import operators
from operators import Quantise
from restore.diffusion.evidence import GREY
from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.photo.photograph import read_photo
from restore.tasks import Deblurring, Denoising, Inpainting, SuperResolution
from restore.tasks.problem import Problem
from restore.training import pictures as module
from restore.training.batches import Batch, Batches
from restore.training.degradations import (
    Capture,
    Degradation,
    Grey,
    Masked,
    Noise,
    Place,
    inside_of_convolution,
    sampling_matrix,
)
from restore.training.drawing import draw
from restore.training.mixture import Mixture
from restore.training.pictures import Augmentation, Pictures

SAMPLINGS = ("bicubic", "area", "gaussian_sampling")
BLURS = ("gaussian", "anisotropic", "motion", "curved_motion", "disk", "random_kernel")
MASKS = ("boxes", "strokes", "random_pixels", "halves", "border")
KINDS = (*SAMPLINGS, *BLURS, *MASKS, "noise", "jpeg", "grey", "photograph")
PLAIN = Augmentation(flips=False, rotations=False, downscale=1)
NOTHING_ELSE = {"noisy": 0, "noisy_masks": 0, "compressed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with three textured pictures, one of them in a folder below."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "below").mkdir()
    for number, (name, size) in enumerate(
        {"a.png": (200, 150), "b.png": (140, 260), "below/c.png": (120, 120)}.items()
    ):
        Image.fromarray(texture(size, number)).save(root / name)
    return root


@pytest.fixture(scope="module")
def batches(folder) -> Batches:
    return Batches(folder, crop=32, batch=9, seed=5)


def texture(size: tuple[int, int], seed: int) -> np.ndarray:
    """Return smooth shapes with fine noise, uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    smooth = cv2.resize(random.random((12, 12, 3)), size, interpolation=cv2.INTER_CUBIC)
    return np.uint8((200 * smooth + 40 * random.random((size[1], size[0], 3))).clip(0, 255))


def region_of(side: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(texture((side, side), seed)).permute(2, 0, 1).float() / 255


def drawn(
    count: int, *names: str, crop: int = 32, **settings: float
) -> list[tuple[Degradation, np.random.Generator]]:
    """Yield some degradations, each with the generator of its noise."""
    mixture = Mixture.only(*names, **{**NOTHING_ELSE, **settings})
    generators = [np.random.default_rng((seed, 7)) for seed in range(count)]
    return [(draw(mixture, crop, random), random) for random in generators]


def tensors(batch: Batch) -> list[Tensor]:
    return [batch.clean, *batch.condition]


def equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def digest(batch: Batch) -> str:
    return hashlib.sha256(
        b"".join(tensor.numpy().tobytes() for tensor in tensors(batch))
    ).hexdigest()


# The same everywhere


def test_batch_depends_on_seed_and_step_alone(folder, batches):
    again = Batches(folder, crop=32, batch=9, seed=5)
    again.at(0)
    assert equal(batches.at(7), again.at(7))
    assert not torch.equal(batches.at(7).clean, batches.at(8).clean)
    assert not torch.equal(
        batches.at(7).clean, Batches(folder, crop=32, batch=9, seed=6).at(7).clean
    )


def test_batch_leaves_other_random_numbers_alone(batches):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    stream = batches.stream(workers=1)
    batches.at(0), next(stream)
    stream.close()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_another_interpreter_makes_the_same_batch(folder, batches):
    code = (
        "import sys, torch; torch.set_num_threads(2); from restore.training.batches import "
        "Batches; import hashlib; b = Batches(sys.argv[1], crop=32, batch=9, seed=5).at(3); "
        "print(hashlib.sha256(b''.join(t.numpy().tobytes() for t in (b.clean, "
        "*b.condition))).hexdigest())"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == digest(batches.at(3))


@pytest.mark.parametrize("world", [2, 4, 9])
def test_parts_one_after_another_are_the_whole(batches, world):
    parts = [tensors(batches.at(2, part=(rank, world))) for rank in range(world)]
    for whole, *pieces in zip(tensors(batches.at(2)), *parts, strict=True):
        assert torch.equal(whole, torch.cat(pieces))


@pytest.mark.parametrize(("workers", "part"), [(0, (0, 1)), (0, (1, 2)), (2, (0, 1))])
def test_stream_gives_the_same_batches_and_ends(batches, workers, part):
    stream = batches.stream(4, prefetch=2, workers=workers, part=part)
    for step, batch in zip(range(4, 9), stream, strict=False):
        assert equal(batch, batches.at(step, part))
        assert isinstance(batch, Batch)
    stream.close()
    assert not [thread for thread in threading.enumerate() if "training-data" in thread.name]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_stream_passes_errors_on(folder, monkeypatch, workers):
    batches = Batches(folder, crop=16, batch=2)
    at = Batches.at

    def fail(self: Batches, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        if step == 2:
            raise FileAccess("gone")
        return at(self, step, part)

    monkeypatch.setattr(Batches, "at", fail)
    stream = batches.stream(workers=workers)
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(FileAccess, match=r"^gone$"):
        next(stream)
    assert not [thread for thread in threading.enumerate() if "training-data" in thread.name]
    assert not multiprocessing.active_children()


def test_stream_leaves_the_number_of_threads_alone(batches):
    before = torch.get_num_threads()
    stream = batches.stream()
    next(stream)
    assert torch.get_num_threads() == before
    stream.close()


# What a batch holds


def test_shapes_and_ranges(batches):
    for step in range(12):
        clean, (picture, known), *_ = batches.at(step)
        assert clean.shape == picture.shape == (9, 3, 32, 32)
        assert known.shape == (9, 1, 32, 32)
        assert {tensor.dtype for tensor in (clean, picture, known)} == {torch.float32}
        assert clean.abs().max() <= 1
        assert picture.abs().max() <= 1.3  # bicubic enlargement overshoots
        assert ((known == 0) | (known == 1) | (known == GREY)).all()
        assert not (picture * (known == 0)).any()
        assert all(torch.isfinite(tensor).all() for tensor in (clean, picture))


@pytest.mark.parametrize("share", [0, 0.35, 0.5, 1])
def test_unconditional_share_of_every_batch(folder, share):
    batches = Batches(folder, crop=16, batch=9, unconditional_fraction=share)
    counts = []
    for step in range(30):
        picture, known = batches.at(step).condition
        unconditional = known.flatten(1).amax(dim=1) == 0
        assert not picture[unconditional].any()
        counts.append(int(unconditional.sum()))
    assert max(abs(count - 9 * share) for count in counts) < 1
    assert np.mean(counts) == pytest.approx(9 * share, abs=0.3)


def test_every_degradation_fits_pictures_of_the_crops_size(tmp_path):
    for size in (8, 35):
        Image.fromarray(texture((size, size), 1)).save(tmp_path / "only.png")
        for kind in KINDS:
            batch = Batches(
                tmp_path,
                crop=size,
                batch=6,
                unconditional_fraction=0,
                degradations=Mixture.only(kind),
            ).at(0)
            assert all(torch.isfinite(tensor).all() for tensor in tensors(batch)), kind
            assert batch.condition.known.flatten(1).amax(dim=1).all(), kind


@pytest.mark.parametrize("crop", [8, 20, 64, 192])
def test_crops_lie_in_their_regions(crop):
    for degradation, _ in drawn(150, *KINDS, crop=crop):
        region, top, left, size = degradation.place
        assert size == crop
        assert min(top, left) >= 0
        assert max(top, left) + crop <= region


@pytest.mark.parametrize("kind", KINDS)
def test_clean_and_condition_show_the_same_place(kind):
    """Without noise a known smooth picture is nearest to the clean crop at no offset."""
    for degradation, random in drawn(12, kind, crop=64):
        side = degradation.place.region
        smooth = (
            torch.from_numpy(cv2.GaussianBlur(texture((side, side), 2), (0, 0), 9))
            .permute(2, 0, 1)
            .float()
            / 255
        )
        degradation = replace(degradation, noise=Noise())
        if kind == "photograph":
            degradation = replace(degradation, jpeg=None)
        if kind == "jpeg":
            degradation = replace(degradation, jpeg=operators.Jpeg(90))
        shown = degradation.shown(smooth, random)
        clean = 2 * degradation.clean(smooth) - 1
        if kind == "grey":
            clean = (
                2
                * operators.gray((3, 64, 64))
                .A(degradation.clean(smooth)[None])[0]
                .expand(3, -1, -1)
                - 1
            )
        inside = shown.known[0] * torch.nn.functional.pad(torch.ones(48, 48), (8, 8, 8, 8))
        errors = [
            float(((clean.roll(s, (1, 2)) - shown.picture) * inside).abs().mean())
            for s in ((0, 0), (0, 1), (1, 0))
        ]
        assert errors[0] < 0.03
        assert errors[0] <= 1.05 * min(errors)


# What tasks show


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_downsampled_pictures_are_what_super_resolution_shows(kind):
    for degradation, random in drawn(12, kind, noisy=0.5):
        region = region_of(degradation.place.region)
        measured = degradation.measured(region, random)
        shape = (3, *region.shape[1:])
        small = degradation.small
        if degradation.noise == Noise() and kind != "gaussian_sampling":
            operator = operators.downsample(shape, size=(small, small), kernel=kind)
            assert (Quantise(8).A(operator.A(region[None])[0]) - measured).abs().max() < 1.01 / 255
        problem = SuperResolution(region.shape[1] / small).problem(measured[None])
        assert_shown(degradation, measured, problem)


@pytest.mark.parametrize("kind", BLURS)
def test_blurred_pictures_are_what_deblurring_shows(kind):
    for degradation, random in drawn(8, kind, bordered=0.5, noisy=0.5):
        region = region_of(degradation.place.region)
        measured = degradation.measured(region, random)
        if degradation.noise == Noise():
            operator = operators.ValidConvolution(tuple(measured.shape), degradation.kernel)
            assert (operator.A(region[None])[0] - measured).abs().max() < 0.51 / 255
        assert_shown(
            degradation,
            measured,
            Deblurring(degradation.kernel, noise=0.01).problem(measured[None]),
        )


@pytest.mark.parametrize("kind", MASKS)
def test_masked_pictures_are_what_inpainting_shows(kind):
    for degradation, random in drawn(8, kind, noisy_masks=0.5):
        measured = degradation.measured(region_of(32), random)
        assert_shown(degradation, measured, Inpainting(~degradation.known).problem(measured[None]))


@pytest.mark.parametrize("kind", ["noise", "jpeg"])
def test_noisy_pictures_are_what_denoising_shows(kind):
    for degradation, random in drawn(4, kind):
        measured = degradation.measured(region_of(32), random)
        assert_shown(degradation, measured, Denoising(0.1).problem(measured[None]))


def test_photographs_are_what_super_resolution_shows():
    for degradation, random in drawn(12, "photograph", bordered=0.5):
        measured = degradation.measured(region_of(degradation.place.region), random)
        margin = degradation.kernel.shape[0] // 2
        side = degradation.place.region - 2 * margin
        condition = SuperResolution(side / measured.shape[-1]).problem(measured[None]).condition
        place = degradation.place.moved(margin, side)
        assert torch.equal(place.cut(condition.picture[0]), degradation.condition(measured).picture)


def assert_shown(degradation: Degradation, measured: Tensor, problem: Problem) -> None:
    shown = degradation.condition(measured)
    for ours, theirs in zip(shown, problem.condition, strict=True):
        assert torch.equal(ours, degradation.place.cut(theirs[0]))


# Degradations one by one


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["bicubic", "area"])
def test_crops_inside_know_no_border(scale, kind):
    found = [d for d, _ in drawn(60, kind, bordered=0) if d.place.region == scale * d.small][:2]
    for degradation in found:
        more = 24
        whole = region_of(degradation.place.region + 2 * more)
        place = degradation.place.moved(-more, whole.shape[-1])
        large = replace(degradation, place=place, small=degradation.small + 2 * more // scale)
        ours = degradation.shown(whole[:, more:-more, more:-more], None)
        assert (
            ours.picture - large.shown(whole, None).picture
        ).abs().max() < 2.5 / 255  # single levels of rounding


def test_blurred_crops_inside_are_known_everywhere_and_at_the_border_not():
    assert all(
        d.shown(region_of(d.place.region), None).known.all()
        for d, _ in drawn(20, "gaussian", bordered=0)
    )
    for degradation, _ in drawn(20, "gaussian", bordered=1):
        known = degradation.shown(region_of(degradation.place.region), None).known[0].bool()
        margin = degradation.kernel.shape[0] // 2
        assert int((~known).sum()) == 32 * 32 - (32 - margin) ** 2


@pytest.mark.parametrize(
    "kernel",
    [operators.kernels.motion(9, 0), operators.kernels.curved_motion(12, 3), np.ones((1, 1))],
)
def test_inside_of_convolution_is_the_operators(kernel):
    picture = torch.rand(3, 37, 41, dtype=torch.float64)
    shape = 3, 37 - kernel.shape[0] + 1, 41 - kernel.shape[1] + 1
    expected = operators.ValidConvolution(shape, kernel, dtype=torch.float64).A(picture[None])[0]
    torch.testing.assert_close(inside_of_convolution(picture, kernel), expected)


def test_sampling_matrices():
    expected = torch.from_numpy(operators.resample_matrix(48, 12, "area")).float()
    assert torch.equal(sampling_matrix(48, 12, "area"), expected)
    gaussian = sampling_matrix(48, 12, "gaussian:0.4").double()
    assert torch.allclose(gaussian.sum(dim=1), torch.ones(12, dtype=torch.float64), atol=1e-6)
    assert torch.equal(gaussian, gaussian.flip(0, 1))
    position = torch.arange(48).double() + 0.5
    centre = gaussian[6] @ position
    assert float(centre) == pytest.approx(6.5 * 4)
    assert float((gaussian[6] @ (position - centre) ** 2).sqrt()) == pytest.approx(
        0.4 * 4, rel=0.02
    )


@pytest.mark.parametrize("kind", BLURS)
def test_kernels(kind):
    sums = set()
    sides = set()
    for degradation, _ in drawn(60, kind, crop=64):
        kernel = degradation.kernel
        sums.add(round(float(kernel.sum()), 9))
        sides |= set(kernel.shape)
        assert (kernel >= 0).all()
    assert sums == {1.0}
    assert all(side % 2 and side <= 33 for side in sides)
    assert max(sides) >= 13


def test_noise_has_its_level():
    random = np.random.default_rng(0)
    grey = torch.full((3, 200, 200), 0.25)
    assert float((Noise(0.1)(grey, random) - grey).std()) == pytest.approx(0.1, rel=0.02)
    assert float((Noise(0.03, 0.08)(grey, random) - grey).std()) == pytest.approx(
        (0.03**2 + 0.08**2 / 4) ** 0.5, rel=0.02
    )
    assert Noise()(grey, random) is grey
    levels = [degradation.noise.level for degradation, _ in drawn(300, "noise")]
    assert 0.005 <= min(levels) < 0.02
    assert 0.28 < max(levels) <= 0.3
    noisy = [degradation.noise.level > 0 for degradation, _ in drawn(400, "bicubic", noisy=0.3)]
    assert np.mean(noisy) == pytest.approx(0.3, abs=0.07)


def test_small_pictures_are_softened_by_a_gaussian():
    """Against scipy, away from the border."""
    softened = [
        degradation
        for degradation, _ in drawn(200, *SAMPLINGS, softened=0.5)
        if degradation.softening
    ]
    assert len(softened) == pytest.approx(100, abs=25)
    assert {degradation.softening for degradation in softened} == {0.4, 0.45, 0.5, 0.55, 0.6}
    for degradation in softened[:8]:
        region = region_of(degradation.place.region)
        random = np.random.default_rng(0)
        sharp = replace(degradation, softening=0.0).measured(region, random).numpy()
        expected = scipy.ndimage.gaussian_filter(
            sharp, (0, degradation.softening, degradation.softening), truncate=6
        )
        found = degradation.measured(region, random).numpy()
        assert np.abs(found - expected)[:, 3:-3, 3:-3].max() < 1.5 / 255
        assert np.abs(found - sharp).max() > 4 / 255


def test_softening_changes_nothing_else():
    """Mixtures without it draw what they drew before it existed."""
    settings = {"noisy": 0.5, "compressed": 0.5}
    always, never = (drawn(20, *SAMPLINGS, **settings, softened=share) for share in (1, 0))
    for (soft, _), (plain, _) in zip(always, never, strict=True):
        assert soft.softening > 0
        assert replace(soft, softening=0.0) == plain


def test_measurements_are_files():
    for degradation, random in drawn(40, *KINDS, noisy=1, noisy_masks=1, compressed=0.5):
        levels = degradation.measured(region_of(degradation.place.region), random) * 255
        assert (levels - levels.round()).abs().max() < 1e-3
        assert levels.min() >= 0
        assert levels.max() <= 255.001


def test_jpeg_is_the_operators():
    qualities = set()
    for degradation, random in drawn(40, "jpeg"):
        picture = region_of(32)
        expected = operators.Jpeg(degradation.jpeg.quality, degradation.jpeg.subsampling).A(
            picture[None]
        )[0]
        assert torch.allclose(degradation.measured(picture, random), expected, atol=1e-6)
        qualities.add(degradation.jpeg.quality)
    assert 10 <= min(qualities) < 25
    assert 80 < max(qualities) <= 95


def test_grey_shows_the_luma_three_times():
    region = region_of(16)
    picture, known = Grey(Place(16, 0, 0, 16), Noise()).shown(region, None)
    expected = 2 * operators.gray((3, 16, 16)).A(region[None])[0] - 1
    assert (picture - expected).abs().max() < 1.01 / 255
    assert torch.equal(picture[0], picture[2])
    assert torch.equal(known, torch.full((1, 16, 16), GREY)), "not taken for a grey photograph"


def test_masks_are_of_their_kind():
    shares = {
        kind: [float(d.known.float().mean()) for d, _ in drawn(60, kind, crop=64)] for kind in MASKS
    }
    assert all(0 < share < 1 for values in shares.values() for share in values)
    assert set(shares["halves"]) == {0.5}
    assert 0.05 <= min(shares["random_pixels"]) < 0.15
    assert 0.8 < max(shares["random_pixels"]) <= 0.9
    assert min(shares["border"]) == 0.25
    for degradation, _ in drawn(20, "border"):
        assert degradation.known[16, 16]
        assert not degradation.known[0].any()
    halves = {
        tuple(map(bool, d.known[[0, 0, -1, -1], [0, -1, 0, -1]])) for d, _ in drawn(40, "halves")
    }
    assert len(halves) == 4


def test_photographs_have_all_of_it():
    for degradation, _ in drawn(20, "photograph"):
        assert degradation.kernel is not None
        assert degradation.small
        assert degradation.jpeg
        assert degradation.noise.level
        assert degradation.noise.shot


def test_scales():
    scales = [d.place.region / d.small for d, _ in drawn(400, "bicubic")]
    assert min(scales) >= 2
    assert max(scales) <= 8
    assert np.mean([scale == 4 for scale in scales]) == pytest.approx(0.35, abs=0.08)
    assert np.mean([scale % 1 != 0 for scale in scales]) > 0.1


# The mixture


def test_shares_are_those_of_the_mixture():
    mixture = Mixture(grey=5)
    count = 2000
    random = np.random.default_rng(0)
    found = Counter(kind_of(draw(mixture, 32, random)) for _ in range(count))
    expected = Counter()
    for name, share in mixture.fractions.items():
        expected[
            "blur"
            if name in BLURS
            else "mask"
            if name in MASKS
            else "sr"
            if name in SAMPLINGS
            else name
        ] += share
    assert sum(expected.values()) == pytest.approx(1)
    for name, share in expected.items():
        assert found[name] / count == pytest.approx(
            share, abs=4 * (share * (1 - share) / count) ** 0.5
        ), name


def kind_of(degradation: Degradation) -> str:
    if isinstance(degradation, Masked | Grey):
        return type(degradation).__name__.lower().removesuffix("ed")
    assert isinstance(degradation, Capture)
    if degradation.small:
        return "photograph" if degradation.kernel is not None else "sr"
    return (
        "blur" if degradation.kernel is not None else "noise" if degradation.noise.level else "jpeg"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bicubik": 1}, "unknown: bicubik; known are bicubic, area"),
        ({"disk": -1}, "disk = -1: must be a weight"),
        ({"disk": float("nan")}, "disk = nan"),
        ({"disk": "much"}, "disk = 'much'"),
        ({"noisy": 1.5}, "noisy = 1.5: must be a fraction"),
    ],
)
def test_bad_mixtures_are_refused(folder, settings, message):
    with pytest.raises(BadArgument, match=message):
        Batches(folder, degradations=settings)


def test_mixture_without_any_weight_is_refused():
    with pytest.raises(BadArgument, match="every weight is 0"):
        Mixture.only()


# Pictures


def test_pictures_as_read_photo_reads_them(tmp_path):
    colour = texture((40, 30), 0)
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.fromarray(colour).save(tmp_path / "a_turned.jpg", exif=exif, quality=95)
    Image.fromarray(colour[..., 0]).save(tmp_path / "b_grey.png")
    opacity = np.full((30, 40, 1), 255, np.uint8)
    opacity[:10] = 0
    Image.fromarray(np.concatenate([colour, opacity], axis=2)).save(tmp_path / "c_transparent.png")
    cv2.imwrite(str(tmp_path / "d_deep.png"), colour[..., ::-1].astype(np.uint16) * 257)
    turned, grey, transparent, deep = Pictures(tmp_path).planes
    assert turned.shape == (3, 40, 30)
    upright = torch.from_numpy(read_photo(tmp_path / "a_turned.jpg").pixels).permute(2, 0, 1)
    assert torch.equal(turned, (upright * 255).round().byte())
    assert torch.equal(grey, torch.from_numpy(colour[..., 0]).expand(3, -1, -1))
    expected = torch.from_numpy(colour).permute(2, 0, 1)
    assert torch.equal(deep, expected)
    assert torch.equal(transparent[:, 10:], expected[:, 10:])
    assert not transparent[:, :10].any()


def test_unusable_pictures_are_named_and_left_out(tmp_path):
    Image.fromarray(texture((64, 64), 0)).save(tmp_path / "good.png")
    Image.fromarray(texture((64, 31), 0)).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("nothing")
    batches = Batches(tmp_path, crop=32)
    assert [path.name for path in batches.pictures.paths] == ["good.png"]
    reasons = {path.name: reason for path, reason in batches.skipped}
    assert reasons.keys() == {"small.png", "broken.jpg"}
    assert reasons["small.png"] == "64x31 pixels, smaller than the crop of 32"
    assert "broken.jpg" in reasons["broken.jpg"]
    with pytest.raises(
        NothingToDo,
        match=r"none of its 3 pictures can be used: .*broken.jpg.*64x64 pixels, smaller",
    ):
        batches.with_size(65, 2)
    assert len(batches.pictures) == 1


def test_folders_without_pictures(tmp_path):
    with pytest.raises(FileAccess, match="missing: no such folder"):
        Batches(tmp_path / "missing")
    with pytest.raises(NothingToDo, match=r"no picture in it; pictures are .*\.bmp, .*\.jfif"):
        Batches(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(
        NothingToDo, match=r"none of its 1 pictures can be used: .*broken.jpg: the file is empty"
    ):
        Batches(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"crop": 7}, {"crop": 32.0}, {"batch": 0}, {"unconditional_fraction": 1.1}, {"seed": -1}],
)
def test_bad_options_are_refused(folder, options):
    with pytest.raises(BadArgument, match=next(iter(options))):
        Batches(folder, **options)


def test_bad_steps_parts_and_streams_are_refused(batches):
    with pytest.raises(BadArgument, match="step -1"):
        batches.at(-1)
    for part in ((2, 2), (-1, 2), (0, 10)):
        with pytest.raises(BadArgument, match="part"):
            batches.at(0, part)
    with pytest.raises(BadArgument, match="prefetch 0"):
        batches.stream(prefetch=0)
    for options in ({"downscale": 0.5}, {"native": 2}):
        with pytest.raises(BadArgument, match=next(iter(options))):
            Augmentation(**options)


def test_pictures_are_chosen_by_area(tmp_path):
    for name, side, value in (("large.png", 90, 0), ("small.png", 30, 255)):
        Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(tmp_path / name)
    pictures = Pictures(tmp_path)
    random = np.random.default_rng(0)
    found = [float(pictures.crop(8, random).mean()) for _ in range(1500)]
    assert set(np.round(found, 6)) == {0.0, 1.0}  # flat pictures stay flat
    assert np.mean(found) == pytest.approx(0.1, abs=0.03)
    assert (pictures.pixels, pictures.bytes) == (9000, 27000)


def test_crops_are_pieces_turned_and_made_smaller(tmp_path):
    rows, columns = np.mgrid[:40, :40]
    picture = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "place.png")
    pictures = Pictures(tmp_path)
    random = np.random.default_rng(0)
    places = set()
    for _ in range(60):
        crop = (pictures.crop(16, random, PLAIN) * 255).round().int()
        top = int(crop[0, 0, 0])
        left = int(crop[1, 0, 0])
        assert torch.equal(
            crop, torch.from_numpy(picture[top : top + 16, left : left + 16]).permute(2, 0, 1).int()
        )
        places.add((top, left))
    assert len(places) > 40
    ways = set()
    spans = []
    for _ in range(200):
        corners = pictures.crop(16, random, Augmentation(native=0.25))[:2, ::15, ::15] * 255
        steps = corners[:, 0, 1] - corners[:, 0, 0], corners[:, 1, 0] - corners[:, 0, 0]
        ways.add(tuple(float(value) for step in steps for value in step.sign() * (step.abs() > 1)))
        spans.append(float(torch.stack(steps).abs().max()) / 15)
    assert len(ways) == 8
    assert np.mean(np.isclose(spans, 1, atol=0.01)) == pytest.approx(0.25, abs=0.12)
    assert 2 < max(spans) < 2.6


def test_smaller_crops_are_the_operators(tmp_path):
    picture = texture((64, 64), 3)
    Image.fromarray(picture).save(tmp_path / "all.png")
    augmentation = Augmentation(flips=False, rotations=False, downscale=16, native=0)
    crops = [
        Pictures(tmp_path).crop(48, np.random.default_rng(seed), augmentation) for seed in range(40)
    ]
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    expected = operators.downsample((3, 64, 64), size=(48, 48)).A(whole)[0].clamp(0, 1)
    assert min(float((crop - expected).abs().max()) for crop in crops) < 1e-5


def test_cache_holds_the_same_pictures(folder, tmp_path, monkeypatch):
    plain = Batches(folder, crop=32, batch=4)
    first = Batches(folder, crop=32, batch=4, cache=tmp_path / "cache")
    assert equal(first.at(1), plain.at(1))
    monkeypatch.setattr(module, "_decode", lambda path: pytest.fail("decoded again"))
    assert equal(Batches(folder, crop=32, batch=4, cache=tmp_path / "cache").at(1), plain.at(1))
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".u8"]


def test_cache_knows_changed_and_unusable_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"?")
    Image.fromarray(texture((40, 40), 0)).save(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert [
            e.path.name for e in Pictures(tmp_path / "in", cache=tmp_path / "cache").skipped
        ] == ["broken.png"]
    Image.fromarray(texture((50, 40), 1)).save(tmp_path / "in" / "a.png")
    assert Pictures(tmp_path / "in", cache=tmp_path / "cache").planes[0].shape == (3, 40, 50)


def test_damaged_or_impossible_caches_are_refused(folder, tmp_path):
    Pictures(folder, cache=tmp_path / "cache")
    pixels = next((tmp_path / "cache").glob("*.u8"))
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(FileAccess, match=r"\.u8: not whole; remove it"):
        Pictures(folder, cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccess, match="file: the cache cannot be used"):
        Pictures(folder, cache=tmp_path / "file")


def test_other_sizes_share_the_pictures(batches):
    larger = batches.with_size(48, 4)
    assert larger.at(0).clean.shape == (4, 3, 48, 48)
    addresses = [[planes.data_ptr() for planes in b.pictures.planes] for b in (batches, larger)]
    assert addresses[0] == addresses[1]
    assert equal(larger.with_size(32, 9).at(1), batches.at(1))


def test_stream_never_ends(batches):
    stream: Iterator[Batch] = batches.stream(part=(0, 9))
    assert len(list(itertools.islice(stream, 20))) == 20
    stream.close()
