"""Each pair of independent options works, or is refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.networks import random_file, tiny
from support.pictures import files, piece

from restore.errors import BadArgument, Unavailable
from restore.jobs import ray_engine
from restore.jobs.picture import Work
from restore.jobs.plan import Job
from restore.methods.options import Options
from restore.tasks import SuperResolution

pytestmark = pytest.mark.usefixtures("light_network")

SMALL = (12, 8)
LARGE = (48, 32)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    """Write a model that knows classes."""
    return random_file(tmp_path_factory.mktemp("model") / "classes.safetensors", tiny(classes=3))


@pytest.fixture
def place(picture, classes, tmp_path, monkeypatch) -> Path:
    """Return a working folder with pictures, starts, levels and two third-party networks."""
    for name in ("in/a.png", "in/b.png", "one.png"):
        picture(name, size=SMALL)
    for name, crop in (("starts/a.png", "a"), ("starts/b.png", "b"), ("start.png", "a")):
        picture(name, size=LARGE, crop=crop)
    picture("alpha.png", "RGBA", SMALL)
    picture("deep.png", "RGB;16", SMALL)
    picture("pages.tiff", size=SMALL, save_all=True, append_images=[piece(SMALL, "b")])
    for name, levels in (("levels", [5.0, 0.5]), ("high", [1e4, 0.5]), ("low", [5.0, 1e-5])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"levels": levels, "eta": 0.5}))
    for file in classes.parent.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def network(place) -> Path:
    """Write a denoiser of another project."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.DnCNN import DnCNN

    torch.save(DnCNN(in_nc=3, out_nc=3, nc=8, nb=8, act_mode="R").state_dict(), place / "dn.pth")
    return place / "dn.pth"


CASCADE = "--scale 4 --cascade 2x2"
FOLDER = "sr in out --steps 2"
CLASSES = "--model classes.safetensors"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"sr one.png out.png {CASCADE} --steps 2 --method sr3 --guidance 2",
            {"method": "sr3", "steps": 4},
        ),
        (
            f"sr one.png out.png {CASCADE} --levels levels.json --guidance 2",
            {"method": "sr3", "steps": 4},
        ),
        (
            f"sr one.png out.png {CASCADE} --steps 2 --sampler ddim --guidance 2",
            {"method": "sr3", "steps": 4},
        ),
        (f"sr one.png out.png {CASCADE} --method one-step", {"method": "one-step", "steps": 2}),
        (
            f"sr one.png out.png {CASCADE} --steps 2 --method diffpir --samples 2",
            {"method": "diffpir", "samples": 2},
        ),
        (
            f"sr one.png out.png {CASCADE} --steps 2 --class 1 {CLASSES}",
            {"method": "ddrm", "steps": 4},
        ),
        (f"sr alpha.png out.png {CASCADE} --steps 2", {"width": LARGE[0]}),
        (f"sr deep.png out.png {CASCADE} --steps 2 --depth 16", {"width": LARGE[0]}),
        (f"sr pages.tiff out.tiff {CASCADE} --steps 2 --pages --compare", {"steps": 4}),
        (
            f"{FOLDER} {CASCADE} --batch 2 --samples 2 --compare --report page.html",
            {"steps": 4, "samples": 2},
        ),
        (f"{FOLDER} {CASCADE} --dry-run", {"status": "planned"}),
        (f"{FOLDER} --start starts --batch 2 --samples 2", {"method": "daps", "samples": 2}),
        (
            f"{FOLDER} --start starts --sampler heun --guidance 2 --report page.html",
            {"method": "sr3"},
        ),
        ("sr pages.tiff out.tiff --steps 2 --pages --start start.png", {"method": "sr3"}),
        ("sr alpha.png out.png --steps 2 --start start.png", {"width": LARGE[0]}),
        (f"{FOLDER} --start starts --batch 2 --class 2 {CLASSES}", {"method": "ddrm"}),
        (
            "sr in out --guidance 2 --levels levels.json --batch 2 --samples 2",
            {"method": "sr3", "steps": 2},
        ),
        (f"{FOLDER} --batch 2 --class 1 {CLASSES} --compare", {"method": "ddrm"}),
        (
            "colorize one.png out.png --levels levels.json --guidance 0.5",
            {"method": "sr3", "steps": 2},
        ),
        (
            "deblur one.png out.png --kernel box:3 --levels levels.json --guidance 0",
            {"method": "sr3"},
        ),
        (
            "inpaint one.png out.png --mask one.png --sampler ddim --guidance 2 --steps 2",
            {"method": "sr3"},
        ),
    ],
)
def test_together(command, place, line, told) -> None:
    outcome = command(*line.split(), "--json")
    assert outcome.code == 0, outcome.err
    records = [json.loads(text) for text in outcome.out.splitlines()]
    several = "in out" in line or "--pages" in line
    assert len(records) == (2 if several else 1)
    for record in records:
        assert {name: record[name] for name in told} == told
        assert all(Path(path).exists() for path in record["outputs"]) == ("--dry-run" not in line)
    assert Path("page.html").exists() == ("--report" in line)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (
            f"{FOLDER} --cascade 2x2 --start starts",
            1,
            "--cascade and --start: the stages begin and go by themselves",
        ),
        (f"{FOLDER} --cascade 2x2 --watch --report page.html", 1, "--watch and --report"),
        (
            f"{FOLDER} --cascade-noise 0.1",
            1,
            "--cascade-noise 0.1: lies between the stages of a cascade",
        ),
        ("sr in out --start starts --levels levels.json", 1, "--levels and --start: both say"),
        (
            "sr in out --levels levels.json --sampler ddim",
            1,
            "--levels: are for --method sr3 and its own sampler",
        ),
        ("sr in out --levels levels.json --method ddrm", 1, "not for ddrm"),
        ("sr in out --levels levels.json --method one-step", 1, "not for one-step"),
        ("sr in out --levels levels.json --steps 3", 1, "--steps 3: there are 2 --levels"),
        ("sr in out --levels high.json", 1, "--levels: 10000 is no noise level of this model"),
        ("sr in out --levels low.json", 1, "--levels: 1e-05 is no noise level of this model"),
        (
            f"{FOLDER} --guidance 2 --method ddrm",
            1,
            "--guidance 2.0: is for --method sr3, not ddrm",
        ),
        (
            f"{FOLDER} --sampler analytic-ddim",
            1,
            "--sampler analytic-ddim: its variance is estimated for the prior",
        ),
        (
            f"{FOLDER} --sampler ddpm-learned",
            1,
            "--sampler ddpm-learned: this model has not learned the variance",
        ),
        (f"{FOLDER} --class 1", 1, "--class 1: this model knows no classes"),
        (f"{FOLDER} {CLASSES}", 1, "--class is missing: this model draws one of 3 classes"),
        (f"{FOLDER} {CLASSES} --class 3", 1, "--class 3: must be between 0 and 2"),
        (
            f"{FOLDER} {CLASSES} --class 1 --guidance 2",
            1,
            "--method sr3: this model is unconditional",
        ),
        (
            "colorize in out --class 1 --method one-step --model classes.safetensors",
            1,
            "this model is unconditional",
        ),
    ],
)
def test_refused(command, place, line, code, said) -> None:
    """An option that suits no picture fails once, and not for every picture of a folder."""
    before = files(place)
    outcome = command(*line.split())
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert outcome.err.count("restore: error") == 1
    assert "Traceback" not in outcome.err
    assert files(place) == before


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (
            "denoise in out --method spandrel:dn.pth --batch 2 --report page.html --compare",
            0,
            "spandrel:dn.pth",
        ),
        (
            "denoise in out --start spandrel:dn.pth --steps 2 --batch 2 --samples 2 --report "
            "page.html",
            0,
            "ddrm",
        ),
        ("denoise pages.tiff out.tiff --method spandrel:dn.pth --pages", 0, "spandrel:dn.pth"),
        (
            "denoise in out --method spandrel:dn.pth --guidance 2",
            1,
            "--guidance: a feed-forward network",
        ),
        (
            "denoise in out --method spandrel:dn.pth --levels levels.json",
            1,
            "--levels: a feed-forward network",
        ),
        (
            "denoise in out --method spandrel:dn.pth --samples 2",
            1,
            "--samples: a feed-forward network",
        ),
        (
            "sr in out --method spandrel:dn.pth --scale 4 --cascade 2x2",
            1,
            "--cascade and --method spandrel:dn.pth",
        ),
    ],
)
def test_a_network_of_others(command, network, line, code, said) -> None:
    outcome = command(*line.split())
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert Path("page.html").exists() == ("--report" in line)


def test_the_manifest_knows_every_option_that_decides(command, place) -> None:
    same = ("sr", "in", "out", "--method", "sr3", "--steps", 2)
    assert command(*same).code == 0
    assert "other options" not in command(*same, "--batch", 2, "--yes", "--compare").err
    before = files(Path("out"))
    for other in (
        ("--guidance", 2),
        ("--sampler", "ddim"),
        ("--cascade", "2x2"),
        ("--cascade", "2x2", "--cascade-noise", 0.1),
        ("--levels", "levels.json"),
        ("--start", "starts"),
        ("--start", "starts", "--start-noise", 0.1),
        ("--class", 1),
    ):
        outcome = command(*same, *other)
        assert outcome.code == 6
        assert "2 restored with other options" in outcome.err, other
        assert files(Path("out")) == before


def test_every_option_from_a_file(command, place, network) -> None:
    """Paths in a file of options are relative to its folder, also those of networks."""
    Path("conf").mkdir()
    for name in ("levels.json", "dn.pth", "starts", *map(str, Path().glob("classes.*"))):
        shutil.move(name, "conf")
    for words, table in (
        (
            ("sr", "--json"),
            'guidance = 2\nlevels = "levels.json"\nbatch = 2\nyes = true\n[sr]\ncascade = "2x2"',
        ),
        (("sr", "--json"), 'steps = 2\n[sr]\ncascade = "2x2"\ncascade-noise = 0.1\n'),
        (("sr", "--json"), 'steps = 2\nstart = "starts"\nstart-noise = 0.1\n'),
        (("sr", "--json"), 'steps = 2\nclass = 1\nmodel = "classes.safetensors"\n'),
        (("denoise", "--json"), 'method = "spandrel:dn.pth"\n'),
        (("denoise", "--json"), 'steps = 2\nstart = "spandrel:dn.pth"\n'),
    ):
        Path("conf/mine.toml").write_text(table)
        shutil.rmtree("out", ignore_errors=True)
        outcome = command(words[0], "in", "out", "--config", "conf/mine.toml", *words[1:])
        assert outcome.code == 0, (table, outcome.err)
        record = json.loads(outcome.out.splitlines()[0])
        assert (record["cascade"] is not None) == ("cascade" in table)
        is_sr3 = "levels" in table or 'start = "starts"' in table
        assert record["method"] == (
            "spandrel:dn.pth" if "method" in table else "sr3" if is_sr3 else "ddrm"
        )


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("none.safetensors", Options(), Unavailable),
        ("default", Options(label=1), BadArgument),
        ("default", Options(sampler="ddpm-learned"), BadArgument),
    ],
)
def test_a_ray_worker_without_its_model_ends_the_run(
    monkeypatch, place, name, options, error
) -> None:
    """The error is that of a local run, and not that of each picture."""
    job = Job(place / "one.png", place / "out.png")
    work = Work(SuperResolution(4), options)
    model = ray_engine.Model(name, "cpu")

    def rows(ray, jobs, order, cluster):
        """Run the stages in this process."""
        read = [order.read(ray_engine._packed(index, sent)) for index, sent in enumerate(jobs)]
        for row in ray_engine.Actor(order).restored(read):
            yield order.write(row)

    class Cluster:
        def shutdown(self) -> None:
            pass

    monkeypatch.setattr(ray_engine, "_ray", Cluster)
    monkeypatch.setattr(ray_engine, "_connect", lambda ray, cluster: None)
    monkeypatch.setattr(ray_engine, "_rows", rows)
    ended = []
    with pytest.raises(error):
        ray_engine.work_through_on_ray(
            [job], work, model, ray_engine.Cluster(), lambda *end: ended.append(end)
        )
    assert not ended
