"""Packing for a borrowed GPU and back: photographs, states, and a session, with tiny networks."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.benchmark_scripts import benchmark
from torch import Tensor

from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import ModelConfig
from restore.diffusion.predictor import PredictorConfig
from restore.errors import BadArgument, FileAccess, NothingToDo, UnreadableInput
from restore.photo.photograph import read_photo
from restore.training import packed_state
from restore.training.checkpoint import State, load_state, save_state, write_model
from restore.training.learner import Learner
from restore.training.log import read_log
from restore.training.optimiser import is_hidden_convolution
from restore.training.packed_pictures import pack_pictures, unpack_pictures
from restore.training.packed_state import PLANS, SMALL, STATE, pack_state, unpack_state
from restore.training.pieces import KIB, MIB, PIECE, read_pieces, size_of, write_pieces
from restore.training.recipe import Recipe
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import parse_recipe, read_recipe, write_recipe
from restore.training.trainer import Options, train

script = benchmark("short_gpu_run")
RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"
LEAN = {
    "layout": "lean",
    "channels": 32,
    "channel_multipliers": (1.0, 2.0),
    "blocks": 1,
    "middle_attention": False,
}
SEES = {"condition_channels": 3, "condition_map": True, "norm": "rms", "patch": 2}
BLIND = {"noisy_input": False, "times": 2, "noise_map": True}
MODEL = ModelConfig(
    BackboneConfig(**LEAN, **SEES),
    {"name": "linear"},
    "v",
    condition_skip=True,
    predictor=PredictorConfig(BackboneConfig(**LEAN, **SEES, **BLIND)),
    condition_picture="predicted",
)


def recipe(**sections) -> Recipe:
    """Return a tiny recipe with some settings changed."""
    given = {
        "data": {"crop": 16, "batch": 2},
        "objective": {"noiseless_fraction": 0.0},
        "predictor": {"fraction": 0.5},
        "schedule": {"warmup_steps": 4, "cooldown": 0.0},
        "ema": {"decays": (0.9, 0.99), "every": 1},
        "run": {"mixed_precision": False, "log_steps": 1, "checkpoint_minutes": 100.0},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values}
    base = Recipe(model=MODEL)
    return replace(
        base, **{name: replace(getattr(base, name), **values) for name, values in given.items()}
    )


def photograph(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """Write a smooth picture with some texture, as a JPEG of high quality or by the suffix."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(
        (width, height), 3
    )
    pixels = np.asarray(coarse) + random.normal(0, 6, (height, width, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 93, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for seed, (width, height) in enumerate([(320, 288), (272, 400), (304, 304), (352, 272)]):
        photograph(folder / f"{seed}.jpg", width, height, seed)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, photographs) -> Path:
    """Return a run folder after six steps, three of them of the predictor."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(Options(folder, photographs, recipe(), steps=6, device="cpu"))
    return folder


def tensors(state: State) -> dict[str, Tensor]:
    return packed_state._tensors(state)


def test_sizes_in_words():
    assert (size_of("30MiB"), size_of("1.5 kB"), size_of("7")) == (30 * MIB, 1500, 7)
    for text in ("much", "-3MiB", "0", "3 parsecs"):
        with pytest.raises(BadArgument, match="not a size"):
            size_of(text)


def test_pieces_make_the_file_again(tmp_path):
    data = bytes(range(256)) * (PIECE // 256) + b"more"
    assert [p.name for p in write_pieces(data, tmp_path, "a.bin", {"x": 1})] == [
        "a.bin.01",
        "a.bin.02",
        "a.json",
    ]
    again, index = read_pieces(tmp_path, "a.bin")
    assert again == data == b"".join(p.read_bytes() for p in sorted(tmp_path.glob("a.bin.*")))
    assert index["x"] == 1

    write_pieces(b"short", tmp_path, "a.bin", {})
    assert not (tmp_path / "a.bin.02").exists()
    (tmp_path / "a.bin.01").write_bytes(b"shirt")
    with pytest.raises(UnreadableInput, match="damaged"):
        read_pieces(tmp_path, "a.bin")


def full_size() -> State:
    """Return random tensors of the networks of the recipe for a GPU, trained with Muon."""
    taken = read_recipe(RECIPES / "gpu_refiner.toml").with_length(100, None)
    random = torch.Generator().manual_seed(0)
    parts = []
    for config in (taken.model.backbone, taken.model.predictor.backbone):
        with torch.device("meta"):
            shapes = {name: p.shape for name, p in build_backbone(config).named_parameters()}
        weights = {
            name: 0.05 * torch.randn(shape, generator=random) for name, shape in shapes.items()
        }
        averages = {f"{taken.ema.decays[-1]}/{name}": w + 0.01 for name, w in weights.items()}
        optimiser: dict[str, Tensor] = {}
        for name, weight in weights.items():
            muon = is_hidden_convolution(name, weight)
            for quantity in ("momentum",) if muon else ("exp_avg", "exp_avg_sq"):
                optimiser[f"{name}/{quantity}"] = weight.clone()
        parts.append((weights, averages, optimiser))
    one, two = parts
    return State(
        7,
        1.0,
        taken,
        *one,
        {},
        {},
        predictor=two[0],
        predictor_averages=two[1],
        predictor_optimiser=two[2],
    )


def test_networks_of_full_size_fit(tmp_path):
    save_state(full_size(), tmp_path / "run")
    (tmp_path / "run" / "log.csv").write_text("step\n")
    wanted = {
        60: ({"weights": "difference", "exported average": "float16", "optimisers": "rounded"}, []),
        40: ({"weights": "difference", "exported average": "float16"}, ["optimisers"]),
        25: ({"weights": "float16"}, ["exported average", "optimisers"]),
    }
    for limit, (kept, left_out) in wanted.items():
        packed = pack_state(tmp_path / "run", out := tmp_path / str(limit), limit * MIB)
        assert (packed.kept, sorted(packed.left_out)) == (kept, sorted(left_out))
        sizes = [file.stat().st_size for file in out.iterdir()]
        assert len(sizes) <= 8
        assert max(sizes) <= PIECE
        assert sum(sizes) <= limit * MIB
        assert sum(sizes) > 0.85 * limit * MIB
    with pytest.raises(
        BadArgument, match=r"20\.0 MiB are too little for the weights alone, which need 24\.\d MiB"
    ):
        pack_state(tmp_path / "run", tmp_path / "none", 20 * MIB)
    assert not (tmp_path / "none").exists()


def test_a_state_that_fits_comes_back_bit_for_bit(tmp_path, run):
    packed = pack_state(run, tmp_path / "packed", 60 * MIB)
    assert set(packed.kept.values()) == {"exact"}
    assert {"log.csv", "samples.png", "state.json"} <= {file.name for file in packed.files}

    unpack_state(tmp_path / "packed", tmp_path / "again")
    before = load_state(run)
    after = load_state(tmp_path / "again")
    assert (after.step, after.elapsed, after.recipe) == (before.step, before.elapsed, before.recipe)
    assert tensors(after).keys() == tensors(before).keys()
    for key, tensor in tensors(before).items():
        assert torch.equal(tensor, tensors(after)[key]), key
    for name in ("model.safetensors", "model.json", "log.csv", "samples.png"):
        assert (run / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert read_recipe(tmp_path / "again" / "recipe.toml") == before.recipe


def rows(tensor: Tensor) -> Tensor:
    """Return the largest value of each row, in the shape of the tensor."""
    return tensor.flatten(1).abs().amax(dim=1).view(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor)


@pytest.mark.parametrize("plan", PLANS)
def test_what_is_rounded_stays_within_its_tolerance(tmp_path, monkeypatch, run, plan):
    """Errors stay within the rounding of each format.

    float16: 2^-11 of a value; bfloat16: 2^-8; 8 bits: half of a 127th of the row's largest value.
    """
    monkeypatch.setattr(packed_state, "PLANS", (plan,))
    pack_state(run, tmp_path / "packed", 60 * MIB)
    unpack_state(tmp_path / "packed", tmp_path / "again")

    before, after = (tensors(load_state(folder)) for folder in (run, tmp_path / "again"))
    average = "0.99/"
    for part, those in packed_state._parts(before, average).items():
        precision = plan.get(part, "left out" if part != "always" else "exact")
        for key, tensor in those.items():
            if precision == "left out":
                continue
            if precision == "exact" or tensor.numel() <= SMALL:
                tolerance = torch.zeros_like(tensor, dtype=torch.float64)
            elif precision == "float16":
                tolerance = tensor.abs() * 2**-11 + 2**-24
            elif precision == "difference":
                tolerance = (
                    rows(tensor - after[packed_state._average_key(key, average)]) / 254 * 1.01
                    + 1e-7
                )
            else:
                tolerance = (
                    rows(tensor) / 254 * 1.01 if key.endswith("/momentum") else tensor.abs() * 2**-8
                )
            assert bool(((after[key] - tensor).abs() <= tolerance).all()), key


@pytest.mark.parametrize("plan", [PLANS[5], PLANS[6], PLANS[7]])
def test_training_goes_on(tmp_path, monkeypatch, run, photographs, plan):
    """Counters continue; missing averages are the weights, and missing optimisers warm up."""
    monkeypatch.setattr(packed_state, "PLANS", (plan,))
    packed = pack_state(run, tmp_path / "packed", 60 * MIB)
    state = unpack_state(tmp_path / "packed", again := tmp_path / "again")
    assert state.step == 6
    assert state.warm_up_start == (0 if "optimisers" in plan else 6)
    if "exported average" in packed.left_out:
        assert all(
            torch.equal(state.averages[f"0.99/{name}"], weight)
            for name, weight in state.network.items()
        )

    train(Options(again, photographs, steps=8, resume=True, device="cpu"))
    after = load_state(again)
    assert after.step == 8
    assert after.warm_up_start == state.warm_up_start
    rates = [
        row["rate"] for row in read_log(again / "log.csv") if row["step"] > 6 and "rate" in row
    ]
    optimiser = recipe().optimiser.rate, recipe().predictor.rate
    shares = [rate / full for rate, full in zip(rates, optimiser, strict=True)]
    assert shares == pytest.approx([1, 1] if "optimisers" in plan else [1 / 4, 2 / 4])


def test_a_run_is_not_overwritten(tmp_path, run):
    pack_state(run, tmp_path, 60 * MIB)
    with pytest.raises(FileAccess, match="a run is here already"):
        unpack_state(tmp_path, run)
    (tmp_path / f"{STATE}.01").unlink()
    with pytest.raises(FileAccess, match=f"{STATE}.01"):
        unpack_state(tmp_path, tmp_path / "other")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(1 / max(np.square(one - other).mean(), 1e-12)))


def test_photographs_stay_what_they_were(tmp_path, photographs):
    """Windows within a limit have above 45 dB, and their licences."""
    whole = sum(file.stat().st_size for file in photographs.iterdir())
    table = tmp_path / "licences.csv"
    table.write_text("file,source,licence\n0.jpg,garden,CC0-1.0\n")
    packed = pack_pictures(photographs, tmp_path / "packed", int(0.95 * whole), licences=table)
    assert len(packed.entries) == 4
    assert sum(file.stat().st_size for file in packed.files) <= 0.95 * whole
    assert (packed.entries[0].licence, packed.entries[0].source) == ("CC0-1.0", "garden")
    assert packed.psnr is not None
    assert packed.psnr > 45

    entries = unpack_pictures(tmp_path / "packed", tmp_path / "again")
    assert entries == packed.entries
    found = []
    for entry in entries:
        shown = read_photo(tmp_path / "again" / entry.name).pixels
        assert shown.shape == (entry.size[1], entry.size[0], 3)
        original = read_photo(photographs / entry.original).pixels
        left, top = (
            (int(word) for word in entry.done.replace(",", "").split()[3::2])
            if entry.psnr
            else (0, 0)
        )
        found.append(psnr(shown, original[top : top + entry.size[1], left : left + entry.size[0]]))
    assert np.mean(found) > 45


def test_photographs_that_fit_are_not_touched(tmp_path, photographs):
    photograph(tmp_path / "in" / "deep" / "a.jpg", 300, 200)
    photograph(tmp_path / "in" / "b.png", 300, 200)
    (tmp_path / "in" / "c.jpg").write_bytes(b"no picture")
    packed = pack_pictures(tmp_path / "in", tmp_path / "packed", 10 * MIB)
    unpack_pictures(tmp_path / "packed", tmp_path / "again")
    assert (tmp_path / "again" / "deep" / "a.jpg").read_bytes() == (
        tmp_path / "in" / "deep" / "a.jpg"
    ).read_bytes()
    assert (tmp_path / "again" / "b.png.jpg").is_file()  # which is smaller
    assert len(packed.skipped) == 1
    assert "c.jpg" in packed.skipped[0]


def test_halved_photographs(tmp_path, photographs):
    whole = sum(file.stat().st_size for file in photographs.iterdir())
    packed = pack_pictures(photographs, tmp_path / "packed", int(0.75 * whole), reduce="halve")
    halved = [entry for entry in packed.entries if entry.done.startswith("halved, quality 98")]
    assert 0 < len(halved) < 4
    for entry in halved:
        with Image.open(photographs / entry.original) as image:
            assert entry.size == (image.width // 2, image.height // 2)


def test_a_limit_that_is_too_small_for_all(tmp_path, photographs):
    largest = max(file.stat().st_size for file in photographs.iterdir())
    packed = pack_pictures(photographs, tmp_path / "packed", int(1.5 * largest) + 8 * KIB)
    assert 0 < len(packed.entries) < 4
    assert packed.left_out == 4 - len(packed.entries)
    with pytest.raises(BadArgument, match=r"5\.0 KiB are too little for even one"):
        pack_pictures(photographs, tmp_path / "none", 5 * KIB)
    with pytest.raises(NothingToDo, match="no photograph"):
        pack_pictures(tmp_path / "nowhere", tmp_path / "none", MIB)


class Ticking:
    """A clock that advances by a second with each reading; at one reading something happens."""

    def __init__(self, at: int | None = None, happens: Callable[[], None] = lambda: None) -> None:
        self.now = 0
        self.at = at
        self.happens = happens

    def __call__(self) -> float:
        self.now += 1
        if self.now == self.at:
            self.happens()
        return float(self.now)


@pytest.fixture
def packed(tmp_path, photographs) -> Path:
    pack_pictures(photographs, tmp_path / "packed", 10 * MIB)
    return tmp_path / "packed"


def written(folder: Path, taken: Recipe, name: str = "recipe.toml") -> Path:
    path = folder / name
    path.write_text(write_recipe(taken))
    return path


def asked(tmp_path: Path, packed: Path, taken: Recipe, **options) -> script.Session:
    values = {"seconds": 120, "device": "cpu", "work": tmp_path / "work", **options}
    return script.Session(packed, tmp_path / "out", written(tmp_path, taken), **values)


def facts(folder: Path) -> dict[str, object]:
    return json.loads((folder / "state.json").read_text())


def test_a_session_from_beginning_to_end(tmp_path, packed, photographs):
    """It ends in time, and training continues from it, here and in a second session."""
    clock = Ticking()
    said = []
    done = script.session(asked(tmp_path, packed, recipe()), said.append, clock, 0.0)
    assert clock.now <= 120
    assert done.step > 5
    out = tmp_path / "out"
    assert facts(out)["ended"] == "time"
    assert {file.name for file in out.iterdir()} == {
        f"{STATE}.01",
        "state.json",
        "log.csv",
        "samples.png",
    }

    unpack_state(out, tmp_path / "again")
    train(Options(tmp_path / "again", photographs, steps=done.step + 2, resume=True, device="cpu"))
    assert load_state(tmp_path / "again").step == done.step + 2

    pack_state(tmp_path / "again", packed, 60 * MIB)
    second = asked(tmp_path, packed, recipe(), work=tmp_path / "second", seconds=150)
    assert script.session(second, said.append, Ticking(), 0.0).step > done.step + 2


def test_a_session_in_two_phases(tmp_path, packed):
    """The predictor trains alone, then the denoiser with the predictor's answers."""
    init = write_model(
        replace(MODEL, predictor=None, condition_picture="degraded"),
        build_backbone(MODEL.backbone).state_dict(),
        tmp_path / "init.safetensors",
    )
    first = recipe(predictor={"fraction": 1.0})
    first = replace(first, model=replace(MODEL, condition_picture="degraded"))
    options = {
        "predictor_recipe": written(tmp_path, first, "predictor.toml"),
        "predictor_seconds": 50,
        "init": str(init),
        "seconds": 200,
    }
    done = script.session(
        asked(tmp_path, packed, recipe(predictor={"fraction": 0.25}), **options),
        print,
        Ticking(),
        0,
    )
    assert (tmp_path / "out" / "predictor-log.csv").is_file()
    assert len(done.files) <= 8

    before = load_state(tmp_path / "work" / "predictor-run")
    after = load_state(tmp_path / "work" / "run")
    assert before.step > 3
    untouched = build_backbone(MODEL.backbone).state_dict().keys()
    assert before.network.keys() == untouched
    assert after.recipe.model.condition_picture == "predicted"
    assert done.step == after.step > 3


def test_an_interrupted_session_is_packed(tmp_path, packed):
    clock = Ticking(60, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        script.session(asked(tmp_path, packed, recipe()), print, clock, 0.0)
    assert facts(tmp_path / "out")["ended"] == "interrupted"
    assert unpack_state(tmp_path / "out", tmp_path / "again").step > 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_error_leaves_the_last_good_state(tmp_path, packed, monkeypatch):
    """The state is packed at a checkpoint before; the last packing names the error."""
    learn = Learner.learn

    def failing(self, batch, fraction):
        if self.step == 9:
            raise RuntimeError("out of memory")
        return learn(self, batch, fraction)

    monkeypatch.setattr(Learner, "learn", failing)
    said = []
    taken = recipe(run={"checkpoint_minutes": 0.1})
    with pytest.raises(RuntimeError, match="out of memory"):
        script.session(asked(tmp_path, packed, taken, seconds=500), said.append, Ticking(), 0.0)
    assert any("packed step" in text for text in said)
    assert facts(tmp_path / "out")["ended"] == "error: out of memory"
    assert 0 < unpack_state(tmp_path / "out", tmp_path / "again").step <= 9


def test_a_session_without_time_or_sense(tmp_path, packed, run):
    with pytest.raises(BadArgument, match=r"no time is left to train.*give it \d+ s more"):
        script.session(asked(tmp_path, packed, recipe(), seconds=12), print, Ticking(), 0.0)
    with pytest.raises(BadArgument, match="go together"):
        script.session(
            asked(tmp_path, packed, recipe(), predictor_seconds=5), print, Ticking(), 0.0
        )
    pack_state(run, packed, 60 * MIB)
    with pytest.raises(BadArgument, match="holds a state"):
        script.session(asked(tmp_path, packed, recipe(), init="default"), print, Ticking(), 0.0)


def test_a_session_chooses_the_machine_and_the_cool_down_alone():
    here = recipe(
        run={"compile": True, "workers": 14, "seed": 5},
        schedule={"cooldown": 0.5, "warmup_steps": 9},
    )
    changed = script.as_here(recipe(), here)
    assert changed == recipe(run={"compile": True, "workers": 14}, schedule={"cooldown": 0.5})


def test_a_second_call_on_the_same_machine(tmp_path, packed):
    """The run in the work folder continues from its end, also after its cool-down."""
    taken = recipe(schedule={"cooldown": 0.5})
    first = script.session(asked(tmp_path, packed, taken), print, Ticking(), 0.0)
    assert (tmp_path / "work" / "run" / "before-cooldown").is_dir()
    clock = Ticking()
    second = script.session(asked(tmp_path, packed, taken, seconds=100), print, clock, 0.0)
    assert clock.now <= 100
    assert second.step > first.step + 3
    last = [row for row in read_log(tmp_path / "work" / "run" / "log.csv") if "rate" in row][-1]
    assert last["share"] > 0.9


def test_the_recipes_fit_each_other():
    """The second phase starts from the first one's model."""
    first, second = (read_recipe(RECIPES / f"gpu_{name}.toml") for name in ("predictor", "refiner"))
    for each in (first, second):
        check_recipe(each.with_length(None, 1.0))
        assert parse_recipe(write_recipe(each)) == each
    assert first.model.predictor == second.model.predictor
    assert second.model.condition_picture == "predicted"


def test_the_command_line(tmp_path, run, photographs, monkeypatch, capsys):
    def called(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["short_gpu_run", *map(str, words)])
        return script.main()

    assert called("pack", photographs, tmp_path / "packed", "--limit", "2MiB", "--count", 2) == 0
    assert "2 photographs without a known licence" in capsys.readouterr().out
    assert called("pack-state", run, tmp_path / "packed") == 0
    assert (
        called("unpack-state", tmp_path / "packed", tmp_path / "again", "--workers", 3, "--eager")
        == 0
    )
    assert load_state(tmp_path / "again").recipe.run.workers == 3
    assert called("unpack-state", tmp_path / "packed", tmp_path / "again") == FileAccess.exit_code
    assert called("pack", photographs, tmp_path / "none", "--limit", "1kB") == BadArgument.exit_code
    assert "too little" in capsys.readouterr().err
    assert math.isfinite(script.process_age())
