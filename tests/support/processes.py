"""The command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cli


def run_process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, for at most two minutes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}
    words = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.run(
        words, capture_output=True, text=True, env=environment, cwd=cwd, timeout=120
    )
