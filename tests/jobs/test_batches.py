"""Batches of a folder run write the same files as single pictures."""

from __future__ import annotations

import io
import json
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import files, piece

import restore.restorer
from restore.diffusion.denoiser import Condition, Denoiser, Prediction
from restore.diffusion.stepping import gaussian_noise, start
from restore.errors import BadArgument, Unavailable
from restore.files import Fingerprint
from restore.jobs.batches import Batches
from restore.jobs.measurement import Measurement
from restore.jobs.picture import Loaded, Work
from restore.jobs.plan import Job
from restore.jobs.ray_engine import Actor, Model, Order
from restore.methods.options import Options
from restore.photo.photograph import Photo
from restore.restorer import Restorer
from restore.runtime.budget import BATCH_PIXELS, SOLVER_BYTES, Budget
from restore.runtime.progress import Progress
from restore.samplers.analytic_dpm import ScoreNorms
from restore.samplers.catalogue import SAMPLERS
from restore.tasks import Denoising, Inpainting, Task

pytestmark = pytest.mark.usefixtures("light_network")

SIZE = (24, 16)
# 3 is wider and 4 is not a picture, so that batches of up to four are 0, 1, 2 and 5, 6; 7 has alpha
# and is alone.
ORDER = ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "7.png"]

TASKS = {
    "sr": ("sr", "--scale", 2, "--steps", 2),
    "sr-noise": ("sr", "--scale", 1.5, "--noise", "auto", "--steps", 2),
    "deblur": ("deblur", "--kernel", "gaussian:1", "--steps", 2),
    "deblur-ddrm": ("deblur", "--kernel", "motion:5:30", "--method", "ddrm", "--steps", 2),
    "denoise": ("denoise",),
    "denoise-ddrm": ("denoise", "--method", "ddrm", "--steps", 2),
    "inpaint": ("inpaint", "--steps", 2, "--mask", "mask.png"),
    "colorize": ("colorize", "--steps", 2),
    "jpeg": ("solve", "--operator", "jpeg:40", "--steps", 2),
    "samples": ("inpaint", "--steps", 2, "--mask", "mask.png", "--samples", 3),
    "predictor-corrector": ("sr", "--scale", 2, "--sampler", "predictor-corrector", "--steps", 2),
}


# Sizes of batches with one trajectory for all, and with trajectories by noise: 2 and 5 are so noisy
# that they start at higher levels if their noise is estimated.
ONE_WALK, OWN_WALKS = [3, 1, 2, 1], [2, 1, 1, 1, 1, 1]
TOGETHER = dict.fromkeys(TASKS, ONE_WALK) | {
    "sr-noise": [1] * 7,  # above the prediction, levels follow from less noise
    "deblur": OWN_WALKS,
    "deblur-ddrm": OWN_WALKS,
    "denoise-ddrm": OWN_WALKS,
    "inpaint": [3, 2, 1],  # the mask does not fit 3
    "samples": [3, 2, 1],
    "jpeg": [1] * 7,  # levels follow from what each picture lost
    "predictor-corrector": [1] * 7,  # its steps depend on what else is in a batch
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a working folder with a mask and eight files, some of which form batches."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    random = np.random.default_rng(0)
    for index in range(8):
        size = (32, 16) if index == 3 else SIZE
        noisy = np.asarray(
            piece((100, 60)).crop((7 * index, 5 * index, 7 * index + size[0], 5 * index + size[1]))
        )
        noisy = noisy + random.normal(0, (2, 12, 40)[index % 3], noisy.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(f"in/{index}.png")
    Path("in/4.png").write_bytes(b"no picture")
    cut_out = piece(SIZE).convert("RGBA")
    cut_out.putalpha(Image.linear_gradient("L").resize(SIZE))
    cut_out.save("in/7.png")
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[4:9, 6:12] = 255
    Image.fromarray(mask).save("mask.png")
    return tmp_path


@pytest.fixture
def float32(monkeypatch) -> None:
    monkeypatch.setattr(restore.restorer, "network_dtype", lambda device: torch.float32)


@pytest.fixture
def one_by_one(float32, monkeypatch) -> None:
    """Run convolutions on one picture at a time, so that batches round equally."""
    whole = Denoiser._run

    def run(self: Denoiser, scaled: torch.Tensor, time: torch.Tensor, condition: Condition | None):
        def of(values: torch.Tensor, index: int) -> torch.Tensor:
            return values[index : index + 1] if len(values) > 1 else values

        shown = [
            condition and Condition(*(of(part, index) for part in condition))
            for index in range(len(scaled))
        ]
        answers = [whole(self, of(scaled, i), of(time, i), shown[i]) for i in range(len(scaled))]
        return torch.cat([output for output, _share in answers]), None

    monkeypatch.setattr(Denoiser, "_run", run)


@pytest.fixture
def together(monkeypatch) -> list[int]:
    """Record the sizes of batches with one trajectory."""
    sizes: list[int] = []
    solved = Restorer._solved

    def count(self: Restorer, method: str, run: restore.restorer.Run, options: Options):
        sizes.append(len(run.problem.measurement))
        return solved(self, method, run, options)

    monkeypatch.setattr(Restorer, "_solved", count)
    return sizes


def told(outcome) -> list[dict]:
    return [json.loads(line) for line in outcome.out.splitlines()]


def facts(record: dict) -> dict:
    """Return what must not depend on the batch, with what is measured of the result rounded."""
    measured = ("consistency", "unexplained")
    varying = {"seconds", "outputs", "error", *measured}
    return {k: v for k, v in record.items() if k not in varying} | {
        f"about {name}": round(record.get(name) or 0, 4) for name in measured
    }


def largest_difference(one: bytes, other: bytes) -> int:
    pixels = [np.asarray(Image.open(io.BytesIO(data)), dtype=int) for data in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max())


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_gives_the_bytes_of_single_runs(
    name, command, folder, one_by_one, together
) -> None:
    task, *words = TASKS[name]
    single = command(task, "in", "single", *words, "--batch", 1, "--json")
    assert set(together) == {1}
    together.clear()
    batched = command(task, "in", "batched", *words, "--batch", 4, "--json")
    assert (single.code, batched.code) == (10, 10), batched.err
    assert files(Path("batched")) == files(Path("single"))
    assert [Path(record["input"]).name for record in told(batched)] == ORDER
    assert [facts(record) for record in told(batched)] == [facts(record) for record in told(single)]
    assert together == TOGETHER[name]


@pytest.mark.parametrize("name", ["sr", "deblur"])
@pytest.mark.shipped_network
def test_the_network_s_rounding_is_within_a_level(name, command, folder, float32) -> None:
    task, *words = TASKS[name]
    for count in (1, 4):
        assert command(task, "in", f"out{count}", *words, "--batch", count).code == 10
    single = files(Path("out1"))
    batched = files(Path("out4"))
    assert single.keys() == batched.keys()
    assert max(largest_difference(single[name], batched[name]) for name in single) <= 1


def test_strips_and_the_report_are_those_of_single_runs(
    command, folder, one_by_one, together
) -> None:
    for count in (1, 4):
        words = (
            "denoise",
            "in",
            f"out{count}",
            "--compare",
            "--report",
            f"{count}.html",
            "--batch",
            count,
        )
        assert command(*words).code == 10
    assert together[7:] == [3, 1, 2, 1]
    assert files(Path("out1")) == files(Path("out4"))
    single, batched = (Path(f"{count}.html").read_text() for count in (1, 4))
    assert batched.count("<img") == single.count("<img") > 7
    for name in ORDER:
        assert name in batched


def test_seconds_are_a_picture_s_share(command, folder, monkeypatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(
        "restore.restorer.time", SimpleNamespace(perf_counter=lambda: 6.0 * next(now))
    )
    records = told(command("denoise", "in", "out", "--batch", 4, "--json"))
    assert [record.get("seconds") for record in records] == [
        2.0,
        2.0,
        2.0,
        6.0,
        None,
        3.0,
        3.0,
        6.0,
    ]


def test_without_the_option_a_cpu_restores_one_by_one(command, folder, together) -> None:
    assert command("denoise", "in", "out", "--device", "cpu").code == 10
    assert together == [1] * 7


def test_a_batch_goes_on_where_single_runs_were(command, folder, together) -> None:
    Path("all").mkdir()
    for name in ("4.png", "5.png"):
        Path("in", name).rename(Path("all", name))
    assert command("denoise", "in", "out").code == 0
    together.clear()
    for path in Path("all").iterdir():
        path.rename(Path("in", path.name))
    outcome = command("denoise", "in", "out", "--batch", 4)
    assert outcome.code == 10
    assert "6 done before and left as they are (--overwrite redoes them)" in outcome.err
    assert together == [1]
    Path("in/4.png").unlink()
    again = command("denoise", "in", "out", "--batch", 2)
    assert again.code == 6
    assert "other options" not in again.err
    recorded = [json.loads(line) for line in Path("out/restore.jsonl").read_text().splitlines()]
    assert sorted(line["input"] for line in recorded if line["status"] == "done") == [
        n for n in ORDER if n != "4.png"
    ]


def test_pages_go_together(command, folder, together) -> None:
    pages = [piece(SIZE, crop) for crop in ("a", "b", "a")]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    assert command("denoise", "pages.tif", "out.tif", "--pages", "--batch", 2).code == 0
    assert together == [2, 1]
    assert {path.name for path in Path().glob("out*.tif")} == {
        f"out.page{n}.tif" for n in (1, 2, 3)
    }


# When something fails


def test_one_picture_that_fails_does_not_end_the_others(command, folder, one_by_one) -> None:
    """Some pictures are in colour, and the operator measures one channel."""
    for index in (0, 2, 5, 6):
        Image.open(f"in/{index}.png").convert("L").convert("RGB").save(f"in/{index}.png")
    words = ("solve", "in", "--operator", "gray+blur:gaussian:1", "--steps", 2, "--json")
    single, batched = (command(*words, "-o", f"out{count}", "--batch", count) for count in (1, 4))
    states = [(Path(record["input"]).stem, record["status"]) for record in told(batched)]
    assert [name for name, status in states if status == "failed"] == ["1", "3", "4", "7"]
    assert [name for name, _ in states] == [Path(name).stem for name in ORDER]
    assert "in colour; give a grey one" in told(batched)[1]["error"]
    assert [facts(record) for record in told(batched)] == [facts(record) for record in told(single)]
    assert files(Path("out4")) == files(Path("out1"))


def test_less_memory_halves_the_batch_from_then_on(
    command, folder, one_by_one, together, monkeypatch
) -> None:
    Path("in/3.png").unlink()
    Path("in/4.png").unlink()
    assert command("denoise", "in", "single").code == 0
    together.clear()
    measured = restore.restorer.consistency

    def hungry(operator, estimate, measurement):
        if len(estimate) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return measured(operator, estimate, measurement)

    monkeypatch.setattr(restore.restorer, "consistency", hungry)
    outcome = command("denoise", "in", "batched", "--batch", 5)
    assert outcome.code == 0
    notices = [line for line in outcome.err.splitlines() if line.startswith("restore: ")]
    assert notices == ["restore: not enough memory for 5 pictures together: going on with 2"]
    assert together == [5, 2, 2, 1, 1]
    assert files(Path("batched")) == files(Path("single"))
    quiet = command("denoise", "in", "quiet", "--batch", 5, "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_memory_that_does_not_suffice_for_one_is_its_own_error(
    command, folder, monkeypatch
) -> None:
    def hungry(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(restore.restorer, "consistency", hungry)
    outcome = command("denoise", "in", "out", "--batch", 4)
    assert outcome.code == 10
    assert "for 3 pictures together: going on with 1" in outcome.err
    assert outcome.err.count("not enough memory for a picture of 24x16 pixels") == 6
    assert files(Path("out")) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", 0], "--batch 0: must be at least 1"),
        (["--batch", -3], "--batch -3: must be at least 1"),
        (["--batch", "many"], "Invalid value for '--batch'"),
    ],
)
def test_bad_batches(command, folder, words, said) -> None:
    outcome = command("denoise", "in", "out", *words)
    assert outcome.code == 1
    assert said in outcome.err
    assert not Path("out").exists()


def test_the_option_in_a_file(command, folder, together) -> None:
    Path("mine.toml").write_text("[denoise]\nbatch = 2\n")
    assert command("denoise", "in", "out", "--config", "mine.toml").code == 10
    assert together == [2, 1, 1, 2, 1]


# On a cluster, whose stages are called here


def test_a_worker_restores_together_what_it_is_given_at_once(folder, float32, together) -> None:
    """A worker sorts rows by size, and passes errors of reading on."""
    names = [f"{index}.png" for index in range(8)]
    jobs = [Job(Path("in", name), Path("out", name)) for name in names]
    order = Order(Work(Denoising(0.1), Options(steps=2)), Model("default", "cpu"), batch=3)
    read = [
        order.read({"index": index, "value": pickle.dumps(job)}) for index, job in enumerate(jobs)
    ]
    written = {
        row["index"]: pickle.loads(order.write(row)["value"]) for row in Actor(order).restored(read)
    }
    assert together == [3, 2, 1, 1]
    assert written.keys() == set(range(8))
    assert [index for index, ended in written.items() if isinstance(ended, Exception)] == [4]
    for index in written.keys() - {4}:  # as the command does, which has the manifest
        written[index].staged.put_in_place(replace=False)
    assert {path.name for path in Path("out").iterdir()} == set(names) - {"4.png"}


def test_a_worker_makes_its_model_where_it_calls_it(folder, monkeypatch) -> None:
    """The model is made with the first readable picture, as OpenMP has threads per caller."""
    made = []

    def no_model(*_: object, **__: object) -> None:
        made.append(threading.get_ident())
        raise Unavailable("no model here")

    monkeypatch.setattr("restore.jobs.ray_engine.Restorer", no_model)
    order = Order(Work(Denoising(0.1), Options(steps=2)), Model("default", "cpu"))
    actor = Actor(order)
    unreadable = order.read(
        {"index": 0, "value": pickle.dumps(Job(Path("in/4.png"), Path("out/4.png")))}
    )
    assert list(actor.restored([unreadable])) == [unreadable]
    assert made == []
    readable = order.read(
        {"index": 1, "value": pickle.dumps(Job(Path("in/0.png"), Path("out/0.png")))}
    )
    caller = threading.Thread(target=lambda: list(actor.restored([readable])))
    caller.start()
    caller.join()
    assert len(made) == 1
    assert made[0] != threading.get_ident()


# Which go together, and how many


MASK = np.eye(16, 24, dtype=bool)
# stands for an operator that cannot be read
UNREADABLE = 7


def loaded(
    size=(16, 24), channels=3, *, alpha=False, measurement=None, **options: object
) -> Loaded:
    pixels = np.zeros((*size, channels), np.uint8)
    opacity = np.ones(size, np.uint8) if alpha else None
    task = Inpainting(**{"mask": MASK[::-1], "noise": 0.1, **options})
    return Loaded(Photo(pixels, alpha=opacity), pixels, task, measurement, Fingerprint(0, 0, ""))


def batches(count: int = 5, wanted: int | None = None) -> Batches:
    def pictures_at_once(task: Task, size: tuple[int, int], wanted: int | None) -> int:
        if task.dilate == UNREADABLE:
            raise BadArgument("`operator`: cannot be read")
        return min(count, wanted or count)

    fake = SimpleNamespace(pictures_at_once=pictures_at_once, device=torch.device("cpu"))
    work = Work(Denoising(0.1), Options())
    return Batches(work, fake, wanted, Progress(1, quiet=True), lambda text: None)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (loaded(), True),
        (loaded((16, 25)), False),
        (loaded((24, 16)), False),
        (loaded(channels=1), False),
        (loaded(noise="auto"), False),
        (loaded(mask=MASK), False),
        (loaded(measurement=Measurement(torch.zeros(3, 16, 24))), False),
    ],
)
def test_what_goes_together(other: Loaded, alike: bool) -> None:
    assert batches().alike(loaded(), other) is alike


def test_one_mask_for_all_goes_together_and_other_masks_do_not() -> None:
    assert batches().alike(loaded(mask=MASK), loaded(mask=MASK.copy()))
    assert not batches().alike(loaded(mask=MASK), loaded(mask=~MASK))


def test_how_many_go_together() -> None:
    assert batches().most(loaded()) == 5
    assert batches(wanted=3).most(loaded()) == 3
    assert batches().most(loaded(alpha=True)) == 1
    assert batches().most(loaded(measurement=Measurement(torch.zeros(3, 16, 24)))) == 1
    assert batches().most(loaded(dilate=UNREADABLE)) == 1, (
        "the picture itself is the one that fails"
    )


@pytest.mark.parametrize("memory", [10**8, 10**9, 10**10, 10**11])
@pytest.mark.parametrize("side", [16, 256, 700, 1500, 4000])
@pytest.mark.parametrize("wanted", [None, 100])
def test_a_batch_fits_the_memory_as_one_picture_does(
    memory: int, side: int, wanted: int | None
) -> None:
    """A batch has the place of a single picture, and is whole if that is, in one call."""
    gpu = Budget(memory, 700.0, batches=True)
    device = torch.device("meta")
    pixels = side**2
    count = gpu.pictures(pixels, wanted)
    assert 1 <= count <= (wanted or max(1, BATCH_PIXELS // pixels))
    if count > 1:
        assert gpu.place(count * pixels, device) == device
        assert (
            gpu.tile(count * pixels) == gpu.tile(pixels) or gpu.tile(count * pixels) ** 2 >= pixels
        )
        assert gpu.at_once(side, count * pixels) >= (count * pixels if wanted is None else pixels)


def test_a_cpu_takes_several_only_if_asked() -> None:
    cpu = Budget(10**10, 700.0)
    assert cpu.pictures(256**2) == 1
    assert cpu.pictures(256**2, 8) == 8
    assert cpu.pictures(4000**2, 8) == 1
    assert Budget(10**11, 700.0, batches=True).pictures(256**2) == 64
    assert Budget(2 * SOLVER_BYTES * 256**2 * 3, 1.0, batches=True).pictures(256**2) == 3


# Random numbers and samplers


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(5) for _ in range(count)]


def test_each_picture_draws_what_it_would_draw_alone() -> None:
    device = torch.device("cpu")
    own = generators(3)
    (alone,) = generators(1)
    for _ in range(2):
        expected = gaussian_noise((1, 2, 5, 7), alone, device)
        assert torch.equal(
            gaussian_noise((3, 2, 5, 7), own, device), expected.expand(3, -1, -1, -1)
        )
    with pytest.raises(ValueError, match="2 generators for 3 pictures"):
        gaussian_noise((3, 2, 5, 7), generators(2), device)


def toy(
    x: torch.Tensor, sigma: torch.Tensor | float, condition: Condition | None = None
) -> Prediction:
    """Posterior mean for pixels of -1 or 1: nonlinear, and independent for each picture."""
    clean = torch.tanh(x / torch.as_tensor(sigma) ** 2)
    return Prediction(clean, (x - clean) / sigma, *torch.full((2, *x.shape), 0.5))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_that_are_said_to_are_per_picture(name: str) -> None:
    sampler = SAMPLERS[name]
    sigmas = [5.0, 2.0, 1.0, 0.5, 0.2, 0.0]
    seeds = (1, 2, 3)

    def drawn(*chosen: int) -> torch.Tensor:
        own = [torch.Generator().manual_seed(seed) for seed in chosen]
        x = start(torch.zeros(len(chosen), 3, 4, 4), sigmas[0], own)
        x = x * torch.tensor(chosen).reshape(-1, 1, 1, 1)  # one batch, very different pictures
        norms = {"norms": ScoreNorms((5.0, 0.2), (0.01, 1.0), "toy")} if sampler.score_norms else {}
        return sampler.run(
            toy, x, sigmas, **norms, **({"generator": own} if sampler.random else {})
        )

    alone = torch.cat([drawn(seed) for seed in seeds])
    assert torch.equal(drawn(*seeds), alone) is sampler.per_picture


# From Python


@pytest.fixture
def restorer(loaded_once) -> Restorer:
    return Restorer(device="cpu")


def test_pictures_of_any_kind_come_back_as_that_kind(restorer: Restorer) -> None:
    first, second = (np.asarray(piece(SIZE, crop)) for crop in "ab")
    pictures = [Image.fromarray(first), Image.fromarray(second).convert("L")]
    found = restorer.restore_together(Denoising(0.1), pictures, Options())
    assert [result.mean.mode for result in found] == ["RGB", "L"]
    assert [result.report.noise for result in found] == pytest.approx([0.1, 0.1])


def test_pictures_that_do_not_go_together_are_refused(restorer: Restorer) -> None:
    with pytest.raises(ValueError, match="one size and no alpha"):
        restorer.restore_together(
            Denoising(0.1), [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)], Options()
        )
    with pytest.raises(ValueError, match="one size and no alpha"):
        restorer.restore_together(Denoising(0.1), [torch.zeros(4, 8, 8)] * 2, Options())
    with pytest.raises(ValueError, match="one size and no alpha"):
        restorer.restore_together(Denoising(0.1), [torch.zeros(2, 3, 8, 8)] * 2, Options())
    with pytest.raises(BadArgument, match="`noise`=2"):
        restorer.restore_together(Denoising(2), [torch.zeros(3, 8, 8)] * 2, Options())
