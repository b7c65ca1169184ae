"""Parts of HTML reports, which are one file each with their pictures embedded."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# RGB pictures [H, W, 3].
EightBit = NDArray[np.uint8]

# Largest number of bytes of a page's embedded pictures.
BYTE_LIMIT = 16_000_000
JPEG_QUALITY = 82
# Pixels that a crop keeps from the border, where some methods ring.
CROP_RIM = 16


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """A page whose security policy lets it load nothing, and run nothing but `script`.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS beside that of all pages.
        script: JavaScript.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        script = f"<script>{script}</script>\n"

    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
{body}
{script}</body>
</html>
"""


def facts(table: Mapping[str, str]) -> str:
    """A list of names and values in two columns, from plain text."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in table.items()
    )
    return f"<dl>{rows}</dl>"


def png(picture: EightBit) -> str:
    """Address of an embedded PNG."""
    return _embedded(picture, "PNG", optimize=True)


def jpeg(picture: EightBit, side: int, quality: int = JPEG_QUALITY) -> str:
    """Address of an embedded JPEG of at most `side` pixels each way."""
    return _embedded(reduced(picture, side), "JPEG", quality=quality)


def reduced(picture: EightBit, side: int) -> EightBit:
    """Reduce a picture to at most `side` pixels each way."""
    scale = min(1.0, side / max(picture.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _embedded(picture: EightBit, format: str, **options: int | bool) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def printable(text: str) -> str:
    """Replace what cannot be shown: file names may hold line ends and bytes that are no text."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in readable)


# Style sheet of every page.
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --soft: #5b6168; --line: #d8dce0; --best: #e3f3e6;
  --sheet: #f5f6f7; --mark: #1d7a33; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --back: #16181a; --text: #e8eaec; --soft: #a3a9b0; --line: #3a3f45;
  --best: #1f3d27; --sheet: #1f2225; --mark: #74cf8b; --bad: #f2938c } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 .25rem }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere }
header p { margin: 0; color: var(--soft); overflow-wrap: anywhere }
.note, details { color: var(--soft); font-size: .875rem; margin: .5rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
thead th { color: var(--soft); font-weight: 600 }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--back) }
tbody th { font-weight: 600 }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; font-size: .9375rem }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.problems { padding-left: 1.2rem; overflow-wrap: anywhere }
.picture { margin: 2rem 0 0; padding: 1rem; background: var(--sheet); border-radius: .5rem }
figure { margin: 0; min-width: 0 }
figcaption { font-size: .8125rem; line-height: 1.35; padding-top: .25rem }
.mark { color: var(--mark); white-space: nowrap }
"""
