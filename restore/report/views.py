"""What a report shows of a picture: before and after, where it changed most, and maps."""

from __future__ import annotations

import io
from collections.abc import Mapping
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from restore.report.comparison import Comparison
from restore.report.html import CROP_RIM, EightBit, jpeg, png, printable, reduced

# Longest sides of the pictures and maps, in pixels.
PREVIEW_SIDE, MAP_SIDE = 640, 320
# Side of the detail in pixels of the result, and its magnification.
CROP_SIDE, CROP_ZOOM = 128, 3
# Pictures with a shorter longest side, in pixels, are enlarged by an integer factor.
SMALL = 320
PREVIEW_QUALITY = 88
# Percentile of the values of a map that gets its brightest colour.
BRIGHT_SHARE = 99.5


def views_of(
    name: str, comparison: Comparison, std: NDArray[Any] | None, done: Mapping[str, Any]
) -> str:
    """Return the views of a picture as HTML, for a page with `STYLE` and `SCRIPT`.

    Args:
        name: printable name of the picture.
        comparison: the picture before and after.
        std: standard deviation of its samples, [H, W, C]; None for one sample.
        done: the record of the picture.
    """
    height, width = comparison.after.shape[:2]
    change = cv2.absdiff(comparison.before, comparison.after).mean(axis=2, dtype=np.float32) / 255
    pairs = _whole(comparison, name) + _detail(comparison, change, name)
    maps = _map(change, f"{name}, difference", "Difference of input and result")
    if std is not None:
        about = f"Standard deviation of the {done['samples']} samples"
        maps += _map(std.mean(axis=2, dtype=np.float32), f"{name}, standard deviation", about)

    about = (
        f"{comparison.size[0]}×{comparison.size[1]} → {width}×{height} pixels; {done['operator']}; "
        f"consistency {done['consistency']:.5f} at noise {done['noise']:.4f}"
    )

    lines = (about, *done.get("notes", ()))
    said = "".join(f'<p class="note">{escape(printable(line))}</p>' for line in lines)

    return f'{said}<div class="views">{pairs}<div class="views">{maps}</div></div>'


def _whole(comparison: Comparison, name: str) -> str:
    before, after = (
        _srgb(reduced(picture, PREVIEW_SIDE), comparison.icc_profile)
        for picture in (comparison.before, comparison.after)
    )
    height, width = after.shape[:2]
    zoom = max(1, SMALL // max(height, width))
    sources = [jpeg(picture, PREVIEW_SIDE, PREVIEW_QUALITY) for picture in (before, after)]

    return _pair(sources, f"{name}, whole", width, zoom)


def _detail(comparison: Comparison, change: NDArray[np.float32], name: str) -> str:
    """Return the crop that differs most; empty if that is nearly the whole picture."""
    if min(change.shape) < CROP_SIDE or max(change.shape) < 2 * CROP_SIDE:
        return ""

    top, left = _place_of_detail(change)
    inside = slice(top, top + CROP_SIDE), slice(left, left + CROP_SIDE)
    crops = [
        _srgb(picture[inside], comparison.icc_profile)
        for picture in (comparison.before, comparison.after)
    ]
    pair = _pair([png(crop) for crop in crops], f"{name}, detail", CROP_SIDE, CROP_ZOOM)
    about = f"{CROP_SIDE}×{CROP_SIDE} pixels at column {left}, row {top}, where it changed most."

    return f'<div class="detail">{pair}<p class="note">{about}</p></div>'


def _place_of_detail(change: NDArray[np.float32]) -> tuple[int, int]:
    """Return (top, left) of the crop with the largest mean, apart from borders that may ring."""
    means = cv2.boxFilter(change, cv2.CV_32F, (CROP_SIDE, CROP_SIDE), anchor=(0, 0))
    rim = min(CROP_RIM, (min(change.shape) - CROP_SIDE) // 2)
    inside = means[
        rim : len(means) - CROP_SIDE - rim + 1, rim : means.shape[1] - CROP_SIDE - rim + 1
    ]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top) + rim, int(left) + rim


def _map(values: NDArray[np.float32], alt: str, about: str) -> str:
    """Render values [H, W] in [0, 1] as a colour map, dark at 0."""
    bright = max(float(np.percentile(values, BRIGHT_SHARE)), 1 / 255)
    scale = min(1.0, MAP_SIDE / max(values.shape))
    size = tuple(max(1, round(n * scale)) for n in values.shape[::-1])
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA) if scale < 1 else values
    levels = np.rint(255 * (small / bright).clip(0, 1)).astype(np.uint8)
    picture = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    zoom = max(1, MAP_SIDE // max(picture.shape[:2]))

    return (
        f'<figure class="map{_sharp(zoom)}" style="--width:{picture.shape[1] * zoom}px">'
        f'<img src="{jpeg(picture, MAP_SIDE, PREVIEW_QUALITY)}" alt="{escape(alt)}" loading="lazy">'
        f"<figcaption>{about}: mean {float(values.mean()):.4f}, brightest from "
        f"{bright:.4f}</figcaption></figure>"
    )


def _pair(sources: list[str], label: str, width: int, zoom: int) -> str:
    """Return two pictures side by side, which the script overlays with a slider."""
    alt = escape(label)
    figures = "".join(
        f'<figure class="{kind}"><img src="{source}" alt="{alt}, {kind}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
        for kind, caption, source in zip(
            ("before", "after"), ("Input", "Result"), sources, strict=True
        )
    )
    return (
        f'<div class="pair{_sharp(zoom)}" data-label="{alt}: before and after" '
        f'style="--width:{width * zoom}px">'
        f"{figures}</div>"
    )


def _sharp(zoom: int) -> str:
    """Return the class that shows enlarged pixels without smoothing."""
    return " sharp" if zoom > 1 else ""


def _srgb(picture: EightBit, profile: bytes | None) -> EightBit:
    """Convert a picture from an ICC profile to sRGB; an invalid profile is ignored."""
    if profile is None:
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = Image.fromarray(np.ascontiguousarray(picture))
        return np.asarray(ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")))
    except (ImageCms.PyCMSError, OSError):
        return picture


STYLE = """
.views { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start }
.detail { min-width: 0 }
.detail p { contain: inline-size }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; width: calc(2 * var(--width)); max-width: 100% }
.pair img, .map img { display: block; width: 100% }
.sharp img { image-rendering: pixelated }
.map { width: var(--width); max-width: 100% }
.slider { position: relative; grid-template-columns: 1fr; width: var(--width); overflow: hidden }
.slider figure { grid-area: 1 / 1 }
.slider .after { clip-path: inset(0 0 0 var(--cut)) }
.slider figcaption { position: absolute; top: .5rem; left: .5rem; padding: 0 .4rem; border-radius: .25rem;
  background: rgb(0 0 0 / .6); color: #fff }
.slider .after figcaption { left: auto; right: .5rem }
.slider::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--cut); width: 2px; margin-left: -1px;
  background: #fff; outline: 1px solid rgb(0 0 0 / .5); pointer-events: none }
.slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y }
.slider:focus-within { outline: 2px solid var(--mark); outline-offset: 2px }
"""

SCRIPT = """
for (const pair of document.querySelectorAll(".pair")) {
  const slider = document.createElement("input");
  Object.assign(slider, {type: "range", min: 0, max: 100, step: 0.1, value: 50});
  slider.setAttribute("aria-label", pair.dataset.label);
  const show = () => pair.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", show);
  pair.classList.add("slider");
  pair.append(slider);
  show();
}
"""
