"""Names that are too long for the file system are known before any work."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from restore.errors import FileAccess
from restore.files import PREFIX, SUFFIX, refuse_existing, refuse_long
from restore.jobs.plan import Job, Wanted, check_writable, plan_run
from restore.jobs.selection import listed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the limits are of POSIX")

LONGEST = 255


@pytest.fixture
def long_picture(picture):
    """``long_picture(name)`` writes a picture whose name with the suffix .png has so many bytes."""

    def write(count: int, folder: str = ".", suffix: str = ".png") -> Path:
        return picture(f"{folder}/{'a' * (count - len(suffix))}{suffix}", size=(4, 4))

    return write


def test_the_longest_name_is_taken_and_a_longer_one_refused(tmp_path) -> None:
    refuse_long(tmp_path / ("a" * LONGEST))
    refuse_long(tmp_path / "deep" / "er" / ("é" * (LONGEST // 2)))
    for name in ("a" * (LONGEST + 1), "é" * (LONGEST // 2 + 1)):
        with pytest.raises(FileAccess, match=r"25[0-9] bytes, at most 255 are possible; give OUT"):
            refuse_long(tmp_path / name, "give OUT")
    with pytest.raises(FileAccess, match="null byte"):
        refuse_existing(tmp_path / "a\0b", overwrite=True)


def test_where_names_are_counted_in_characters(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("restore.files._COUNTS_UNITS", True)
    refuse_long(tmp_path / ("写" * LONGEST))
    for name in ("写" * (LONGEST + 1), "👩" * (LONGEST // 2 + 1)):
        with pytest.raises(FileAccess, match="name is too long, 256 "):
            refuse_long(tmp_path / name)


def test_the_longest_path_holds_its_temporary_file(tmp_path) -> None:
    limit = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    temporary = len(f"/{PREFIX}{'0' * 32}{SUFFIX}")
    room = limit - temporary - len(str(tmp_path)) - 1
    folder = tmp_path / "/".join(["b" * 200] * (room // 201) + ["c" * (room % 201)])
    refuse_long(folder / "a.png")
    with pytest.raises(FileAccess, match="path is too long, 4096 bytes") as caught:
        refuse_long(folder.with_name(f"{folder.name}c") / "a.png")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (LONGEST - 2, Wanted()),
        (LONGEST - 10, Wanted(samples=2)),
        (LONGEST - 10, Wanted(strips=True)),
    ],
)
def test_a_default_name_asks_for_another(long_picture, count: int, wanted: Wanted) -> None:
    with pytest.raises(FileAccess, match=r"too long.*; give OUT"):
        plan_run(long_picture(count), None, "sr", wanted)


def test_the_longest_default_name_is_planned(long_picture) -> None:
    source = long_picture(LONGEST - len("-sr"))
    (job,) = plan_run(source, None, "sr").jobs
    assert job == Job(source, source.with_name(f"{source.stem}-sr.png"))


@pytest.mark.parametrize(
    ("count", "wanted", "fits"),
    [
        (LONGEST, Wanted(), True),
        (LONGEST - 8, Wanted(samples=9), True),
        (LONGEST - 7, Wanted(samples=9), False),
        (LONGEST - 8, Wanted(strips=True), True),
        (LONGEST - 7, Wanted(strips=True), False),
        (LONGEST, Wanted(writes_measurements=True), True),
    ],
)
def test_a_folder_with_a_name_that_samples_make_too_long(
    long_picture, tmp_path, count: int, wanted: Wanted, fits: bool
) -> None:
    long_picture(count, "in")
    if fits:
        assert len(plan_run(tmp_path / "in", tmp_path / "out", "sr", wanted).jobs) == 1
        return
    with pytest.raises(FileAccess, match=r"too long.*; rename the picture"):
        plan_run(tmp_path / "in", tmp_path / "out", "sr", wanted)


@pytest.mark.parametrize("option", ["IN", "OUT", "--mask", "--start", "--report"])
def test_arguments_that_no_file_can_have(command, picture, tmp_path, option: str) -> None:
    path = picture()
    long = tmp_path / f"{'a' * 300}.{'html' if option == '--report' else 'png'}"
    words = {"IN": [long], "OUT": [path, long]}.get(option, [path, option, long])
    mask = [] if option == "--mask" else ["--mask", path]
    outcome = command("inpaint", *words, *mask)
    assert outcome.code == 5
    assert "too long" in outcome.err
    assert ("cannot be read" in outcome.err) == (option not in ("OUT", "--report"))
    assert "Traceback" not in outcome.err


def test_an_output_in_a_circle_of_links_cannot_be_written(command, picture, tmp_path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    outcome = command("denoise", picture(), tmp_path / "a" / "out.png")
    assert outcome.code == 5
    assert "cannot be read" not in outcome.err


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="a system that does not tell")
@pytest.mark.parametrize(
    ("flags", "why"),
    [(1, "{} is on a read-only file system"), (0, "no permission for {}")],
)
def test_a_folder_that_takes_no_file_says_why(tmp_path, monkeypatch, flags: int, why: str) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    with pytest.raises(FileAccess) as refused:
        check_writable(tmp_path / "new" / "out")
    assert str(refused.value) == (
        f"{tmp_path}/new/out: cannot be written to; {why.format(tmp_path)}"
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("sr IN LONG", 5),
        ("sr IN LONG/out.png", 5),
        ("sr IN --report LONG/out.html", 5),
        ("sr IN --model LONG", 3),
        ("sr IN --model LONG.safetensors", 3),
        ("sr IN --method spandrel:LONG.pth", 3),
        ("sr IN IN --output LONG", 5),
        ("solve LONG.npz", 5),
        ("evaluate IN --task sr --json LONG.json", 5),
        ("evaluate IN --task inpaint --mask LONG", 5),
        ("train --data IN --out LONG --steps 1", 5),
        ("sample LONG.png", 5),
        ("models convert LONG out.safetensors", 3),
    ],
)
def test_every_door_knows_names_that_no_file_can_have(command, picture, tmp_path, line, code):
    picture("in/a.png")
    line = line.replace("IN", str(tmp_path / "in")).replace("LONG", str(tmp_path / ("a" * 300)))
    outcome = command(*line.split())
    assert (outcome.code, "Error" in outcome.err) == (code, False), outcome.err


def test_an_error_of_the_system_about_a_file_has_the_code_of_files(command, monkeypatch) -> None:
    def locked(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a\x1b.png")

    monkeypatch.setattr("restore.jobs.selection.is_pattern", locked)
    outcome = command("sr", "a.png")
    assert outcome.code == 5
    assert "a\\x1b.png: Permission denied" in outcome.err


def test_a_list_that_names_what_no_file_can_be_called(tmp_path) -> None:
    with pytest.raises(FileAccess, match="too long"):
        listed(tmp_path, Path("-"), lambda count: b"a" * 300)
