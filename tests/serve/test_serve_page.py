"""The page of `restore serve` in a real browser: Playwright with the system's Chromium."""

from __future__ import annotations

import base64
import io
import shlex
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.networks import random_file, tiny
from support.pictures import piece
from support.serving import PROFILE, Here, application, deep_png, hole, until

from restore.serve.listen import listen
from restore.serve.settings import Address, Limits

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Milliseconds to wait for anything on a busy machine.
PATIENCE = 120_000

TOKEN = "0123456789abcdef-secret"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_file(tmp_path_factory.mktemp("model") / "tiny.safetensors", tiny())


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        # the browser may look up nothing but this machine
        rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        flags = ["--no-sandbox", "--disable-background-networking", rules]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def serve(worker: Here, address: Address) -> tuple[str, object]:
    """Serve in a thread; return the address of the page and the thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    began = threading.Event()
    app = application(worker, address)
    thread = threading.Thread(
        target=listen, args=(app, listening, Limits(), began.set), daemon=True
    )
    thread.start()
    assert began.wait(60)
    return f"http://127.0.0.1:{listening.getsockname()[1]}/", app


@pytest.fixture(scope="module")
def worker(model) -> Here:
    return Here(model)


@pytest.fixture(scope="module")
def site(worker) -> str:
    return serve(worker, Address())[0]


@pytest.fixture(autouse=True)
def _open_gate(worker) -> Iterator[None]:
    """Let no test that fails hold the worker back in those after it."""
    yield
    worker.gate.set()


@pytest.fixture
def page(browser, site) -> Iterator:
    context = browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(site)
    page.get_by_role("tab", name="Super-resolution").wait_for()
    yield page
    assert not wrong
    assert all(url.startswith((site, "blob:", "data:")) for url in asked)
    context.close()


def is_wrong(said) -> bool:
    """Return True for an error of the page, False for an answer that refuses a picture."""
    return said.type == "error" and not said.text.startswith("Failed to load resource")


def fill(page, **options) -> None:
    for name, value in options.items():
        part = page.locator(f"#option-{name}")
        if not part.is_visible():
            page.get_by_text("More options").click()
        if part.evaluate("part => part.tagName") == "SELECT":
            part.select_option(str(value))
        else:
            part.fill(str(value))


def downloaded(page, button) -> bytes:
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path()).read_bytes()


TASKS = [
    ("sr", "Super-resolution", {"scale": 2}),
    ("deblur", "Deblurring", {"kernel": "gaussian:1"}),
    ("denoise", "Denoising", {"noise": 0.1}),
    ("colorize", "Colourising", {"method": "ddrm"}),
    ("inpaint", "Inpainting", {}),
]


@pytest.mark.parametrize(("task", "title", "options"), TASKS)
def test_the_download_is_what_the_shown_command_writes(
    page, command, model, tmp_path, monkeypatch, task, title, options
):
    """A 16-bit PNG with transparency and the profile of Display P3, through each tab."""
    monkeypatch.chdir(tmp_path)
    deep_png(tmp_path / "a picture.png", (48, 32))
    page.get_by_role("tab", name=title).click()
    page.locator("#file").set_input_files(tmp_path / "a picture.png")
    page.locator("#facts").get_by_text("16 bits").wait_for()
    fill(page, **options, steps=3, seed=5)
    if task == "inpaint":
        paint(page)
        mask = downloaded(page, page.get_by_role("button", name="Save mask"))
        (tmp_path / "a picture_mask.png").write_bytes(mask)
        assert Image.open(io.BytesIO(mask)).size == (48, 32)

    page.get_by_role("button", name="Restore").click()
    link = page.locator("#downloads a").first
    link.wait_for()
    assert link.get_attribute("download") == f"a picture-{task}.png"
    page.locator("#slider").fill("30")
    assert (
        page.locator("#before-half").evaluate("e => e.style.clipPath") == "inset(0px 70% 0px 0px)"
    )
    assert "explain" in page.locator("#words").inner_text()
    saved = downloaded(page, link)

    assert saved == written_by_command(page, command, model, tmp_path)
    assert Image.open(io.BytesIO(saved)).info["icc_profile"] == PROFILE


def written_by_command(page, command, model, folder) -> bytes:
    """Run the command that the page shows, in a folder, and return what it writes."""
    words = shlex.split(page.locator("#command").inner_text())
    assert words[0] == "restore"
    ran = command(*words[1:], "out.png", "--model", model)
    assert ran.code == 0, ran.err
    return (folder / "out.png").read_bytes()


def paint(page) -> None:
    """Paint with the mouse, erase, undo that, clear, undo that, and paint with the keyboard."""
    mask = page.locator("#mask")
    box = mask.bounding_box()
    page.locator("#size").fill("60")
    marked = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]\
        .filter((value, at) => at % 4 === 3 && value > 127).length"

    def drag(start: float, end: float) -> None:
        page.mouse.move(box["x"] + start * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()

    drag(0.2, 0.6)
    painted = mask.evaluate(marked)
    assert painted > 20
    page.get_by_role("button", name="Eraser").click()
    drag(0.4, 0.9)
    assert mask.evaluate(marked) < painted
    page.get_by_role("button", name="Undo").click()
    assert mask.evaluate(marked) == painted
    page.get_by_role("button", name="Clear").click()
    assert mask.evaluate(marked) == 0
    page.get_by_role("button", name="Undo").click()
    assert mask.evaluate(marked) == painted

    page.get_by_role("button", name="Brush").click()
    mask.focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp", "Space"):
        page.keyboard.press(key)
    assert mask.evaluate(marked) > painted


# Makes what a browser gives of a file that is dropped or pasted.
TRANSFER = """([name, content]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
    return transfer;
}"""


def test_pictures_are_dropped_and_pasted_and_masks_come_from_files(
    page, command, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    piece((24, 16)).save(tmp_path / "dropped.png")
    (tmp_path / "hole.png").write_bytes(hole())
    content = base64.b64encode((tmp_path / "dropped.png").read_bytes()).decode()
    page.get_by_role("tab", name="Inpainting").click()
    transfer = page.evaluate_handle(TRANSFER, ["dropped.png", content])
    page.dispatch_event("#work", "drop", {"dataTransfer": transfer})
    page.locator("#facts").get_by_text("dropped.png, 24×16").wait_for()

    page.get_by_role("button", name="Restore").click()
    page.locator("#message").get_by_text("paint over what is to be filled").wait_for()
    page.locator("#mask-file").set_input_files(tmp_path / "hole.png")
    page.locator("#command").get_by_text("--mask hole.png").wait_for()
    fill(page, steps=2)
    page.get_by_role("button", name="Restore").click()
    saved = downloaded(page, page.locator("#downloads a").first)
    assert saved == written_by_command(page, command, model, tmp_path)

    page.get_by_role("button", name="Restore it further").click()
    page.locator("#facts").get_by_text("dropped-inpaint.png, 24×16").wait_for()
    page.evaluate(
        "clipboardData => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData}))",
        page.evaluate_handle(TRANSFER, ["pasted.png", content]),
    )
    page.locator("#facts").get_by_text("pasted.png, 24×16").wait_for()
    page.get_by_role("button", name="Remove dropped.png").click()
    assert page.locator("#pictures li").count() == 2
    page.get_by_role("button", name="Find scratches").click()
    assert "--mask auto:scratches" in page.locator("#command").inner_text()


def test_progress_preview_and_cancel(page, worker, tmp_path):
    piece((48, 32)).save(tmp_path / "<img src=x onerror=alert(1)>.png")
    page.locator("#file").set_input_files(tmp_path / "<img src=x onerror=alert(1)>.png")
    fill(page, scale=2, steps=900)
    worker.gate.clear()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("beginning").wait_for()
    assert "<img src=x" in page.locator("#status").inner_text()
    worker.gate.set()
    page.locator("#preview").wait_for()
    page.locator("#status").get_by_text(" left").wait_for()
    worker.gate.clear()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#running").wait_for(state="hidden")
    assert page.locator("#start").is_enabled()
    worker.gate.set()


def test_a_closed_page_cancels_its_job(browser, worker, site, tmp_path):
    piece((48, 32)).save(tmp_path / "in.png")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site)
    page.locator("#file").set_input_files(tmp_path / "in.png")
    worker.gate.clear()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("beginning").wait_for()
    page.close()
    until(worker.cancelled.is_set, 60)
    worker.gate.set()


def test_pictures_may_come_before_the_tasks(browser, worker, site, tmp_path):
    piece((48, 32)).save(tmp_path / "in.png")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    held = []
    page.route("**/api/tasks", lambda route: held.append(route))
    with page.expect_request("**/api/tasks"):
        page.goto(site)
    page.locator("#file").set_input_files(tmp_path / "in.png")
    page.wait_for_function("document.getElementById('file').files.length === 0")
    held[0].continue_()
    page.locator("#facts").get_by_text("in.png, 48×32").wait_for()
    fill(page, scale=2, steps=2)
    page.get_by_role("button", name="Restore").click()
    page.locator("#downloads a").first.wait_for()
    page.close()


def test_several_pictures_come_as_a_zip(page, tmp_path):
    files = []
    for name, suffix in (("one", "png"), ("two", "tif"), ("three", "jpg")):
        files.append(tmp_path / f"{name}.{suffix}")
        piece((48, 32)).save(files[-1])
    fill(page, scale=2, steps=2, samples=2)
    page.locator("#file").set_input_files(files)
    page.locator("#start").click()  # waits for the pictures, which are still being read
    page.locator("#zip").wait_for()
    assert page.locator("#command").inner_text().splitlines() == [
        f"restore sr --scale 2 --steps 2 --samples 2 {path.name}" for path in files
    ]
    with zipfile.ZipFile(io.BytesIO(downloaded(page, page.locator("#zip")))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[0] == "one-sr.png"
        assert {"two-sr.tif", "two-sr.sample1.tif", "two-sr.std.png", "three-sr.jpg"} <= {*names}
        assert Image.open(archive.open("two-sr.tif")).size == (96, 64)

    # the samples of a network with random weights differ much
    page.locator("#which").select_option("three-sr.std.png")
    page.locator("#map-text").get_by_text("a standard deviation of 25\u00a0% of full").wait_for()


def test_a_dark_map_of_deviations_is_shown_brighter(page):
    levels = np.zeros((20, 30, 3), np.uint8)
    levels[5:9, 5:20] = (10, 6, 2)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    factor = page.evaluate(
        """async (address) => {
            const image = new Image();
            image.src = address;
            await image.decode();
            return (await import("./deviation.js")).brightness(image);
        }""",
        address,
    )
    assert factor == 255 // 10


def test_a_bad_picture_is_told_in_a_sentence(page, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"<b>no picture</b>")
    page.locator("#file").set_input_files(tmp_path / "bad.png")
    page.locator("#message").get_by_text("bad.png: not a picture of a known").wait_for()
    fill(page, scale=0.5)
    piece((48, 32)).save(tmp_path / "in.png")
    page.locator("#file").set_input_files(tmp_path / "in.png")
    page.locator("#facts").get_by_text("in.png").wait_for()
    page.get_by_role("button", name="Restore").click()
    page.locator("#message").get_by_text("in.png: Scale 0.5: must be above 1").wait_for()


def test_a_token_is_asked_for(browser, worker):
    site, _ = serve(worker, Address(token=TOKEN))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site)
    page.get_by_label("Token").fill("wrong-wrong-wrong-wrong")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("tab", name="Denoising").wait_for()
    page.goto(f"{site}docs")
    page.get_by_text("/api/restore/sr").wait_for()
    page.goto("about:blank")
    page.goto(f"{site}#{TOKEN}")
    page.get_by_role("tab", name="Denoising").wait_for()
    assert page.url == site


def test_tabs_and_forms_have_names_and_keys(page):
    page.get_by_role("tab", name="Super-resolution").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Inpainting").get_attribute("aria-selected") == "true"
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('input, select, button, canvas, img')]"
        ".filter((part) => !(part.labels?.length || part.getAttribute('aria-label')"
        " || part.innerText || part.textContent || part.alt)).map((part) => part.outerHTML)"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen(browser, site, tmp_path, width, scheme):
    piece((96, 64)).save(tmp_path / "in.png")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(site)
    page.get_by_role("tab", name="Inpainting").click()
    page.locator("#file").set_input_files(tmp_path / "in.png")
    page.locator("#facts").get_by_text("in.png").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
