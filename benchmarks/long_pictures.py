"""Measure time and memory of super-resolution for long, narrow pictures against square ones.

    python benchmarks/long_pictures.py [--sizes 20000x10 10x20000 4000x10] [--scales 2 4]

Each run of ``restore sr`` is a process of its own. The square picture beside each size has as many
pixels. The time is that of the processor, so that other programs disturb little; what a run takes
for one pixel is start-up, and is subtracted.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Size = tuple[int, int]


def parse_size(text: str) -> Size:
    """Read ``WIDTHxHEIGHT``."""
    width, height = text.lower().split("x")
    return int(width), int(height)


def write_picture(size: Size, path: Path) -> None:
    """Write a ramp with noise."""
    width, height = size
    ramp = np.linspace(40, 215, width)[None, :, None] + np.linspace(-30, 30, height)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 5, (height, width, 3))
    Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8)).save(path)


def measure(size: Size, scale: int, options: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return processor seconds and the peak of the resident memory in MB of one run."""
    source = folder / "in.png"
    write_picture(size, source)
    command = ["sr", str(source), str(folder / "out.png"), "--scale", str(scale), *options]
    child = subprocess.Popen([sys.executable, "-m", "cli", *command, "--quiet", "--overwrite"])
    timer = threading.Timer(3600, child.kill)
    timer.start()
    _, status, usage = os.wait4(child.pid, 0)
    timer.cancel()
    if status:
        raise SystemExit(f"restore {' '.join(command)} failed")

    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["20000x10", "10x20000", "4000x10"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 4])
    parser.add_argument("options", nargs="*", help="options for restore sr, behind --")
    asked = parser.parse_args()

    print(f"{platform.processor() or platform.machine()}, OMP_NUM_THREADS of the environment")
    print("| size | scale | s | square, s | ratio | MB | square, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for scale in asked.scales:
            start, _ = measure((1, 1), scale, asked.options, folder)
            for size in map(parse_size, asked.sizes):
                side = round(math.sqrt(math.prod(size)))
                square, most = measure((side, side), scale, asked.options, folder)
                long, peak = measure(size, scale, asked.options, folder)
                ratio = (long - start) / math.prod(size) / ((square - start) / side**2)
                print(
                    f"| {size[0]}×{size[1]} | {scale} | {long:.1f} | {square:.1f} | {ratio:.2f} | "
                    f"{peak:.0f} | {most:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
