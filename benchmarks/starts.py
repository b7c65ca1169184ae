"""Compare noise levels for a starting picture (``--start-noise``), by PSNR in dB and LPIPS.

    python benchmarks/starts.py CID22_VAL --count 3 --size 128 --steps 10 [--start spandrel:FILE]
    python benchmarks/starts.py CID22_VAL --only sr4 inpaint-random --methods ddrm --steps 8 \\
        --reference 20

The start is the result of the one-step method, which is the predictor's where the model has one, or
of a third-party network. The last column is the method without a start, in as many steps or in
--reference steps. LPIPS needs AlexNet's weights, named in the environment variable
RESTORE_LPIPS_TRUNK.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from problems import PROBLEMS, Case, load_pictures, to_tensor
from torch import Tensor

from restore.metrics.quality import load_lpips, psnr
from restore.restorer import Restorer

DEFAULT_PROBLEMS = ("sr4", "deblur-gaussian")
METHODS = ("ddrm", "diffpir", "sr3")
# Standard deviations for pixels in [0, 1].
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def cell(results: Sequence[Tensor], cases: Sequence[Case], lpips: Any) -> str:
    """Format the mean PSNR and LPIPS of pictures [1, 3, H, W] in [0, 1]."""
    pairs = [(result, case.truth) for result, case in zip(results, cases, strict=True)]
    quality = np.mean([float(psnr(*pair)) for pair in pairs])
    return f"{quality:.2f} / {np.mean([float(lpips(*pair)) for pair in pairs]):.3f}"


def show(
    name: str, cases: Sequence[Case], restorer: Restorer, arguments: argparse.Namespace, lpips: Any
) -> None:
    """Print the table of a problem."""

    def restored(
        method: str, starts: Sequence[Tensor] | None = None, **options: Any
    ) -> list[Tensor]:
        given = [None] * len(cases) if starts is None else starts
        return [
            restorer.run(
                case.task, to_tensor(case.photo), method=method, start=start, **options
            ).mean
            for case, start in zip(cases, given, strict=True)
        ]

    starts = [start.clamp(0, 1) for start in restored(arguments.start or "one-step")]
    begun = cell(starts, cases, lpips)
    print(
        f"\n| {name}: the start has {begun} | {' | '.join(f'{n:g}' for n in arguments.noises)} | "
        "no start |"
    )
    print("|---|" + "---:|" * (len(arguments.noises) + 1))

    for method in arguments.methods:
        found = [
            restored(method, starts, start_noise=level, steps=arguments.steps)
            for level in arguments.noises
        ]
        found.append(restored(method, steps=arguments.reference or arguments.steps))
        print(
            f"| `{method}` | {' | '.join(cell(results, cases, lpips) for results in found)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--count", type=int, default=3, help="number of pictures, the first in name order"
    )
    parser.add_argument("--size", type=int, default=128, help="the top-left square")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--reference", type=int, help="steps without a start; the default is --steps"
    )
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=DEFAULT_PROBLEMS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--noises", nargs="+", type=float, default=NOISES)
    parser.add_argument("--start", help="spandrel:FILE, instead of the one-step method")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    pictures = load_pictures(arguments.folder, arguments.size, arguments.count)
    restorer = Restorer(arguments.model, arguments.device)
    lpips = load_lpips()

    for name in arguments.only:
        cases = [PROBLEMS[name].degrade(file, picture) for file, picture in pictures.items()]
        show(name, cases, restorer, arguments, lpips)


if __name__ == "__main__":
    main()
