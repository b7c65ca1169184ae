"""Atomic writing of files, and the leftovers of killed runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pretrained import disk
from restore import files
from restore.errors import FileAccess
from restore.files import remove_leftovers, write_atomically

WRITER = """
import os, sys, time
from pathlib import Path
from restore import files
files.os.link = lambda *_: (print("ready", flush=True), time.sleep(60))
files.write_atomically(b"half", Path(sys.argv[1]), False)
"""


def leftovers(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".restore-*.tmp"))


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(FileAccess, match=r"a\.png: cannot be written: No space left on device"):
        write_atomically(b"data", tmp_path / "a.png", False)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_synced_after_the_file(tmp_path: Path, monkeypatch) -> None:
    synced = []
    real = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "a.png").exists()))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", recorded)
    write_atomically(b"data", tmp_path / "a.png", False)
    assert synced == [((tmp_path / "a.png").stat().st_ino, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.skipif(disk.fcntl is None, reason="no file locks here")
def test_leftovers_of_a_killed_run_are_removed_and_files_being_written_stay(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.png"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert len(leftovers(tmp_path)) == 1
        assert remove_leftovers(tmp_path) == 0
        assert len(leftovers(tmp_path)) == 1, "it is still being written"
    finally:
        process.kill()
        process.wait()
    assert len(leftovers(tmp_path)) == 1
    (tmp_path / "deep" / ".restore-notes.txt").write_bytes(b"a user's file")
    assert remove_leftovers(tmp_path) == 1
    assert leftovers(tmp_path) == []
    assert (tmp_path / "deep" / ".restore-notes.txt").exists()


def test_old_leftovers_go_where_locks_tell_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "fcntl", None)
    young = tmp_path / ".restore-1.tmp"
    old = tmp_path / ".restore-2.tmp"
    young.write_bytes(b"")
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    assert remove_leftovers(tmp_path) == 1
    assert young.exists()
    assert not old.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes and sockets")
@pytest.mark.parametrize("linked", [False, True])
def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch, linked: bool) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (tmp_path / "file").write_bytes(b"data")
    kinds = {"pipe": "a named pipe", "socket": "a socket", "": "a folder"}
    places = {kind: tmp_path / name for name, kind in kinds.items()}
    places["a device"] = Path(os.devnull)
    for kind, place in {**places, "data": tmp_path / "file"}.items():
        path = place
        if linked:
            path = tmp_path / f"link to {kind}"
            path.symlink_to(place)
        if kind == "data":
            with files.open_regular(path) as file:
                assert file.read() == b"data"
            continue
        with pytest.raises(FileAccess, match=f"{kind}, not a regular file"):
            files.open_regular(path)


def test_a_missing_file_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(FileAccess, match=r"a\.png: cannot be read: No such file"):
        files.open_regular(tmp_path / "a.png")
    with pytest.raises(FileAccess, match="cannot be read"):
        files.open_regular(Path("a\0.png"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes and links")
@pytest.mark.parametrize("linked", [False, True])
def test_only_regular_files_are_replaced(tmp_path: Path, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, kind in (("pipe", "a named pipe"), ("folder", "a folder")):
        path = tmp_path / name
        if linked:
            path = tmp_path / f"{name}.link"
            path.symlink_to(name)
        for overwrite in (False, True):
            with pytest.raises(FileAccess, match=f"{path}: cannot be written: {kind}, not a"):
                files.refuse_existing(path, overwrite)

    files.refuse_existing(tmp_path / "file", overwrite=True)
    files.refuse_existing(tmp_path / "new", overwrite=False)
