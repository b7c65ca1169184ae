"""Measure how long the package and the command take to start, beside Python and PyTorch alone.

    python benchmarks/startup.py

The last row ends where a command begins its first call of the network: imports, options, picture
and weights are behind it. Times are wall-clock medians of fresh processes that take turns, after
one round that only fills the disk's cache.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PICTURE = ROOT / "tests" / "fixtures" / "crop_a.png"
FIRST_CALL = f"""
import os, sys, cli
from restore.backbone.base import Backbone
Backbone.forward = lambda *_: os._exit(0)
sys.argv = ["restore", "sr", "--scale", "4", {str(PICTURE)!r}, "-", "--format", "png"]
cli.main()
"""

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    'python -c "import torch"': ["-c", "import torch"],
    'python -c "import restore"': ["-c", "import restore"],
    "python -m cli --help": ["-m", "cli", "--help"],
    "restore sr, up to the network": ["-c", FIRST_CALL],
}
BARE, TORCH = list(COMMANDS)[:2]


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=9, help="of each command; the median is shown")
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}

    for _ in range(runs + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))

    medians = {name: statistics.median(of_command[1:]) for name, of_command in times.items()}
    print(f"| command | milliseconds | times `{BARE}` | beyond `{TORCH}` |\n|---|---:|---:|---:|")

    for name, median in medians.items():
        beyond = statistics.median(
            of - torch for of, torch in zip(times[name][1:], times[TORCH][1:], strict=True)
        )
        against = f"{median / medians[BARE]:.2f} | {beyond * 1e3:+.0f}"
        print(f"| `{name}` | {median * 1e3:.0f} | {against} |")


if __name__ == "__main__":
    main()
