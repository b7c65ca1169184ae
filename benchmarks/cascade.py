"""Compare super-resolution in stages with one stage, by PSNR, LPIPS and seconds.

python benchmarks/cascade.py CID22_VAL --count 4

# noise between the stages, on other pictures to choose by
python benchmarks/cascade.py CID22_VAL --skip 20 --count 4 --noise 0 0.02 0.04 0.06
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from problems import Case, load_pictures, super_resolution, to_tensor
from settings import score

from restore import Restorer
from restore.methods import METHODS
from restore.metrics.quality import load_lpips
from restore.runtime.devices import keep_freed_memory

# Stages to compare, by scale factor.
STAGES = {4: ("2x2",), 8: ("4x2",), 16: ("4x4",)}


def measured(
    restorer: Restorer, cases: Sequence[Case], lpips: Any, method: str, **cascade: Any
) -> str:
    """Return PSNR, LPIPS and seconds in the solver, as cells of a table."""
    scores = []
    seconds = []
    for case in cases:
        result = restorer.run(replace(case.task, **cascade), case.file, method=method)
        scores.append(score(2 * to_tensor(result.mean.astype(np.float32) / 255) - 1, case, lpips))
        seconds.append(result.report.seconds)

    psnr, distance = (fmean(column) for column in zip(*scores, strict=True))

    return f"{psnr:.2f} | {distance:.3f} | {fmean(seconds):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--skip", type=int, default=0, help="leave out so many pictures")
    parser.add_argument("--scales", type=int, nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--noise", type=float, nargs="+", default=[None], help="between two stages")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    keep_freed_memory()
    restorer = Restorer(arguments.model)
    lpips = load_lpips()
    pictures = load_pictures(arguments.folder, arguments.size, arguments.skip + arguments.count)
    pictures = dict(list(pictures.items())[arguments.skip :])
    print(
        f"Pictures {arguments.skip + 1} to {arguments.skip + len(pictures)} of "
        f"`{arguments.folder.resolve().name}`\n"
    )
    print(
        "| scale | method | stages | noise | PSNR | LPIPS | seconds "
        "|\n|---|---|---|---:|---:|---:|---:|"
    )

    for scale in arguments.scales:
        problem = super_resolution(f"×{scale}", scale)
        cases = [problem.degrade(name, picture) for name, picture in pictures.items()]
        for method in arguments.methods:
            print(
                f"| ×{scale} | `{method}` | – | | {measured(restorer, cases, lpips, method)} |",
                flush=True,
            )
            for stages in STAGES[scale]:
                for noise in arguments.noise:
                    cells = measured(
                        restorer, cases, lpips, method, cascade=stages, cascade_noise=noise
                    )
                    shown = "default" if noise is None else f"{noise:g}"
                    print(f"| ×{scale} | `{method}` | {stages} | {shown} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
