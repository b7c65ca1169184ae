"""The manifest of a folder run: states of pictures, and truncated lines."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from restore.errors import FileAccess
from restore.files import Fingerprint, remove_leftovers
from restore.jobs.entry import Entry
from restore.jobs.manifest import Manifest
from restore.jobs.staging import Staged, stage

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

    monkeypatch.setattr("restore.jobs.manifest_files.os.fsync", recorded)
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


# What the outputs say


def recorded(manifest: Manifest, entry: Entry, outputs: dict[Path, bytes]) -> Entry:
    """Write outputs and record them, as a run does."""
    staged = stage(outputs)
    finished = manifest.begin(replace(entry, outputs=()), staged)
    staged.put_in_place(replace=True)
    manifest.add(finished)
    return finished


def test_an_output_that_is_not_what_was_written_is_not_done(done) -> None:
    """Its size tells, or else its digest, which is taken where its time has changed."""
    source, out, entry = done
    manifest = Manifest(out)
    line = recorded(manifest, entry, {out / "a.png": b"result"})
    assert line.written[0] == Fingerprint.of(out / "a.png")
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    os.utime(out / "a.png", ns=(1, 1))
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    for other in (b"RESULT", b"res", b""):
        (out / "a.png").write_bytes(other)
        assert Manifest(out).state("a.png", source, OPTIONS) == "altered"
    (out / "a.png").write_bytes(b"result")
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"


def test_lines_of_older_versions_count_as_they_did(done) -> None:
    """They know their outputs by name alone."""
    source, out, entry = done
    old = json.loads(entry.write())
    del old["written"]
    (out / "restore.jsonl").write_text(json.dumps({**old, "later": "unknown"}) + "\n")
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    (out / "a.png").unlink()
    assert Manifest(out).state("a.png", source, OPTIONS) == "unknown"


@pytest.mark.parametrize(
    "changes",
    [
        {"input": 3},
        {"input": ["a"]},
        {"outputs": "a.png"},
        {"outputs": [3]},
        {"outputs": ["/etc/passwd"]},
        {"outputs": ["../a.png"]},
        {"outputs": ["a\0.png"]},
        {"status": "perhaps"},
        {"options": []},
        {"seconds": "1"},
        {"error": None},
        {"fingerprint": {"size": "1", "mtime_ns": 0, "sha256": ""}},
        {"fingerprint": {"size": 1, "mtime_ns": 0, "sha256": {}}},
        {"written": 3},
        {"written": [{"size": 1, "mtime_ns": 2, "sha256": "3"}] * 2},
    ],
)
def test_an_odd_line_costs_that_line(done, changes: dict) -> None:
    source, out, entry = done
    line = json.dumps({**json.loads(replace(entry, input="b.png").write()), **changes})
    (out / "restore.jsonl").write_text(f"{line}\n{entry.write()}")
    manifest = Manifest(out)
    assert set(manifest.entries) == {"a.png"}
    assert manifest.odd == [f"{out / 'restore.jsonl'}: line 1"]
    assert manifest.state("a.png", source, OPTIONS) == "done"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"input": ' + "9" * 10_000 + "}", "\x85\u2028"])
def test_lines_that_no_parser_likes(done, line: str) -> None:
    _, out, entry = done
    (out / "restore.jsonl").write_text(f"{line}\n{entry.write()}", encoding="utf-8")
    assert set(Manifest(out).entries) == {"a.png"}


def test_a_line_that_cannot_be_written_leaves_no_part_of_it(done, monkeypatch) -> None:
    _, out, entry = done
    manifest = Manifest(out)
    manifest.add(entry)

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("restore.jobs.manifest_files.os.fsync", fsync)
        with pytest.raises(FileAccess, match=r"restore\.jsonl: cannot be written: Input/output"):
            manifest.add(replace(entry, input="b.png"))
    assert manifest.path.read_text() == entry.write()
    assert set(manifest.entries) == {"a.png"}


def test_of_two_shards_the_one_that_wrote_last_is_believed(done) -> None:
    source, out, entry = done
    recorded(Manifest(out), replace(entry, options={"noise": 1}), {out / "a.png": b"older"})
    recorded(Manifest(out, "1of2"), entry, {out / "a.png": b"newer"})
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    recorded(Manifest(out), replace(entry, options={"noise": 1}), {out / "a.png": b"newest"})
    assert Manifest(out).state("a.png", source, OPTIONS) == "other options"


# A run that is killed while outputs get their names

SET = {"a.png": b"mean", "a.sample1.png": b"one", "a.sample2.png": b"two"}
BEFORE = {name: b"old " + data for name, data in SET.items()}


@pytest.fixture
def begun(done, tmp_path):
    """Return ``begun(old, names)``: a run was killed when its outputs had so many of their names.

    It returns the staged files, which a killed process does not remove.
    """
    _, out, entry = done
    (out / "a.png").unlink()
    alive: list[Staged] = []

    def kill(old: bool, names: int) -> Staged:
        manifest = Manifest(out)
        if old:
            before = replace(entry, options={"noise": 1})
            recorded(manifest, before, {out / name: data for name, data in BEFORE.items()})
            manifest.close()
        staged = stage({out / name: data for name, data in SET.items()})
        manifest.begin(replace(entry, outputs=()), staged)
        for file in staged.files[:names]:
            os.replace(file.temporary, file.target)
        alive.append(staged)
        return staged

    yield kill
    for staged in alive:
        staged.drop()


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".jsonl"}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("names", range(4))
def test_the_next_run_finishes_what_a_killed_one_began(done, begun, old: bool, names: int) -> None:
    source, out, _ = done
    begun(old, names)
    manifest = Manifest(out)
    assert manifest.settle()
    assert manifest.state("a.png", source, OPTIONS) == "done"
    manifest.close()
    assert outputs(out) == SET
    assert Manifest(out).state("a.png", source, OPTIONS) == "done"
    assert not Manifest(out).settle()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("names", range(4))
def test_what_cannot_be_finished_is_redone_or_is_as_before(
    done, begun, old: bool, names: int
) -> None:
    """The temporary files are lost, as by a power cut."""
    source, out, entry = done
    for file in begun(old, names).files[names:]:
        file.temporary.unlink()
    manifest = Manifest(out)
    assert manifest.settle() == (names == 3)
    manifest.close()
    expected = {0: "other options" if old else "unknown", 3: "done"}.get(names, "unfinished")
    assert Manifest(out).state("a.png", source, OPTIONS) == expected
    recorded(Manifest(out), entry, {out / name: data for name, data in SET.items()})
    last = Manifest(out)
    last.close()
    assert last.state("a.png", source, OPTIONS) == "done"
    assert outputs(out) == SET


def test_a_file_that_somebody_put_there_is_not_replaced(done, begun) -> None:
    source, out, _ = done
    begun(False, 1)
    (out / "a.png").write_bytes(b"mine")
    manifest = Manifest(out)
    assert not manifest.settle()
    assert (out / "a.png").read_bytes() == b"mine"
    assert manifest.state("a.png", source, OPTIONS) == "unknown"


def test_a_target_that_is_gone_is_made_again_with_its_samples(done, begun) -> None:
    """Its samples are ours, so that they may be replaced; a changed one is not."""
    source, out, _ = done
    begun(False, 3)
    Manifest(out).settle()
    (out / "a.png").unlink()
    assert Manifest(out).state("a.png", source, OPTIONS) == "unfinished"
    (out / "a.sample1.png").write_bytes(b"mine")
    assert Manifest(out).state("a.png", source, OPTIONS) == "unknown"


def test_a_journal_reaches_nothing_outside_its_folder(done, begun, tmp_path) -> None:
    """A line may name files below the folder alone, and temporary ones of ours."""
    _, out, _ = done
    staged = begun(False, 0)
    table = json.loads((out / "restore.journal").read_text())
    (tmp_path / ".restore-1.tmp").write_bytes(b"mean")
    (out / "theirs").write_bytes(b"mean")
    for changes in (
        {"outputs": ["../x", "../y", "../z"]},
        {"temporaries": ["../.restore-1.tmp", *table["temporaries"][1:]]},
        {"temporaries": ["theirs", *table["temporaries"][1:]]},
        {"temporaries": table["temporaries"][1:]},
        {"temporaries": None},
    ):
        (out / "restore.journal").write_text(json.dumps({**table, **changes}))
        manifest = Manifest(out)
        assert not manifest.settle()
        assert manifest.begun == {}
    assert all(file.temporary.exists() for file in staged.files)
    assert (out / "theirs").exists()


def test_a_shard_leaves_what_another_one_is_about_to_finish(done, begun) -> None:
    """The other shard may be running; one that excludes it settles it."""
    _, out, entry = done
    staged = stage({out / name: data for name, data in SET.items()})
    Manifest(out, "1of2").begin(replace(entry, outputs=()), staged)
    other = Manifest(out, "2of2")
    assert not other.settle()
    waiting = {file.temporary for file in staged.files}
    assert other.foreign_temporaries() == waiting
    assert remove_leftovers(out, other.foreign_temporaries()) == 0
    other.close()
    assert (out / "restore-1of2.journal").exists()
    whole = Manifest(out)
    assert whole.settle()
    whole.close()
    assert outputs(out) == SET
