"""Files are written whole and durably, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrained.disk import put_in_place, written_whole


def test_a_file_and_then_its_folder_are_synced(tmp_path: Path, monkeypatch) -> None:
    """A writer that replaces the temporary file, as safetensors does, is no exception."""
    target = tmp_path / "deep" / "er" / "a.safetensors"
    real = os.fsync
    synced = []

    def recorded(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    with written_whole(target) as temporary:
        save_file({"weight": torch.ones(3)}, temporary)

    assert synced == [(target.stat().st_ino, False), (target.parent.stat().st_ino, True)]
    assert list(target.parent.iterdir()) == [target]
    assert load_file(target)["weight"].tolist() == [1, 1, 1]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.safetensors") as temporary:
        save_file({"weight": torch.ones(3)}, temporary)

    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def cut_off() -> None:
        with written_whole(target) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    def refused() -> None:
        with written_whole(target, replace=False) as temporary:
            temporary.write_text("new")

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    with pytest.raises(FileExistsError):
        refused()

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def without_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_not_taken_and_one_that_is(tmp_path: Path, monkeypatch, links) -> None:
    """With hard links and on file systems without them."""
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    new, target = tmp_path / "new", tmp_path / "target"
    new.write_text("1")
    put_in_place(new, target, replace=False)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"target": "1"}
    new.write_text("2")
    with pytest.raises(FileExistsError):
        put_in_place(new, target, replace=False)
    assert target.read_text() == "1"
    put_in_place(new, target)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"target": "2"}


@pytest.mark.skipif(not hasattr(os, "link"), reason="no hard links here")
def test_a_file_that_arrives_at_the_last_moment_stays(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "target"
    real = os.link

    def link(source: Path, name: Path) -> None:
        target.write_text("theirs")
        real(source, name)

    monkeypatch.setattr(os, "link", link)

    def write() -> None:
        with written_whole(target, replace=False) as temporary:
            temporary.write_text("ours")

    with pytest.raises(FileExistsError):
        write()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"target": "theirs"}


@pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")
@pytest.mark.parametrize(("number", "fails"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch, number, fails) -> None:
    """An error of the disk is one; a file system that does not sync folders is none."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    def write() -> None:
        with written_whole(tmp_path / "a") as temporary:
            temporary.write_text("whole")

    with pytest.raises(OSError, match="Input/output") if fails else nullcontext():
        write()
    assert (tmp_path / "a").read_text() == "whole"
