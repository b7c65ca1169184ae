"""The notes of a release are the changelog's section."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTES = runpy.run_path(str(ROOT / "tools" / "release_notes.py"))["notes"]
CHANGELOG = """# Changelog

Of each release.

## 1.1.0 — 2026-12-01

### Added

- More.

## 1.0.0 — 2026-11-01

- All.
"""


def test_the_newest_section() -> None:
    assert NOTES(CHANGELOG, "1.1.0") == "### Added\n\n- More."
    first = CHANGELOG[: CHANGELOG.index("## 1.1.0")] + CHANGELOG[CHANGELOG.index("## 1.0.0") :]
    assert NOTES(first, "1.0.0") == "- All."


def test_refuses_a_tag_of_another_version_and_what_has_no_date() -> None:
    with pytest.raises(ValueError, match=r"begins with 1\.1\.0, not with 1\.2\.0"):
        NOTES(CHANGELOG, "1.2.0")
    undated = CHANGELOG.replace("2026-12-01", "unreleased")
    with pytest.raises(ValueError, match="'unreleased' instead of the date"):
        NOTES(undated, "1.1.0")
