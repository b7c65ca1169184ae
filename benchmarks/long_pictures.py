"""Measure time and memory of super-resolution for long, narrow pictures against square ones.

    python benchmarks/long_pictures.py [--sizes 20000x10 10x20000 4000x10] [--scales 2 4]

Each picture is restored in a process of its own, after a small one and then twice; the time is the
shorter one of the processor, so that other programs disturb little, and the memory is the peak of
the process. The square picture beside each size has as many pixels.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]


def parse_size(text: str) -> Size:
    """Read ``WIDTHxHEIGHT``."""
    width, height = text.lower().split("x")
    return int(width), int(height)


def picture(size: Size) -> NDArray[np.float32]:
    """Make a ramp with noise, [H, W, 3] in [0, 1]."""
    width, height = size
    ramp = np.linspace(0.2, 0.8, width * height, dtype=np.float32).reshape(height, width, 1)
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width, 3))
    return (ramp + noise).clip(0, 1).astype(np.float32)


def restore_twice(size: Size, scale: int, options: dict[str, str | int]) -> float:
    """Restore in this process; return processor seconds."""
    from restore import Restorer

    restorer = Restorer(device="cpu")
    restorer.sr(picture((16, 16)), scale, **options)
    seconds = []
    for _ in range(2):
        started = time.process_time()
        restorer.sr(picture(size), scale, **options)
        seconds.append(time.process_time() - started)

    return min(seconds)


def measure(size: Size, scale: int, options: Sequence[str]) -> tuple[float, float]:
    """Return processor seconds, and the peak of the resident memory in MB, of a new process."""
    words = [sys.executable, __file__, "--one", f"{size[0]}x{size[1]}", "--scales", str(scale)]
    child = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")

    return float(printed), usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["20000x10", "10x20000", "4000x10"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--method", default="auto")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()

    options: dict[str, str | int] = {"method": asked.method}
    if asked.steps is not None:
        options["steps"] = asked.steps
    if asked.one is not None:
        print(restore_twice(parse_size(asked.one), asked.scales[0], options))
        return

    passed = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    print(f"{platform.processor() or platform.machine()}, {options}")
    print("| size | scale | s | square, s | ratio a pixel | MB | square, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for scale in asked.scales:
        for size in map(parse_size, asked.sizes):
            side = round(math.sqrt(math.prod(size)))
            square, most = measure((side, side), scale, passed)
            long, peak = measure(size, scale, passed)
            ratio = long / math.prod(size) / (square / side**2)
            print(
                f"| {size[0]}×{size[1]} | {scale} | {long:.1f} | {square:.1f} | {ratio:.2f} | "
                f"{peak:.0f} | {most:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
