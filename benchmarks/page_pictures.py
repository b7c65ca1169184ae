"""Make the pictures of docs/serve.md: every tab of the page with a result, in a real browser.

python benchmarks/page_pictures.py docs

# as a telephone shows them
python benchmarks/page_pictures.py FOLDER --width 390 --height 800 --scheme dark
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

import restore

EXAMPLE = Path(__file__).parents[1] / "examples" / "parrots.png"
# Left, top, right and bottom of the crop that is enlarged.
HEADS = (60, 10, 156, 74)
# Scratches, as fractions of width and height.
SCRATCHES = (
    ((0.06, 0.20), (0.30, 0.42), (0.47, 0.36), (0.62, 0.60)),
    ((0.72, 0.08), (0.80, 0.45), (0.92, 0.80)),
)
# Milliseconds to wait for a result on a slow machine.
PATIENCE = 300_000
QUALITY = 80


@dataclass(frozen=True)
class Scene:
    """A tab with a picture to restore.

    Attributes:
        task: Name of the task.
        options: Options that are filled in.
        suffix: Format in which the picture is saved.
        saving: Options of saving.
        half: Where the slider between before and after stands, in percent.
    """

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = "png"
    saving: Mapping[str, Any] = field(default_factory=dict)
    half: int = 50

    @property
    def picture(self) -> Image.Image:
        """The degraded picture."""
        example = Image.open(EXAMPLE).convert("RGB")
        match self.task:
            case "sr":
                return example.crop(HEADS)
            case "inpaint":
                return scratched(example)
            case "colorize":
                return example.convert("L")
            case "deblur":
                return degraded(example, "blur:motion:9:20", 0.01)
            case "denoise":
                return degraded(example, "identity", 0.1)
            case "solve":
                return degraded(example, "blur:gaussian:1+down:bicubic:2", 0.02)
            case "auto":
                return degraded(example, "blur:disk:3", 0.01)
        return example


SCENES = (
    Scene("sr", {"scale": 4}),
    Scene("inpaint", half=62),
    Scene("deblur", {"kernel": "motion:9:20"}),
    Scene("denoise"),
    Scene("dejpeg", suffix="jpg", saving={"quality": 15}),
    Scene("colorize"),
    Scene("solve", {"operator": "blur:gaussian:1+down:bicubic:2", "noise": "0.02"}),
    Scene("auto"),
)


def degraded(image: Image.Image, operator: str, noise: float) -> Image.Image:
    return restore.degrade(image, operator, noise=noise, seed=0).picture


def scratched(image: Image.Image) -> Image.Image:
    drawing = ImageDraw.Draw(image)
    for line in SCRATCHES:
        points = [(x * image.width, y * image.height) for x, y in line]
        drawing.line(points, fill=(235, 230, 215), width=2, joint="curve")
    return image


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Start a server; yield the address of its page."""
    words = ["serve", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen([sys.executable, "-m", "cli", *words], stderr=subprocess.PIPE)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if found := re.search(rb"http://\S+", line):
                yield found.group().decode()
                return
        raise SystemExit("the server did not start")
    finally:
        server.terminate()
        server.wait()


def paint(page: Page) -> None:
    """Paint over the scratches with the mouse."""
    page.locator("#size").fill("16")
    page.locator("#mask").scroll_into_view_if_needed()
    box = page.locator("#mask").bounding_box()
    assert box is not None
    for line in SCRATCHES:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()


def fill(page: Page, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        part = page.locator(f"#option-{name}")
        is_choice = part.evaluate("part => part.tagName") == "SELECT"
        part.select_option(str(value)) if is_choice else part.fill(str(value))


def save(page: Page, path: Path) -> None:
    """Write what the page shows."""
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot.save(path, quality=QUALITY, method=6)
    print(f"{path}: {shot.width}x{shot.height}, {path.stat().st_size / 1e3:.0f} kB")


def play(page: Page, scene: Scene, source: Path, target: Path) -> None:
    """Restore a picture on its tab, and write pictures of the page."""
    name = source / f"parrots.{scene.suffix}"
    scene.picture.save(name, **scene.saving)
    page.locator(f"#tab-{scene.task}").click()
    page.locator("#file").set_input_files(name)
    page.locator("#facts").get_by_text(f"{name.name}, ").wait_for()
    fill(page, scene.options)
    if scene.task == "inpaint":
        paint(page)
        page.mouse.move(0, 0)
        save(page, target / "serve-mask.webp")

    page.locator("#start").click()
    page.locator("#downloads a").first.wait_for()
    page.locator("#slider").fill(str(scene.half))
    page.locator("#start").evaluate("button => button.blur()")
    page.wait_for_function("document.getElementById('after').complete")
    save(page, target / f"serve-{scene.task}.webp")


def open_page(browser: Browser, site: str, options: argparse.Namespace) -> Page:
    screen = {"width": options.width, "height": options.height}
    page = browser.new_page(viewport=screen, color_scheme=options.scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(site)
    page.get_by_role("tab").first.wait_for()
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--width", type=int, default=1120)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--only", help="one task")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served() as site, sync_playwright() as playwright, tempfile.TemporaryDirectory() as made:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scene in SCENES:
            if options.only in (None, scene.task):
                page = open_page(browser, site, options)
                play(page, scene, Path(made), options.folder)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
