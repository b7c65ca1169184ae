"""Several inputs, as the names that a shell makes of a pattern."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.pictures import files

from restore.commands.paths import read_paths
from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.jobs.companions import Companions
from restore.jobs.plan import Plan, Wanted, plan_run
from restore.jobs.request import Request
from restore.jobs.selection import Shard
from restore.tasks import Denoising

pytestmark = pytest.mark.usefixtures("light_network")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [
        "a.png",
        "b.jpg",
        "x/a.png",
        "x/c.tif",
        "x/deep/d.png",
        "x/.hidden/e.png",
        "odd.dat",
    ]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    return tmp_path


def planned(*names: str, **wanted) -> Plan:
    return plan_run(tuple(map(Path, names)), Path("out"), "sr", Wanted(**wanted))


def places(plan: Plan) -> dict[str, str]:
    return {plan.name(job): job.target.as_posix() for job in plan.jobs}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("a.png", "b.jpg"), {"a.png": "out/a.png", "b.jpg": "out/b.jpg"}),
        (("a.png", "a.png", "./b.jpg"), {"a.png": "out/a.png", "b.jpg": "out/b.jpg"}),
        (("a.png", "x/c.tif"), {"a.png": "out/a.png", "c.tif": "out/c.tif"}),
        (("a.png", "odd.dat"), {"a.png": "out/a.png", "odd.dat": "out/odd.png"}),
        (("b.jpg", "x/*.png"), {"b.jpg": "out/b.jpg", "a.png": "out/a.png"}),
        (
            ("a.png", "x"),
            {
                "a.png": "out/a.png",
                "x/a.png": "out/x/a.png",
                "x/c.tif": "out/x/c.tif",
                "x/deep/d.png": "out/x/deep/d.png",
            },
        ),
    ],
)
def test_places_do_not_depend_on_the_other_inputs(tree: Path, names, found) -> None:
    assert places(planned(*names)) == found


def test_what_is_refused(tree: Path) -> None:
    with pytest.raises(BadArgument, match=r"a.png and x/a.png would both be written to out/a.png"):
        planned("a.png", "x/a.png")
    with pytest.raises(FileAccess, match=r"nosuch.png: no such file"):
        planned("a.png", "nosuch.png")
    with pytest.raises(BadArgument, match="- is one input"):
        planned("a.png", "-")
    with pytest.raises(BadArgument, match="`shard`: is for a folder, and there are 2 inputs"):
        planned("a.png", "b.jpg", shard=Shard(1, 2))
    with pytest.raises(BadArgument, match="2 inputs: need a folder"):
        plan_run((Path("a.png"), Path("b.jpg")), None, "sr")
    with pytest.raises(FileAccess, match=r"odd.dat: the input is a folder, or several"):
        plan_run((Path("a.png"), Path("b.jpg")), Path("odd.dat"), "sr")
    with pytest.raises(FileAccess, match=r"a.png: is an input"):
        plan_run((Path("a.png"), Path("b.jpg")), Path(), "sr", Wanted(overwrite=True))
    with pytest.raises(BadArgument, match="`watch`: is for a folder"):
        Request(Denoising(), (Path("a.png"), Path("b.jpg")), Path("out"), watch=True)


def test_masks_among_the_inputs(tree: Path) -> None:
    for name in ("a_mask.png", "b_mask.png"):
        Path(name).write_bytes(b"x")
    plan = planned(
        "a.png", "a_mask.png", "b.jpg", "b_mask.png", masks=Companions(None, needed=True)
    )
    assert {str(job.source): str(job.companion) for job in plan.jobs} == {
        "a.png": "a_mask.png",
        "b.jpg": "b_mask.png",
    }


@pytest.mark.parametrize(
    ("paths", "output", "read"),
    [
        (["a.png"], None, (Path("a.png"), None)),
        (["a.png", "new.png"], None, (Path("a.png"), Path("new.png"))),
        (["a.png", "x"], None, (Path("a.png"), Path("x"))),
        (["x", "b.jpg"], None, (Path("x"), Path("b.jpg"))),
        (["a.png", "a.png"], None, (Path("a.png"), Path("a.png"))),
        (["a.png"], "o.png", (Path("a.png"), Path("o.png"))),
        (["a.png", "b.jpg"], "o", ((Path("a.png"), Path("b.jpg")), Path("o"))),
        (["a.png", "b.jpg"], "v1.2", ((Path("a.png"), Path("b.jpg")), Path("v1.2"))),
        (["*.png", "b.jpg"], "x", ((Path("*.png"), Path("b.jpg")), Path("x"))),
    ],
)
def test_arguments(tree: Path, paths, output, read) -> None:
    given = [Path(path) for path in paths]
    assert read_paths(given, None if output is None else Path(output)) == read


@pytest.mark.parametrize(
    ("paths", "output", "said"),
    [
        (["a.png", "b.jpg", "x/c.tif"], None, "several inputs need a folder.*--output FOLDER"),
        (["a.png", "b.jpg", "x"], None, "several inputs need a folder.*--output x"),
        (["a.png", "b.jpg"], None, "b.jpg: exists already; `overwrite` replaces it, and --output"),
        (["a.png", "b.jpg"], "o.png", "several inputs and --output o.png; give a folder, or one"),
    ],
)
def test_arguments_that_could_mean_either(tree: Path, paths, output, said: str) -> None:
    given = [Path(path) for path in paths]
    with pytest.raises((BadArgument, FileAccess), match=said):
        read_paths(given, None if output is None else Path(output))


def test_out_may_exist_where_it_is_to_be_replaced(tree: Path) -> None:
    given = [Path("a.png"), Path("b.jpg")]
    assert read_paths(given, None, overwrite=True) == tuple(given)


def test_several_inputs_through_the_command(command, picture, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture("a.png")
    picture("x/b.png", size=(8, 8))
    picture("x/only.jpg", size=(8, 8))
    Path("bad.png").write_bytes(b"no picture")
    words = ("denoise", "a.png", "x/b.png", "bad.png", "x/only.jpg", "--output", "out")
    options = ("--noise", 0.1, "--steps", 1)
    dry = command(*words, *options, "--dry-run")
    assert dry.out.splitlines()[:2] == [
        f"{name} -> {os.path.join('out', Path(name).name)}" for name in ("a.png", "x/b.png")
    ]
    outcome = command(*words, *options, "--json", "--report", "page.html")
    assert outcome.code == 10
    done = [json.loads(line) for line in outcome.out.splitlines()]
    assert [record["status"] for record in done] == ["done", "done", "failed", "done"]
    assert set(files(tmp_path / "out")) == {"a.png", "b.png", "only.jpg"}
    assert "only.jpg" in Path("page.html").read_text()
    alone = command("denoise", "x/b.png", "alone.png", *options)
    assert alone.code == 0
    assert Path("alone.png").read_bytes() == Path("out/b.png").read_bytes()
    again = command("denoise", "a.png", "x/b.png", "--output", "out", *options)
    assert again.code == 6
    assert "all 2 pictures of 2 inputs are in out already (" not in again.err
    assert "all 2 pictures of 2 inputs are in out already; --overwrite redoes them" in again.err
    with pytest.raises(NothingToDo):
        planned("a.png", "x/b.png")
