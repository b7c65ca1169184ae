"""Choose the method and the settings of each task anew, on pictures that no results are from.

    RESTORE_LPIPS_TRUNK=alexnet_features.safetensors \\
    python benchmarks/defaults.py CID22_VAL --count 12 --size 160 --json runs.json [--only sr4 sr2]

Every candidate restores the same degraded pictures as users would. The score is PSNR in dB less ten
times LPIPS, so that a decibel and a tenth of LPIPS weigh the same; it is printed for the choice,
its runner-up and what `auto` takes today. A candidate with fewer calls is chosen if it is at most
0.05 behind. Cells that are in the JSON file already are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from problems import PROBLEMS, Case, load_pictures, super_resolution, to_tensor

from restore.diffusion.stepping import Step
from restore.metrics.quality import load_lpips, psnr
from restore.restorer import Restorer

# Decibels that one unit of LPIPS weighs, and the scores that count as equal.
WEIGHT = 10.0
EQUAL = 0.05

SCALES = {f"sr{scale}": super_resolution(f"sr{scale}", scale) for scale in (3, 8)}


@dataclass(frozen=True)
class Candidate:
    """A method with settings.

    Attributes:
        method: Name of the method; `auto` is today's default.
        options: Options of `Restorer.run`.
        start_noise: Noise level for an initial picture, which is the result of ``one-step``.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    start_noise: float | None = None

    @property
    def name(self) -> str:
        options = {**self.options, **self.options.get("parameters", {})}
        given = [f"{key} {value}" for key, value in options.items() if key != "parameters"]
        begun = [] if self.start_noise is None else [f"from one-step at {self.start_noise:g}"]
        return ", ".join([self.method, *given, *begun])

    def restore(self, restorer: Restorer, case: Case) -> tuple[Any, int]:
        """Return the restored picture [1, 3, H, W] and its calls, those of a start included."""
        photo = to_tensor(case.photo)
        steps: list[Step] = []
        options = {**self.options, "callback": steps.append}
        if self.start_noise is not None:
            begun = restorer.run(case.task, photo, method="one-step", callback=steps.append)
            options |= {"start": begun.mean.clamp(0, 1), "start_noise": self.start_noise}
        result = restorer.run(case.task, photo, method=self.method, **options)

        return result.mean, len(steps)


def _steps(method: str, *counts: int, **options: Any) -> list[Candidate]:
    return [Candidate(method, {"steps": count, **options}) for count in counts]


def _begun(method: str, steps: Sequence[int], noises: Sequence[float]) -> list[Candidate]:
    return [Candidate(method, {"steps": n}, noise) for n in steps for noise in noises]


def _strengths(method: str, steps: int, *values: float) -> list[Candidate]:
    return [Candidate(method, {"steps": steps, "parameters": {"strength": v}}) for v in values]


def _etas(method: str, steps: int, *values: float) -> list[Candidate]:
    return [Candidate(method, {"steps": steps, "eta": value}) for value in values]


AUTO = Candidate("auto")
ONE_STEP = [Candidate("one-step", {"parameters": {"views": views}}) for views in (1, 2, 8)]
ENLARGING = [
    *ONE_STEP,
    *_steps("ddrm", 8, 20),
    *_etas("ddrm", 8, 0.6, 0.85),
    *_begun("ddrm", (8, 20), (0.05, 0.1)),
    *_steps("sr3", 5, 6, 8, 10, 20),
    *_steps("sr3", 8, fidelity=0.3),
    *_steps("sr3", 8, fidelity=0.6),
]
DEBLURRING = [
    *ONE_STEP,
    *_steps("ddrm", 8, 20),
    *_etas("ddrm", 20, 0.6, 1.0),
    *_begun("ddrm", (8, 20), (0.05, 0.1)),
    *_steps("diffpir", 20),
    *_steps("dpir", 8, 20),
    *_strengths("dpir", 20, 0.1, 0.3),
    *_begun("dpir", (8,), (0.05,)),
]
FILLING = [
    *_steps("ddrm", 8, 12, 20),
    *_etas("ddrm", 20, 0.6, 0.85),
    *_steps("dpir", 20),
    *_steps("diffpir", 20),
]
CANDIDATES: dict[str, list[Candidate]] = {
    "sr2": ENLARGING,
    "sr3": ENLARGING,
    "sr4": ENLARGING,
    "sr8": ENLARGING,
    "sr4-noise": [*ONE_STEP, *_steps("ddrm", 8, 20), *_steps("sr3", 8, 20)],
    "deblur-gaussian": DEBLURRING,
    "deblur-motion": DEBLURRING,
    "denoise-25": [*ONE_STEP, *_steps("ddrm", 8, 20), *_steps("dpir", 8)],
    "inpaint-random": FILLING,
    "inpaint-strokes": FILLING,
    "colorize": [*ONE_STEP, *_steps("sr3", 8, 20), *_steps("ddrm", 20)],
}


def measured(
    restorer: Restorer, candidate: Candidate, cases: Sequence[Case], lpips: Any
) -> dict[str, float]:
    """Return mean PSNR, LPIPS and calls of a candidate."""
    found = []
    for case in cases:
        picture, calls = candidate.restore(restorer, case)
        found.append((float(psnr(picture, case.truth)), float(lpips(picture, case.truth)), calls))
    quality, distance, calls = np.mean(found, axis=0)

    return {"psnr": quality, "lpips": distance, "calls": calls}


def score(row: Mapping[str, float]) -> float:
    return row["psnr"] - WEIGHT * row["lpips"]


def chosen(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of candidates, the choice first, then by score."""
    ranked = sorted(rows, key=lambda name: -score(rows[name]))
    equal = [name for name in ranked if score(rows[name]) > score(rows[ranked[0]]) - EQUAL]
    first = min(equal, key=lambda name: rows[name]["calls"])

    return [first, *(name for name in ranked if name != first)]


def show(problem: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the choice, its runner-up, today's default and all others of a problem."""
    today = rows[AUTO.name]
    order = chosen({name: row for name, row in rows.items() if name != AUTO.name})
    print(f"\n| {problem} | PSNR | LPIPS | calls | score |\n|---|---:|---:|---:|---:|")
    for name, row in [("auto, today", today), *((name, rows[name]) for name in order)]:
        mark = "**" if name == order[0] else ""
        print(
            f"| {mark}{name}{mark} | {row['psnr']:.2f} | {row['lpips']:.4f} | "
            f"{row['calls']:.0f} | {score(row):.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=12, help="number of pictures, in name order")
    parser.add_argument("--size", type=int, default=160, help="the top-left square")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--json", type=Path, help="measured cells, which a rerun keeps")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    pictures = load_pictures(arguments.folder, arguments.size, arguments.count)
    restorer = Restorer(arguments.model, arguments.device)
    lpips = load_lpips()
    kept = arguments.json is not None and arguments.json.exists()
    known: dict[str, dict[str, dict[str, float]]] = (
        json.loads(arguments.json.read_text()) if kept else {}
    )

    for name in arguments.only:
        problem = PROBLEMS.get(name) or SCALES[name]
        cases = [problem.degrade(file, picture) for file, picture in pictures.items()]
        rows = known.setdefault(name, {})
        for candidate in (AUTO, *CANDIDATES[name]):
            if candidate.name not in rows:
                rows[candidate.name] = measured(restorer, candidate, cases, lpips)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(known, indent=1))
        show(name, rows)


if __name__ == "__main__":
    main()
