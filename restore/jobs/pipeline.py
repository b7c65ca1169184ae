"""A pipeline that reads and writes pictures while the network works."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar, TypeVarTuple

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")
Solved = TypeVar("Solved")
Done = TypeVar("Done")
Arguments = TypeVarTuple("Arguments")

# Number of groups that wait to be written, and of groups that are read ahead.
AHEAD = 1


@dataclass(frozen=True)
class Stages(Generic[Job, Loaded, Solved, Done]):
    """The stages of every job.

    Attributes:
        load: reads the input of a job.
        solve: takes the jobs of a group and their inputs, and returns a result or an error for
            each; an error that it raises counts for the whole group.
        write: writes the result of a job.
        finished: called in the order of the jobs with the value of ``write``, or the error of a
            stage; its own errors end the work.
        most: ``most(loaded)`` is the maximum size of a group that begins with this input.
        alike: ``alike(first, other)`` is True if an input belongs to the group of the first.
        abandon: called when the work ends early, to end what ``load`` waits for in its thread.
    """

    load: Callable[[Job], Loaded]
    solve: Callable[[Sequence[Job], Sequence[Loaded]], Sequence[Solved | Exception]]
    write: Callable[[Job, Solved], Done]
    finished: Callable[[Job, Done | Exception], None]
    most: Callable[[Loaded], int] = lambda loaded: 1
    alike: Callable[[Loaded, Loaded], bool] = lambda first, other: True
    abandon: Callable[[], None] = lambda: None


def work_through(jobs: Iterable[Job], stages: Stages[Job, Loaded, Solved, Done]) -> None:
    """Run all jobs through the stages, with loading and writing in parallel to solving.

    Loading has one thread, writing and ``finished`` another, and solving runs in the caller's.

    Raises:
        KeyboardInterrupt: after pending outputs are written and reported.
    """
    reading, writing = (ThreadPoolExecutor(1, name) for name in ("reading", "writing"))
    under_way: deque[Future[None]] = deque()
    ended = threading.Event()
    wanted = takewhile(lambda job: not ended.is_set(), jobs)
    together = groups(wanted, stages.load, stages.most, stages.alike)

    try:
        for group in _made_ahead(reading, together):
            under_way.append(
                writing.submit(_finish, stages, group, solve_group(stages.solve, group))
            )
            # what ends the work ends it before the next group is solved
            while len(under_way) > AHEAD or (under_way and under_way[0].done()):
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()
    except BaseException:
        ended.set()
        stages.abandon()
        raise
    finally:
        ended.set()
        reading.shutdown(cancel_futures=True)
        writing.shutdown()


def work_in_turn(jobs: Iterable[Job], stages: Stages[Job, Loaded, Solved, Done]) -> None:
    """Run all jobs through the stages in this thread, to free memory between stages."""

    def through(job: Job) -> Done:
        (solved,) = stages.solve([job], [stages.load(job)])
        if isinstance(solved, Exception):
            raise solved
        return stages.write(job, solved)

    for job in jobs:
        uninterrupted(stages.finished, job, _tried(through, job))


def uninterrupted(function: Callable[[*Arguments], Done], *arguments: *Arguments) -> Done:
    """Call a function that an interrupt does not reach; the interrupt comes when it has ended."""
    with ThreadPoolExecutor(1, "writing") as thread:
        return thread.submit(function, *arguments).result()


def groups(
    jobs: Iterable[Job],
    load: Callable[[Job], Loaded],
    most: Callable[[Loaded], int],
    alike: Callable[[Loaded, Loaded], bool],
) -> Iterator[Sequence[tuple[Job, Loaded | Exception]]]:
    """Yield groups of consecutive jobs with their inputs, or an error as a group of its own.

    Args:
        jobs: the jobs in order.
        load: see `Stages`.
        most: see `Stages`.
        alike: see `Stages`.
    """
    group: list[tuple[Job, Loaded]] = []
    for job in jobs:
        loaded = _tried(load, job)
        if group and (isinstance(loaded, Exception) or not alike(group[0][1], loaded)):
            yield group
            group = []
        if isinstance(loaded, Exception):
            yield [(job, loaded)]
            continue

        group.append((job, loaded))
        if len(group) == 1:
            size = most(loaded)
        if len(group) >= size:
            yield group
            group = []

    if group:
        yield group


def solve_group(
    solve: Callable[[Sequence[Job], Sequence[Loaded]], Sequence[Solved | Exception]],
    group: Sequence[tuple[Job, Loaded | Exception]],
) -> Sequence[Solved | Exception]:
    """Return the result of each job of a group, or its error."""
    jobs, loaded = zip(*group, strict=True)
    if isinstance(loaded[0], Exception):
        return loaded
    found = _tried(solve, jobs, loaded)
    return [found] * len(jobs) if isinstance(found, Exception) else found


def _made_ahead(thread: ThreadPoolExecutor, items: Iterator[Loaded]) -> Iterator[Loaded]:
    """Yield items, each made in a thread while the one before is used."""
    coming = thread.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = thread.submit(next, items, None)
        yield item


def _finish(
    stages: Stages[Job, Loaded, Solved, Done],
    group: Sequence[tuple[Job, Loaded | Exception]],
    solved: Sequence[Solved | Exception],
) -> None:
    for (job, _loaded), one in zip(group, solved, strict=True):
        stages.finished(job, one if isinstance(one, Exception) else _tried(stages.write, job, one))


def _tried(function: Callable[[*Arguments], Done], *arguments: *Arguments) -> Done | Exception:
    """Return the value of a function, or the error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
