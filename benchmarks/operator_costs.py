"""Measure time and memory of every operator: set-up, every map, peak, beside a network call.

    # every operator at 512², 1024² and 2048²
    python benchmarks/operator_costs.py

    # those whose name has one of the words
    python benchmarks/operator_costs.py --only blur mask

A pseudo-inverse that iterates runs to its end at the smallest size. At the others its first
iterations are timed, and the time of as many as at the smallest is calculated (≈); with --whole it
runs to its end everywhere.

Every row is a fresh process. Memory is the growth of its peak resident set from after the imports,
a trial of a small operator and the picture in memory, to after the set-up (of the operator) and to
the end (with the operator, the measurement, the spectrum and the result of the largest map). The
network is the default one as the product runs it on a CPU, in tiles. docs/operator-costs.md says
how to read the table. The file is not named operators.py, which would hide the package from the
other scripts.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from operators import LinearOperator, Shape

# Standard deviation of the Gaussian and length of the motion in pixels, scale factor of
# downsampling, and fraction of the numbers that the sensing operators measure.
SIGMA = 2.0
LENGTH = 15
FACTOR = 4
FRACTION = 0.25

COLORS = ((0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.1, 0.2, 0.7))

NETWORK = "network call"

# Number of iterations of a pseudo-inverse that are timed, except at the smallest size, where it
# runs to its end.
FIRST_ITERATIONS = 20

# Makes an operator from the package `operators`, which the parent process never imports, and the
# shape (C, H, W) of the picture.
Build = Callable[[Any, "Shape"], "LinearOperator"]


def local_mean(x: Any) -> Any:
    """Return the mean over 3 × 3 pixels, as a user may write it who does not know the package."""
    from torch.nn import functional as F

    return F.avg_pool2d(x, 3, stride=1, padding=1)


def half_known(ops: Any, s: Shape) -> LinearOperator:
    return ops.Mask(s, ops.masks.random_pixels(s[1:], 0.5, 0))


def hole_after_blur(ops: Any, s: Shape) -> LinearOperator:
    """Lose a box of a picture blurred so mildly that the blur's inverse is a preconditioner."""
    return ops.Mask(s, ops.masks.box(s[1:], s[1] // 4, s[2] // 4)) @ ops.gaussian_blur(s, 1.0)


def blur_and_x4(ops: Any, s: Shape) -> LinearOperator:
    return ops.downsample(s, FACTOR) @ ops.gaussian_blur(s, SIGMA)


def valid(ops: Any, s: Shape) -> LinearOperator:
    kernel = motion(ops)  # the picture is the canvas, larger than the measurement by the kernel
    return ops.ValidConvolution(
        (s[0], s[1] - kernel.shape[0] + 1, s[2] - kernel.shape[1] + 1), kernel
    )


def motion(ops: Any) -> Any:
    return ops.kernels.motion(LENGTH, 30)


KINDS: dict[str, Build] = {
    "identity": lambda ops, s: ops.identity(s),
    "gray": lambda ops, s: ops.gray(s),
    "colour mix": lambda ops, s: ops.color_mix(s, COLORS),
    **{
        f"downsample x4 {kernel}": lambda ops, s, kernel=kernel: ops.downsample(
            s, FACTOR, kernel=kernel
        )
        for kernel in ("bicubic", "area", "lanczos")
    },
    **{
        f"blur {boundary}": lambda ops, s, boundary=boundary: ops.gaussian_blur(
            s, SIGMA, boundary=boundary
        )
        for boundary in ("zero", "symmetric", "mirror", "replicate", "circular")
    },
    "blur and x4": blur_and_x4,
    "mask": half_known,
    "masked gray": lambda ops, s: ops.MaskedColor(
        s, [ops.LUMA_BT601], ops.masks.random_pixels(s[1:], 0.5, 0)
    ),
    "Bayer": lambda ops, s: ops.Bayer(s),
    "circular Gaussian": lambda ops, s: ops.CircularConvolution(s, ops.kernels.gaussian(SIGMA)),
    "circular motion": lambda ops, s: ops.CircularConvolution(s, motion(ops)),
    "symmetric Gaussian": lambda ops, s: ops.SymmetricConvolution(s, ops.kernels.gaussian(SIGMA)),
    "Hadamard": lambda ops, s: ops.Hadamard(s, FRACTION),
    "block sensing": lambda ops, s: ops.BlockSensing(s, FRACTION),
    "DDRM's blur, mixed spectrum": lambda ops, s: ops.ddrm_reference(
        "deblur_gauss", s, mixed_spectrum=True
    ),
    "replicate motion": lambda ops, s: ops.convolution(s, motion(ops), "replicate"),
    "valid motion": valid,
    "mild blur, then hole": hole_after_blur,
    "blur, then mask": lambda ops, s: half_known(ops, s) @ ops.gaussian_blur(s, SIGMA),
    "x4, then Bayer": lambda ops, s: (
        ops.Bayer((3, s[1] // FACTOR, s[2] // FACTOR)) @ ops.downsample(s, FACTOR)
    ),
    "function (local mean)": lambda ops, s: ops.FunctionOperator(local_mean, s),
}
MAPS = ("A", "At", "V", "Vt", "U", "Ut", "pseudo_inverse")

Row = dict[str, float]


def measure(kind: str, size: int, seconds: float, iterations: int) -> Row:
    """Measure one row, in a process of its own."""
    import torch

    import operators
    from restore.runtime.devices import keep_freed_memory

    keep_freed_memory()  # as the command does

    with torch.inference_mode():
        if kind == NETWORK:
            return measure_network(size)
        picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))

        # a small operator first, which loads what is loaded on first use
        exercise(KINDS[kind](operators, (3, 64, 64)), picture[..., :64, :64], 0)

        before = peak()
        started = time.perf_counter()
        operator = KINDS[kind](operators, (3, size, size))
        if operator.has_svd:
            assert operator.singular_values is not None  # the SVD is computed when it is first used
        row = {"setup": time.perf_counter() - started, "setup_mb": peak() - before}
        if iterations:
            operator.iterations = operator.max_iterations = iterations
        row |= exercise(operator, picture, seconds)
        return row | {"peak_mb": peak() - before}


def measure_network(size: int) -> Row:
    """Measure one call of the default network in tiles; the peak does not count its weights."""
    import torch

    from restore.restorer import load_denoiser
    from restore.runtime.devices import choose_device, network_dtype
    from restore.runtime.tiles import TiledDenoiser

    device = choose_device("cpu")
    denoise = TiledDenoiser(load_denoiser("default", device, network_dtype(device)))
    picture = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    denoise(picture[..., :64, :64], 1.0)
    before = peak()
    row = {"call": median_seconds(lambda x: denoise(x, 1.0), picture, 0)}

    return row | {"peak_mb": peak() - before, "threads": torch.get_num_threads()}


def exercise(operator: LinearOperator, picture: Any, seconds: float) -> Row:
    """Return the median seconds of each map that an operator has.

    A pseudo-inverse that iterates also has ``iterations``, counted in applications of A.
    """
    measurement = operator.A(picture)
    inputs = {"A": picture, "Vt": picture}
    maps = MAPS if operator.has_svd else ("A", "At", "pseudo_inverse")
    if operator.has_svd:
        inputs["V"] = inputs["U"] = operator.Vt(picture)

    row = {}

    for name in maps:
        # a canvas is cropped twice in an iteration
        counted = "crop" if hasattr(operator, "crop") else "A"
        applied, wrapped = count_calls(getattr(type(operator), counted).__get__(operator))
        setattr(operator, counted, wrapped)
        once = name == "pseudo_inverse" and not operator.has_svd
        row[name] = median_seconds(
            getattr(operator, name), inputs.get(name, measurement), 0 if once else seconds
        )

    return (
        row
        if operator.has_svd
        else row | {"iterations": len(applied) // (2 if counted == "crop" else 1)}
    )


def count_calls(function: Callable[[Any], Any]) -> tuple[list[None], Callable[[Any], Any]]:
    """Return a list that grows by one with each call, and the function that makes it grow."""
    calls: list[None] = []

    def counted(x: Any) -> Any:
        calls.append(None)
        return function(x)

    return calls, counted


def median_seconds(function: Callable[[Any], Any], argument: Any, seconds: float) -> float:
    """Return the median time of the calls that start within ``seconds``, one to five of them."""
    times: list[float] = []
    while not times or (len(times) < 5 and sum(times) < seconds):
        started = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak() -> float:
    """Return the peak resident set of this process so far, in MB (10⁶ bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def in_fresh_process(kind: str, size: int, seconds: float, iterations: int = 0) -> Row:
    """Run `measure` in a process of its own.

    This process never imports PyTorch: on Linux a child's peak starts at its parent's.
    """
    options = {"--row": kind, "--sizes": size, "--seconds": seconds, "--iterations": iterations}
    command = [
        sys.executable,
        __file__,
        *(str(part) for option in options.items() for part in option),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)

    return json.loads(done.stdout)


def rows_of(kind: str, sizes: list[int], seconds: float, whole: bool) -> dict[int, Row]:
    """Measure the rows of one operator, the smallest picture first."""
    rows: dict[int, Row] = {}
    for size in sorted(sizes):
        full = rows[min(rows)].get("iterations", 0) if rows and not whole else 0
        rows[size] = row = in_fresh_process(
            kind, size, seconds, FIRST_ITERATIONS if full > FIRST_ITERATIONS else 0
        )
        if full > FIRST_ITERATIONS:
            row |= {
                "pseudo_inverse": row["pseudo_inverse"] * full / row["iterations"],
                "iterations": full,
                "scaled": 1,
            }

    return rows


def growth(rows: dict[int, Row], key: str) -> str:
    """Return p of ``time ~ N^p`` between the smallest and the largest picture of N pixels."""
    small = min(rows)
    large = max(rows)

    # below a millisecond the overhead of a call is what is measured
    if small == large or rows[small][key] < 1e-3:
        return "–"

    return f"{math.log(rows[large][key] / rows[small][key]) / math.log((large / small) ** 2):.2f}"


def cells(kind: str, rows: dict[int, Row], size: int, call: float) -> list[str]:
    """Return the cells of one operator at one size; its growth is in the row of the largest."""
    row = rows[size]
    largest = size == max(rows)
    direct = [
        name
        for name in MAPS
        if name in row and ("iterations" not in row or name != "pseudo_inverse")
    ]
    slowest = max(direct, key=lambda name: row[name])
    times = [f"{row[key] * 1e3:.1f}" if key in row else "–" for key in ("setup", *MAPS)]
    times[-1] = "≈ " * ("scaled" in row) + times[-1]

    return [
        kind,
        f"{size}²",
        *times,
        f"{row['iterations']:.0f}" if "iterations" in row else "–",
        *(f"{100 * row[key] / call:.2f}" for key in ("setup", slowest, "pseudo_inverse")),
        *(growth(rows, key) if largest else "" for key in ("setup", slowest)),
        *(f"{row[key]:.1f}" for key in ("setup_mb", "peak_mb")),
    ]


HEADINGS = (
    *(
        "operator",
        "picture",
        "set-up",
        *MAPS[:-1],
        "A⁺",
        "iterations",
        "% set-up",
        "% slowest map",
        "% A⁺",
    ),
    *("growth, set-up", "growth, slowest map", "MB after set-up", "MB at the peak"),
)


def table_line(parts: Any) -> str:
    return "| " + " | ".join(parts) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="sides of the picture"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        help="for each map, at least one and at most five calls",
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="operators with this in their names"
    )
    parser.add_argument(
        "--whole", action="store_true", help="run iterations to their end at every size"
    )
    parser.add_argument(
        "--row", choices=[NETWORK, *KINDS], help="measure one row in this process, print it as JSON"
    )
    parser.add_argument(
        "--iterations",
        type=int,
        default=0,
        help="with --row: at most so many; 0 is the operator's own",
    )

    return parser


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.row:
        size = arguments.sizes[0]
        row = measure(arguments.row, size, arguments.seconds, arguments.iterations)
        print(json.dumps(row))
        return

    calls = {size: in_fresh_process(NETWORK, size, 0) for size in sorted(arguments.sizes)}

    for size, row in calls.items():
        print(
            f"Network call at {size}²: {row['call'] * 1e3:.0f} ms, {row['peak_mb']:.0f} MB, "
            f"threads: {row['threads']}"
        )

    print(
        "\nTimes in milliseconds, % of the network call at that size, memory in MB beyond the "
        "picture.\n"
    )
    print(table_line(HEADINGS) + "\n|---" + "|---:" * (len(HEADINGS) - 1) + "|")

    for kind in (kind for kind in KINDS if any(word in kind for word in arguments.only)):
        rows = rows_of(kind, arguments.sizes, arguments.seconds, arguments.whole)
        for size in rows:
            print(table_line(cells(kind, rows, size, calls[size]["call"])), flush=True)


if __name__ == "__main__":
    main()
