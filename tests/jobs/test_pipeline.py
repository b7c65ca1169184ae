"""The pipeline overlaps its stages, keeps the order and survives errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from restore.jobs.pipeline import AHEAD, Stages, groups, work_in_turn, work_through

# Seconds after which a wait has failed.
LONG = 20.0


def singly(solve):
    """Return a stage for groups of one."""

    def solve_group(jobs, loaded):
        assert len(jobs) == len(loaded) == 1
        return [solve(jobs[0], loaded[0])]

    return solve_group


def run(
    jobs, load=lambda job: job, solve=lambda job, loaded: loaded, write=lambda job, solved: solved
):
    seen = []
    work_through(
        jobs, Stages(load, singly(solve), write, lambda job, done: seen.append((job, done)))
    )
    return seen


def test_every_job_goes_through_all_stages_in_order() -> None:
    found = run(range(5), lambda j: 10 * j, lambda j, x: (j, x), lambda j, x: [*x, "written"])
    assert found == [(j, [j, 10 * j, "written"]) for j in range(5)]
    assert run([]) == []


def test_the_next_is_read_and_the_last_is_written_while_the_network_works() -> None:
    """Each stage waits for a stage of another job, which is only possible by overlap."""
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
    alive = set()
    most = []
    lock = threading.Lock()

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
    seen = []
    writing = threading.Event()

    def solve(job: int, loaded: int) -> int:
        if job == 1:
            assert writing.wait(LONG)
            raise KeyboardInterrupt
        return loaded

    def write(job: int, solved: int) -> int:
        writing.set()
        time.sleep(0.05)
        return solved

    stages = Stages(
        lambda job: job, singly(solve), write, lambda job, done: seen.append((job, done))
    )
    with pytest.raises(KeyboardInterrupt):
        work_through(range(9), stages)
    assert seen == [(0, 0)]
    assert not [t for t in threading.enumerate() if t.name.startswith(("reading", "writing"))]


def test_an_error_of_the_reporter_ends_the_run() -> None:
    solved = []

    def finished(job: int, done: object) -> None:
        raise OSError("the disk is full")

    stages = Stages(lambda j: j, singly(lambda j, x: solved.append(j)), lambda j, x: x, finished)
    with pytest.raises(OSError, match="full"):
        work_through(range(50), stages)
    assert len(solved) <= AHEAD + 2


def test_in_turn_everything_happens_in_this_thread() -> None:
    threads = set()
    seen = []

    def stage(job: int, *_: object) -> int:
        threads.add(threading.current_thread())
        if job == 1:
            raise ValueError("bad")
        return job

    work_in_turn(
        range(3), Stages(stage, singly(stage), stage, lambda job, done: seen.append((job, done)))
    )
    assert threads == {threading.current_thread()}
    assert [seen[0], seen[2]] == [(0, 0), (2, 2)]
    assert isinstance(seen[1][1], ValueError)


# Groups


def grouped(jobs: list[int], stages: Stages) -> Iterator[list]:
    return groups(jobs, stages.load, stages.most, stages.alike)


def parity(**changes) -> Stages:
    """Jobs are numbers; groups are even or odd, and 13 cannot be loaded."""

    def load(job: int) -> int:
        if job == 13:
            raise ValueError("bad")
        return job

    stages = {
        "load": load,
        "solve": lambda jobs, loaded: [(x, len(jobs)) for x in loaded],
        "write": lambda job, solved: solved,
        "finished": lambda job, done: None,
        "most": lambda first: 3,
        "alike": lambda first, other: first % 2 == other % 2,
    }
    return Stages(**{**stages, **changes})


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([], []),
        ([0, 2, 4, 6], [[0, 2, 4], [6]]),
        ([0, 2, 1, 3, 4], [[0, 2], [1, 3], [4]]),
        ([1, 13, 3, 5], [[1], [13], [3, 5]]),
        ([13, 13], [[13], [13]]),
        ([1, 3, 5, 13], [[1, 3, 5], [13]]),
    ],
)
def test_consecutive_jobs_that_are_alike_make_a_group(
    jobs: list[int], expected: list[list[int]]
) -> None:
    found = list(grouped(jobs, parity()))
    assert [[job for job, _ in group] for group in found] == expected
    assert all(
        isinstance(loaded, ValueError) == (job == 13) for group in found for job, loaded in group
    )


def test_a_group_is_as_large_as_its_first_job_allows() -> None:
    found = grouped([0, 2, 4, 6, 8, 10], parity(most=lambda first: 1 if first == 0 else 4))
    assert [len(group) for group in found] == [1, 4, 1]


def test_what_is_solved_together_is_written_in_order() -> None:
    seen = []
    jobs = [0, 2, 4, 6, 13, 8, 1, 3]
    work_through(jobs, parity(finished=lambda job, done: seen.append((job, done))))
    assert [job for job, _ in seen] == jobs
    assert [done for job, done in seen if job != 13] == [
        (0, 3),
        (2, 3),
        (4, 3),
        (6, 1),
        (8, 1),
        (1, 2),
        (3, 2),
    ]


def test_the_next_group_is_loaded_while_one_is_solved_and_no_more_than_it() -> None:
    loaded = []
    enough = threading.Event()

    def load(job: int) -> int:
        loaded.append(job)
        if len(loaded) == 6:
            enough.set()
        return job

    def solve(jobs, found):
        assert enough.wait(LONG), "the second group is there while the first is solved"
        if jobs[0] == 0:
            time.sleep(0.05)
            assert len(loaded) == 6
        return found

    work_through(range(0, 24, 2), parity(load=load, solve=solve))
    assert len(loaded) == 12


def test_an_answer_of_a_group_may_be_an_error_and_an_error_of_a_group_is_that_of_all() -> None:
    seen = []

    def solve(jobs, loaded):
        if jobs[0] == 1:
            raise KeyError("all")
        return [ValueError("one") if job == 2 else job for job in jobs]

    work_through(
        [0, 2, 4, 1, 3], parity(solve=solve, finished=lambda job, done: seen.append(type(done)))
    )
    assert seen == [int, ValueError, int, KeyError, KeyError]


def test_nothing_more_is_loaded_after_an_interrupt() -> None:
    loaded = []
    second = threading.Event()

    def load(job: int) -> int:
        loaded.append(job)
        if len(loaded) > 3:
            second.set()
            time.sleep(0.05)
        return job

    def solve(jobs, found):
        assert second.wait(LONG)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_through(
            range(0, 100, 2),
            parity(load=load, solve=solve, most=lambda first: 3 if first == 0 else 40),
        )
    assert len(loaded) < 10
