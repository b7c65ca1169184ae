"""Selection of the pictures of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.jobs.selection import (
    Shard,
    check_folder,
    check_input,
    is_pattern,
    listed,
    matched,
    root_of,
    shared_out,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "sub/c.png", "sub/deep/d.png", "odd [1].png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["a.png", "odd [1].png"]),
        ("**/*.png", ["a.png", "odd [1].png", "sub/c.png", "sub/deep/d.png"]),
        ("sub/?.png", ["sub/c.png"]),
        ("[ab].*", ["a.png", "b.jpg"]),
        ("s*/c.png", ["sub/c.png"]),
    ],
)
def test_patterns(tree: Path, pattern: str, names: list[str]) -> None:
    assert is_pattern(tree / pattern)
    assert root_of(tree / pattern) == (tree / "sub" if pattern.startswith("sub") else tree)
    assert [path.relative_to(tree).as_posix() for path in matched(tree / pattern)] == names


def test_patterns_relative_to_the_working_folder(tree: Path, monkeypatch) -> None:
    monkeypatch.chdir(tree)
    assert root_of(Path("*.jpg")) == Path()
    assert matched(Path("*.jpg")) == [Path("b.jpg")]


def test_a_file_with_brackets_in_its_name_is_no_pattern(tree: Path) -> None:
    assert not is_pattern(tree / "odd [1].png")
    assert not is_pattern(tree / "nosuch.png")


def test_a_pattern_without_files(tree: Path) -> None:
    with pytest.raises(NothingToDo, match="no file matches"):
        matched(tree / "*.tif")


@pytest.mark.parametrize(
    "text", ["a.png\nsub/c.png\n", "a.png\r\n\r\nsub/c.png", "a.png\0sub/c.png\0"]
)
def test_lists(tree: Path, text: str) -> None:
    names = tree.parent / "names.txt"
    names.write_bytes(text.encode())
    assert listed(tree, names) == [tree / "a.png", tree / "sub" / "c.png"]
    assert listed(tree, Path("-"), lambda size: text.encode()) == listed(tree, names)


def test_lists_of_absolute_names_and_of_the_same_twice(tree: Path) -> None:
    text = f"{tree / 'a.png'}\na.png\n"
    assert listed(tree, Path("-"), lambda size: text.encode()) == [tree / "a.png"]


def test_lists_of_names_that_are_no_text(tree: Path) -> None:
    odd = tree / os.fsdecode(b"caf\xe9\nnew.png")
    odd.write_bytes(b"x")
    assert listed(tree, Path("-"), lambda size: b"caf\xe9\nnew.png\0") == [odd]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("../x.png", BadArgument, "not below"),
        ("/etc/passwd", BadArgument, "not below"),
        ("nosuch.png", FileAccess, r"nosuch\.png: no such file"),
        ("sub", FileAccess, "no such file"),
        ("\n\n", NothingToDo, "names no file"),
    ],
)
def test_bad_lists(tree: Path, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        listed(tree, Path("-"), lambda size: text.encode())


def test_a_list_that_is_not_there(tree: Path) -> None:
    with pytest.raises(FileAccess, match=r"`files_from`=.*nosuch\.txt: cannot be read"):
        listed(tree, tree / "nosuch.txt")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_list_from_a_pipe(tree: Path) -> None:
    """As by ``--files-from <(find …)``; a pipe that nobody writes to is not waited for."""
    pipe = tree / "names"
    os.mkfifo(pipe)
    with pytest.raises(NothingToDo, match="names no file"):
        listed(tree, pipe)

    read, write = os.pipe()
    os.write(write, b"a.png\nsub/c.png\n")
    os.close(write)
    assert listed(tree, Path(f"/dev/fd/{read}")) == [tree / "a.png", tree / "sub" / "c.png"]
    os.close(read)


@pytest.mark.parametrize(("name", "kind"), [("sub", "a folder"), ("/dev/zero", "a device")])
def test_a_list_that_is_no_file(tree: Path, name: str, kind: str) -> None:
    if not (tree / name).exists():
        pytest.skip(f"there is no {name}")
    with pytest.raises(FileAccess, match=f"`files_from`=.*{name}: cannot be read: {kind}"):
        listed(tree, tree / name)


def test_lists_have_an_end(tree: Path, monkeypatch) -> None:
    """An endless list, as of /dev/zero, is not read for ever."""
    monkeypatch.setattr("restore.jobs.selection.MOST_BYTES", 1000)
    with pytest.raises(BadArgument, match="longer than 0 GB"):
        listed(tree, Path("-"), lambda size: bytes(size))
    (tree / "names").write_bytes(b"a" * 1001)
    with pytest.raises(BadArgument, match="longer than 0 GB"):
        listed(tree, tree / "names")


def test_shards_share_everything_and_nothing_twice(tmp_path: Path) -> None:
    paths = [tmp_path / "s" / f"{i}.png" for i in range(400)]
    shares = [shared_out(paths, tmp_path, Shard.read(f"{i}/4")) for i in range(1, 5)]
    assert sorted(path for share in shares for path in share) == sorted(paths)
    assert all(60 < len(share) < 140 for share in shares)
    assert shared_out(paths[:7], tmp_path, Shard(1, 4)) == [
        p for p in shares[0] if p in paths[:7]
    ], "whatever else"
    assert shared_out(paths, tmp_path, None) == paths


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.0/4"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(BadArgument, match="`shard`"):
        Shard.read(text)


def test_inputs_are_looked_up_before_any_work(tree: Path) -> None:
    for good in (tree, tree / "a.png", tree / "*.png", tree / "odd [1].png"):
        check_input(good)
    with pytest.raises(FileAccess, match=r"nosuch\.png: no such file or folder"):
        check_input(tree / "nosuch.png")
    check_folder(tree)
    with pytest.raises(FileAccess, match=r"nosuch: no such folder"):
        check_folder(tree / "nosuch")


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_named_pipe_is_told_to_come_by_stdin(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(FileAccess, match=r"pipe: a named pipe.*; - as IN reads a picture"):
        check_input(tree / "pipe")


def test_a_missing_input_is_told_before_anything_heavy_is_imported(tmp_path) -> None:
    lines = (
        "sr nosuch",
        "inpaint . --mask nosuch",
        "degrade nosuch --operator gray",
        "likelihood nosuch",
        "evaluate nosuch --task sr",
        "tune nosuch --out levels.json",
        "score-norms nosuch",
    )
    code = (
        "import sys, cli; "
        f"print([cli.exit_code(line.split()) for line in {lines}], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)},
        timeout=60,
    )
    assert done.stdout == f"{[5] * len(lines)} False\n"
    assert done.stderr.count("nosuch: no such") == len(lines)
