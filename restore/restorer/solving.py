"""One call of a method: its start, its mode, its steps, and its answer as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from restore.diffusion import stepping
from restore.diffusion.stepping import Callback, Step
from restore.errors import BadArgument, RestoreError, of_option
from restore.methods import METHODS
from restore.methods.feed_forward import (
    NAMED,
    FeedForward,
    is_feed_forward,
    on_canvas,
    seen_size,
)
from restore.methods.run import Run
from restore.photo.pictures import open_picture
from restore.runtime.devices import is_out_of_memory
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.photo.pictures import Picture


@contextmanager
def enough_memory(picture: Tensor) -> Iterator[None]:
    """Turn an out-of-memory error of operator or solver into an error for users.

    Raises:
        RestoreError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RestoreError(
            f"not enough memory for a picture of {picture.shape[-1]}x{picture.shape[-2]} pixels; "
            "close other programs or restore it in parts; on a GPU a smaller `memory` keeps the "
            "picture in the memory of the host"
        ) from error


def mode_of(method: str) -> AbstractContextManager[Any]:
    """Return the mode in which PyTorch runs a method: without gradients if it needs none."""
    known = METHODS.get(method)
    return torch.enable_grad() if known and known.needs_gradient else torch.inference_mode()


class Counted:
    """A callback that counts the network calls before it hands them on.

    Args:
        callback: called with each `Step`, if given.
    """

    def __init__(self, callback: Callback | None) -> None:
        self._callback = callback
        self._calls = 0

    def __call__(self, step: Step) -> None:
        self._calls += 1
        if self._callback is not None:
            self._callback(step)

    def steps(self, run: Run, samples: int) -> int:
        """Return the steps of every sample: as many as were chosen, or fewer calls.

        Some methods cannot use every number of calls, and some samplers take several in a step.
        """
        chosen = run.settings.steps + (run.settings.mean_weight > 0)
        return min(chosen, self._calls // samples or chosen)


def start_of(
    problem: Problem, start: Picture | str | None, network: Callable[[str], FeedForward]
) -> Tensor | None:
    """Return `Run.start` for `Options.start`; ``network`` gives that of ``spandrel:FILE``.

    Raises:
        BadArgument: a start that is not a picture of the result's size, or not one for each
            picture.
    """
    if start is None:
        return None
    if isinstance(start, str):
        if not is_feed_forward(start):
            raise BadArgument(f"`start`={start!r}: must be a picture, or {NAMED}")
        return 2 * on_canvas(problem.operator, network(start)(problem)) - 1

    with of_option("start"):
        color = open_picture(start).color

    size = seen_size(problem.operator)
    if tuple(color.shape[-2:]) != size or len(color) not in (1, len(problem.measurement)):
        raise BadArgument(
            f"`start`: {color.shape[-1]}x{color.shape[-2]} pixels, and the result has "
            f"{size[1]}x{size[0]}; give one of that size, for each picture or for all"
        )

    return 2 * on_canvas(problem.operator, color.to(problem.measurement.device)) - 1


def answer_of(network: FeedForward, run: Run) -> Tensor:
    """Return the output of a feed-forward network in the form of a method."""
    answer = 2 * on_canvas(run.problem.operator, network(run.problem)) - 1
    stepping.report(run.callback, 0, 1, 0.0, answer)
    return answer


def finished(solution: Tensor, problem: Problem) -> Tensor:
    """Map a solution from [-1, 1] to [0, 1], and restore the pixels that must not change.

    Raises:
        RuntimeError: the result is not finite.
    """
    if not bool(torch.isfinite(solution).all()):
        raise RuntimeError(f"the {problem.task} result is not finite (NaN or infinity)")

    result = ((solution + 1) / 2).clamp(0, 1)
    if problem.keep is None or problem.original is None:
        return result

    return torch.where(
        problem.keep == 1, problem.original, torch.lerp(result, problem.original, problem.keep)
    )


def root_mean_square(values: Tensor) -> float:
    """Return the root of the mean of squares, over all pictures."""
    return float(values.detach().square().mean().sqrt())
