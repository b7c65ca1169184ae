"""Measure what ``--fidelity`` can be made of, for docs/methods.md.

    # blends with the posterior mean: the columns are its weights
    python benchmarks/fidelity.py FOLDER --problems sr4 --sharp sr3 ddrm --count 4
    # fractions of fresh noise, η
    python benchmarks/fidelity.py FOLDER --problems deblur-gaussian --sharp ddrm --etas 0.7 0.85 1

Each method runs once an image, or once for each η. LPIPS needs AlexNet's weights, named in the
environment variable RESTORE_LPIPS_TRUNK.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from problems import PROBLEMS, Case, load_pictures, to_tensor
from torch import Tensor

from restore.methods import METHODS
from restore.metrics.quality import load_lpips, psnr
from restore.restorer import Restorer

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


def restored(
    restorer: Restorer,
    cases: list[Case],
    method: str,
    steps: int | None = None,
    eta: float | None = None,
) -> list[Tensor]:
    """Return the results of a method, [1, 3, H, W] in [0, 1]."""
    return [
        restorer.run(case.task, to_tensor(case.photo), method=method, steps=steps, eta=eta).mean
        for case in cases
    ]


def cell(results: list[Tensor], cases: list[Case], lpips: Any) -> str:
    """Format mean PSNR and LPIPS."""
    pairs = [(result, case.truth) for result, case in zip(results, cases, strict=True)]
    quality = fmean(float(psnr(*pair)) for pair in pairs)
    return f"{quality:.2f} / {fmean(float(lpips(*pair)) for pair in pairs):.3f}"


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
    parser.add_argument("--etas", nargs="+", type=float, help="instead of blends")
    options = parser.parse_args()

    restorer, lpips = Restorer(), load_lpips()
    pictures = load_pictures(options.folder, options.size, options.count)

    for name in options.problems:
        cases = [PROBLEMS[name].degrade(file, picture) for file, picture in pictures.items()]
        means = [] if options.etas else restored(restorer, cases, "one-step")
        columns = options.etas or options.weights
        print(f"\n| {name} | {' | '.join(f'{column:g}' for column in columns)} |")
        print("|---|" + "---|" * len(columns))

        for method in options.sharp:
            if options.etas:
                found = [restored(restorer, cases, method, options.steps, e) for e in options.etas]
            else:
                sharp = restored(restorer, cases, method, options.steps)
                found = [
                    [one.lerp(mean, weight) for one, mean in zip(sharp, means, strict=True)]
                    for weight in options.weights
                ]
            cells = [cell(results, cases, lpips) for results in found]
            print(f"| `{method}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
