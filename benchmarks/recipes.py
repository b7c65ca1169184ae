"""Compare training recipes, each trained for equal time on this machine, on the same problems.

    python benchmarks/recipes.py PHOTOGRAPHS VALIDATION --out RUNS --minutes 10 base.toml muon.toml

Runs that are complete are not trained again, so the baseline can be run twice (two files that
differ in the seed) and others can be added later. Give every run the same number of threads, and
the machine nothing else to do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from restore.evaluate import Settings, evaluate
from restore.runtime.devices import keep_freed_memory
from restore.training.trainer import Options, train

PROBLEMS = {
    "σ 15": Settings("denoise", noise=15 / 255, methods=("one-step",)),
    "σ 25": Settings("denoise", noise=25 / 255, methods=("one-step",)),
    "σ 50": Settings("denoise", noise=50 / 255, methods=("one-step",)),
    "×4 one step": Settings("sr", scale=4, methods=("one-step",)),
    "×4 DDRM": Settings("sr", scale=4, methods=("ddrm",)),
}
# Number of pictures for the method that takes 20 network calls each.
DDRM_COUNT = 12


def compared(recipe: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the mean PSNR in dB over RGB for each problem, and the steps that were taken."""
    run = arguments.out / recipe.stem
    kept = run / "compared.json"
    if not kept.exists():
        options = Options(
            run, arguments.photographs, recipe, arguments.minutes, device=arguments.device
        )
        steps = train(replace(options, cache=arguments.cache)).steps
        kept.write_text(
            json.dumps({"steps": steps, **dict(measured(run, arguments))}, ensure_ascii=False)
        )

    return json.loads(kept.read_text())


def measured(run: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Yield each problem's name and the mean over the pictures."""
    for name, problem in PROBLEMS.items():
        method = problem.methods[0]
        count = DDRM_COUNT if method == "ddrm" else None
        model = str(run / "model.safetensors")
        settings = replace(problem, size=256, model=model, count=count, device=arguments.device)
        pictures = evaluate(arguments.validation, settings).pictures
        yield name, fmean(picture.scores[method].psnr for picture in pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    print(f"| recipe | steps | {' | '.join(PROBLEMS)} |")
    print("|---" * (len(PROBLEMS) + 2) + "|")

    for recipe in arguments.recipes:
        row = compared(recipe, arguments)
        values = " | ".join(f"{row[name]:.2f}" for name in PROBLEMS)
        print(f"| {recipe.stem} | {row['steps']} | {values} |", flush=True)


if __name__ == "__main__":
    main()
