"""Plot the quality of the skip-n posterior, DDIM and DPM-Solver++ by n, for docs/gallery.md.

    python benchmarks/gallery_skip.py docs/gallery.md docs/gallery-skip.png

The numbers are those of the table in docs/gallery.md that `benchmarks/gallery_calls.py` measures:
a sampler with k calls makes k steps over n = T/k levels of the chain of T = 1000.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from matplotlib.figure import Figure

STEPS = 1000
MARKS = (100, 150, 200, 300, 500)
# Title in the figure, by name in the table.
SHOWN = {
    "ddpm": "skip-n posterior (ddpm)",
    "ddim": "DDIM (ddim)",
    "dpmpp-2m": "DPM-Solver++(2M) (dpmpp-2m)",
}


def rows(text: str) -> tuple[list[int], dict[str, list[float]]]:
    """Return the numbers of calls and the Fréchet distances by sampler of the table."""
    head = re.search(r"^\| sampler \|((?: \d+ \|)+)$", text, re.MULTILINE)
    if head is None:
        raise SystemExit("no table of samplers by calls in this page")

    calls = [int(cell) for cell in head[1].split("|") if cell.strip()]
    found = {}
    for name in SHOWN:
        row = re.search(rf"^\| `{re.escape(name)}` \|(.+)\|$", text[head.end() :], re.MULTILINE)
        if row is None:
            raise SystemExit(f"no row of {name} in this page")
        found[name] = [float(cell.split()[0]) for cell in row[1].split("|")]

    return calls, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path, help="the page with the table")
    parser.add_argument("out", type=Path, help="the figure")
    a = parser.parse_args()

    calls, distances = rows(a.page.read_text(encoding="utf-8"))
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, title in SHOWN.items():
        axes.loglog([STEPS / count for count in calls], distances[name], "o-", label=title)

    axes.set(xlabel="n, levels of the chain in one step", ylabel="Fréchet distance to photographs")
    axes.set_xticks([STEPS / count for count in calls], [f"{STEPS // count}" for count in calls])
    axes.set_yticks(MARKS, [str(mark) for mark in MARKS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(a.out, dpi=90)


if __name__ == "__main__":
    main()
