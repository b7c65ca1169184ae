"""Jumps back up in noise: RePaint's resampling, and the time travel of DDNM."""

from __future__ import annotations


def visits(levels: int, jump_length: int, resamplings: int) -> list[int]:
    """Levels in the order of the visits, by index; the last index is that of the final 0.

    The authors' ``get_schedule_jump``. A jump starts at every ``jump_length``-th level, counted
    from the lowest, except from where it would go beyond the highest level.

    >>> visits(5, jump_length=2, resamplings=2)
    [0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 5]

    Args:
        levels: Number of positive levels.
        jump_length: j.
        resamplings: r.
    """
    left = dict.fromkeys(range(levels - 1, jump_length - 1, -jump_length), resamplings - 1)
    position = 0
    visited = [position]

    while position < levels:
        if left.get(position, 0) > 0:
            left[position] -= 1
            position -= jump_length
        else:
            position += 1
        visited.append(position)

    return visited


def calls_of(levels: int, jump_length: int, resamplings: int) -> int:
    """Number of network calls: one for each step down.

    >>> calls_of(250, jump_length=10, resamplings=10)
    2410
    """
    jumps = len(range(levels - 1, jump_length - 1, -jump_length))
    return levels + jumps * (resamplings - 1) * jump_length


def plan_within(calls: int, jump_length: int, resamplings: int) -> tuple[int, int]:
    """Number of levels, and of resamplings, for at most so many network calls.

    There are as many levels as go with all resamplings; where not even one jump is within the
    calls, there are no jumps.

    >>> plan_within(20, jump_length=1, resamplings=2), calls_of(10, 1, 2)
    ((10, 2), 19)
    >>> plan_within(20, jump_length=10, resamplings=10)
    (20, 1)

    Args:
        calls: Most network calls.
        jump_length: j.
        resamplings: r.
    """
    fitting = range(jump_length + 1, calls + 1)
    levels = [n for n in fitting if calls_of(n, jump_length, resamplings) <= calls]
    return (levels[-1], resamplings) if levels else (calls, 1)
