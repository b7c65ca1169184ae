"""Photographs in few bytes, without artefacts that a network would learn.

By default every photograph gives a window of its middle at full resolution, as large as fits for
all. Compressed again with the JPEG's own quantisation tables, and cut where its blocks end, it
stays what it was (about 60 dB). A photograph that lies within the window stays the file that it is.
Halving the photographs instead keeps the whole scene but costs its finest detail, and takes more
bytes for the same quality.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError, UnreadableInput
from restore.jobs.walk import pictures_in
from restore.photo.apart import decoding_apart
from restore.photo.encode import quantise
from restore.photo.photograph import SUFFIXES, read_photo
from restore.training.pieces import KIB, mebibytes, read_pieces, write_pieces

PICTURES = "photographs.zip"
# JPEG qualities, best first, of halved photographs; the first is that of what was no JPEG before.
QUALITIES = (98, 95, 92)
# Side of the smallest window in pixels: crops of 96 that augmentation takes from squares up to 2.5
# times as wide.
SMALLEST = 256
# Windows begin and end at multiples of this many pixels, as the blocks of JPEG do.
BLOCK = 16

Reduce = Literal["window", "halve"]
# Licence and source of each file.
Origins = Mapping[str, tuple[str, str]]
_JPEG = (".jpg", ".jpeg")
# Bytes of a picture's entries in the archive and in the index, besides four times its name.
_OVERHEAD = 400


@dataclass(frozen=True)
class Entry:
    """A packed photograph.

    Attributes:
        name: Name in the archive.
        original: Path below the folder.
        licence: Licence, or empty if it is unknown.
        source: Source, or empty if it is unknown.
        done: What was done to it.
        size: Width and height in pixels.
        bytes: Size of the file.
        psnr: PSNR in dB against the same pixels of the original (or of its half); None if the file
            is unchanged.
    """

    name: str
    original: str
    licence: str
    source: str
    done: str
    size: tuple[int, int]
    bytes: int
    psnr: float | None = None


@dataclass(frozen=True)
class PackedPictures:
    """A packed folder of photographs.

    Attributes:
        entries: Its photographs.
        files: Files written.
        done: What was done to the photographs in all.
        left_out: Number of photographs that did not fit.
        skipped: Reasons of unreadable files.
    """

    entries: list[Entry]
    files: list[Path]
    done: str
    left_out: int
    skipped: list[str] = field(default_factory=list)

    @property
    def psnr(self) -> float | None:
        """Mean over the photographs that were compressed again, in dB; None without any."""
        values = [entry.psnr for entry in self.entries if entry.psnr is not None]
        return fmean(values) if values else None

    def __str__(self) -> str:
        same = sum(entry.psnr is None for entry in self.entries)
        pixels = (
            sum(width * height for width, height in (entry.size for entry in self.entries)) / 1e6
        )
        quality = "" if self.psnr is None else f", the others at {self.psnr:.1f} dB"
        left_out = f"; {self.left_out} left out" if self.left_out else ""
        total = mebibytes(sum(file.stat().st_size for file in self.files))

        return (
            f"{len(self.entries)} photographs, {pixels:.0f} megapixels in {len(self.files)} files, "
            f"{total}: {self.done}; {same} files as they were{quality}{left_out}"
        )


class _Coded(NamedTuple):
    """An encoded photograph.

    Attributes:
        data: Content of the file.
        size: Width and height in pixels.
        done: What was done to it.
        psnr: PSNR in dB against the same pixels of the original; None if the file is unchanged.
    """

    data: bytes
    size: tuple[int, int]
    done: str
    psnr: float | None


def pack_pictures(
    folder: Path,
    out: Path,
    limit: int,
    *,
    reduce: Reduce = "window",
    licences: Path | None = None,
    count: int | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> PackedPictures:
    """Write the photographs of a folder as pieces of one archive, with an index.

    Args:
        folder: Folder of photographs.
        out: Where the pieces go.
        limit: Limit of all files together, in bytes.
        reduce: How photographs are made to fit. ``window`` cuts windows out, see above. ``halve``
            takes the highest quality at which all fit in half their size, then leaves as many as
            possible whole.
        licences: A CSV table with the columns file, source and licence.
        count: Largest number of photographs, evenly from all of them.
        notice: Called with what is being tried.

    Raises:
        BadArgument: Not even one photograph fits.
        FileAccess: A folder or the table cannot be read, or the files cannot be written.
        NothingToDo: There is no readable photograph.
    """
    found = _found(folder, count)
    known = _licences(licences)
    skipped: list[str] = []
    encode = _windows if reduce == "window" else _halves
    with decoding_apart():
        chosen, done = encode(found, limit - _overhead(found, folder, known), skipped, notice)
    if not chosen:
        raise BadArgument(
            f"{mebibytes(limit)} are too little for even one of the photographs; raise the limit"
        )

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        entries = [_added(file, path, folder, coded, known) for path, coded in chosen.items()]

    index = {"done": done, "photographs": [asdict(entry) for entry in entries]}
    files = write_pieces(archive.getvalue(), out, PICTURES, index)

    return PackedPictures(entries, files, done, len(found) - len(skipped) - len(chosen), skipped)


def _found(folder: Path, count: int | None) -> list[Path]:
    """Return ``count`` photographs of a folder, evenly from all of them."""
    found: list[Path] = []
    if folder.is_dir():
        found = [path for path in pictures_in(folder, SUFFIXES) if path.is_file()]
    if not found:
        raise NothingToDo(f"{folder}: no photograph in it")

    return _spread(found, len(found) if count is None else count)


def _overhead(found: Sequence[Path], folder: Path, known: Origins) -> int:
    """Return the bytes of the archive and the index besides the photographs."""
    table = sum(_OVERHEAD + 4 * len(path.relative_to(folder).as_posix()) for path in found)
    table += sum(len(text) for path in found for text in _origin(path, folder, known))
    return table + 2 * KIB


def _added(file: zipfile.ZipFile, path: Path, folder: Path, coded: _Coded, known: Origins) -> Entry:
    """Add a photograph to the archive."""
    name = path.relative_to(folder)
    renamed = coded.psnr is not None and name.suffix.lower() not in _JPEG
    inside = f"{name.as_posix()}.jpg" if renamed else name.as_posix()
    file.writestr(zipfile.ZipInfo(inside), coded.data)
    licence, source = _origin(path, folder, known)

    return Entry(
        name=inside,
        original=name.as_posix(),
        licence=licence,
        source=source,
        done=coded.done,
        size=coded.size,
        bytes=len(coded.data),
        psnr=None if coded.psnr is None else round(coded.psnr, 2),
    )


def unpack_pictures(packed: Path, folder: Path) -> list[Entry]:
    """Write the photographs into a folder, which is made.

    Raises:
        FileAccess: Files are missing or cannot be written.
        UnreadableInput: The packed files are damaged.
    """
    data, index = read_pieces(packed, PICTURES)
    try:
        entries = [
            Entry(**{**entry, "size": tuple(entry["size"])}) for entry in index["photographs"]
        ]
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            for entry in entries:
                target = folder / entry.name
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise UnreadableInput(f"{packed}: {entry.name}: outside the folder")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read(entry.name))
    except OSError as error:
        raise FileAccess(f"{error.filename}: cannot be written: {error.strerror}") from None
    except (KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{packed}: {PICTURES}: {error}") from None

    return entries


def _windows(
    found: Sequence[Path], limit: int, skipped: list[str], notice: Callable[[str], None]
) -> tuple[dict[Path, _Coded], str]:
    """Return the largest windows that fit, or as many as fit of the smallest; and a description."""
    sizes = dict(_sizes(found, skipped))
    best: dict[Path, _Coded] = {}
    factor = 1.0
    best_side = 0
    too_large = max((max(w, h) for w, h, _ in sizes.values()), default=0) + 2 * BLOCK

    while True:
        side = min(_largest_side(sizes.values(), limit / factor, too_large), too_large - BLOCK)
        side = max(side, SMALLEST)
        if side <= best_side:
            return best, f"windows of at most {best_side}x{best_side} pixels"

        coded = {path: _window(path, side) for path in sizes}
        total = sum(len(each.data) for each in coded.values())
        notice(f"windows of at most {side}x{side} pixels: {mebibytes(total)}")
        factor = total / max(_expected(sizes.values(), side), 1)
        if total <= limit:
            best = coded
            best_side = side
        elif side == SMALLEST:
            return _fitting(
                coded, limit
            ), f"windows of at most {side}x{side} pixels of some photographs"
        else:
            too_large = side


def _halves(
    found: Sequence[Path], limit: int, skipped: list[str], notice: Callable[[str], None]
) -> tuple[dict[Path, _Coded], str]:
    """Return halved photographs at the highest quality that fits, and a description.

    As many as possible stay whole.
    """
    sizes = dict(_sizes(found, skipped))
    for quality in QUALITIES:
        halves = {path: _half(path, quality) for path in sizes}
        smaller = {path for path, half in halves.items() if len(half.data) < sizes[path][2]}
        total = sum(len(halves[path].data) if path in smaller else sizes[path][2] for path in sizes)
        notice(f"halved at quality {quality}: {mebibytes(total)}")
        if total <= limit:
            break
    else:
        return _fitting(halves, limit), f"some photographs, halved at quality {quality}"

    for path in sorted(smaller, key=lambda path: sizes[path][2] - len(halves[path].data)):
        more = sizes[path][2] - len(halves[path].data)
        if total + more > limit:
            break
        total += more
        smaller.remove(path)

    chosen = {path: halves[path] if path in smaller else _whole(path) for path in sizes}

    return chosen, f"{len(smaller)} halved at quality {quality}, {len(sizes) - len(smaller)} whole"


def _sizes(
    found: Iterable[Path], skipped: list[str]
) -> Iterable[tuple[Path, tuple[int, int, int]]]:
    """Yield width, height and bytes of each file that can be read."""
    for path in found:
        try:
            height, width = read_photo(path).pixels.shape[:2]
        except RestoreError as error:
            skipped.append(str(error))
            continue
        yield path, (width, height, path.stat().st_size)


def _expected(sizes: Iterable[tuple[int, int, int]], side: int) -> float:
    """Return the expected bytes of windows, in proportion to their area."""
    return sum(size * min(w, side) * min(h, side) / (w * h) for w, h, size in sizes)


def _largest_side(sizes: Iterable[tuple[int, int, int]], limit: float, most: int) -> int:
    """Return the largest side below ``most``, in whole blocks, of windows expected to fit."""
    known = list(sizes)
    return max((s for s in range(BLOCK, most, BLOCK) if _expected(known, s) <= limit), default=0)


def _window(path: Path, side: int) -> _Coded:
    """Encode the middle of a photograph; a file that lies within the window stays as it is."""
    pixels, options = _pixels(path)
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        whole = _whole(path)
        again = _as_jpeg(pixels, options, "whole")
        smaller = path.suffix.lower() not in _JPEG and len(again.data) < len(whole.data)
        return again if smaller else whole

    top, left = (max(0, length - side) // 2 // BLOCK * BLOCK for length in (height, width))
    shown = pixels[top : top + side, left : left + side]

    return _as_jpeg(shown, options, f"window from column {left}, row {top}")


def _half(path: Path, quality: int) -> _Coded:
    pixels, _ = _pixels(path)
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize(
        (max(1, width // 2), max(1, height // 2)), Image.Resampling.BICUBIC
    )
    return _as_jpeg(np.asarray(small), {"quality": quality}, f"halved, quality {quality}")


def _whole(path: Path) -> _Coded:
    with Image.open(path) as image:
        size = image.size
    return _Coded(path.read_bytes(), size, "as it was", None)


def _pixels(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a photograph as training sees it.

    Returns:
        uint8 [H, W, 3] or [H, W], and encoder options that keep the quality of its JPEG.
    """
    photo = read_photo(path)
    values = photo.pixels if photo.alpha is None else photo.pixels * photo.alpha[..., None]
    tables = photo.encoding.get("qtables")
    pixels = quantise(values, 8)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels, {
        "qtables": tables
    } if tables else {}


def _as_jpeg(pixels: np.ndarray, options: Mapping[str, Any], done: str) -> _Coded:
    """Encode pixels as a JPEG without chroma subsampling."""
    options = {
        **(options or {"quality": QUALITIES[0]}),
        "subsampling": 0,
        "optimize": True,
        "progressive": True,
    }
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)

    with Image.open(buffer) as image:
        again = np.asarray(image)
        size = image.size

    error = np.square(again.astype(np.float32) - pixels).mean(dtype=np.float64)

    return _Coded(buffer.getvalue(), size, done, float(10 * np.log10(255**2 / max(error, 1e-4))))


def _fitting(coded: Mapping[Path, _Coded], limit: int) -> dict[Path, _Coded]:
    """Return as many as fit, evenly from all of them."""
    paths = list(coded)
    low = 0
    high = len(paths)

    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(len(coded[path].data) for path in _spread(paths, middle)) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)

    return {path: coded[path] for path in _spread(paths, low)}


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Return at most ``count`` paths, evenly from all."""
    count = min(count, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def _licences(table: Path | None) -> dict[str, tuple[str, str]]:
    """Read licence and source of each file that a table names."""
    if table is None:
        return {}
    try:
        with open(table, encoding="utf-8", newline="") as file:
            return {row["file"]: (row["licence"], row["source"]) for row in csv.DictReader(file)}
    except OSError as error:
        raise FileAccess(f"{table}: cannot be read: {error.strerror}") from None
    except (KeyError, csv.Error) as error:
        raise UnreadableInput(
            f"{table}: not a table with the columns file, source and licence: {error}"
        ) from None


def _origin(path: Path, folder: Path, known: Origins) -> tuple[str, str]:
    """Return licence and source, empty for a photograph that the table does not name."""
    return known.get(path.relative_to(folder).as_posix(), known.get(path.name, ("", "")))
