"""Many pictures through one network: the next are read and the last are written while the network
works.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar

Job, Loaded, Solved, Done = (TypeVar(name) for name in ("Job", "Loaded", "Solved", "Done"))

AHEAD = 1
"""Groups of pictures that wait to be written; as many are read before their turn."""


@dataclass(frozen=True)
class Stages(Generic[Job, Loaded, Solved, Done]):
    """What happens to every job.

    Attributes:
        load: makes of a job what can be solved.
        solve: takes the jobs of a group and what was loaded for each; answers for each with what
            came of it, or with an error. An error that it raises is that of all.
        write: takes a job and what came of it.
        finished: called in the order of the jobs with what ``write`` returned, or with the error
            that a stage raised; an error of its own ends the work.
        most: how many jobs a group has at most, by what was loaded for its first one.
        alike: whether what was loaded for another job goes into the group of the first.
    """

    load: Callable[[Job], Loaded]
    solve: Callable[[Sequence[Job], Sequence[Loaded]], Sequence[Solved | Exception]]
    write: Callable[[Job, Solved], Done]
    finished: Callable[[Job, Done | Exception], None]
    most: Callable[[Loaded], int] = lambda loaded: 1
    alike: Callable[[Loaded, Loaded], bool] = lambda first, other: True


def work_through(jobs: Iterable[Job], stages: Stages[Job, Loaded, Solved, Done]) -> None:
    """Take every job through its stages: the next group is loaded and the last one written while
    one is solved.

    Loading has a thread, writing and ``finished`` another one, solving is in this one.

    Raises:
        KeyboardInterrupt: when what was being written is written and reported.
    """
    reading, writing = (ThreadPoolExecutor(1, name) for name in ("reading", "writing"))
    under_way: deque[Future[None]] = deque()
    ended = threading.Event()
    wanted = takewhile(lambda job: not ended.is_set(), jobs)

    try:
        for group in _made_ahead(reading, groups(wanted, stages.load, stages.most, stages.alike)):
            under_way.append(
                writing.submit(_finish, stages, group, solve_group(stages.solve, group))
            )
            while len(under_way) > AHEAD:
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()
    finally:
        ended.set()
        reading.shutdown(cancel_futures=True)
        writing.shutdown()


def work_in_turn(jobs: Iterable[Job], stages: Stages[Job, Loaded, Solved, Done]) -> None:
    """The same in this thread alone, one after the other: memory that one stage frees is there for
    the next.
    """

    def through(job: Job) -> Done:
        (solved,) = stages.solve([job], [stages.load(job)])
        if isinstance(solved, Exception):
            raise solved
        return stages.write(job, solved)

    for job in jobs:
        stages.finished(job, _tried(through, job))


def groups(
    jobs: Iterable[Job],
    load: Callable[[Job], Loaded],
    most: Callable[[Loaded], int],
    alike: Callable[[Loaded, Loaded], bool],
) -> Iterator[list[tuple[Job, Loaded | Exception]]]:
    """Consecutive jobs that are solved together, with what was loaded for them; one that cannot be
    loaded is alone.

    Args:
        load, most, alike: see `Stages`.
    """
    group: list[tuple[Job, Loaded | Exception]] = []
    for job in jobs:
        loaded = _tried(load, job)
        failed = isinstance(loaded, Exception)
        if group and (failed or not alike(group[0][1], loaded)):
            yield group
            group = []
        group.append((job, loaded))
        if len(group) == 1:
            size = 1 if failed else most(loaded)
        if len(group) >= size:
            yield group
            group = []

    if group:
        yield group


def solve_group(
    solve: Callable[[Sequence[Job], Sequence[Loaded]], Sequence[Solved | Exception]],
    group: Sequence[tuple[Job, Loaded | Exception]],
) -> Sequence[Solved | Exception]:
    """What came of each job of a group, or its error."""
    jobs, loaded = zip(*group, strict=True)
    if isinstance(loaded[0], Exception):
        return loaded
    found = _tried(solve, jobs, loaded)
    return [found] * len(jobs) if isinstance(found, Exception) else found


def _made_ahead(thread: ThreadPoolExecutor, items: Iterator[Loaded]) -> Iterator[Loaded]:
    """The items, each made in a thread while the one before is used."""
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


def _tried(function: Callable, *arguments: object) -> object:
    """What a function returns, or the error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
