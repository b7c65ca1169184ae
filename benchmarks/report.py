"""Draw pictures of a benchmark run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont


def strip(panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Draw captioned pictures side by side, enlarged (nearest neighbour) to the first's size."""
    height, width = panels[0][1].shape[:2]
    font = ImageFont.load_default(size=max(9, min(16, width // 14)))
    gap = 4
    line = 2 * int(font.size)
    canvas = Image.new("RGB", (len(panels) * (width + gap) - gap, height + line), "white")
    draw = ImageDraw.Draw(canvas)

    for index, (caption, picture) in enumerate(panels):
        left = index * (width + gap)
        shown = (
            Image.fromarray(picture)
            .convert("RGB")
            .resize((width, height), Image.Resampling.NEAREST)
        )
        canvas.paste(shown, (left, 0))
        draw.text(
            (left + width / 2, height + line / 2), caption, fill="black", font=font, anchor="mm"
        )

    return canvas
