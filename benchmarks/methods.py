"""Compare all methods at equal network calls, for docs/methods.md.

    # measure; a later run measures only what OUT.json lacks, such as a new method
    python benchmarks/methods.py measure FOLDER OUT.json --count 2 --size 128
    # print the tables, draw quality against calls
    python benchmarks/methods.py show OUT.json --figure docs/methods-calls.png

`show` takes several files, as two processes write them for half of the problems each. Every problem
is made and scored as `restore evaluate` does. A method that refuses a number of calls
has no score there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from restore.evaluate import Settings, evaluate
from restore.evaluate.scores import Score
from restore.files import write_atomically
from restore.methods import METHODS

CALLS = (5, 10, 20, 50, 100)

# Problems by name: the task with its options.
PROBLEMS: dict[str, dict[str, Any]] = {
    "sr4": {"task": "sr", "scale": 4},
    "sr4-noisy": {"task": "sr", "scale": 4, "noise": 0.05},
    "deblur-gaussian": {"task": "deblur", "kernel": "gaussian:2"},
    "deblur-motion": {"task": "deblur", "kernel": "motion:15:30"},
    "inpaint": {"task": "inpaint", "mask": "strokes"},
    "pixels": {"task": "inpaint", "mask": "random:0.5"},
    "denoise": {"task": "denoise"},
    "colorize": {"task": "colorize"},
    "jpeg": {"task": "solve", "operator": "jpeg:25"},
}


class Row(NamedTuple):
    """Mean scores of a method on a problem; None if it failed or does not suit.

    Attributes:
        problem: one of `PROBLEMS`.
        method: name of the method.
        steps: calls that it was given.
        calls: calls that it made.
        psnr: in dB.
        lpips: LPIPS, AlexNet.
        consistency: RMS of A x − y in [0, 1].
        seconds: seconds an image.
    """

    problem: str
    method: str
    steps: int
    calls: float | None = None
    psnr: float | None = None
    lpips: float | None = None
    consistency: float | None = None
    seconds: float | None = None


def measure(options: argparse.Namespace) -> None:
    """Measure what the file lacks, and write it after each problem and number of calls."""
    rows = read(options.out)
    known = {row[:3] for row in rows}
    for steps in options.calls:
        for problem in options.problems:
            missing = [
                method
                for method in options.methods
                if (problem, method, steps) not in known and _varies(method, steps, options.calls)
            ]
            found = _measured(options, problem, missing, steps) if missing else []
            rows += found
            for row in found:
                print(*row, flush=True)
            text = json.dumps([row._asdict() for row in rows], indent=1)
            write_atomically(text.encode(), options.out, overwrite=True)


def _varies(method: str, steps: int, calls: Sequence[int]) -> bool:
    """Return False for a method of one call at any but the first number of calls."""
    return "steps" not in METHODS[method].refusals or steps == calls[0]


def _measured(
    options: argparse.Namespace, problem: str, methods: Sequence[str], steps: int
) -> list[Row]:
    settings = Settings(
        **PROBLEMS[problem],
        size=options.size,
        count=options.count,
        methods=tuple(methods),
        steps=steps,
        device=options.device,
    )
    try:
        found = evaluate(options.folder, settings)
    except Exception as error:  # a method does not suit the problem, or not so few calls
        if len(methods) == 1:
            print(f"{problem} {methods[0]} {steps}: {error}", flush=True)
            return [Row(problem, methods[0], steps)]
        return [row for one in methods for row in _measured(options, problem, [one], steps)]

    for failure in found.failures:
        print(problem, steps, *failure, flush=True)
    failed = {method for _, method, _ in found.failures}
    return [
        Row(problem, method, steps)
        if method in failed
        else Row(problem, method, steps, *_means(scores))
        for method, scores in found.by_method().items()
    ]


def _means(scores: Sequence[Score]) -> list[float | None]:
    """Return mean calls, PSNR, LPIPS, consistency and seconds."""

    def mean(name: str) -> float | None:
        values = [getattr(score, name) for score in scores]
        return None if None in values else float(fmean(values))

    return [mean(name) for name in ("calls", "psnr", "lpips", "consistency", "seconds")]


def read(path: Path) -> list[Row]:
    """Return the rows of a file; none if there is no file."""
    return [Row(**row) for row in json.loads(path.read_text())] if path.exists() else []


def tables(rows: Iterable[Row]) -> str:
    """Return a table of PSNR / LPIPS for each number of calls, methods by problems.

    Methods of one call stand in the table of the fewest calls.
    """
    measured = [row for row in rows if row.psnr is not None]
    parts = []
    for steps in sorted({row.steps for row in measured}):
        of_steps = [row for row in measured if row.steps == steps]
        if steps > min(row.steps for row in measured):
            of_steps = [row for row in of_steps if "steps" not in METHODS[row.method].refusals]
        problems = [problem for problem in PROBLEMS if problem in {row.problem for row in of_steps}]
        best = {problem: _best(of_steps, problem) for problem in problems}
        lines = [
            f"| {steps} calls | " + " | ".join(problems) + " |",
            "|---|" + "---:|" * len(problems),
        ]
        for method in METHODS:
            own = {row.problem: row for row in of_steps if row.method == method}
            cells = [_cell(own.get(problem), best[problem]) for problem in problems]
            if own:
                lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))

    return "\n\n".join(parts)


def _best(rows: Iterable[Row], problem: str) -> tuple[float, float]:
    found = [row for row in rows if row.problem == problem]
    return max(row.psnr or 0 for row in found), min(row.lpips or 9 for row in found)


def _cell(row: Row | None, best: tuple[float, float]) -> str:
    if row is None or row.psnr is None or row.lpips is None:
        return "–"

    psnr, lpips = f"{row.psnr:.2f}", f"{row.lpips:.3f}"
    psnr = f"**{psnr}**" if psnr == f"{best[0]:.2f}" else psnr
    lpips = f"**{lpips}**" if lpips == f"{best[1]:.3f}" else lpips
    return f"{psnr} / {lpips}"


def draw(rows: Iterable[Row], path: Path, problems: Sequence[str]) -> None:
    """Draw PSNR and LPIPS against calls, a column for each problem."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row.psnr is not None and row.lpips is not None]
    figure, axes = plt.subplots(
        2, len(problems), figsize=(3.4 * len(problems), 6), sharex=True, squeeze=False
    )
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for index, method in enumerate(METHODS):
        for column, problem in enumerate(problems):
            points = sorted(
                (row.calls or row.steps, row.psnr, row.lpips)
                for row in rows
                if (row.problem, row.method) == (problem, method)
            )
            for line, values in enumerate(zip(*points, strict=True)) if points else ():
                if line > 0:
                    calls = [point[0] for point in points]
                    axes[line - 1][column].plot(
                        calls, values, "o-", markersize=3, color=colours[index % 20], label=method
                    )

    for column, problem in enumerate(problems):
        axes[0][column].set_title(problem)
        axes[1][column].set(xscale="log", xlabel="network calls")
        low, high = axes[0][column].get_ylim()
        axes[0][column].set_ylim(max(low, high - 10), high)
    axes[0][0].set_ylabel("PSNR, dB")
    axes[1][0].set_ylabel("LPIPS")
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=7, frameon=False, fontsize=8
    )
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.set_defaults(run=measure)
    one.add_argument("folder", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--size", type=int, default=128)
    one.add_argument("--count", type=int, default=2)
    one.add_argument("--device", default="auto")
    one.add_argument("--calls", type=int, nargs="+", default=CALLS)
    one.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    one.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)

    two = commands.add_parser("show")
    two.add_argument("outs", type=Path, nargs="+")
    two.add_argument("--figure", type=Path)
    two.add_argument("--drawn", nargs="+", default=["sr4", "deblur-motion", "inpaint", "denoise"])
    two.set_defaults(run=show)
    options = parser.parse_args()
    options.run(options)


def show(options: argparse.Namespace) -> None:
    """Print the tables, and draw the figure if its path is given."""
    rows = [row for out in options.outs for row in read(out)]
    print(tables(rows))
    if options.figure is not None:
        draw(rows, options.figure, options.drawn)


if __name__ == "__main__":
    main()
