"""Measure how waiting threads share a busy machine: sleeping, spinning, and with one thread.

    python benchmarks/waiting.py --rounds 5

Each policy is a process that enlarges the same picture when told to; they take turns, first alone,
then beside processes that do nothing but count. Ratios are medians of the rounds' own to the policy
that `import restore` sets (restore/environment.py). Give the machine nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import resource, sys, time
import numpy as np
from restore import Restorer

restorer = Restorer(device="cpu")
picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

for _ in sys.stdin:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    for _ in range(3):
        restorer.sr(picture, scale=4, method="one-step")
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(seconds / 3, used / 3, flush=True)
"""

# GNU OpenMP without a policy spins 300,000 times, some milliseconds, before it sleeps.
POLICIES: dict[str, dict[str, str]] = {
    "spins 1,000 times (ours)": {"GOMP_SPINCOUNT": "1000"},
    "sleeps at once": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    "spins 300,000 times (default)": {"GOMP_SPINCOUNT": "300000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OWN = next(iter(POLICIES))


def started(policy: dict[str, str]) -> subprocess.Popen[str]:
    """Start the program under a policy, and wait until it is warm."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**kept, **policy},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    measured(program)
    return program


def measured(program: subprocess.Popen[str]) -> tuple[float, float]:
    """Return the seconds of one restoration: of the clock, and of all cores."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    clock, cores = program.stdout.readline().split()
    return float(clock), float(cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2, help="most processes that count")
    a = parser.parse_args()
    programs = {name: started(policy) for name, policy in POLICIES.items()}
    counting: list[subprocess.Popen[bytes]] = []
    print(f"{os.cpu_count()} cores, medians of {a.rounds} rounds\n")
    print("| beside | waiting | seconds | ratio | seconds of all cores |\n|---|---|---:|---:|---:|")

    try:
        for busy in range(a.busy + 1):
            rounds = [
                {name: measured(program) for name, program in programs.items()}
                for _ in range(a.rounds)
            ]
            for name in programs:
                ratio = statistics.median(one[name][0] / one[OWN][0] for one in rounds)
                clock, cores = (statistics.median(one[name][i] for one in rounds) for i in (0, 1))
                print(f"| {busy} | {name} | {clock:.2f} | {ratio:.2f} | {cores:.2f} |", flush=True)
            counting.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
    finally:
        for process in (*programs.values(), *counting):
            process.kill()


if __name__ == "__main__":
    main()
