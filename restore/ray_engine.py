"""The same folder run on a Ray cluster: pictures are read and written by tasks, models live in actors.

Ray Data moves the rows and holds back what would not fit its memory. Inputs and outputs are files that every machine
sees under the same path. The manifest is written where the command runs, as rows come back, so a run that was ended
goes on where it was, on the cluster or without it.
"""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.errors import BadArgument, RestoreError, Unavailable
from restore.feed_forward import PREFIX, is_feed_forward
from restore.folder import Job
from restore.picture_file import Ended, Work

if TYPE_CHECKING:
    from restore.restorer import Restorer

Row = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """What a run takes of a Ray cluster.

    Attributes:
        address: of a cluster that is there, as for ``ray.init``; None is ``RAY_ADDRESS``, or this machine alone.
        workers: how many models.
        cpus, gpus: that each of them has to itself; on the CPU it computes with so many threads.

    Raises:
        BadArgument: a number that is not possible.
    """

    address: str | None = None
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise BadArgument(f"--workers {self.workers}: must be at least 1")
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if not 0 <= value < 10_000:
                raise BadArgument(f"--worker-{name} {value:g}: must be at least 0")
        if not self.cpus and not self.gpus:
            raise BadArgument("--worker-cpus 0 and --worker-gpus 0: a worker needs something to compute with")


@dataclass(frozen=True)
class Model:
    """How each worker loads its model, see `restore.restorer.Restorer`."""

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
) -> None:
    """Take every job through its stages on the cluster.

    Args:
        finished: called here with what each job came to, in the order in which they end.

    Raises:
        RestoreError: Ray is not installed, there is no cluster at the address, or a worker has no model that suits.
    """
    ray = _ray()
    _connect(ray, cluster)
    try:
        sent = [_absolute(job) for job in jobs]
        for row in _rows(ray, sent, _elsewhere(work), model, cluster):
            job, name = jobs[row["index"]], sent[row["index"]]
            ended = pickle.loads(row["value"])
            if isinstance(ended, _NoModel):
                raise ended.args[0]
            finished(job, _as_asked(ended, name, job))
    finally:
        ray.shutdown()


class _Stage(ABC):
    """A stage whose errors travel along as values."""

    def __call__(self, row: Row) -> Row:
        value = pickle.loads(row["value"])
        if not isinstance(value, Exception):
            try:
                value = self.through(value)
            except Exception as error:
                value = _as_travels(error)
        return {"index": row["index"], "value": pickle.dumps(value)}

    @abstractmethod
    def through(self, value: Any) -> Any:
        """What the stage makes of what the one before made."""


class _Read(_Stage):
    def __init__(self, work: Work) -> None:
        self.work = work

    def through(self, job: Job) -> Any:
        return job, self.work.load(job)


class _NoModel(Exception):
    """Around the error that keeps a worker from restoring any picture."""


class _Restore(_Stage):
    """An actor, with its own model, which it makes with its first picture.

    Ray Data constructs in another thread than it calls in. OpenMP would have threads for each of the two, more than the
    actor has processors, and then lets them sleep between loops: a third of the time of small pictures.
    """

    def __init__(self, work: Work, model: Model) -> None:
        self.work, self.model = work, model

    def through(self, value: Any) -> Any:
        job, loaded = value
        return job, loaded, self.work.solve(self.restorer, loaded)

    @cached_property
    def restorer(self) -> Restorer:
        from restore.devices import keep_freed_memory
        from restore.restorer import Restorer

        keep_freed_memory()
        try:
            restorer = Restorer(self.model.name, self.model.device, tile=self.model.tile, memory=self.model.memory)
            restorer.prepare(self.work.task, self.work.options)
        except RestoreError as error:
            raise _NoModel(error) from error
        return restorer


class _Write(_Stage):
    def __init__(self, work: Work) -> None:
        self.work = work

    def through(self, value: Any) -> Any:
        job, loaded, result = value
        return Ended(loaded.fingerprint, self.work.write(job, loaded, result))


def _rows(ray: Any, jobs: Sequence[Job], work: Work, model: Model, cluster: Cluster) -> Any:
    import ray.data as data

    data.DataContext.get_current().enable_progress_bars = False
    items = [{"index": index, "value": pickle.dumps(job)} for index, job in enumerate(jobs)]
    rows = data.from_items(items, override_num_blocks=len(items))
    actors = data.ActorPoolStrategy(size=cluster.workers)
    # Reading and writing wait for disks more than they compute.
    rows = rows.map(_read, fn_kwargs={"work": work}, num_cpus=0.25)
    rows = rows.map(
        _Restore,
        fn_constructor_kwargs={"work": work, "model": model},
        compute=actors,
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
    )
    return rows.map(_write, fn_kwargs={"work": work}, num_cpus=0.25).iter_rows()


def _read(row: Row, work: Work) -> Row:
    return _Read(work)(row)


def _write(row: Row, work: Work) -> Row:
    return _Write(work)(row)


def _as_travels(error: Exception) -> Exception:
    """The error itself, or its text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _absolute(job: Job) -> Job:
    """For machines with another working folder."""
    paths: Mapping[str, Path | None] = {
        name: getattr(job, name) for name in ("source", "target", "mask", "measurement", "comparison", "start")
    }
    return replace(job, **{name: None if path is None else Path(os.path.abspath(path)) for name, path in paths.items()})


def _elsewhere(work: Work) -> Work:
    """With the files of networks as absolute paths."""
    texts = {"method": work.options.method, "start": work.options.start}
    found = {k: PREFIX + os.path.abspath(t.removeprefix(PREFIX)) for k, t in texts.items() if t and is_feed_forward(t)}
    return replace(work, options=replace(work.options, **found))


def _as_asked(ended: Ended | Exception, sent: Job, job: Job) -> Ended | Exception:
    """With the paths that the user gave."""
    if isinstance(ended, RestoreError):
        return type(ended)(str(ended).replace(str(sent.source), str(job.source)))
    if isinstance(ended, Exception):
        return ended
    outputs = [str(job.target.parent / Path(path).name) for path in ended.description["outputs"]]
    return ended._replace(description={**ended.description, "outputs": outputs})


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it runs
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Unavailable(f"--engine ray: {error}; pip install 'restore-diffusion[ray]' brings it") from None
    return ray


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    known = cluster.address or os.environ.get("RAY_ADDRESS")
    options = {"address": known, "log_to_driver": False, "logging_level": "ERROR"} if known else quiet
    if not known:
        options["num_cpus"] = max(os.cpu_count() or 1, round(cluster.workers * cluster.cpus + 1))
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(f"--ray-address {cluster.address or ''}: no cluster there: {error}") from None
