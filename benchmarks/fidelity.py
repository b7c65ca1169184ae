"""Measure blends of sharp methods with the posterior mean, for docs/methods.md.

    python benchmarks/fidelity.py FOLDER --problems sr4 deblur-motion --sharp sr3 diffpir --count 4

The columns are weights of the posterior mean, see `restore.methods.fidelity`. Each method runs once
an image. LPIPS needs AlexNet's weights, named in the environment variable RESTORE_LPIPS_TRUNK.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from problems import PROBLEMS, Case, load_pictures, to_tensor
from torch import Tensor

from restore.methods import METHODS
from restore.metrics.quality import load_lpips, psnr
from restore.restorer import Restorer

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


def restored(
    restorer: Restorer, cases: list[Case], method: str, steps: int | None = None
) -> list[Tensor]:
    """Return the results of a method, [1, 3, H, W] in [0, 1]."""
    return [
        restorer.run(case.task, to_tensor(case.photo), method=method, steps=steps).mean
        for case in cases
    ]


def main() -> None:
    """Print PSNR / LPIPS by problem, method and weight of the posterior mean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problems", nargs="+", default=["sr4"], choices=PROBLEMS)
    parser.add_argument("--sharp", nargs="+", default=["sr3"], choices=METHODS)
    parser.add_argument("--steps", type=int, help="calls of the sharp methods")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--weights", nargs="+", type=float, default=WEIGHTS)
    options = parser.parse_args()

    restorer, lpips = Restorer(), load_lpips()
    pictures = load_pictures(options.folder, options.size, options.count)

    for name in options.problems:
        cases = [PROBLEMS[name].degrade(file, picture) for file, picture in pictures.items()]
        means = restored(restorer, cases, "one-step")
        print(f"\n| {name} | {' | '.join(f'{w:g}' for w in options.weights)} |")
        print("|---|" + "---|" * len(options.weights))

        for method in options.sharp:
            sharp = restored(restorer, cases, method, options.steps)
            cells = []
            for weight in options.weights:
                pairs = [
                    (one.lerp(mean, weight), case.truth)
                    for one, mean, case in zip(sharp, means, cases, strict=True)
                ]
                quality = fmean(float(psnr(*pair)) for pair in pairs)
                cells.append(f"{quality:.2f} / {fmean(float(lpips(*pair)) for pair in pairs):.3f}")
            print(f"| `{method}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
