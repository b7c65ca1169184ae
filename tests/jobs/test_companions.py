"""Masks and starts are found by the names of their pictures."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from restore.errors import BadArgument, FileAccess
from restore.jobs.companions import Companions
from restore.jobs.plan import Wanted, plan_run


def written(name: str, form: str) -> str:
    """A name with its accents in one character (NFC) or in two (NFD)."""
    return unicodedata.normalize(form, name)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """``tree(names…)`` makes empty files, relative to the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> Path:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"x")
        return tmp_path

    return make


def masks(source: str, given: str | None, **wanted) -> dict[str, str | None]:
    """The masks of a plan, by the names of its pictures."""
    companions = Companions(None if given is None else Path(given), needed=True)
    target = Path("out") if Path(source).is_dir() else Path("out.png")
    plan = plan_run(Path(source), target, "inpaint", Wanted(companions, **wanted))
    return {plan.name(job): str(job.companion) for job in plan.jobs}


@pytest.mark.parametrize(("picture", "mask"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_accents_may_be_written_in_either_way(tree, picture: str, mask: str) -> None:
    name = written("in/été/Zoë.png", picture)
    other = written("masks/été/Zoë.jpg", mask)
    tree(name, other)
    assert masks("in", "masks") == {name.removeprefix("in/"): other}


def test_names_that_differ_in_accents_alone_are_refused(tree) -> None:
    tree("in/é.png", written("masks/é.png", "NFC"), written("masks/é.png", "NFD"))
    with pytest.raises(BadArgument, match=r"several masks for in/.*written in two ways, NFC"):
        masks("in", "masks")


def test_folders_that_differ_in_accents_alone_are_refused(tree) -> None:
    tree("in/é/a.png", written("masks/é/a.png", "NFC"), written("masks/é/b.png", "NFD"))
    with pytest.raises(BadArgument, match=r"several masks for in/é/a.png"):
        masks("in", "masks")


def test_names_of_the_kind_a_mask(tree) -> None:
    tree("in/a.png", "in/sub/b.jpg", "masks/a_mask.png", "masks/sub/b_mask.webp")
    assert masks("in", "masks") == {
        "a.png": "masks/a_mask.png",
        "sub/b.jpg": "masks/sub/b_mask.webp",
    }
    tree("masks/a.tif")
    with pytest.raises(BadArgument, match=r"several masks for in/a.png there: .*a.tif, .*a_mask"):
        masks("in", "masks")


@pytest.mark.parametrize("given", [None, "in"])
def test_masks_beside_their_pictures_are_no_pictures(tree, given: str | None) -> None:
    tree("in/a.png", "in/a_mask.png", "in/b.jpg", "in/b.png", "in/b_mask.png")
    assert masks("in", given) == {
        "a.png": "in/a_mask.png",
        "b.jpg": "in/b_mask.png",
        "b.png": "in/b_mask.png",
    }
    assert masks("in/*.jpg", given) == {"b.jpg": "in/b_mask.png"}
    assert masks("in/a.png", given) == {"a.png": "in/a_mask.png"}


def test_a_picture_called_mask_without_another_one_is_a_picture(tree) -> None:
    tree("in/a_mask.png", "in/a_mask_mask.png")
    assert masks("in", None) == {"a_mask.png": "in/a_mask_mask.png"}


def test_masks_of_a_folder_inside_the_input_are_not_walked(tree) -> None:
    tree("in/a.png", "in/masks/a.png", "in/one.png", "in/masks/one.png")
    assert masks("in", "in/masks") == {"a.png": "in/masks/a.png", "one.png": "in/masks/one.png"}
    assert masks("in", "in/one.png") == {
        "a.png": "in/one.png",
        "masks/a.png": "in/one.png",
        "masks/one.png": "in/one.png",
    }


def test_what_is_missing(tree) -> None:
    tree("in/a.png", "masks/b.png")
    with pytest.raises(BadArgument, match=r"`mask`=masks: no mask for in/a.png there"):
        masks("in", "masks")
    with pytest.raises(BadArgument, match=r"no a_mask.png beside in/a.png"):
        masks("in", None)
    with pytest.raises(FileAccess, match="no such file or folder"):
        masks("in", "nosuch")


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_mask_from_a_named_pipe_is_not_waited_for(tree) -> None:
    tree("in/a.png")
    os.mkfifo("pipe")
    with pytest.raises(FileAccess, match="`mask`=pipe: a named pipe"):
        masks("in", "pipe")


def test_starts_have_the_names_of_their_pictures(tree) -> None:
    name = written("in/é.png", "NFC")
    start = written("starts/é.png", "NFD")
    tree(name, start)
    wanted = Wanted(starts=Companions(Path("starts"), "start"))
    (job,) = plan_run(Path("in"), Path("out"), "sr", wanted).jobs
    assert str(job.start) == start
