"""What a release says of itself: the version in one place, and the commit in what is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pretrained
import restore
from restore.commit import FILE, checked_out

ROOT = Path(__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *own, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of one commit with the files that decide which commit a build names."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    place = tmp_path / "checkout"
    (place / "restore").mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", place)
    shutil.copy(ROOT / "restore" / "commit.py", place / "restore")
    (place / "restore" / "__init__.py").write_text('__version__ = "7.8.9"\n')
    (place / "pyproject.toml").write_text(
        '[project]\nname = "restore-small"\ndynamic = ["version"]\n[tool.setuptools]\n'
        f'packages = ["restore"]\npackage-data = {{ restore = ["{FILE}"] }}\n'
        '[tool.setuptools.dynamic]\nversion = { attr = "restore.__version__" }\n'
    )
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message", "First")
    return place


def built(place: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "setup.py", "--quiet", *words], cwd=place)
    assert done.returncode == 0


def test_the_version_is_written_once() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in table["project"]
    assert table["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "restore.__version__"}


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.M) == [restore.__version__]
    headings = re.findall(
        r"^## (\S+) — (unreleased|\d{4}-\d\d-\d\d)$",
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        re.M,
    )
    assert headings[0][0] == restore.__version__


@pytest.mark.parametrize("known", ["abc1234", None])
def test_the_command_names_version_model_and_commit(
    command, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    monkeypatch.setattr("restore.commands.version.commit", lambda: known)
    outcome = command("--version")
    digest = pretrained.digest("default")
    expected = [f"restore {restore.__version__}", f"model default (sha256 {digest[:12]})"]
    assert outcome.out.splitlines() == [*expected, *([f"commit {known}"] if known else [])]
    assert (outcome.code, outcome.err) == (0, "")


def test_a_checkout_is_asked_for_its_commit(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "v7.8.9")
    assert checked_out(checkout) == head[:7]
    (checkout / "new.txt").write_text("not tracked")
    assert checked_out(checkout) == head[:7]
    (checkout / "pyproject.toml").write_text("changed")
    assert checked_out(checkout) == f"{head[:7]}-dirty"
    assert checked_out(checkout / "restore") is None  # within a checkout, but none itself


def test_a_build_names_its_commit_and_a_build_from_sources_too(
    checkout: Path, tmp_path: Path
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    built(checkout, "build_py", "--build-lib", str(tmp_path / "lib"))
    assert (tmp_path / "lib" / "restore" / FILE).read_text() == f"{head[:7]}\n"
    assert not (checkout / "restore" / FILE).exists()

    built(checkout, "sdist", "--dist-dir", str(tmp_path))
    shutil.unpack_archive(next(tmp_path.glob("*.tar.gz")), tmp_path / "sources")
    (sources,) = (tmp_path / "sources").iterdir()
    assert sources.name.endswith("7.8.9")
    built(sources, "build_py", "--build-lib", str(tmp_path / "again"))
    assert (tmp_path / "again" / "restore" / FILE).read_text() == f"{head[:7]}\n"


def test_a_build_without_a_checkout_names_none(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".git")
    built(checkout, "build_py", "--build-lib", str(tmp_path / "lib"))
    assert (tmp_path / "lib" / "restore" / "__init__.py").exists()
    assert not (tmp_path / "lib" / "restore" / FILE).exists()
