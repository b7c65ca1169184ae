"""Many pictures through one network: the next is read and the last is written while the network works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job, Loaded, Solved, Done = (TypeVar(name) for name in ("Job", "Loaded", "Solved", "Done"))

AHEAD = 1
"""Pictures that are read before their turn; as many may wait to be written."""


def work_through(
    jobs: Iterable[Job],
    load: Callable[[Job], Loaded],
    solve: Callable[[Job, Loaded], Solved],
    write: Callable[[Job, Solved], Done],
    finished: Callable[[Job, Done | Exception], None],
) -> None:
    """Take every job through its three stages.

    Args:
        load: called in a thread of its own, for one job after the other.
        solve: called in this thread.
        write: called in another thread.
        finished: called in that thread, in the order of the jobs, with what ``write`` returned or with the error that
            a stage raised; an error of its own ends the work.

    Raises:
        KeyboardInterrupt: when what was being written is written and reported.
    """
    reading, writing = (ThreadPoolExecutor(1, name) for name in ("reading", "writing"))
    under_way: deque[Future[None]] = deque()

    def finish(job: Job, solved: Solved | Exception) -> None:
        finished(job, solved if isinstance(solved, Exception) else _tried(write, job, solved))

    try:
        for job, loaded in _read_ahead(reading, jobs, load):
            solved = loaded if isinstance(loaded, Exception) else _tried(solve, job, loaded)
            under_way.append(writing.submit(finish, job, solved))
            while len(under_way) > AHEAD:
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()
    finally:
        reading.shutdown(cancel_futures=True)
        writing.shutdown()


def work_in_turn(
    jobs: Iterable[Job],
    load: Callable[[Job], Loaded],
    solve: Callable[[Job, Loaded], Solved],
    write: Callable[[Job, Solved], Done],
    finished: Callable[[Job, Done | Exception], None],
) -> None:
    """The same in this thread alone, one after the other: memory that one stage frees is there for the next."""

    def through(job: Job) -> Done:
        return write(job, solve(job, load(job)))

    for job in jobs:
        finished(job, _tried(through, job))


def _read_ahead(
    reading: ThreadPoolExecutor, jobs: Iterable[Job], load: Callable[[Job], Loaded]
) -> Iterator[tuple[Job, Loaded | Exception]]:
    waiting: deque[tuple[Job, Future[Loaded | Exception]]] = deque()
    for job in jobs:
        waiting.append((job, reading.submit(_tried, load, job)))
        if len(waiting) > AHEAD:
            first, loaded = waiting.popleft()
            yield first, loaded.result()
    for last, loaded in waiting:
        yield last, loaded.result()


def _tried(function: Callable, *arguments: object) -> object:
    """What a function returns, or the error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
