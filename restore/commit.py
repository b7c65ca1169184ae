"""The commit that the code is from, for `restore --version` and for the build, see setup.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Written into wheels and source distributions, beside this file.
FILE = "COMMIT"


def commit() -> str | None:
    """Return the commit that was built or is checked out, or None if nothing says it."""
    here = Path(__file__).parent
    try:
        return (here / FILE).read_text(encoding="ascii").strip()
    except OSError:
        return checked_out(here.parent)


def checked_out(root: Path) -> str | None:
    """Return the commit that is checked out in a folder, or None if that is no checkout.

    It ends with ``-dirty`` if tracked files were changed.
    """
    if not (root / ".git").exists():
        return None

    words = ["git", "-C", str(root), "--no-optional-locks", "describe"]
    words += ["--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None

    return done.stdout.strip() or None if done.returncode == 0 else None
