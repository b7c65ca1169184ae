"""Measure how easy a source tree is to live in: folders, imports, functions, comments, commits.

    python tools/house.py
    python tools/house.py ~/src/k-diffusion --packages k_diffusion
    python tools/house.py --trace "sr in.png"

Prints Markdown. Needs nothing but the standard library and, for the row of the commits, git; a
traced command needs what the command needs.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["cli.py", "operators", "pretrained", "restore"]

# A function of more lines than this is counted as long, a commit subject of more characters too.
LONG_FUNCTION = 50
LONG_SUBJECT = 72

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """One source file, read.

    Attributes:
        name: Dotted name from the root of the tree; a package goes by its own.
        path: The file.
        text: Its source.
        nodes: All nodes of its syntax tree.
    """

    name: str
    path: Path
    text: str
    nodes: list[ast.AST]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def package(self) -> str:
        """Name of the package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def modules_of(root: Path, packages: Iterable[str]) -> dict[str, Module]:
    """Read the files of the packages (folders or single files) below ``root``, by module name.

    Raises:
        ValueError: If there is no such folder or file.
    """
    found = {}

    for package in packages:
        if not (root / package).exists():
            raise ValueError(f"{package} is not in {root}")

        for path in sorted((root / package).rglob("*.py")) or [root / package]:
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            found[name] = Module(name, path, text, list(ast.walk(ast.parse(text))))

    return found


# Imports


def imported_names(module: Module) -> Iterator[str]:
    """Yield what a module imports, wherever in the file and for types alone too."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def import_graph(modules: dict[str, Module]) -> Graph:
    """Return the modules of the tree that each of them imports.

    ``from package import name`` is an import of ``package.name`` if that is a module, otherwise of
    the package. A package's import of its own modules counts, a module's of its own package too.
    """
    graph: Graph = {}

    for name, module in modules.items():
        graph[name] = set()
        for wanted in imported_names(module):
            while wanted and wanted not in modules:
                wanted = wanted.rpartition(".")[0]
            graph[name] |= {wanted} - {"", name}

    return graph


def room_of(name: str, modules: dict[str, Module]) -> str:
    """Return the room a module is in: its top-level package, or the part of a package of packages.

    ``restore.photo.tiff`` is in ``restore.photo``, and ``restore.files`` is a room of its own,
    because more than one folder lies in ``restore``; ``operators.masks`` is in ``operators``.
    """
    top, _, rest = name.partition(".")
    folders = {
        other.package for other in modules.values() if other.package.partition(".")[0] == top
    }
    parts_of_it = {folder.split(".")[1] for folder in folders if "." in folder}
    return f"{top}.{rest.split('.')[0]}" if rest and len(parts_of_it) > 1 else top


def between_rooms(graph: Graph, modules: dict[str, Module]) -> Graph:
    """Merge the modules of each room into one node."""
    rooms = {name: room_of(name, modules) for name in graph}
    merged: Graph = {room: set() for room in rooms.values()}

    for name, others in graph.items():
        merged[rooms[name]] |= {rooms[other] for other in others} - {rooms[name]}

    return merged


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan, SIAM J. Comput. 1(2), 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)

        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])

        if low[node] == index[node]:
            start = stack.index(node)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in index:
            visit(node)

    return found


def floors(graph: Graph) -> int:
    """Return the number of nodes on the longest chain of imports, a circle taken as one node."""
    circle_of = {node: circle[0] for circle in circles(graph) for node in circle}
    merged: Graph = {circle_of.get(node, node): set() for node in graph}
    for node, others in graph.items():
        own = circle_of.get(node, node)
        merged[own] |= {circle_of.get(other, other) for other in others} - {own}

    height: dict[str, int] = {}

    def climb(node: str) -> int:
        if node not in height:
            height[node] = 1 + max(map(climb, merged[node]), default=0)
        return height[node]

    return max(map(climb, merged), default=0)


def upwards(rooms: Graph, order: list[set[str]]) -> list[tuple[str, str]]:
    """Return the imports between rooms that do not go down by ``order``, from the ground up.

    Rooms that the order does not name are left out.
    """
    floor = {room: height for height, names in enumerate(order) for room in names}
    return [
        (room, other)
        for room, others in sorted(rooms.items())
        for other in sorted(others)
        if room in floor and other in floor and floor[other] >= floor[room]
    ]


def read_order(file: Path) -> list[set[str]]:
    """Read the assignment ``FLOORS = [{...}, ...]`` of a Python file, without running it."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "FLOORS":
            floors_there: list[set[str]] = ast.literal_eval(node.value)  # type: ignore[attr-defined]  # an Assign
            return floors_there
    raise ValueError(f"{file} has no FLOORS")


# Functions and lines


class Rhythm(NamedTuple):
    """How the code of some modules is written.

    Attributes:
        lengths: Lines of each function, from ``def`` to its last line.
        private: Fraction of functions whose name begins with an underscore, ``__init__`` too.
        comments: Fraction of all lines that have a ``#`` comment.
        blank: Fraction of all lines that are blank and inside a function, outside of strings.
        tuples: Fraction of assignments of several values to several names, as ``a, b = c, d``.
    """

    lengths: list[int]
    private: float
    comments: float
    blank: float
    tuples: float


def functions_of(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module, those inside of others too."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def comment_lines(module: Module) -> int:
    """Count the lines that have a ``#`` comment."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def blank_lines(module: Module) -> int:
    """Count the blank lines inside of functions, those of strings left out."""
    inside: set[int] = set()
    for function in functions_of(module):
        inside |= set(range(function.lineno, (function.end_lineno or function.lineno) + 1))

    for node in module.nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr):
            inside -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))

    return sum(
        number in inside and not line.strip()
        for number, line in enumerate(module.text.splitlines(), 1)
    )


def rhythm(modules: Iterable[Module]) -> Rhythm:
    """Measure functions, comments, blank lines and assignments."""
    modules = list(modules)
    functions = [function for module in modules for function in functions_of(module)]
    assignments = [
        node for module in modules for node in module.nodes if isinstance(node, ast.Assign)
    ]
    several = [
        node
        for node in assignments
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    lines = max(sum(module.lines for module in modules), 1)
    return Rhythm(
        lengths=[(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions],
        private=sum(f.name.startswith("_") for f in functions) / max(len(functions), 1),
        comments=sum(map(comment_lines, modules)) / lines,
        blank=sum(map(blank_lines, modules)) / lines,
        tuples=len(several) / max(len(assignments), 1),
    )


# Commits and a traced command


def subjects(root: Path, commits: str) -> list[str]:
    """Return the subjects of the commits ``git log`` finds; none without git or a repository."""
    try:
        log = subprocess.run(
            ["git", "-C", str(root), "log", "--format=%s", commits, "--"],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return []
    return log.stdout.splitlines()


# Runs `restore` with the words after the first three: the tree, the file for the answer, a picture.
# Functions that run because a module is being imported do not count: importlib is on their stack.
TRACER = """
import os, sys, threading
from PIL import Image
tree, answer, picture, *words = sys.argv[1:]
Image.open(picture).resize((48, 32)).save("in.png")
sys.path.insert(0, tree)
seen, IS_FUNCTION = set(), 1  # of a code object's flags; the bodies of modules and classes lack it

def importing(frame):
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

def watch(frame, event, argument):
    code = frame.f_code
    file = code.co_filename
    if event == "call" and file not in seen and file.startswith(tree) \\
            and code.co_flags & IS_FUNCTION and not importing(frame):
        seen.add(file)

threading.setprofile(watch)
sys.setprofile(watch)
try:
    import cli
    sys.argv = ["restore", *words]
    cli.main()
finally:
    sys.setprofile(None)
    with open(answer, "w") as out:
        out.write("\\n".join(sorted(os.path.relpath(file, tree) for file in seen)))
"""


def traced(root: Path, command: str, picture: Path) -> list[str]:
    """Run ``restore`` with the words of ``command`` and return the files a function of which ran.

    The command runs in an empty folder beside ``in.png``, a small copy of ``picture``.

    Raises:
        RuntimeError: If the command fails; the text is its stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "files")
        given = (f"{root.resolve()}/", answer, picture.resolve(), *command.split())
        done = subprocess.run(
            [sys.executable, "-c", TRACER, *map(str, given)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"`restore {command}` failed:\n{done.stderr}")
        return answer.read_text().split("\n")


# The page


def folder_table(modules: dict[str, Module], root: Path) -> Iterator[str]:
    files = Counter(str(module.path.parent.relative_to(root)) for module in modules.values())
    lines: Counter[str] = Counter()
    for module in modules.values():
        lines[str(module.path.parent.relative_to(root))] += module.lines

    yield "| folder | files | lines |"
    yield "|---|---:|---:|"
    for folder in sorted(files):
        yield f"| {folder} | {files[folder]} | {lines[folder]:,} |"
    yield f"| **all** | {files.total()} | {lines.total():,} |"


def import_rows(modules: dict[str, Module], order: list[set[str]] | None) -> Iterator[str]:
    graph = import_graph(modules)
    rooms = between_rooms(graph, modules)

    for what, of in (("modules", graph), ("rooms", rooms)):
        arrows = sum(map(len, of.values()))
        yield f"| {what}, import floors, arrows | {len(of)}, {floors(of)}, {arrows} |"
        yield f"| circles of {what} | {listed(' ↔ '.join(circle) for circle in circles(of))} |"

    if order is not None:
        arrows_up = (f"{room} → {other}" for room, other in upwards(rooms, order))
        yield f"| arrows upwards | {listed(arrows_up)} |"


def rhythm_rows(modules: dict[str, Module]) -> Iterator[str]:
    of = rhythm(modules.values())
    if len(of.lengths) > 1:
        p90 = statistics.quantiles(of.lengths, n=10, method="inclusive")[-1]
        middle = statistics.median(of.lengths)
        yield f"| function median · p90 · max | {middle:.0f} · {p90:.0f} · {max(of.lengths)} |"

    long = sum(length > LONG_FUNCTION for length in of.lengths)
    yield f"| functions, over {LONG_FUNCTION} lines | {len(of.lengths)}, {long} |"
    yield f"| private functions | {of.private:.0%} |"
    yield f"| comment lines | {of.comments:.1%} |"
    yield f"| blank lines in bodies | {of.blank:.1%} |"
    yield f"| tuple assignments | {of.tuples:.1%} |"


def commit_rows(of: list[str]) -> Iterator[str]:
    if of:
        long = sum(len(subject) > LONG_SUBJECT for subject in of) / len(of)
        middle = statistics.median(map(len, of))
        yield (
            f"| subjects of {len(of)} commits: median, over {LONG_SUBJECT} "
            f"| {middle:.0f}, {long:.0%} |"
        )


def listed(items: Iterable[str]) -> str:
    """Return the number of the items and, after a colon, the items."""
    items = list(items)
    return f"{len(items)}: {'; '.join(items)}" if items else "0"


def page(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the page."""
    root: Path = arguments.tree
    modules = modules_of(root, arguments.packages)

    yield from folder_table(modules, root)
    yield "\n| measure | |\n|---|---|"
    yield from import_rows(modules, arguments.floors and read_order(arguments.floors))
    yield from rhythm_rows(modules)
    yield from commit_rows(subjects(root, arguments.commits))

    if arguments.trace:
        files = traced(root, arguments.trace, arguments.picture)
        yield f"| files passed by `restore {arguments.trace}` | {len(files)} |"
        if arguments.list:
            yield "\nFiles passed: " + ", ".join(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tree", type=Path, nargs="?", default=ROOT, help="root of a source tree")
    parser.add_argument(
        "--packages", nargs="+", default=PACKAGES, help="its folders and files that are measured"
    )
    parser.add_argument(
        "--floors", type=Path, help="a Python file with FLOORS, the rooms from the ground up"
    )
    parser.add_argument("--commits", default="HEAD", help="as for git log, such as v1..HEAD")
    parser.add_argument("--trace", metavar="WORDS", help='of `restore`, such as "sr in.png"')
    parser.add_argument(
        "--picture", type=Path, default=ROOT / "examples" / "parrots.png", help="the in.png of it"
    )
    parser.add_argument("--list", action="store_true", help="name the files that --trace passed")
    try:
        print("\n".join(page(parser.parse_args())))
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
