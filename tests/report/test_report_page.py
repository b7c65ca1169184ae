"""`--report`: the HTML report of a run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.pictures import files, piece
from support.processes import Forked

import restore.jobs.picture
from restore.jobs.picture import Shown
from restore.jobs.plan import Job, Plan, plan_run
from restore.jobs.report_page import RunPage, check_report
from restore.photo.photograph import Photo

pytestmark = pytest.mark.usefixtures("light_network")

FAST = ["--scale", "2", "--steps", "2"]
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects the parts of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def images(self) -> dict[str, Image.Image]:
        """Return pictures by their alternative texts."""
        return {a["alt"]: decoded(a["src"]) for tag, a in self.tags if tag == "img"}


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def decoded(source: str) -> Image.Image:
    kind, data = source.split(",", 1)
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def a_page(limit: int = 10**7, pictures: int = 1) -> RunPage:
    jobs = [Job(Path(f"in/{n}.png"), Path(f"out/{n}.png")) for n in range(pictures)]
    about = {"task": "denoise", "model": "default", "device": "cpu", "number format": "float32"}
    return RunPage(Plan(jobs, Path("in"), Path("out")), Path("in"), about, limit)


def add(page: RunPage, job: Job, shown: Shown, described: dict) -> None:
    page.add(page.artist(job, shown, described), described)


def done(**values) -> dict:
    described = {
        "width": 24,
        "height": 16,
        "method": "ddrm",
        "steps": 2,
        "samples": 1,
        "operator": "identity",
    }
    return {**described, "noise": 0.1, "consistency": 0.1, "seconds": 1.5, **values}


def photo(size: tuple[int, int] = (24, 16), crop: str = "a") -> Photo:
    return Photo(np.asarray(piece(size, crop), dtype=np.float32) / 255)


@pytest.mark.shipped_network
def test_page_of_one_picture(command, picture, tmp_path):
    source = picture(size=(100, 80))
    target = tmp_path / "out.png"
    path = tmp_path / "new" / "out.html"
    outcome = command("sr", source, target, *FAST, "--seed", 7, "--report", path, "--json")
    assert outcome.code == 0, outcome.err
    page = read_page(path)
    told = json.loads(outcome.out)
    for text in (
        "Super-resolution",
        "1 of 1 picture restored",
        "100×80",
        "200×160",
        "ddrm",
        "down:bicubic:2",
    ):
        assert text in page.text
    assert f"{told['consistency']:.5f}" in page.text
    assert re.search(r"seed 7\b.*model default.*SHA-256 [0-9a-f]{64}.*versions restore", page.text)
    assert page.images.keys() == {
        "in.png, whole, before",
        "in.png, whole, after",
        "in.png, difference",
    }
    assert (
        np.abs(levels(page.images["in.png, whole, after"]) - levels(Image.open(target))).mean() < 6
    )
    enlarged = Image.open(source).resize((200, 160), Image.BICUBIC)
    assert np.abs(levels(page.images["in.png, whole, before"]) - levels(enlarged)).mean() < 6


def test_it_stands_alone_and_runs_its_own_script_only(command, picture, tmp_path):
    path = tmp_path / "out.html"
    command("sr", picture(), tmp_path / "out.png", *FAST, "--report", path)
    page = read_page(path)
    text = path.read_text(encoding="utf-8")
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    anchors = {f"#{a['id']}" for _, a in page.tags if "id" in a}
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:") or attributes[name] in anchors
    assert re.search(r"https?://", text) is None
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(
        a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.shipped_network
def test_samples_have_a_map_of_their_deviation(command, picture, tmp_path):
    path = tmp_path / "out.html"
    command("sr", picture(), tmp_path / "out.png", *FAST, "--samples", 3, "--report", path)
    page = read_page(path)
    shown = levels(page.images["in.png, standard deviation"]).sum(axis=2)
    written = levels(Image.open(tmp_path / "out.std.png")).sum(axis=2)
    assert np.corrcoef(shown.flatten(), written.flatten())[0, 1] > 0.8
    mean = float(re.search(r"deviation of the 3 samples: mean ([\d.]+)", page.text)[1])
    assert mean == pytest.approx(written.mean() / 3 / 255 * 0.25, abs=0.002)


def test_the_difference_is_bright_where_it_changed():
    before = photo()
    after = photo()
    after.pixels[4:8, 10:20] += 0.2
    page = a_page()
    add(page, page.plan.jobs[0], Shown(before, after, None), done())
    reader = Reader()
    reader.feed(page.render().decode())
    change = levels(reader.images["0.png, difference"]).sum(axis=2)
    assert change[5:7, 12:18].min() > 3 * change[10:].max() + 100


def test_the_detail_is_where_it_changed_most():
    before = photo((512, 400))
    after = photo((512, 400))
    size = before.pixels.shape[1::-1]
    after.pixels[40:60, -60:-40] = 1
    page = a_page()
    add(page, page.plan.jobs[0], Shown(before, after, None), done(width=size[0], height=size[1]))
    reader = Reader()
    reader.feed(page.render().decode())
    detail = reader.images["0.png, detail, after"]
    assert detail.size == (128, 128)
    column, row = map(int, re.search(r"column (\d+), row (\d+)", reader.text).groups())
    inside = np.rint(255 * after.pixels.clip(0, 1))[row : row + 128, column : column + 128]
    assert np.array_equal(levels(detail), inside)
    assert (levels(detail) == 255).all(axis=2).sum() >= 400


def test_a_folder_with_failures_and_hostile_names(command, picture, tmp_path):
    names = ["<script>alert(1)<script>.png", 'a" onerror="x.png', "'&amp;'.png", "line\nend.png"]
    for name in names:
        picture(f"in/sub/{name}")
    bad = tmp_path / "in" / "<b>bad.png"
    bad.write_bytes(b"nothing")
    path = tmp_path / "out.html"
    outcome = command("denoise", tmp_path / "in", tmp_path / "out", "--report", path)
    assert outcome.code == 10, outcome.err
    page = read_page(path)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not {"b", "onerror"} & {name for tag, a in page.tags for name in (tag, *a)}
    assert "4 of 5 pictures of in/ restored, 1 failed" in page.text
    for name in names:
        assert f"sub/{name}".replace("\n", "\N{REPLACEMENT CHARACTER}") in page.text
    assert f"{bad.name}: not a picture" in page.text
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_a_name_that_is_no_text(picture, tmp_path):
    source = picture("in/a.png")
    try:
        os.rename(source, os.fsencode(source.parent) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    path = tmp_path / "out.html"
    process = Forked("denoise", tmp_path / "in", tmp_path / "out", "--report", path, "--json")
    out, err = process.output()
    assert process.returncode == 0, err
    assert "caf\N{REPLACEMENT CHARACTER}.png" in read_page(path).text
    told = json.loads(out)
    assert os.fsencode(told["outputs"][0]).endswith(b"caf\xe9.png")


def test_an_interrupted_run_has_what_is_done(command, picture, tmp_path, monkeypatch):
    for name in "abc":
        picture(f"in/{name}.png")
    read = restore.jobs.picture.read_photo

    def interrupted(path, *args, **options):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read(path, *args, **options)

    monkeypatch.setattr(restore.jobs.picture, "read_photo", interrupted)
    path = tmp_path / "out.html"
    assert command("denoise", tmp_path / "in", tmp_path / "out", "--report", path).code == 130
    page = read_page(path)
    assert "1 of 3 pictures of in/ restored" in page.text
    assert "ended before its last 2 pictures" in page.text
    assert "a.png, whole, after" in page.images


def test_pictures_done_before_are_counted(command, picture, tmp_path):
    picture("in/a.png")
    command("denoise", tmp_path / "in", tmp_path / "out")
    picture("in/b.png")
    path = tmp_path / "out.html"
    assert command("denoise", tmp_path / "in", tmp_path / "out", "--report", path).code == 0
    page = read_page(path)
    assert "1 of 1 picture of in/ restored" in page.text
    assert "1 picture done before" in page.text


def test_a_single_failure_is_reported_and_an_unreadable_plan_is_not(command, picture, tmp_path):
    bad = tmp_path / "bad.png"
    path = tmp_path / "out.html"
    bad.write_bytes(b"nothing")
    assert command("denoise", bad, tmp_path / "out.png", "--report", path).code == 2
    page = read_page(path)
    assert "0 of 1 picture restored, 1 failed" in page.text
    path.unlink()
    assert command("denoise", tmp_path / "absent.png", "--report", path).code == 5
    assert not path.exists()


def test_doubt_is_marked():
    page = a_page(pictures=2)
    for job, consistency in zip(page.plan.jobs, (0.1, 0.5), strict=True):
        add(page, job, Shown(photo(), photo(), None), done(consistency=consistency))
    reader = Reader()
    reader.feed(page.render().decode())
    assert sum(a.get("class") == "doubt" for _, a in reader.tags) == 1
    assert "far above the noise" in reader.text


def test_a_page_that_would_be_too_large_says_how_much_it_shows():
    sizes = {}
    for limit in (10**7, None, 10):
        page = a_page(limit or sizes[10**7][0] * 3 // 4, pictures=2)
        for job in page.plan.jobs:
            add(page, job, Shown(photo(), photo(crop="b"), None), done())
        sizes[limit] = page.bytes, len(page.sections)
        reader = Reader()
        reader.feed(page.render().decode())
        assert {"0.png", "1.png"} <= set(reader.words)  # the table has all
        assert ("as many as fit" in reader.text) == (limit != 10**7)
    assert [shown for _, shown in sizes.values()] == [2, 1, 0]


def test_colours_are_those_of_the_profile():
    """The page has no profile, so pictures are converted from theirs to sRGB."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(srgb)  # red is blue, and blue is red
    red, blue = (swapped.index(tag, 128) for tag in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    before = photo()
    shown = {}
    for name, profile in (("plain", None), ("tagged", bytes(swapped))):
        page = a_page()
        after = photo()
        after.icc_profile = profile
        add(page, page.plan.jobs[0], Shown(before, after, None), done())
        reader = Reader()
        reader.feed(page.render().decode())
        shown[name] = levels(reader.images["0.png, whole, after"])
    assert np.abs(shown["tagged"][..., ::-1] - shown["plain"]).mean() < 6
    assert np.abs(shown["tagged"] - shown["plain"]).mean() > 30


def test_it_replaces_nothing_and_no_input(command, picture, tmp_path):
    source = picture()
    path = tmp_path / "out.html"
    path.write_text("mine")
    before = files(tmp_path)
    outcome = command("denoise", source, tmp_path / "out.png", "--report", path)
    assert outcome.code == 5
    assert "--overwrite" in outcome.err
    assert files(tmp_path) == before
    assert (
        command("denoise", source, tmp_path / "out.png", "--report", path, "--overwrite").code == 0
    )
    assert "Denoising" in read_page(path).text
    odd = source.rename(tmp_path / "picture.html")
    outcome = command("denoise", odd, tmp_path / "new.png", "--report", odd, "--overwrite")
    assert outcome.code == 5
    assert "is an input" in outcome.err
    assert not (tmp_path / "new.png").exists()


@pytest.mark.parametrize(
    ("name", "code", "says"), [("out.png", 1, "must be .html"), ("folder.html", 5, "folder")]
)
def test_names_that_cannot_be_used(command, picture, tmp_path, name, code, says):
    (tmp_path / "folder.html").mkdir()
    outcome = command("denoise", picture(), tmp_path / "new.png", "--report", tmp_path / name)
    assert outcome.code == code
    assert says in outcome.err
    assert not (tmp_path / "new.png").exists()


def test_a_place_that_cannot_be_written_is_found_before_any_work(picture, tmp_path):
    plan = plan_run(picture(), None, "denoise")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is a file"):
        check_report(tmp_path / "file" / "out.html", plan, False)
