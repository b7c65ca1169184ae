"""The HTML report of an evaluation: settings, table, thumbnails and zoomed crops, no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np

from restore.evaluate.protocol import Case, EightBit
from restore.evaluate.scores import COLUMNS, Score, Scores, cells
from restore.report.html import BYTE_LIMIT, CROP_RIM, document, facts, jpeg, png

# Side of a zoomed crop in pixels of the truth; larger for inpainting, to show around a hole.
CROP_SIDE, HOLE_CROP_SIDE = 64, 96
THUMBNAIL_SIDE = 120
WHOLE_SIDE = 480


class Text(NamedTuple):
    """Text of the page.

    Attributes:
        title: title of the page.
        lead: summary line.
        facts: settings and versions, for a table of two columns.
        notes: paragraphs about the table.
        problems: a line for each skipped picture and each failure.
    """

    title: str
    lead: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    problems: Sequence[str]


class Page:
    """Collects pictures while they are restored, up to a limit, and renders the page.

    Args:
        limit: maximum size of the embedded pictures in bytes.
    """

    def __init__(self, limit: int = BYTE_LIMIT) -> None:
        self.limit = limit
        self.bytes = 0
        self.thumbnails: list[str] = []
        self.sections: list[str] = []
        self.offered = 0

    def add(self, case: Case, results: Mapping[str, EightBit], scores: Mapping[str, Score]) -> None:
        """Add a picture: the input, the result of every method, the truth."""
        self.offered += 1
        if self.bytes >= self.limit:
            return

        anchor = f"picture-{self.offered}"
        name = escape(case.name)
        thumbnail = (
            f'<a href="#{anchor}"><img src="{jpeg(case.truth, THUMBNAIL_SIDE)}" alt="{name}: to '
            'its crops" '
            f'loading="lazy"><span>{name}</span></a>'
        )
        section = _section(anchor, case, results, scores)
        grown = self.bytes + len(thumbnail) + len(section)
        if grown > self.limit:
            # once the limit is reached, no later picture is shown
            self.bytes = self.limit
            return

        self.bytes = grown
        self.thumbnails.append(thumbnail)
        self.sections.append(section)

    def render(self, text: Text, scores: Scores) -> bytes:
        """Return the whole page in UTF-8."""
        shown = f"{len(self.sections)} of {self.offered} pictures are shown"
        if len(self.sections) < self.offered:
            shown += f", as many as fit into {self.limit / 1e6:.3g} MB"

        problems = "".join(f"<li>{escape(line)}</li>" for line in text.problems)
        body = [
            f"<header><h1>{escape(text.title)}</h1><p>{escape(text.lead)}</p></header>",
            "<main>",
            f"<section><h2>Results</h2>{_table(scores)}",
            *(f"<p class='note'>{escape(note)}</p>" for note in text.notes),
            f"<details><summary>What the columns mean</summary>{_legend()}</details></section>",
            f"<section><h2>Skipped or failed</h2><ul class='problems'>{problems}</ul></section>"
            if problems
            else "",
            "<section><h2>Settings</h2><details><summary>All settings and "
            f"versions</summary>{facts(text.facts)}</details></section>",
            f"<section><h2>Pictures</h2><p class='note'>{shown}. The crops show where "
            "the methods differ most, enlarged without smoothing.</p>",
            f"<nav aria-label='Pictures'>{''.join(self.thumbnails)}</nav></section>",
            *self.sections,
            "</main>",
        ]

        return document(text.title, "\n".join(part for part in body if part), _STYLE).encode(
            "utf-8", "replace"
        )


def place_of_crop(results: Sequence[EightBit], truth: EightBit, side: int) -> tuple[int, int]:
    """Return (top, left) of the crop where results differ most; a single one from the truth.

    Args:
        results: pictures [H, W, 3].
        truth: picture [H, W, 3].
        side: side of the crop, at most the shorter side of the picture.
    """
    compared = np.stack([*results, truth] if len(results) < 2 else results).astype(np.float32)
    rim = min(CROP_RIM, (min(truth.shape[:2]) - side) // 2)
    spread = compared.std(axis=0).mean(axis=2)[
        rim : truth.shape[0] - rim, rim : truth.shape[1] - rim
    ]
    sums = cv2.integral(spread, sdepth=cv2.CV_64F)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)

    return int(top) + rim, int(left) + rim


def _section(
    anchor: str, case: Case, results: Mapping[str, EightBit], scores: Mapping[str, Score]
) -> str:
    height, width = case.size
    side = min(HOLE_CROP_SIDE if case.kind.fills_holes else CROP_SIDE, height, width)
    own = [result for method, result in results.items() if method != "input"] or list(
        results.values()
    )
    top, left = place_of_crop(own, case.truth, side)
    best = max((scores[method].psnr for method in results), default=None)
    figures = [
        _figure(
            "input",
            _region(case.shown, case.size, top, left, side),
            case.name,
            scores.get("input"),
            False,
        )
    ]

    for method, result in results.items():
        if method != "input":
            crop = result[top : top + side, left : left + side]
            figures.append(
                _figure(method, crop, case.name, scores[method], scores[method].psnr == best)
            )

    figures.append(
        _figure("truth", case.truth[top : top + side, left : left + side], case.name, None, False)
    )
    name = escape(case.name)
    box = (
        f"left:{100 * left / width:.2f}%;top:{100 * top / height:.2f}%;"
        f"width:{100 * side / width:.2f}%;height:{100 * side / height:.2f}%"
    )

    return (
        f'<section class="picture" id="{anchor}"><div class="about"><h3>{name}</h3><div '
        'class="whole">'
        f'<img src="{jpeg(case.truth, WHOLE_SIDE)}" alt="{name}, whole, {width}×{height} pixels" '
        'loading="lazy">'
        f'<span class="box" style="{box}"></span></div>'
        f'<p class="note">{width}×{height} pixels; crops of {side}×{side} at column {left}, row '
        f"{top}.</p></div>"
        f'<div class="crops">{"".join(figures)}</div></section>'
    )


def _figure(method: str, crop: EightBit, name: str, score: Score | None, best: bool) -> str:
    numbers = ""
    if score is not None:
        numbers = f"{score.psnr:.2f} dB" + (
            "" if score.lpips is None else f", LPIPS {score.lpips:.3f}"
        )

    alt = escape(f"{method}, crop of {name}" + (f": {numbers}" if numbers else ""))
    mark = ' <span class="mark">best PSNR</span>' if best else ""

    return (
        f'<figure><img class="crop" src="{png(crop)}" alt="{alt}" loading="lazy">'
        f"<figcaption><b>{escape(method)}</b>{mark}<br>{numbers or '&nbsp;'}</figcaption></figure>"
    )


def _region(picture: EightBit, size: tuple[int, int], top: int, left: int, side: int) -> EightBit:
    """Return the crop from a picture of another size, scaled in proportion to at least 1 pixel."""
    down, across = (own / full for own, full in zip(picture.shape[:2], size, strict=True))
    first_row = int(top * down)
    first_column = int(left * across)
    rows = max(1, round(side * down))
    columns = max(1, round(side * across))
    return picture[first_row : first_row + rows, first_column : first_column + columns]


def _table(scores: Scores) -> str:
    heads = "".join(f'<th scope="col">{escape(column.heading)}</th>' for column in COLUMNS.values())
    rows = []
    for method, row in cells(scores).items():
        values = "".join(
            f'<td class="best">{text}<span class="hidden"> (best)</span></td>'
            if best
            else f"<td>{text}</td>"
            for text, best in row
        )
        rows.append(
            f'<tr><th scope="row">{escape(method)}</th>{values}<td>{len(scores[method])}</td></tr>'
        )

    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Results"><table><thead><tr>'
        f'<th scope="col">method</th>{heads}<th scope="col">pictures</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _legend() -> str:
    terms = "".join(
        f"<dt>{escape(c.heading)}</dt><dd>{escape(c.about)}</dd>" for c in COLUMNS.values()
    )
    return f"<dl>{terms}</dl>"


_STYLE = """
td.best { background: var(--best); font-weight: 700 }
nav { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .75rem; align-items: end }
nav a { color: inherit; text-decoration: none; font-size: .75rem; min-width: 0 }
nav img { display: block; max-width: 100%; border-radius: .25rem }
nav span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
@media (min-width: 60rem) { .picture { display: grid; grid-template-columns: 17rem 1fr; gap: 1rem } }
.about { min-width: 0 }
.whole { position: relative; display: inline-block; line-height: 0; max-width: 100% }
.whole img { max-width: 100%; height: auto; border-radius: .25rem }
.box { position: absolute; border: 2px solid #fff; outline: 2px solid #000 }
.crops { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(12rem, 45%), 1fr)); gap: .75rem }
.crop { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated }
"""
