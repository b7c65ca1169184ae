"""Measure how well every method restores the pictures of a folder, classical methods included.

    python benchmarks/quality.py KODAK --size 256 --markdown results.md \\
        [--only sr4 deblur-motion] [--reports PAGES]

It runs `restore evaluate` on each problem of docs/results.md, and puts a table of the best learned
method beside the best classical one above the tables. Problems that are in the JSON file already
are not measured again, so an interrupted run continues. LPIPS needs AlexNet's weights, named in the
environment variable RESTORE_LPIPS_TRUNK. For the times that the `restore` command has on a CPU, set
THP_MEM_ALLOC_ENABLE=1 and GOMP_SPINCOUNT=1000 as it does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from restore.evaluate import Evaluation, Outputs, Settings, evaluate
from restore.evaluate.run import is_learned
from restore.runtime.devices import keep_freed_memory

PROBLEMS = {
    "sr2": Settings("sr", scale=2),
    "sr4": Settings("sr", scale=4),
    "sr4-noise": Settings("sr", scale=4, noise=0.05),
    "deblur-gaussian": Settings("deblur", kernel="gaussian:2", noise=0.01),
    "deblur-box": Settings("deblur", kernel="box:5", noise=0.01),
    "deblur-motion": Settings("deblur", kernel="motion:15:30", noise=0.01),
    "denoise-15": Settings("denoise", noise=15 / 255),
    "denoise-25": Settings("denoise", noise=25 / 255),
    "denoise-50": Settings("denoise", noise=50 / 255),
    "inpaint-random": Settings("inpaint", mask="random:0.5"),
    "inpaint-strokes": Settings("inpaint", mask="strokes"),
    "inpaint-box": Settings("inpaint", mask="box:64"),
    "colorize": Settings("colorize"),
}
QUALITIES = {"psnr": max, "psnr_y": max, "lpips": min}

# Mean over the pictures of each quality, by method.
Means = Mapping[str, Mapping[str, Any]]


def best(means: Means, quality: str, learned: bool) -> tuple[str, float] | None:
    """Return the best method of a kind and its value; None if there is no such method."""
    values = {
        m: row[quality]
        for m, row in means.items()
        if is_learned(m) == learned and row[quality] is not None
    }
    if not values:
        return None

    name = QUALITIES[quality](values, key=lambda method: values[method])

    return name, values[name]


def _cell(entry: tuple[str, float] | None, style: str, ahead: bool) -> str:
    if entry is None:
        return "–"
    method, value = entry
    return f"{method} **{value:{style}}**" if ahead else f"{method} {value:{style}}"


def summary(found: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Return a table with a line for each problem."""
    yield (
        "| problem | PSNR: learned | classical | LPIPS: learned | classical | largest colour "
        "shift |"
    )
    yield "|---|---:|---:|---:|---:|---:|"
    for name, result in found.items():
        means = result["means"]
        cells = []
        for quality, style in (("psnr", ".2f"), ("lpips", ".4f")):
            if any(row[quality] is None for row in means.values()):
                cells += ["", ""]
                continue
            pair = [best(means, quality, learned) for learned in (True, False)]
            ahead = QUALITIES[quality](filter(None, pair), key=lambda entry: entry[1])
            cells += [_cell(entry, style, entry == ahead) for entry in pair]
        method, _ = best(means, "psnr", learned=True) or best(means, "psnr", learned=False)
        shift = max(picture["scores"][method]["colour_shift"] for picture in result["pictures"])
        yield f"| {name} | {' | '.join(cells)} | {shift:.2f} |"


def measured(name: str, arguments: argparse.Namespace) -> Evaluation:
    settings = replace(
        PROBLEMS[name],
        size=arguments.size,
        count=arguments.count,
        methods=tuple(arguments.methods),
        model=arguments.model,
        device=arguments.device,
    )
    page = None if arguments.reports is None else arguments.reports / f"{name}.html"
    return evaluate(arguments.folder, settings, Outputs(report=page, overwrite=True), quiet=False)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--size", type=int, default=256, help="the middle square; 0 is the whole picture"
    )
    parser.add_argument("--count", type=int, help="of pictures")
    parser.add_argument(
        "--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM"
    )
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--reports", type=Path, help="a folder for a page with pictures a problem")

    return parser.parse_args()


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    if arguments.reports:
        arguments.reports.mkdir(parents=True, exist_ok=True)

    known = (
        json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    )

    for name in arguments.only:
        if name in known:
            continue
        print(name, file=sys.stderr)
        result = measured(name, arguments)
        known[name] = {**result.plain(), "table": result.markdown()}
        if arguments.json:
            arguments.json.write_text(json.dumps(known, indent=1, ensure_ascii=False))

    found = {name: known[name] for name in PROBLEMS if name in known and name in arguments.only}
    text = (
        "\n".join(summary(found)) + "\n\n" + "\n".join(result["table"] for result in found.values())
    )
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
