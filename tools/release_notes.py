"""Print the section of the changelog about a version, the newest one, which has a date.

python tools/release_notes.py 0.2.0
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes(changelog: str, version: str) -> str:
    """Return the text below the heading of a version.

    Raises:
        ValueError: The first version is another one, or has no date.
    """
    found = re.search(r"^## (\S+) — (\S+)\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if found is None or found[1] != version:
        raise ValueError(f"the changelog begins with {found and found[1]}, not with {version}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        raise ValueError(f"the changelog says {found[2]!r} instead of the date of {version}")
    return found[3].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("version")
    try:
        print(notes(CHANGELOG.read_text(encoding="utf-8"), parser.parse_args().version))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
