"""Folder runs on a Ray cluster, with tasks that read and write pictures and actors with models.

Ray Data moves the rows and limits their memory. Inputs and outputs are files that all machines see
under the same path. The manifest is written where the command runs, as rows come back, so that an
interrupted run resumes on the cluster or without it.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, overload

from restore.errors import BadArgument, RestoreError, Unavailable
from restore.jobs.batches import Batches
from restore.jobs.picture import Draw, Ended, Loaded, Work
from restore.jobs.pipeline import groups, solve_group, uninterrupted
from restore.jobs.plan import Job
from restore.methods.feed_forward import PREFIX, is_feed_forward
from restore.photo.apart import decoding_apart
from restore.restorer import Restorer, Result
from restore.runtime.devices import keep_freed_memory
from restore.runtime.progress import Progress
from restore.text import visible

# ``index`` of a job, and a pickled ``value``: the job, the output of a stage, or an error.
Row = dict[str, Any]

# Maximum number of pictures per call of an actor, since a call costs some hundredths of a second
# and a GPU restores small pictures in batches; fewer if the last calls would leave actors idle.
AT_ONCE = 8


@dataclass(frozen=True)
class Cluster:
    """Resources of a run on a Ray cluster.

    Attributes:
        address: address of a running cluster, as for ``ray.init``; None is ``RAY_ADDRESS``, or this
            machine alone.
        workers: number of models.
        cpus: CPUs per model, which is also its number of threads.
        gpus: GPUs per model.

    Raises:
        BadArgument: a number out of range.
    """

    address: str | None = None
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise BadArgument(f"`workers`={self.workers}: must be at least 1")

        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if not 0 <= value < 10_000:
                raise BadArgument(f"`worker_{name}`={value:g}: must be at least 0")

        if not self.cpus and not self.gpus:
            raise BadArgument(
                "`worker_cpus`=0 and `worker_gpus`=0: a worker needs something to compute with"
            )

    def __str__(self) -> str:
        """Return a description for a report."""
        where = "Ray" if self.address is None else f"the Ray cluster {self.address}"
        return (
            f"{self.workers} worker(s) of {where} with {self.gpus:g} GPU(s) and {self.cpus:g} "
            "processor(s) each"
        )


@dataclass(frozen=True)
class Model:
    """Arguments of the `restore.restorer.Restorer` of each worker.

    Attributes:
        name: name or path of the model.
        device: name of the device.
        tile: side of a tile in pixels.
        memory: memory to use on the device.
    """

    name: str
    device: str
    tile: int | None = None
    memory: str | None = None


def work_through_on_ray(
    jobs: Sequence[Job],
    work: Work,
    model: Model,
    cluster: Cluster,
    finished: Callable[[Job, Ended | Exception], None],
    *,
    batch: int | None = None,
    draw: Draw | None = None,
) -> None:
    """Run all jobs through the stages on a cluster.

    Args:
        jobs: the jobs.
        work: the work on every picture.
        model: the model of each worker.
        cluster: resources of the run.
        finished: called here with the outcome of each job, in the order of completion.
        batch: maximum batch size; None is what suits the device.
        draw: draws the part of each picture in a report, on the machine that writes it.

    Raises:
        RestoreError: Ray is not installed, there is no cluster at the address, or a worker cannot
            load the model.
    """
    ray = _ray()
    _connect(ray, cluster)
    try:
        sent = [_absolute(job) for job in jobs]
        for row in _rows(ray, sent, Order(_elsewhere(work), model, batch, draw), cluster):
            job = jobs[row["index"]]
            name = sent[row["index"]]
            ended = pickle.loads(row["value"])
            if isinstance(ended, _NoModel):
                raise ended.args[0]
            uninterrupted(finished, job, _as_asked(ended, name, job))
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Order:
    """The stages on the cluster, which pass errors on as values.

    Attributes:
        work: see `work_through_on_ray`.
        model: see `work_through_on_ray`.
        batch: see `work_through_on_ray`.
        draw: see `work_through_on_ray`.
    """

    work: Work
    model: Model
    batch: int | None = None
    draw: Draw | None = None

    def read(self, row: Row) -> Row:
        """Map a job to the job and its input, decoded apart: Ray would read a whole block again."""
        with decoding_apart(keep=True):
            return _through(lambda job: (job, self.work.load(job)), row)

    def write(self, row: Row) -> Row:
        """Map a job, its input and its result to the outcome."""

        def written(solved: tuple[Job, Loaded, Result]) -> Ended:
            return self.work.write(*solved, self.draw)

        return _through(written, row)


class _NoModel(Exception):
    """Wraps the error of a worker that cannot load the model."""


@dataclass(frozen=True)
class _Read:
    """A row that was read without error.

    Attributes:
        index: index of the job.
        job: the job.
        loaded: its input.
    """

    index: int
    job: Job
    loaded: Loaded


class Actor:
    """Restores pictures with its own model, which it loads with the first picture.

    Ray Data may construct an actor in another thread than it calls it in. OpenMP would then have
    threads for both, more than the CPUs of the actor, and let them sleep between loops, which takes
    a third of the time of small pictures.
    """

    def __init__(self, order: Order) -> None:
        self.order = order

    def __call__(self, table: Any) -> Iterator[dict[str, list[Any]]]:
        """Restore the rows of an Arrow table, and yield each as a table once it is restored."""
        columns = zip(table["index"], table["value"], strict=True)
        for row in self.restored(
            {"index": index.as_py(), "value": value.as_py()} for index, value in columns
        ):
            yield {name: [value] for name, value in row.items()}

    def restored(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield job, input and result of rows that were read, in the order of completion."""
        read = []
        for row in rows:
            value = pickle.loads(row["value"])
            if isinstance(value, Exception):
                yield row
            else:
                read.append(_Read(row["index"], *value))

        try:
            yield from self._solved(read) if read else ()
        except _NoModel as error:
            yield from (_packed(one.index, error) for one in read)

    def _solved(self, read: list[_Read]) -> Iterator[Row]:
        most = self.batches.most
        alike = self.batches.alike
        # pictures of one size are consecutive
        read.sort(key=lambda one: tuple(one.loaded.picture.shape))

        for group in groups(read, attrgetter("loaded"), most, alike):
            for (one, _), result in zip(group, solve_group(self._solve, group), strict=True):
                if isinstance(result, Exception):
                    yield _packed(one.index, _as_travels(result))
                else:
                    yield _packed(one.index, (one.job, *result))

    @cached_property
    def batches(self) -> Batches:
        return Batches(
            self.order.work,
            self._restorer(),
            self.order.batch,
            Progress(1, quiet=True),
            warnings.warn,
        )

    def _solve(
        self, read: Sequence[_Read], loaded: Sequence[Loaded]
    ) -> list[tuple[Loaded, Result] | Exception]:
        return self.batches.solve([one.job for one in read], loaded)

    def _restorer(self) -> Restorer:
        keep_freed_memory()
        model = self.order.model
        work = self.order.work

        try:
            restorer = Restorer(model.name, model.device, tile=model.tile, memory=model.memory)
            restorer.prepare(work.task, work.options)
        except RestoreError as error:
            raise _NoModel(error) from error

        return restorer


def _rows(ray: Any, jobs: Sequence[Job], order: Order, cluster: Cluster) -> Any:
    import ray.data as data

    # the run reports its own progress
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    # polling would scan all memory of an actor each second
    context.memory_usage_poll_interval_s = None
    # finished rows go on at once
    context.target_max_block_size = 1

    together = order.batch or max(1, min(AT_ONCE, len(jobs) // (4 * cluster.workers)))
    items = [_packed(index, job) for index, job in enumerate(jobs)]
    rows: data.Dataset = data.from_items(items, override_num_blocks=-(-len(jobs) // together))
    # reading and writing wait for disks more than they compute
    rows = rows.map(order.read, num_cpus=0.25)
    rows = rows.map_batches(
        Actor,
        fn_constructor_kwargs={"order": order},
        batch_size=together,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=cluster.workers),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
    )

    return rows.map(order.write, num_cpus=0.25).iter_rows()


def _packed(index: int, value: Any) -> Row:
    return {"index": index, "value": pickle.dumps(value)}


def _through(stage: Callable[[Any], Any], row: Row) -> Row:
    """Apply a stage to the value of a row; errors pass through."""
    value = pickle.loads(row["value"])
    if isinstance(value, Exception):
        return row

    try:
        return _packed(row["index"], stage(value))
    except Exception as error:
        return _packed(row["index"], _as_travels(error))


def _as_travels(error: Exception) -> Exception:
    """Return an error that can be pickled, with the text of the original."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _absolute(job: Job) -> Job:
    """Return the job with absolute paths, for machines with another working folder."""
    return replace(
        job,
        source=_absolute_path(job.source),
        target=_absolute_path(job.target),
        companion=_absolute_path(job.companion),
        measurement=_absolute_path(job.measurement),
        comparison=_absolute_path(job.comparison),
        kernel=_absolute_path(job.kernel),
        mask=_absolute_path(job.mask),
        start=_absolute_path(job.start),
    )


@overload
def _absolute_path(path: Path) -> Path: ...
@overload
def _absolute_path(path: None) -> None: ...
def _absolute_path(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path))


def _elsewhere(work: Work) -> Work:
    """Return the work with absolute paths of network files."""
    options = work.options
    method = _absolute_network(options.method)
    start = _absolute_network(options.start) if isinstance(options.start, str) else options.start
    return replace(work, options=replace(options, method=method, start=start))


def _absolute_network(name: str) -> str:
    """Return ``spandrel:FILE`` with an absolute path; other names are unchanged."""
    return PREFIX + os.path.abspath(name.removeprefix(PREFIX)) if is_feed_forward(name) else name


def _as_asked(ended: Ended | Exception, sent: Job, job: Job) -> Ended | Exception:
    """Return the outcome with the paths of the user."""
    if isinstance(ended, RestoreError):
        return type(ended)(str(ended).replace(visible(str(sent.source)), str(job.source)))
    if isinstance(ended, Exception):
        return ended
    outputs = [str(job.target.parent / Path(path).name) for path in ended.description["outputs"]]
    return ended._replace(description={**ended.description, "outputs": outputs})


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Unavailable(
            f"`engine`=ray: {error}; pip install 'restore-diffusion[ray]' brings it"
        ) from None

    return ray


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    known = cluster.address or os.environ.get("RAY_ADDRESS")
    options = (
        {"address": known, "log_to_driver": False, "logging_level": "ERROR"} if known else quiet
    )
    if not known:
        options["num_cpus"] = max(os.cpu_count() or 1, round(cluster.workers * cluster.cpus + 1))

    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
        _keep_handler(before)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"`ray_address`={cluster.address or ''}: no cluster there: {error}"
        ) from None


def _keep_handler(before: Any) -> None:
    """Have SIGTERM do what it did before Ray took it, if this is the main thread."""
    with suppress(ValueError, TypeError):
        signal.signal(signal.SIGTERM, before)
