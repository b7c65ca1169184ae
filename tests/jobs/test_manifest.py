"""The manifest of a folder run: states of pictures, and truncated lines."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from restore.errors import FileAccess
from restore.jobs.manifest import Entry, Fingerprint, Manifest

OPTIONS = {"task": "sr", "arguments": {"scale": 2.0}, "size": (3, 4)}


@pytest.fixture
def done(tmp_path: Path) -> tuple[Path, Path, Entry]:
    """Return an input, an output folder and the line of the finished picture."""
    source = tmp_path / "a.png"
    out = tmp_path / "out"
    source.write_bytes(b"picture")
    out.mkdir()
    (out / "a.png").write_bytes(b"result")
    return source, out, Entry("a.png", Fingerprint.of(source), OPTIONS, ["a.png"], 1.5)


def test_a_line_is_read_by_the_next_run(done) -> None:
    source, out, entry = done
    first = Manifest(out)
    assert first.state("a.png", source, OPTIONS) == "unknown"
    first.add(entry)
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    assert Manifest(out).entries["a.png"].seconds == 1.5


def test_a_line_is_on_the_disk_before_the_picture_counts_as_done(done, monkeypatch) -> None:
    _, out, entry = done
    manifest = Manifest(out)
    synced = []
    real = os.fsync

    def recorded(descriptor: int) -> None:
        written = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        synced.append((os.fstat(descriptor).st_ino, written, dict(manifest.entries)))
        real(descriptor)

    monkeypatch.setattr("restore.jobs.manifest.os.fsync", recorded)
    manifest.add(entry)
    assert synced == [(manifest.path.stat().st_ino, entry.write().encode(), {})]
    assert set(manifest.entries) == {"a.png"}


def test_what_makes_a_picture_not_done(done) -> None:
    source, out, entry = done
    manifest = Manifest(out)
    manifest.add(entry)
    assert manifest.state("a.png", source, {**OPTIONS, "task": "deblur"}) == "other options"
    assert manifest.state("b.png", source, OPTIONS) == "unknown"
    (out / "a.png").rename(out / "elsewhere.png")
    assert manifest.state("a.png", source, OPTIONS) == "unknown"
    (out / "elsewhere.png").rename(out / "a.png")
    manifest.add(replace(entry, status="failed", error="no", outputs=[]))
    assert Manifest(out).state("a.png", source, OPTIONS) == "unknown"


def test_an_input_is_known_by_its_content(done) -> None:
    source, out, entry = done
    manifest = Manifest(out)
    manifest.add(entry)
    os.utime(source, ns=(1, 1))
    assert manifest.state("a.png", source, OPTIONS) == "done"
    source.write_bytes(b"PICTURE")
    os.utime(source, ns=(2, 2))
    assert manifest.state("a.png", source, OPTIONS) == "changed"
    source.write_bytes(b"longer picture")
    assert manifest.state("a.png", source, OPTIONS) == "changed"


@pytest.mark.parametrize("cut", [2, 20, 200])
def test_a_line_that_was_cut_off_counts_for_nothing_and_spoils_nothing(done, cut: int) -> None:
    _, out, entry = done
    manifest = Manifest(out)
    manifest.add(entry)
    whole = manifest.path.read_bytes()
    second = replace(entry, input="b.png")
    manifest.path.write_bytes(whole + second.write().encode()[:-cut])
    again = Manifest(out)
    assert set(again.entries) == {"a.png"}
    again.add(replace(entry, input="c.png"))
    assert set(Manifest(out).entries) == {"a.png", "c.png"}


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", "3", '{"input": "a"}', "\x00\x00", '{"fingerprint": 3}']
)
def test_other_lines_are_passed_over(done, line: str) -> None:
    _, out, entry = done
    (out / "restore.jsonl").write_text(f"{line}\n{entry.write()}{line}\n")
    assert set(Manifest(out).entries) == {"a.png"}


def test_shards_write_their_own_files_and_read_all(done) -> None:
    source, out, entry = done
    Manifest(out, "1of2").add(entry)
    Manifest(out, "2of2").add(replace(entry, input="b.png"))
    assert {path.name for path in out.glob("*.jsonl")} == {
        "restore-1of2.jsonl",
        "restore-2of2.jsonl",
    }
    assert set(Manifest(out).entries) == {"a.png", "b.png"}
    assert Manifest(out, "1of4").state("a.png", source, OPTIONS) == "done"


def test_the_last_line_of_a_picture_counts(done) -> None:
    source, out, entry = done
    manifest = Manifest(out)
    manifest.add(replace(entry, status="failed", error="no", outputs=[]))
    manifest.add(entry)
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"


def test_names_that_are_no_text_survive(done) -> None:
    _, out, entry = done
    name = os.fsdecode(b"caf\xe9\n.png")
    Manifest(out).add(replace(entry, input=name))
    assert set(Manifest(out).entries) == {name}


def test_unreadable_and_unwritable(done, tmp_path: Path) -> None:
    _, out, entry = done
    (out / "restore.jsonl").mkdir()
    with pytest.raises(FileAccess, match=r"restore\.jsonl: cannot be read"):
        Manifest(out)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileAccess, match="cannot be written"):
        Manifest(tmp_path / "file" / "out").add(entry)
