"""Make the pictures of docs/tutorial.md by its own lines.

    python benchmarks/tutorial_pictures.py

writes docs/tutorial-large.jpg and docs/tutorial-mended.jpg.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Left, top, right and bottom of a head in the enlarged photograph.
HEAD = (30, 90, 430, 410)
GAP = 8


def main() -> None:
    """Run the page in a folder of its own, and take what it makes."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "examples" / "parrots.png", folder)
        os.chdir(folder)
        for block in blocks:
            exec(block, names)
        os.chdir(ROOT)

    large = names["large"]
    filtered = names["image"].resize(large.size, Image.Resampling.BICUBIC)
    beside([filtered.crop(HEAD), large.crop(HEAD)]).save(DOCS / "tutorial-large.jpg", quality=88)

    twice = [picture.resize((384, 256), 0) for picture in (names["scratched"], names["mended"])]
    beside(twice).save(DOCS / "tutorial-mended.jpg", quality=88)


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures of one size side by side."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index * (width + GAP), 0))
    return sheet


if __name__ == "__main__":
    main()
