"""The step of the build that pyproject.toml cannot say: packages name the commit they are from."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
# by its path, because importing the package would need all that the package needs
COMMIT: dict[str, Any] = runpy.run_path(str(ROOT / "restore" / "commit.py"))


class BuildOfCommit(build_py):
    """Build the modules with the commit; an editable installation asks git when it is asked."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            write_commit(Path(self.build_lib))


class SourceOfCommit(sdist):
    """Collect the sources with the commit, which a build from them copies."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir))


def write_commit(folder: Path) -> None:
    """Write the commit of this checkout into a tree of packages; elsewhere nothing is done."""
    if found := COMMIT["checked_out"](ROOT):
        (folder / "restore" / COMMIT["FILE"]).write_text(f"{found}\n", encoding="ascii")


setup(cmdclass={"build_py": BuildOfCommit, "sdist": SourceOfCommit})
