"""Measure the detection of scratches and dust that are painted on clean photographs.

    python benchmarks/scratches.py FOLDER --count 8 --fill

Each picture gets straight scratches, hairs and specks of dust, bright or dark, of 1 to 4 pixels,
with a seed made of its name. Recall is the fraction of painted pixels that the mask covers; those
that differ by less than `VISIBLE` from the picture do not count. Precision is the fraction of the
mask within `NEAR` pixels of the paint. The clean picture tells what is masked without cause.
"""

from __future__ import annotations

import argparse
import zlib
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from problems import load_pictures

from restore import Restorer
from restore.blind.scratches import find_scratches
from restore.metrics.quality import psnr
from restore.tasks import Inpainting

Array = NDArray[np.float32]
Random = np.random.Generator

# Subpixels per side of a pixel, in which damage is drawn.
FINE = 4
# Difference of luminance that counts as visible.
VISIBLE = 0.1
NEAR = 2


class Damage(NamedTuple):
    """Paint on a picture.

    Attributes:
        cover: [H, W] in [0, 1], its opacity.
        value: [H, W] in [0, 1], its brightness.
        dust: bool [H, W], True for specks.
    """

    cover: Array
    value: Array
    dust: NDArray[np.bool_]


class Row(NamedTuple):
    """Figures of one picture, as fractions and in dB."""

    name: str
    clean: float
    lines: float
    dust: float
    precision: float
    before: float
    after: float


def paint(size: tuple[int, int], random: Random) -> Damage:
    """Draw the damage of an old photograph of (height, width)."""
    height, width = size
    cover = np.zeros(size, np.float32)
    value = np.zeros(size, np.float32)
    dust = np.zeros(size, bool)
    amount = height * width / 512**2
    draws = [_scratch] * max(1, round(4 * amount)) + [_hair] * max(1, round(3 * amount))
    draws += [_speck] * max(3, round(25 * amount))

    for draw in draws:
        canvas = np.zeros((FINE * height, FINE * width), np.uint8)
        draw(canvas, random)
        drawn = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)
        drawn = cv2.GaussianBlur(drawn, (0, 0), 0.5) * np.float32(random.uniform(0.7, 1))
        bright = random.random() < 0.6
        tone = np.float32(random.uniform(0.85, 1) if bright else random.uniform(0, 0.15))
        value = np.where(drawn > cover, tone, value)
        cover = np.maximum(cover, drawn)
        if draw is _speck:
            dust |= drawn > 0.25

    return Damage(cover, value, dust)


def _scratch(canvas: NDArray[np.uint8], random: Random) -> None:
    """Draw a nearly straight line, mostly steep, with gaps."""
    height, width = canvas.shape
    length = random.uniform(0.25, 1.0) * height
    angle = random.normal(np.pi / 2, 0.25) if random.random() < 0.7 else random.uniform(0, np.pi)
    start = random.uniform(0.05, 0.95, 2) * (width, height)
    along = np.linspace(-0.5, 0.5, 40)
    wobble = np.cumsum(random.normal(0, 0.25 * FINE, len(along)))
    points = start + length * along[:, None] * (np.cos(angle), np.sin(angle))
    points += wobble[:, None] * (-np.sin(angle), np.cos(angle))
    thickness = max(1, round(FINE * random.uniform(1, 3.5)))

    for one, other in pairwise(points):
        if random.random() < 0.92:
            cv2.line(canvas, _at(one), _at(other), 255, thickness)


def _hair(canvas: NDArray[np.uint8], random: Random) -> None:
    """Draw a thin curve."""
    height, width = canvas.shape
    turns = np.cumsum(random.normal(0.03, 0.1, 40)) + random.uniform(0, 2 * np.pi)
    step = FINE * random.uniform(1.0, 3.0)
    points = np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    points += random.uniform(0.1, 0.9, 2) * (width, height)
    thickness = max(1, round(FINE * random.uniform(1, 2.2)))
    cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, 255, thickness)


def _speck(canvas: NDArray[np.uint8], random: Random) -> None:
    """Draw a speck with an irregular outline."""
    height, width = canvas.shape
    radius = FINE * random.uniform(0.8, 3.0)
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    radii = radius * random.uniform(0.6, 1.3, 8)
    points = random.uniform(0, 1, 2) * (width, height)
    outline = points + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(canvas, [np.rint(outline).astype(np.int32)], 255)


def _at(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def damaged(picture: Array, damage: Damage) -> Array:
    """Return a picture [H, W, 3] with damage, as 8 bits hold it."""
    mixed = picture + damage.cover[..., None] * (damage.value[..., None] - picture)
    return np.rint(255 * mixed) / np.float32(255)


def old(picture: Array, random: Random) -> Array:
    """Return a picture [H, W, 3] as an old print: grey, faded, with grain."""
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    grain = cv2.GaussianBlur(random.normal(0, 1, grey.shape).astype(np.float32), (0, 0), 0.7)
    faded = 0.12 + 0.72 * grey + 0.035 * grain
    return np.repeat(faded.clip(0, 1)[..., None], 3, axis=2)


def measure(name: str, picture: Array, restorer: Restorer | None, print_like: bool) -> Row:
    """Return the figures of a picture [H, W, 3] in [0, 1]."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    truth = old(picture, random) if print_like else picture
    damage = paint(truth.shape[:2], random)
    shown = damaged(truth, damage)
    clean, found = (_mask(one) for one in (truth, shown))

    change = np.abs(shown - truth).mean(axis=2)
    visible = (change > VISIBLE) & (damage.cover > 0.25)
    lines, specks = visible & ~damage.dust, visible & damage.dust
    near = cv2.dilate((damage.cover > 0.05).astype(np.uint8), np.ones((2 * NEAR + 1,) * 2)) > 0
    before = after = 0.0
    if restorer is not None:
        before = _psnr(shown, truth)
        after = _psnr(restorer.run(Inpainting("auto:scratches"), shown).mean, truth)

    return Row(
        name,
        float(clean.mean()),
        _covered(lines, found),
        _covered(specks, found),
        _covered(found, near),
        before,
        after,
    )


def _mask(picture: Array) -> NDArray[np.bool_]:
    found = find_scratches(picture.transpose(2, 0, 1)).mask
    return np.zeros(picture.shape[:2], bool) if found is None else found


def _covered(wanted: NDArray[np.bool_], by: NDArray[np.bool_]) -> float:
    return float((wanted & by).sum() / wanted.sum()) if wanted.any() else 1.0


def _psnr(found: Array, truth: Array) -> float:
    one, other = (torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) for x in (found, truth))
    return float(psnr(one, other))


def show(rows: list[Row]) -> None:
    """Print the table."""
    clean = [row.clean for row in rows]
    print(
        f"masked of clean pictures: median {median(clean):.4%}, mean {fmean(clean):.4%}, ", end=""
    )
    print(f"most {max(clean):.4%}; nothing in {sum(c == 0 for c in clean)} of {len(clean)}")
    print(f"recall of scratches and hairs: {fmean(row.lines for row in rows):.3f}")
    print(f"recall of dust: {fmean(row.dust for row in rows):.3f}")
    print(f"precision: {fmean(row.precision for row in rows):.3f}")
    if any(row.after for row in rows):
        before, after = fmean(row.before for row in rows), fmean(row.after for row in rows)
        print(f"PSNR of the damaged pictures {before:.2f} dB, filled {after:.2f} dB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--print", action="store_true", dest="print_like", help="old prints")
    parser.add_argument("--fill", action="store_true", help="fill the masks, too")
    arguments = parser.parse_args()

    restorer = Restorer() if arguments.fill else None
    rows = []
    for name, picture in load_pictures(arguments.folder, arguments.crop, arguments.count).items():
        row = measure(name, picture.astype(np.float32) / 255, restorer, arguments.print_like)
        rows.append(row)
        print(
            f"{name}: clean {row.clean:.4%}, lines {row.lines:.3f}, dust {row.dust:.3f}, "
            f"precision {row.precision:.3f}",
            flush=True,
        )
    show(rows)


if __name__ == "__main__":
    main()
