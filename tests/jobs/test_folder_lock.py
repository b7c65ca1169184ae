"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from itertools import permutations
from pathlib import Path

import pytest
from support.processes import FORKS

from pretrained import disk
from restore.errors import FileAccess
from restore.jobs import degrading, recorder
from restore.jobs.folder_lock import alone_in_folder

pytestmark = pytest.mark.skipif(disk.fcntl is None, reason="no file locks here")

WHOLE, ONE, TWO, THIRD = (f"restore{part}.journal" for part in ("", "-1of2", "-2of2", "-1of3"))


def is_free(journal: Path) -> bool:
    with alone_in_folder(journal, None) as is_alone:
        return is_alone


@pytest.mark.parametrize(("first", "second"), [*permutations((WHOLE, ONE, TWO, THIRD), 2)])
def test_who_excludes_whom(tmp_path: Path, first: str, second: str) -> None:
    """Two shards of one division go together; all else is one by one."""
    together = {first, second} == {ONE, TWO}
    with alone_in_folder(tmp_path / first, None) as is_alone:
        assert is_alone
        assert not is_free(tmp_path / first)
        assert is_free(tmp_path / second) == together
    assert is_free(tmp_path / second)
    assert list(tmp_path.iterdir()) == [], "journals without lines are removed"


def test_a_second_run_says_that_it_waits_and_goes_on_at_the_end_of_the_first(tmp_path) -> None:
    events = []
    waiting = threading.Event()

    def second() -> None:
        with alone_in_folder(tmp_path / WHOLE, waiting.set):
            events.append("second")

    thread = threading.Thread(target=second)
    with alone_in_folder(tmp_path / WHOLE, None):
        thread.start()
        assert waiting.wait(30)
        events.append("first")
    thread.join(30)
    assert events == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def hold(journal: Path, ready) -> None:
    with alone_in_folder(journal, None):
        journal.write_text("a line\n")
        ready.set()
        signal.pause()


def test_a_killed_run_stands_in_nobodys_way(tmp_path: Path) -> None:
    ready = FORKS.Event()
    process = FORKS.Process(target=hold, args=(tmp_path / WHOLE, ready))
    process.start()
    assert ready.wait(60)
    assert not is_free(tmp_path / WHOLE)
    process.kill()
    process.join()
    assert is_free(tmp_path / WHOLE)
    assert (tmp_path / WHOLE).read_text() == "a line\n", "what it was about to do is kept"


def test_many_runs_are_never_two(tmp_path: Path) -> None:
    """Journals come and go while others wait for them."""
    inside: list[str] = []
    seen = []

    def run(name: str) -> None:
        for _ in range(20):
            with alone_in_folder(tmp_path / name, lambda: None):
                inside.append(name)
                seen.append(sorted(inside))
                inside.remove(name)

    threads = [threading.Thread(target=run, args=(n,)) for n in (WHOLE, WHOLE, ONE, TWO, THIRD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 100
    assert all(names in ([names[0]], [ONE, TWO]) for names in seen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, number) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk.fcntl, "flock", flock)
    with alone_in_folder(tmp_path / WHOLE, None) as is_alone:
        assert is_alone


def test_new_folders_without_anything_in_them_are_removed(tmp_path: Path) -> None:
    with alone_in_folder(tmp_path / "new" / "out" / WHOLE, None):
        pass
    assert list(tmp_path.iterdir()) == []
    with alone_in_folder(tmp_path / "new" / "out" / WHOLE, None):
        (tmp_path / "new" / "a.png").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileAccess, match=r"restore\.journal: cannot be written"),
        alone_in_folder(tmp_path / "file" / WHOLE, None),
    ):
        pass


def test_degrading_a_folder_waits_and_leaves_what_was_made_meanwhile(
    command, picture, tmp_path, monkeypatch
) -> None:
    for name in "ab":
        picture(f"in/{name}.png")
    made, out = tmp_path / "made", tmp_path / "out"
    words = ("--operator", "blur:gaussian:1", "--noise", 0.1)
    assert command("degrade", tmp_path / "in", made, *words).code == 0
    assert sorted(path.name for path in made.iterdir()) == ["a.npz", "a.png", "b.npz", "b.png"]

    held = threading.Event()
    go_on = threading.Event()

    def other() -> None:
        with alone_in_folder(out / WHOLE, None):
            held.set()
            assert go_on.wait(30)
            for path in made.glob("a.*"):
                shutil.copy(path, out)

    said: list[str] = []
    for module in (degrading, recorder):
        monkeypatch.setattr(module, "say", lambda text: (said.append(text), go_on.set()))
    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(30)
    outcome = command("degrade", tmp_path / "in", out, *words)
    thread.join(30)
    assert outcome.code == 0
    assert said[0] == f"restore: another run is at work in {out}; waiting for its end"
    assert "1 done before and left as they are" in said[1]
    for path in made.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
