"""The outputs of one picture change together or not at all."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import stat
from pathlib import Path

import pytest

from restore import files
from restore.errors import FileAccess, FullDisk
from restore.jobs.staging import stage

NAMES = ("a.png", "a.sample1.png", "sub/a.std.png")
OLD = {name: b"old " + name.encode() for name in NAMES}
NEW = {name: b"new " + name.encode() for name in NAMES}


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def below(folder: Path, some: dict[str, bytes]) -> dict[Path, bytes]:
    return {folder / name: data for name, data in some.items()}


def write(folder: Path, some: dict[str, bytes]) -> None:
    for path, data in below(folder, some).items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def failing(monkeypatch, name: str, at: int, number: int = errno.EIO) -> list[int]:
    """Have the call of a function of `os` fail whose number is ``at``; return a list of calls."""
    real = getattr(os, name)
    calls: list[int] = []

    def call(*arguments, **options):
        calls.append(len(calls))
        if calls[-1] == at:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, call)
    return calls


@pytest.mark.parametrize("replace", [False, True])
def test_all_get_their_names_the_target_last(tmp_path: Path, monkeypatch, replace: bool) -> None:
    if replace:
        write(tmp_path, OLD)
    named = []
    function = "replace" if replace else "link"
    real = getattr(os, function)

    def recorded(source, name, **options) -> None:
        if not files.is_temporary(Path(name).name):
            named.append(Path(name).relative_to(tmp_path).as_posix())
        real(source, name, **options)

    staged = stage(below(tmp_path, NEW))
    assert [name for name in content(tmp_path) if name in NEW] == (list(OLD) if replace else [])
    assert {name: content(tmp_path).get(name) for name in NAMES} == (
        OLD if replace else dict.fromkeys(NAMES)
    )
    monkeypatch.setattr(os, function, recorded)
    staged.put_in_place(replace=replace)
    assert named == [*reversed(NAMES)]
    assert content(tmp_path) == NEW


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("function", ["replace", "link", "fsync"])
@pytest.mark.parametrize("at", range(5))
def test_where_one_call_fails_the_outputs_are_all_old_or_all_new(
    tmp_path: Path, monkeypatch, replace: bool, function: str, at: int
) -> None:
    before = OLD if replace else {}
    write(tmp_path, before)
    calls = failing(monkeypatch, function, at)
    reason = ""
    try:
        stage(below(tmp_path, NEW)).put_in_place(replace=replace)
    except FileAccess as error:
        reason = str(error)
    assert content(tmp_path) == (before if reason else NEW)
    # a link that fails is only that to the old file, which is then not kept
    assert "cannot be written: Input/output error" in reason or (
        len(calls) <= at or function == "link"
    )


def test_a_failed_sync_of_a_folder_is_a_failure(tmp_path: Path, monkeypatch) -> None:
    """Both folders are synced once, after the files; the file that had the name comes back."""
    write(tmp_path, OLD)
    real = os.fsync
    synced = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append("folder" if is_folder else "file")
        if synced.count("folder") == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileAccess, match="cannot be written: Input/output error"):
        stage(below(tmp_path, NEW)).put_in_place(replace=True)
    assert synced == ["file"] * 3 + ["folder"] * 2
    assert content(tmp_path) == OLD


def test_a_file_that_arrives_in_between_stays(tmp_path: Path, monkeypatch) -> None:
    staged = stage(below(tmp_path, NEW))
    write(tmp_path, {"a.png": b"theirs"})
    with pytest.raises(FileAccess, match=r"a\.png: exists already; pass `overwrite`"):
        staged.put_in_place(replace=False)
    assert content(tmp_path) == {"a.png": b"theirs"}


def test_without_hard_links(tmp_path: Path, monkeypatch) -> None:
    """Then the old files cannot be kept, but none is lost that has no successor."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    stage(below(tmp_path, OLD)).put_in_place(replace=False)
    assert content(tmp_path) == OLD
    stage(below(tmp_path, NEW)).put_in_place(replace=True)
    assert content(tmp_path) == NEW
    with pytest.raises(FileAccess, match="exists already"):
        stage(below(tmp_path, OLD)).put_in_place(replace=False)
    assert content(tmp_path) == NEW


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_more_has_an_error_of_its_own(
    tmp_path: Path, monkeypatch, number: int
) -> None:
    failing(monkeypatch, "fsync", 1, number)
    with pytest.raises(FullDisk, match=os.strerror(number)):
        stage(below(tmp_path, NEW))
    assert content(tmp_path) == {}


def test_outputs_that_nobody_puts_in_place_vanish(tmp_path: Path) -> None:
    staged = stage(below(tmp_path, NEW))
    assert len(content(tmp_path)) == 3
    assert files.remove_leftovers(tmp_path) == 0, "they are locked"
    del staged
    gc.collect()
    assert content(tmp_path) == {}


def test_another_process_puts_them_in_place(tmp_path: Path) -> None:
    staged = stage(below(tmp_path, NEW))
    sent = pickle.dumps(staged)
    del staged
    gc.collect()
    pickle.loads(sent).put_in_place(replace=False)
    assert content(tmp_path) == NEW


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    stage(below(tmp_path, {"a.png": b""})).put_in_place(replace=False)
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_is_shorter_on_the_disk_is_not_put_in_place(
    tmp_path: Path, monkeypatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        os.ftruncate(descriptor, 3)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileAccess, match="cannot be written: it has 3 bytes on the disk instead"):
        stage(below(tmp_path, NEW))
    assert content(tmp_path) == {}
