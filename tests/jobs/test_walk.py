"""Hidden folders, special files and pictures of other formats are passed over, and counted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from restore.errors import NothingToDo
from restore.jobs.plan import plan_run
from restore.jobs.selection import matched
from restore.jobs.walk import PassedOver, pictures_in
from restore.photo.formats import HEIF
from restore.photo.photograph import SUFFIXES

KNOWN = SUFFIXES - set(HEIF.suffixes)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> Path:
    """A folder as people have them."""
    monkeypatch.chdir(tmp_path)
    names = (
        "a.png .hidden.png ._a.png .DS_Store notes.txt sub/b.JPG .thumbnails/a.png Thumbs.db "
        ".Trash-1000/files/c.png sub/.picasaoriginals/b.jpg sub/d.heic sub/e.HEIC raw.NEF x.cr2"
    )
    for name in names.split():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Path("in")


def walked(folder: Path, *leave_out: Path) -> tuple[list[str], str]:
    passed = PassedOver()
    found = pictures_in(folder, KNOWN, leave_out, passed)
    return [path.relative_to(folder).as_posix() for path in found], str(passed)


def test_hidden_files_and_folders_are_passed_over_and_counted(tree: Path, monkeypatch) -> None:
    monkeypatch.setattr("restore.photo.formats.heif.is_installed", lambda: False)
    found, passed = walked(tree)
    assert found == ["a.png", "sub/b.JPG"]
    for text in ("3 hidden folders", "2 hidden pictures", "2 camera raws (restore develop"):
        assert text in passed
    assert "2 HEIC pictures (pip install" in passed
    assert walked(tree / "sub", tree / "sub" / ".picasaoriginals")[1].startswith("2 HEIC pictures")


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found"])
def test_folders_of_systems_are_hidden_without_a_dot(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name / "a.png", tmp_path / "b" / name / "c.png", tmp_path / "d.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert walked(tmp_path) == (["d.png"], "2 hidden folders")


def test_a_hidden_folder_that_is_named_is_walked(tree: Path) -> None:
    assert walked(tree / ".Trash-1000") == (["files/c.png"], "")


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_special_files_and_links_that_lead_elsewhere(tree: Path) -> None:
    os.mkfifo(tree / "pipe.png")
    (tree / "out.png").symlink_to("/etc/hostname")
    (tree / "up").symlink_to(tree.resolve().parent)
    (tree / "inside.png").symlink_to("a.png")
    (tree / "gone.png").symlink_to("nothing.png")
    (tree / "circle.png").symlink_to("circle.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket.png"))
        found, passed = walked(tree)
    assert found == ["a.png", "circle.png", "gone.png", "inside.png", "sub/b.JPG"]
    assert "2 named pipes, sockets or devices" in passed
    assert "2 links that lead elsewhere" in passed


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.png", ["a.png"]),
        ("*", [".."]),
        (".*/*.png", [".thumbnails/a.png"]),
        (".thumbnails/*", [".thumbnails/a.png"]),
    ],
)
def test_patterns_match_what_is_hidden_only_by_its_dot(tree: Path, pattern: str, names) -> None:
    found = [path.relative_to(tree).as_posix() for path in matched(tree / pattern)]
    expected = ["Thumbs.db", "a.png", "notes.txt", "raw.NEF", "x.cr2"] if names == [".."] else names
    assert found == expected


def test_a_plan_says_what_it_passed_over(tree: Path) -> None:
    assert "2 camera raws" in plan_run(tree, None, "sr").passed_over
    assert plan_run(tree / "sub" / "b.JPG", None, "sr").passed_over == ""
    assert "2 camera raws" in plan_run(tree / "*", None, "sr").passed_over
    for name in ("a.png", "sub/b.JPG", "sub/d.heic", "sub/e.HEIC"):
        (tree / name).unlink()
    with pytest.raises(
        NothingToDo, match=r"no picture in this folder.*passed over: .*3 hidden fol"
    ):
        plan_run(tree, None, "sr")


def test_the_command_ends_with_a_note(command, picture, tmp_path) -> None:
    picture("in/a.png")
    picture("in/.thumbnails/a.png")
    picture("in/raw.cr2", format="PNG")
    words = ("denoise", tmp_path / "in", tmp_path / "out", "--noise", 0.1, "--steps", 1)
    note = "passed over: 1 hidden folder, 1 camera raw (restore develop makes pictures of them)"
    dry = command(*words, "--dry-run")
    assert dry.err.splitlines()[-1] == note
    done = command(*words)
    assert (done.code, done.err.splitlines()[-1]) == (0, note)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "restore.jsonl"}
    assert command(*words, "--overwrite", "--quiet").err == ""
