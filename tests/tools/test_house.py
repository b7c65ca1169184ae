"""The measures of `tools/house.py`, on a small source tree whose figures can be counted."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = runpy.run_path(str(ROOT / "tools" / "house.py"))

FILES = {
    "app.py": "from core.high.view import show\n",
    "core/__init__.py": "",
    "core/low/__init__.py": "",
    "core/low/base.py": '''\
        def plain():
            """A text

            with a blank line."""
            a, b = 1, 2  # one of two assignments

            c = a
            return b, c
        ''',
    "core/low/other.py": "def later():\n    from core.low import again\n",
    "core/low/again.py": "from . import base, other\n\ndef _hidden(): pass\n",
    "core/high/__init__.py": "",
    "core/high/view.py": "import typing\nfrom ..low.base import plain\nshow: typing.Any = plain\n",
}


@pytest.fixture
def modules(tmp_path: Path) -> dict:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.split("\n")))
    return HOUSE["modules_of"](tmp_path, ["app.py", "core"])


def test_imports_between_modules(modules: dict) -> None:
    graph = HOUSE["import_graph"](modules)
    assert {name: others for name, others in graph.items() if others} == {
        "app": {"core.high.view"},
        "core.high.view": {"core.low.base"},
        "core.low.again": {"core.low.base", "core.low.other"},
        "core.low.other": {"core.low.again"},
    }
    assert HOUSE["circles"](graph) == [["core.low.again", "core.low.other"]]
    assert HOUSE["floors"](graph) == 3


def test_imports_between_rooms(modules: dict) -> None:
    rooms = HOUSE["between_rooms"](HOUSE["import_graph"](modules), modules)
    assert rooms == {
        "app": {"core.high"},
        "core": set(),
        "core.low": set(),
        "core.high": {"core.low"},
    }
    assert HOUSE["upwards"](rooms, [{"core.low"}, {"core.high"}, {"app"}]) == []
    assert HOUSE["upwards"](rooms, [{"core.high", "core.low"}, {"app"}]) == [
        ("core.high", "core.low")
    ]


def test_rhythm(modules: dict) -> None:
    of = HOUSE["rhythm"](modules.values())
    lines = 1 + 8 + 2 + 3 + 3
    assert sorted(of.lengths) == [1, 2, 8]
    assert of.private == pytest.approx(1 / 3)
    assert (of.comments, of.blank) == pytest.approx((1 / lines, 1 / lines))
    assert of.tuples == pytest.approx(1 / 2)


def test_a_circle_is_one_floor_and_chains_that_meet_are_not_counted_twice() -> None:
    graph = {"a": {"b", "c"}, "b": {"d"}, "c": {"b"}, "d": {"e"}, "e": {"d", "f"}, "f": set()}
    assert HOUSE["circles"](graph) == [["d", "e"]]
    assert HOUSE["floors"](graph) == 5


def run(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, ROOT / "tools" / "house.py", *words]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True)


def test_only_functions_that_run_count(tmp_path: Path) -> None:
    """Neither the code of an imported module, nor of a class, nor what these call."""
    package = tmp_path / "restore"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "used.py").write_text("def use(words): print(open(words[0], 'rb').read(4))\n")
    (package / "imported.py").write_text(
        "def on_import(): return 1\nclass A:\n    a = on_import()\n"
    )
    (tmp_path / "cli.py").write_text(
        "import sys\n\ndef main():\n"
        "    from restore import imported, used\n    used.use(sys.argv[1:])\n"
    )
    done = run(
        tmp_path, "--packages", "cli.py", "restore", "--trace", "in.png", "--list", "--picture",
        ROOT / "examples" / "parrots.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| files passed by `restore in.png` | 2 |" in done.stdout
    assert done.stdout.endswith("Files passed: cli.py, restore/used.py\n")


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("def main(): raise SystemExit('no such picture')\n")
    done = run(tmp_path, "--packages", "cli.py", "--trace", "sr nothing.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such picture" in done.stderr


def test_this_tree() -> None:
    """It is read whole, with the rooms that `tests/test_imports.py` names."""
    done = run("--floors", ROOT / "tests" / "test_imports.py")
    assert done.returncode == 0, done.stderr
    assert "| restore/samplers |" in done.stdout
    assert "| arrows upwards |" in done.stdout
    assert run("--packages", "nothing").stderr == f"nothing is not in {ROOT}\n"
