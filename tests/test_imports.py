"""Imports go one way through the rooms of the code, and there is no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"restore.commit", "restore.device_names", "restore.text"},
    {"operators", "pretrained", "restore.environment", "restore.errors", "restore.messages"},
    {"restore.files", "restore.precision", "restore.backbone"},
    {"restore.metrics", "restore.blind"},
    {"restore.photo"},
    {"restore.film", "restore.findings"},
    {"restore.diffusion"},
    {"restore.samplers"},
    {"restore.solvers"},
    {"restore.tasks", "restore.runtime"},
    {"restore.latent"},
    {"restore.methods"},
    {"restore.restorer"},
    {"restore.report"},
    {"restore.jobs"},
    {"restore.evaluate", "restore.export", "restore.serve", "restore.training"},
    {"restore.commands"},
    {"cli"},
]
"""From the ground up: a room imports from lower floors alone."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NAMES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("operators", "pretrained", "restore")
    for path in sorted((ROOT / folder).rglob("*.py"))
} | {"cli": ROOT / "cli.py"}


def room_of(module: str) -> str:
    """``restore.photo`` of ``restore.photo.tiff``, ``operators`` of ``operators.masks``."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "restore" else parts[0]


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """The project's modules that a module imports, wherever in it, for types alone too; with their
    lines.
    """
    for node in ast.walk(ast.parse(NAMES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            while name and name not in NAMES:
                name = name.rpartition(".")[0]
            if name and name != module:
                yield name, node.lineno


@pytest.fixture(scope="module")
def arrows() -> dict[str, dict[str, int]]:
    """Return the modules that each module imports, with their lines."""
    return {module: dict(imports_of(module)) for module in NAMES}


def test_every_module_has_a_floor():
    rooms = {room_of(module) for module in NAMES} - {"restore"}
    assert rooms == set(FLOOR)


def test_imports_go_down(arrows):
    """``restore/__init__.py`` alone stands beside the floors: it has the version, and names from
    all of them.
    """
    upwards = [
        f"{module}, line {line}: {other}"
        for module in NAMES.keys() - {"restore"}
        for other, line in arrows[module].items()
        if other != "restore"
        and room_of(other) != room_of(module)
        and FLOOR[room_of(other)] >= FLOOR[room_of(module)]
    ]
    assert not upwards


def test_there_is_no_circle(arrows):
    """Modules are taken away once nothing that is left is imported by them; a circle stays."""
    left = {
        module: set(imported) - {"restore"}
        for module, imported in arrows.items()
        if module != "restore"
    }
    while done := {module for module, rest in left.items() if not rest & left.keys()}:
        left = {module: rest for module, rest in left.items() if module not in done}
    assert not left


def test_test_files_have_names_of_their_own():
    """pytest imports them by name, and refuses to collect two of one name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
