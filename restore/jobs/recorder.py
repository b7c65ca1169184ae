"""What is told and recorded of each picture of a run, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.errors import FileAccess, FullDisk, SomeFailed
from restore.jobs.journal import Journal
from restore.jobs.picture import Ended, unexplained
from restore.jobs.plan import Job, Plan, redo
from restore.jobs.staging import Staged
from restore.messages import complain, put_json, say
from restore.methods.feed_forward import is_feed_forward
from restore.runtime.progress import Progress
from restore.text import visible

if TYPE_CHECKING:
    from restore.jobs.report_page import RunPage


class Recorder:
    """Reports and records the outcome of each picture of a plan.

    Args:
        plan: the plan of the run.
        tell: ``tell(target, record)`` is a line about a finished picture.
        overwrite: True to replace existing outputs.
        as_json: True to print a JSON object per picture on stdout.
        journal: records the pictures in the manifest.
        page: the HTML report.
        shown: names of paths in messages.
        wording: see `restore.jobs.request.Request`.
    """

    def __init__(
        self,
        plan: Plan,
        tell: Callable[[str, Mapping[str, Any]], str],
        *,
        overwrite: bool = False,
        as_json: bool = False,
        journal: Journal | None = None,
        page: RunPage | None = None,
        shown: Mapping[Path, str] | None = None,
        wording: Callable[[str], str] = str,
    ) -> None:
        self.plan = plan
        self.tell = tell
        self.overwrite = overwrite
        self.as_json = as_json
        self.journal = journal
        self.page = page
        self.shown = shown or {}
        self.wording = wording
        self.failures: list[str] = []
        self.progress: Progress | None = None

    def finished(self, job: Job, outcome: Ended | Exception) -> None:
        """Put the outputs of a job in place, and record the outcome.

        Raises:
            RestoreError: a single picture failed, the disk is full, or the manifest cannot be
                written.
        """
        if isinstance(outcome, Ended) and outcome.staged is not None:
            outcome = self._placed(job, outcome, outcome.staged)
        record = (
            self._failed(job, outcome)
            if isinstance(outcome, Exception)
            else self._done(job, outcome)
        )
        if self.as_json:
            put_json({**input_of(job, self._name(job.source)), **record})

    def _placed(self, job: Job, ended: Ended, staged: Staged) -> Ended | Exception:
        """Put the outputs of a picture in place, and return it, or the error of a file."""
        try:
            if self.journal is not None:
                self.journal.begin(job, ended, staged)
        except BaseException:
            staged.drop()
            raise

        try:
            staged.put_in_place(replace=self.overwrite or job.replaces)
        except FileAccess as error:
            return error
        return ended

    def _done(self, job: Job, ended: Ended) -> dict[str, Any]:
        done = ended.description
        if self.journal is not None:
            self.journal.finish(job)
        if self.page is not None and ended.drawn is not None:
            self.page.add(ended.drawn, done)
        if self.progress is not None:
            for note in done.get("notes", ()):
                self.progress.say(self.wording(f"{self._name(job.source)}: {note}"))
            self.progress.say(self.tell(self._name(job.target), done))

        return {"status": "done", **done}

    def _failed(self, job: Job, error: Exception) -> dict[str, Any]:
        if self.page is not None:
            self.page.fail(job, self.wording(str(error)) or type(error).__name__)
        if not self.plan.is_folder:
            raise error

        reason = self.wording(str(error)) or type(error).__name__
        if isinstance(error, FullDisk):
            raise FullDisk(
                f"{reason}; the run ends here, since no further picture could be written: make "
                "room and start again"
            ) from error
        self.failures.append(job.source_name)
        about = "" if visible(job.source_name) in reason else f"{job.source_name}: "
        complain(f"{about}{reason} (going on)")
        if self.journal is not None:
            self.journal.fail(job, reason)

        return {"status": "failed", "error": reason}

    def _name(self, path: Path) -> str:
        return self.shown.get(path, str(path))


def input_of(job: Job, name: str) -> dict[str, Any]:
    """Return the input of the JSON record of a job."""
    return {"input": name} if job.page is None else {"input": name, "page": job.page}


def summary(target: str, done: Mapping[str, Any]) -> str:
    """Return a line about a finished picture."""
    why = (
        "as the network gives it"
        if is_feed_forward(done["method"])
        else "are the assumed degradation and noise right?"
    )
    doubt = f" (this does not explain the input: {why})" if unexplained(done) else ""
    return (
        f"{target}: {done['width']}x{done['height']}, {done['method']}, "
        f"{_stages(done)}{done['steps']} step(s), noise {_noise(done)}, consistency "
        f"{done['consistency']:.5f}, {done['seconds']:.1f} s{doubt}"
    )


def _noise(done: Mapping[str, Any]) -> str:
    """Return the noise that was assumed, with its variance where that depends on the signal."""
    pairs = "".join(
        f" ({pair['a']:.3g} x + {pair['b']:.3g})" for pair in done.get("signal_noise", ())
    )
    return f"{done['noise']:.4f}{pairs}"


def _stages(done: Mapping[str, Any]) -> str:
    cascade = done["cascade"]
    return (
        ""
        if cascade is None
        else f"cascade {'x'.join(f'{factor:g}' for factor in cascade['factors'])}, "
    )


def finish(
    plan: Plan, failures: list[str], quiet: bool, wording: Callable[[str], str] = str
) -> None:
    """Tell what a run left as it was.

    Raises:
        SomeFailed: pictures of a folder failed.
    """
    if plan.left and not quiet:
        say(wording(f"{len(plan.left)} done before and left as they are ({redo(plan.left)})"))
    if not quiet:
        mention_passed_over(plan)
    raise_failures(plan, failures)


def raise_failures(plan: Plan, failures: list[str]) -> None:
    """Name the pictures of a folder that failed, if any.

    Raises:
        SomeFailed: some did.
    """
    if failures:
        raise SomeFailed(
            f"{len(failures)} of {len(plan.jobs)} pictures failed: {', '.join(failures)}"
        )


def mention_passed_over(plan: Plan) -> None:
    """Tell of the files of a folder that are no pictures."""
    if plan.passed_over:
        say(f"passed over: {plan.passed_over}")
