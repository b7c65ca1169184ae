"""What is no module, but needed at run time, is in the wheel."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
DATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
    "package-data"
]


@pytest.mark.parametrize("package", ["operators", "pretrained", "restore"])
def test_every_file_of_a_package_is_listed(package: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout of the repository")
    files = [PurePosixPath(line).relative_to(package) for line in listed.stdout.splitlines()]
    missing = [
        str(file)
        for file in files
        if file.suffix != ".py" and not any(file.match(pattern) for pattern in DATA[package])
    ]
    assert not missing
