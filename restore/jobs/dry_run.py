"""What a run would do, and what its pictures show, without restoring any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from restore.errors import RestoreError
from restore.findings.finding import Finding
from restore.jobs.plan import Job, Plan, redo
from restore.jobs.recorder import input_of, mention_passed_over, raise_failures
from restore.jobs.request import Request
from restore.messages import complain, put, put_json, say
from restore.photo.apart import decoding_apart


def tell(plan: Plan, request: Request, examined: Callable[[Job], tuple[Finding, ...]]) -> None:
    """Print a plan.

    Args:
        plan: the plan.
        request: what was asked for.
        examined: returns what the picture of a job shows; it may read its file.

    Raises:
        RestoreError: the only picture cannot be read.
        SomeFailed: pictures of a folder cannot be read.
    """
    failures = []
    with decoding_apart(plan.is_folder and request.task.examines):
        for job in plan.jobs:
            try:
                findings = examined(job)
            except RestoreError as error:
                if not plan.is_folder:
                    raise
                _tell_failure(job, request.wording(str(error)), request.as_json)
                failures.append(job.source_name)
            else:
                _tell_job(job, findings, request.as_json)

    if not request.quiet:
        readable = len(plan.jobs) - len(failures)
        unread = f", {len(failures)} that cannot be read" if failures else ""
        left = f", {len(plan.left)} done before ({redo(plan.left)})" if plan.left else ""
        said = f"{readable} to restore{unread}{left}; nothing was done (`dry_run`)"
        say(request.wording(said))
        mention_passed_over(plan)
    raise_failures(plan, failures)


def _tell_job(job: Job, findings: tuple[Finding, ...], as_json: bool) -> None:
    if as_json:
        found = {"findings": [asdict(one) for one in findings]} if findings else {}
        planned = {"status": "planned", "outputs": [str(job.target)]}
        put_json({**input_of(job, str(job.source)), **planned, **found})
        return

    put(f"{job.source_name} -> {job.target}")
    for one in findings:
        put(f"  {one.words}")


def _tell_failure(job: Job, reason: str, as_json: bool) -> None:
    complain(f"{reason} (going on)")
    if as_json:
        put_json({**input_of(job, str(job.source)), "status": "failed", "error": reason})
