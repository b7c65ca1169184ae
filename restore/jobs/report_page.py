"""The HTML report of a run: before and after, differences, uncertainty, settings, failures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch

import pretrained
from restore import __version__
from restore.errors import BadArgument, FileAccess
from restore.files import refuse_existing, refuse_long, write_atomically
from restore.jobs.picture import Drawn, Shown, unexplained
from restore.jobs.plan import Job, Plan, check_writable, identity
from restore.report.comparison import compare
from restore.report.html import BYTE_LIMIT, document, facts, printable
from restore.report.views import SCRIPT, STYLE, views_of
from restore.runtime.devices import device_name
from restore.tasks import TASKS
from restore.text import visible

SUFFIXES = (".html", ".htm")
# Maximum number of rows of the table, and of failures.
ROW_LIMIT = 2000


def check_report(path: Path, plan: Plan, overwrite: bool) -> None:
    """Check before any work that the report can be written.

    Raises:
        BadArgument: not the name of an HTML file.
        FileAccess: the file exists, is an input, or cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadArgument(f"`report`={path}: its suffix must be .html")
    refuse_long(path)
    if path.is_dir():
        raise FileAccess(f"`report`={path}: is a folder; give the name of a file")

    inputs = (
        file
        for job in plan.jobs
        for file in (job.source, job.companion, job.start)
        if file is not None
    )
    if path.exists() and identity(path) in {identity(file) for file in inputs if file.exists()}:
        raise FileAccess(
            f"`report`={path}: is an input; an input is never overwritten, choose another name"
        )

    refuse_existing(path, overwrite)
    check_writable(path.parent)


def settings(
    task: str, given: Mapping[str, Any], model: str, place: Mapping[str, str]
) -> dict[str, str]:
    """Return the settings that reproduce a run, for a table.

    Args:
        task: name of the task.
        given: options by name; None is left out.
        model: name or file of the model.
        place: device and number format, see `place_here`.
    """
    return {
        "task": task,
        **{name: printable(_written(value)) for name, value in given.items() if value is not None},
        "model": printable(pretrained.short_name(model)),
        "model's SHA-256": pretrained.digest(model),
        **place,
        "versions": f"restore {__version__}, torch {torch.__version__}",
    }


def place_here(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Return the device of this process and the number format of the network."""
    return {"device": device_name(device), "number format": str(dtype).removeprefix("torch.")}


class _Row(NamedTuple):
    """A row of the table.

    Attributes:
        drawn: the part of the picture in the report.
        done: the record of the picture.
        anchor: anchor of its section; empty if the pictures are not shown.
    """

    drawn: Drawn
    done: Mapping[str, Any]
    anchor: str


@dataclass(frozen=True)
class Artist:
    """Draws the part of a picture in the report, see `restore.jobs.picture.Draw`.

    Attributes:
        root: input folder; None for a single picture.
        views: True to show the pictures.
    """

    root: Path | None
    views: bool = True

    def __call__(self, job: Job, shown: Shown, done: Mapping[str, Any]) -> Drawn:
        name = self.name(job)
        views = (
            views_of(name, compare(shown.before, shown.after), shown.std, done)
            if self.views
            else ""
        )
        height, width = shown.before.pixels.shape[:2]
        return Drawn(name, (width, height), views)

    def elsewhere(self) -> Artist:
        """Return the artist with absolute paths, for a machine with another working folder."""
        return replace(self, root=None if self.root is None else Path(os.path.abspath(self.root)))

    def name(self, job: Job) -> str:
        """Return the name of a picture in the report."""
        return printable(self._below(job))

    def about(self, job: Job, reason: str) -> str:
        """Return the text of an error without the name of its picture, which is beside it."""
        return printable(reason.removeprefix(f"{visible(self._below(job))}: "))

    def _below(self, job: Job) -> str:
        return job.below(self.root or job.source.parent)


class RunPage:
    """Collects the pictures of a report, up to a limit, and renders the page.

    Args:
        plan: the plan of the run.
        root: input folder; None for a single picture.
        settings: see `settings`.
        limit: maximum size of the embedded pictures in bytes.
    """

    def __init__(
        self, plan: Plan, root: Path | None, settings: Mapping[str, str], limit: int = BYTE_LIMIT
    ) -> None:
        self.plan = plan
        self.root = root
        self.settings = settings
        self.limit = limit
        self.bytes = 0
        self.rows: list[_Row] = []
        self.sections: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.started = time.perf_counter()

    @property
    def artist(self) -> Artist:
        """Artist for the next picture."""
        return Artist(self.root, self.bytes < self.limit)

    def add(self, drawn: Drawn, done: Mapping[str, Any]) -> None:
        """Add a finished picture."""
        anchor = ""
        if self.bytes < self.limit and drawn.views:
            section = _section(f"picture-{len(self.rows) + 1}", drawn)
            grown = self.bytes + len(section)
            # once the limit is reached, no later picture is shown
            self.bytes = min(grown, self.limit)
            if grown <= self.limit:
                self.sections.append(section)
                anchor = f"picture-{len(self.rows) + 1}"

        self.rows.append(_Row(drawn, done, anchor))

    def fail(self, job: Job, reason: str) -> None:
        """Add a picture that failed."""
        artist = self.artist
        if self.root is not None and self.root.name:
            reason = reason.replace(visible(f"{self.root}/"), "")
        self.failures.append((artist.name(job), artist.about(job, reason)))

    @contextmanager
    def written(self, path: Path, overwrite: bool) -> Iterator[None]:
        """Write the page atomically when the block ends, also by an error or interrupt.

        Nothing is written if no picture was finished and none failed.

        Raises:
            FileAccess: the file cannot be written.
        """
        try:
            yield
        except BaseException:
            with suppress(FileAccess):  # what ended the run says more
                self._write(path, overwrite)
            raise
        self._write(path, overwrite)

    def _write(self, path: Path, overwrite: bool) -> None:
        if self.rows or self.failures:
            write_atomically(self.render(), path, overwrite)

    def render(self) -> bytes:
        """Return the page in UTF-8."""
        title = TASKS[self.settings["task"]].title
        body = [
            f"<header><h1>{title}</h1><p>{escape(self._lead())}</p></header>",
            "<main>",
            *(f"<p class='note'>{escape(note)}</p>" for note in self._notes()),
            self._table(),
            self._failed(),
            "<section><h2>Settings</h2><details><summary>All settings and "
            f"versions</summary>{facts(self.settings)}</details></section>",
            *self.sections,
            "</main>",
        ]
        return document(title, "\n".join(part for part in body if part), _STYLE, SCRIPT).encode(
            "utf-8", "replace"
        )

    def _lead(self) -> str:
        where = "" if self.root is None else f" of {printable(self.root.resolve().name)}/"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return (
            f"{len(self.rows)} of {_counted(len(self.plan.jobs))}{where} restored{failed}, in "
            f"{time.perf_counter() - self.started:.1f} s; model {self.settings['model']}, "
            f"{', '.join(self._place())}."
        )

    def _place(self) -> list[str]:
        return [
            self.settings[name] for name in ("device", "number format") if name in self.settings
        ]

    def _notes(self) -> list[str]:
        notes = []
        left = len(self.plan.jobs) - len(self.rows) - len(self.failures)
        if left:
            notes.append(f"The run was ended before its last {_counted(left)}.")
        if self.plan.left:
            notes.append(f"{_counted(len(self.plan.left))} done before, which are not here.")
        if len(self.sections) < len(self.rows):
            notes.append(
                f"{len(self.sections)} of {_counted(len(self.rows))} shown, as many as fit into "
                f"{self.limit / 1e6:.3g} MB."
            )

        if any(unexplained(row.done) for row in self.rows):
            notes.append(
                "Marked consistencies are far above the noise: are kernel, operator and noise "
                "right?"
            )

        return notes

    def _table(self) -> str:
        if not self.rows:
            return ""

        rows = "".join(_table_row(row) for row in self.rows[:ROW_LIMIT])
        heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS)

        return (
            f"<section><h2>Pictures</h2><p class='note'>{_LEGEND}{_cut(len(self.rows))}</p>"
            '<div class="scroll" tabindex="0" role="region" '
            'aria-label="Pictures"><table><thead><tr>'
            f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
        )

    def _failed(self) -> str:
        if not self.failures:
            return ""

        lines = "".join(
            f"<li>{escape(name)}: {escape(reason)}</li>"
            for name, reason in self.failures[:ROW_LIMIT]
        )
        note = _cut(len(self.failures))

        return (
            f"<section><h2>Failed</h2><p class='note'>{note}</p><ul "
            f"class='problems'>{lines}</ul></section>"
        )


_HEADS = (
    "picture",
    "input",
    "result",
    "method",
    "steps",
    "samples",
    "noise",
    "consistency",
    "seconds",
)
_LEGEND = (
    "Sizes in pixels. Noise is the standard deviation that was assumed, for pixels in [0, 1]; "
    "consistency is the RMS of A x − y in the same units: how well the result explains its input. "
    "Seconds are those in the solver."
)


def _counted(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


def _cut(count: int) -> str:
    return "" if count <= ROW_LIMIT else f" The first {ROW_LIMIT} of {count}."


def _table_row(row: _Row) -> str:
    done = row.done
    name = escape(row.drawn.name)
    link = f'<a href="#{row.anchor}">{name}</a>' if row.anchor else name
    doubt = ' class="doubt"' if unexplained(done) else ""
    cells = [
        "{}×{}".format(*row.drawn.before),
        f"{done['width']}×{done['height']}",
        *(escape(str(done[key])) for key in ("method", "steps", "samples")),
        f"{done['noise']:.4f}",
    ]

    return (
        f'<tr><th scope="row">{link}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}'
        f"<td{doubt}>{done['consistency']:.5f}</td><td>{done['seconds']:.1f}</td></tr>"
    )


def _section(anchor: str, drawn: Drawn) -> str:
    return (
        '<section class="picture" '
        f'id="{anchor}"><h3>{escape(drawn.name)}</h3>{drawn.views}</section>'
    )


def _written(value: Any) -> str:
    """Format a size as ``640x480`` and noise levels with commas."""
    if not isinstance(value, tuple):
        return str(value)
    whole = all(isinstance(number, int) for number in value)
    return "x".join(map(str, value)) if whole else ", ".join(f"{number:.4g}" for number in value)


_STYLE = f"""
td.doubt {{ color: var(--bad); font-weight: 700 }}
th a {{ color: inherit }}
{STYLE}"""
