"""Compare methods of deblurring over kernels and noise, for docs/methods.md.

    python benchmarks/kernels.py FOLDER --count 4 --size 96 --calls 8 20

Every problem is made and scored as `restore evaluate` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from restore.evaluate import Settings, evaluate
from restore.evaluate.scores import Score
from restore.methods import METHODS

KERNELS = (
    "gaussian:1",
    "gaussian:2",
    "gaussian:3",
    "disk:3",
    "disk:5",
    "box:5",
    "motion:9:20",
    "motion:15:30",
    "motion:21:130",
    "shake:15",
)


def main() -> None:
    """Print PSNR / LPIPS by noise, calls and kernel, a row each, and by method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=96, help="side of the central crops")
    parser.add_argument("--count", type=int, default=4, help="number of pictures")
    parser.add_argument("--calls", type=int, nargs="+", default=(8, 20))
    parser.add_argument("--noises", type=float, nargs="+", default=(0.01, 0.05))
    parser.add_argument("--kernels", nargs="+", default=KERNELS)
    parser.add_argument("--methods", nargs="+", default=("ddrm", "diffpir", "dpir"))
    parser.add_argument("--boundary", default="unknown")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"unknown methods: {', '.join(sorted(unknown))}")

    print(f"| noise | calls | kernel | {' | '.join(options.methods)} |")
    print("|---|---|---|" + "---|" * len(options.methods), flush=True)
    for noise in options.noises:
        for kernel in options.kernels:
            for calls in options.calls:
                cells = _cells(options, kernel, noise, calls)
                print(f"| {noise:g} | {calls} | {kernel} | {' | '.join(cells)} |", flush=True)


def _cells(options: argparse.Namespace, kernel: str, noise: float, calls: int) -> list[str]:
    """Return PSNR / LPIPS of each method."""
    settings = Settings(
        "deblur",
        kernel=kernel,
        boundary=options.boundary,
        noise=noise,
        size=options.size,
        count=options.count,
        methods=tuple(options.methods),
        steps=calls,
        device=options.device,
    )
    found = evaluate(options.folder, settings).by_method()
    return [_cell(found[method]) for method in options.methods]


def _cell(scores: list[Score]) -> str:
    lpips = fmean(score.lpips for score in scores if score.lpips is not None)
    return f"{fmean(score.psnr for score in scores):.2f} / {lpips:.3f}"


if __name__ == "__main__":
    main()
