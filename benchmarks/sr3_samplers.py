"""Compare samplers for SR3 at few network calls with 100 ancestral steps, by LPIPS and PSNR.

    python benchmarks/sr3_samplers.py CID22_VAL --count 8 [--calls 5 10] [--only ddim dpmpp-2m] \\
        [--levels FILE.json]

    # by the scale of classifier-free guidance, which takes two calls a step unless it is 1
    python benchmarks/sr3_samplers.py CID22_VAL --count 4 --calls 10 --only sde-dpmpp-2m \\
        --guidance 0.5 1 1.5 2 3

The task is ×4 super-resolution, or with --guidance and --task colorize colourising.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from problems import PROBLEMS, Case, load_pictures, to_tensor
from settings import score

from restore import Restorer
from restore.evaluate.tune import read_levels
from restore.methods.options import Options
from restore.metrics.quality import load_lpips
from restore.runtime.devices import keep_freed_memory
from restore.samplers.catalogue import SAMPLERS

# Steps of the reference.
ANCESTRAL = 100

# Samplers for the default model, which has learned no variance, and for SR3, which takes no score
# norms of the prior.
SUITABLE = [name for name, one in SAMPLERS.items() if not (one.learned_variance or one.score_norms)]


def measured(
    restorer: Restorer, cases: Sequence[Case], lpips: Any, options: Options
) -> tuple[float, float, float]:
    """Return network calls a picture, PSNR and LPIPS."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = restorer.denoiser.denoise.network.register_forward_hook(count)
    scores = []

    for case in cases:
        problem = restorer.problem(case.task, to_tensor(case.photo))
        solutions, _ = restorer.solve_problem(problem, options)
        scores.append(score(2 * solutions[0] - 1, case, lpips))

    hook.remove()

    return calls / len(cases), *(fmean(column) for column in zip(*scores, strict=True))


def steps_for(restorer: Restorer, case: Case, name: str, calls: int) -> int | None:
    """Return the most steps that take at most so many calls; None if there are none."""
    found = None
    for steps in range(SAMPLERS[name].least_steps, calls + 1):
        taken, *_ = measured(restorer, [case], None, Options("sr3", steps, sampler=name))
        if taken > calls:
            break
        found = steps

    return found


def wanted_runs(
    restorer: Restorer, small: Case, arguments: argparse.Namespace
) -> list[tuple[str, Options]]:
    """Return a label and options for each row; ``small`` is a case to count calls with."""
    wanted = [("SR3's own", Options("sr3", ANCESTRAL))]
    wanted += [("SR3's own", Options("sr3", calls)) for calls in arguments.calls]
    for found in map(read_levels, arguments.levels):
        options = Options("sr3", len(found.levels), found.eta, levels=found.levels)
        wanted.append(("SR3's own, found levels", options))

    for name in arguments.only:
        for calls in arguments.calls:
            if steps := steps_for(restorer, small, name, calls):
                wanted.append((f"`{name}`", Options("sr3", steps, sampler=name)))

    return wanted


def by_calls(
    restorer: Restorer,
    cases: Sequence[Case],
    lpips: Any,
    wanted: Sequence[tuple[str, Options]],
) -> None:
    """Print network calls, PSNR and LPIPS of every sampler."""
    print("| sampler | steps | calls | PSNR | LPIPS |\n|---|---:|---:|---:|---:|")
    for label, options in wanted:
        calls, psnr, distance = measured(restorer, cases, lpips, options)
        print(
            f"| {label} | {options.steps} | {calls:.0f} | {psnr:.2f} | {distance:.3f} |", flush=True
        )


def by_guidance(
    restorer: Restorer,
    cases: Sequence[Case],
    lpips: Any,
    wanted: Sequence[Options],
    scales: Sequence[float],
) -> None:
    """Print PSNR and LPIPS of every sampler by the scale of guidance."""
    print(f"| sampler | steps | {' | '.join(f'{scale:g}' for scale in scales)} |")
    print("|---|---:|" + "---|" * len(scales))
    for options in wanted:
        name = "SR3's own" if options.sampler is None else f"`{options.sampler}`"
        cells = []
        for scale in scales:
            _, psnr, distance = measured(restorer, cases, lpips, replace(options, guidance=scale))
            cells.append(f"{psnr:.2f} / {distance:.3f}")
        print(f"| {name} | {options.steps} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--only", nargs="*", choices=SUITABLE, default=SUITABLE, metavar="SAMPLER")
    parser.add_argument(
        "--levels", type=Path, nargs="+", default=[], help="files of restore tune, for SR3's own"
    )
    parser.add_argument(
        "--guidance", type=float, nargs="+", metavar="W", help="by these scales of it instead"
    )
    parser.add_argument(
        "--task", choices=["sr4", "colorize"], default="sr4", help="with --guidance"
    )
    arguments = parser.parse_args()
    if arguments.task != "sr4" and not arguments.guidance:
        parser.error("--task: goes with --guidance")

    keep_freed_memory()
    restorer = Restorer()
    lpips = load_lpips()
    problem = PROBLEMS[arguments.task]
    pictures = load_pictures(arguments.folder, 256, arguments.count)
    cases = [problem.degrade(name, picture) for name, picture in pictures.items()]
    print(
        f"First {len(cases)} pictures of `{arguments.folder.resolve().name}`, top-left 256 "
        "pixels.\n"
    )
    if arguments.guidance:
        samplers = [None, *arguments.only]
        wanted = [
            Options("sr3", steps, sampler=name) for name in samplers for steps in arguments.calls
        ]
        return by_guidance(restorer, cases, lpips, wanted, arguments.guidance)

    small = problem.degrade("small", next(iter(load_pictures(arguments.folder, 64, 1).values())))
    by_calls(restorer, cases, lpips, wanted_runs(restorer, small, arguments))


if __name__ == "__main__":
    main()
