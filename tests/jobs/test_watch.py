"""Files are taken once, after they have stopped changing."""

from __future__ import annotations

import os
from pathlib import Path

from restore.jobs.watch import Watch


def test_a_file_is_taken_when_two_looks_agree_and_then_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    watch = Watch()
    path.write_bytes(b"a")
    assert watch.settled([path]) == []
    assert watch.settled([path]) == [path]
    assert watch.settled([path]) == []


def test_a_file_that_grows_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    watch = Watch()
    for size in range(1, 4):
        path.write_bytes(b"a" * size)
        assert watch.settled([path]) == []
    assert watch.settled([path]) == [path]


def test_a_file_that_changes_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    watch = Watch()
    path.write_bytes(b"a")
    watch.settled([path])
    assert watch.settled([path]) == [path]
    path.write_bytes(b"b")
    os.utime(path, ns=(5, 5))
    assert watch.settled([path]) == []
    assert watch.settled([path]) == [path]


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    watch = Watch()
    path.write_bytes(b"a")
    watch.settled([path])
    path.unlink()
    assert watch.settled([path]) == []
    path.write_bytes(b"a")
    assert watch.settled([path]) == [], "it may be half written"
