"""Reading, the network and writing at the same time, in order, whatever fails."""

from __future__ import annotations

import threading
import time

import pytest

from restore.pipeline import AHEAD, work_in_turn, work_through

LONG = 20.0
"""Seconds after which a wait that should end has failed."""


def run(jobs, load=lambda job: job, solve=lambda job, loaded: loaded, write=lambda job, solved: solved):
    seen = []
    work_through(jobs, load, solve, write, lambda job, done: seen.append((job, done)))
    return seen


def test_every_job_goes_through_all_stages_in_order() -> None:
    found = run(range(5), lambda j: 10 * j, lambda j, x: (j, x), lambda j, x: [*x, "written"])
    assert found == [(j, [j, 10 * j, "written"]) for j in range(5)]
    assert run([]) == []


def test_the_next_is_read_and_the_last_is_written_while_the_network_works() -> None:
    """Each stage of one job waits for another job's stage that only overlap can bring."""
    read, solving, written = (threading.Event() for _ in range(3))

    def load(job: int) -> int:
        if job == 1:
            read.set()
        return job

    def solve(job: int, loaded: int) -> int:
        if job == 0:
            assert read.wait(LONG), "job 1 is read while job 0 is solved"
        else:
            solving.set()
            assert written.wait(LONG), "job 0 is written while job 1 is solved"
        return loaded

    def write(job: int, solved: int) -> int:
        if job == 0:
            assert solving.wait(LONG)
            written.set()
        return solved

    assert run([0, 1], load, solve, write) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("stage", ["load", "solve", "write"])
def test_one_bad_job_does_not_end_the_run(stage: str) -> None:
    def failing(job: int, *_: object) -> int:
        if job == 1:
            raise ValueError("bad")
        return job

    found = run(range(3), **{stage: failing})
    assert found[0] == (0, 0)
    assert found[2] == (2, 2)
    assert isinstance(found[1][1], ValueError)


def test_few_jobs_are_in_memory_at_once() -> None:
    alive, most, lock = set(), [], threading.Lock()

    def load(job: int) -> int:
        with lock:
            alive.add(job)
            most.append(len(alive))
        return job

    def write(job: int, solved: int) -> int:
        time.sleep(0.01)
        with lock:
            alive.remove(job)
        return solved

    run(range(30), load, write=write)
    assert max(most) <= 2 * AHEAD + 2


def test_jobs_are_taken_one_by_one() -> None:
    taken = []

    def jobs():
        for job in range(10):
            taken.append(job)
            yield job

    def solve(job: int, loaded: int) -> int:
        assert len(taken) <= job + 2 + AHEAD
        return loaded

    assert [done for _, done in run(jobs(), solve=solve)] == list(range(10))


def test_an_interrupt_lets_what_is_being_written_end() -> None:
    seen, writing = [], threading.Event()

    def solve(job: int, loaded: int) -> int:
        if job == 1:
            assert writing.wait(LONG)
            raise KeyboardInterrupt
        return loaded

    def write(job: int, solved: int) -> int:
        writing.set()
        time.sleep(0.05)
        return solved

    with pytest.raises(KeyboardInterrupt):
        work_through(range(9), lambda job: job, solve, write, lambda job, done: seen.append((job, done)))
    assert seen == [(0, 0)]
    assert not [t for t in threading.enumerate() if t.name.startswith(("reading", "writing"))]


def test_an_error_of_the_reporter_ends_the_run() -> None:
    solved = []

    def finished(job: int, done: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        work_through(range(50), lambda j: j, lambda j, x: solved.append(j), lambda j, x: x, finished)
    assert len(solved) <= AHEAD + 2


def test_in_turn_everything_happens_in_this_thread() -> None:
    threads, seen = set(), []

    def stage(job: int, *_: object) -> int:
        threads.add(threading.current_thread())
        if job == 1:
            raise ValueError("bad")
        return job

    work_in_turn(range(3), stage, stage, stage, lambda job, done: seen.append((job, done)))
    assert threads == {threading.current_thread()}
    assert [seen[0], seen[2]] == [(0, 0), (2, 2)]
    assert isinstance(seen[1][1], ValueError)
