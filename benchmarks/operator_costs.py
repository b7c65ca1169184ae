"""Time and memory of the operators: set-up, every map, and the peak beyond the picture.

    python benchmarks/operator_costs.py --sizes 512 1024 2048

Every row is a fresh process. Memory is the growth of its peak resident set from after the imports, a small
operator put through its paces and the picture in memory, to after the set-up (of the operator) and to the end
(with the operator, the measurement, the spectrum and the result of the largest map). It has the file name that it
has because a script named operators.py would hide the package from its neighbours.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from operators import Shape, SpectralOperator

BOUNDARIES = ("zero", "symmetric", "replicate", "circular")
KINDS = ("downsample x4 bicubic", *(f"blur {b}" for b in BOUNDARIES), "blur and x4", "gray", "mask")
MAPS = ("A", "At", "V", "Vt", "U", "Ut", "pseudo_inverse")
SIGMA, FACTOR = 2.0, 4


def build(kind: str, shape: Shape) -> SpectralOperator:
    """The operator of a row's name."""
    import torch

    import operators

    if kind == "gray":
        return operators.gray(shape)
    if kind == "mask":
        known = torch.rand(shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5
        return operators.Mask(shape, known)
    if kind.startswith("downsample"):
        return operators.downsample(shape, FACTOR)
    if kind == "blur and x4":
        blur = operators.gaussian_blur(shape, SIGMA)
        return operators.downsample(blur.output_shape, FACTOR) @ blur
    return operators.gaussian_blur(shape, SIGMA, boundary=kind.removeprefix("blur "))


def measure(kind: str, size: int, repeats: int) -> dict[str, float]:
    """One row, to be run in a process of its own."""
    import torch

    with torch.inference_mode():
        exercise(build(kind, (3, 32, 32)), torch.rand(1, 3, 32, 32), 1)  # loads what is loaded when first used
        picture = torch.rand(1, 3, size, size)
        before = peak()
        started = time.perf_counter()
        operator = build(kind, (3, size, size))
        assert operator.singular_values is not None  # the SVD is computed when it is first used
        row = {"setup": time.perf_counter() - started, "setup_mb": peak() - before}
        row |= exercise(operator, picture, repeats)
        return row | {"peak_mb": peak() - before}


def exercise(operator: SpectralOperator, picture: Any, repeats: int) -> dict[str, float]:
    """Median seconds of each map."""
    measurement, spectrum = operator.A(picture), operator.Vt(picture)
    inputs = {"A": picture, "Vt": picture, "V": spectrum, "U": spectrum}
    return {name: median_seconds(getattr(operator, name), inputs.get(name, measurement), repeats) for name in MAPS}


def median_seconds(function: Callable[[Any], Any], argument: Any, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak() -> float:
    """Peak resident set of this process so far, in MB (10⁶ bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def in_fresh_process(kind: str, size: int, repeats: int) -> dict[str, float]:
    """`measure` elsewhere. This process never imports PyTorch: on Linux a child's peak starts at its parent's."""
    command = [sys.executable, __file__, "--row", kind, "--sizes", str(size), "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="sides of the picture")
    parser.add_argument("--repeats", type=int, default=3, help="of each map; the median is shown")
    parser.add_argument("--row", choices=KINDS, help="measure one row in this process and print it as JSON")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(arguments.row, arguments.sizes[0], arguments.repeats)))
        return
    print("Times in milliseconds, memory in MB beyond the picture.\n")
    headings = ["operator", "picture", "picture MB", "set-up", *MAPS[:-1], "A⁺", "MB after set-up", "MB at the peak"]
    print("| " + " | ".join(headings) + " |\n|---" + "|---:" * (len(headings) - 1) + "|")
    for size in arguments.sizes:
        for kind in KINDS:
            row = in_fresh_process(kind, size, arguments.repeats)
            cells = [f"{size}×{size}×3", f"{size * size * 12 / 1e6:.1f}"]
            cells += [f"{row[key] * 1e3:.1f}" for key in ("setup", *MAPS)]
            cells += [f"{row[key]:.1f}" for key in ("setup_mb", "peak_mb")]
            print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
