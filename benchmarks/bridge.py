"""Compare I²SB with SR3, both trained for equal time on the same degraded pictures.

    python benchmarks/bridge.py PHOTOGRAPHS VALIDATION --out RUNS --minutes 10

Both have the network of their recipe (`restore train --recipe sr3` and `i2sb`). For blurs, I²SB
takes the OT-ODE and a wider bridge, as its authors do. Runs that are complete are not trained
again. Both project their estimates onto the measurement, as the methods do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from restore.evaluate import Settings, evaluate
from restore.runtime.devices import keep_freed_memory
from restore.training.mixture import Mixture
from restore.training.recipe import Recipe
from restore.training.recipe_file import read_recipe
from restore.training.trainer import Options, train

PROBLEMS = {
    "x4": Settings("sr", scale=4, noise=0.0),
    "blur": Settings("deblur", kernel="gaussian:2", noise=0.01),
}
DATA = {
    "x4": Mixture.only("bicubic", noisy=0.0, compressed=0.0),
    "blur": Mixture.only("gaussian", noisy=1.0, compressed=0.0),
}
METHODS = ("sr3", "i2sb")
STEPS = (1, 2, 5, 10, 20, 50)


def recipe(method: str, problem: str) -> Recipe:
    """Return the recipe of a paper with the degradations of a problem."""
    made = read_recipe(Path(method))
    made = replace(made, data=replace(made.data, degradations=DATA[problem]))
    if (method, problem) == ("i2sb", "blur"):
        assert made.model is not None
        schedule = {**made.model.schedule, "end": 1e-3}
        made = replace(made, model=replace(made.model, schedule=schedule, bridge="ot-ode"))

    return made


def rows(method: str, problem: str, arguments: argparse.Namespace) -> Iterator[str]:
    """Train where needed; yield a row of the table for each number of steps."""
    run = arguments.out / f"{method}-{problem}"
    model = run / "model.safetensors"
    if not model.exists():
        options = Options(
            run, arguments.photographs, recipe(method, problem), arguments.minutes,
            device=arguments.device, cache=arguments.cache,
        )  # fmt: skip
        done = train(options)
        print(f"{method}, {problem}: {done.steps} steps, loss {done.loss:.4f}", flush=True)

    for steps in STEPS:
        settings = replace(
            PROBLEMS[problem], methods=(method,), steps=steps, size=arguments.size,
            count=arguments.count, model=str(model), device=arguments.device,
        )  # fmt: skip
        scores = [one.scores[method] for one in evaluate(arguments.validation, settings).pictures]
        psnr = fmean(score.psnr for score in scores)
        lpips = fmean(score.lpips for score in scores if score.lpips is not None)
        yield f"| {problem} | `{method}` | {steps} | {psnr:.2f} | {lpips:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    print("| problem | method | calls | PSNR | LPIPS |\n|---|---|---:|---:|---:|")

    for problem in PROBLEMS:
        for method in METHODS:
            for row in rows(method, problem, arguments):
                print(row, flush=True)


if __name__ == "__main__":
    main()
