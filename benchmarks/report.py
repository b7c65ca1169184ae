"""The numbers and pictures of a benchmark run, for people to read: markdown tables and strips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class Score:
    """One method on one picture.

    `lpips` is None without AlexNet's weights; `calls` and `seconds` are None for the input itself.
    """

    psnr: float
    psnr_y: float
    ssim: float
    lpips: float | None
    consistency: float
    calls: int | None
    seconds: float | None


Scores = Mapping[str, Mapping[str, Score]]
"""Method name to picture name to score."""

Means = dict[str, float | None]

COLUMNS: dict[str, tuple[str, str, Callable | None]] = {
    "psnr": ("PSNR", ".2f", max),
    "psnr_y": ("PSNR-Y", ".2f", max),
    "ssim": ("SSIM", ".4f", max),
    "lpips": ("LPIPS", ".4f", min),
    "consistency": ("consistency", ".5f", None),
    "calls": ("calls", ".0f", None),
    "seconds": ("seconds", ".3f", min),
}
"""Heading, format, and which value is best. Calls have no best; of consistency the truth's own is best."""


def means(scores: Mapping[str, Score]) -> Means:
    """Of every column, over the pictures."""
    rows = [asdict(score) for score in scores.values()]
    return {key: None if rows[0][key] is None else fmean(row[key] for row in rows) for key in COLUMNS}


def table(title: str, scores: Scores, truth_consistency: float) -> str:
    """As markdown, means over the pictures, the best value of each column in bold."""
    rows = {method: means(of_pictures) for method, of_pictures in scores.items()}
    lines = [
        f"### {title}\n\nConsistency of the truth: {truth_consistency:.5f}.\n",
        "| method | " + " | ".join(heading for heading, _, _ in COLUMNS.values()) + " |",
        "|---" + "|---:" * len(COLUMNS) + "|",
    ]
    for method, row in rows.items():
        lines.append(f"| {method} | " + " | ".join(_cell(key, row, rows.values()) for key in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _cell(key: str, row: Means, rows: Iterable[Means]) -> str:
    _, style, best = COLUMNS[key]
    value = row[key]
    if value is None:
        return ""
    text = format(value, style)
    if best is None:
        return text
    winner = best(other[key] for other in rows if other[key] is not None)
    return f"**{text}**" if text == format(winner, style) else text


def strip(panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Captioned pictures side by side, enlarged by nearest neighbour to the size of the first."""
    height, width = panels[0][1].shape[:2]
    font = ImageFont.load_default(size=max(9, min(16, width // 14)))
    gap, line = 4, 2 * int(font.size)
    canvas = Image.new("RGB", (len(panels) * (width + gap) - gap, height + line), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (caption, picture) in enumerate(panels):
        left = index * (width + gap)
        shown = Image.fromarray(picture).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(shown, (left, 0))
        draw.text((left + width / 2, height + line / 2), caption, fill="black", font=font, anchor="mm")
    return canvas
