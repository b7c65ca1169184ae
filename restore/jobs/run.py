"""A run of a task: plan, load the model, restore every picture, report and record it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.files import Fingerprint, remove_leftovers
from restore.findings.finding import Finding
from restore.jobs.batches import Batches
from restore.jobs.companions import Companions
from restore.jobs.dry_run import tell
from restore.jobs.folder_lock import alone_in_folder
from restore.jobs.journal import Journal, SharedFiles, has_changed
from restore.jobs.manifest import Manifest, State
from restore.jobs.picture import Ended, Loaded, Work
from restore.jobs.pipeline import Stages, work_in_turn, work_through
from restore.jobs.plan import Job, Plan, Wanted, folder_of, plan_run
from restore.jobs.ray_engine import Model, work_through_on_ray
from restore.jobs.recorder import Recorder, finish, summary
from restore.jobs.request import Request, start_file
from restore.jobs.watch import Watch
from restore.messages import say
from restore.methods.feed_forward import check_file, short_name
from restore.methods.report import Result
from restore.photo.apart import decoding_apart, end_decoding
from restore.photo.photograph import SUFFIXES
from restore.photo.raws import RAW_SUFFIXES
from restore.restorer import Restorer, examine, model_digest
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress

if TYPE_CHECKING:
    from restore.jobs.report_page import RunPage

# Seconds between two scans of a watched folder.
LOOK_SECONDS = 2.0


class Run:
    """The run of one request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.work = Work(
            request.task,
            request.options,
            request.output,
            request.overwrite,
            request.allow_truncated,
        )
        folders = folder_of(request.source, request.target, request.task.name)
        self.root = None if folders is None else folders[0]
        part = request.shard.part if request.shard else ""
        self.manifest = None if folders is None else Manifest(folders[1], part)
        self._has_waited = False
        # True if other runs have done what is in the plan
        self._is_outdated = False
        self._mention_odd_lines()

    def go(self) -> None:
        """Restore all pictures, or watch the folder for new ones.

        Raises:
            RestoreError: with its exit code; `SomeFailed` if pictures of a folder failed.
        """
        request = self.request
        if request.watch:
            self._watch()
            return

        try:
            plan = self.plan()
        except NothingToDo:
            self._tidy()
            raise
        if request.report is not None:
            from restore.jobs.report_page import check_report

            check_report(request.report, plan, request.overwrite)
        if request.dry_run:
            tell(plan, request, self._examined)
            return

        with self._alone():
            plan = self.plan() if self._is_outdated else plan
            failures = self._through(plan)
        finish(plan, failures, request.quiet, request.wording)

    def plan(self) -> Plan:
        """Return the plan, see `plan_run`."""
        request = self.request
        wanted = Wanted(
            Companions(self._companions, needed=request.task.takes_companion),
            request.overwrite,
            request.resume,
            request.options.samples,
            request.compare,
            request.output,
            request.files_from,
            request.shard,
            self._state,
            request.pages,
            kernels=request.task.writes_kernel,
            found_masks=request.task.finds_mask,
            starts=Companions(start_file(request.options), "start"),
            reads_measurements=request.task.takes_measurements,
            suffixes=RAW_SUFFIXES if request.task.takes_raws else SUFFIXES,
        )
        with decoding_apart(request.pages and self.root is not None):
            return plan_run(request.source, request.target, request.task.name, wanted)

    @property
    def _companions(self) -> Path | None:
        """File or folder of the companions of the task."""
        task = self.request.task
        return getattr(task, str(task.companion)) if task.takes_companion else None

    @contextmanager
    def _alone(self, *, wait: bool = True) -> Iterator[bool]:
        """Keep other runs out of the output folder; yield False if one is there and not waited for.

        What a killed run has begun is finished first, and what it left is removed.

        Args:
            wait: True to wait for the end of another run.
        """
        manifest = self.manifest
        if manifest is None:
            yield True
            return

        with alone_in_folder(manifest.journal, self._mention_wait if wait else None) as is_alone:
            if is_alone:
                self._is_outdated = manifest.refresh() | manifest.settle()
                remove_leftovers(manifest.folder, manifest.foreign_temporaries())
            try:
                yield is_alone
            finally:
                if is_alone:
                    manifest.close()

    def _mention_wait(self) -> None:
        if not self._has_waited and self.manifest is not None:
            place = self.manifest.folder
            self._notice(f"another run is at work in {place}; waiting for its end")
        self._has_waited = True

    def _tidy(self) -> None:
        """Remove what a killed run has left, unless another run is at work."""
        exists = self.manifest is not None and self.manifest.folder.is_dir()
        if exists and not self.request.dry_run:
            with suppress(FileAccess), self._alone(wait=False):
                pass

    @cached_property
    def restorer(self) -> Restorer:
        """The model, loaded at first use."""
        request = self.request
        model = self._digest if self.manifest is not None else None
        shared = self._shared
        keep_freed_memory()
        restorer = Restorer(
            request.model,
            request.device,
            tile=request.tile,
            memory=request.memory,
            notice=self._notice,
        )
        restorer.prepare(request.task, request.options)
        if model is not None and model_digest(request.model) != model:
            raise has_changed(request.model)
        shared.check()

        return restorer

    def _notice(self, text: str) -> None:
        if not self.request.quiet:
            self._say(f"restore: {text}")

    def _say(self, text: str) -> None:
        say(self.request.wording(text))

    @cached_property
    def _digest(self) -> str:
        return model_digest(self.request.model)

    @cached_property
    def _shared(self) -> SharedFiles:
        """Feed-forward networks, and the kernels and masks that the options of the task name.

        They matter to the manifest alone.
        """
        if self.manifest is None:
            return SharedFiles([])
        networks = [check_file(network) for network in self.request.options.networks]
        return SharedFiles([*self.request.task.files, *networks])

    def _check_shared(self) -> None:
        """Check that the files that all pictures share are those that the manifest names.

        Raises:
            FileAccess: one has changed.
        """
        self._shared.check()
        # the workers of a cluster load it later
        if self.request.cluster is not None and model_digest(self.request.model) != self._digest:
            raise has_changed(self.request.model)

    def _decides(self, job: Job, used: Mapping[str, str]) -> dict[str, Any]:
        """Return everything that decides the result of a picture, for the manifest."""
        request = self.request
        files = self._shared.digests
        count = len(request.task.files)
        return {
            "task": request.task.name,
            "arguments": request.task.given(),
            **asdict(request.options),
            "model": self._digest,
            "output": asdict(request.output),
            **({"allow_truncated": True} if request.allow_truncated else {}),
            "mask": used.get("mask"),
            **({"files": files[:count]} if files[:count] else {}),
            **({"start": used["start"]} if "start" in used else {}),
            **({"networks": files[count:]} if files[count:] else {}),
        }

    def _state(self, job: Job) -> State:
        if self.manifest is None or self.root is None:
            return "unknown"
        companions = {"mask": job.companion, "start": job.start}
        used = {k: Fingerprint.of(path).sha256 for k, path in companions.items() if path}
        return self.manifest.state(job.below(self.root), job.source, self._decides(job, used))

    def _examined(self, job: Job) -> tuple[Finding, ...]:
        """Return what the picture of a job shows, if the task depends on it."""
        if not self.request.task.examines:
            return ()
        return examine(self.work.load(job).picture)

    def _watch(self) -> None:
        if self.root is None:
            raise BadArgument(f"`watch`: is for a folder, and {self.request.source} is a file")

        watch = Watch()
        told = self.request.quiet

        while True:
            try:
                plan = self.plan()
            except NothingToDo:
                plan = None
            if not told:
                say(f"watching {self.request.source}; Ctrl-C ends")
                told = True
            if plan is not None:
                self._restore_settled(plan, set(watch.settled(job.source for job in plan.jobs)))
            time.sleep(LOOK_SECONDS)

    def _restore_settled(self, plan: Plan, settled: set[Path]) -> None:
        """Restore pictures that have stopped changing."""
        if not settled:
            return
        with self._alone(), suppress(NothingToDo):  # another run has done them
            plan = self.plan() if self._is_outdated else plan
            if jobs := [job for job in plan.jobs if job.source in settled]:
                self._through(replace(plan, jobs=jobs))

    def _through(self, plan: Plan) -> list[str]:
        """Restore every picture of a plan, those of a folder decoded apart.

        Returns:
            The names of pictures of a folder that failed.

        Raises:
            Exception: the error of a single picture.
        """
        apart = plan.is_folder and self.request.cluster is None
        with decoding_apart(apart, keep=self.request.watch):
            return self._all_through(plan)

    def _all_through(self, plan: Plan) -> list[str]:
        if self.request.cluster is not None:
            _ = self._digest, self._shared  # what is missing fails before a cluster is started

        self._mention_borders(plan)
        page, writing = self._page(plan)
        request = self.request
        journal = None
        if self.manifest is not None:
            journal = Journal(self.manifest, plan.name, self._decides, self._check_shared)
        recorder = Recorder(
            plan,
            summary,
            overwrite=request.overwrite,
            as_json=request.as_json,
            journal=journal,
            page=page,
            shown=request.shown,
            wording=request.wording,
        )
        samples = request.options.samples
        if request.cluster is None:
            _ = self.restorer  # loaded before the progress bar begins

        with writing, Progress(len(plan.jobs), samples, quiet=request.quiet) as progress:
            recorder.progress = progress
            if request.cluster is None:
                self._here(plan, recorder, progress)
            else:
                model = Model(request.model, request.device, request.tile, request.memory)
                draw = None if page is None else page.artist.elsewhere()
                work_through_on_ray(
                    plan.jobs,
                    self.work,
                    model,
                    request.cluster,
                    recorder.finished,
                    batch=request.batch,
                    draw=draw,
                )

        return recorder.failures

    def _here(self, plan: Plan, recorder: Recorder, progress: Progress) -> None:
        """Restore every picture in this process."""
        page = recorder.page
        batches = Batches(self.work, self.restorer, self.request.batch, progress, self._notice)

        def write(job: Job, solved: tuple[Loaded, Result]) -> Ended:
            return self.work.write(job, *solved, None if page is None else page.artist)

        through = work_in_turn if len(plan.jobs) == 1 else work_through
        stages = Stages(
            self.work.load,
            batches.solve,
            write,
            recorder.finished,
            batches.most,
            batches.alike,
            end_decoding,
        )
        through(plan.jobs, stages)

    def _page(self, plan: Plan) -> tuple[RunPage | None, AbstractContextManager[None]]:
        request = self.request
        if request.report is None:
            return None, nullcontext()

        from restore.jobs.report_page import RunPage, place_here, settings

        given = {**request.task.given(), **vars(request.options), **vars(request.output)}
        if self._companions is not None:
            given[str(request.task.companion)] = self._companions.name
        given["method"] = short_name(request.options.method)
        start = request.options.start
        if isinstance(start, str):
            file = start_file(request.options)
            given["start"] = short_name(start) if file is None else file.name

        sizes = {"tile": request.tile, "memory": request.memory, "batch": request.batch}
        if request.cluster is None:
            model = self.restorer.model
            place = place_here(self.restorer.device, self.restorer.dtype)
        else:
            model = request.model
            place = {"device": str(request.cluster)}

        about = settings(request.task.name, {**given, **sizes}, model, place)
        page = RunPage(plan, plan.root, about)

        return page, page.written(request.report, request.overwrite)

    def _mention_odd_lines(self) -> None:
        """Warn of lines of the manifest that cannot be read."""
        odd = [] if self.manifest is None else self.manifest.odd
        if odd:
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            self._notice(f"{odd[0]}{more}: cannot be read as the record of a picture; passed over")

    def _mention_borders(self, plan: Plan) -> None:
        """Warn if the border of a blur is assumed to be mirrored, which no photograph has."""
        blurs = [] if self.request.quiet else self.request.task.assumed_borders
        if blurs and any(job.source.suffix.lower() not in (".npz", ".npy") for job in plan.jobs):
            taken = f"the border of {' and '.join(blurs)} is taken for mirrored"
            say(f"restore: {taken}; boundary=unknown suits a photograph")
