"""The Python interface: a loaded model with one method for each task."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from restore.diffusion.stepping import Callback, Generator
from restore.methods import METHODS, fidelity
from restore.methods.cascade import solve_in_stages
from restore.methods.defaults import Defaults
from restore.methods.doubt import unexplained_by
from restore.methods.feed_forward import FeedForward, is_feed_forward
from restore.methods.options import Knowledge, Options
from restore.methods.report import Report, Result, Samples
from restore.methods.run import Run
from restore.methods.settings import check_suited, settings_for, takes_intervals
from restore.metrics.quality import consistency
from restore.precision import single_precision
from restore.restorer.binding import check_kind, seeing, told
from restore.restorer.checks import check, check_model, knowledge_of
from restore.restorer.examining import examine
from restore.restorer.functions import function_of, method_of
from restore.restorer.model import (
    check_prior,
    is_latent,
    load_classifier,
    load_denoiser,
    load_latent,
    model_digest,
    of_model,
)
from restore.restorer.results import joined, packed, report_of, with_findings
from restore.restorer.solving import (
    Counted,
    answer_of,
    enough_memory,
    finished,
    mode_of,
    root_mean_square,
    start_of,
)
from restore.restorer.together import in_parts, of_one, places_of_equal
from restore.runtime.budget import Budget, check_sizes
from restore.runtime.devices import (
    HOST,
    choose_device,
    hand_back_freed_memory,
    network_dtype,
    synchronize,
)
from restore.runtime.tiles import Notice, TiledDenoiser
from restore.tasks import TASKS, SuperResolution, Task
from restore.tasks.compression import GONE, fraction_inside, misses_file, stated
from restore.tasks.kind import Kind, behind_jpeg
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.photo.pictures import Picture
    from restore.restorer.binding import LoadedDenoiser

__all__ = [
    "Report",
    "Restorer",
    "Result",
    "Run",
    "Samples",
    "check",
    "check_model",
    "check_prior",
    "examine",
    "is_latent",
    "load_classifier",
    "load_denoiser",
    "model_digest",
    "of_model",
    "restorer",
]


class Restorer:
    """A model on a device, ready to restore pictures.

    >>> restorer = Restorer()  # doctest: +SKIP
    >>> large = restorer.sr(image, scale=4)  # doctest: +SKIP
    >>> four = restorer.inpaint(image, mask, samples=4, seed=7).samples  # doctest: +SKIP

    It has a method for each task of `restore.tasks.TASKS`: `sr`, `inpaint`, `deblur`, `denoise`,
    `colorize`, `develop` and `solve`. They take a PIL image, a numpy array (uint8, uint16 or float
    in [0, 1]) or a tensor (see `restore.photo.pictures.open_picture`), then the task's options, and
    return the same type and depth, with alpha; `develop` takes the path of a camera raw and returns
    a float32 array [H, W, 3]. They accept the fields of
    `restore.methods.options.Options` as keywords, and ``callback``, called with a
    `restore.diffusion.stepping.Step` after each call of the network. With ``samples`` above 1 they
    return `Samples`.

    Args:
        model: ``default``, another name or the path of a checkpoint, see
            `pretrained.checkpoint_path`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        tile: side of a tile of a large picture, in pixels; None is what the memory allows.
        memory: memory to use on the device, such as ``4GB``; None is most of what is free.
        notice: called with warnings, such as that of smaller tiles after memory ran out.

    Raises:
        BadArgument: a tile or memory that is too small, or an unknown device.
        Unavailable: no such model or device.
    """

    @single_precision()
    def __init__(
        self,
        model: str = "default",
        device: str = "auto",
        *,
        tile: int | None = None,
        memory: str | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        check_sizes(tile, memory)
        self.device = choose_device(device)
        self.dtype = network_dtype(self.device)
        self.model = model
        self.denoiser: LoadedDenoiser
        if is_latent(model):
            before = Budget.on(self.device, 1.0, memory).memory
            latent = load_latent(
                model, self.device, self.dtype, tile=tile, memory=before, notice=notice
            )
            self.budget = Budget.on(self.device, latent.bytes_per_pixel, memory)
            self.denoiser = latent
        else:
            denoise = load_denoiser(model, self.device, self.dtype)
            self.budget = Budget.of(denoise, memory)
            self.denoiser = TiledDenoiser(denoise, tile, budget=self.budget, notice=notice)
        self._tile = tile
        self._notice = notice
        self._networks: dict[str, FeedForward] = {}
        self._of_class: dict[int, LoadedDenoiser] = {}
        self._asked: tuple[Kind, Knowledge, Options] | None = None
        self._found: tuple[str, Defaults] | None = None

    def of_class(self, label: int | None) -> LoadedDenoiser:
        """Return the denoiser of a class, cached for later pictures; None is for models without.

        Raises:
            BadArgument: there is no such class, or the model has classes and none is given.
        """
        if label is None:
            return self.denoiser.of_class(None)
        if label not in self._of_class:
            self._of_class[label] = self.denoiser.of_class(label)
        return self._of_class[label]

    def run(
        self,
        task: Task,
        image: Picture,
        *,
        callback: Callback | None = None,
        **options: Any,
    ) -> Result:
        """Restore a picture and report how; the methods named after tasks call this.

        >>> from restore.tasks import SuperResolution
        >>> result = restorer.run(SuperResolution(2), image, seed=3)  # doctest: +SKIP
        >>> result.report.consistency  # doctest: +SKIP

        Args:
            task: the task with its options.
            image: a picture, see `restore.photo.pictures.open_picture`.
            callback: called with a `Step` after each call of the network.
            options: fields of `restore.methods.options.Options`.

        Raises:
            BadArgument: an invalid option.
            TypeError: there is no such option.
        """
        for name in options.keys() - {field.name for field in fields(Options)}:
            raise TypeError(f"{task.name}() got an unexpected keyword argument '{name}'")

        return self.restore(task, image, check(task, Options(**options)), callback)

    @single_precision()
    def restore(
        self, task: Task, image: Picture, options: Options, callback: Callback | None = None
    ) -> Result:
        """Restore a picture with options that `check` accepted.

        Raises:
            BadArgument: options that do not fit the picture or the model.
        """
        opened = task.opened(image)
        task = replace(task, rounding=(opened.rounding,))
        usable = self._takes_file(task, options)
        if usable and misses_file(task, opened):
            self._notice(GONE)
        task = task.of_file(opened.stored, usable)

        with enough_memory(opened.color):
            color, task = task.of_visible(opened)
            cascade = task.cascade_stages
            if cascade is not None:
                assert isinstance(task, SuperResolution)
                problem, solutions, report = solve_in_stages(
                    self, task, color, cascade, options, callback
                )
            elif task.one_by_one:
                problems = [self.problem(one, color) for one, color in task.apart(color)]
                problem = problems[0]
                solutions, report = self._solve_apart(problems, options, callback)
                solutions = task.together(solutions)
            else:
                problem = self.problem(task, color)
                solutions, report = self.solve_problem(problem, options, callback)

        result = packed(opened, problem, solutions, report)
        return with_findings(result, problems) if task.one_by_one else result

    def _takes_file(self, task: Task, options: Options) -> bool:
        """Return True if the intervals of a JPEG file can be part of the problem of a picture."""
        no_knob = options.fidelity is not None and behind_jpeg(task.kind).etas is None
        if task.cascade_stages is not None or no_knob:
            return False
        asked = getattr(task, "jpeg", None) is not None or not task.kind.is_linear
        return asked or takes_intervals(options, knowledge_of(self.denoiser))

    @single_precision()
    def restore_together(
        self,
        task: Task,
        images: Sequence[Picture],
        options: Options,
        callback: Callback | None = None,
    ) -> list[Result]:
        """Restore pictures of equal size in one batch, each as `restore` restores it alone.

        Each picture has its own random numbers from the same seed, its own noise level and its own
        report, with its part of the seconds. Results equal those of `restore` up to rounding in
        convolutions and matrix products, which may depend on the batch size. Pictures that need
        other noise levels go in batches of their own. If memory runs out, the error is that of
        PyTorch, so that a caller can try fewer pictures.

        Args:
            task: one task for all, without a cascade; one that estimates kernels, finds masks or
                takes raws goes through the pictures one by one.
            images: pictures of one type and size, without alpha.
            options: as for `restore`.
            callback: as for `restore`.

        Raises:
            BadArgument: as `restore`, for any of the pictures.
            ValueError: a picture with alpha, pictures that differ in size, or a cascade.
        """
        alone = task.one_by_one or task.takes_raws
        opened = [] if alone else [task.opened(image) for image in images]
        if alone or any(one.stored is not None for one in opened):
            return [self.restore(task, image, options, callback) for image in images]

        one_size = (1, *opened[0].color.shape[1:])
        if any(one.alpha is not None or one.color.shape != one_size for one in opened):
            raise ValueError("pictures that are restored together have one size and no alpha")
        if task.cascade_stages is not None:
            raise ValueError("pictures go through a cascade one by one")

        task = replace(task, rounding=[one.rounding for one in opened])
        problem = self.problem(task, torch.cat([one.color for one in opened]))
        method, run = self._run(problem, options, [_generator(options) for _ in opened], callback)
        if len(parts := places_of_equal(run.trajectories)) > 1:
            del problem, run
            return in_parts(
                lambda part: self.restore_together(task, part, options, callback), images, parts
            )

        if self._takes_file(task, options) and any(misses_file(task, one) for one in opened):
            self._notice(GONE)
        solutions, explained, report = self._solved(method, run, options)
        reports = [of_one(report, problem, explained, index) for index in range(len(opened))]

        return [
            packed(one, problem, solutions[:, [index]], reports[index])
            for index, one in enumerate(opened)
        ]

    def pictures_at_once(self, task: Task, size: tuple[int, int], wanted: int | None = None) -> int:
        """Return the best batch size for pictures of a size (height, width).

        See `restore.runtime.budget.Budget.pictures`.

        Raises:
            BadArgument: an operator that cannot be parsed or does not fit the measurement.
        """
        if task.one_by_one or task.takes_raws:
            return 1
        height, width = task.result_size(size)
        return self.budget.pictures(height * width, wanted)

    @single_precision()
    def network(self, method: str) -> FeedForward:
        """Return the feed-forward network of ``spandrel:FILE``, loaded once.

        Raises:
            Unavailable: see `FeedForward`.
        """
        if method not in self._networks:
            self._networks[method] = FeedForward(
                method, self.device, tile=self._tile, memory=self.budget.memory, notice=self._notice
            )
        return self._networks[method]

    def prepare(self, task: Task, options: Options) -> None:
        """Load the networks that options name, and check the options against the model.

        A run calls this first, to fail before any work.

        Raises:
            BadArgument: a class, sampler, noise level, method or task that does not suit the model.
            Unavailable: a network that cannot be loaded.
        """
        for network in options.networks:
            self.network(network)

        denoiser = told(self.of_class(options.label), options)
        check_model(denoiser, options)
        if not task.takes_measurements:  # else each picture's operator decides the kind
            check_kind(denoiser, task.kind)
            self._settings(task.kind, options, knowledge_of(denoiser))

    def _settings(self, kind: Kind, options: Options, known: Knowledge) -> tuple[str, Defaults]:
        """Return what `settings_for` does, found once for the pictures of a run."""
        asked = self._asked
        same = asked is not None and asked[:2] == (kind, known) and asked[2] is options
        if not same or self._found is None:
            self._found = settings_for(kind, options, known)
            self._asked = kind, known, options

        return self._found

    @single_precision()
    def problem(self, task: Task, color: Tensor) -> Problem:
        """State the inverse problem of a task on pictures [B, 3, H, W] in [0, 1].

        It is on the device, or on the host if it is too large, see `restore.runtime.budget`.
        """
        height, width = task.result_size((color.shape[-2], color.shape[-1]))
        pixels = len(color) * height * width
        place = self.budget.place(pixels, self.device)
        if place == HOST == self.device and self.budget.is_filled(pixels):
            hand_back_freed_memory()

        return stated(task, color, device=place)

    @single_precision()
    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Return samples [K, B, 3, H, W] in [0, 1] on the CPU, and a report."""
        if problem.is_answered:
            return self._as_it_was(problem, options)

        method, run = self._run(problem, options, _generator(options), callback)
        solutions, _explained, report = self._solved(method, run, options)
        return solutions, report

    def _as_it_was(self, problem: Problem, options: Options) -> tuple[Tensor, Report]:
        """Return pictures that need no solver, in the form of `solve_problem`."""
        original = problem.original
        assert original is not None
        solutions = original.cpu().expand(options.samples, *original.shape).clone()
        report = report_of(
            problem,
            options,
            method="none",
            steps=0,
            consistency=0.0,
            unexplained=0.0,
            seconds=0.0,
            **self._whereabouts(None),
        )
        return solutions, report

    def _solve_apart(
        self, problems: Sequence[Problem], options: Options, callback: Callback | None
    ) -> tuple[Tensor, Report]:
        """Solve problems of one picture each; return what `solve_problem` does for all together."""
        solved = [self.solve_problem(problem, options, callback) for problem in problems]
        solutions = torch.cat([solution for solution, _ in solved], dim=1)
        return solutions, joined(problems, [report for _, report in solved])

    def _run(
        self, problem: Problem, options: Options, generator: Generator, callback: Callback | None
    ) -> tuple[str, Run]:
        """Return the name of the method, and its input without a start."""
        denoiser = seeing(told(self.of_class(options.label), options), problem)
        check_model(denoiser, options)
        known = knowledge_of(denoiser, problem)
        method, settings = self._settings(problem.kind, options, known)
        check_suited(method, problem, known)

        return method, Run(denoiser, problem, settings, generator, callback)

    def _solved(self, method: str, run: Run, options: Options) -> tuple[Tensor, Tensor, Report]:
        """Run a method on a problem.

        Returns:
            Samples as from `solve_problem`, [B, 2] consistency and what is unexplained of each
            picture, and a report.
        """
        started = time.perf_counter()
        counted = Counted(run.callback)
        with mode_of(method):
            start = start_of(run.problem, options.start, self.network)
            run = replace(run, start=start, callback=counted)
            solutions, explained, unexplained, inside = self._answers(method, run, options.samples)
            synchronize(self.device)

        foreign = self._networks.get(method)
        report = report_of(
            run.problem,
            options,
            method=method if foreign is None else foreign.name,
            steps=counted.steps(run, options.samples),
            consistency=root_mean_square(explained),
            unexplained=root_mean_square(unexplained),
            seconds=time.perf_counter() - started,
            jpeg=run.problem.saved or None,
            inside=inside,
            **self._whereabouts(foreign),
        )

        # no longer tied to the mode
        misfits = torch.stack([explained, unexplained], dim=1)
        return solutions.detach().cpu().clone(), misfits.detach(), report

    def _answers(
        self, method: str, run: Run, samples: int
    ) -> tuple[Tensor, Tensor, Tensor, float | None]:
        """Draw samples of a method.

        Returns:
            What is seen of the samples, [K, B, 3, H, W]; consistency of each picture's mean [B],
            and what is unexplained of it [B]; and what `fraction_inside` says of it.
        """
        problem = run.problem
        if is_feed_forward(method):
            solve = partial(answer_of, self.network(method))
        else:
            solve = partial(fidelity.solve, METHODS[method])

        found = [solve(run) for _ in range(samples)]
        solutions = torch.stack([finished(one, problem) for one in found])
        explained = consistency(problem.operator, solutions.mean(dim=0), problem.measurement)
        unexplained = explained
        if not is_feed_forward(method):
            unexplained = unexplained_by(problem, found, solutions, explained)
        del found

        inside = fraction_inside(problem, solutions.mean(dim=0))
        return problem.operator.visible(solutions), explained, unexplained, inside

    def _whereabouts(self, foreign: FeedForward | None) -> dict[str, str]:
        """Return what a report says of the network, a third-party one if given."""
        return {
            "model": self.model if foreign is None else foreign.architecture,
            "device": str(self.device),
            "dtype": str(self.dtype if foreign is None else torch.float32).removeprefix("torch."),
        }


@cache
def restorer(model: str = "default", device: str = "auto") -> Restorer:
    """Return a `Restorer`, loaded once for each model and device."""
    return Restorer(model, device)


for _task in TASKS.values():
    setattr(Restorer, _task.name, method_of(_task))

globals().update({name: function_of(task, restorer) for name, task in TASKS.items()})


def _generator(options: Options) -> torch.Generator:
    return torch.Generator().manual_seed(options.seed)
