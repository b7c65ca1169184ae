"""Results of an evaluation, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from restore.errors import BadArgument, FileAccess, SomeFailed
from restore.evaluate import scores
from restore.evaluate.page import BYTE_LIMIT, Page, Text
from restore.evaluate.scores import Score
from restore.files import refuse_existing, refuse_long, write_atomically
from restore.jobs.plan import check_writable, identity
from restore.tasks import TASKS


@dataclass(frozen=True)
class Outputs:
    """Output files, each of which is written atomically.

    Attributes:
        report: HTML report.
        json: settings and scores in JSON.
        markdown: table in markdown.
        overwrite: True to overwrite existing files.
        page_bytes: maximum size of the pictures in the HTML report.
    """

    report: Path | None = None
    json: Path | None = None
    markdown: Path | None = None
    overwrite: bool = False
    page_bytes: int = BYTE_LIMIT

    def check(self, inputs: Iterable[Path]) -> None:
        """Check before any work that all files can be written.

        Args:
            inputs: files that must not be overwritten.

        Raises:
            BadArgument: one file for two outputs.
            FileAccess: a file that exists, is an input, or cannot be written.
        """
        paths = [path for path in (self.report, self.json, self.markdown) if path is not None]
        for path in paths:
            refuse_long(path)

        if len({path.resolve() for path in paths}) < len(paths):
            raise BadArgument("`report`, `json` and `markdown`: two of them name the same file")

        taken = {identity(path) for path in inputs if path.exists()}

        for path in paths:
            if path.is_dir():
                raise FileAccess(f"{path}: is a folder; give the name of a file")
            if path.exists() and identity(path) in taken:
                raise FileAccess(
                    f"{path}: is an input; an input is never overwritten, choose another output"
                )
            refuse_existing(path, self.overwrite)
            check_writable(path.parent)


@dataclass(frozen=True)
class PictureScores:
    """Scores of one picture.

    Attributes:
        name: name of the picture.
        size: (width, height) of the truth in pixels.
        sha256: SHA-256 of the bytes of the truth, row by row, RGB.
        truth_consistency: RMS of A x − y for the truth itself.
        scores: scores by method.
    """

    name: str
    size: tuple[int, int]
    sha256: str
    truth_consistency: float | None
    scores: dict[str, Score]


@dataclass
class Evaluation:
    """Results of an evaluation.

    Attributes:
        about: settings and versions for JSON; names only, no paths.
        methods: methods in the order of the table.
        page: pictures of the report; None without a report.
        pictures: scores of pictures that could be read and degraded, in name order.
        skipped: name and reason for each other picture.
        failures: picture, method and reason for each failure.
        notices: notes for the reader, a sentence each.
        interrupted: True if the evaluation ended before the last picture.
    """

    about: dict[str, Any]
    methods: list[str]
    page: Page | None = None
    pictures: list[PictureScores] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    interrupted: bool = False

    def by_method(self) -> dict[str, list[Score]]:
        """Return the scores of the pictures that each method restored."""
        return {
            m: [picture.scores[m] for picture in self.pictures if m in picture.scores]
            for m in self.methods
        }

    @property
    def truth_consistency(self) -> float | None:
        """Mean consistency of the truth over the pictures."""
        values = [p.truth_consistency for p in self.pictures if p.truth_consistency is not None]
        return fmean(values) if values else None

    @property
    def title(self) -> str:
        return f"{TASKS[self.about['task']].title}, {self.about['degradation']}"

    @property
    def lead(self) -> str:
        """Summary of the evaluation in a line."""
        about = self.about
        part = f"the middle {about['size']}×{about['size']} pixels" if about["size"] else "whole"
        one = len(self.pictures) == 1

        return (
            f"{len(self.pictures)} picture{'' if one else 's'} of {about['folder']}, {part}; noise "
            f"{_noise(about['noise'])}; model {about['model']}, {about['device']}, "
            f"{about['dtype']}; "
            f"restore {about['versions']['restore']}, torch {about['versions']['torch']}."
        )

    @property
    def notes(self) -> list[str]:
        """Notes about the table."""
        border = self.about["luma_border"]
        floor = self.truth_consistency
        cropped = (
            f" PSNR-Y and SSIM-Y leave out {border} pixels at every side, the scale."
            if border
            else ""
        )
        notes = [
            "Means over the pictures, of results in 8 bits; the best of each column is "
            f"marked.{cropped}"
        ]
        if floor is not None:
            notes.append(f"Consistency of the truth: {floor:.5f}.")

        return notes + self.notices

    @property
    def problems(self) -> list[str]:
        """A line for each skipped picture and each failure."""
        skipped = [f"{name} was skipped: {reason}" for name, reason in self.skipped]
        return skipped + [
            f"{method} failed on {name}: {reason}" for name, method, reason in self.failures
        ]

    def markdown(self) -> str:
        """Return the table in markdown, with title, notes and problems."""
        text = f"## {_in_markdown(self.title)}\n\n{_in_markdown(self.lead)}\n\n"
        text += f"{scores.table(self.by_method())}\n"
        text += " ".join(_in_markdown(note) for note in self.notes) + "\n"
        problems = "".join(f"- {_in_markdown(line)}\n" for line in self.problems)
        return text + (
            f"\n{len(self.problems)} skipped or failed:\n\n{problems}" if problems else ""
        )

    def plain(self) -> dict[str, Any]:
        """Return the results for JSON; runs differ in ``seconds`` and ``memory`` only."""
        return {
            **self.about,
            "notices": self.notices,
            "truth_consistency": self.truth_consistency,
            "means": {
                method: {
                    "pictures": len(of),
                    **{k: "inf" if v == float("inf") else v for k, v in scores.means(of).items()},
                }
                for method, of in self.by_method().items()
            },
            "pictures": [
                {
                    "name": picture.name,
                    "width": picture.size[0],
                    "height": picture.size[1],
                    "sha256": picture.sha256,
                    "truth_consistency": picture.truth_consistency,
                    "scores": {method: scores.plain(one) for method, one in picture.scores.items()},
                }
                for picture in self.pictures
            ],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "failures": [
                {"name": name, "method": m, "reason": reason} for name, m, reason in self.failures
            ],
        }

    def text(self) -> Text:
        """Return the text of the HTML report."""
        about = dict(self.about)
        versions = about.pop("versions")
        facts = {name.replace("_", " "): _shown(value) for name, value in about.items()}
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
        return Text(self.title, self.lead, facts, self.notes, self.problems)

    def write(self, outputs: Outputs) -> None:
        """Write the output files, each of them atomically.

        Raises:
            FileAccess: a file cannot be written.
        """
        if outputs.markdown:
            write_atomically(
                self.markdown().encode("utf-8", "replace"), outputs.markdown, outputs.overwrite
            )

        if outputs.json:
            text = json.dumps(self.plain(), indent=1, ensure_ascii=False, allow_nan=False)
            write_atomically(
                f"{text}\n".encode("utf-8", "replace"), outputs.json, outputs.overwrite
            )

        if outputs.report and self.page is not None:
            write_atomically(
                self.page.render(self.text(), self.by_method()), outputs.report, outputs.overwrite
            )

    def raise_for_failures(self) -> None:
        """Raise the error of an evaluation with failures.

        Raises:
            SomeFailed: a picture was skipped, or a method failed on one.
            KeyboardInterrupt: the evaluation was interrupted.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if self.skipped or self.failures:
            total = len(self.pictures) + len(self.skipped)
            names = [name for name, _ in self.skipped]
            parts = (
                [f"{len(names)} of {total} pictures skipped: {', '.join(names)}"] if names else []
            )
            if self.failures:
                parts.append(
                    f"{len(self.failures)} failures: "
                    + ", ".join(f"{m} on {n}" for n, m, _ in self.failures)
                )
            raise SomeFailed("; ".join(parts))


def _in_markdown(text: str) -> str:
    """Escape characters with a meaning in markdown or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text)


def _shown(value: Any) -> str:
    return (
        ", ".join(value)
        if isinstance(value, list)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )


def _noise(noise: float | Mapping[str, float]) -> str:
    """Return the added noise in words."""
    if isinstance(noise, Mapping):
        return f"of variance {noise['a']:.4g} x + {noise['b']:.4g}"
    return f"{noise:.4g}"
