"""Every benchmark can be started: its imports are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# One process for all, since PyTorch's import is most of it.
PROGRAM = """
import runpy, sys
from pathlib import Path
folder = Path("benchmarks")
sys.path.insert(0, str(folder))
for path in sorted(folder.glob("*.py")):
    runpy.run_path(str(path), run_name="imported")
    print(path.name)
"""


def test_benchmarks_import_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = [path.name for path in sorted((ROOT / "benchmarks").glob("*.py"))]
    assert done.stdout.split() == names
