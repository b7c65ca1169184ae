"""Compare demosaicking on mosaicked photographs: restore, LibRaw, OpenCV, demosaicnet.

The photograph's 8-bit values, divided by 255, are mosaicked, and white noise is added, neither
clipped nor rounded: what `restore solve` restores, for others a DNG or an array of 16 bits with
room below black. PSNR is over all channels but for a margin of 12 pixels.

    python benchmarks/raw.py KODAK --size 128 --noise 0 5 15 --out raw.json

LibRaw and demosaicnet need ``pip install rawpy demosaicnet``; what is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from dng import Camera
from numpy.typing import NDArray
from PIL import Image

from operators import X_TRANS_PATTERN, ColorFilterArray
from restore.metrics.demosaicking import demosaicked, interpolated
from restore.restorer import Restorer
from restore.tasks import Denoising, Solving

Picture = NDArray[np.float32]
# ``method(mosaic, pattern, noise)`` demosaics [H, W] to [H, W, 3].
Method = Callable[[Picture, tuple[str, ...], float], Picture]

PATTERNS = {"bayer": ("RG", "GB"), "xtrans": X_TRANS_PATTERN}
# Pixels along the border that are not compared: every method treats it in its own way.
MARGIN = 12
# Where black and white lie in 16 bits, so that noise is not clipped.
BLACK, RANGE = 16384, 32768
# Pixels around a mosaic that demosaicnet loses, a multiple of 6 for X-Trans.
PADDING = 48
# Side below which LibRaw refuses X-Trans.
LEAST_SIDE = 512


def mosaic_of(picture: Picture, pattern: tuple[str, ...], noise: float, seed: int) -> Picture:
    """Return the mosaic [H, W] of a picture [H, W, 3] in [0, 1], with white noise."""
    random = np.random.default_rng(seed).standard_normal(picture.shape[:2])
    return (Camera(pattern).mosaic(picture) + noise * random).astype(np.float32)


def psnr(found: Picture, truth: Picture) -> float:
    """PSNR in dB of what is not margin."""
    error = (found.clip(0, 1) - truth)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(-10 * np.log10(np.square(error).mean()))


# --- methods


def ours(restorer: Restorer, **options: Any) -> Method:
    """Return the method of restore."""

    def solve(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
        task = Solving("cfa:" + "/".join(pattern), noise=noise)
        picture = torch.from_numpy(mosaic)[None]
        return restorer.run(task, picture, **options).mean.permute(1, 2, 0).numpy()

    return solve


def bilinear(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
    """Interpolate by weighted means of neighbours."""
    operator = ColorFilterArray((3, *mosaic.shape), pattern)
    return interpolated(torch.from_numpy(mosaic)[None, None], operator)[0].permute(1, 2, 0).numpy()


def start(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
    """Return the start of our methods."""
    operator = ColorFilterArray((3, *mosaic.shape), pattern)
    return demosaicked(torch.from_numpy(mosaic)[None, None], operator)[0].permute(1, 2, 0).numpy()


def opencv(code: int, bits: int) -> Method:
    """Return one of OpenCV's methods, for RGGB alone."""

    def demosaic(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
        black, scale = (0, 255) if bits == 8 else (BLACK, RANGE)
        dtype = np.uint8 if bits == 8 else np.uint16
        counts = np.rint(black + mosaic * scale).clip(0, 2**bits - 1).astype(dtype)
        return ((cv2.demosaicing(counts, code).astype(np.float32) - black) / scale).astype("f4")

    return demosaic


def libraw(algorithm: str) -> Method:
    """Return one of LibRaw's methods, without white balance, matrix or curve."""
    import rawpy

    def demosaic(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
        black, scale = (BLACK, RANGE) if noise else (0, 65535)
        height, width = mosaic.shape
        if len(pattern) == 6:
            mosaic = mosaic[_repeated(height)][:, _repeated(width)]
        counts = np.rint(black + mosaic * scale).clip(0, 65535).astype(np.uint16)
        with tempfile.TemporaryDirectory() as folder:
            path = Camera(pattern, 0, 65535).write(Path(folder, "a.dng"), counts)
            with rawpy.imread(str(path)) as raw:
                made = raw.postprocess(
                    demosaic_algorithm=rawpy.DemosaicAlgorithm[algorithm],
                    user_wb=[1, 1, 1, 1],
                    output_color=rawpy.ColorSpace.raw,
                    gamma=(1, 1),
                    no_auto_bright=True,
                    adjust_maximum_thr=0.0,
                    output_bps=16,
                )
        return (made[:height, :width].astype(np.float32) - black) / scale

    return demosaic


def _repeated(side: int) -> NDArray[np.intp]:
    """Return rows of a mosaic, of which the last six repeat until there are `LEAST_SIDE`."""
    indices = np.arange(max(side, LEAST_SIDE))
    return np.where(indices < side, indices, side - 6 + (indices - side) % 6)


def demosaicnet() -> Method:
    """Return the network of Gharbi et al. 2016 with its published weights."""
    published = _published()
    networks = {
        PATTERNS["bayer"]: published.BayerDemosaick().eval(),
        PATTERNS["xtrans"]: published.XTransDemosaick().eval(),
    }

    def demosaic(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
        height, width = mosaic.shape
        left = PADDING
        if pattern == PATTERNS["bayer"]:
            # its mosaic begins with green and red: ours, from the second column on
            left += 1
            padded = np.pad(mosaic, ((PADDING, PADDING), (left, PADDING + 1)), mode="reflect")
            operator = ColorFilterArray((3, *padded.shape), ("GR", "BG"))
        else:
            padded = np.pad(mosaic, PADDING, mode="wrap")
            operator = ColorFilterArray((3, *padded.shape), pattern)
        with torch.no_grad():
            found = networks[pattern](operator.V(torch.from_numpy(padded)[None, None]))

        lost = [(a - b) // 2 for a, b in zip(padded.shape, found.shape[2:], strict=True)]
        top, left = PADDING - lost[0], left - lost[1]
        return found[0, :, top : top + height, left : left + width].permute(1, 2, 0).numpy()

    return demosaic


def _published() -> ModuleType:
    """Return demosaicnet's file of the networks.

    The package itself imports packages that they do not need, and that are gone from setuptools.

    Raises:
        ImportError: it is not installed.
    """
    package = importlib.util.find_spec("demosaicnet")
    if package is None or package.origin is None:
        raise ImportError("demosaicnet")
    folder = Path(package.origin).parent
    resources = ModuleType("pkg_resources")
    resources.resource_filename = lambda _, name: str(folder / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", resources)

    spec = importlib.util.spec_from_file_location("demosaicnet_modules", folder / "modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def then_denoised(restorer: Restorer, method: Method) -> Method:
    """Return a method followed by denoising with the same network."""

    def both(mosaic: Picture, pattern: tuple[str, ...], noise: float) -> Picture:
        found = method(mosaic, pattern, noise)
        if not noise:
            return found
        return restorer.run(Denoising(noise), np.ascontiguousarray(found.clip(-1, 2))).mean

    return both


def methods(restorer: Restorer, wanted: str) -> dict[str, Method]:
    """Return the methods for a pattern by name, without those that are not installed."""
    found: dict[str, Method] = {"bilinear": bilinear}
    if wanted == "bayer":
        found |= {
            "OpenCV VNG": opencv(cv2.COLOR_BayerRGGB2RGB_VNG, 8),
            "OpenCV EA": opencv(cv2.COLOR_BayerRGGB2RGB_EA, 16),
        }
    try:
        found["LibRaw AHD"] = libraw("AHD")
        if wanted == "bayer":
            found["LibRaw DHT"] = libraw("DHT")
        found["LibRaw AHD, then denoised"] = then_denoised(restorer, libraw("AHD"))
    except ImportError:
        pass
    try:
        found["demosaicnet"] = demosaicnet()
        found["demosaicnet, then denoised"] = then_denoised(restorer, found["demosaicnet"])
    except ImportError:
        pass
    found["our start"] = start
    found["our start, then denoised"] = then_denoised(restorer, start)
    found["restore"] = ours(restorer)

    return found


def measured(
    pictures: dict[str, Picture], pattern: str, noise: float, chosen: dict[str, Method], show: Path
) -> dict[str, dict[str, float]]:
    """Return the PSNR of each picture and the seconds of each method, by method."""
    scores: dict[str, dict[str, float]] = {name: {} for name in chosen}
    for index, (name, truth) in enumerate(pictures.items()):
        mosaic = mosaic_of(truth, PATTERNS[pattern], noise, index)
        for method, demosaic in chosen.items():
            started = time.perf_counter()
            found = demosaic(mosaic, PATTERNS[pattern], noise)
            scores[method][name] = psnr(found, truth)
            seconds = time.perf_counter() - started
            print(
                f"{pattern} {255 * noise:.0f} {method} {name} {scores[method][name]:.2f} dB "
                f"{seconds:.1f} s",
                flush=True,
            )
            if show is not None:
                eight = np.rint(found.clip(0, 1) * 255).astype(np.uint8)
                Image.fromarray(eight).save(
                    show / f"{Path(name).stem}-{pattern}-{255 * noise:.0f}-{method}.png"
                )

    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="*", help="pictures and crops, as kodim19@300,200")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 5, 15], help="of 255")
    parser.add_argument("--pattern", choices=tuple(PATTERNS), default="bayer")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--show", type=Path, help="folder for the pictures")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    pictures = dict(_cropped(given.folder, name, given.size) for name in given.names)
    restorer = Restorer()
    chosen = methods(restorer, given.pattern)
    chosen = {n: m for n, m in chosen.items() if not given.methods or n in given.methods}
    found: dict[str, Any] = {}
    if given.show is not None:
        given.show.mkdir(parents=True, exist_ok=True)
    for noise in given.noise:
        scores = measured(pictures, given.pattern, noise / 255, chosen, given.show)
        found[f"{given.pattern} {noise:g}"] = scores
        for method, of_picture in scores.items():
            print(f"{noise:g} {method}: {fmean(of_picture.values()):.2f} dB", flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1))


def _cropped(folder: Path, name: str, size: int) -> tuple[str, Picture]:
    stem, _, place = name.partition("@")
    left, top = (int(number) for number in place.split(",")) if place else (0, 0)
    picture = np.asarray(Image.open(folder / f"{stem}.png").convert("RGB"), np.float32) / 255
    return f"{stem}@{left},{top}", picture[top : top + size, left : left + size]


if __name__ == "__main__":
    main()
