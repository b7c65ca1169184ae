"""Files are written whole and durably, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrained.disk import written_whole


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

    def refuse() -> None:
        raise FileExistsError

    def refused() -> None:
        with written_whole(target, before_rename=refuse) as temporary:
            temporary.write_text("new")

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    with pytest.raises(FileExistsError):
        refused()

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
