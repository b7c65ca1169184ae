"""Batches made on a device, with the CPU as the device.

They are like those of the CPU's own path, in slices of fixed shapes.
"""

from __future__ import annotations

import io
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from test_training import interrupt_at, recipe
from test_training_data import BLURS, KINDS, MASKS, texture
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
from restore.diffusion.evidence import GREY
from restore.errors import BadArgument
from restore.runtime.devices import choose_device
from restore.training import device_banks
from restore.training.batches import Batch, Batches, PredictorData
from restore.training.checkpoint import load_state
from restore.training.degradations import Capture, Noise, Place, sampling_matrix
from restore.training.device_banks import SIGMAS, filters
from restore.training.device_batches import DeviceBatches, Slices, batch_source
from restore.training.device_degradations import FAMILIES, Blurred, Family, Sampled, Setting
from restore.training.device_jpeg import JpegFiles
from restore.training.device_pictures import DevicePictures, Dice, antialiased_weights
from restore.training.device_tensors import convolved
from restore.training.device_wiener import Axis
from restore.training.drawing import draw_kernel
from restore.training.mixture import Mixture
from restore.training.pictures import Augmentation, Pictures
from restore.training.recipe_file import parse_recipe
from restore.training.run import MODEL
from restore.training.trainer import Options, train

CPU = torch.device("cpu")
PLAIN = Augmentation(flips=False, rotations=False, downscale=1)
PREDICTOR = PredictorData("inverse", 0.5, True)
FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module", autouse=True)
def small_banks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_banks, "KERNELS_OF_A_KIND", 64)
        patch.setattr(device_banks, "KERNELS_OF_A_SCALE", 8)
        patch.setattr(device_banks, "MASKS_OF_A_KIND", 64)
        patch.setattr(device_banks, "OTHER_SCALES", 6)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Pictures:
    root = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate([(200, 150), (140, 260), (120, 120)]):
        Image.fromarray(texture(size, number)).save(root / f"{number}.png")
    return Pictures(root)


@pytest.fixture(scope="module")
def batches(pictures) -> DeviceBatches:
    return DeviceBatches(pictures, device=CPU, crop=32, batch=13, seed=5)


@pytest.fixture(scope="module")
def with_predictor(pictures) -> DeviceBatches:
    return DeviceBatches(pictures, device=CPU, crop=32, batch=13, seed=5, predictor=PREDICTOR)


def tensors(batch: Batch) -> list[Tensor]:
    return [batch.clean, *batch.condition, *(batch.evidence or ())]


def equal(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def region_of(side: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(texture((side, side), seed)).permute(2, 0, 1)[None].float() / 255


# The same in every run


def test_batch_depends_on_seed_and_step_alone(pictures, batches):
    again = DeviceBatches(pictures, device=CPU, crop=32, batch=13, seed=5)
    assert equal(batches.at(7), again.at(7))
    assert not torch.equal(batches.at(7).clean, batches.at(8).clean)
    other = DeviceBatches(pictures, device=CPU, crop=32, batch=13, seed=6)
    assert not torch.equal(batches.at(7).clean, other.at(7).clean)


def test_streams_go_on_at_any_step(batches):
    whole = list(itertools.islice(batches.stream(0), 5))
    for step, batch in zip(range(3, 5), batches.stream(3, workers=2, pinned=True), strict=False):
        assert equal(batch, whole[step])


def test_other_random_numbers_are_left_alone(batches):
    state = torch.get_rng_state()
    batches.at(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("world", [3, 13])
def test_parts_one_after_another_are_the_whole(with_predictor, world):
    for step in (0, 1):
        parts = [tensors(with_predictor.at(step, (rank, world))) for rank in range(world)]
        for whole, *pieces in zip(tensors(with_predictor.at(step)), *parts, strict=True):
            assert (whole - torch.cat(pieces)).abs().max() < 1e-4


def test_other_sizes_share_the_pictures(batches):
    larger = batches.with_size(48, 4)
    assert larger.at(0).clean.shape == (4, 3, 48, 48)
    assert larger.pictures._pixels.data_ptr() == batches.pictures._pixels.data_ptr()
    assert equal(larger.with_size(32, 13).at(1), batches.at(1))
    assert [p.path.name for p in batches.with_size(130, 1).skipped] == ["2.png"]


# What a batch holds


def test_shapes_and_ranges(batches):
    for step in range(6):
        clean, (picture, known), evidence, _ = batches.at(step)
        assert evidence is None
        assert clean.shape == picture.shape == (13, 3, 32, 32)
        assert known.shape == (13, 1, 32, 32)
        assert {t.dtype for t in (clean, picture, known)} == {torch.float32}
        assert clean.abs().max() <= 1
        assert picture.abs().max() <= 1.3
        assert ((known == 0) | (known == 1) | (known == GREY)).all()
        assert not (picture * (known == 0)).any()


def test_evidence_where_a_predictor_takes_part(with_predictor):
    for step in range(4):
        clean, condition, evidence, _ = with_predictor.at(step)
        assert evidence.picture is condition.picture
        assert evidence.noise.shape == (13, 1, 32, 32)
        assert all(torch.isfinite(t).all() for t in (clean, *evidence))
        assert 0 <= evidence.known.min() <= evidence.known.max() <= 1
        unconditional = evidence.known.flatten(1).amax(dim=1) == 0
        assert not evidence.noise[unconditional].any()
        assert int(unconditional.sum()) in ((0,) if PREDICTOR.trains_at(step) else (5, 6))


def test_a_predictor_that_is_not_seen_gets_the_condition(pictures, batches):
    data = PredictorData("inverse", 0.5, conditions=False)
    both = DeviceBatches(pictures, device=CPU, crop=32, batch=13, seed=5, predictor=data)
    step = next(step for step in range(4) if not data.trains_at(step))
    assert equal(both.at(step), batches.at(step))


@pytest.mark.parametrize("size", [8, 35])
def test_every_degradation_fits_pictures_of_the_crops_size(tmp_path, size):
    Image.fromarray(texture((size, size), 1)).save(tmp_path / "only.png")
    made = DeviceBatches(
        tmp_path,
        device=CPU,
        crop=size,
        batch=20,
        unconditional_fraction=0,
        degradations=Mixture.only(*KINDS),
    ).at(0)
    assert all(torch.isfinite(t).all() for t in tensors(made))
    assert made.condition.known.flatten(1).amax(dim=1).all()


# Slices


def test_slices_keep_their_shares_exactly():
    shares = [[0.45], [0.2, 0.03, 0.07], [0.1, 0.0], [0.15]]
    slices = Slices(shares, 13, seed=3)
    counts = Counter()
    steps = 2000
    for step in range(steps):
        ends = slices.ends(step)
        assert ends[0] == 0
        assert ends[-1] == 13
        counts.update(dict(enumerate(np.diff(ends))))
        for family in range(4):
            start, end = slices.of_family(step, family)
            assert 0 <= end - start <= slices.capacity(family) <= end - start + 1
            kinds = slices.kinds(step, family)
            assert len(kinds) == slices.capacity(family)
            first = sum(map(len, shares[:family]))
            wanted = [np.diff(ends)[first + kind] for kind in range(len(shares[family]))]
            assert np.array_equal(np.bincount(kinds[: end - start], minlength=len(wanted)), wanted)
    for kind, share in enumerate(itertools.chain(*shares)):
        assert counts[kind] / steps == pytest.approx(13 * share, abs=3 / steps * 2)


@pytest.mark.parametrize("world", [1, 2, 5])
def test_windows_hold_what_a_part_needs(world):
    slices = Slices([[0.3], [0.11, 0.09], [0.5]], 17, seed=0)
    for step in range(200):
        for rank in range(world):
            begin = 17 * rank // world
            end = 17 * (rank + 1) // world
            for family in range(3):
                window, (start, stop) = (
                    slices.window(family, begin, end),
                    slices.of_family(step, family),
                )
                wanted = range(max(begin, start) - start, min(end, stop) - start)
                assert not wanted or (window.start <= wanted.start and wanted.stop <= window.stop)


def test_shapes_stay_the_same_from_step_to_step(batches, monkeypatch):
    shapes: list[list[tuple[int, ...]]] = []
    squares = DevicePictures.squares

    def noted(
        self: DevicePictures, sides: Tensor, largest: int, dice: Dice, augmentation: Augmentation
    ) -> Tensor:
        made = squares(self, sides, largest, dice, augmentation)
        shapes[-1].append(tuple(made.shape))
        return made

    monkeypatch.setattr(DevicePictures, "squares", noted)
    for step in range(6):
        shapes.append([])
        batches.at(step)
    assert all(found == shapes[0] for found in shapes)


# Like the batches of the CPU


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("bicubic", "inverse"),
        ("gaussian_sampling", None),
        ("motion", None),
        ("motion", "inverse"),
        ("noise", "inverse"),
        ("random_pixels", None),
        ("photograph", "inverse"),
    ],
)
def test_statistics_are_those_of_the_host(pictures, kind, shown):
    """The error of what is shown, the known fraction and the noise agree within sampling error."""
    predictor = None if shown is None else PredictorData(shown, 1.0, True)
    settings = {
        "crop": 24,
        "batch": 120,
        "unconditional_fraction": 0,
        "degradations": Mixture.only(kind),
    }
    host = Batches(pictures, predictor=predictor, **settings).at(0)
    device = DeviceBatches(pictures, device=CPU, predictor=predictor, **settings).at(0)
    for ours, theirs in zip(statistics_of(device), statistics_of(host), strict=True):
        error = (ours.var() / len(ours) + theirs.var() / len(theirs)).sqrt()
        assert abs(float(ours.mean() - theirs.mean())) < 4 * float(error) + 1e-3
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.5, abs=1e-3)


def statistics_of(batch: Batch) -> list[Tensor]:
    """Return the statistics of each picture, [B]."""
    error = (batch.condition.picture - batch.clean) * (batch.condition.known > 0)
    found = [
        error.square().flatten(1).mean(dim=1).sqrt(),
        batch.condition.known.flatten(1).mean(dim=1),
    ]
    return (
        found
        if batch.evidence is None
        else [*found, batch.evidence.noise.flatten(1).mean(dim=1).log()]
    )


def test_kinds_come_in_the_shares_of_the_mixture(pictures):
    mixture = Mixture(grey=9)
    batches = DeviceBatches(
        pictures, device=CPU, crop=16, batch=40, unconditional_fraction=0.25, degradations=mixture
    )
    slices = batches.slices(0)
    counts = Counter()
    for step in range(200):
        for number, family in enumerate(FAMILIES):
            start, end = slices.of_family(step, number)
            if end > start:
                counts.update(
                    family.kinds[kind] for kind in slices.kinds(step, number)[: end - start]
                )
    assert counts["unconditional"] == 200 * 10
    for name, share in mixture.fractions.items():
        assert counts[name] == pytest.approx(200 * 30 * share, abs=3)


def test_every_kind_of_the_mixture_is_made():
    assert {kind for family in FAMILIES for kind in family.kinds} == {
        "unconditional",
        *Mixture().fractions,
    }


# Crops


def test_pictures_are_chosen_by_area(tmp_path):
    for name, side, value in (("large.png", 90, 0), ("small.png", 30, 255)):
        Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(tmp_path / name)
    pictures = DevicePictures(Pictures(tmp_path), CPU)
    found = pictures.squares(torch.full((3000,), 8), 8, Dice(CPU, 0, 3000), Augmentation()).mean(
        dim=(1, 2, 3)
    )
    assert set(found.round(decimals=4).tolist()) == {0.0, 1.0}
    assert float(found.mean()) == pytest.approx(0.1, abs=0.02)


def test_crops_are_pieces_turned_and_made_smaller(tmp_path):
    rows, columns = np.mgrid[:40, :40]
    picture = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "place.png")
    pictures = DevicePictures(Pictures(tmp_path), CPU)
    sides = torch.full((400,), 16)
    plain = (pictures.squares(sides, 16, Dice(CPU, 0, 400), PLAIN) * 255).round().int()
    for crop in plain:
        top = int(crop[0, 0, 0])
        left = int(crop[1, 0, 0])
        assert torch.equal(
            crop, torch.from_numpy(picture[top : top + 16, left : left + 16]).permute(2, 0, 1).int()
        )
    assert (
        {int(crop[0, 0, 0]) for crop in plain}
        == set(range(25))
        == {int(crop[1, 0, 0]) for crop in plain}
    )

    varied = (
        pictures.squares(sides, 16, Dice(CPU, 1, 400), Augmentation(native=0.25))[:, :2, ::15, ::15]
        * 255
    )
    steps = varied[:, :, 0, 1] - varied[:, :, 0, 0], varied[:, :, 1, 0] - varied[:, :, 0, 0]
    ways = Counter(
        tuple((torch.stack(s).round() / 8).sign().int().flatten().tolist())
        for s in zip(*steps, strict=True)
    )
    assert len(ways) == 8
    assert min(ways.values()) > 25
    spans = torch.stack(steps).abs().amax(dim=(0, 2)) / 15
    assert float((spans < 1.01).float().mean()) == pytest.approx(0.25, abs=0.1)
    assert 2.2 < float(spans.max()) < 2.6


def test_small_pictures_are_mirrored_and_sides_may_differ(tmp_path):
    Image.fromarray(texture((20, 20), 0)).save(tmp_path / "small.png")
    host = Pictures(tmp_path)
    found = DevicePictures(host, CPU).squares(
        torch.tensor([30, 20, 12]), 32, Dice(CPU, 0, 3), PLAIN
    )
    whole = host.planes[0].float() / 255
    assert torch.allclose(found[0, :, :20, :20], whole, atol=1e-6)
    assert torch.allclose(found[0, :, 20:30], found[0, :, 10:20].flip(1), atol=1e-6)
    assert torch.allclose(found[1, :, :20, :20], whole, atol=1e-6)
    assert torch.equal(found[2, :, 12:], found[2, :, 11:12].expand(-1, 20, -1))


@pytest.mark.parametrize(("size", "new_size"), [(64, 48), (100, 41), (30, 30), (37, 23)])
def test_antialiased_weights_are_the_operators(size, new_size):
    lengths = torch.tensor([size]), torch.tensor([new_size])
    expected = torch.from_numpy(operators.resample_matrix(size, new_size)).float()
    found = antialiased_weights(*lengths, 110, 50, torch.tensor([False]))[0]
    assert torch.allclose(found[:new_size, :size], expected, atol=2e-5)
    assert not found[:, size:].any()
    assert torch.equal(found[new_size:], found[new_size - 1].expand(50 - new_size, -1))
    flipped = antialiased_weights(*lengths, 110, 50, torch.tensor([True]))[0]
    assert torch.equal(flipped[:new_size], found[:new_size].flip(0))


def test_pictures_that_do_not_fit_stay_on_the_host(pictures):
    said: list[str] = []
    settings = {"device": CPU, "crop": 32, "batch": 13, "seed": 5}
    host = DeviceBatches(pictures, **settings, memory=2 * pictures.bytes - 1, notice=said.append)
    device = DeviceBatches(pictures, **settings, memory=2 * pictures.bytes, notice=said.append)
    assert len(said) == 1
    assert "stay in the host's memory" in said[0]
    assert (host.pictures.resident, device.pictures.resident) == (False, True)
    assert equal(host.at(2), device.at(2))
    assert not host.with_size(48, 2).pictures.resident


# Degradations one by one, against the CPU's on the same region


@pytest.mark.parametrize("kind", ["bicubic", "area", "gaussian_sampling"])
@pytest.mark.parametrize("shown", [None, "deblurred", "inverse", "degraded"])
def test_downsampled_pictures_are_the_hosts(kind, shown):
    family = Sampled(Setting(32, Mixture(), 0, CPU, shown))
    bank = family._bank
    scales = torch.arange(len(family._bank.region))
    gaussian = kind == "gaussian_sampling"
    filter_ = torch.full_like(scales, 5 if gaussian else ("bicubic", "area").index(kind))
    sampling = filters(True)[int(filter_[0])]
    regions = torch.rand(
        len(scales), 3, family._region, family._region, generator=torch.Generator().manual_seed(0)
    )
    small = family._sampled(regions, filter_, scales)
    silent = torch.zeros(len(scales))
    never = torch.zeros(len(scales), dtype=torch.bool)
    measured = family._measured(small, scales, silent, None, never, Dice(CPU, 0, len(scales)))
    left = bank.last
    evidence = family._shown(measured, (filter_ == 1).long(), scales, bank.margin, left, silent)
    for number, (side, size) in enumerate(
        zip(bank.region.tolist(), bank.small.tolist(), strict=True)
    ):
        place = Place(side, int(bank.margin[number]), int(left[number]), 32)
        host = Capture(place, Noise(), None, size, sampling)
        theirs = host.measured(regions[number, :, :side, :side], None)
        assert (
            measured[number, :, :size, :size] - theirs
        ).abs().max() < 1.01 / 255  # ties of the rounding
        theirs = measured[number, :, :size, :size]
        expected = host.condition(theirs) if shown is None else host.evidence(theirs, shown)
        for ours, wanted in zip(evidence, expected, strict=False):
            torch.testing.assert_close(ours[number], wanted, rtol=1e-4, atol=2e-4)


def test_gaussians_are_those_of_the_host():
    assert filters(True)[2:] == tuple(f"gaussian:{sigma}" for sigma in SIGMAS)
    random = np.random.default_rng(0)
    assert {f"gaussian:{random.integers(6, 15) / 20}" for _ in range(300)} == set(filters(True)[2:])
    assert sampling_matrix(40, 10, filters(True)[4]).shape == (10, 40)


@pytest.mark.parametrize("kind", BLURS)
def test_blur_is_scipys(kind):
    kernel = draw_kernel(kind, 32, np.random.default_rng(1))
    region = region_of(60)
    side = 17
    padded = np.pad(kernel, [((side - n) // 2,) * 2 for n in kernel.shape])
    found = convolved(region, torch.from_numpy(padded).float()[None])[0]
    expected = scipy.ndimage.convolve(region[0].double().numpy(), kernel[None], mode="constant")
    assert np.abs(found.numpy() - expected)[:, 8:-8, 8:-8].max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "shown", "place"),
    [  # each pair of two settings once
        ("gaussian", None, "inside"),
        ("motion", None, "start"),
        ("curved_motion", None, "end"),
        ("motion", "deblurred", "inside"),
        ("curved_motion", "deblurred", "start"),
        ("gaussian", "deblurred", "end"),
        ("curved_motion", "inverse", "inside"),
        ("gaussian", "inverse", "start"),
        ("motion", "inverse", "end"),
        ("gaussian", "degraded", "inside"),
        ("motion", "degraded", "start"),
        ("curved_motion", "degraded", "end"),
    ],
)
def test_blurred_pictures_are_the_hosts(kind, shown, place):
    """Kernels and pictures have different sizes, each on its own canvas."""
    random = np.random.default_rng(2)
    setting = Setting(24, Mixture(), 0, CPU, shown)
    family = Blurred(setting)
    side = family._kernels.taps.shape[-1]
    context = setting.context
    for _ in range(4):
        kernel = draw_kernel(kind, 24, random)
        rows, columns = (n // 2 for n in kernel.shape)
        margin = max(rows, columns)
        size = 24 + 2 * (margin + context)
        start = {
            "inside": margin + context,
            "start": margin * bool(context),
            "end": 2 * context + margin,
        }[place]
        start = size - 24 if place == "end" and not context else start
        host = Capture(Place(size, start, start, 24), Noise(0.01), kernel)
        y = host.measured(region_of(size)[0], random)
        expected = host.condition(y) if shown is None else host.evidence(y, shown)

        padding = (0, family._largest - y.shape[2], 0, family._largest - y.shape[1])
        measured = nn.functional.pad(y[None], padding, mode="replicate")
        taps = np.pad(kernel, [((side - n) // 2,) * 2 for n in kernel.shape])
        vertical, horizontal = (
            Axis(*(torch.tensor([n]) for n in (size - 2 * reach, reach, start - reach)))
            for reach in (rows, columns)
        )
        taps = torch.from_numpy(taps).float()[None]
        found = family._shown(2 * measured - 1, taps, torch.tensor([0.01]), vertical, horizontal)
        for ours, wanted in zip(found, expected, strict=False):
            torch.testing.assert_close(ours[0], wanted, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
@pytest.mark.parametrize("halved", [True, False])
def test_jpeg_is_pillows(quality, halved):
    crops = [
        Image.open(path).convert("RGB").crop((0, 0, 64, 64))
        for path in sorted(FIXTURES.glob("crop_*"))
    ]
    photographs = [np.array(crop) for crop in crops]
    pixels = torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2).float() / 255
    count = len(pixels)
    found = JpegFiles(CPU)(pixels, torch.full((count,), quality), torch.full((count,), halved))
    for picture, ours in zip(photographs, found, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
        theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255
        clean = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        assert psnr(ours, clean) == pytest.approx(psnr(theirs, clean), abs=0.15)
        assert psnr(ours, theirs) > 45


def psnr(first: Tensor, second: Tensor) -> float:
    return -10 * float((first - second).square().mean().log10())


def test_jpeg_mixes_qualities_and_subsamplings():
    pixels = region_of(40).expand(4, -1, -1, -1)
    quality = torch.tensor([20, 90, 20, 90])
    halved = torch.tensor([True, False, False, True])
    found = JpegFiles(CPU)(pixels, quality, halved)
    for picture, own, half in zip(found, quality.tolist(), halved.tolist(), strict=True):
        alone = operators.Jpeg(own, "4:2:0" if half else "4:4:4").float().A(pixels[:1])[0]
        torch.testing.assert_close(picture, alone, rtol=0, atol=1e-6)


def test_masks_know_something_and_not_everything(pictures):
    masks = Mixture.only(*MASKS, noisy_masks=0)
    batch = DeviceBatches(
        pictures, device=CPU, crop=32, batch=50, unconditional_fraction=0, degradations=masks
    ).at(0)
    known = batch.condition.known.flatten(1).mean(dim=1)
    assert known.min() > 0
    assert known.max() < 1
    assert torch.equal(known[30:40], torch.full((10,), 0.5)), "halves"
    shown = (batch.condition.picture - batch.clean) * batch.condition.known
    assert shown.abs().max() <= 1.01 / 255, "8 bits"


# Devices


@pytest.mark.parametrize(
    ("family", "shown"),
    [*((family, "inverse") for family in FAMILIES), (Sampled, None), (Blurred, None)],
)
def test_nothing_leaves_the_device(pictures, family, shown):
    """Fake CUDA tensors raise where two devices meet, and where a value is needed on the host."""
    made = family(Setting(16, Mixture(softened=0.5), 0, CPU, shown))
    source = DevicePictures(pictures, CPU)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = on_fake_cuda(made, mode)
        photographs = on_fake_cuda(source, mode)
        photographs.device = torch.device("cuda")
        dice = fake_dice(4)
        kinds = torch.zeros(4, dtype=torch.int64, device="cuda")
        clean, evidence = fake.make(
            lambda s, n: photographs.squares(s, n, dice, Augmentation()), kinds, dice
        )
        assert clean.shape == (4, 3, 16, 16)
        for part in (clean, *(evidence or ())):
            assert part.device.type == "cuda"


def fake_dice(count: int) -> Dice:
    dice = Dice.__new__(Dice)
    dice.device = torch.device("cuda")
    dice.count = count
    dice.rows = slice(None)
    dice._generator = None
    dice._pool = []
    return dice


def on_fake_cuda(thing: Any, mode: FakeTensorMode) -> Any:
    """Return a copy whose tensors are fake and on CUDA."""
    if isinstance(thing, Tensor):
        return mode.from_tensor(thing, static_shapes=True).to("cuda")
    if isinstance(thing, nn.Module):
        for name, buffer in list(thing._buffers.items()):
            thing._buffers[name] = on_fake_cuda(buffer, mode)
        return thing
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*(on_fake_cuda(part, mode) for part in thing))
    if isinstance(thing, Family | DevicePictures | JpegFiles) or type(thing).__name__ == "Canvases":
        copied = object.__new__(type(thing))
        copied.__dict__.update(
            {name: on_fake_cuda(value, mode) for name, value in vars(thing).items()}
        )
        return copied
    return thing


def test_batches_are_made_ahead_by_a_thread_where_the_device_works_beside(batches, monkeypatch):
    """On the CPU there is no second stream, but the same thread and queue."""
    monkeypatch.setattr("restore.training.device_batches.works_beside", lambda device: True)
    stream = batches.stream(3, part=(1, 2))
    for step, batch in zip(range(3, 6), stream, strict=False):
        assert equal(batch, batches.at(step, (1, 2)))
    stream.close()
    assert not [thread for thread in threading.enumerate() if "training-data" in thread.name]


@pytest.mark.gpu
@pytest.mark.skipif(choose_device().type != "cuda", reason="no CUDA device here")
def test_streams_beside_the_training_give_the_same_batches(pictures):
    batches = DeviceBatches(
        pictures, device=choose_device(), crop=32, batch=13, predictor=PREDICTOR
    )
    stream = batches.stream(2)
    for step, batch in zip(range(2, 8), stream, strict=False):
        assert batch.clean.device.type == "cuda"
        assert all(
            (a - b).abs().max() < 1e-3
            for a, b in zip(tensors(batch), tensors(batches.at(step)), strict=True)
        )
    stream.close()


# Training


def test_training_on_them_goes_on_exactly(pictures, tmp_path):
    data = {"crop": 16, "batch": 6, "degradations": Mixture.only("bicubic", "boxes", "noise")}
    what = recipe(run={"data": "device"}, data=data, schedule={"steps": 4})
    options = {"data": pictures.folder, "device": "cpu"}
    train(Options(tmp_path / "whole", recipe=what, **options))
    with pytest.raises(KeyboardInterrupt):
        train(Options(tmp_path / "halves", recipe=what, **options), progress=interrupt_at(2))
    train(Options(tmp_path / "halves", resume=True, **options))
    whole, halves = (load_state(tmp_path / name) for name in ("whole", "halves"))
    assert whole.step == halves.step == 4
    assert (tmp_path / "whole" / MODEL).read_bytes() == (tmp_path / "halves" / MODEL).read_bytes()


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 7},
        {"batch": 0},
        {"unconditional_fraction": 1.1},
        {"seed": -1},
        {"degradations": {"disk": -1}},
    ],
)
def test_bad_options_are_refused(pictures, options):
    with pytest.raises(BadArgument, match=next(iter(options))):
        DeviceBatches(pictures, device=CPU, **options)


def test_bad_steps_parts_and_streams_are_refused(batches):
    with pytest.raises(BadArgument, match="step -1"):
        batches.at(-1)
    for part in ((2, 2), (-1, 2), (0, 14)):
        with pytest.raises(BadArgument, match="part"):
            batches.stream(part=part)
    with pytest.raises(BadArgument, match="prefetch 0"):
        batches.stream(prefetch=0)


def test_the_recipe_says_where_batches_are_made(pictures):
    assert parse_recipe("").run.data == "auto"
    assert parse_recipe('[run]\ndata = "device"').run.data == "device"
    with pytest.raises(
        BadArgument, match=r"\[run\] data = 'gpu': must be one of auto, host, device"
    ):
        parse_recipe('[run]\ndata = "gpu"')
    made = {
        where: batch_source(where, pictures, device=CPU, crop=32, batch=2)
        for where in ("auto", "host", "device")
    }
    assert [type(made[where]) for where in ("auto", "host", "device")] == [
        Batches,
        Batches,
        DeviceBatches,
    ]


def test_auto_takes_the_device_that_works_beside(pictures, monkeypatch):
    built: list[str] = []
    monkeypatch.setattr(
        "restore.training.device_batches.DeviceBatches",
        lambda *_, device, **__: built.append(device.type),
    )
    batch_source("auto", pictures, device=torch.device("cuda"))
    assert built == ["cuda"]
